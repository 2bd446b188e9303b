"""DehazeFormer (arXiv 2204.03883)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .common import pad_to


def conv3(cin, cout):
    return nn.Conv2d(cin, cout, 3, padding=1, padding_mode="reflect")


class RescaleNorm(nn.Module):
    """Normalise a whole image and give what undoes it after the layer."""

    def __init__(self, c, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, c, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.meta1 = nn.Conv2d(1, c, 1)
        self.meta2 = nn.Conv2d(1, c, 1)
        nn.init.trunc_normal_(self.meta1.weight, std=0.02)
        nn.init.ones_(self.meta1.bias)
        nn.init.trunc_normal_(self.meta2.weight, std=0.02)
        nn.init.zeros_(self.meta2.bias)
        self.eps = eps

    def forward(self, x):
        mean = x.mean((1, 2, 3), keepdim=True)
        std = torch.sqrt((x - mean).pow(2).mean((1, 2, 3), keepdim=True) + self.eps)
        return (x - mean) / std * self.weight + self.bias, self.meta1(std), self.meta2(mean)


class MLP(nn.Module):
    def __init__(self, c, ratio):
        super().__init__()
        hidden = int(c * ratio)
        self.mlp = nn.Sequential(nn.Conv2d(c, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, c, 1))

    def forward(self, x):
        return self.mlp(x)


class WindowAttention(nn.Module):
    def __init__(self, c, window, heads):
        super().__init__()
        self.window, self.heads = window, heads
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        d = (at[:, :, None] - at[:, None, :]).permute(1, 2, 0).float()
        self.register_buffer("relative_positions", torch.sign(d) * torch.log1p(d.abs()))
        self.meta = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, heads))

    def forward(self, qkv):
        """qkv [windows, tokens, 3C] to [windows, tokens, C]."""
        b, t, c3 = qkv.shape
        d = c3 // 3 // self.heads
        q, k, v = qkv.reshape(b, t, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        bias = self.meta(self.relative_positions).permute(2, 0, 1)
        attn = (q * d ** -0.5) @ k.transpose(-2, -1) + bias
        return (attn.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c3 // 3)


class Attention(nn.Module):
    """Window attention beside a convolution of the values, or the convolution alone."""

    def __init__(self, c, heads, window, shift, attends):
        super().__init__()
        self.conv = nn.Sequential(conv3(c, c), nn.ReLU(), conv3(c, c))
        self.window, self.shift, self.attends = window, shift, attends
        if attends:
            self.V = nn.Conv2d(c, c, 1)
            self.proj = nn.Conv2d(c, c, 1)
            self.QK = nn.Conv2d(c, 2 * c, 1)
            self.attn = WindowAttention(c, window, heads)

    def padding(self, size):
        m = -size % self.window
        if self.shift == 0:
            return 0, m
        return self.shift, (self.window - self.shift + m) % self.window

    def windows(self, qkv):
        n, _, h, w = qkv.shape
        (top, bottom), (left, right) = self.padding(h), self.padding(w)
        x = F.pad(qkv, (left, right, top, bottom), "reflect")
        ws, hh, ww = self.window, x.shape[2] // self.window, x.shape[3] // self.window
        x = x.reshape(n, -1, hh, ws, ww, ws).permute(0, 2, 4, 3, 5, 1).reshape(n * hh * ww, ws * ws, -1)
        y = self.attn(x)
        y = y.reshape(n, hh, ww, ws, ws, -1).permute(0, 5, 1, 3, 2, 4).reshape(n, -1, hh * ws, ww * ws)
        return y[:, :, top:top + h, left:left + w]

    def forward(self, x):
        if not self.attends:
            return self.conv(x)
        v = self.V(x)
        return self.proj(self.windows(torch.cat([self.QK(x), v], 1)) + self.conv(v))


class Block(nn.Module):
    def __init__(self, c, heads, ratio, window, shift, attends):
        super().__init__()
        if attends:
            self.norm1 = RescaleNorm(c)
        self.attn = Attention(c, heads, window, shift, attends)
        self.mlp = MLP(c, ratio)

    def forward(self, x):
        if self.attn.attends:
            normed, rescale, rebias = self.norm1(x)
            x = x + self.attn(normed) * rescale + rebias
        else:
            x = x + self.attn(x)
        return x + self.mlp(x)


class Layer(nn.Module):
    def __init__(self, c, depth, heads, ratio, window, attn_ratio):
        super().__init__()
        self.blocks = nn.Sequential(*[
            Block(c, heads, ratio, window, 0 if i % 2 == 0 else window // 2, i >= depth - attn_ratio * depth)
            for i in range(depth)])

    def forward(self, x):
        return self.blocks(x)


class Embed(nn.Module):
    """A projection under the name proj, perhaps followed by a pixel shuffle."""

    def __init__(self, proj):
        super().__init__()
        self.proj = proj

    def forward(self, x):
        return self.proj(x)


class SKFusion(nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden = max(c // 8, 4)
        self.mlp = nn.Sequential(nn.Conv2d(c, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, 2 * c, 1, bias=False))

    def forward(self, a, b):
        n, c = a.shape[:2]
        gate = self.mlp((a + b).mean((2, 3), keepdim=True)).reshape(n, 2, c, 1, 1).softmax(1)
        return a * gate[:, 0] + b * gate[:, 1]


class DehazeFormer(nn.Module):
    def __init__(self, in_chans=3, out_chans=4, window_size=8, embed_dims=(48, 96, 192, 96, 48),
                 mlp_ratios=(2., 4., 4., 2., 2.), depths=(16, 16, 16, 12, 12), num_heads=(2, 4, 6, 1, 1),
                 attn_ratio=(1 / 4, 1 / 2, 3 / 4, 0, 0), conv_type=("Conv",) * 5):
        super().__init__()
        if any(kind != "Conv" for kind in conv_type):
            raise ValueError("only conv_type Conv is supported")
        e = embed_dims
        for i in range(5):
            setattr(self, f"layer{i + 1}", Layer(e[i], depths[i], num_heads[i], mlp_ratios[i], window_size, attn_ratio[i]))
        self.patch_embed = Embed(conv3(in_chans, e[0]))
        self.patch_merge1 = Embed(nn.Conv2d(e[0], e[1], 2, stride=2))
        self.patch_merge2 = Embed(nn.Conv2d(e[1], e[2], 2, stride=2))
        self.skip1 = nn.Conv2d(e[0], e[0], 1)
        self.skip2 = nn.Conv2d(e[1], e[1], 1)
        self.patch_split1 = Embed(nn.Sequential(nn.Conv2d(e[2], 4 * e[3], 1), nn.PixelShuffle(2)))
        self.patch_split2 = Embed(nn.Sequential(nn.Conv2d(e[3], 4 * e[4], 1), nn.PixelShuffle(2)))
        self.fusion1, self.fusion2 = SKFusion(e[3]), SKFusion(e[4])
        self.patch_unembed = Embed(nn.Sequential(conv3(e[4], out_chans)))

    def forward(self, image):
        h, w = image.shape[-2:]
        padded = pad_to(image, 4, "reflect")
        s1 = self.layer1(self.patch_embed(padded))
        s2 = self.layer2(self.patch_merge1(s1))
        x = self.patch_split1(self.layer3(self.patch_merge2(s2)))
        x = self.layer4(self.fusion1(x, self.skip2(s2)) + x)
        x = self.patch_split2(x)
        x = self.layer5(self.fusion2(x, self.skip1(s1)) + x)
        k, b = self.patch_unembed(x).split((1, 3), 1)
        return (k * padded - b + padded)[..., :h, :w]
