"""Trains the degradation encoder so that its features separate kinds and severities.

Three losses: which kinds are there, how severe each is, and a contrast between the samples of a batch in which samples
are as near as their severities are (supervised contrastive learning, arXiv 2004.11362, with graded instead of equal or
unequal labels).
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from nets import DACLIP

from . import views
from .loop import averaged, device, finished, fit

NAME = "estimator"


class WithHeads(nn.Module):
    """The encoder and what only its training needs."""

    def __init__(self, args, kinds):
        super().__init__()
        self.encoder = DACLIP(**args)
        # The runtime reads the class token's features only; these of the released model serve its content encoder.
        self.encoder.visual_control.transformer.zero_modules.requires_grad_(False)
        self.present = nn.Linear(args["embed_dim"], kinds)
        self.severity = nn.Linear(args["embed_dim"], kinds)

    def forward(self, image):
        features = self.encoder(image)
        return features, self.present(features), self.severity(features)


def whiten(conv, images):
    """Start the patch embedding from whitened patches. Pictures are mostly slow changes; in a random projection they
    drown the fine detail in which noise, blur and compression show. Half of the filters are the strongest components of
    patches, the other half random mixtures of all the rest, each component scaled to variance 1."""
    width, _, side, _ = conv.weight.shape
    x = views.normalised(images).cpu()
    patches = F.unfold(x, side, stride=side).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    components = (vectors / torch.sqrt(values.clamp_min(0) + 1e-4)).T
    few = width // 2
    mixture = torch.linalg.qr(torch.randn(len(components) - few, width - few))[0].T
    filters = torch.cat([components[-few:], mixture @ components[:-few]])
    with torch.no_grad():
        conv.weight.copy_(filters.view_as(conv.weight))


def graded_contrast(features, severity, temperature, scale):
    """Cross entropy between how near samples are in direction and how near in severities."""
    z = F.normalize(features, dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    near = -torch.cdist(severity, severity).pow(2) / (2 * scale ** 2)
    target = near.masked_fill(itself, -torch.inf).softmax(1)
    logits = (z @ z.T / temperature).masked_fill(itself, -1e9)
    return -(target * logits.log_softmax(1)).sum(1).mean()


def losses(net, images, severity, config):
    features, present, amount = net(views.normalised(images))
    there = (severity > 0).float()
    kind = F.binary_cross_entropy_with_logits(present, there)
    grade = (F.smooth_l1_loss(amount, severity, beta=0.1, reduction="none") * (0.2 + there)).mean()
    contrast = graded_contrast(features, severity, config["temperature"], config["severity_scale"])
    values = {"kind": kind.item(), "grade": grade.item(), "contrast": contrast.item()}
    return 4 * kind + 4 * grade + 0.5 * contrast, values, present


def validate(net, images, severity, config):
    """How often exactly the right kinds are found, and the best of them for single ones."""
    exact, top, single = 0, 0, 0
    for i in range(0, len(images), 50):
        s = torch.from_numpy(severity[i:i + 50]).to(device())
        present = net(views.normalised(images[i:i + 50]))[1]
        exact += ((present > 0) == (s > 0)).all(1).sum().item()
        one = (s > 0).sum(1) == 1
        single += one.sum().item()
        top += (present.argmax(1) == s.argmax(1))[one].sum().item()
    return {"exact": round(exact / len(images), 4), "top kind": round(top / max(1, single), 4)}


def train(ws, stop):
    config = ws["estimator"]
    images, severity = views.dataset(ws, "train")
    held, held_severity = views.dataset(ws, "validation")
    torch.manual_seed(ws.seed(NAME))
    net = WithHeads(config["args"], severity.shape[1])
    whiten(net.encoder.visual_control.conv1, images[::max(1, len(images) // 400)])

    def loss(net, step):
        random = np.random.default_rng([ws.seed(NAME), step])
        chosen = np.sort(random.integers(0, len(images), config["batch"]))
        batch = images[chosen]
        flipped = random.random(len(batch)) < 0.5
        batch[flipped] = batch[flipped, :, ::-1]
        value, logged, _ = losses(net, batch, torch.from_numpy(severity[chosen]).to(device()), config)
        return value, logged

    return fit(ws, NAME, net, loss, steps=config["steps"], lr=config["lr"], weight_decay=config["weight_decay"],
               ema=0.998, warmup=200, stop=stop, validate=lambda mean: validate(mean, held, held_severity, config))


def is_done(ws):
    return finished(ws, NAME, ws["estimator"]["steps"])


def trained(ws):
    """The encoder with the weights it has come to."""
    config = ws["estimator"]
    net = WithHeads(config["args"], len(ws["data"]["kinds"]))
    net.load_state_dict(averaged(ws, NAME))
    return net.encoder.to(device()).eval().requires_grad_(False)


def features(encoder, images):
    with torch.no_grad():
        return torch.cat([encoder(views.normalised(images[i:i + 50])).cpu() for i in range(0, len(images), 50)])
