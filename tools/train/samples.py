"""What every expert of the pool reaches on degraded pictures: the router's training set. It is measured in parts, several
at a time, and parts that are there are not measured again."""

import multiprocessing

import numpy as np
import torch

from . import estimator, expert, pool, views
from .loop import device, prepare
from .restore import psnr, tensor
from .workspace import replacing

PART = 64  # records


def gather(ws, split, count, stop=(), mirrored=False):
    """Features [N,W] by the encoder as it is, severities [N,kinds] and the PSNR [N,experts] that each expert reaches on
    the middle of each picture; nothing if told to stop before all are measured. Mirrored, every picture comes a second
    time with left and right exchanged, which changes its features and not what experts reach."""
    parts = [ws.path("router", split, f"{first}.npz") for first in range(0, count, PART)]
    missing = [i for i, path in enumerate(parts) if not path.exists()]
    context = multiprocessing.get_context("spawn")
    while missing and not stop:
        together, missing = missing[:ws["workers"]], missing[ws["workers"]:]
        processes = [context.Process(target=measure, args=(ws, split, i * PART, parts[i])) for i in together]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit(f"measuring experts on part {together} of {split} failed")
    if not all(path.exists() for path in parts):
        return None
    data = [np.load(path) for path in parts]
    shown, severity, reached = (np.concatenate([d[key] for d in data])[:count] for key in ("shown", "severity", "psnr"))
    if mirrored:
        shown, severity, reached = np.concatenate([shown, shown[:, :, ::-1]]), np.tile(severity, (2, 1)), np.tile(reached, (2, 1))
    return estimator.features(estimator.trained(ws), shown), severity, torch.from_numpy(reached)


def measure(ws, split, first, path):
    """Measure the records from number first on and write them."""
    prepare(ws)
    config = ws["router"]
    networks = [expert.trained(ws, e).to(device()) for e in pool.load(ws)["experts"]]
    low = (config["size"] - config["crop"]) // 2
    inside = np.s_[:, low:low + config["crop"], low:low + config["crop"]]
    shown, severity, reached = [], [], []
    with views.records(ws, split, config["size"], f"router {split}", start=first) as stream, torch.no_grad():
        for _ in range(0, PART, 4):
            records = stream.read(4)
            shown += [views.shown(ws, picture) for picture in records["degraded"]]
            severity.append(records["severity"][:, :len(ws["data"]["kinds"])])
            degraded, clean = tensor(records["degraded"][inside]), tensor(records["clean"][inside])
            reached.append(torch.stack([psnr(net(degraded), clean) for net in networks], 1).cpu())
    with replacing(path) as temporary, open(temporary, "wb") as f:
        np.savez(f, shown=np.stack(shown), severity=np.concatenate(severity), psnr=torch.cat(reached).numpy())
