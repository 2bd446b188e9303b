"""What several networks share."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def pad_to(x, multiple, mode):
    """Pad [N,C,H,W] at the bottom and right so that both sides become multiples."""
    h, w = x.shape[-2:]
    right, bottom = -w % multiple, -h % multiple
    if right == 0 and bottom == 0:
        return x
    return F.pad(x, (0, right, 0, bottom), mode)


def channel_norm(x, weight, bias, eps):
    """Normalise [N,C,H,W] over C at each pixel. Without bias the mean is removed from the variance only."""
    if bias is not None:
        # Free of copies where channels are contiguous in memory.
        return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps).permute(0, 3, 1, 2)
    var = (x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True)
    return x * torch.rsqrt(var + eps) * weight.view(1, -1, 1, 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels, eps, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.eps = eps

    def forward(self, x):
        return channel_norm(x, self.weight, self.bias, self.eps)


def transposed_attention(q, k, v, temperature):
    """Attention across channels: q, k, v are [N, heads, d, pixels]; the map is d×d (Restormer). Dividing the product by
    the lengths of q and k is normalising them, for d² instead of d × pixels divisions."""
    lengths = q.norm(dim=-1, keepdim=True).clamp_min(1e-12), k.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    attn = q @ k.transpose(-2, -1) / (lengths[0] * lengths[1].transpose(-2, -1)) * temperature
    return attn.softmax(dim=-1) @ v
