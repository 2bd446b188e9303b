"""What the degradation encoder is shown of a picture, made exactly as the runtime does it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from .loop import device
from .records import Records
from .workspace import replacing

# CLIP's normalisation.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def view(pixels, size, fragments=0):
    """A picture [H,W,3] as the encoder sees it, size×size: with its shorter side resized to size and its middle cut out,
    or, with fragments, a mosaic of fragments×fragments pieces at full resolution, one from the middle of each cell of a
    grid over the picture (grid mini-patch sampling, FAST-VQA, arXiv 2207.02595). Resizing removes noise, blur and
    compression; pieces keep them. They start at multiples of 8, on the grid of JPEG."""
    if not fragments:
        image = shorter_side(pixels, size)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return np.asarray(image.crop((left, top, left + size, top + size)))
    if min(pixels.shape[:2]) < size:
        pixels = np.asarray(shorter_side(pixels, size))
    rows, columns = (pieces(length, size, fragments) for length in pixels.shape[:2])
    return pixels[np.ix_(rows, columns)]


def shorter_side(pixels, size):
    image = Image.fromarray(pixels)
    w, h = image.size
    if w <= h:
        return image.resize((size, int(size * h / w)), Image.BICUBIC)
    return image.resize((int(size * w / h), size), Image.BICUBIC)


def pieces(length, size, fragments):
    """The rows or columns, of that many, that the pieces of a mosaic consist of."""
    tile = size // fragments
    cells = [(i * length // fragments, (i + 1) * length // fragments) for i in range(fragments)]
    starts = [low + (high - low - tile) // 2 for low, high in cells]
    return np.concatenate([np.arange(start - start % 8, start - start % 8 + tile) for start in starts])


def shown(ws, pixels):
    """The view of a picture that the configuration asks for."""
    config = ws["estimator"]
    return view(pixels, config["args"]["vision_cfg"]["image_size"], config["fragments"])


def normalised(views):
    """uint8 [N,S,S,3] to the encoder's input [N,3,S,S]."""
    x = torch.from_numpy(np.ascontiguousarray(views.transpose(0, 3, 1, 2))).to(device()).float().div_(255)
    return (x - x.new_tensor(MEAN).view(1, 3, 1, 1)) / x.new_tensor(STD).view(1, 3, 1, 1)


def kind_names(ws, severity):
    """The degradation of each sample in a word: a kind, clean, or kinds joined by "+"."""
    kinds = ws["data"]["kinds"]
    return np.array(["+".join(k for k, s in zip(kinds, row) if s > 0) or "clean" for row in severity])


def records(ws, split, size, name, start=0, **other):
    """A stream of the pictures that the encoder is trained on or judged by; only those to train on get other tones
    and backdrops. Options given here take the place of the configuration's."""
    config, training = ws["estimator"], split == "train"
    options = {"mixed": config["mixed"], "clean": config["clean"],
               "tones": config["tones"] if training else 0, "backdrops": config["backdrops"] if training else 0}
    return Records(ws, split, size, ws.seed(name), start=start, **(options | other))


def shares(ws, split):
    """What the views of a split consist of: the side of the pictures, how many there are, the name that their seed
    comes from and the options of their stream. Pictures to train on are of all kinds, and some more of those kinds that
    are told apart worst, from each other and from clean pictures."""
    config = ws["estimator"]
    listed = [(int(side), count, f"views {split} {side}", {}) for side, count in config["views"][split].items()]
    if split == "train" and "confused" in config:
        more = dict(config["confused"])
        for side, count in more.pop("views").items():
            listed.append((int(side), count, f"views confused {side}", more | {"partners": ws["data"]["kinds"]}))
    return listed


def dataset(ws, split):
    """Views of degraded pictures of several sizes, as many of each as the configuration says, and the severities
    [N, kinds] of what was done to them, made once and kept."""
    kinds, size = len(ws["data"]["kinds"]), ws["estimator"]["args"]["vision_cfg"]["image_size"]
    images, labels = ws.path("views", f"{split}.npy"), ws.path("views", f"{split}-severity.npy")
    if not labels.exists():
        parts = shares(ws, split)
        ends = np.cumsum([count for _, count, _, _ in parts])
        made = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=(int(ends[-1]), size, size, 3))
        severity = np.zeros((len(made), kinds), np.float32)

        def fill(part, last):
            side, count, name, options = part
            with records(ws, split, side, name, **options) as stream:
                for i in range(last - count, last):
                    record = stream.read(1)[0]
                    made[i], severity[i] = shown(ws, record["degraded"]), record["severity"][:kinds]

        with ThreadPoolExecutor(ws["workers"]) as pool:
            list(pool.map(fill, parts, ends))
        made.flush()
        with replacing(labels) as temporary, open(temporary, "wb") as f:
            np.save(f, severity)
    return np.load(images, mmap_mode="r"), np.load(labels)
