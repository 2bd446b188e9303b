package ptxsim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// Aliases of functions, vector variables, managed variables and the system's shared memory, which compilers write rarely.
const rare = `.version 8.4
.target sm_80
.address_size 64
.global .align 16 .v4 .f32 four = {1.0, 2.0, 3.0, 4.0};
.global .v2 .u32 pairs[3] = {{1, 2}, {3, 4}, {5, 6}};
.global .attribute(.managed) .align 4 .u32 seen;
.func (.reg .u32 r) twice(.reg .u32 a) { add.u32 r, a, a; ret; }
.func (.reg .u32 r) double(.reg .u32 a);
.alias double, twice;
.visible .entry rare(.param .u64 y) {
	.reg .b32 %r<9>;
	.reg .f32 %f<5>;
	.reg .b64 %rd<3>;
	ld.param.u64 %rd1, [y];
	ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [four];
	add.f32 %f1, %f1, %f4;
	cvt.rzi.u32.f32 %r1, %f1;
	st.global.u32 [%rd1], %r1;
	ld.global.v2.u32 {%r2, %r3}, [pairs+16];
	call (%r4), double, (%r3);
	st.global.u32 [%rd1+4], %r4;
	mov.u32 %r5, %reserved_smem_offset_1;
	ld.shared.u32 %r6, [%r5];
	add.u32 %r6, %r6, %r2;
	st.global.u32 [%rd1+8], %r6;
	ld.global.u32 %r7, [seen];
	st.global.u32 [%rd1+12], %r7;
	ret;
}`

func TestRareDeclarations(t *testing.T) {
	r := newRig(t, ptxsim.Options{}, "rare", []byte(rare))
	var a device.Args
	require.NoError(t, r.launch("rare", device.D1(1), device.D1(1), 0, a.Buf(r.alloc(16))))
	require.Equal(t, []uint32{5, 12, 5, 0}, fromWords[uint32](r.bytes(r.last)))
}
