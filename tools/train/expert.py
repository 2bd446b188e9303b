"""Trains one expert of the pool, from its parent where both are of one kind."""

import torch

from nets import build

from .loop import averaged, finished, fit
from .pool import find
from .restore import Patches, measure, restoration_loss, validation_set


def run_name(name):
    return "expert-" + name


def network(ws, expert):
    return build(expert["architecture"], expert["args"])


def trained(ws, expert):
    """An expert with the weights it has come to."""
    net = network(ws, expert)
    net.load_state_dict(averaged(ws, run_name(expert["name"])))
    return net.eval().requires_grad_(False)


def start_from(ws, net, expert):
    """Give net the weights of its parent. An expert with adapters gets them as its frozen base."""
    parent = find(ws, expert["parent"])
    weights = averaged(ws, run_name(parent["name"]))
    if expert["architecture"] == parent["architecture"]:
        net.load_state_dict(weights)
        return
    own = net.state_dict()
    for key in own:
        plain = key.replace(".conv.", ".")
        if not key.endswith((".lora_A", ".lora_B")):
            own[key] = weights[plain]
    net.load_state_dict(own)


def is_done(ws, name):
    return finished(ws, run_name(name), find(ws, name)["training"]["steps"])


def train(ws, name, stop):
    expert = find(ws, name)
    options = ws["experts"] | expert["training"]
    torch.manual_seed(ws.seed(name))
    net = network(ws, expert)
    if expert.get("parent"):
        start_from(ws, net, expert)
    patches = Patches(ws, name, options["steps"], options["stages"], kinds=expert["kinds"],
                      severity=expert["severity"], mixed=options.get("mixed"), clean=options.get("clean"), others=options.get("others", 0),
                      partners=ws["data"]["kinds"] if options.get("any_partner") else None,
                      tones=options["tones"], backdrops=options["backdrops"])
    sets = validation_set(ws)
    shown = [*(expert["kinds"] or sets), "clean", *(["mixed"] if options.get("any_partner") else [])]
    own = {kind: sets[kind] for kind in sets if kind in shown}

    def loss(net, step):
        degraded, clean = patches.batch(step)
        return restoration_loss(net(degraded), clean, options["floor"], options["l1"]), {}

    try:
        return fit(ws, run_name(name), net, loss, steps=options["steps"], lr=options["lr"], warmup=options["warmup"],
                   weight_decay=options["weight_decay"], ema=options["ema"], stop=stop,
                   validate=lambda mean: measure(mean, own))
    finally:
        patches.close()
