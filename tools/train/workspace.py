"""The configuration and the folders of a training run."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess

PACKAGE = pathlib.Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent.parent


def default_cache():
    """The folder for photos, checkpoints and curves: outside of the work tree, and kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "unirestorer"


class Workspace:
    """A configuration file and where its results are kept."""

    def __init__(self, config_path, cache):
        self.config_path = pathlib.Path(config_path).resolve()
        self.config = json.loads(self.config_path.read_text())
        self.cache = pathlib.Path(cache).resolve()
        self.repository = REPOSITORY

    def __getitem__(self, key):
        return self.config[key]

    def photos(self, split):
        """Photos of a split: train, validation."""
        return self.cache / "photos" / self["name"] / split

    def path(self, *parts):
        """A path in the run's own folder, whose parent folder is made."""
        path = self.cache.joinpath(self["name"], *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def command(self, package):
        """A Go command of this repository, built when its sources changed."""
        binary = self.cache / "bin" / pathlib.PurePosixPath(package).name
        binary.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", str(binary), "./" + package], cwd=REPOSITORY, check=True)
        return str(binary)

    def environment(self):
        """The environment of a Go command: it gets as many threads as a process of training."""
        return {**os.environ, "GOMAXPROCS": str(self["threads"])}

    def seed(self, name):
        """A seed for the part of the recipe with that name."""
        digest = hashlib.sha256(f"{self['seed']}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "little")


@contextlib.contextmanager
def replacing(path):
    """A temporary path that takes the place of path when the block ends well."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, value):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path):
    return json.loads(pathlib.Path(path).read_text())
