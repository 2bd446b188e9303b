package serve

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/metadata"

	"unirestorer"
)

// Tracing opens the way of traces that the environment names, by OpenTelemetry's variables: there is one where
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, by the protocol of OTEL_EXPORTER_OTLP_PROTOCOL
// (http/protobuf, or grpc), unless OTEL_TRACES_EXPORTER is none or OTEL_SDK_DISABLED true. Without one the provider is nil.
// What cannot be sent is told to log. end sends what is left.
func Tracing(ctx context.Context, log *slog.Logger) (provider trace.TracerProvider, end func(context.Context) error, err error) {
	end = func(context.Context) error { return nil }
	disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED"))
	if disabled || os.Getenv("OTEL_TRACES_EXPORTER") == "none" ||
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil, end, nil
	}
	if e := os.Getenv("OTEL_TRACES_EXPORTER"); e != "" && e != "otlp" {
		return nil, end, fmt.Errorf("OTEL_TRACES_EXPORTER %q: want otlp or none", e)
	}
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	var client otlptrace.Client
	switch protocol {
	case "", "http/protobuf":
		client = otlptracehttp.NewClient()
	case "grpc":
		client = otlptracegrpc.NewClient()
	default:
		return nil, end, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: want http/protobuf or grpc", protocol)
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, end, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "unirestorer"), attribute.String("service.version", unirestorer.Version())), resource.WithFromEnv())
	if err != nil {
		return nil, end, fmt.Errorf("traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces", "error", err.Error()) }))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return p, p.Shutdown, nil
}

// propagator reads whose trace a request belongs to (W3C Trace Context).
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// tracer is of the provider in the configuration; without one its spans are nothing.
func (c Config) tracer() trace.Tracer {
	if c.Tracer == nil {
		return noop.NewTracerProvider().Tracer("unirestorer")
	}
	return c.Tracer.Tracer("unirestorer", trace.WithInstrumentationVersion(unirestorer.Version()))
}

// begin starts a request's span, unless it is one of a probe.
func (s *Server) begin(ctx context.Context, from propagation.TextMapCarrier, name string, about ...attribute.KeyValue) (context.Context, trace.Span) {
	if strings.HasSuffix(name, "/metrics") || strings.HasSuffix(name, "z") || strings.Contains(name, "/health/") || strings.HasSuffix(name, "Live") || strings.HasSuffix(name, "Ready") {
		return ctx, trace.SpanFromContext(ctx)
	}
	return s.tracer.Start(propagator.Extract(ctx, from), name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(about...))
}

// endSpan says what became of a request.
func endSpan(span trace.Span, rec *record, failed bool, about ...attribute.KeyValue) {
	span.SetAttributes(about...)
	if rec.expert != "" {
		span.SetAttributes(attribute.String("unirestorer.expert", rec.expert))
	}
	if rec.err != nil {
		span.RecordError(rec.err)
	}
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// fields are those of the trace that a record of the log belongs to.
func fields(ctx context.Context) []any {
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		return []any{"trace_id", c.TraceID().String(), "span_id", c.SpanID().String()}
	}
	return nil
}

// carrier are a call's metadata, as where a trace is named.
type carrier metadata.MD

func (c carrier) Get(key string) string { return strings.Join(metadata.MD(c).Get(key), ",") }
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() (keys []string) {
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}
