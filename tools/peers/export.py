"""Writes a network as ONNX: export.py --architecture A --args JSON --weights FILE --side N --threads N --output FILE"""

import argparse
import inspect
import json
import warnings

import torch

from peer_networks import PlainNorm, build

OPSET = 17


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--args", required=True, type=json.loads)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--side", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    net = build(options.architecture, options.args, options.weights, PlainNorm)
    # Multi-head attention without gradients takes a fused path that ONNX has no operator for. The other networks go
    # without, because with gradients all activations stay in memory: 22 GB for Restormer at 512×512.
    net.requires_grad_(options.architecture == "daclip")
    # Sizes are fixed, so what the tracer warns of, shapes that become constants, is meant.
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch.onnx")
    # Later versions of PyTorch have a second exporter that needs more packages.
    tracing = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(net, torch.zeros(1, 3, options.side, options.side), options.output, opset_version=OPSET,
                      input_names=["image"], output_names=["restored"], **tracing)


if __name__ == "__main__":
    main()
