package kernels

import (
	"unirestorer/kernels/abi"
)

// RouteOptions describes a router's tree and where its gates lie.
type RouteOptions struct {
	Leaves, Levels          int
	LeafPitch, LevelPitch   int  // values between the logits of consecutive images
	Single                  bool // logits are fp32, not fp16
	LeafLogits, LevelLogits abi.Buffer
	Override                abi.Buffer // fp32 [Leaves+1] an image, see graph.Route; the zero Buffer leaves all to the logits
	OverridePitch           int
	Experts                 abi.Buffer // int32 [Leaves][Levels]
	OutPitch                int        // values between consecutive decisions
}

const routeHead = 7

// RouteValues is the length of the decision that Route writes for an image.
func RouteValues(leaves, levels int) int { return routeHead + leaves + levels }

// Route turns the router's gates into decisions for n images, RouteValues fp32 numbers each in the order of graph.Route. The
// most probable leaf and level are chosen, the first of equals, as the host does.
func Route(n int, opt RouteOptions, out abi.Buffer) (Launch, error) {
	p := &problems{kernel: "router_f16"}
	elem := 2
	if opt.Single {
		p.kernel, elem = "router_f32", 4
	}
	values := RouteValues(opt.Leaves, opt.Levels)
	p.positive("images", n)
	p.positive("leaves and levels", opt.Leaves, opt.Levels)
	if opt.Leaves > opt.LeafPitch || opt.Levels > opt.LevelPitch || values > opt.OutPitch {
		p.addf("%d leaves and %d levels in rows of %d, %d and %d", opt.Leaves, opt.Levels, opt.LeafPitch, opt.LevelPitch, opt.OutPitch)
	}
	if !opt.Override.IsZero() && opt.Leaves >= opt.OverridePitch {
		p.addf("%d leaves and a level in rows of %d", opt.Leaves, opt.OverridePitch)
	}
	shared := 8 * (opt.Leaves + opt.Levels)
	if shared > defaultShared {
		p.addf("%d leaves and %d levels are too many", opt.Leaves, opt.Levels)
	}
	if p.err == nil {
		p.fits("leaf logits", opt.LeafLogits, (n-1)*opt.LeafPitch+opt.Leaves, elem)
		p.fits("level logits", opt.LevelLogits, (n-1)*opt.LevelPitch+opt.Levels, elem)
		p.fits("experts", opt.Experts, opt.Leaves*opt.Levels, 4)
		p.optional("override", opt.Override, (n-1)*opt.OverridePitch+opt.Leaves+1, 4)
		p.fits("decisions", out, (n-1)*opt.OutPitch+values, 4)
	}
	var shape abi.Args
	for _, v := range []int{opt.LeafPitch, opt.LevelPitch, opt.OverridePitch, opt.OutPitch, opt.Leaves, opt.Levels} {
		shape.I32(int32(v))
	}
	var a abi.Args
	a.Buf(opt.LeafLogits).Buf(opt.LevelLogits).Buf(opt.Override).Buf(opt.Experts).Buf(out).Struct(4, shape.Bytes())
	return p.done(Launch{
		Module: "router", Shape: abi.Shape{Grid: abi.D1(max(n, 1)), Block: abi.D1(64), Shared: shared}, Args: a,
		Bytes:      int64(n)*int64(elem*(opt.Leaves+opt.Levels)+4*values) + 4*int64(opt.Leaves*opt.Levels),
		Operations: int64(n) * 8 * int64(opt.Leaves+opt.Levels),
	})
}
