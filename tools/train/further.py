"""Trains the encoder and the gates of an exported model further, on pictures as people save them.

Every degraded picture is looked at as it is and after several savings: made smaller, sharpened, compressed. Two things
are asked for: the leaf that restores what was done to the picture, whatever was done to it afterwards, and features and
levels as the model had them on the picture before it was saved, where it routed that one right. The second keeps what
the model can already: severities, and when to take a coarser expert.
"""

import io
import subprocess

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageFilter

from . import further_expert, imported, router, views
from .loop import averaged, device, fit, progress
from .records import described
from .workspace import replacing

NAME = "further"
VISIBLE = 0.35  # severity of camera noise: ISO 550
FAINT = 0.35  # severity below which a saved picture counts less


class Chooser(nn.Module):
    """The encoder and the gates behind it. The gates' normalisation keeps the statistics it was trained with, and so many of
    the encoder's blocks, from the lowest, their weights."""

    def __init__(self, encoder, gates, frozen):
        super().__init__()
        self.encoder, self.gates = encoder, gates
        kept = ("conv1", "class_embedding", "positional_embedding", "ln_pre") if frozen else ()
        below = tuple(f"transformer.transformer.resblocks.{i}." for i in range(frozen))
        for name, parameter in self.encoder.visual_control.named_parameters():
            if name.startswith(kept + below) or "zero_modules" in name:
                parameter.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.gates.eval()
        return self

    def forward(self, images):
        features = self.encoder(images)
        leaves, levels = self.gates.lf_gate[0].out_features // 2, self.gates.layer_gate[0].out_features // 2
        _, _, leaf, level = router.gates(self.gates, features, leaves, levels)
        return features, leaf, level


def pictures(ws, name):
    """The degraded pictures [N,S,S,3] of a part of the configuration and the severities [N,kinds], made once and kept."""
    part = ws["further"]["pictures"][name]
    path, photos = ws.path("further", f"{name}.bin"), str(ws.photos(part["split"]))
    binary = ws.command("tools/degrade/cmd/pairs")
    options = ["--photos", photos, "--size", str(ws["further"]["size"]), "--levels", "2", "--max-side", "1024"]
    if not path.exists():
        command = [binary, *options, "--count", str(part["count"]), "--seed", str(part["seed"]), "--visible", "-o", str(path)]
        for option, value in part["options"].items():
            command += ["--" + option, str(value)]
        subprocess.run(command, check=True, env=ws.environment())
    fields, columns = described(binary, photos, ws["further"]["size"], 2)
    records = np.memmap(path, fields, mode="r")
    severity = np.array(records["severity"][:, :len(ws["data"]["kinds"])])
    # The expert for noise is to have camera noise; where nobody sees it, it is left out, as there is no telling it from none.
    camera = records["severity"][:, columns.index("camera")]
    noise = ws["data"]["kinds"].index("noise")
    severity[:, noise] = np.maximum(severity[:, noise], camera)
    kept = np.flatnonzero((camera == 0) | (camera > VISIBLE))
    return records["degraded"][kept], severity[kept]


def saved(pixels, random):
    """A picture as people save it: resized by 0.35 to 1 in one of two, sharpened in one of four, compressed by JPEG of
    quality 60 to 98 in seven of eight, and once before that in one of four."""
    image = Image.fromarray(pixels)
    if random.random() < 0.25:
        image = compressed(image, random)
    if random.random() < 0.5:
        scale = 0.5 if random.random() < 0.4 else random.uniform(0.35, 1)
        side = max(192, round(image.width * scale))
        image = image.resize((side, side), random.choice([Image.BICUBIC, Image.BOX, Image.LANCZOS, Image.BILINEAR]))
    if random.random() < 0.25:
        image = image.filter(ImageFilter.UnsharpMask(random.uniform(0.5, 1.5), int(random.uniform(20, 100)), 0))
    if random.random() < 0.875:
        image = compressed(image, random)
    return np.asarray(image)


def part(pixels, random):
    """In one of two, a smaller square of a picture, whose mosaic shows other pieces; on the grid of JPEG."""
    if random.random() < 0.5:
        return pixels
    cells = len(pixels) // 8
    side = int(random.integers(cells * 3 // 4, cells + 1))
    top, left = (8 * int(random.integers(0, cells - side + 1)) for _ in range(2))
    return pixels[top:top + 8 * side, left:left + 8 * side]


def compressed(image, random):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(random.integers(60, 99)), subsampling=0 if random.random() < 0.4 else 2)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def dataset(ws, name):
    """Views [N,1+savings,S,S,3], the first of each picture unsaved, and severities [N,kinds]. A part that is to be
    imitated, kinds that no leaf is for, has no severities: NaN."""
    path, savings = ws.path("further", f"{name}-views.npy"), ws["further"]["savings"]
    degraded, severity = pictures(ws, name)
    if not path.exists():
        random = np.random.default_rng(ws.seed(f"{NAME}/{name}"))
        made = [[views.shown(ws, p if i == 0 else saved(part(p, random), random)) for i in range(1 + savings)] for p in degraded]
        with replacing(path) as temporary, open(temporary, "wb") as f:
            np.save(f, np.array(made, np.uint8))
    if ws["further"]["pictures"][name].get("imitate"):
        severity = np.full_like(severity, np.nan)
    return np.load(path, mmap_mode="r"), severity


def answers(net, images):
    with torch.no_grad():
        parts = [net(views.normalised(images[i:i + 50])) for i in range(0, len(images), 50)]
    return [torch.cat([p[i] for p in parts]).cpu() for i in range(3)]


def targets(ws, model, net, unsaved, severity):
    """What to aim at: leaf [N], features [N,W], probabilities of levels [N,L], and which of the pictures the model
    routed right as they were [N]. A picture that it routed wrong aims at the mean of its leaf, one that is imitated at
    the model's own leaf."""
    kinds = ws["data"]["kinds"]
    leaf_of = {kind: i for i, leaf in enumerate(model.leaves) for kind in leaf["kinds"]}
    features, leaf, level = answers(net, unsaved)
    chosen, wanted, right = leaf.argmax(1), [], []
    for row, own in zip(severity, chosen.tolist()):
        allowed = {leaf_of[k]: s for k, s in zip(kinds, row) if s > 0} or {leaf_of["clean"]: 1}
        if np.isnan(row).any():
            allowed = {own: 1}
        right.append(own in allowed)
        wanted.append(own if own in allowed else max(allowed, key=allowed.get))
    wanted, right = torch.tensor(wanted), torch.tensor(right)
    for i in range(len(model.leaves)):
        members = wanted == i
        if (members & right).any():
            features[members & ~right] = features[members & right].mean(0)
    return wanted, features, level.softmax(1), right


def levels(net, saved, wanted, unsaved):
    """Probabilities of levels to aim at for saved pictures [N,L]: the model's own where it finds the leaf in spite of the
    saving, since a coarser expert may be better then; else those of the unsaved picture."""
    _, leaf, level = answers(net, saved)
    return torch.where((leaf.argmax(1) == wanted)[:, None], level.softmax(1), unsaved)


def start(ws):
    model = imported.Model(ws.repository / ws["further"]["model"])
    return model, Chooser(model.encoder(), model.router(), ws["further"]["frozen"]).to(device()).eval()


def train(ws, stop):
    config = ws["further"]
    model, net = start(ws)
    parts = [dataset(ws, name) for name in config["train"]]
    images, severity = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    held, held_severity = dataset(ws, config["validation"])
    data = targets(ws, model, net, images[:, 0], severity)
    spread = data[1].var(0).mean()
    depths = torch.stack([data[2], *[levels(net, images[:, i], data[0], data[2]) for i in range(1, images.shape[1])]], 1)
    importance = torch.ones(len(model.leaves))
    for i, leaf in enumerate(model.leaves):
        importance[i] = max(config["weights"].get(kind, 1) for kind in leaf["kinds"])
    held_leaf = targets(ws, model, net, held[:, 0], held_severity)[0]
    single = torch.from_numpy((severity > 0).sum(1) <= 1)
    # Mixed pictures that went wrong have no leaf that one could ask for.
    weight = (single | data[3]).float()
    # What was mild may be gone after saving; asking for it would teach that clean pictures are degraded.
    strongest = torch.from_numpy(np.nanmax(np.nan_to_num(severity), 1))
    faint = torch.where((strongest > 0) & (strongest < FAINT), strongest / FAINT, torch.ones(())).float()

    def loss(net, step):
        random = np.random.default_rng([ws.seed(NAME), step])
        chosen, version = random.integers(0, len(images), config["batch"]), random.integers(0, images.shape[1], config["batch"])
        batch = images[chosen, version]
        flipped = random.random(len(batch)) < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        leaf, features, _, right = (x[chosen].to(device()) for x in data)
        level = depths[chosen, version].to(device())
        found, leaf_logits, level_logits = net(views.normalised(batch))
        asked = weight[chosen] * importance[data[0][chosen]] * torch.where(torch.from_numpy(version > 0), faint[chosen], torch.ones(()))
        kind = (F.cross_entropy(leaf_logits, leaf, reduction="none") * asked.to(device())).mean()
        near = ((found - features).pow(2).mean(1) / spread * (0.3 + 0.7 * right)).mean()
        depth = ((level.clamp_min(1e-6).log() - level_logits.log_softmax(1)) * level).sum(1)
        depth = (depth * right).mean()
        total = kind + config["features"] * near + config["level"] * depth
        return total, {"kind": kind.item(), "features": near.item(), "level": depth.item(),
                       "right": (leaf_logits.argmax(1) == leaf).float().mean().item()}

    def validate(mean):
        clean, found = torch.from_numpy((held_severity > 0).sum(1) == 0), {}
        for i in range(held.shape[1]):
            right = (answers(mean, held[:, i])[1].argmax(1) == held_leaf).float()
            way = f"saved {i}" if i else "unsaved"
            found[f"right {way}"] = round(right.mean().item(), 4)
            found[f"clean {way}"] = round(right[clean].mean().item(), 4)
        return found

    print("before:", validate(net), flush=True)
    return fit(ws, NAME, net, loss, steps=config["steps"], lr=config["lr"], weight_decay=config["weight_decay"],
               ema=0.99, warmup=50, stop=stop, validate=validate)


def export(ws, out, parts):
    """Write the model folder with what of it was trained further: of "router" (encoder and gates) and names of experts the
    parts given, or all that were."""
    model, net = start(ws)
    done = [part for part in ("router", *ws["further"]["experts"])
            if progress(ws, NAME if part == "router" else further_expert.run_name(part))["step"]]
    unknown = [part for part in parts if part not in done]
    if unknown or not done:
        raise SystemExit(f"{unknown[0] if unknown else 'nothing'} was not trained further; there are: {', '.join(done) or 'none'}")
    tensors, notes = {}, []
    for part in parts or done:
        if part == "router":
            net.load_state_dict(averaged(ws, NAME))
            name, made, share, trained = "encoder and router", progress(ws, NAME), ws["further"]["share"], {}
            for prefix, module in ((model.encoder_prefix, net.encoder), (model.router_prefix, net.gates)):
                trained |= {prefix + k: v for k, v in module.state_dict().items()}
        else:
            name, made = part, progress(ws, further_expert.run_name(part))
            share, trained = further_expert.options_of(ws, part)["share"], further_expert.trained(ws, model, part)
        tensors |= blended(model.tensors, trained, share)
        if part == "router":
            favour(model, tensors, ws["further"]["favour"])
        notes.append(f"{name}: {made['step']} steps more on pictures as saved, {made['seconds'] / 3600:.2f} h, taken by {share:g}")
    model.write(ws, tensors, notes, out)


def blended(own, trained, share):
    """A model's tensors, moved by a share of the way to what training made of them. Part of the way often does better than all
    of it, on what is new and on what was known (Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022). What
    only training reads is left out."""
    return {name: own[name].float().lerp(value.cpu().float(), share) for name, value in trained.items() if name in own}


def favour(model, tensors, amounts):
    """Add to the logits of the leaves of those kinds and of the levels of those names. The gates have no offsets; those of
    what they read, which ends in a normalisation, are changed as little as it takes."""
    leaves = [sum(amounts.get(kind, 0) for kind in leaf["kinds"]) for leaf in model.leaves]
    levels = [amounts.get(level, 0) for level in model.levels]
    for gate, read, wanted in (("lf_gate", "mu", leaves), ("layer_gate", "sigma", levels)):
        weight, offset = f"{model.router_prefix}{gate}.0.weight", f"{model.router_prefix}{read}.9.bias"
        tensors[offset] = tensors[offset] + torch.linalg.pinv(tensors[weight][:len(wanted)]) @ torch.tensor(wanted, dtype=torch.float32)
