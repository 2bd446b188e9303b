"""NAFNet (arXiv 2204.04676) and NAFNetLocal, whose channel attention averages over a window (TLC, arXiv 2112.04491)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .common import ChannelNorm, pad_to


def simple_gate(x):
    a, b = x.chunk(2, 1)
    return a * b


class LocalPool(nn.Module):
    """Mean over a window of at most the given size at every position, the border replicated; (0, 0) is global."""

    window = (0, 0)

    def forward(self, x):
        h, w = x.shape[-2:]
        kh, kw = self.window
        if kh == 0 or (kh >= h and kw >= w):
            return x.mean((2, 3), keepdim=True)
        kh, kw = min(kh, h), min(kw, w)
        # A row of averages and then a column of them: fewer terms a sum, so less rounding, than all at once.
        means = F.avg_pool2d(F.avg_pool2d(x, (1, kw), stride=1), (kh, 1), stride=1)
        return F.pad(means, ((kw - 1) // 2, kw // 2, (kh - 1) // 2, kh // 2), "replicate")


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1 = ChannelNorm(c, 1e-6)
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(LocalPool(), nn.Conv2d(c, c, 1))
        self.conv3 = nn.Conv2d(c, c, 1)
        self.norm2 = ChannelNorm(c, 1e-6)
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

    def forward(self, x):
        t = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(t * self.sca(t)) * self.beta
        return x + self.conv5(simple_gate(self.conv4(self.norm2(x)))) * self.gamma


class NAFNet(nn.Module):
    def __init__(self, img_channel=3, width=16, middle_blk_num=1, enc_blk_nums=(), dec_blk_nums=()):
        super().__init__()
        self.intro = nn.Conv2d(img_channel, width, 3, padding=1)
        self.ending = nn.Conv2d(width, img_channel, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        c = width
        for n in enc_blk_nums:
            self.encoders.append(nn.Sequential(*[Block(c) for _ in range(n)]))
            self.downs.append(nn.Conv2d(c, 2 * c, 2, stride=2))
            c *= 2
        self.middle_blks = nn.Sequential(*[Block(c) for _ in range(middle_blk_num)])
        for n in dec_blk_nums:
            self.ups.append(nn.Sequential(nn.Conv2d(c, 2 * c, 1, bias=False), nn.PixelShuffle(2)))
            c //= 2
            self.decoders.append(nn.Sequential(*[Block(c) for _ in range(n)]))
        self.multiple = 2 ** len(enc_blk_nums)

    def forward(self, image):
        h, w = image.shape[-2:]
        padded = pad_to(image, self.multiple, "constant")
        x, skips = self.intro(padded), []
        for encoder, down in zip(self.encoders, self.downs):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(up(x) + skip)
        return (self.ending(x) + padded)[..., :h, :w]


class NAFNetLocal(NAFNet):
    def __init__(self, train_size=(1, 3, 256, 256), fast_imp=False, **args):
        super().__init__(**args)
        if fast_imp:
            raise ValueError("fast_imp is not supported")
        levels = len(self.encoders)

        def window(level):
            sides = []
            for train in train_size[-2:]:
                features = (train + -train % self.multiple) >> level
                sides.append(features * int(1.5 * train) // train)
            return tuple(sides)

        for i, part in enumerate(self.encoders):
            self.set_window(part, window(i))
        self.set_window(self.middle_blks, window(levels))
        for i, part in enumerate(self.decoders):
            self.set_window(part, window(levels - 1 - i))

    @staticmethod
    def set_window(part, window):
        for m in part.modules():
            if isinstance(m, LocalPool):
                m.window = window
