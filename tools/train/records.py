"""Training records from the Go command pairs: clean and degraded patches of photos, numbered and reproducible."""

import functools
import json
import subprocess

import numpy as np


@functools.lru_cache(maxsize=None)
def _describe(binary, photos, size, levels):
    out = subprocess.run([binary, "--photos", photos, "--size", str(size), "--levels", str(levels), "--describe"],
                         check=True, capture_output=True)
    return json.loads(out.stdout)


def described(binary, photos, size, levels):
    """The type of a record and the names of its columns of severities."""
    form = _describe(binary, photos, size, levels)
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in form["fields"]]), form["kinds"]


class Records:
    """A stream of records; read gives the next ones as a NumPy structured array."""

    def __init__(self, ws, split, size, seed, start=0, kinds=None, severity=None, mixed=None, clean=None, others=0,
                 tones=0, backdrops=0, partners=None, specs=(), saved=0, photographed=0, visible=False, negatives=0):
        data = ws["data"]
        binary, photos = ws.command("tools/degrade/cmd/pairs"), str(ws.photos(split))
        self.dtype, known = described(binary, photos, size, data["levels"])
        if known[:len(data["kinds"])] != data["kinds"]:
            raise SystemExit(f"the configuration's kinds are not the first of {known}")
        command = [binary, "--photos", photos, "--size", str(size), "--levels", str(data["levels"]),
                   "--seed", str(seed), "--start", str(start),
                   "--severity", severity or data["severity"],
                   "--mixed", str(data["mixed"] if mixed is None else mixed),
                   "--clean", str(data["clean"] if clean is None else clean), "--others", str(others), "--tones", str(tones),
                   "--backdrops", str(backdrops), "--saved", str(saved), "--photographed", str(photographed)]
        if visible:
            command += ["--visible"]
        if negatives:
            command += ["--negatives", str(ws.photos("negatives")), "--negative-share", str(negatives)]
        for option, names in (("--kinds", kinds), ("--partners", partners)):
            if names:
                command += [option, ",".join(names)]
        for spec in specs:
            command += ["--spec", spec]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=ws.environment())

    def read(self, count):
        data = self.process.stdout.read(count * self.dtype.itemsize)
        if len(data) != count * self.dtype.itemsize:
            raise RuntimeError(f"the stream of records ended early (pairs exited with {self.process.wait()})")
        return np.frombuffer(data, self.dtype)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
