package ptxsim_test

import (
	"context"
	"errors"
	"fmt"

	"unirestorer/runtime/device"
	"unirestorer/runtime/ptxsim"
)

// A kernel that writes one element too many.
const squares = `
.version 8.4
.target sm_80
.address_size 64
.visible .entry squares(.param .u64 out, .param .u32 n)
{
	.reg .pred %p<2>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<4>;
	ld.param.u64 %rd1, [out];
	ld.param.u32 %r2, [n];
	mov.u32 %r1, %tid.x;
	setp.gt.u32 %p1, %r1, %r2;
	@%p1 ret;
	mul.lo.u32 %r3, %r1, %r1;
	mul.wide.u32 %rd2, %r1, 4;
	add.u64 %rd3, %rd1, %rd2;
	st.global.u32 [%rd3], %r3;
	ret;
}
`

func Example() {
	dev, err := ptxsim.New(ptxsim.Options{})
	if err != nil {
		panic(err)
	}
	defer dev.Close()
	mod, err := dev.LoadModule("squares", []byte(squares))
	if err != nil {
		panic(err)
	}
	kernel, _ := mod.Function("squares")
	stream, _ := dev.NewStream()
	out, _ := dev.Alloc(4 * 20)

	var args device.Args
	args.Buf(out).U32(20)
	err = stream.Launch(context.Background(), kernel, device.Shape{Grid: device.D1(1), Block: device.D1(32)}, &args)

	var found *ptxsim.FindingsError
	if errors.As(err, &found) {
		f := found.Findings[0]
		fmt.Printf("%s at line %d by thread %v: %s\n", f.Kind, f.Line, f.Thread, f.Detail)
	}
	// Output: out-of-bounds access at line 18 by thread (20,0,0): 0 bytes past the end of buffer at 0x7f0000000000 of 80 bytes
}
