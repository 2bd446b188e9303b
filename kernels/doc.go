// Package kernels holds the CUDA kernels, the PTX made from them, and one typed launcher a kernel.
//
// A launcher checks shapes, computes grid, block and shared memory and gives a [Launch] that names the kernel and
// carries its arguments and its traffic; a [Library] turns launches into work on a stream. Host functions pack weights
// into the order the kernels read.
//
// # Activations
//
// An activation N×H×W×C is fp16, pixels one after the other, and each pixel's row of channels is padded to a multiple of
// 8 values: a [Layout] says where a channel lies. Rows are therefore aligned to 16 bytes. Every kernel writes zeros to
// the padding and relies on finding zeros there. Small tensors that hold statistics or logits of attention (affine maps,
// Gram matrices) have the same layout with fp32 values.
//
// A layout has more than one part where the two halves of a gate, or the heads of q and k, must each start at a multiple
// of 8. Products read and write any layout, because it is only an order of the weight's columns and rows; element-wise
// kernels do not care as long as their operands agree; [CopyChannels] converts.
//
// # Weights
//
// The weight of a product is [filters][depth] fp16 as [PackProduct] makes it; vectors by channel are fp32. A dynamic
// weight N×1×Cout×Cin in activation layout is already in that form.
//
// # Order
//
// On cards of compute capability 9.0 every kernel may start before the one in front has ended, and waits for it before it
// touches memory (dependent.cuh).
package kernels
