"""The degradation encoder of DA-CLIP (arXiv 2310.01018): open_clip's vision transformer."""

import torch
import torch.nn as nn


class ResBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x):
        t = self.ln_1(x)
        x = x + self.attn(t, t, t, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.resblocks = nn.ModuleList([ResBlock(width, heads) for _ in range(layers)])

    def forward(self, x):
        for block in self.resblocks:
            x = block(x)
        return x


class ControlTransformer(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.transformer = Transformer(width, layers, heads)
        self.zero_modules = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])

    def forward(self, x):
        return self.transformer(x)


class VisualControl(nn.Module):
    def __init__(self, image_size, patch_size, width, layers, heads, embed_dim):
        super().__init__()
        scale = width ** -0.5
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((image_size // patch_size) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = ControlTransformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def forward(self, image):
        x = self.conv1(image).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([cls, x], 1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)[:, 0]) @ self.proj


class DACLIP(nn.Module):
    """Only the degradation encoder; forward gives its features, not normalised."""

    def __init__(self, embed_dim=512, vision_cfg=None, **_):
        super().__init__()
        v = {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 32, **(vision_cfg or {})}
        self.visual_control = VisualControl(v["image_size"], v["patch_size"], v["width"], v["layers"],
                                            v["width"] // v["head_width"], embed_dim)

    def forward(self, image):
        return self.visual_control(image)
