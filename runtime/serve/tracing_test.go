package serve

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestTracesGoWhereTheEnvironmentSays(t *testing.T) {
	var mu sync.Mutex
	got := map[string]*spans.Span{}
	var service string
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q collector.ExportTraceServiceRequest
		if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &q) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range q.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					got[s.Name] = s
				}
			}
		}
	}))
	defer sink.Close()
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		t.Setenv(name, "")
	}
	log := slog.New(slog.DiscardHandler)
	none, _, err := Tracing(t.Context(), log)
	require.NoError(t, err)
	require.Nil(t, none)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
	_, _, err = Tracing(t.Context(), log)
	require.ErrorContains(t, err, "carrier-pigeon")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	provider, end, err := Tracing(t.Context(), log)
	require.NoError(t, err)

	var lines strings.Builder
	_, url := start(t, model(t), Config{Tracer: provider, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	const id = "0123456789abcdef0123456789abcdef"
	res, _ := send(t, url+"/v1/restore", picture(t, 8, 8), "Traceparent", "00-"+id+"-0123456789abcdef-01")
	require.Equal(t, 200, res.StatusCode)
	res, _ = sendTo(t, http.DefaultClient, "GET", url+"/livez", nil)
	require.Equal(t, 200, res.StatusCode)
	require.NoError(t, end(t.Context()))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, "unirestorer", service)
	require.NotContains(t, got, "GET /livez")
	root := got["POST /v1/restore"]
	require.NotNil(t, root)
	require.Equal(t, id, hexOf(root.TraceId))
	require.Equal(t, "0123456789abcdef", hexOf(root.ParentSpanId))
	for _, name := range []string{"queue", "decode", "estimate", "turn", "run", "encode"} {
		s := got[name]
		require.NotNil(t, s, name)
		require.Equal(t, root.TraceId, s.TraceId, name)
		require.Equal(t, root.SpanId, s.ParentSpanId, name)
		require.LessOrEqual(t, s.StartTimeUnixNano, s.EndTimeUnixNano)
	}
	require.Contains(t, lines.String(), "trace_id="+id)
}
