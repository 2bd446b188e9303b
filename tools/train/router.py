"""Trains the gates over frozen experts.

mu embeds the degradation, sigma its log variance. The objective has five parts: the degradation, the centroid of its
cluster, under a Gaussian of that mean and variance, so that what is uncertain counts less; the leaf; the level, whose
target is which granularity restores the sample best, measured; the regret, the decibels that the routed expert is
expected to lose against the best one; and a balance of how often experts are chosen, so that none starves.
"""

import numpy as np
import torch
import torch.nn.functional as F

from nets import Router

from . import folder, pool, samples, tree
from .loop import averaged, device, finished, fit
from .workspace import read_json

NAME = folder.ROUTER


def table(ws):
    """The expert of every leaf and level."""
    return torch.tensor([leaf["experts"] for leaf in pool.load(ws)["leaves"]])


def gates(net, features, leaves, levels, noisy=False):
    """mu, log variance, and the logits of leaves and levels; the second half of each gate is noise for training."""
    mu, logvar, leaf, level = net(features)
    logits = []
    for gate, count in ((leaf, leaves), (level, levels)):
        value = gate[:, :count]
        if noisy:
            value = value + torch.randn_like(value) * F.softplus(gate[:, count:])
        logits.append(value)
    return mu, logvar, *logits


def blurred(features, noise):
    """Features with Gaussian noise of that share of their length, so that a few hundred samples are not learnt by heart."""
    scale = noise * features.norm(dim=1, keepdim=True) / features.shape[1] ** 0.5
    return features + scale * torch.randn_like(features)


def squared_variation(share):
    """The squared coefficient of variation, 0 when all are alike."""
    return share.var(unbiased=False) / (share.mean() ** 2 + 1e-10)


def train(ws, stop):
    config = ws["router"]
    measured = [samples.gather(ws, "train", config["records"], stop, mirrored=True),
                samples.gather(ws, "validation", config["validation_records"], stop)]
    if None in measured:
        return False
    (features, _, reached), (held, _, held_reached) = measured
    experts = table(ws)
    leaves, levels = experts.shape
    centroids = torch.tensor(np.array([leaf["centroid"] for leaf in read_json(
        ws.path("tree", "clusters", "tree.json"))["leaves"]]), dtype=torch.float32)
    centroids = F.normalize(centroids - centroids.mean(0), dim=1) * features.shape[1] ** 0.5
    leaf_of = torch.from_numpy(tree.leaves(ws, features))
    # The level that does best on a sample in its own leaf, softly: levels that are about as good share the target.
    by_level = reached.gather(1, experts[leaf_of])
    level_target = (by_level / config["oracle_temperature"]).softmax(1)
    lost = reached[:, experts.flatten()].amax(1, keepdim=True) - reached
    torch.manual_seed(ws.seed(NAME))
    net = Router(features.shape[1], leaves, levels)
    data = [x.to(device()) for x in (features, leaf_of, level_target, lost, centroids, experts)]

    def loss(net, step):
        features, leaf_of, level_target, lost, centroids, experts = data
        chosen = torch.randint(0, len(features), (config["batch"],), device=features.device)
        mu, logvar, leaf, level = gates(net, blurred(features[chosen], config["noise"]), leaves, levels, noisy=True)
        logvar = logvar.clamp(-6, 6)
        target = centroids[leaf_of[chosen]]
        uncertainty = 0.5 * ((mu - target).pow(2) * (-logvar).exp() + logvar).mean()
        leaf_loss = F.cross_entropy(leaf, leaf_of[chosen])
        level_loss = F.cross_entropy(level, level_target[chosen])
        joint = leaf.softmax(1)[:, :, None] * level.softmax(1)[:, None]
        regret = (joint * lost[chosen][:, experts]).sum((1, 2)).mean()
        balance = squared_variation(leaf.softmax(1).mean(0)) + squared_variation(level.softmax(1).mean(0))
        total = (config["uncertainty"] * uncertainty + config["leaf"] * leaf_loss + config["level"] * level_loss
                 + config["regret"] * regret + config["balance"] * balance)
        return total, {"uncertainty": uncertainty.item(), "leaf": leaf_loss.item(), "level": level_loss.item(),
                       "regret": regret.item(), "balance": balance.item()}

    def validate(mean):
        return routed(mean, held.to(device()), held_reached, experts)

    return fit(ws, NAME, net, loss, steps=config["steps"], lr=config["lr"], weight_decay=config["weight_decay"],
               ema=0.99, warmup=50, stop=stop, validate=validate)


def decide(net, features, experts):
    """The expert of each sample, and its leaf and level."""
    _, _, leaf, level = gates(net, features, *experts.shape)
    leaf, level = leaf.argmax(1).cpu(), level.argmax(1).cpu()
    return experts[leaf, level], leaf, level


def routed(net, features, reached, experts):
    """Mean PSNR by the router, by fixed levels and by the best expert, in decibels."""
    chosen, leaf, level = decide(net, features, experts)
    best = reached[:, experts.flatten()].amax(1)
    result = {"routed": reached.gather(1, chosen[:, None]).mean().item(), "oracle": best.mean().item(),
              "coarse": reached[:, 0].mean().item()}
    for i, name in enumerate(pool.LEVELS):
        result[f"level {name}"] = reached.gather(1, experts[leaf, i][:, None]).mean().item()
        result[f"share {name}"] = (level == i).float().mean().item()
    return {key: round(value, 4) for key, value in result.items()}


def is_done(ws):
    return finished(ws, NAME, ws["router"]["steps"])


def trained(ws):
    experts = table(ws)
    net = Router(ws["estimator"]["args"]["embed_dim"], *experts.shape)
    net.load_state_dict(averaged(ws, NAME))
    return net.to(device()).eval().requires_grad_(False)
