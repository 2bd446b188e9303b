//go:build cuda && linux

package cuext

/*
#include <cuda.h>
#include <stdlib.h>

// Counts the nodes that do work, kernels, copies and fills, also in child graphs.
static CUresult count_work(CUgraph g, size_t *work)
{
	size_t n = 0;
	CUresult r = cuGraphGetNodes(g, NULL, &n);
	if (r != CUDA_SUCCESS || n == 0)
		return r;
	CUgraphNode *nodes = malloc(n * sizeof *nodes);
	if (!nodes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = cuGraphGetNodes(g, nodes, &n);
	for (size_t i = 0; r == CUDA_SUCCESS && i < n; i++) {
		CUgraphNodeType type;
		CUgraph child;
		r = cuGraphNodeGetType(nodes[i], &type);
		if (r != CUDA_SUCCESS)
			break;
		switch (type) {
		case CU_GRAPH_NODE_TYPE_KERNEL:
		case CU_GRAPH_NODE_TYPE_MEMCPY:
		case CU_GRAPH_NODE_TYPE_MEMSET:
			++*work;
			break;
		case CU_GRAPH_NODE_TYPE_GRAPH:
			r = cuGraphChildGraphNodeGetGraph(nodes[i], &child);
			if (r == CUDA_SUCCESS)
				r = count_work(child, work);
			break;
		default:
			break;
		}
	}
	free(nodes);
	return r;
}
*/
import "C"

import "gorgonia.org/cu"

// BeginCapture makes s collect work into a graph. The capture is relaxed: the other modes demand that the same OS
// thread ends it, which a goroutine cannot promise, and forbid allocations elsewhere meanwhile.
func BeginCapture(s cu.Stream) error {
	return check(C.cuStreamBeginCapture(stream(s), C.CU_STREAM_CAPTURE_MODE_RELAXED))
}

// EndCapture ends the capture and returns the graph.
func EndCapture(s cu.Stream) (cu.Graph, error) {
	var g C.CUgraph
	err := check(C.cuStreamEndCapture(stream(s), &g))
	return fromGraph(g), err
}

// IsCapturing reports whether work on s goes into a graph, because s or a stream it waited for is being captured.
func IsCapturing(s cu.Stream) (bool, error) {
	var status C.CUstreamCaptureStatus
	err := check(C.cuStreamIsCapturing(stream(s), &status))
	return status != C.CU_STREAM_CAPTURE_STATUS_NONE, err
}

// CountWork returns how many kernels, copies and fills are in g.
func CountWork(g cu.Graph) (int, error) {
	var n C.size_t
	err := check(C.count_work(graph(g), &n))
	return int(n), err
}

// Instantiate prepares g for launching.
func Instantiate(g cu.Graph) (cu.ExecGraph, error) {
	var e C.CUgraphExec
	err := check(C.cuGraphInstantiateWithFlags(&e, graph(g), 0))
	return fromExec(e), err
}

// Update gives e the arguments and addresses of g, which must consist of the same operations in the same order.
func Update(e cu.ExecGraph, g cu.Graph) error {
	var info C.CUgraphExecUpdateResultInfo
	return check(C.cuGraphExecUpdate(exec(e), graph(g), &info))
}
