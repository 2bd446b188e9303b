"""The whole recipe for a few steps, on generated pictures and with tiny networks, in about a minute."""

import copy
import itertools
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
import torch
from PIL import Image

from . import expert, imported, jobs, photos, pool
from .loop import averaged, prepare
from .workspace import PACKAGE, Workspace, read_json, write_json


def shrunken(config):
    """The configuration with everything small; its structure is that of the real one."""
    c = copy.deepcopy(config)
    c |= {"name": "smoke", "log_steps": 2, "validate_steps": 3, "save_seconds": 0}
    c["photos"].pop("repositories")
    c["data"]["levels"] = 1
    c["validation"] |= {"per_kind": 1, "size": 48}
    c["estimator"] |= {"fragments": 3, "views": {"train": {"64": 80, "96": 80}, "validation": {"64": 24}}, "steps": 6, "batch": 16}
    c["estimator"]["confused"]["views"] = {"64": 20}
    c["estimator"]["args"] = {"embed_dim": 16, "vision_cfg": {
        "image_size": 48, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}}
    c["tree"] |= {"k": "5:6", "leaves": 5, "groups": 2}
    small = {"dim": 8, "num_blocks": [1, 1, 1, 1]}
    c["architectures"]["restormer"] |= small
    c["architectures"]["lora_restormer"] |= small
    c["architectures"]["nafnet_local"] |= {"width": 8, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1], "middle_blk_num": 1}
    c["architectures"]["dehazeformer"] |= {"embed_dims": [8, 16, 32, 16, 8], "depths": [1, 2, 2, 1, 1]}
    c["architectures"]["retinexformer"] |= {"n_feat": 8, "num_blocks": [1, 1, 1]}
    c["experts"] |= {"stages": [{"until": 0.5, "size": 32, "batch": 2}, {"until": 1, "size": 48, "batch": 1}], "warmup": 1}
    for level in ("coarse", "middle", "fine", "scratch"):
        c["experts"][level]["steps"] = 4
        for rule in ("architectures", "roles"):
            c["experts"][level].pop(rule, None)
    c["router"] |= {"records": 24, "validation_records": 8, "size": 96, "steps": 6, "batch": 16}
    return c


def pictures(folder, count, seed):
    """Pictures with edges, gradients and texture."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        y, x = np.mgrid[0:160, 0:200] / 200
        image = np.stack([0.5 + 0.4 * np.sin(x * random.uniform(3, 40) + y * random.uniform(3, 40)) for _ in range(3)], -1)
        for _ in range(12):
            left, top = random.integers(0, 170), random.integers(0, 130)
            image[top:top + random.integers(8, 60), left:left + random.integers(8, 60)] = random.uniform(0, 1, 3)
        Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).save(folder / f"{i}.png")


def every_architecture(ws):
    """Give the leaves' experts all architectures in turn: an encoder that saw a few steps makes clusters of any kind, so
    that the rules of the configuration may use only some."""
    layout = read_json(ws.path("pool.json"))
    fine = [e for e in layout["experts"] if e["level"] == 2]
    for e, architecture in zip(fine, itertools.cycle(ws["architectures"])):
        adapted = architecture in ("restormer", "lora_restormer")
        e |= {"architecture": architecture, "args": ws["architectures"][architecture], "parent": pool.COARSE if adapted else None}
    write_json(ws.path("pool.json"), layout)


def check_repositories(root):
    """Photos of a repository come at its commit, those that were asked for and no others, and are fetched once."""
    origin, cache = root / "origin", root / "fetched"
    pictures(origin / "photos", 3, 4)
    (origin / "LICENCE").write_text("of this test")
    for command in (["init", "--quiet"], ["config", "uploadpack.allowFilter", "true"],
                    ["config", "uploadpack.allowAnySHA1InWant", "true"], ["add", "."],
                    ["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "pictures"]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=origin, check=True, capture_output=True, text=True).stdout.strip()
    wanted = Image.open(origin / "photos/0.png").convert("RGB")
    Image.new("RGB", wanted.size).save(origin / "photos/0.png")  # a later state, which must not be taken
    subprocess.run(["git", "rm", "--quiet", "--force", "photos/1.png"], cwd=origin, check=True)
    write_json(root / "repositories.json", [{
        "url": origin.as_uri(), "commit": commit, "licence": "none", "notice": "LICENCE", "shrink": 1,
        "files": ["photos/0.png", "photos/1.png"], "validation": ["photos/1.png"]}])
    write_json(root / "photos.json", {"name": "smoke", "photos": {
        "max_side": 2048, "min_side": 100, "enough": 100, "packages": {}, "repositories": "repositories.json"}})
    ws = Workspace(root / "photos.json", cache)
    photos.fetch(ws)
    shutil.rmtree(origin)
    photos.fetch(ws)
    found = {split: sorted(ws.photos(split).glob("*.png")) for split in ("train", "validation")}
    if [len(f) for f in found.values()] != [1, 1] or Image.open(found["train"][0]).tobytes() != wanted.tobytes():
        raise SystemExit(f"other photos than the repository's came: {found}")
    if not list(ws.photos("licences").iterdir()):
        raise SystemExit("the repository's notice was not kept")


class After:
    """Asks a training loop to stop after some steps."""

    def __init__(self, steps):
        self.left = steps + 1

    def __bool__(self):
        self.left -= 1
        return self.left <= 0


def check_resuming(ws, root):
    """Training that was stopped in between must come to the very weights of training that was not."""
    prepare(ws)
    again = Workspace(ws.config_path, root / "again")
    again.cache.mkdir()
    for shared in ("photos", "bin"):
        (again.cache / shared).symlink_to(ws.cache / shared)
    if expert.train(again, pool.COARSE, After(2)) or not expert.train(again, pool.COARSE, After(100)):
        raise SystemExit("training does not stop or end where it should")
    one, other = (averaged(w, expert.run_name(pool.COARSE)) for w in (ws, again))
    if any(not torch.equal(one[key], other[key]) for key in one):
        raise SystemExit("training that was stopped and resumed came to other weights")


def check_further(ws, root):
    """An expert of the exported model is trained further, from its own weights, and written back."""
    name = next(e["name"] for e in pool.load(ws)["experts"] if e["architecture"] == "nafnet_local")
    pictures(ws.photos("negatives"), 2, 3)
    config = copy.deepcopy(ws.config)
    config["further"] |= {"model": str(ws.path("export", "model")), "experts": {name: {
        "share": 0.5, "kinds": ["noise", "camera"], "severity": "0.3:1", "steps": 4, "lr": 1e-3, "saved": 0.5, "negatives": 0.2,
        "mixed": 0.1, "clean": 0.2, "others": 0.1, "stages": [{"until": 1, "size": 48, "batch": 2}]}}}
    write_json(root / "further.json", config)
    further = Workspace(root / "further.json", ws.cache)
    for command in (["further-expert", name], ["export-further", str(root / "further"), name]):
        subprocess.run(jobs.command(further, *command), cwd=PACKAGE.parent, check=True)
    before, after = (imported.Model(folder) for folder in (ws.path("export", "model"), root / "further"))
    own = before.expert(name)["prefix"]
    for key, value in before.tensors.items():
        if not key.startswith(own) and not torch.equal(value, after.tensors[key]):
            raise SystemExit(f"{key} changed, of another network than was trained further")
    if all(torch.equal(value, after.part(own)[key]) for key, value in before.part(own).items()):
        raise SystemExit(f"{name} is as it was before it was trained further")


def run():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        check_repositories(root)
        write_json(root / "smoke.json", shrunken(read_json(PACKAGE / "nano.json")))
        ws = Workspace(root / "smoke.json", root / "cache")
        pictures(ws.photos("train"), 4, 1)
        pictures(ws.photos("validation"), 2, 2)
        write_json(ws.photos("list.json"), [{"file": "0.png", "package": "generated"}])
        for step in ("estimator", "tree"):
            subprocess.run(jobs.command(ws, step), cwd=PACKAGE.parent, check=True)
        every_architecture(ws)
        jobs.run(ws)
        check_resuming(ws, root)
        check_further(ws, root)
        subprocess.run(jobs.command(ws, "evaluate"), cwd=PACKAGE.parent, check=True)
        print("smoke test passed")
    return 0
