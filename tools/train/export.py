"""Writes the trained model for the runtime: a model folder, what it must compute, and a golden case of each architecture."""

import json
import shutil
import subprocess

import torch

from nets import build, tensors

from . import folder, pool, router, views
from .records import Records
from .restore import tensor
from .workspace import write_json


def rounded(state):
    """Weights as the folder stores them: rounded to fp16."""
    return {key: value.cpu().half().float() if value.is_floating_point() else value.cpu() for key, value in state.items()}


def write(ws, model=None):
    model = str(model or ws.path("export", "model"))
    layout = pool.load(ws)
    gates = router.trained(ws).cpu()
    encoder, networks = folder.pack(ws, model, gates)

    # From here on everything computes with what the folder holds.
    for net in (encoder, gates, *networks):
        net.load_state_dict(rounded(net.state_dict()))
    picture, seen, image = inputs(ws)
    with torch.no_grad():
        _, _, leaf, level = router.gates(gates, encoder(image), len(layout["leaves"]), len(layout["levels"]))
        expected = {"picture": picture, "seen": seen, "image": image, "leaf": leaf, "level": level}
        expected |= {f"expert.{i}": net(picture) for i, net in enumerate(networks)}
    tensors.save(ws.path("export", "expected.safetensors"), expected)
    cases(ws, layout, networks, picture)
    subprocess.run([ws.command(folder.COMMAND), "check", "--model", model,
                    "--expected", str(ws.path("export", "expected.safetensors"))], check=True)
    return model


def inputs(ws):
    """A degraded picture of 96×96 for the experts, a larger one and the encoder's view of that."""
    with Records(ws, "validation", max(96, ws["router"]["size"]), ws.seed("export"), mixed=1, clean=0) as stream:
        degraded = stream.read(1)["degraded"]
    return tensor(degraded[:, :96, :96]).cpu(), tensor(degraded).cpu(), views.normalised(views.shown(ws, degraded[0])[None]).cpu()


def cases(ws, layout, networks, picture):
    """A golden case for `unirestorer verify` of the first expert of every architecture."""
    done = set()
    for e, net in zip(layout["experts"], networks):
        architecture = e["architecture"]
        if architecture in done:
            continue
        done.add(architecture)
        exact = build(architecture, e["args"]).double().eval()
        exact.load_state_dict(net.state_dict())
        with torch.no_grad():
            output = net(picture)
            noise = (exact(picture.double()) - output).abs().max().item()
        folder = ws.path("export", "cases", architecture)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({
            "case": f"{ws['name']}_{architecture}", "architecture": architecture, "args": e["args"],
            "expert": e["name"], "fp32_vs_fp64_max_abs_diff": {"x0": noise}}, indent=1) + "\n")
        weights = {k: v.half() if v.is_floating_point() and "relative_positions" not in k else v for k, v in net.state_dict().items()}
        tensors.save(folder / "weights.safetensors", weights)
        tensors.save(folder / "input.safetensors", {"x0": picture})
        tensors.save(folder / "output.safetensors", {"y0": output})
