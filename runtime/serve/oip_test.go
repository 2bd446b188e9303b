package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"unirestorer"
	"unirestorer/runtime/serve/oip"
)

// samples are an RGB picture, and what restoring it gives.
func samples(t testing.TB, r *unirestorer.Restorer, w, h int, opts ...unirestorer.CallOption) (in, out []byte, res *unirestorer.Result) {
	img := &unirestorer.Picture{W: w, H: h, Channels: 3, Depth: 8}
	for i := range w * h * 3 {
		img.Pix = append(img.Pix, byte(i*i/7))
	}
	res, err := r.Restore(t.Context(), img, opts...)
	require.NoError(t, err)
	return img.Pix, res.Image.(*unirestorer.Picture).Pix, res
}

func TestProtocolOverREST(t *testing.T) {
	r := model(t)
	s, url := start(t, r, Config{})
	in, want, result := samples(t, r, 16, 12)
	get := func(path string) (int, map[string]any) {
		res, text := sendTo(t, http.DefaultClient, "GET", url+path, nil)
		var v map[string]any
		require.NoError(t, json.Unmarshal(text, &v))
		return res.StatusCode, v
	}
	code, v := get("/v2")
	require.Equal(t, 200, code)
	require.Equal(t, []any{"binary_tensor_data"}, v["extensions"])
	for _, path := range []string{"/v2/health/live", "/v2/health/ready", "/v2/models/unirestorer/ready", "/v2/models/unirestorer/versions/1/ready"} {
		code, _ = get(path)
		require.Equal(t, 200, code)
	}
	code, v = get("/v2/models/" + r.Experts()[3].Name)
	require.Equal(t, 200, code)
	require.Equal(t, r.Experts()[3].Name, v["name"])
	code, v = get("/v2/models/nobody")
	require.Equal(t, 404, code)
	require.Contains(t, v["error"], "nobody")

	t.Run("bytes behind the JSON, as Triton's client sends them", func(t *testing.T) {
		head := fmt.Sprintf(`{"id":"7","inputs":[{"name":"image","shape":[1,12,16,3],"datatype":"UINT8","parameters":{"binary_data_size":%d}}],"outputs":[{"name":"image","parameters":{"binary_data":true}},{"name":"route"}]}`, len(in))
		res, body := send(t, url+"/v2/models/unirestorer/infer", append([]byte(head), in...), binaryHeader, strconv.Itoa(len(head)))
		require.Equal(t, 200, res.StatusCode, string(body))
		n, err := strconv.Atoi(res.Header.Get(binaryHeader))
		require.NoError(t, err)
		var answer restResponse
		require.NoError(t, json.Unmarshal(body[:n], &answer))
		require.Equal(t, "7", answer.ID)
		require.Equal(t, want, body[n:])
		require.Contains(t, string(answer.Outputs[1].Data), result.Route.Expert.Name)
	})
	t.Run("numbers in JSON", func(t *testing.T) {
		list := tensor{samples: in, tensorInfo: tensorInfo{Name: "image"}}
		text := fmt.Sprintf(`{"inputs":[{"name":"image","shape":[12,16,3],"datatype":"UINT8","data":[%s]}]}`, list.json())
		res, body := send(t, url+"/v2/models/unirestorer/infer", []byte(text))
		require.Equal(t, 200, res.StatusCode, string(body))
		var answer restResponse
		require.NoError(t, json.Unmarshal(body, &answer))
		got := tensor{tensorInfo: answer.Outputs[0].tensorInfo}
		require.NoError(t, got.setJSON(answer.Outputs[0].Data))
		require.Equal(t, want, got.samples)
	})
	t.Run("what makes no sense", func(t *testing.T) {
		for text, says := range map[string]string{
			`{`:             "read the request",
			`{"inputs":[]}`: "0 inputs",
			`{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[1]}]}`:                                                                                `no input "x"`,
			`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"FP32","data":[1,2,3]}]}`:                                                                     "want UINT8",
			`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","data":[1,2]}]}`:                                                                      "2 values",
			`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","data":[1,2,300]}]}`:                                                                  "no UINT8",
			`{"inputs":[{"name":"image","shape":[-1,1,3],"datatype":"UINT8","data":[1,2,3]}]}`:                                                                   "no sense",
			`{"inputs":[{"name":"image","shape":[1,1,2],"datatype":"UINT8","data":[1,2]}]}`:                                                                      "channels",
			`{"inputs":[{"name":"file","shape":[1],"datatype":"BYTES","data":["!"]}]}`:                                                                           "base64",
			`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","parameters":{"binary_data_size":99}}]}`:                                              "left",
			`{"parameters":{"level":"no"},"inputs":[{"name":"file","shape":[1],"datatype":"BYTES","data":["aGVq"]}]}`:                                            "level",
			`{"outputs":[{"name":"y"}],"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[[[1]]]}]}`:                                           `output "y"`,
			`{"outputs":[{"name":"route"},{"name":"route"}],"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[1]}]}`:                          "more than once",
			`{"outputs":[{"name":"image","parameters":{"shared_memory_region":"r"}}],"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[1]}]}`: "not served",
			`{"outputs":[{"name":"route","parameters":{"classification":3}}],"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[1]}]}`:         "not served",
			`{"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","parameters":{"shared_memory_region":"r"}}]}`:                                         "not served",
			`{"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[1],"parameters":{"binary_data_size":0}}]}`:                                    "want one",
			`{"inputs":[{"name":"image","shape":"x"}]}`:                                                                                                          "inputs.shape: a JSON string",
			`[]`: "a JSON array, want an object",
		} {
			res, body := send(t, url+"/v2/models/unirestorer/infer", []byte(text))
			require.Equal(t, 400, res.StatusCode, "%s: %s", text, body)
			var v struct{ Error string }
			require.NoError(t, json.Unmarshal(body, &v))
			require.Contains(t, v.Error, says)
		}
		model := r.Experts()[3].Name
		res, body := send(t, url+"/v2/models/"+model+"/infer", []byte(`{"parameters":{"expert":"coarse"},"inputs":[{"name":"image","shape":[1,1,1],"datatype":"UINT8","data":[1]}]}`))
		require.Equal(t, 400, res.StatusCode, string(body))
		require.Contains(t, string(body), "is another")
	})
	require.True(t, s.bodies.TryAcquire(s.c.Bodies), "all bodies and answers are given back")
	s.bodies.Release(s.c.Bodies)
}

func TestProtocolOverGRPC(t *testing.T) {
	r := model(t)
	file := filepath.Join(t.TempDir(), "tokens")
	s, err := New(shared{r}, Config{Tokens: write(t, file, "me secret\n")})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.ServeGRPC(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	c := oip.NewGRPCInferenceServiceClient(conn)

	live, err := c.ServerLive(t.Context(), &oip.ServerLiveRequest{})
	require.NoError(t, err)
	require.True(t, live.Live)
	_, err = c.ModelMetadata(t.Context(), &oip.ModelMetadataRequest{Name: "unirestorer"})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer secret")
	meta, err := c.ModelMetadata(ctx, &oip.ModelMetadataRequest{Name: "unirestorer"})
	require.NoError(t, err)
	require.Len(t, meta.Outputs, 3)
	_, err = c.ModelReady(ctx, &oip.ModelReadyRequest{Name: "nobody"})
	require.Equal(t, codes.NotFound, status.Code(err))

	expert := r.Experts()[0].Name
	in, want, _ := samples(t, r, 16, 12, unirestorer.WithExpert(0))
	q := &oip.ModelInferRequest{ModelName: expert, Id: "9", Inputs: []*oip.ModelInferRequest_InferInputTensor{
		{Name: "image", Datatype: "UINT8", Shape: []int64{2, 12, 16, 3}},
	}, RawInputContents: [][]byte{append(bytes.Clone(in), in...)}}
	res, err := c.ModelInfer(ctx, q)
	require.NoError(t, err)
	require.Equal(t, "9", res.Id)
	require.Equal(t, append(bytes.Clone(want), want...), res.RawOutputContents[0])
	require.Contains(t, string(res.RawOutputContents[1]), expert)

	photo := picture(t, 20, 10)
	res, err = c.ModelInfer(ctx, &oip.ModelInferRequest{
		ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{{
			Name: "file", Datatype: "BYTES", Shape: []int64{1}, Contents: &oip.InferTensorContents{BytesContents: [][]byte{photo}},
		}},
		Parameters: map[string]*oip.InferParameter{"format": {ParameterChoice: &oip.InferParameter_StringParam{StringParam: "bmp"}}},
		Outputs:    []*oip.ModelInferRequest_InferRequestedOutputTensor{{Name: "file"}},
	})
	require.NoError(t, err)
	require.Equal(t, "BM", string(res.RawOutputContents[0][4:6]))

	q.RawInputContents[0] = q.RawInputContents[0][1:]
	_, err = c.ModelInfer(ctx, q)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = c.ModelInfer(ctx, &oip.ModelInferRequest{ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{nil}})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	q.RawInputContents[0] = append(bytes.Clone(in), in...)
	for range 2 {
		q.Outputs = append(q.Outputs, &oip.ModelInferRequest_InferRequestedOutputTensor{Name: "image"})
	}
	_, err = c.ModelInfer(ctx, q)
	require.ErrorContains(t, err, "more than once")
	q.Outputs = q.Outputs[:1]
	q.Outputs[0].Parameters = map[string]*oip.InferParameter{"shared_memory_region": {ParameterChoice: &oip.InferParameter_StringParam{StringParam: "r"}}}
	_, err = c.ModelInfer(ctx, q)
	require.ErrorContains(t, err, "not served")
	short, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	_, err = c.ModelInfer(short, q)
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))

	h, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, h.Status)
	s.Drain()
	ready, err := c.ServerReady(t.Context(), &oip.ServerReadyRequest{})
	require.NoError(t, err)
	require.False(t, ready.Ready)
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, <-done)
	require.True(t, s.bodies.TryAcquire(s.c.Bodies))
}

func TestMetricsSayWhatHappened(t *testing.T) {
	_, url := start(t, model(t), Config{})
	res, _ := send(t, url+"/v1/restore?expert=0", picture(t, 30, 20))
	require.Equal(t, 200, res.StatusCode)
	send(t, url+"/v1/restore", []byte("no picture"))
	_, text := sendTo(t, http.DefaultClient, "GET", url+"/metrics", nil)
	for _, line := range []string{
		`unirestorer_http_requests_total{code="200",handler="POST /v1/restore"} 1`,
		`unirestorer_http_requests_total{code="415",handler="POST /v1/restore"} 1`,
		`unirestorer_pixels_total 600`, `unirestorer_panics_total 0`, `unirestorer_queue_length 0`,
		`unirestorer_queue_wait_seconds_count 2`, `unirestorer_stage_duration_seconds_count{stage="run"} 1`,
	} {
		require.Contains(t, string(text), line+"\n")
	}
}

func TestPageIsServed(t *testing.T) {
	_, url := start(t, model(t), Config{Hosts: []string{"127.0.0.1"}})
	for path, has := range map[string]string{"/": "<title>UniRestorer</title>", "/page/app.js": "/v1/restore", "/page/style.css": "prefers-color-scheme"} {
		res, text := sendTo(t, http.DefaultClient, "GET", url+path, nil)
		require.Equal(t, 200, res.StatusCode, path)
		require.Contains(t, string(text), has)
		require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'self'")
		require.False(t, strings.Contains(string(text), "https://"), "%s loads from elsewhere", path)
	}
}

func FuzzInferRequest(f *testing.F) {
	f.Add([]byte(`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","data":[[[1,2,3]]]}]}`), "")
	f.Add([]byte(`{"inputs":[{"name":"file","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":7}}]}`+"\x03\x00\x00\x00abc"), "95")
	f.Add([]byte(`{"inputs":[{"name":"file","shape":[1],"datatype":"BYTES","data":["aGVq"]}]}`), "0")
	f.Fuzz(func(t *testing.T, data []byte, header string) {
		_, inputs, err := parseInfer(data, header)
		if err != nil {
			require.Equal(t, 400, statusOf(err))
			return
		}
		for i := range inputs {
			n, err := inputs[i].count()
			if err != nil || inputs[i].Name != tensorImage {
				continue
			}
			for k := range n {
				if p, err := inputs[i].picture(k, 1<<20); err == nil {
					require.NoError(t, p.Check())
				}
			}
		}
	})
}

// write puts a text into a file and gives its name.
func write(t testing.TB, path, text string) string {
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDashboardShowsWhatIsExported(t *testing.T) {
	_, url := start(t, model(t), Config{})
	send(t, url+"/v1/restore", picture(t, 8, 8))
	_, text := sendTo(t, http.DefaultClient, "GET", url+"/metrics", nil)
	dashboard, err := os.ReadFile("../../docs/grafana.json")
	require.NoError(t, err)
	names := regexp.MustCompile(`(unirestorer|process)_[a-z_]+`).FindAllString(string(dashboard), -1)
	require.Greater(t, len(names), 10)
	for _, name := range names {
		if strings.HasPrefix(name, "unirestorer_grpc_") {
			continue // there is none before the first call
		}
		require.Contains(t, string(text), "\n"+name, "the dashboard has a name that nothing exports")
	}
}
