package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"unirestorer/weights/half"
)

// Field numbers of the messages in ONNX's onnx.proto, as far as they are written
// here.
const (
	modelIRVersion, modelProducer, modelProducerVersion, modelDoc, modelGraph, modelOpsets, modelMetadata = 1, 2, 3, 6, 7, 8, 14

	graphNode, graphName, graphInitializer, graphInput, graphOutput = 1, 2, 5, 11, 12

	nodeInput, nodeOutput, nodeName, nodeType, nodeAttribute = 1, 2, 3, 4, 5

	attrName, attrFloat, attrInt, attrString, attrInts, attrType = 1, 2, 3, 4, 8, 20

	tensorDims, tensorType, tensorName, tensorRaw = 1, 2, 8, 9

	valueName, valueType = 1, 2

	typeTensor, tensorElem, tensorShape, shapeDim, dimValue, dimParam = 1, 1, 2, 1, 1, 2

	opsetVersion, metaKey, metaValue = 2, 1, 2

	elemFloat, elemInt64, elemHalf = 1, 7, 10
)

// message is a protobuf message being written.
type message []byte

func (m *message) varint(field protowire.Number, v int64) {
	*m = protowire.AppendTag(*m, field, protowire.VarintType)
	*m = protowire.AppendVarint(*m, uint64(v))
}

func (m *message) text(field protowire.Number, s string) { m.bytes(field, []byte(s)) }

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendTag(*m, field, protowire.BytesType)
	*m = protowire.AppendBytes(*m, b)
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendTag(*m, field, protowire.Fixed32Type)
	*m = protowire.AppendFixed32(*m, math.Float32bits(v))
}

func (m *message) packed(field protowire.Number, values []int64) {
	var b []byte
	for _, v := range values {
		b = protowire.AppendVarint(b, uint64(v))
	}
	m.bytes(field, b)
}

// attrs are the attributes of a node: int, []int, float32 or string by name.
type attrs map[string]any

func attribute(name string, v any) message {
	var m message
	m.text(attrName, name)
	switch v := v.(type) {
	case int:
		m.varint(attrInt, int64(v))
		m.varint(attrType, 2)
	case float32:
		m.float(attrFloat, v)
		m.varint(attrType, 1)
	case string:
		m.text(attrString, v)
		m.varint(attrType, 3)
	case []int:
		for _, i := range v {
			m.varint(attrInts, int64(i))
		}
		m.varint(attrType, 7)
	}
	return m
}

func floatTensor(name string, dims []int, values []float32, asHalf bool) message {
	var m message
	m.packed(tensorDims, int64s(dims))
	raw := make([]byte, 0, 4*len(values))
	if asHalf {
		m.varint(tensorType, elemHalf)
		narrow := make([]uint16, len(values))
		half.F32ToF16(narrow, values)
		for _, v := range narrow {
			raw = binary.LittleEndian.AppendUint16(raw, v)
		}
	} else {
		m.varint(tensorType, elemFloat)
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
	}
	m.text(tensorName, name)
	m.bytes(tensorRaw, raw)
	return m
}

func intTensor(name string, dims []int, values []int64) message {
	var m message
	m.packed(tensorDims, int64s(dims))
	m.varint(tensorType, elemInt64)
	m.text(tensorName, name)
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	m.bytes(tensorRaw, raw)
	return m
}

// port describes an input or output; dimensions that are texts vary.
func port(name string, dims []any) message {
	var shape, tensor, typ, m message
	for _, d := range dims {
		var dim message
		switch d := d.(type) {
		case int:
			dim.varint(dimValue, int64(d))
		case string:
			dim.text(dimParam, d)
		}
		shape.bytes(shapeDim, dim)
	}
	tensor.varint(tensorElem, elemFloat)
	tensor.bytes(tensorShape, shape)
	typ.bytes(typeTensor, tensor)
	m.text(valueName, name)
	m.bytes(valueType, typ)
	return m
}

func int64s(dims []int) []int64 {
	out := make([]int64, len(dims))
	for i, d := range dims {
		out[i] = int64(d)
	}
	return out
}
