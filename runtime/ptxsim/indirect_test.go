package ptxsim_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

func TestCallsByAddressReachTheirFunctions(t *testing.T) {
	for _, seed := range seeds {
		r := newRig(t, ptxsim.Options{Seed: seed}, "indirect", sample(t, "indirect.ptx"))
		const n = 128
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i) + 0.5
		}
		bx, by := r.upload(words(x)), r.alloc(4*n)
		run := func(kernel string, args *device.Args, want func(i int) float32) {
			t.Helper()
			require.NoError(t, r.launch(kernel, device.D1(1), device.D1(n), 0, args))
			for i, got := range fromWords[float32](r.bytes(by)) {
				require.InDelta(t, want(i), got, 1e-3, "%s, thread %d", kernel, i)
			}
		}
		run("by_table", new(device.Args).Buf(bx).Buf(by).I32(n), func(i int) float32 {
			return 2 * ([]float32{2 * x[i], x[i] * x[i], x[i] / 3}[i%3] + 1)
		})
		where := r.alloc(8)
		for i, want := range []func(float32) float32{func(v float32) float32 { return 2 * v }, func(v float32) float32 { return v * v }} {
			require.NoError(t, r.launch("address_of", device.D1(1), device.D1(1), 0, new(device.Args).Buf(where).I32(int32(i))))
			f := binary.LittleEndian.Uint64(r.bytes(where))
			run("by_argument", new(device.Args).Buf(bx).Buf(by).I64(int64(f)), func(i int) float32 { return want(x[i]) })
		}
		run("methods", new(device.Args).Buf(bx).Buf(by), func(i int) float32 {
			if i%2 == 1 {
				return 2 * x[i] * x[i]
			}
			return 6*x[i]*x[i] + 1
		})
		run("meet", new(device.Args).Buf(bx).Buf(by), func(i int) float32 { return x[n-1-i] })
	}
}

func TestCallsOfWhatIsNoSuchFunctionAreFindings(t *testing.T) {
	for kernel, want := range map[string]string{
		"nowhere":   "is not the address of a function",
		"mismatch":  "is not the address of a function",
		"recursive": "function _Z4downf calls itself",
	} {
		r := newRig(t, ptxsim.Options{}, "indirect", sample(t, "indirect.ptx"))
		err := r.launch(kernel, device.D1(1), device.D1(32), 0, new(device.Args).Buf(r.upload(words(make([]float32, 32)))).Buf(r.alloc(128)))
		if kernel == "recursive" {
			require.NoError(t, err, "nobody goes down")
			one := r.upload(words([]float32{31: 1}))
			err = r.launch(kernel, device.D1(1), device.D1(32), 0, new(device.Args).Buf(one).Buf(r.alloc(128)))
		}
		var found *ptxsim.FindingsError
		require.ErrorAs(t, err, &found, kernel)
		require.Equal(t, ptxsim.InvalidCall, found.Findings[0].Kind)
		require.ErrorContains(t, err, want)
	}
}

func TestTargetsOfCallsAreCheckedWhenTheKernelIsLaunched(t *testing.T) {
	dev, err := ptxsim.New(ptxsim.Options{})
	require.NoError(t, err)
	const head = ".version 8.4\n.target sm_80\n.address_size 64\n.func f(.param .b32 a) { ret; }\n.func g(.reg .b32 a) { ret; }\n" +
		".entry k() {\n.reg .b64 %d<4>;\n.param .b32 p;\n.param .b64 q;\nmov.u64 %d1, f;\n"
	for body, want := range map[string]string{
		"call %d1, (p);":          "has no prototype",
		"call %d1, (p), nothing;": "unknown prototype or list of targets nothing",
		"t: .callprototype _ (.param .b64 _);\ncall %d1, (p, q), t;": "has other operands than its prototype t",
		"t: .calltargets f, h;\ncall %d1, (p), t;":                   "unknown function h",
		"t: .calltargets g;\ncall %d1, (p), t;":                      "parameters in registers",
		"t: .calltargets f;\ncall %d1, (p, q), t;":                   "call with 2 operands for 1",
	} {
		require.ErrorContains(t, refusal(t, dev, head+body+"\nret;\n}\n"), want, body)
	}
	_, err = dev.LoadModule("m", []byte(head+"t: .callprototype (.param .b32 _) f;\nret;\n}\n"))
	require.ErrorContains(t, err, "in a prototype")
}
