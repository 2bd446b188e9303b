package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"unirestorer/runtime/serve/oip"
)

// raw sends bytes to a server and reads what it answers until it closes, or falls silent.
func raw(t *testing.T, url, text string) string {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, text)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func TestRequestsThatHideOthersAreRefused(t *testing.T) {
	_, url := start(t, model(t), Config{})
	for _, head := range []string{
		"Content-Length: 4\r\nContent-Length: 5\r\n", "Content-Length: 4, 5\r\n", "Content-Length: -1\r\n", "Content-Length: +4\r\n",
		"Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: x\r\n", "Content-Length : 4\r\n",
	} {
		answer := raw(t, url, "POST /v1/restore HTTP/1.1\r\nHost: x\r\n"+head+"\r\nGET /v1/experts HTTP/1.1\r\nHost: x\r\n\r\n")
		require.Regexp(t, `^HTTP/1.1 (400|501)`, answer, head)
		require.NotContains(t, answer, "experts\":", head)
	}
	// With both lengths the body is chunked, and the connection ends behind the answer.
	answer := raw(t, url, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/experts HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Contains(t, answer, "HTTP/1.1 400")
	require.NotContains(t, answer, "experts\":")
}

// claims is a PNG that says it has so many pixels, and ends there.
func claims(w, h uint32) []byte {
	chunk := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	chunk = append(binary.BigEndian.AppendUint32(chunk, h), 8, 2, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), chunk...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(chunk))
}

func TestClaimsCostNothing(t *testing.T) {
	s, url := start(t, model(t), Config{})
	for _, size := range [][2]uint32{{1 << 30, 1 << 30}, {60_000, 60_000}, {1, 1 << 31}, {0, 5}} {
		began := time.Now()
		res, text := send(t, url+"/v1/restore", claims(size[0], size[1]))
		require.Contains(t, []int{413, 415, 422}, res.StatusCode, string(text))
		require.Less(t, time.Since(began), 10*time.Second)
	}
	for _, shape := range []string{"[4294967296,4294967296,3]", "[9223372036854775807,2,3]", "[1,1,1,1,1]", "[]", "[0,0,3]", "[65536,65536,3]"} {
		res, text := send(t, url+"/v2/models/unirestorer/infer", fmt.Appendf(nil,
			`{"inputs":[{"name":"image","shape":%s,"datatype":"UINT8","parameters":{"binary_data_size":0}}]}`, shape), binaryHeader, "0")
		require.Equal(t, 400, res.StatusCode, string(text))
	}
	for _, text := range []string{
		`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"FP32","data":[NaN,1,2]}]}`,
		`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","data":[1e400,1,2]}]}`,
		`{"inputs":[{"name":"image","shape":[1,1,3],"datatype":"UINT8","data":[-1,1,2]}]}`,
		`{"inputs":[{"name":"file","shape":[1],"datatype":"BYTES","data":["L2V0Yy9wYXNzd2Q="]}],"parameters":{"page":"../x"}}`,
		strings.Repeat(`{"inputs":[`, 20_000), `{"parameters":{"tile":{"a":1}},"inputs":[]}`,
	} {
		res, answer := send(t, url+"/v2/models/unirestorer/infer", []byte(text))
		require.Contains(t, []int{400, 415}, res.StatusCode, string(answer))
	}
	require.True(t, s.bodies.TryAcquire(s.c.Bodies), "all bodies are given back")
	s.bodies.Release(s.c.Bodies)
}

func TestNothingThatARequestNamesIsOpened(t *testing.T) {
	asked := make(chan struct{}, 100)
	outside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer outside.Close()
	_, url := start(t, model(t), Config{})
	for _, body := range []string{outside.URL + "/a.png", "/etc/hostname", "file:///etc/hostname", `{"url":"` + outside.URL + `"}`} {
		res, text := send(t, url+"/v1/restore", []byte(body))
		require.Equal(t, 415, res.StatusCode, string(text))
		for _, option := range []string{"expert", "level", "degradation", "format", "page", "second", "model", "out", "tile", "url"} {
			res, text := send(t, url+"/v1/restore?"+option+"="+strings.ReplaceAll(body, `"`, "%22"), picture(t, 8, 8))
			require.Equal(t, 400, res.StatusCode, "%s: %s", option, text)
		}
	}
	require.Empty(t, asked)
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	_, url := start(t, model(t), Config{Connections: 3})
	host := strings.TrimPrefix(url, "http://")
	for range 12 { // these say nothing
		c, err := net.DialTimeout("tcp", host, 5*time.Second)
		require.NoError(t, err)
		defer c.Close()
	}
	for i := range 12 { // each is left open, idle
		c, err := net.DialTimeout("tcp", host, 5*time.Second)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err, "connection %d", i)
		require.Contains(t, line, "200")
	}
}

func TestHeadersThatTrickleInAreCutOff(t *testing.T) {
	_, url := start(t, model(t), Config{Grace: 300 * time.Millisecond})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nX-A: ")
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = io.ReadAll(c)
	require.NoError(t, err, "the server ends the connection")
}

func TestAbortedCallsGiveEverythingBack(t *testing.T) {
	f, entered, _ := held()
	f.Restorer = model(t)
	s, conn := dial(t, f, Config{Bodies: 8 << 20, MaxBody: 1 << 20})
	c := oip.NewGRPCInferenceServiceClient(conn)
	q := &oip.ModelInferRequest{ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{{
		Name: "file", Datatype: "BYTES", Shape: []int64{1}, Contents: &oip.InferTensorContents{BytesContents: [][]byte{picture(t, 8, 8)}}}}}
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		_, err := c.ModelInfer(ctx, q)
		require.Equal(t, codes.Canceled, status.Code(err))
	}
	q.Inputs[0].Contents.BytesContents[0] = bytes.Repeat([]byte{1}, 2<<20)
	_, err := c.ModelInfer(t.Context(), q)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Eventually(t, func() bool {
		n, waiting := s.gate.Len()
		ok := n+waiting == 0 && s.bodies.TryAcquire(s.c.Bodies)
		if ok {
			s.bodies.Release(s.c.Bodies)
		}
		return ok
	}, 10*time.Second, time.Millisecond)
}

// unread is a codec of messages that are bytes already.
type unread struct{}

func (unread) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (unread) Unmarshal(_ []byte, _ any) error { return nil }
func (unread) Name() string                    { return "proto" }

func TestMessagesThatCannotBeReadAreTheClientsFault(t *testing.T) {
	var logged bytes.Buffer
	s, conn := dial(t, model(t), Config{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	method := oip.GRPCInferenceService_ModelInfer_FullMethodName
	for messages, say := range map[string]string{"": "no request message", "\xff": "unmarshal"} {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, method, grpc.ForceCodec(unread{}))
		require.NoError(t, err)
		if messages != "" {
			require.NoError(t, stream.SendMsg([]byte(messages)))
		}
		require.NoError(t, stream.CloseSend())
		var answer []byte
		require.ErrorContains(t, stream.RecvMsg(&answer), say)
	}
	require.NoError(t, s.Shutdown(t.Context())) // so that all is logged
	require.NotContains(t, logged.String(), "level=ERROR")
	require.Equal(t, 2, strings.Count(logged.String(), "code=InvalidArgument"))
	require.True(t, s.bodies.TryAcquire(s.c.Bodies))
}

func TestCallsHoldNoMoreThanTheirMessageOnceItIsThere(t *testing.T) {
	met := make(chan struct{}) // each waits for the other
	f := &fake{Restorer: model(t), restore: func(ctx context.Context) error {
		select {
		case met <- struct{}{}:
		case <-met:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	s, conn := dial(t, f, Config{Bodies: 1 << 20, MaxBody: 1 << 20})
	c := oip.NewGRPCInferenceServiceClient(conn)
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := c.ModelInfer(ctx, &oip.ModelInferRequest{ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{{
				Name: "file", Datatype: "BYTES", Shape: []int64{1}, Contents: &oip.InferTensorContents{BytesContents: [][]byte{picture(t, 8, 8)}}}}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	allGivenBack(t, s)
}

func FuzzForm(f *testing.F) {
	const head = "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n"
	f.Add([]byte(head+"abc\r\n--x--\r\n"), "multipart/form-data; boundary=x", "")
	f.Add([]byte("--x\r\nContent-Disposition: form-data; name=\"level\"\r\n\r\nfine\r\n"+head), "multipart/form-data; boundary=x", "identity")
	f.Add([]byte("\x1f\x8b"), "image/png", "gzip")
	f.Add([]byte("x\x9c\x03\x00"), "", "deflate")
	s, err := New(shared{model(f)}, Config{MaxBody: 1 << 16})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte, kind, encoding string) {
		r := httptest.NewRequest("POST", "/v1/restore", bytes.NewReader(body))
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Content-Encoding", encoding)
		options := r.URL.Query()
		b, err := s.read(t.Context(), httptest.NewRecorder(), r, options)
		if err != nil {
			require.Contains(t, []int{400, 408, 413, 415}, statusOf(err), err)
		} else {
			require.LessOrEqual(t, b.Len(), 1<<16)
			b.release()
		}
		require.True(t, s.bodies.TryAcquire(s.c.Bodies), "all is given back")
		s.bodies.Release(s.c.Bodies)
	})
}
