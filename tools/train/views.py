"""What the degradation encoder is shown: whole pictures, made small exactly as the runtime does it."""

import numpy as np
import torch
from PIL import Image

from .loop import device
from .records import Records
from .workspace import replacing

# CLIP's normalisation.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def view(pixels, size):
    """A picture [H,W,3] with its shorter side resized to size and its middle cut out."""
    image = Image.fromarray(pixels)
    w, h = image.size
    if w <= h:
        image = image.resize((size, int(size * h / w)), Image.BICUBIC)
    else:
        image = image.resize((int(size * w / h), size), Image.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def normalised(views):
    """uint8 [N,S,S,3] to the encoder's input [N,3,S,S]."""
    x = torch.from_numpy(np.ascontiguousarray(views.transpose(0, 3, 1, 2))).to(device()).float().div_(255)
    return (x - x.new_tensor(MEAN).view(1, 3, 1, 1)) / x.new_tensor(STD).view(1, 3, 1, 1)


def kind_names(ws, severity):
    """The degradation of each sample in a word: a kind, clean, or kinds joined by "+"."""
    kinds = ws["data"]["kinds"]
    return np.array(["+".join(k for k, s in zip(kinds, row) if s > 0) or "clean" for row in severity])


def dataset(ws, split, count):
    """count views of degraded pictures of several sizes and the severities [N, kinds] of what was done to them, made
    once and kept."""
    config, kinds = ws["estimator"], len(ws["data"]["kinds"])
    size = config["args"]["vision_cfg"]["image_size"]
    images, labels = ws.path("views", f"{split}.npy"), ws.path("views", f"{split}-severity.npy")
    if not labels.exists():
        made = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
        severity, sides = np.zeros((count, kinds), np.float32), config["sizes"]
        at = np.linspace(0, count, len(sides) + 1).astype(int)
        for side, first, last in zip(sides, at[:-1], at[1:]):
            with Records(ws, split, side, ws.seed(f"views {split} {side}"), mixed=config["mixed"],
                         clean=config["clean"]) as stream:
                for i in range(first, last):
                    record = stream.read(1)[0]
                    made[i], severity[i] = view(record["degraded"], size), record["severity"][:kinds]
        made.flush()
        with replacing(labels) as temporary, open(temporary, "wb") as f:
            np.save(f, severity)
    return np.load(images, mmap_mode="r"), np.load(labels)
