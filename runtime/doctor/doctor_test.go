package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/cuda"
	"unirestorer/runtime/cuda/nvml"
	"unirestorer/runtime/device"
	"unirestorer/runtime/platform"
	"unirestorer/runtime/verify"
)

func of[T any](v T) *T { return &v }

// machine is a made-up one in good order, and what a test changes of it.
type machine struct {
	system
	files fstest.MapFS
	env   map[string]string
}

func (m *machine) file(name, text string) { m.files[name] = &fstest.MapFile{Data: []byte(text)} }

func (m *machine) gpu() *cuda.Status  { return &m.Driver.GPUs[0] }
func (m *machine) managed() *nvml.GPU { return &m.NVML.GPUs[0] }

// another adds a GPU of another kind.
func (m *machine) another() {
	m.Driver.GPUs = append(m.Driver.GPUs, cuda.Status{Info: device.Info{Index: 1, Name: "B", UUID: "GPU-02", Major: 8, TotalMemory: 40 << 30}, GPU: "GPU-02"})
	m.NVML.GPUs = append(m.NVML.GPUs, nvml.GPU{Index: 1, UUID: "GPU-02", Memory: &nvml.Memory{Total: 40 << 30, Free: 40 << 30}})
}

func healthy() *machine {
	m := &machine{files: fstest.MapFS{}, env: map[string]string{"HOME": "/home/u"}}
	m.file("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.2.0\n")
	m.file("proc/version", "Linux version 6.1.0")
	m.file("dev/nvidiactl", "")
	m.file("dev/nvidia-uvm", "")
	m.system = system{
		OS: "linux", Arch: "amd64", Root: m.files, Env: func(name string) string { return m.env[name] },
		Usable: func(string) error { return nil }, Writable: func(string) error { return nil },
		Driver: cuda.Driver{Version: 12040, Library: "/usr/lib/libcuda.so.550.163.01", GPUs: []cuda.Status{{
			Info: device.Info{Name: "A", UUID: "GPU-01", Major: 9, TotalMemory: 80 << 30, SMs: 132}, GPU: "GPU-01",
		}}},
		NVML: nvml.System{Driver: "550.163.01", GPUs: []nvml.GPU{{
			Name: "A", UUID: "GPU-01", Memory: &nvml.Memory{Total: 80 << 30, Free: 79 << 30}, MIG: &nvml.Mode{}, ECC: &nvml.Mode{Current: true, Pending: true},
			ComputeMode: of[uint32](0), Uncorrected: of[uint64](0), RepairPending: of(false), RepairFailed: of(false), Throttle: of[uint64](1),
			Temperature: of[uint32](40), PowerLimit: of[uint32](700e3), PowerDefault: of[uint32](700e3), Link: &nvml.Link{Width: 16, MaxWidth: 16, Generation: 1, MaxGeneration: 5},
		}}},
		Free: map[int]int64{}, Target: "sm_80", PTX: "8.4", Instructions: "avx512", Cores: 8, Threads: 8, Memory: 64 << 30, Allowed: 64 << 30,
	}
	return m
}

// withoutDriver makes the machine one whose driver cannot be loaded.
func withoutDriver(m *machine) {
	m.Driver = cuda.Driver{}
	m.DriverErr = fmt.Errorf("%w: libcuda.so.1: cannot open shared object file: No such file or directory; install the NVIDIA driver", cuda.ErrNoDevice)
	m.NVML, m.NVMLErr = nvml.System{}, errors.New("nvml: libnvidia-ml.so.1: cannot open shared object file")
	delete(m.files, "proc/driver/nvidia/version")
}

func withoutCUDA(m *machine) {
	withoutDriver(m)
	m.DriverErr = cuda.ErrNotBuilt
}

// faults is every fault that is told, with what is said and what to do.
var faults = []struct {
	name           string
	change         func(m *machine)
	subject, check string
	level          Level
	text, do       string
}{
	{"plain build", withoutCUDA, "program", "cuda", Warning, "built without CUDA, linux/amd64", "release"},
	{"plain build beside a GPU", func(m *machine) {
		withoutCUDA(m)
		m.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
		m.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
	}, "program", "cuda", Fault, "built without CUDA", "release"},
	{"plain build where a GPU is wanted", func(m *machine) { withoutCUDA(m); m.NeedGPU = true }, "program", "cuda", Fault, "built without CUDA", "-tags cuda"},
	{"Windows", func(m *machine) { withoutCUDA(m); m.OS = "windows" }, "program", "cuda", Warning, "windows/amd64", "WSL 2"},

	{"no driver, no GPU", withoutDriver, "driver", "library", Warning, "run on the CPU", "install the NVIDIA driver"},
	{"no driver, a sound card of NVIDIA's", func(m *machine) {
		withoutDriver(m)
		m.file("sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n")
		m.file("sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n")
	}, "driver", "library", Warning, "run on the CPU", "install the NVIDIA driver"},
	{"no driver for a GPU", func(m *machine) {
		withoutDriver(m)
		m.file("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
		m.file("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
	}, "driver", "library", Fault, "libcuda.so.1: cannot open", "docker run --gpus all"},
	{"no driver where a GPU is wanted", func(m *machine) { withoutDriver(m); m.NeedGPU = true }, "driver", "library", Fault, "cannot open", "install"},
	{"WSL's library not on the path", func(m *machine) {
		withoutDriver(m)
		m.file("proc/version", "Linux version 5.15.0-microsoft-standard-WSL2")
		m.file("usr/lib/wsl/lib/libcuda.so.1", "")
	}, "driver", "library", Fault, "/usr/lib/wsl/lib/libcuda.so.1 is there", "LD_LIBRARY_PATH=/usr/lib/wsl/lib"},
	{"Jetson's library not on the path", func(m *machine) {
		withoutDriver(m)
		m.file("etc/nv_tegra_release", "R36")
		m.file("usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1", "")
	}, "driver", "library", Fault, "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1 is there", "ldconfig"},
	{"WSL without a driver", func(m *machine) {
		withoutDriver(m)
		m.file("proc/version", "Linux version 5.15.0-microsoft-standard-WSL2")
		m.file("dev/dxg", "")
		m.file("usr/lib/wsl/lib/d3d12.so", "")
	}, "driver", "library", Fault, "cannot open", "on Windows"},
	{"Jetson without CUDA", func(m *machine) { withoutDriver(m); m.file("etc/nv_tegra_release", "R36") }, "driver", "library", Fault, "cannot open", "nvidia-l4t-cuda"},
	{"WSL 1", func(m *machine) { m.file("proc/version", "Linux version 4.4.0-Microsoft") }, "driver", "devices", Fault, "/dev/dxg is missing", "wsl --update"},
	{"no module", func(m *machine) { delete(m.files, "proc/driver/nvidia/version") }, "driver", "module", Fault, "not loaded", "modprobe nvidia"},
	{"module of another release", func(m *machine) { m.NVML.Driver = "570.10" }, "driver", "module", Fault, "release 550.163.01, the library is of 570.10", "reboot"},
	{"devices missing", func(m *machine) { delete(m.files, "dev/nvidia-uvm") }, "driver", "devices", Fault, "missing: /dev/nvidia-uvm", "nvidia-modprobe"},
	{"devices forbidden", func(m *machine) { m.Usable = func(string) error { return fs.ErrPermission } }, "driver", "devices", Fault, "no permission: /dev/nvidiactl, /dev/nvidia-uvm", "group"},
	{"old driver", func(m *machine) { m.Driver.Version = 11080 }, "driver", "version", Fault, "for CUDA 11.8; the kernels need 12.4", "release 550"},
	{"driver does not start", func(m *machine) { m.DriverErr = fmt.Errorf("%w: reason", cuda.ErrNoDevice) }, "driver", "start", Fault, "reason", "nvidia-smi"},
	{"no NVML", func(m *machine) { m.NVMLErr = errors.New("gone") }, "driver", "nvml", Warning, "gone", "utility"},

	{"hidden GPUs", func(m *machine) {
		m.another()
		m.Driver.GPUs = m.Driver.GPUs[1:]
		m.env["CUDA_VISIBLE_DEVICES"] = "1"
	}, "environment", "visible", OK, "CUDA_VISIBLE_DEVICES=1 shows 1 of 2", ""},
	{"all hidden", func(m *machine) { m.env["CUDA_VISIBLE_DEVICES"] = "-1"; m.Driver.GPUs = nil }, "environment", "visible", Fault, "shows none", `"-1"`},
	{"a number too high", func(m *machine) { m.env["CUDA_VISIBLE_DEVICES"] = "0,3,1" }, "environment", "visible", Warning, "only the first 1", `"3"`},
	{"an unknown UUID", func(m *machine) { m.env["CUDA_VISIBLE_DEVICES"] = "GPU-01,GPU-9" }, "environment", "visible", Warning, "only the first 1", `"GPU-9"`},
	{"order of unlike GPUs", func(m *machine) { m.another() }, "environment", "visible", Warning, "fastest first", "PCI_BUS_ID"},

	{"no compilation", func(m *machine) { m.env["CUDA_DISABLE_PTX_JIT"] = "1" }, "kernels", "code", Fault, "CUDA_DISABLE_PTX_JIT=1 forbids", "unset"},
	{"cache off", func(m *machine) { m.env["CUDA_CACHE_DISABLE"] = "1" }, "kernels", "cache", Warning, "CUDA_CACHE_DISABLE=1; every start", "unset"},
	{"cache read-only", func(m *machine) { m.Writable = func(string) error { return fs.ErrPermission } }, "kernels", "cache", Warning, "/home/u/.nv/ComputeCache: permission denied", "CUDA_CACHE_PATH"},
	{"no home", func(m *machine) { delete(m.env, "HOME") }, "kernels", "cache", Warning, "neither CUDA_CACHE_PATH nor HOME", "CUDA_CACHE_PATH"},

	{"old GPU", func(m *machine) { m.gpu().Major, m.gpu().Minor = 7, 5 }, "cuda:0", "capability", Fault, "A has compute capability 7.5; the kernels need 8.0", "--device cpu"},
	{"memory taken", func(m *machine) {
		m.managed().Memory.Free = 1 << 30
		m.managed().Processes = []nvml.Process{{PID: 42, Name: "/usr/bin/python3", Bytes: 78 << 30}, {PID: 43}}
	}, "cuda:0", "memory", Warning, "1.0 GiB of 80 GiB free; held by 42 (python3) 78 GiB, 43", "end what holds it"},
	{"memory taken, seen without NVML", func(m *machine) { m.managed().Memory = nil; m.Free[0] = 1 << 20 }, "cuda:0", "memory", Warning, "1.0 MiB of 80 GiB free", "end what"},
	{"memory unknown", func(m *machine) { m.managed().Memory = nil }, "cuda:0", "memory", Warning, "not known", "could not be opened"},
	{"prohibited", func(m *machine) { m.managed().ComputeMode = of[uint32](2) }, "cuda:0", "mode", Fault, "prohibited", "-c DEFAULT"},
	{"prohibited, seen without NVML", func(m *machine) { m.managed().ComputeMode, m.gpu().ComputeMode = nil, 2 }, "cuda:0", "mode", Fault, "prohibited", "-c DEFAULT"},
	{"exclusive and held", func(m *machine) {
		m.managed().ComputeMode, m.managed().Processes = of[uint32](3), []nvml.Process{{PID: 42}}
	}, "cuda:0", "mode", Fault, "process 42 has the GPU", "end that process"},
	{"exclusive", func(m *machine) { m.managed().ComputeMode = of[uint32](3) }, "cuda:0", "mode", Warning, "one process at a time", "-c DEFAULT"},
	{"MPS", func(m *machine) { m.managed().Processes = []nvml.Process{{PID: 9, MPS: true}} }, "cuda:0", "mps", Warning, "in use", "a fault of any client"},
	{"MPS that does not answer", func(m *machine) { m.env["CUDA_MPS_PIPE_DIRECTORY"] = "/run/mps" }, "cuda:0", "mps", Fault, "no service answers", "nvidia-cuda-mps-control"},
	{"MIG about to change", func(m *machine) { m.managed().MIG.Pending = true }, "cuda:0", "mig", Warning, "next reset", "--gpu-reset"},
	{"MIG without a slice", func(m *machine) { m.managed().MIG = &nvml.Mode{Current: true, Pending: true} }, "cuda:0", "mig", Fault, "this is no slice", "cuda:MIG-"},
	{"a slice", func(m *machine) {
		m.managed().MIG = &nvml.Mode{Current: true, Pending: true}
		m.gpu().MIG, m.gpu().UUID, m.Free[0] = true, "MIG-05", 9<<30
	}, "cuda:0", "mig", OK, "a slice of GPU-01: 132 multiprocessors", ""},
	{"memory errors", func(m *machine) { m.managed().Uncorrected = of[uint64](3) }, "cuda:0", "ecc", Fault, "3 uncorrectable", "replaced"},
	{"protection about to change", func(m *machine) { m.managed().ECC.Pending = false }, "cuda:0", "ecc", Warning, "next reset", "reboot"},
	{"bad memory waits", func(m *machine) { m.managed().RepairPending = of(true) }, "cuda:0", "repair", Warning, "retired at the next reset", "--gpu-reset"},
	{"bad memory stays", func(m *machine) { m.managed().RepairFailed = of(true) }, "cuda:0", "repair", Fault, "could not be remapped", "replaced"},
	{"hot", func(m *machine) { m.managed().Throttle, m.managed().Temperature = of[uint64](0x68), of[uint32](91) }, "cuda:0", "clocks", Warning, "held down by heat, hardware slowdown, 91 °C", "cooling"},
	{"at the power limit", func(m *machine) { m.managed().Throttle = of[uint64](4) }, "cuda:0", "clocks", Warning, "the power limit", "nvidia-smi -q"},
	{"power lowered", func(m *machine) { m.managed().PowerLimit = of[uint32](300e3) }, "cuda:0", "power", Warning, "limited to 300 W of 700 W", "-pl 700"},
	{"narrow slot", func(m *machine) { m.managed().Link.Width = 4 }, "cuda:0", "pcie", Warning, "4 of 16 lanes: copies take up to 4 times", "reseat"},
	{"display", func(m *machine) { m.gpu().Watchdog = true }, "cuda:0", "watchdog", Warning, "ends kernels", "without a display"},
	{"lost", func(m *machine) { m.NVML.GPUs = append(m.NVML.GPUs, nvml.GPU{Index: 1, Error: "GPU is lost"}) }, "GPU 1", "health", Fault, "GPU is lost", "Xid"},

	{"WSL in order", func(m *machine) {
		m.file("proc/version", "Linux version 5.15.0-microsoft-standard-WSL2")
		m.file("dev/dxg", "")
	}, "driver", "devices", OK, "/dev/dxg, by way of Windows", ""},
	{"unlike GPUs counted as nvidia-smi does", func(m *machine) { m.another(); m.env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID" }, "environment", "visible", OK, "not set", ""},
	{"an empty entry", func(m *machine) { m.env["CUDA_VISIBLE_DEVICES"] = "0,,1"; m.NVMLErr = errors.New("gone") }, "environment", "visible", Warning, "only the first 1", "(empty)"},
	{"no word from NVML", func(m *machine) { m.NVML, m.NVMLErr, m.Free[0] = nvml.System{}, errors.New("gone"), 70<<30 }, "cuda:0", "memory", OK, "70 GiB of 80 GiB free", ""},
	{"shared memory", func(m *machine) { m.gpu().Integrated = true }, "cuda:0", "capability", OK, "shares the host's memory", ""},
	{"MPS that waits for clients", func(m *machine) { m.env["CUDA_MPS_PIPE_DIRECTORY"] = "/run/mps"; m.file("run/mps/control", "") }, "cuda:0", "mps", OK, "starts with the first client", ""},
	{"no protection", func(m *machine) { m.managed().ECC = &nvml.Mode{} }, "cuda:0", "ecc", OK, "not protected", ""},

	{"no AVX2", func(m *machine) { m.Instructions = "generic" }, "cpu", "instructions", Warning, "no AVX2", "-cpu host"},
	{"another processor", func(m *machine) { m.Instructions, m.Arch = "generic", "arm64" }, "cpu", "instructions", Warning, "plain Go on arm64", "use a GPU"},
	{"few cores allowed", func(m *machine) { m.Threads = 2 }, "cpu", "cores", Warning, "2 of 8 may be used", "cpu.max"},
	{"little memory allowed", func(m *machine) { m.Allowed = 512 << 20 }, "host", "memory", Warning, "512 MiB may be used of 64 GiB", "--memory"},
	{"memory bounded", func(m *machine) { m.Allowed = 16 << 30 }, "host", "memory", OK, "a control group allows 16 GiB of 64 GiB", ""},
}

func find(t *testing.T, r Report, subject, check string) Line {
	for _, l := range r.Lines {
		if l.Subject == subject && l.Check == check {
			return l
		}
	}
	require.Fail(t, "no such line", "%s %s in %+v", subject, check, r.Lines)
	return Line{}
}

func TestMachineInGoodOrder(t *testing.T) {
	r := judge(healthy().system)
	for _, l := range r.Lines {
		require.Equal(t, OK, l.Level, "%+v", l)
		require.Empty(t, l.Do, "%+v", l)
	}
	require.Equal(t, OK, r.Worst())
	require.Equal(t, "driver", r.Lines[1].Subject)
	require.Contains(t, find(t, r, "cuda:0", "memory").Text, "79 GiB of 80 GiB free")
}

func TestFaultsAreToldWithWhatToDo(t *testing.T) {
	for _, f := range faults {
		m := healthy()
		f.change(m)
		l := find(t, judge(m.system), f.subject, f.check)
		require.Equal(t, f.level, l.Level, "%s: %+v", f.name, l)
		require.Contains(t, l.Text, f.text, f.name)
		require.Contains(t, l.Do, f.do, f.name)
		require.Equal(t, f.level == OK, l.Do == "", f.name)
	}
}

// Whatever line some machine gets, one is tested where it is right and one where it is not.
func TestEveryLineIsTestedWithAFaultAndWithout(t *testing.T) {
	type line struct {
		subject, check string
		right          bool
	}
	tested := map[line]bool{{"GPU 1", "health", true}: true} // there is no such line for a GPU in good health
	for _, l := range judge(healthy().system).Lines {
		tested[line{l.Subject, l.Check, true}] = true
	}
	for _, f := range faults {
		tested[line{f.subject, f.check, f.level == OK}] = true
	}
	for _, f := range faults {
		m := healthy()
		f.change(m)
		for _, l := range judge(m.system).Lines {
			subject := strings.Replace(l.Subject, "cuda:1", "cuda:0", 1)
			require.True(t, tested[line{subject, l.Check, true}], "%s %s is not tested without a fault", l.Subject, l.Check)
			require.True(t, tested[line{subject, l.Check, false}], "%s %s is not tested with a fault", l.Subject, l.Check)
		}
	}
}

// A Jetson's driver is part of the system: there is no module to look for.
func TestJetsonInOrder(t *testing.T) {
	m := healthy()
	m.file("etc/nv_tegra_release", "R36")
	delete(m.files, "proc/driver/nvidia/version")
	r := judge(m.system)
	require.Equal(t, OK, r.Worst())
	for _, l := range r.Lines {
		require.NotContains(t, []string{"module", "devices"}, l.Check)
	}
}

func TestSelfTestOfADeviceThatDoesNotOpen(t *testing.T) {
	if _, err := cuda.List(); err == nil {
		t.Skip("there is a GPU")
	}
	s, err := read(t.Context())
	require.NoError(t, err)
	for _, device := range []string{"cuda", "cuda:all"} {
		lines, err := selfTests(t.Context(), s, device)
		require.NoError(t, err)
		require.Len(t, lines, 1, device)
		require.Equal(t, Fault, lines[0].Level)
		require.Equal(t, "self test", lines[0].Check)
		require.NotEmpty(t, lines[0].Do)
	}
	lines, err := selfTests(t.Context(), s, "")
	require.NoError(t, err)
	require.Equal(t, "cpu", lines[0].Subject)
	require.Equal(t, OK, lines[0].Level)
}

func TestSelfTestRunsAGoldenNetwork(t *testing.T) {
	s, err := read(context.Background())
	require.NoError(t, err)
	lines, err := selfTests(context.Background(), s, "cpu")
	require.NoError(t, err)
	require.Equal(t, OK, lines[0].Level, "%+v", lines[0])
	require.Positive(t, lines[0].Seconds)
	_, err = selfTests(context.Background(), s, "gpu")
	require.ErrorIs(t, err, platform.ErrUnknownDevice)

	wrong := judgeTest("cuda:0", &verify.Report{Checks: []verify.Check{{Name: "y0", OK: true, PSNR: 70}, {Name: "y1", PSNR: 12}}})
	require.Equal(t, Fault, wrong.Level)
	require.Contains(t, wrong.Text, "y1")
	require.Contains(t, wrong.Do, "do not use")
}

func TestSelfTestThatHangsIsToldOf(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = time.Millisecond
	release := make(chan struct{})
	defer close(release)
	l, err := inTime(context.Background(), "cuda:0", func(context.Context, string) (Line, error) { <-release; return Line{}, nil })
	require.NoError(t, err)
	require.Equal(t, Fault, l.Level)
	require.Contains(t, l.Text, "a kernel hangs")
	l, err = inTime(context.Background(), "cuda:0", func(context.Context, string) (Line, error) { return ok("cuda:0", "self test", "right"), nil })
	require.NoError(t, err)
	require.Equal(t, OK, l.Level)
}

func TestGoldenIsTheOneOfTheTests(t *testing.T) {
	names, err := fs.Glob(golden, "golden/*")
	require.NoError(t, err)
	require.Len(t, names, 4)
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join("../../testdata/goldens/restormer_biasfree", filepath.Base(name)))
		require.NoError(t, err)
		got, err := golden.ReadFile(name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
	}
}

func TestReportInBothForms(t *testing.T) {
	m := healthy()
	m.Driver.Version = 11080
	r := judge(m.system)
	require.Equal(t, Fault, r.Worst())
	var text bytes.Buffer
	require.NoError(t, r.WriteText(&text))
	require.Regexp(t, `(?m)^fault +driver +version +for CUDA 11\.8`, text.String())
	require.Regexp(t, `(?m)^ +→ update the NVIDIA driver`, text.String())
	b, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(b), `{"subject":"driver","check":"version","level":"fault"`)
}

func TestThisMachineCanBeExamined(t *testing.T) {
	r, err := Run(context.Background(), Options{NoTest: true})
	require.NoError(t, err)
	require.NotEmpty(t, find(t, r, "cpu", "instructions").Text)
	_, err = read(cancelled())
	require.ErrorIs(t, err, context.Canceled)
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestWritableLooksAtTheNearestFolder(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writable(filepath.Join(dir, "not", "there")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.Error(t, writable(filepath.Join(dir, "file")))
}
