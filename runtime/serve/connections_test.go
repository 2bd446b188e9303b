package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"unirestorer/runtime/serve/oip"
)

// ask sends a request on a connection and reads the answer's status line.
func ask(t *testing.T, c net.Conn, request string) string {
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := io.WriteString(c, request)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	return res.Status
}

func connect(t *testing.T, url string) net.Conn {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestConnectionsMayBeOpenedInAdvance(t *testing.T) {
	f, entered, let := held()
	f.Restorer = model(t)
	_, url := start(t, f, Config{Grace: 50 * time.Millisecond})
	early, late := connect(t, url), connect(t, url)
	time.Sleep(200 * time.Millisecond) // the server's patience with what is under way is over
	require.Contains(t, ask(t, early, "GET /v1/experts HTTP/1.1\r\nHost: x\r\n\r\n"), "200")
	go func() {
		<-entered
		time.Sleep(200 * time.Millisecond)
		close(let)
	}()
	require.Contains(t, ask(t, late, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\x89PNG"), "200")
	require.Contains(t, ask(t, late, "GET /v1/experts HTTP/1.1\r\nHost: x\r\n\r\n"), "200")
}

func TestLateAnswersAreWritten(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(300 * time.Millisecond) // as what looks at its context seldom
		return ctx.Err()
	}}
	_, url := start(t, f, Config{Timeout: 50 * time.Millisecond, Grace: 100 * time.Millisecond})
	res, _ := send(t, url+"/v1/restore", picture(t, 8, 8))
	require.Equal(t, http.StatusGatewayTimeout, res.StatusCode)
}

func TestWorkThatEndsUnaskedIsNoSuccess(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(context.Context) error { return context.Canceled }}
	_, url := start(t, f, Config{})
	res, _ := send(t, url+"/v1/restore", picture(t, 8, 8))
	require.Equal(t, statusClientGone, res.StatusCode)
}

func TestFormsInPiecesWhoseClientIsGoneStop(t *testing.T) {
	f, entered, _ := held()
	f.Restorer = model(t)
	s, url := start(t, f, Config{})
	c := connect(t, url)
	form := "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\nabcde\r\n--x--\r\n"
	_, err := fmt.Fprintf(c, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n%x\r\n%s\r\n", len(form), form)
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond) // the end of the body comes by itself
	_, err = io.WriteString(c, "0\r\n\r\n")
	require.NoError(t, err)
	<-entered
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { n, _ := s.gate.Len(); return n == 0 }, 10*time.Second, time.Millisecond)
}

func TestAnswersThatNobodyReadsEndTheirConnection(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(context.Context) error { return nil }}
	s, url := start(t, f, Config{Grace: 100 * time.Millisecond, MinRate: 1 << 30})
	c := connect(t, url)
	body := "\x89PNG" + strings.Repeat("x", 3000) // such answers stay in the buffer until their end
	request := "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 3004\r\n\r\n" + body
	go func() {
		for {
			if _, err := io.WriteString(c, request); err != nil {
				return
			}
		}
	}()
	open := func() int {
		s.conns.mu.Lock()
		defer s.conns.mu.Unlock()
		return len(s.conns.open)
	}
	require.Eventually(t, func() bool { return open() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return open() == 0 }, 30*time.Second, time.Millisecond)
}

func TestConnectionsMakeRoomWhenTheyBecomeIdle(t *testing.T) {
	f, entered, let := held()
	f.Restorer = model(t)
	_, url := start(t, f, Config{Connections: 1})
	first := connect(t, url)
	_, err := io.WriteString(first, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\x89PNG")
	require.NoError(t, err)
	<-entered
	second := connect(t, url)
	answered := make(chan string, 1)
	go func() {
		defer close(answered)
		answered <- ask(t, second, "GET /v1/experts HTTP/1.1\r\nHost: x\r\n\r\n")
	}()
	time.Sleep(50 * time.Millisecond) // it waits: nobody is idle
	close(let)
	require.Contains(t, <-answered, "200")
}

func TestIdleConnectionsMakeRoomForCalls(t *testing.T) {
	s, address := startGRPC(t, model(t), Config{Connections: 3})
	var all sync.WaitGroup
	for range 3 { // these say nothing
		connect(t, address)
	}
	for range 9 { // each is left open, idle
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		defer conn.Close()
		health := grpc_health_v1.NewHealthClient(conn)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range 3 {
			all.Go(func() { _, _ = health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}) }) // one closes while others use it
		}
		_, err = health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		require.NoError(t, err)
		all.Wait()
	}
	s.callers.mu.Lock()
	defer s.callers.mu.Unlock()
	require.LessOrEqual(t, len(s.callers.open), 3)
	for _, c := range s.callers.idle {
		require.Zero(t, c.calls)
	}
}

// allGivenBack waits until no request holds room for a body.
func allGivenBack(t *testing.T, s *Server) {
	require.Eventually(t, func() bool {
		ok := s.bodies.TryAcquire(s.c.Bodies)
		if ok {
			s.bodies.Release(s.c.Bodies)
		}
		return ok
	}, 20*time.Second, time.Millisecond, "all bodies are given back")
}

func TestWhoHasRoomKeptMustUseIt(t *testing.T) {
	s, url := start(t, model(t), Config{Grace: 100 * time.Millisecond, MinRate: 1 << 10, MaxBody: 32 << 20, Bodies: 64 << 20})
	c := connect(t, url)
	_, err := fmt.Fprintf(c, "POST /v1/restore HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 32<<20)
	require.NoError(t, err)
	go func() { // faster than MinRate
		for {
			if _, err := c.Write(make([]byte, 100)); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "408")
	allGivenBack(t, s)
}

func TestBodiesOfUnknownLengthTakeRoomAsTheyGrow(t *testing.T) {
	f := &fake{Restorer: model(t), restore: func(context.Context) error { return nil }}
	s, url := start(t, f, Config{MaxBody: 4 << 20, Bodies: 8 << 20})
	body := append([]byte("\x89PNG"), bytes.Repeat([]byte("abcdefgh"), 3<<17)...)
	for range 3 {
		res, got := sendTo(t, http.DefaultClient, "POST", url+"/v1/restore", io.MultiReader(bytes.NewReader(body)))
		require.Equal(t, 200, res.StatusCode)
		require.Equal(t, body, got)
		res, got = send(t, url+"/v1/restore", gzipped(t, body), "Content-Encoding", "gzip")
		require.Equal(t, 200, res.StatusCode)
		require.Equal(t, body, got)
	}
	res, _ := sendTo(t, http.DefaultClient, "POST", url+"/v1/restore", io.MultiReader(bytes.NewReader(body), bytes.NewReader(body)))
	require.Equal(t, 413, res.StatusCode)
	allGivenBack(t, s)

	// Where others take the room it is not had without end.
	require.True(t, s.bodies.TryAcquire(6<<20))
	res, _ = sendTo(t, http.DefaultClient, "POST", url+"/v1/restore", io.MultiReader(bytes.NewReader(body)), "X-Request-Timeout", "0.2")
	require.Equal(t, 503, res.StatusCode)
	s.bodies.Release(6 << 20)
	allGivenBack(t, s)
}

// frame is an HTTP/2 frame on stream 1, or on 0 where it is one of settings (RFC 9113, section 4.1).
func frame(kind, flags byte, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	stream := uint32(1)
	if kind == 4 {
		stream = 0
	}
	return append(binary.BigEndian.AppendUint32(append(head, flags), stream), payload...)
}

// stalled is a gRPC connection that sends a message, or a part of one, and takes 1,000 bytes of an answer.
func stalled(t *testing.T, address, method string, message []byte, whole bool) {
	c := connect(t, address)
	var head []byte // literal fields without indexing (RFC 7541, section 6.2.2)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		for i, text := range h {
			if i == 0 {
				head = append(head, 0)
			}
			head = append(append(head, byte(len(text))), text...)
		}
	}
	flags := byte(0)
	if whole {
		flags = 1 // END_STREAM
	}
	_, err := c.Write(slices.Concat([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, []byte{0, 4, 0, 0, 3, 232}), frame(1, 4, head), frame(0, flags, message)))
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, c) }()
}

// flat is a PNG of few bytes.
func flat(t *testing.T, w, h int) []byte {
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewNRGBA(image.Rect(0, 0, w, h))))
	return b.Bytes()
}

func TestCallsThatStallAreCutOff(t *testing.T) {
	s, address := startGRPC(t, model(t), Config{Grace: 200 * time.Millisecond, MinRate: 1 << 30, Bodies: 8 << 20, MaxBody: 4 << 20})
	message, err := proto.Marshal(&oip.ModelInferRequest{ModelName: "unirestorer", Inputs: []*oip.ModelInferRequest_InferInputTensor{
		{Name: "file", Datatype: "BYTES", Shape: []int64{1}, Contents: &oip.InferTensorContents{BytesContents: [][]byte{flat(t, 256, 128)}}}},
		Parameters: map[string]*oip.InferParameter{"format": {ParameterChoice: &oip.InferParameter_StringParam{StringParam: "bmp"}}}})
	require.NoError(t, err)
	require.Less(t, len(message), 16<<10, "one frame")
	whole := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	for what, begin := range map[string]struct {
		method string
		data   []byte
	}{
		"a large message does not come": {oip.GRPCInferenceService_ModelInfer_FullMethodName, []byte{0, 0, 1, 0, 0, 1, 2, 3}},
		"a small one does not":          {grpc_health_v1.Health_Check_FullMethodName, []byte{0, 0, 1, 0, 0, 1, 2, 3}},
		"an answer is not taken":        {oip.GRPCInferenceService_ModelInfer_FullMethodName, whole},
	} {
		t.Run(what, func(t *testing.T) {
			stalled(t, address, begin.method, begin.data, len(begin.data) > 8)
			open := func() int {
				s.callers.mu.Lock()
				defer s.callers.mu.Unlock()
				return len(s.callers.open)
			}
			require.Eventually(t, func() bool { return open() == 1 }, 20*time.Second, time.Millisecond)
			require.Eventually(t, func() bool { return open() == 0 }, 20*time.Second, time.Millisecond)
			allGivenBack(t, s)
		})
	}
}
