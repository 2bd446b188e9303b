"""Holds the PyTorch networks against the golden cases: python3 -m nets.check testdata/goldens (from tools/)."""

import json
import pathlib
import sys

import torch

from . import DACLIP, Router, build
from .tensors import load


def float_state(path, skip=()):
    state = load(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items() if not k.startswith(tuple(skip) or ("\0",))}


def check(folder):
    config = json.loads((folder / "config.json").read_text())
    x, y = load(folder / "input.safetensors"), load(folder / "output.safetensors")
    arch, pairs = config["architecture"], []
    if arch == "daclip":
        net = DACLIP(**config["args"]).eval()
        net.load_state_dict(float_state(folder / "weights.safetensors", ("clip.", "logit_scale")))
        pairs = [(net(x["image"]), y["degra_features"], 1e-4)]
    elif arch == "unirestorer_router":
        state = float_state(folder / "weights.safetensors", ("gamma", "beta", "mean", "std"))
        if "weights_formula" in config:
            return None
        net = Router(config["router_dim"]).eval()
        net.load_state_dict(state)
        mu, logvar, leaf, level = net(x["degra_features"])
        pairs = [(mu, y["mu"], 1e-4), (logvar, y["logvar"], 1e-4), (leaf, y["lf_gate_raw"], 1e-4), (level, y["layer_gate_raw"], 1e-4)]
    elif arch == "unirestorer":
        return None
    else:
        net = build(arch, config["args"]).eval()
        net.load_state_dict(float_state(folder / "weights.safetensors"))
        for name, image in x.items():
            noise = config["fp32_vs_fp64_max_abs_diff"].get(name, 0)
            pairs.append((net(image), y["y" + name[1:]], 2e-5 + 10 * noise))
    return [((a - b).abs().max().item(), bound) for a, b, bound in pairs]


def main():
    failed = 0
    with torch.no_grad():
        for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            if not (folder / "config.json").exists():
                continue
            result = check(folder)
            if result is None:
                print(f"{folder.name}: not a single network, skipped")
                continue
            ok = all(worst <= bound for worst, bound in result)
            failed += not ok
            print(folder.name, "ok" if ok else "DIFFERS", " ".join(f"{worst:.2g}" for worst, _ in result))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
