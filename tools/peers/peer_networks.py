"""The PyTorch networks as the peers run them."""

import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import nets  # noqa: E402  (found through the line above)
from nets.common import ChannelNorm  # noqa: E402
from nets.nafnet import LocalPool  # noqa: E402
from nets.tensors import load as load_tensors  # noqa: E402


class SummedAreaPool(nn.Module):
    """LocalPool by a summed-area table, as upstream's NAFNetLocal does it.

    A pooling operator does work in proportion to the window, which is up to 384×384 pixels: both PyTorch and ONNX
    Runtime would spend seconds on it.
    """

    def __init__(self, window):
        super().__init__()
        self.window = window

    def forward(self, x):
        h, w = int(x.shape[-2]), int(x.shape[-1])
        kh, kw = self.window
        if kh == 0 or (kh >= h and kw >= w):
            return x.mean((2, 3), keepdim=True)
        kh, kw = min(kh, h), min(kw, w)
        s = F.pad(x.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
        rows = s[:, :, kh:] - s[:, :, :h + 1 - kh]
        means = (rows[..., kw:] - rows[..., :w + 1 - kw]) / (kh * kw)
        return F.pad(means, ((kw - 1) // 2, kw // 2, (kh - 1) // 2, kh // 2), "replicate")


class PlainNorm(nn.Module):
    """ChannelNorm in elementary operations: the form that ONNX Runtime runs fastest on channels-first tensors."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x):
        moved = x - x.mean(1, keepdim=True)
        std = torch.sqrt((moved * moved).mean(1, keepdim=True) + self.eps)
        if self.bias is None:
            return x / std * self.weight.view(1, -1, 1, 1)
        return moved / std * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class PermutedNorm(PlainNorm):
    """ChannelNorm by PyTorch's own layer normalisation, the form that PyTorch runs fastest."""

    def forward(self, x):
        if self.bias is None:
            return super().forward(x)
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def replace(net, kind, by):
    """Put by(child) in the place of every child of a kind."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, by(child))


def build(architecture, args, weights, norm):
    """The network with the weights of a safetensors file, ready for inference; norm takes the place of ChannelNorm."""
    if architecture == "daclip":
        net = nets.DACLIP(**args)
        # They feed the content encoder, which takes no part in a restoration.
        net.visual_control.transformer.zero_modules = nn.ModuleList()
    else:
        net = nets.build(architecture, args)
    result = net.load_state_dict(load_tensors(weights), strict=False)
    buffers = {name for name, _ in net.named_buffers()}
    wrong = result.unexpected_keys + [name for name in result.missing_keys if name not in buffers]
    if wrong:
        raise ValueError(f"{weights}: missing or unexpected tensors: {', '.join(wrong[:5])}")
    replace(net, LocalPool, lambda pool: SummedAreaPool(pool.window))
    replace(net, ChannelNorm, norm)
    return net.eval().requires_grad_(False)


def read_image(path, shape):
    """An image from a file of raw little-endian float32 values."""
    return torch.from_numpy(np.fromfile(path, "<f4").reshape(shape))
