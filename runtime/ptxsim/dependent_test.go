package ptxsim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// dependentKernel is y[i] = x[i] + 1 with a hole before the load, before the store and at the end.
func dependentKernel(name, beforeLoad, beforeStore, atEnd string) string {
	return fmt.Sprintf(`
.visible .entry %s(.param .u64 y, .param .u64 x)
{
	.reg .b32 %%r<6>;
	.reg .b64 %%rd<6>;
	.reg .pred %%p<2>;
	ld.param.u64 %%rd1, [y];
	ld.param.u64 %%rd2, [x];
	mov.u32 %%r1, %%ctaid.x;
	mov.u32 %%r2, %%ntid.x;
	mov.u32 %%r3, %%tid.x;
	setp.ne.u32 %%p1, %%r3, 0;
	mad.lo.u32 %%r4, %%r1, %%r2, %%r3;
	mul.wide.u32 %%rd3, %%r4, 4;
	add.u64 %%rd4, %%rd1, %%rd3;
	add.u64 %%rd5, %%rd2, %%rd3;
	%s
	ld.global.u32 %%r5, [%%rd5];
	add.u32 %%r5, %%r5, 1;
	%s
	st.global.u32 [%%rd4], %%r5;
	%s
	ret;
}
`, name, beforeLoad, beforeStore, atEnd)
}

const (
	gridWait    = "griddepcontrol.wait;"
	gridTrigger = "griddepcontrol.launch_dependents;"
	// oneWaits has one thread wait and tells the others by a barrier.
	oneWaits = "@%p1 bra MEET; griddepcontrol.wait; MEET: bar.sync 0;"
)

var dependentKernels = ".version 8.4\n.target sm_90\n.address_size 64\n" +
	dependentKernel("plain", "", "", "") +
	dependentKernel("waits", gridWait, "", "") +
	dependentKernel("triggers", gridTrigger, "", "") +
	dependentKernel("triggers_then_waits", gridTrigger+gridWait, "", "") +
	dependentKernel("waits_then_triggers", gridWait+gridTrigger, "", "") +
	dependentKernel("waits_before_store", "", gridWait, "") +
	dependentKernel("waits_at_end", "", "", gridWait) +
	dependentKernel("one_waits", oneWaits, "", "") +
	dependentKernel("one_waits_alone", "@%p1 bra MEET; griddepcontrol.wait; MEET:", "", "")

// A step launches a kernel that reads one buffer and writes another.
type step struct {
	kernel string
	y, x   int
	plain  bool // launched as usual
}

func TestProgrammaticLaunchesMustWaitForWhatTheyTouch(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []step
		want  string // part of the last launch's finding; empty: none
	}{
		{"read after the wait", []step{{"triggers", 1, 0, true}, {"waits", 2, 1, false}}, ""},
		{"early trigger carries no visibility but is legal", []step{{"triggers", 1, 0, true}, {"triggers_then_waits", 2, 1, false}, {"waits", 3, 2, false}}, ""},
		{"read before the wait", []step{{"triggers", 1, 0, true}, {"waits_before_store", 2, 1, false}}, "reads, before griddepcontrol.wait, what thread"},
		{"the end of the kernel before makes nothing visible", []step{{"plain", 1, 0, true}, {"plain", 2, 1, false}}, "reads, before griddepcontrol.wait"},
		{"without the attribute the stream orders", []step{{"triggers", 1, 0, true}, {"plain", 2, 1, true}}, ""},
		{"reading what nobody writes may come early", []step{{"triggers", 1, 0, true}, {"waits_before_store", 2, 3, false}}, ""},
		{"arena reuse: writes what the kernel before still reads", []step{{"triggers", 1, 0, true}, {"waits_at_end", 0, 3, false}}, "writes, before griddepcontrol.wait, what thread"},
		{"arena reuse after the wait", []step{{"triggers", 1, 0, true}, {"waits_before_store", 0, 3, false}}, ""},
		{"a kernel that never triggers has read when its blocks end", []step{{"plain", 1, 0, true}, {"waits_at_end", 0, 3, false}}, ""},
		{"writes what the kernel before writes", []step{{"plain", 1, 0, true}, {"waits_at_end", 1, 3, false}}, "writes, before griddepcontrol.wait"},
		{"a grid that ends without waiting is overtaken", []step{{"triggers", 1, 0, true}, {"triggers", 2, 3, false}, {"waits", 4, 1, false}}, "kernel triggers between them ended without griddepcontrol.wait"},
		{"the same with a wait between", []step{{"triggers", 1, 0, true}, {"triggers_then_waits", 2, 3, false}, {"waits", 4, 1, false}}, ""},
		{"triggers before it waits: two kernels are under way", []step{{"triggers", 1, 0, true}, {"triggers_then_waits", 2, 3, false}, {"waits_before_store", 4, 1, false}}, "lets it reach while its own predecessor runs"},
		{"waits before it triggers: one is", []step{{"triggers", 1, 0, true}, {"waits_then_triggers", 2, 3, false}, {"waits_before_store", 4, 1, false}}, ""},
		{"one thread waits and a barrier tells the others", []step{{"triggers", 1, 0, true}, {"one_waits", 2, 1, false}}, ""},
		{"one thread waits and the others go on", []step{{"triggers", 1, 0, true}, {"one_waits_alone", 2, 1, false}}, "reads, before griddepcontrol.wait"},
	} {
		for _, captured := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/captured=%v", strings.ReplaceAll(c.name, " ", "_"), captured), func(t *testing.T) {
				r := newRig(t, ptxsim.Options{}, "dependent", []byte(dependentKernels))
				bufs := make([]device.Buffer, 5)
				for i := range bufs {
					bufs[i] = r.upload(make([]byte, 4*96*3))
				}
				if captured {
					require.NoError(t, r.str.BeginCapture())
				}
				var err error
				for i, s := range c.steps {
					f, ferr := r.mod.Function(s.kernel)
					require.NoError(t, ferr)
					shape := device.Shape{Grid: device.D1(3), Block: device.D1(96), Programmatic: !s.plain}
					err = r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(bufs[s.y]).Buf(bufs[s.x]))
					if i < len(c.steps)-1 {
						require.NoError(t, err)
					}
				}
				if captured {
					require.NoError(t, err)
					g, gerr := r.str.EndCapture()
					require.NoError(t, gerr)
					e, gerr := g.Instantiate()
					require.NoError(t, gerr)
					err = e.Launch(context.Background(), r.str)
				}
				if c.want == "" {
					require.NoError(t, err)
					return
				}
				var found *ptxsim.FindingsError
				require.ErrorAs(t, err, &found)
				require.True(t, found.Has(ptxsim.DependentLaunch))
				require.ErrorContains(t, err, c.want)
			})
		}
	}
}

func TestProgrammaticLaunchesOfOlderDevicesAreOrdinary(t *testing.T) {
	ptx := strings.Replace(dependentKernels, "sm_90", "sm_80", 1)
	ptx = ptx[:strings.Index(ptx, ".visible .entry waits(")]
	r := newRig(t, ptxsim.Options{Arch: 80}, "dependent", []byte(ptx))
	x, y := r.upload(make([]byte, 128)), r.alloc(128)
	f, err := r.mod.Function("plain")
	require.NoError(t, err)
	shape := device.Shape{Grid: device.D1(1), Block: device.D1(32), Programmatic: true}
	require.NoError(t, r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(y).Buf(x)))
	require.NoError(t, r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(x).Buf(y)))
}

func TestACopyBetweenOrdersProgrammaticLaunches(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "dependent", []byte(dependentKernels))
	x, y, z := r.upload(make([]byte, 128)), r.alloc(128), r.alloc(128)
	f, err := r.mod.Function("plain")
	require.NoError(t, err)
	shape := device.Shape{Grid: device.D1(1), Block: device.D1(32), Programmatic: true}
	require.NoError(t, r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(y).Buf(x)))
	require.NoError(t, r.str.Memset(z, 0))
	require.NoError(t, r.str.Launch(context.Background(), f, shape, new(device.Args).Buf(z).Buf(y)))
}
