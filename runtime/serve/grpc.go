package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"unirestorer"
	"unirestorer/runtime/serve/oip"
)

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative oip/oip.proto

// rpc answers the Open Inference Protocol over gRPC.
type rpc struct {
	oip.UnimplementedGRPCInferenceServiceServer
	s *Server
}

// newGRPC makes the gRPC server. Inference is registered as a stream of one message each way, which is the same on the
// wire, because then the message is read only when there is room for it.
func (s *Server) newGRPC() (*grpc.Server, *health.Server) {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(s.c.MaxBody)), grpc.MaxConcurrentStreams(uint32(s.c.Active + s.c.Queue)),
		grpc.ConnectionTimeout(s.c.Grace), grpc.MaxHeaderListSize(64 << 10),
		grpc.StreamInterceptor(s.stream), grpc.StatsHandler(calls{s}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Minute, Time: time.Minute, Timeout: s.c.Grace}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (res any, err error) {
			err = s.call(ctx, info.FullMethod, func(ctx context.Context, _ *record) error {
				res, err = h(ctx, req)
				return err
			})
			return res, err
		}),
	}
	if s.cert != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.cert.config())))
	}
	g := grpc.NewServer(opts...)
	desc := oip.GRPCInferenceService_ServiceDesc
	desc.Methods = nil
	for _, m := range oip.GRPCInferenceService_ServiceDesc.Methods {
		if m.MethodName != "ModelInfer" {
			desc.Methods = append(desc.Methods, m)
		}
	}
	desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: "ModelInfer", Handler: func(srv any, stream grpc.ServerStream) error {
		return s.call(stream.Context(), oip.GRPCInferenceService_ModelInfer_FullMethodName, func(ctx context.Context, rec *record) error {
			return srv.(*rpc).modelInfer(ctx, stream, rec)
		})
	}})
	g.RegisterService(&desc, &rpc{s: s})
	h := health.NewServer()
	healthpb.RegisterHealthServer(g, h)
	reflection.Register(g)
	return g, h
}

// stream is what streams pass that are no calls of the protocol.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, "/"+oip.GRPCInferenceService_ServiceDesc.ServiceName+"/") { // which pass call
		return h(srv, stream)
	}
	if err := s.caller(stream.Context(), info.FullMethod, &record{}); err != nil {
		return grpcError(err)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)() // who watches would keep the server from ending
	return h(srv, &streamWithin{stream, ctx})
}

// streamWithin is a stream with a context of its own.
type streamWithin struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWithin) Context() context.Context { return s.ctx }

// ServeGRPC answers the Open Inference Protocol on a listener until [Server.Shutdown].
func (s *Server) ServeGRPC(l net.Listener) error {
	if err := s.grpc.Serve(s.callers.limit(l, s.c.Connections)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// stopGRPC waits for calls under way until ctx is done.
func (s *Server) stopGRPC(ctx context.Context) {
	defer context.AfterFunc(ctx, s.grpc.Stop)()
	s.grpc.GracefulStop()
}

// call is what every call passes, as guard is for HTTP.
func (s *Server) call(ctx context.Context, method string, f func(context.Context, *record) error) (err error) {
	start := time.Now()
	rec := &record{handler: method}
	md, _ := metadata.FromIncomingContext(ctx)
	ctx, _ = s.begin(ctx, carrier(md), strings.TrimPrefix(method, "/"), attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", strings.TrimPrefix(method, "/")))
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			err = fmt.Errorf("panic: %v", p)
		}
		rec.err = err
		err = grpcError(err)
		s.noteCall(ctx, rec, status.Code(err), time.Since(start))
	}()
	if err := s.caller(ctx, method, rec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	return f(ctx, rec)
}

// caller tells who calls.
func (s *Server) caller(ctx context.Context, method string, rec *record) error {
	if p, ok := peer.FromContext(ctx); ok {
		rec.client = p.Addr.String()
		if host, _, err := net.SplitHostPort(rec.client); err == nil {
			rec.client = host
		}
	}
	switch method {
	case oip.GRPCInferenceService_ServerLive_FullMethodName, oip.GRPCInferenceService_ServerReady_FullMethodName,
		healthpb.Health_Check_FullMethodName, healthpb.Health_Watch_FullMethodName:
		return nil
	}
	if s.tokens == nil {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, header := range md.Get("authorization") {
		if name, ok := s.tokens.owner(header); ok {
			rec.client = name
			return nil
		}
	}
	return errToken
}

// grpcError tells an error in gRPC's terms.
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	http := statusOf(err)
	return status.Error(codeOf(http), says(err, http))
}

func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	case statusClientGone:
		return codes.Canceled
	}
	return codes.Internal
}

func (s *Server) noteCall(ctx context.Context, rec *record, code codes.Code, took time.Duration) {
	s.metrics.call(rec, code, took)
	endSpan(trace.SpanFromContext(ctx), rec, code == codes.Internal || code == codes.Unavailable || code == codes.DeadlineExceeded,
		attribute.String("rpc.response.status_code", code.String()))
	level := slog.LevelInfo
	if code == codes.Internal {
		level = slog.LevelError
	}
	args := []any{"method", rec.handler, "code", code.String(), "client", rec.client, "took", took, "waited", rec.waited}
	if rec.expert != "" {
		args = append(args, "expert", rec.expert)
	}
	if rec.err != nil {
		args = append(args, "error", rec.err.Error())
	}
	s.c.Log.Log(ctx, level, "call", append(args, fields(ctx)...)...)
}

func (r *rpc) ServerLive(context.Context, *oip.ServerLiveRequest) (*oip.ServerLiveResponse, error) {
	return &oip.ServerLiveResponse{Live: true}, nil
}

func (r *rpc) ServerReady(context.Context, *oip.ServerReadyRequest) (*oip.ServerReadyResponse, error) {
	return &oip.ServerReadyResponse{Ready: !r.s.draining.Load()}, nil
}

func (r *rpc) ModelReady(_ context.Context, q *oip.ModelReadyRequest) (*oip.ModelReadyResponse, error) {
	if err := r.s.knows(q.Name, q.Version); err != nil {
		return nil, err
	}
	return &oip.ModelReadyResponse{Ready: !r.s.draining.Load()}, nil
}

func (r *rpc) ServerMetadata(context.Context, *oip.ServerMetadataRequest) (*oip.ServerMetadataResponse, error) {
	return &oip.ServerMetadataResponse{Name: "unirestorer", Version: unirestorer.Version()}, nil
}

func (r *rpc) ModelMetadata(_ context.Context, q *oip.ModelMetadataRequest) (*oip.ModelMetadataResponse, error) {
	if err := r.s.knows(q.Name, q.Version); err != nil {
		return nil, err
	}
	list := func(all []tensorInfo) (out []*oip.ModelMetadataResponse_TensorMetadata) {
		for _, t := range all {
			out = append(out, &oip.ModelMetadataResponse_TensorMetadata{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape})
		}
		return out
	}
	return &oip.ModelMetadataResponse{Name: q.Name, Versions: []string{"1"}, Platform: "unirestorer", Inputs: list(inferInputs), Outputs: list(inferOutputs)}, nil
}

func (r *rpc) modelInfer(ctx context.Context, stream grpc.ServerStream, rec *record) error {
	room, err := r.s.reserve(ctx, r.s.c.MaxBody) // how long the message is shows when it is there
	if err != nil {
		return err
	}
	defer func() { room.release() }()
	var q oip.ModelInferRequest
	if err := r.s.receive(ctx, stream, &q); err != nil {
		return err
	}
	room.keep(int64(proto.Size(&q)))
	if err := r.s.knows(q.ModelName, q.ModelVersion); err != nil {
		return err
	}
	inputs, err := grpcInputs(&q)
	if err != nil {
		return err
	}
	all := map[string]any{}
	for name, p := range q.Parameters {
		switch v := p.GetParameterChoice().(type) {
		case *oip.InferParameter_BoolParam:
			all[name] = v.BoolParam
		case *oip.InferParameter_Int64Param:
			all[name] = strconv.FormatInt(v.Int64Param, 10)
		case *oip.InferParameter_Uint64Param:
			all[name] = strconv.FormatUint(v.Uint64Param, 10)
		case *oip.InferParameter_DoubleParam:
			all[name] = v.DoubleParam
		case *oip.InferParameter_StringParam:
			all[name] = v.StringParam
		}
	}
	options, err := parameters(all)
	if err != nil {
		return err
	}
	var wanted []string
	for _, o := range q.Outputs {
		if err := served("output", o.GetName(), o.GetParameters()); err != nil {
			return err
		}
		wanted = append(wanted, o.GetName())
	}
	outputs, err := r.s.infer(ctx, rec, q.ModelName, options, inputs, wanted)
	if err != nil {
		return err
	}
	answer := &oip.ModelInferResponse{ModelName: q.ModelName, ModelVersion: "1", Id: q.Id}
	for i := range outputs {
		t := &outputs[i]
		answer.Outputs = append(answer.Outputs, &oip.ModelInferResponse_InferOutputTensor{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape})
		answer.RawOutputContents = append(answer.RawOutputContents, t.raw())
	}
	room.release() // the answer takes the request's place
	if room, err = r.s.reserve(ctx, min(int64(proto.Size(answer)), r.s.c.Bodies)); err != nil {
		return err
	}
	return r.s.send(stream, answer)
}

// grpcInputs reads the tensors of a request, from raw contents or from typed ones.
func grpcInputs(q *oip.ModelInferRequest) ([]tensor, error) {
	raw := len(q.RawInputContents) > 0
	if raw && len(q.RawInputContents) != len(q.Inputs) {
		return nil, badRequest("%d inputs with %d raw contents", len(q.Inputs), len(q.RawInputContents))
	}
	var inputs []tensor
	for i, in := range q.Inputs {
		if err := served("input", in.GetName(), in.GetParameters()); err != nil {
			return nil, err
		}
		t := tensor{tensorInfo: tensorInfo{in.GetName(), in.GetDatatype(), in.GetShape()}}
		switch c := in.GetContents(); {
		case raw:
			if err := t.setRaw(q.RawInputContents[i]); err != nil {
				return nil, err
			}
		case t.Datatype == "BYTES":
			t.items = c.GetBytesContents()
		default:
			for _, v := range c.GetUintContents() {
				if v > 255 {
					return nil, badRequest("input %q: %d is no UINT8", t.Name, v)
				}
				t.samples = append(t.samples, byte(v))
			}
		}
		inputs = append(inputs, t)
	}
	return inputs, nil
}
