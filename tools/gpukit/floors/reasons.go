package floors

import "strings"

// Aspect is a side of a kernel's accesses that a reason is about.
type Aspect string

// Aspects.
const (
	Load     Aspect = "loads"
	Store    Aspect = "stores"
	MainLoop Aspect = "bank conflicts"
)

// reason says why a kernel, or those whose names begin so, leaves the bounds on one side.
type reason struct {
	kernel string
	aspect Aspect
	text   string
}

// reasons are in the order in which they are looked up: the first that fits counts.
var reasons = []reason{
	{"attention_", Load, "A head of 24 channels is 48 bytes of a row, one and a half sectors, of which a neighbouring head takes the " +
		"rest; four lanes read 16 bytes of a row of the bias at a time. L1 and L2 serve what is asked for twice."},
	{"attention_", Store, "A head of 24 channels ends in the middle of a sector; L2 joins the halves."},
	{"channel_norm", Load, "The fp32 factors of eight channels are two loads of 16 bytes, 32 bytes from lane to lane; the second finds " +
		"its sectors in L1."},
	{"conv_lora_", Store, "As conv."},
	{"conv_", Load, "Rows of 40 channels are 80 bytes, two and a half sectors; neighbouring rows and the next part of the depth take the " +
		"other half from L2."},
	{"conv_", Store, "A pixel unshuffle gives a thread 64 consecutive bytes, written by four stores of 16: each fills half of a sector, " +
		"the next one the other half."},
	{"depthwise3_squeeze", MainLoop, "Not its loop, which uses no shared memory: the block that finishes a group of channels last adds partial sums and " +
		"multiplies them with the matrix, once for each group."},
	{"export_f32", Load, "A router's vector of a few hundred values: a thread for eight of them."},
	{"export_f32", Store, "A router's vector of a few hundred values: a thread for eight of them."},
	{"fold", Store, "Rows of 40 columns end in the middle of a sector; a result of 80 bytes a row, once an image."},
	{"fold", MainLoop, "32 lanes run over the end of a row of 40 or 48 columns and meet its beginning in the same banks. A few thousand " +
		"products a block: latency decides."},
	{"gemv_", Load, "Eight fp32 weights of a lane are two loads of 16 bytes, 32 bytes from lane to lane; the second finds its sectors in L1."},
	{"gemv_", Store, "One value a row and warp: that is the result."},
	{"gemv_", MainLoop, "A lane reads eight fp32 values of x as two loads, 32 bytes from lane to lane, beside 16 or 32 bytes of weights from " +
		"memory, which decide."},
	{"gram", Load, "Heads of 40 channels begin in the middle of a sector in every second row; L2 has the other half."},
	{"gram", Store, "The partial matrix, once a block: two neighbouring sums of a lane are two stores."},
	{"guard_", Load, "Results of a few values, of which the last are read one by one."},
	{"guard_", Store, "One number: that is the result."},
	{"pointwise_lora_", Load, "Rows of the up-projection are 32 bytes at rank 16, read straight to registers by four lanes, 16 bytes at a time; " +
		"some kilobytes, which stay in L1."},
	{"pointwise_norm_lora_", Load, "As pointwise_lora."},
	{"pointwise_", Load, "Rows of 40 channels are 80 bytes, two and a half sectors; the next part of the depth takes the other half from L2."},
	{"product_finish", Load, "Eight fp32 sums of a lane are two loads of 16 bytes, 32 bytes from lane to lane; the second finds its sectors in L1."},
	{"rescale_finish", Load, "A pair of numbers a share, of which one is read at a time; kilobytes."},
	{"rescale_partial", Store, "Two numbers a block: that is the result."},
	{"selective_kernel", MainLoop, "With 12 octets a pixel eight lanes run over the end of the row of factors and meet its beginning in the same " +
		"banks: one more pass, beside 64 bytes a lane to and from memory, which decide."},
	{"soft_reconstruction", Load, "Each pixel's row of eight values holds one that all its channels read as a scalar; L1 has it."},
	{"tokens", Load, "The fp32 positions of eight channels are two loads of 16 bytes; the second finds its sectors in L1."},
}

// reasonFor finds the reason, if one is known.
func reasonFor(kernel string, a Aspect) (reason, bool) {
	for _, r := range reasons {
		if r.aspect == a && strings.HasPrefix(kernel, r.kernel) {
			return r, true
		}
	}
	return reason{}, false
}
