package profile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/backend"
	"unirestorer/runtime/cuda/nvml"
)

func TestEnergyCountersGoRound(t *testing.T) {
	root := t.TempDir()
	put := func(zone, file, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, zone), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(root, zone, file), []byte(text), 0o666))
	}
	for zone, name := range map[string]string{"intel-rapl:0": "package-0\n", "intel-rapl:1": "package-1\n", "intel-rapl:0:0": "core\n", "intel-rapl:2": "psys\n"} {
		put(zone, "name", name)
		put(zone, "max_energy_range_uj", "1000000\n")
		put(zone, "energy_uj", "900000\n")
	}
	m, err := newPackageMeter(root)
	require.NoError(t, err)
	require.Len(t, m, 2, "packages, neither their parts nor the platform")
	put("intel-rapl:0", "energy_uj", "950000\n")
	put("intel-rapl:1", "energy_uj", "100000\n") // went round
	j, err := m.joules()
	require.NoError(t, err)
	require.InDelta(t, 0.05+0.2, j, 1e-9)
	j, err = m.joules()
	require.NoError(t, err)
	require.Zero(t, j)
	require.NoError(t, os.Remove(filepath.Join(root, "intel-rapl:1", "energy_uj")))
	_, err = m.joules()
	require.ErrorContains(t, err, "energy_uj")
}

func TestMissingEnergyHasAReason(t *testing.T) {
	root := t.TempDir()
	_, err := newPackageMeter(root)
	require.ErrorContains(t, err, "no RAPL counters")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "intel-rapl:0"), 0o777))
	_, err = newPackageMeter(root)
	require.ErrorContains(t, err, "cannot be read")
	_, err = newEnergyMeter(backend.Info{Name: "sim"})
	require.ErrorContains(t, err, "simulated")

	m := Measured{Samples: []float64{1, 1}}
	m.setEnergy(nil, err)
	require.Nil(t, m.Energy)
	require.Contains(t, m.NoEnergy, "simulated")
}

func TestEnergyOfACardIsThatOfItsOwnCounter(t *testing.T) {
	used := uint64(7000)
	var failed error
	read := func() (nvml.System, error) {
		other := uint64(1)
		return nvml.System{GPUs: []nvml.GPU{{UUID: "GPU-a", Energy: &other}, {UUID: "GPU-b", Energy: &used}, {UUID: "GPU-old"}}}, failed
	}
	meter, err := newCardMeter("GPU-b", read)
	require.NoError(t, err)
	used += 1500
	m := Measured{Samples: []float64{1, 1, 1}}
	m.setEnergy(meter, nil)
	require.InDelta(t, 0.5, *m.Energy, 1e-12)
	require.Contains(t, m.EnergySource, "NVML")
	require.Empty(t, m.NoEnergy)

	used = 3 // the driver was loaded anew
	_, err = meter.joules()
	require.ErrorContains(t, err, "went back")
	failed = errors.New("GPU is lost")
	_, err = meter.joules()
	require.ErrorContains(t, err, "GPU is lost")
	failed = nil
	for uuid, text := range map[string]string{"GPU-old": "does not tell", "MIG-1": "slice"} {
		_, err = newCardMeter(uuid, read)
		require.ErrorContains(t, err, text)
	}
}

func TestPeakResidentSetIsRead(t *testing.T) {
	n, err := highWater([]byte("Name:\tx\nVmHWM:\t    1024 kB\nVmRSS:\t 1 kB\n"))
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), n)
	for _, text := range []string{"", "VmHWM: 12 MB", "VmHWM: x kB", "VmHWM: -1 kB", "VmHWM: 99999999999999999999 kB"} {
		_, err := highWater([]byte(text))
		require.Error(t, err, text)
	}
	if runtime.GOOS == "linux" {
		resetPeak()
		require.Greater(t, peakResident(), int64(1<<20))
	}
}

func TestProcessorIsNamed(t *testing.T) {
	require.Equal(t, "Example 9000", cpuModel([]byte("processor\t: 0\nmodel name\t: Example 9000\nflags\t: a\n")))
	require.Empty(t, cpuModel([]byte("nothing")))
	require.Equal(t, "unknown processor (plan9/mips, 3 cores, 1.0 KiB)", Machine{OS: "plan9", Arch: "mips", Cores: 3, Memory: 1024}.String())
}
