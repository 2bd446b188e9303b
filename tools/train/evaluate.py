"""PSNR of every expert and of the routed model on reserved photos, by kind. `unirestorer evaluate` measures the shipped
model; this shows how training is going."""

import numpy as np
import torch

from . import expert, pool, router, samples, tree, views
from .workspace import write_json


def report(ws):
    """Print and store a table; experts that have no checkpoint yet are left out."""
    if not router.is_done(ws):
        return curves(ws)
    features, severity, reached = samples.gather(ws, "validation", ws["router"]["validation_records"])
    experts = router.table(ws)
    chosen, leaf, level = router.decide(router.trained(ws), features, experts)
    names = views.kind_names(ws, severity)
    groups = {kind: names == kind for kind in ws["data"]["kinds"] + ["clean"]}
    groups["mixed"] = np.array(["+" in name for name in names])
    best = reached[:, experts.flatten()].amax(1)
    rows = {}
    for name, inside in groups.items():
        inside = torch.from_numpy(inside)
        if inside.any():
            rows[name] = {
                "samples": int(inside.sum()), "coarse": mean(reached[inside, 0]),
                "routed": mean(reached[inside].gather(1, chosen[inside, None])), "oracle": mean(best[inside]),
                **{f"share of {n}": mean((level[inside] == i).float()) for i, n in enumerate(pool.LEVELS)}}
    used = {e["name"]: int((chosen == i).sum()) for i, e in enumerate(pool.load(ws)["experts"])}
    agreed = float((leaf.numpy() == tree.leaves(ws, features)).mean())
    write_json(ws.path("evaluation.json"), {"kinds": rows, "chosen": used, "leaf accuracy": agreed})
    print("kind       samples  coarse  routed  oracle  share of coarse, middle, fine")
    for name, row in rows.items():
        shares = "  ".join(f"{row[f'share of {n}']:.2f}" for n in pool.LEVELS)
        print(f"{name:10s} {row['samples']:7d}  {row['coarse']:6.2f}  {row['routed']:6.2f}  {row['oracle']:6.2f}  {shares}")
    print(f"leaf as clustered: {agreed:.1%}; chosen: {used}")


def mean(values):
    return round(values.mean().item(), 3)


def curves(ws):
    """The last validation of every training run so far."""
    names = [expert.COARSE] if not tree.is_done(ws) else [e["name"] for e in pool.load(ws)["experts"]]
    for name in names:
        path = ws.path("runs", expert.run_name(name), "curve.jsonl")
        lines = path.read_text().splitlines() if path.exists() else []
        validations = [line for line in lines if '"validation"' in line]
        print(name, validations[-1] if validations else "not validated yet")
