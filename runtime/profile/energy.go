package profile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cuda/nvml"
)

// energyMeter counts energy.
type energyMeter interface {
	// joules is the energy used since the last call, or since the meter was made.
	joules() (float64, error)
	// source says whose energy it is.
	source() string
}

// newEnergyMeter makes the meter of what computes: a GPU's by NVML, the processors' by RAPL. The error says why there is none.
func newEnergyMeter(b backend.Info) (energyMeter, error) {
	switch {
	case b.Threads > 0: // a processor's counters say nothing of a GPU
		return newPackageMeter(powercap)
	case b.UUID != "":
		return newCardMeter(b.UUID, nvml.Read)
	}
	return nil, errors.New("a simulated device uses none of its own")
}

// powercap is where Linux tells the energy that processor packages have used,
// by RAPL.
const powercap = "/sys/class/powercap"

// packageMeter reads the energy counters of processor packages.
type packageMeter []energyCounter

type energyCounter struct {
	path string
	span uint64 // the counter starts again after this many microjoules
	last uint64
}

// newPackageMeter opens the counters under root, those of whole packages.
func newPackageMeter(root string) (energyMeter, error) {
	names, err := filepath.Glob(filepath.Join(root, "intel-rapl:*"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("the system shows no RAPL counters in %s", root)
	}
	var m packageMeter
	for _, name := range names {
		if strings.Count(filepath.Base(name), ":") != 1 { // a part of a package
			continue
		}
		kind, err := os.ReadFile(filepath.Join(name, "name"))
		if err != nil || !strings.HasPrefix(string(kind), "package") {
			continue
		}
		span, err := microjoules(filepath.Join(name, "max_energy_range_uj"))
		if err != nil || span == 0 {
			continue
		}
		path := filepath.Join(name, "energy_uj")
		if last, err := microjoules(path); err == nil {
			m = append(m, energyCounter{path, span, last})
		}
	}
	if len(m) == 0 {
		return nil, fmt.Errorf("the RAPL counters in %s cannot be read by this user", root)
	}
	return m, nil
}

func (packageMeter) source() string {
	return "RAPL, all processor packages, whatever else runs included"
}

// joules must be asked before a counter has gone round, which takes minutes.
func (m packageMeter) joules() (joules float64, err error) {
	for i := range m {
		c := &m[i]
		now, failed := microjoules(c.path)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("RAPL: %w", failed))
			continue
		}
		if now >= c.last {
			joules += float64(now-c.last) / 1e6
		} else {
			joules += float64(c.span-c.last+now) / 1e6
		}
		c.last = now
	}
	return joules, err
}

func microjoules(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// cardMeter reads the energy counter of a GPU.
type cardMeter struct {
	uuid string
	read func() (nvml.System, error)
	last uint64 // millijoules
}

// newCardMeter opens the counter of the whole GPU with this UUID.
func newCardMeter(uuid string, read func() (nvml.System, error)) (energyMeter, error) {
	m := &cardMeter{uuid: uuid, read: read}
	var err error
	if m.last, err = m.millijoules(); err != nil {
		return nil, err
	}
	return m, nil
}

func (*cardMeter) source() string { return "NVML, the whole card, whoever else uses it included" }

func (m *cardMeter) joules() (float64, error) {
	now, err := m.millijoules()
	if err != nil {
		return 0, err
	}
	if now < m.last {
		return 0, fmt.Errorf("the counter of GPU %s went back", m.uuid)
	}
	used := now - m.last
	m.last = now
	return float64(used) / 1e3, nil
}

func (m *cardMeter) millijoules() (uint64, error) {
	s, err := m.read()
	if err != nil {
		return 0, fmt.Errorf("a card's counter cannot be read: %w", err)
	}
	for _, g := range s.GPUs {
		if g.UUID != m.uuid {
			continue
		}
		if g.Energy == nil {
			return 0, fmt.Errorf("GPU %s does not tell its energy", m.uuid)
		}
		return *g.Energy, nil
	}
	return 0, fmt.Errorf("NVML knows no whole GPU %s: a slice of one has no counter of its own", m.uuid)
}
