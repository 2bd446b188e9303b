"""RetinexFormer (arXiv 2303.06705), one stage."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Estimator(nn.Module):
    def __init__(self, features, channels=3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels + 1, features, 1)
        self.depth_conv = nn.Conv2d(features, features, 5, padding=2, groups=channels + 1)
        self.conv2 = nn.Conv2d(features, channels, 1)

    def forward(self, image):
        t = self.conv1(torch.cat([image, image.mean(1, keepdim=True)], 1))
        illu = self.depth_conv(t)
        return illu, self.conv2(illu)


class Attention(nn.Module):
    """Illumination-guided multi-head self-attention across channels, on [N, H, W, C]."""

    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(c, c)
        self.pos_emb = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False), nn.GELU(),
                                     nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False))

    def forward(self, x, illu):
        n, h, w, c = x.shape
        split = lambda t: t.reshape(n, h * w, self.heads, c // self.heads).permute(0, 2, 3, 1)  # [N, heads, d, pixels]
        v = self.to_v(x)
        q, k = F.normalize(split(self.to_q(x)), dim=-1), F.normalize(split(self.to_k(x)), dim=-1)
        attn = ((k @ q.transpose(-2, -1)) * self.rescale).softmax(-1)
        out = (attn @ split(v * illu)).permute(0, 3, 1, 2).reshape(n, h, w, c)
        return self.proj(out) + self.pos_emb(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PreNorm(nn.Module):
    def __init__(self, c, fn):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(c), fn

    def forward(self, x):
        return self.fn(self.norm(x))


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(c, 4 * c, 1, bias=False), nn.GELU(),
                                 nn.Conv2d(4 * c, 4 * c, 3, padding=1, groups=4 * c, bias=False), nn.GELU(),
                                 nn.Conv2d(4 * c, c, 1, bias=False))

    def forward(self, x):
        return self.net(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Blocks(nn.Module):
    def __init__(self, c, heads, n):
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleList([Attention(c, heads), PreNorm(c, FeedForward(c))]) for _ in range(n)])

    def forward(self, x, illu):
        x, illu = x.permute(0, 2, 3, 1), illu.permute(0, 2, 3, 1)
        for attn, ff in self.blocks:
            x = attn(x, illu) + x
            x = ff(x) + x
        return x.permute(0, 3, 1, 2)


class Denoiser(nn.Module):
    def __init__(self, channels, features, num_blocks):
        super().__init__()
        f = features
        self.embedding = nn.Conv2d(channels, f, 3, padding=1, bias=False)
        self.encoder_layers = nn.ModuleList()
        for i, c in enumerate((f, 2 * f)):
            self.encoder_layers.append(nn.ModuleList([
                Blocks(c, c // f, num_blocks[i]),
                nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False),
                nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False)]))
        self.bottleneck = Blocks(4 * f, 4, num_blocks[2])
        self.decoder_layers = nn.ModuleList()
        for i, c in enumerate((4 * f, 2 * f)):
            self.decoder_layers.append(nn.ModuleList([
                nn.ConvTranspose2d(c, c // 2, 2, stride=2),
                nn.Conv2d(c, c // 2, 1, bias=False),
                Blocks(c // 2, c // 2 // f, num_blocks[1 - i])]))
        self.mapping = nn.Conv2d(f, channels, 3, padding=1, bias=False)

    def forward(self, lit, illu):
        x, skips = self.embedding(lit), []
        for blocks, down, illu_down in self.encoder_layers:
            x = blocks(x, illu)
            skips.append((x, illu))
            x, illu = down(x), illu_down(illu)
        x = self.bottleneck(x, illu)
        for (up, fuse, blocks), (skip, illu) in zip(self.decoder_layers, reversed(skips)):
            x = blocks(fuse(torch.cat([up(x), skip], 1)), illu)
        return self.mapping(x) + lit


class Stage(nn.Module):
    def __init__(self, channels, features, num_blocks):
        super().__init__()
        self.estimator = Estimator(features, channels)
        self.denoiser = Denoiser(channels, features, num_blocks)

    def forward(self, image):
        illu, light = self.estimator(image)
        return self.denoiser(image * light + image, illu)


class RetinexFormer(nn.Module):
    def __init__(self, in_channels=3, out_channels=3, n_feat=40, stage=1, num_blocks=(1, 2, 2)):
        super().__init__()
        if stage != 1 or in_channels != out_channels:
            raise ValueError("one stage and as many output as input channels are supported")
        self.body = nn.Sequential(Stage(in_channels, n_feat, num_blocks))

    def forward(self, image):
        return self.body(image)
