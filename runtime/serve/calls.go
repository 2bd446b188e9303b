package serve

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"unirestorer/runtime/serve/oip"
)

// calls follows the calls of the gRPC server, as a [stats.Handler]: connections are idle while no call is under way on them, and
// a connection is closed when a message does not come.
type calls struct{ s *Server }

type (
	connKey    struct{}
	receiptKey struct{}
)

// receipt is what is known of a call's messages.
type receipt struct {
	small bool   // those that come
	come  func() // the first has come
	sent  int    // bytes of the last that went, as they are on the wire
}

func (k calls) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	c := &k.s.callers
	c.mu.Lock()
	defer c.mu.Unlock()
	return context.WithValue(ctx, connKey{}, c.open[info.RemoteAddr.String()])
}

func (k calls) HandleConn(context.Context, stats.ConnStats) {}

func (k calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	small := info.FullMethodName != oip.GRPCInferenceService_ModelInfer_FullMethodName
	return context.WithValue(ctx, receiptKey{}, &receipt{small: small, come: func() {}})
}

func (k calls) HandleRPC(ctx context.Context, s stats.RPCStats) {
	conn := connOf(ctx)
	if conn == nil {
		return
	}
	r, _ := ctx.Value(receiptKey{}).(*receipt)
	switch s := s.(type) {
	case *stats.Begin:
		k.s.callers.call(conn, 1)
		if r.small { // these are not counted among bodies, and so must not take their time
			r.come = k.s.pace(conn, &conn.in, false)
		}
	case *stats.InPayload:
		r.come()
	case *stats.OutPayload:
		r.sent = s.WireLength
	case *stats.End:
		r.come()
		k.s.callers.call(conn, -1)
	}
}

// connOf is the connection of a call; nil where nothing is known of it.
func connOf(ctx context.Context) *counted {
	conn, _ := ctx.Value(connKey{}).(*counted)
	return conn
}

// pace closes a connection on which a message does not pass in its time, until end is called: the grace, and where it is rated what
// its share of the connection's bytes takes at the least rate.
func (s *Server) pace(conn *counted, t *traffic, rated bool) (end func()) {
	start, from := time.Now(), t.bytes.Load()
	t.messages.Add(1)
	until := func() time.Duration {
		var n int64
		if rated {
			n = (t.bytes.Load() - from) / max(t.messages.Load(), 1)
		}
		return time.Until(s.allowance(start, n))
	}
	passed := make(chan struct{})
	go func() {
		defer t.messages.Add(-1)
		timer := time.NewTimer(until())
		defer timer.Stop()
		for {
			select {
			case <-passed:
				return
			case <-timer.C:
			}
			left := until()
			if left <= 0 {
				_ = conn.Close()
				return
			}
			timer.Reset(left)
		}
	}()
	return sync.OnceFunc(func() { close(passed) })
}

// receive takes a large message, which is of no use behind ctx's deadline.
func (s *Server) receive(ctx context.Context, stream grpc.ServerStream, m any) error {
	if conn := connOf(stream.Context()); conn != nil {
		defer context.AfterFunc(ctx, func() {
			if ctx.Err() == context.DeadlineExceeded && stream.Context().Err() == nil { // which gRPC sees to otherwise
				_ = conn.Close()
			}
		})()
		defer s.pace(conn, &conn.in, true)()
	}
	err := stream.RecvMsg(m)
	// What cannot be read, or is no message, is the client's fault. The client is told gRPC's own code all the same.
	if status.Code(err) == codes.Internal {
		return status.Error(codes.InvalidArgument, status.Convert(err).Message())
	}
	return err
}

// unsent is how much of a message may be in gRPC's hands when it counts as sent.
const unsent = 64 << 10

// send sends a large message, and returns when most of it has gone: gRPC takes any message at once and keeps it until the client
// takes it.
func (s *Server) send(stream grpc.ServerStream, m any) error {
	ctx := stream.Context()
	conn := connOf(ctx)
	if conn == nil {
		return stream.SendMsg(m)
	}
	from := conn.out.bytes.Load()
	defer s.pace(conn, &conn.out, true)()
	if err := stream.SendMsg(m); err != nil {
		return err
	}
	size := int64(ctx.Value(receiptKey{}).(*receipt).sent)
	for wait := time.Millisecond; conn.out.bytes.Load()-from < size-unsent; wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}
