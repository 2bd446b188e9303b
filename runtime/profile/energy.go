package profile

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// powercap is where Linux tells the energy that processor packages have used,
// by RAPL.
const powercap = "/sys/class/powercap"

// energyMeter reads the energy counters of processor packages. A nil meter has
// none.
type energyMeter struct{ packages []energyCounter }

type energyCounter struct {
	path string
	span uint64 // the counter starts again after this many microjoules
	last uint64
}

// newEnergyMeter opens the counters under root, those of whole packages; nil if
// there are none that can be read.
func newEnergyMeter(root string) *energyMeter {
	names, err := filepath.Glob(filepath.Join(root, "intel-rapl:*"))
	if err != nil {
		return nil
	}
	var m energyMeter
	for _, name := range names {
		if strings.Count(filepath.Base(name), ":") != 1 { // a part of a package
			continue
		}
		kind, err := os.ReadFile(filepath.Join(name, "name"))
		if err != nil || !strings.HasPrefix(string(kind), "package") {
			continue
		}
		span, ok := microjoules(filepath.Join(name, "max_energy_range_uj"))
		if !ok || span == 0 {
			continue
		}
		path := filepath.Join(name, "energy_uj")
		if last, ok := microjoules(path); ok {
			m.packages = append(m.packages, energyCounter{path, span, last})
		}
	}
	if len(m.packages) == 0 {
		return nil
	}
	return &m
}

// joules is the energy used since the last call, or since the meter was opened;
// ok is false if a counter could not be read. A counter must be asked before it
// has gone round, which takes minutes.
func (m *energyMeter) joules() (joules float64, ok bool) {
	if m == nil {
		return 0, false
	}
	ok = true
	for i := range m.packages {
		c := &m.packages[i]
		now, read := microjoules(c.path)
		if !read {
			ok = false
			continue
		}
		if now >= c.last {
			joules += float64(now-c.last) / 1e6
		} else {
			joules += float64(c.span-c.last+now) / 1e6
		}
		c.last = now
	}
	return joules, ok
}

func microjoules(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// whyNoEnergy says why a run's energy is not known.
func whyNoEnergy(root string, host bool) string {
	if !host {
		return "not available: a card's counter (NVML) is not read, and a processor's says nothing of it"
	}
	names, err := filepath.Glob(filepath.Join(root, "intel-rapl:*"))
	switch {
	case err != nil || len(names) == 0:
		return "not available: the system shows no RAPL counters in " + root
	case newEnergyMeter(root) == nil:
		return "not available: the RAPL counters in " + root + " cannot be read by this user"
	}
	return "not available: it was not measured"
}
