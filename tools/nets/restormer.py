"""Restormer (arXiv 2111.09881) and its form with LoRA adapters on every convolution (loralib's ConvLoRA)."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from .common import ChannelNorm, pad_to, transposed_attention


class Conv(nn.Conv2d):
    """A convolution of a given level; the level only matters for adapters."""

    def __init__(self, level, cin, cout, kernel, groups=1, bias=False):
        super().__init__(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=bias)


class ConvLoRA(nn.Module):
    """A convolution with a low-rank adapter: weight + alpha/r · reshape(B·A)."""

    ranks, alphas = (8, 8, 8, 8), (16, 16, 16, 16)

    def __init__(self, level, cin, cout, kernel, groups=1, bias=False):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=bias)
        self.conv.weight.requires_grad_(False)
        r = self.ranks[level]
        self.lora_A = nn.Parameter(torch.zeros(r * kernel, cin * kernel))
        self.lora_B = nn.Parameter(torch.zeros(cout // groups * kernel, r * kernel))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = self.alphas[level] / r

    def forward(self, x):
        weight = self.conv.weight + (self.lora_B @ self.lora_A).view_as(self.conv.weight) * self.scaling
        return F.conv2d(x, weight, self.conv.bias, padding=self.conv.padding, groups=self.conv.groups)


class Norm(nn.Module):
    def __init__(self, channels, kind):
        super().__init__()
        self.body = ChannelNorm(channels, 1e-5, bias=kind == "WithBias")

    def forward(self, x):
        return self.body(x)


class Attention(nn.Module):
    """Multi-Dconv head transposed attention."""

    def __init__(self, conv, level, channels, heads, bias):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = conv(level, channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = conv(level, 3 * channels, 3 * channels, 3, groups=3 * channels, bias=bias)
        self.project_out = conv(level, channels, channels, 1, bias=bias)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv_dwconv(self.qkv(x)).chunk(3, 1)
        split = lambda t: t.reshape(n, self.heads, c // self.heads, h * w)
        out = transposed_attention(split(q), split(k), split(v), self.temperature)
        return self.project_out(out.reshape(n, c, h, w))


class FeedForward(nn.Module):
    """Gated-Dconv feed-forward network."""

    def __init__(self, conv, level, channels, expansion, bias):
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = conv(level, channels, 2 * hidden, 1, bias=bias)
        self.dwconv = conv(level, 2 * hidden, 2 * hidden, 3, groups=2 * hidden, bias=bias)
        self.project_out = conv(level, hidden, channels, 1, bias=bias)

    def forward(self, x):
        a, b = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(a) * b)


class Block(nn.Module):
    def __init__(self, conv, level, channels, heads, expansion, bias, norm):
        super().__init__()
        self.norm1 = Norm(channels, norm)
        self.attn = Attention(conv, level, channels, heads, bias)
        self.norm2 = Norm(channels, norm)
        self.ffn = FeedForward(conv, level, channels, expansion, bias)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Resample(nn.Module):
    """A 3×3 convolution and a pixel (un)shuffle."""

    def __init__(self, conv, level, cin, cout, shuffle):
        super().__init__()
        self.body = nn.Sequential(conv(level, cin, cout, 3), shuffle)

    def forward(self, x):
        return self.body(x)


class Embed(nn.Module):
    def __init__(self, conv, cin, cout, bias):
        super().__init__()
        self.proj = conv(0, cin, cout, 3, bias=bias)

    def forward(self, x):
        return self.proj(x)


class Restormer(nn.Module):
    conv = Conv

    def __init__(self, inp_channels=3, out_channels=3, dim=48, num_blocks=(4, 6, 6, 8), num_refinement_blocks=4,
                 heads=(1, 2, 4, 8), ffn_expansion_factor=2.66, bias=False, LayerNorm_type="WithBias",
                 dual_pixel_task=False):
        super().__init__()
        conv = self.conv

        def level(i, channels, blocks, head):
            return nn.Sequential(*[
                Block(conv, i, channels, head, ffn_expansion_factor, bias, LayerNorm_type) for _ in range(blocks)])

        self.patch_embed = Embed(conv, inp_channels, dim, bias)
        self.encoder_level1 = level(0, dim, num_blocks[0], heads[0])
        self.down1_2 = Resample(conv, 0, dim, dim // 2, nn.PixelUnshuffle(2))
        self.encoder_level2 = level(1, 2 * dim, num_blocks[1], heads[1])
        self.down2_3 = Resample(conv, 1, 2 * dim, dim, nn.PixelUnshuffle(2))
        self.encoder_level3 = level(2, 4 * dim, num_blocks[2], heads[2])
        self.down3_4 = Resample(conv, 2, 4 * dim, 2 * dim, nn.PixelUnshuffle(2))
        self.latent = level(3, 8 * dim, num_blocks[3], heads[3])
        self.up4_3 = Resample(conv, 3, 8 * dim, 16 * dim, nn.PixelShuffle(2))
        self.reduce_chan_level3 = conv(2, 8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(2, 4 * dim, num_blocks[2], heads[2])
        self.up3_2 = Resample(conv, 2, 4 * dim, 8 * dim, nn.PixelShuffle(2))
        self.reduce_chan_level2 = conv(1, 4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(1, 2 * dim, num_blocks[1], heads[1])
        self.up2_1 = Resample(conv, 1, 2 * dim, 4 * dim, nn.PixelShuffle(2))
        self.decoder_level1 = level(0, 2 * dim, num_blocks[0], heads[0])
        self.refinement = level(0, 2 * dim, num_refinement_blocks, heads[0])
        self.output = conv(0, 2 * dim, out_channels, 3, bias=bias)

    def forward(self, image):
        h, w = image.shape[-2:]
        x = pad_to(image, 8, "reflect")
        e1 = self.encoder_level1(self.patch_embed(x))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        t = self.latent(self.down3_4(e3))
        t = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(t), e3], 1)))
        t = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(t), e2], 1)))
        t = self.decoder_level1(torch.cat([self.up2_1(t), e1], 1))
        return (self.output(self.refinement(t)) + x)[..., :h, :w]


class LoRARestormer(Restormer):
    def __init__(self, r=(8, 8, 8, 8), lora_alpha=(16, 16, 16, 16), lora_dropout=0.0, merge_weights=True, **args):
        if lora_dropout:
            raise ValueError("lora_dropout is not supported")
        self.conv = type("ConvLoRA", (ConvLoRA,), {"ranks": tuple(r), "alphas": tuple(lora_alpha)})
        super().__init__(**args)
