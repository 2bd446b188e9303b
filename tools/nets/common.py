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


def channel_norm(x, weight, bias, eps, centred=True):
    """Normalise [N,C,H,W] over C at each pixel. Without centring the mean is removed from the variance only."""
    mean = x.mean(1, keepdim=True)
    var = (x - mean).pow(2).mean(1, keepdim=True)
    y = ((x - mean) if centred else x) / torch.sqrt(var + eps)
    y = y * weight.view(1, -1, 1, 1)
    return y if bias is None else y + bias.view(1, -1, 1, 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels, eps, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.eps = eps

    def forward(self, x):
        return channel_norm(x, self.weight, self.bias, self.eps, centred=self.bias is not None)


def transposed_attention(q, k, v, temperature):
    """Attention across channels: q, k, v are [N, heads, d, pixels]; the map is d×d (Restormer)."""
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    attn = (q @ k.transpose(-2, -1)) * temperature
    return attn.softmax(dim=-1) @ v
