package serve

import (
	"bytes"
	gzipstd "compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"unirestorer"
	"unirestorer/runtime/serve/oip"
)

// tritonRequest is a body as tritonclient.http makes it (release 2.5x): JSON with blanks behind commas and colons, the bytes of all
// inputs behind it, every output in bytes where none is asked for.
func tritonRequest(name, datatype, shape string, raw []byte, outputs string) (body []byte, header string) {
	tail := `"parameters": {"binary_data_output": true}`
	if outputs != "" {
		tail = `"outputs": [` + outputs + `]`
	}
	head := fmt.Sprintf(`{"id": "1", "inputs": [{"name": %q, "shape": %s, "datatype": %q, "parameters": {"binary_data_size": %d}}], %s}`,
		name, shape, datatype, len(raw), tail)
	return append([]byte(head), raw...), strconv.Itoa(len(head))
}

// tritonResult reads an answer as tritonclient.http does: JSON of the length in the header, then the outputs' bytes one
// after the other.
func tritonResult(t *testing.T, res *http.Response, body []byte) (answer restResponse, raws map[string][]byte) {
	n := len(body)
	if h := res.Header.Get("Inference-Header-Content-Length"); h != "" {
		var err error
		n, err = strconv.Atoi(h)
		require.NoError(t, err)
	}
	require.NoError(t, json.Unmarshal(body[:n], &answer), string(body[:n]))
	rest := body[n:]
	raws = map[string][]byte{}
	for _, o := range answer.Outputs {
		if size, ok := o.Parameters["binary_data_size"]; ok {
			k := int(size.(float64))
			raws[o.Name], rest = rest[:k], rest[k:]
		}
	}
	require.Empty(t, rest)
	return answer, raws
}

func TestTritonsClientOverREST(t *testing.T) {
	r := model(t)
	_, url := start(t, r, Config{})
	url += "/v2/models/unirestorer/infer"
	in, want, result := samples(t, r, 16, 12)
	body, header := tritonRequest("image", "UINT8", "[12, 16, 3]", in, "")
	check := func(t *testing.T, res *http.Response, got []byte) {
		require.Equal(t, 200, res.StatusCode, string(got))
		answer, raws := tritonResult(t, res, got)
		require.Equal(t, "1", answer.ID)
		require.Equal(t, want, raws["image"])
		n := binary.LittleEndian.Uint32(raws["route"])
		require.Len(t, raws["route"], int(n)+4)
		require.Contains(t, string(raws["route"][4:]), result.Route.Expert.Name)
	}
	t.Run("every output in bytes", func(t *testing.T) {
		res, got := send(t, url, body, binaryHeader, header)
		check(t, res, got)
	})
	t.Run("a version", func(t *testing.T) {
		res, got := send(t, url[:len(url)-len("/infer")]+"/versions/1/infer", body, binaryHeader, header)
		check(t, res, got)
	})
	t.Run("compressed", func(t *testing.T) {
		for encoding, compress := range map[string]func(io.Writer) io.WriteCloser{
			"gzip":    func(w io.Writer) io.WriteCloser { return gzipWriter(w) },
			"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		} {
			var b bytes.Buffer
			w := compress(&b)
			_, err := w.Write(body)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			res, got := send(t, url, b.Bytes(), binaryHeader, header, "Content-Encoding", encoding, "Accept-Encoding", "gzip")
			check(t, res, got)
		}
	})
	t.Run("files in bytes", func(t *testing.T) {
		file := picture(t, 20, 10)
		item := append(binary.LittleEndian.AppendUint32(nil, uint32(len(file))), file...)
		body, header := tritonRequest("file", "BYTES", "[2]", append(bytes.Clone(item), item...), `{"name": "file", "parameters": {"binary_data": true}}`)
		res, got := send(t, url, body, binaryHeader, header)
		require.Equal(t, 200, res.StatusCode, string(got))
		answer, raws := tritonResult(t, res, got)
		require.Len(t, answer.Outputs, 1)
		restored := tensor{tensorInfo: tensorInfo{Name: "file", Datatype: "BYTES"}}
		require.NoError(t, restored.setRaw(raws["file"]))
		require.Len(t, restored.items, 2)
		_, err := unirestorer.Decode(bytes.NewReader(restored.items[1]))
		require.NoError(t, err)
	})
	t.Run("priority and timeout", func(t *testing.T) {
		list := tensor{samples: in, tensorInfo: tensorInfo{Name: "image"}}
		ask := func(parameters string) (*http.Response, []byte) {
			return send(t, url, fmt.Appendf(nil, `{"parameters": {%s}, "inputs": [{"name": "image", "shape": [12, 16, 3], "datatype": "UINT8", "data": %s}]}`, parameters, list.json()))
		}
		res, got := ask(`"priority": 1, "timeout": 60000000`)
		require.Equal(t, 200, res.StatusCode, string(got))
		res, _ = ask(`"timeout": 1`)
		require.Contains(t, []int{503, 504}, res.StatusCode)
		res, _ = ask(`"sequence_id": 7, "sequence_start": true, "sequence_end": true`)
		require.Equal(t, 400, res.StatusCode)
		res, _ = ask(`"priority": -1`)
		require.Equal(t, 400, res.StatusCode)
	})
}

func gzipWriter(w io.Writer) io.WriteCloser { return gzipstd.NewWriter(w) }

// dial calls a server over gRPC until the end of the test.
func dial(t *testing.T, r Restorer, c Config) (*Server, *grpc.ClientConn) {
	s, l := startGRPC(t, r, c)
	conn, err := grpc.NewClient(l, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return s, conn
}

func TestToolsFindTheServiceByReflection(t *testing.T) {
	_, conn := dial(t, model(t), Config{})
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	ask := func(q *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		require.NoError(t, stream.Send(q))
		a, err := stream.Recv()
		require.NoError(t, err)
		return a
	}
	var names []string
	for _, s := range ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().Service {
		names = append(names, s.Name)
	}
	require.Contains(t, names, "inference.GRPCInferenceService")
	require.Contains(t, names, "grpc.health.v1.Health")
	files := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "inference.GRPCInferenceService"}}).GetFileDescriptorResponse().FileDescriptorProto
	var file descriptorpb.FileDescriptorProto
	require.NoError(t, proto.Unmarshal(files[0], &file))
	for _, m := range file.Service[0].Method {
		require.False(t, m.GetClientStreaming() || m.GetServerStreaming(), m.GetName())
	}
}

func TestCompressedCallsAndWatchersOverGRPC(t *testing.T) {
	r := model(t)
	s, conn := dial(t, r, Config{})
	in, want, _ := samples(t, r, 16, 12)
	c := oip.NewGRPCInferenceServiceClient(conn)
	q := &oip.ModelInferRequest{ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{
		{Name: "image", Datatype: "UINT8", Shape: []int64{12, 16, 3}}}, RawInputContents: [][]byte{in},
		Parameters: map[string]*oip.InferParameter{"priority": {ParameterChoice: &oip.InferParameter_Uint64Param{Uint64Param: 1}}}}
	res, err := c.ModelInfer(t.Context(), q, grpc.UseCompressor(gzip.Name))
	require.NoError(t, err)
	require.Equal(t, want, res.RawOutputContents[0])
	q.Parameters["timeout"] = &oip.InferParameter{ParameterChoice: &oip.InferParameter_Int64Param{Int64Param: 1}}
	_, err = c.ModelInfer(t.Context(), q)
	require.Contains(t, []codes.Code{codes.DeadlineExceeded, codes.Unavailable}, status.Code(err))

	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	h, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, h.Status)
	s.Drain()
	h, err = watch.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, h.Status)
	began := time.Now()
	require.NoError(t, s.Shutdown(t.Context()))
	require.Less(t, time.Since(began), 10*time.Second, "who watches does not keep the server from ending")
}
