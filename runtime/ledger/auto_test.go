package ledger

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func files(kv ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = &fstest.MapFile{Data: []byte(kv[i+1])}
	}
	return m
}

func TestControlGroupsBoundTheMemory(t *testing.T) {
	const v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1Mount = "36 30 0:31 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
	for name, c := range map[string]struct {
		fs    fstest.MapFS
		limit int64 // 0 for none
	}{
		"v2, the process's own group": {files(
			"proc/self/cgroup", "0::/user.slice/job.scope\n", "proc/self/mountinfo", v2Mount,
			"sys/fs/cgroup/user.slice/memory.max", "max\n", "sys/fs/cgroup/user.slice/job.scope/memory.max", "419430400\n"), 400 << 20},
		"v2, a group around it is stricter": {files(
			"proc/self/cgroup", "0::/user.slice/job.scope\n", "proc/self/mountinfo", v2Mount,
			"sys/fs/cgroup/user.slice/memory.max", "209715200\n", "sys/fs/cgroup/user.slice/job.scope/memory.max", "419430400\n"), 200 << 20},
		"v2, memory.high throttles before the limit": {files(
			"proc/self/cgroup", "0::/a\n", "proc/self/mountinfo", v2Mount,
			"sys/fs/cgroup/a/memory.max", "419430400\n", "sys/fs/cgroup/a/memory.high", "314572800\n"), 300 << 20},
		"v2 in a container, whose group is the mount": {files(
			"proc/self/cgroup", "0::/\n", "proc/self/mountinfo", v2Mount, "sys/fs/cgroup/memory.max", "419430400\n"), 400 << 20},
		"v2 in a container that shows the path from outside": {files(
			"proc/self/cgroup", "0::/docker/abc\n",
			"proc/self/mountinfo", "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			"sys/fs/cgroup/memory.max", "419430400\n"), 400 << 20},
		"v2 without a limit": {files(
			"proc/self/cgroup", "0::/a\n", "proc/self/mountinfo", v2Mount, "sys/fs/cgroup/a/memory.max", "max\n"), 0},
		"v1": {files(
			"proc/self/cgroup", "8:pids:/x\n4:memory:/work/job\n0::/\n", "proc/self/mountinfo", v1Mount,
			"sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n",
			"sys/fs/cgroup/memory/work/job/memory.limit_in_bytes", "419430400\n"), 400 << 20},
		"v1 without a limit": {files(
			"proc/self/cgroup", "4:cpu,memory:/a\n", "proc/self/mountinfo", v1Mount,
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"), 0},
		"hybrid, the memory controller in v1": {files(
			"proc/self/cgroup", "4:memory:/a\n0::/b\n", "proc/self/mountinfo", v1Mount+
				"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "104857600\n"), 100 << 20},
		"a mount with a space": {files(
			"proc/self/cgroup", "0::/a\n", "proc/self/mountinfo", `30 23 0:26 / /sys/my\040groups rw - cgroup2 cgroup2 rw`,
			"sys/my groups/a/memory.max", "104857600\n"), 100 << 20},
		"no control groups": {files(), 0},
		"nonsense":          {files("proc/self/cgroup", "::\n1\n0::/a", "proc/self/mountinfo", "- -\nx - cgroup2\n", "sys/fs/cgroup/a/memory.max", "many"), 0},
	} {
		limit, ok := cgroupLimit(c.fs)
		require.Equal(t, c.limit > 0, ok, name)
		require.Equal(t, c.limit, limit, name)
	}
}

func TestControlGroupsBoundTheProcessors(t *testing.T) {
	const v2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1Mount = "36 30 0:31 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
	for name, c := range map[string]struct {
		fs   fstest.MapFS
		want float64
	}{
		"v2, half a processor": {files("proc/self/cgroup", "0::/\n", "proc/self/mountinfo", v2Mount, "sys/fs/cgroup/cpu.max", "50000 100000\n"), 0.5},
		"v2, a group around it is stricter": {files("proc/self/cgroup", "0::/a/b\n", "proc/self/mountinfo", v2Mount,
			"sys/fs/cgroup/a/cpu.max", "150000 100000\n", "sys/fs/cgroup/a/b/cpu.max", "400000 100000\n"), 1.5},
		"v2 without a limit": {files("proc/self/cgroup", "0::/\n", "proc/self/mountinfo", v2Mount, "sys/fs/cgroup/cpu.max", "max 100000\n"), 0},
		"v1": {files("proc/self/cgroup", "4:cpu,cpuacct:/a\n", "proc/self/mountinfo", v1Mount,
			"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "200000\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"), 2},
		"v1 without a limit": {files("proc/self/cgroup", "4:cpu,cpuacct:/a\n", "proc/self/mountinfo", v1Mount,
			"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"), 0},
		"nonsense": {files("proc/self/cgroup", "0::/\n", "proc/self/mountinfo", v2Mount, "sys/fs/cgroup/cpu.max", "50000 0\n"), 0},
		"nothing":  {files(), 0},
	} {
		require.Equal(t, c.want, processors(c.fs), name)
	}
}

func TestAutoIsHalfOfWhatThereIs(t *testing.T) {
	require.Positive(t, Available())
	require.Equal(t, Available()/2, Auto())
}
