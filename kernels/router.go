package kernels

import (
	"encoding/binary"
	"fmt"
	"math"

	"unirestorer/runtime/device"
)

// RouteOptions describes a router's tree and what the user decided instead of it.
type RouteOptions struct {
	Leaves, Levels          int
	LeafPitch, LevelPitch   int           // values between the logits of consecutive images
	Single                  bool          // logits are fp32, not fp16
	Allowed                 device.Buffer // a byte a leaf, 0 masks it; the zero Buffer allows all
	Level                   int           // a level that the user named, or -1
	Experts                 device.Buffer // int32 [Leaves][Levels]
	LeafLogits, LevelLogits device.Buffer
}

// RouteBytes is the size of the record that Route writes for an image.
func RouteBytes(leaves, levels int) int { return 4 * (routeHead + leaves + levels) }

const routeHead = 8

// Route turns the router's gates into decisions for n images, a record of RouteBytes each, see ReadRoute. The most
// probable leaf and level are chosen, the first of equals, as the host's router does.
func Route(n int, opt RouteOptions, out device.Buffer) (Launch, error) {
	p := &problems{kernel: "router_f16"}
	elem := 2
	if opt.Single {
		p.kernel, elem = "router_f32", 4
	}
	p.positive("images", n)
	p.positive("leaves and levels", opt.Leaves, opt.Levels)
	if opt.Leaves > opt.LeafPitch || opt.Levels > opt.LevelPitch {
		p.addf("%d leaves and %d levels in rows of %d and %d", opt.Leaves, opt.Levels, opt.LeafPitch, opt.LevelPitch)
	}
	if opt.Level < -1 || opt.Level >= opt.Levels {
		p.addf("level %d of %d", opt.Level, opt.Levels)
	}
	shared := 8 * (opt.Leaves + opt.Levels)
	if shared > defaultShared {
		p.addf("%d leaves and %d levels are too many", opt.Leaves, opt.Levels)
	}
	if p.err == nil {
		p.fits("leaf logits", opt.LeafLogits, (n-1)*opt.LeafPitch+opt.Leaves, elem)
		p.fits("level logits", opt.LevelLogits, (n-1)*opt.LevelPitch+opt.Levels, elem)
		p.fits("experts", opt.Experts, opt.Leaves*opt.Levels, 4)
		p.optional("allowed leaves", opt.Allowed, opt.Leaves, 1)
		p.fits("decisions", out, n, RouteBytes(opt.Leaves, opt.Levels))
	}
	var a device.Args
	a.Buf(opt.LeafLogits).Buf(opt.LevelLogits).Buf(opt.Allowed).Buf(opt.Experts).Buf(out)
	a.I32(int32(opt.LeafPitch)).I32(int32(opt.LevelPitch)).I32(int32(opt.Leaves)).I32(int32(opt.Levels)).I32(int32(opt.Level))
	return p.done(Launch{
		Module: "router", Shape: device.Shape{Grid: device.D1(max(n, 1)), Block: device.D1(64), Shared: shared}, Args: a,
		Bytes:      int64(n)*int64(elem*(opt.Leaves+opt.Levels)+RouteBytes(opt.Leaves, opt.Levels)) + 4*int64(opt.Leaves*opt.Levels),
		Operations: int64(n) * 8 * int64(opt.Leaves+opt.Levels),
	})
}

// Decision is a record that Route wrote.
type Decision struct {
	Leaf, Level, Expert       int
	LeafEntropy, LevelEntropy float32 // nats
	Gate                      float32 // sum of both top probabilities
	LeafProbs, LevelProbs     []float32
}

// ReadRoute decodes the record of one image. It fails where the gates were not finite or no leaf was allowed.
func ReadRoute(record []byte, leaves, levels int) (Decision, error) {
	if leaves <= 0 || levels <= 0 || len(record) != RouteBytes(leaves, levels) {
		return Decision{}, fmt.Errorf("router record of %d bytes for %d leaves and %d levels", len(record), leaves, levels)
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(record[4*i:]) }
	value := func(i int) float32 { return math.Float32frombits(word(i)) }
	if word(3) != 1 {
		return Decision{}, fmt.Errorf("the gates are not finite, or no leaf is allowed")
	}
	d := Decision{
		Leaf: int(int32(word(0))), Level: int(int32(word(1))), Expert: int(int32(word(2))),
		LeafEntropy: value(4), LevelEntropy: value(5), Gate: value(6),
	}
	for i := range leaves {
		d.LeafProbs = append(d.LeafProbs, value(routeHead+i))
	}
	for i := range levels {
		d.LevelProbs = append(d.LevelProbs, value(routeHead+leaves+i))
	}
	return d, nil
}
