package onnx

// IsProduct says whose values Half stores in fp16.
var IsProduct = isProduct
