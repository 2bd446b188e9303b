package profile

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
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
	m := newEnergyMeter(root)
	require.Len(t, m.packages, 2, "packages, neither their parts nor the platform")
	put("intel-rapl:0", "energy_uj", "950000\n")
	put("intel-rapl:1", "energy_uj", "100000\n") // went round
	j, ok := m.joules()
	require.True(t, ok)
	require.InDelta(t, 0.05+0.2, j, 1e-9)
	j, ok = m.joules()
	require.True(t, ok)
	require.Zero(t, j)
	require.NoError(t, os.Remove(filepath.Join(root, "intel-rapl:1", "energy_uj")))
	_, ok = m.joules()
	require.False(t, ok)
}

func TestMachinesWithoutEnergyCountersTellNothing(t *testing.T) {
	require.Nil(t, newEnergyMeter(t.TempDir()))
	_, ok := newEnergyMeter(filepath.Join(t.TempDir(), "nothing")).joules()
	require.False(t, ok)
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
