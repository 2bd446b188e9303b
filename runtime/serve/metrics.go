package serve

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"unirestorer"
	"unirestorer/runtime/serve/results"
)

// metrics are what GET /metrics tells.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	waited   prometheus.Histogram
	stages   *prometheus.HistogramVec
	pictures *prometheus.CounterVec
	pixels   prometheus.Counter
	loads    *prometheus.CounterVec
	batch    prometheus.Histogram
	panics   prometheus.Counter
}

func (s *Server) newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "unirestorer", Name: n, Help: help}
	}
	counter := func(n, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts(name(n, help)), labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(n, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "unirestorer", Name: n, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 17),
		}, labels)
		m.registry.MustRegister(h)
		return h
	}
	gauge := func(n, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts(name(n, help)), f))
	}
	m.requests = counter("http_requests_total", "HTTP requests answered.", "handler", "code")
	m.duration = histogram("http_request_duration_seconds", "Time from a request's header to the end of its answer.", "handler")
	m.calls = counter("grpc_requests_total", "gRPC calls answered.", "method", "code")
	m.waited = histogram("queue_wait_seconds", "Time that requests waited for their turn.").WithLabelValues().(prometheus.Histogram)
	m.stages = histogram("stage_duration_seconds", "Time of a picture's stages.", "stage")
	m.pictures = counter("pictures_total", "Pictures restored.", "expert", "degradation")
	m.pixels = counter("pixels_total", "Pixels restored.").WithLabelValues()
	m.loads = counter("expert_loads_total", "Pictures that had to wait for their expert to be loaded and compiled.", "expert")
	m.batch = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "unirestorer", Name: "batch_size", Help: "Pictures that ran together with a picture, itself included.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64},
	})
	m.registry.MustRegister(m.batch)
	m.panics = counter("panics_total", "Faults of the program that ended a request.").WithLabelValues()
	gauge("queue_length", "Requests that wait for their turn.", func() float64 { _, n := s.gate.Len(); return float64(n) })
	gauge("active_requests", "Pictures decoded, restored or encoded at present.", func() float64 { n, _ := s.gate.Len(); return float64(n) })
	memory := func(get func(unirestorer.MemoryUsage) int64) func() float64 {
		return func() float64 { host, _ := s.r.Memory(); return float64(get(host)) }
	}
	gauge("memory_bound_bytes", "Bound on the host's memory; 0 is none.", memory(func(u unirestorer.MemoryUsage) int64 { return u.Bound }))
	gauge("memory_reserved_bytes", "Host memory reserved for pictures and for the program.", memory(func(u unirestorer.MemoryUsage) int64 { return u.Reserved }))
	gauge("memory_accounts_bytes", "Host memory of weights, arenas and tiles.", memory(func(u unirestorer.MemoryUsage) int64 { return u.Accounts }))
	gauge("memory_waiting", "Pictures that wait for memory.", memory(func(u unirestorer.MemoryUsage) int64 { return int64(u.Waiting) }))
	if s.results != nil {
		stats := func(n, help string, get func(results.Stats) float64) {
			m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts(name(n, help)), func() float64 { return get(s.results.Stats()) }))
		}
		stats("result_cache_hits_total", "Requests answered with a kept result.", func(t results.Stats) float64 { return float64(t.Hits) })
		stats("result_cache_misses_total", "Requests whose result was not kept.", func(t results.Stats) float64 { return float64(t.Misses) })
		stats("result_cache_drops_total", "Kept results dropped for want of room or because of damage.", func(t results.Stats) float64 { return float64(t.Drops) })
		gauge("result_cache_bytes", "Bytes of kept results.", func() float64 { return float64(s.results.Stats().Bytes) })
	}
	info := counter("build_info", "1, with the version, model and device as labels.", "version", "model", "device")
	info.WithLabelValues(unirestorer.Version(), s.r.Model(), s.r.Device()).Inc()
	if d, ok := s.r.(several); ok {
		m.registry.MustRegister(newDeviceMetrics(d))
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// request counts an answer.
func (m *metrics) request(rec *record, took time.Duration) {
	m.requests.WithLabelValues(rec.handler, strconv.Itoa(rec.status)).Inc()
	m.duration.WithLabelValues(rec.handler).Observe(took.Seconds())
	m.wait(rec)
}

func (m *metrics) call(rec *record, code codes.Code, took time.Duration) {
	m.calls.WithLabelValues(rec.handler, code.String()).Inc()
	m.duration.WithLabelValues(rec.handler).Observe(took.Seconds())
	m.wait(rec)
}

func (m *metrics) wait(rec *record) {
	if rec.queued {
		m.waited.Observe(rec.waited.Seconds())
	}
}

// done counts a restored picture.
func (s *Server) done(rec *record, res *unirestorer.Result) {
	m, expert := s.metrics, res.Route.Expert.Name
	rec.expert = expert
	m.pictures.WithLabelValues(expert, res.Route.Degradation).Inc()
	m.pixels.Add(float64(res.Report.Width) * float64(res.Report.Height))
	m.batch.Observe(float64(max(res.Report.Batch, 1)))
	if res.Stages.Load > 0 {
		m.loads.WithLabelValues(expert).Inc()
	}
	for _, st := range stagesOf(res.Stages) {
		m.stages.WithLabelValues(st.name).Observe(st.took.Seconds())
	}
}

func (s *Server) exportMetrics(w http.ResponseWriter, r *http.Request, _ *record) error {
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}
