"""The training loop that all networks share: seeded, checkpointed, resumable and stoppable at any step."""

import copy
import json
import math
import signal
import time

import torch

from .workspace import read_json, replacing, write_json


def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(ws):
    """Settings of PyTorch for this process."""
    torch.set_num_threads(ws["threads"])
    torch.manual_seed(ws["seed"])


def load_state(ws, name):
    """The last checkpoint of a network, or None."""
    path = ws.path("runs", name, "state.pt")
    return torch.load(path, map_location="cpu") if path.exists() else None


def averaged(ws, name):
    """The averaged weights that a training run has come to."""
    state = load_state(ws, name)
    if state is None:
        raise SystemExit(f"{name} has not been trained")
    return state["averaged"]


def progress(ws, name):
    """How far a training run is: its steps and seconds."""
    path = ws.path("runs", name, "progress.json")
    return read_json(path) if path.exists() else {"step": 0, "seconds": 0.0}


def finished(ws, name, steps):
    return progress(ws, name)["step"] >= steps


class Stop:
    """Asks a loop to end: at a deadline, or when the process is told to."""

    def __init__(self, hours):
        self.deadline = time.monotonic() + 3600 * hours if hours else math.inf
        self.told = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(self, "told", True))

    def __bool__(self):
        return self.told or time.monotonic() > self.deadline


class Curve:
    """Appends lines of JSON to a file."""

    def __init__(self, ws, name):
        self.path = ws.path("runs", name, "curve.jsonl")

    def add(self, **values):
        line = {key: round(value, 5) if isinstance(value, float) else value for key, value in values.items()}
        with open(self.path, "a") as f:
            f.write(json.dumps(line) + "\n")


def rate(step, steps, warmup):
    """Linear warm-up and a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(ws, name, net, loss, *, steps, lr, weight_decay, ema, warmup, stop, validate=None):
    """Train net for that many steps in total, from its last checkpoint on. loss(net, step) gives the loss and values to
    log; validate(net) gives values for the curve. Returns whether all steps are done."""
    where = device()
    net.to(where, memory_format=torch.channels_last)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99))
    mean = copy.deepcopy(net)
    mean.requires_grad_(False)
    step, seconds = 0, 0.0
    state = load_state(ws, name)
    if state is not None:
        step, seconds = state["step"], state["seconds"]
        net.load_state_dict(state["network"])
        mean.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
    curve, sums, since, saved = Curve(ws, name), {}, 0, time.monotonic()

    def save():
        with replacing(ws.path("runs", name, "state.pt")) as temporary:
            torch.save({"step": step, "seconds": seconds, "network": net.state_dict(),
                        "averaged": mean.state_dict(), "optimizer": optimizer.state_dict()}, temporary)
        write_json(ws.path("runs", name, "progress.json"), {"step": step, "steps": steps, "seconds": round(seconds, 1)})

    while step < steps and not stop:
        began = time.monotonic()
        torch.manual_seed(ws.seed(f"{name}/{step}"))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(step, steps, warmup)
        net.train()
        value, logged = loss(net, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            logged = {**logged, "skipped": 1.0}
        average(mean, net, min(ema, (1 + step) / (10 + step)))
        step += 1
        seconds += time.monotonic() - began

        since += 1
        for key, x in {"loss": value.item(), **logged}.items():  # "skipped" is the share of steps without a finite gradient
            sums[key] = sums.get(key, 0.0) + x
        if since == ws["log_steps"] or step == steps:
            curve.add(step=step, seconds=seconds, lr=optimizer.param_groups[0]["lr"],
                      **{key: x / since for key, x in sums.items()})
            sums, since = {}, 0
        if validate and (step % ws["validate_steps"] == 0 or step == steps):
            mean.eval()
            with torch.no_grad():
                curve.add(step=step, seconds=seconds, validation=validate(mean))
        if time.monotonic() - saved > ws["save_seconds"]:
            save()
            saved = time.monotonic()
    save()
    return step >= steps


def average(mean, net, decay):
    """Exponential moving average of parameters; buffers are copied."""
    with torch.no_grad():
        for m, p in zip(mean.parameters(), net.parameters()):
            m.lerp_(p, 1 - decay)
        for m, b in zip(mean.buffers(), net.buffers()):
            m.copy_(b)
