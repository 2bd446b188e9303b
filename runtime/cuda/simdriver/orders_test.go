//go:build cuda && cudasim && linux

package simdriver_test

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"gorgonia.org/cu"

	"unirestorer/runtime/cuda/simdriver"
)

// A host program's own streams, memory and kernel.
type host struct {
	t    *testing.T
	axpy cu.Function
	x, y cu.DevicePtr
	a, b cu.Stream
}

func newHost(t *testing.T) *host {
	retain(t, 0)
	h := &host{t: t}
	h.axpy, _ = functions(t)
	h.x, h.y = upload(t, floats(1, 2)), upload(t, floats(10, 20))
	require.NoError(t, cu.Synchronize())
	h.a, h.b = stream(t), stream(t)
	return h
}

// add enqueues to += 1·from.
func (h *host) add(s cu.Stream, to, from cu.DevicePtr) {
	one, n := uint64(0x3f800000), uint64(2)
	// A fault of earlier work may show here.
	_ = h.axpy.Launch(1, 1, 1, 2, 1, 1, 0, s, []unsafe.Pointer{unsafe.Pointer(&to), unsafe.Pointer(&from), unsafe.Pointer(&one), unsafe.Pointer(&n)})
}

func (h *host) event() cu.Event {
	e, err := cu.MakeEvent(cu.DisableTiming)
	require.NoError(h.t, err)
	return e
}

// programs are what a host may do, with the beginning of what must be found; nothing for what is right.
var programs = map[string]struct {
	run   func(h *host)
	found string
	want  []byte // in y
}{
	"streams in no order": {run: func(h *host) {
		h.add(h.a, h.y, h.x)
		h.add(h.b, h.y, h.x)
	}, found: "nothing orders"},
	"an event between": {run: func(h *host) {
		e := h.event()
		h.add(h.a, h.x, h.x)
		require.NoError(h.t, e.Record(h.a))
		require.NoError(h.t, h.b.Wait(e, 0))
		require.NoError(h.t, cu.DestroyEvent(&e)) // which the wait has taken already
		h.add(h.b, h.y, h.x)
	}, want: floats(12, 24)},
	"a wait before the record": {run: func(h *host) {
		e := h.event()
		require.NoError(h.t, h.b.Wait(e, 0)) // for nothing
		h.add(h.a, h.x, h.x)
		require.NoError(h.t, e.Record(h.a))
		h.add(h.b, h.y, h.x)
	}, found: "nothing orders"},
	"an event recorded again": {run: func(h *host) {
		e := h.event()
		require.NoError(h.t, e.Record(h.a))
		require.NoError(h.t, h.b.Wait(e, 0)) // for the first record only
		h.add(h.a, h.x, h.x)
		require.NoError(h.t, e.Record(h.a))
		h.add(h.b, h.y, h.x)
	}, found: "nothing orders"},
	"the default stream and one that does not block": {run: func(h *host) {
		h.add(cu.NoStream, h.x, h.x)
		h.add(h.a, h.y, h.x)
	}, found: "nothing orders"},
	"the default stream and one that blocks": {run: func(h *host) {
		s, err := cu.MakeStream(cu.DefaultStream)
		require.NoError(h.t, err)
		h.add(s, h.x, h.x)
		h.add(cu.NoStream, h.y, h.x)
		h.add(s, h.y, h.x)
		require.NoError(h.t, s.Synchronize())
		require.NoError(h.t, s.Destroy())
	}, want: floats(14, 28)},
	"memory freed under a kernel": {run: func(h *host) {
		p, err := cu.MemAlloc(8)
		require.NoError(h.t, err)
		require.NoError(h.t, cu.MemcpyHtoD(p, unsafe.Pointer(&floats(1, 1)[0]), 8))
		require.NoError(h.t, cu.Synchronize())
		h.add(h.a, h.y, p)
		_ = cu.MemFree(p)
	}, found: "freed"},
}

// TestHostProgramsInEveryOrder runs each program in a process of its own, in orders of enqueued work that a card may choose.
func TestHostProgramsInEveryOrder(t *testing.T) {
	const variable = "SIMDRIVER_TEST_PROGRAM"
	if name := os.Getenv(variable); name != "" {
		runtime.LockOSThread()
		h := newHost(t)
		p := programs[name]
		p.run(h)
		err := cu.Synchronize()
		if p.found == "" {
			require.NoError(t, err)
			require.Equal(t, p.want, download(t, h.y, 8))
			require.Empty(t, simdriver.Findings())
			return
		}
		require.Error(t, err)
		_, err = cu.MemAlloc(16)
		require.Error(t, err, "a fault stays")
		require.NotEmpty(t, simdriver.Findings())
		t.Logf("found: %v", simdriver.Findings())
		return
	}
	orders := []string{"late", "early", "reverse", "1", "2"}
	if testing.Short() {
		orders = []string{"late", "2"}
	}
	for name, p := range programs {
		for _, order := range orders {
			cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
			cmd.Env = append(os.Environ(), variable+"="+name, "CUDASIM_ORDER="+order)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s, order %s: %s", name, order, out)
			require.True(t, p.found == "" || strings.Contains(string(out), p.found), "%s, order %s: wanted %q in %s", name, order, p.found, out)
		}
	}
}
