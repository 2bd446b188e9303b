"""What training and measuring experts have in common: batches, the loss and PSNR."""

import numpy as np
import torch

from .loop import device
from .records import Records
from .workspace import replacing


def tensor(pixels):
    """uint8 [N,H,W,3] to float [N,3,H,W] in 0..1, in the memory order they come in, which is also the faster one."""
    return torch.from_numpy(np.array(pixels, order="C")).permute(0, 3, 1, 2).to(device()).float().div_(255)


def squared_error(output, clean):
    return (output - clean).pow(2).mean((1, 2, 3))


def psnr(output, clean):
    """Decibels of each image, after clamping to what a file can hold; 60 stands for all above."""
    return -10 * torch.log10(squared_error(output.clamp(0, 1), clean).clamp_min(1e-6))


def restoration_loss(output, clean, floor, l1):
    """Mean over images of the logarithm of the squared error, that is of -PSNR/10, so that mild and heavy degradations
    count alike, and l1 times the mean absolute error. The logarithm alone gives images that are nearly right so steep a
    gradient that haze and darkness, which are far from it, are learnt late; floor bounds that too."""
    return torch.log10((squared_error(output, clean) + floor) / floor).mean() + l1 * (output - clean).abs().mean()


class Patches:
    """The batches of a training run. Patches grow with the stages of the configuration; each stage has a stream of its
    own, so that the batch of a step depends on the step only."""

    def __init__(self, ws, name, steps, stages, **options):
        self.ws, self.name, self.options = ws, name, options
        self.stages, first = [], 0
        for stage in stages:
            last = round(steps * stage["until"])
            self.stages.append((first, last, stage))
            first = last
        self.stream, self.next = None, None

    def batch(self, step):
        number = next(i for i, (_, last, _) in enumerate(self.stages) if step < last)
        first, _, stage = self.stages[number]
        if self.next != (number, step):
            self.close()
            self.stream = Records(self.ws, "train", stage["size"], self.ws.seed(f"{self.name}/stage {number}"),
                                  start=(step - first) * stage["batch"], **self.options)
        self.next = (number, step + 1)
        records = self.stream.read(stage["batch"])
        return tensor(records["degraded"]), tensor(records["clean"])

    def close(self):
        if self.stream is not None:
            self.stream.close()
            self.stream = None


def validation_set(ws):
    """Records of the reserved photos: the same number of every kind alone, then clean and mixed ones."""
    path = ws.path("validation.npz")
    if not path.exists():
        v = ws["validation"]
        groups = [(kind, {"kinds": [kind], "mixed": 0, "clean": 0}) for kind in ws["data"]["kinds"]]
        groups += [("clean", {"mixed": 0, "clean": 1}), ("mixed", {"mixed": 1, "clean": 0})]
        parts = {}
        for name, options in groups:
            with Records(ws, "validation", v["size"], v["seed"], severity=v["severity"], **options) as stream:
                records = stream.read(v["per_kind"])
            parts[f"{name}/clean"], parts[f"{name}/degraded"] = records["clean"], records["degraded"]
        with replacing(path) as temporary, open(temporary, "wb") as f:
            np.savez(f, **parts)
    data = np.load(path)
    return {name.split("/")[0]: (data[name], data[name.replace("/degraded", "/clean")])
            for name in data.files if name.endswith("/degraded")}


def measure(net, sets):
    """Mean PSNR of a network's output on each set, and of all."""
    result = {}
    for name, (degraded, clean) in sets.items():
        values = [psnr(net(tensor(degraded[i:i + 4])), tensor(clean[i:i + 4])) for i in range(0, len(clean), 4)]
        result[name] = round(torch.cat(values).mean().item(), 3)
    result["mean"] = round(sum(result.values()) / len(result), 3)
    return result
