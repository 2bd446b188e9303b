package serve

import (
	"github.com/prometheus/client_golang/prometheus"

	"unirestorer/runtime/cards"
)

// several is a Restorer that works on several devices, some of which may have failed.
type several interface {
	States() []cards.State
}

// working tells whether any device works; one that is started anew does not.
func (s *Server) working() bool {
	d, ok := s.r.(several)
	if !ok {
		return true
	}
	for _, state := range d.States() {
		if state.Ready {
			return true
		}
	}
	return false
}

// deviceMetrics tell of every device.
type deviceMetrics struct {
	of                                           several
	up, done, working, failures, loads, duration *prometheus.Desc
}

func newDeviceMetrics(of several) *deviceMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("unirestorer_device_"+name, help, []string{"device"}, nil)
	}
	return &deviceMetrics{
		of: of, up: desc("up", "1 while the device works, 0 while it is started anew or stays out."),
		done: desc("pictures_total", "Pictures that the device was through with."), working: desc("active", "Pictures that the device has at present."),
		failures: desc("failures_total", "Times that the device's worker failed."), loads: desc("expert_loads_total", "Pictures whose expert the device had to load."),
		duration: desc("picture_seconds", "Time that the device takes for a picture, of late."),
	}
}

// Describe implements prometheus.Collector.
func (m *deviceMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *deviceMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.of.States() {
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, s.Card)
		}
		up := 0.0
		if s.Ready {
			up = 1
		}
		tell(m.up, prometheus.GaugeValue, up)
		tell(m.done, prometheus.CounterValue, float64(s.Done))
		tell(m.working, prometheus.GaugeValue, float64(s.Working))
		tell(m.failures, prometheus.CounterValue, float64(s.Failures))
		tell(m.loads, prometheus.CounterValue, float64(s.Loads))
		tell(m.duration, prometheus.GaugeValue, s.Mean.Seconds())
	}
}
