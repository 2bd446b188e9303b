"""What every expert of the pool reaches on degraded pictures: the router's training set. The runtime measures it, in parts,
several at a time; what is there already, for an expert at its steps, is not measured again."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from nets import Router

from . import estimator, expert, folder, pool, views
from .loop import progress
from .workspace import replacing

PART = 64  # records
MOST = 60  # decibels; more is not told apart


def gather(ws, split, count, stop=(), mirrored=False):
    """Features [N,W] by the encoder as it is, severities [N,kinds] and the PSNR [N,experts] that each expert reaches on
    each picture; nothing if told to stop before all are measured. Mirrored, every picture comes a second time with left
    and right exchanged, which changes its features and not what experts reach."""
    layout = pool.load(ws)
    columns = [f"{e['name']}-{progress(ws, expert.run_name(e['name']))['step']}.npy" for e in layout["experts"]]
    parts = [Part(ws, split, first, columns) for first in range(0, count, PART)]
    missing = [part for part in parts if not part.is_done()]
    if missing and not stop:
        gates = Router(ws["estimator"]["args"]["embed_dim"], len(layout["leaves"]), len(layout["levels"]))
        folder.pack(ws, ws.path("router", "model"), gates)
        command = [ws.command(folder.COMMAND), "measure", "--model", str(ws.path("router", "model"))]
        with ThreadPoolExecutor(ws["workers"]) as workers:
            list(workers.map(lambda part: stop or part.measure(command), missing))
    if not all(part.is_done() for part in parts):
        return None
    shown, severity, reached = (np.concatenate(values)[:count] for values in zip(*(part.read() for part in parts)))
    if mirrored:
        shown, severity, reached = np.concatenate([shown, shown[:, :, ::-1]]), np.tile(severity, (2, 1)), np.tile(reached, (2, 1))
    return estimator.features(estimator.trained(ws), shown), severity, torch.from_numpy(reached)


class Part:
    """The records from one number on: views and severities in one file, and a file of decibels for each expert, a column."""

    def __init__(self, ws, split, first, columns):
        self.ws, self.split, self.first = ws, split, first
        self.views = ws.path("router", split, f"{first}.npz")
        self.columns = [ws.path("router", split, str(first), name) for name in columns]

    def is_done(self):
        return self.views.exists() and all(path.exists() for path in self.columns)

    def read(self):
        data = np.load(self.views)
        return data["shown"], data["severity"], np.stack([np.load(path) for path in self.columns], 1)

    def measure(self, command):
        """Measure the experts that are missing; command is that of the runtime up to what to measure."""
        size = self.ws["router"]["size"]
        with views.records(self.ws, self.split, size, f"router {self.split}", start=self.first) as stream:
            records = stream.read(PART)
        if not self.views.exists():
            shown = np.stack([views.shown(self.ws, picture) for picture in records["degraded"]])
            with replacing(self.views) as temporary, open(temporary, "wb") as f:
                np.savez(f, shown=shown, severity=records["severity"][:, :len(self.ws["data"]["kinds"])])
        missing = {i: path for i, path in enumerate(self.columns) if not path.exists()}
        command = command + ["--size", str(size)] + [option for i in missing for option in ("--expert", str(i))]
        pictures = np.stack([records["degraded"], records["clean"]], 1).tobytes()
        made = subprocess.run(command, input=pictures, stdout=subprocess.PIPE, check=True, env=self.ws.environment())
        for path, reached in zip(missing.values(), json.loads(made.stdout)):
            with replacing(path) as temporary, open(temporary, "wb") as f:
                np.save(f, np.minimum(reached, MOST).astype(np.float32))
