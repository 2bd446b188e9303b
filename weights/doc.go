// Package weights reads and writes the tensors of trained networks: safetensors files, PyTorch checkpoints (.pth, .pt)
// and model folders, and merges LoRA adapters into the convolutions they adapt.
//
// Everything is lazy. Opening a file reads its table of contents; a Tensor reads its values when asked, straight from
// the memory-mapped file where the system can map it. So a checkpoint of several gigabytes opens in a moment and costs
// only the memory of what is read from it.
//
// Files are not trusted. Whatever their bytes say, reading them gives tensors or an error that names the file and the
// tensor: no panic, no allocation out of proportion to the file, no code run.
//
// # Lifetime
//
// Tensors read from the File they came from. After File.Close they return an error that is fs.ErrClosed. Bytes
// borrowed by Tensor.Raw before that stay valid until they are released.
package weights
