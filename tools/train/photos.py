"""Fetches the photos: pictures from Debian packages, split into those for training and those for watching it, and
negatives, pictures that are no photos."""

import glob
import pathlib
import shutil
import subprocess
import tempfile

from PIL import Image

from .workspace import read_json, write_json


def fetch(ws):
    """Download the packages of the configuration and write their photos as PNG, no larger than max_side. Negatives are
    screenshots, scans and textures: nothing has been done to them, whatever they look like."""
    listed = fetched(ws, "list.json", ws["photos"]["packages"], None)
    fetched(ws, "negatives.json", ws["photos"].get("negatives", {}), "negatives")
    return listed


def fetched(ws, name, packages, split):
    """The pictures of those packages, in one split or in the one that their names choose; what was fetched is listed."""
    if ws.photos(name).exists() or not packages:
        return read_json(ws.photos(name)) if packages else []
    listed = []
    for package, patterns in packages.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            archive = unpacked(package, root)
            documents = root / "files/usr/share/doc" / package
            if documents.is_symlink():  # the licence lies in a package beside it
                unpacked(documents.readlink().name, root)
            keep_licence(ws, package, documents)
            for pattern in patterns:
                for source in sorted(glob.glob(str(root / "files" / pattern))):
                    listed += add(ws, package, archive.name, pathlib.Path(source), root / "files", split)
    if not listed:
        raise SystemExit("no photos: the patterns in the configuration match nothing")
    listed.sort(key=lambda p: (p["split"], p["file"]))
    write_json(ws.photos(name), listed)
    return listed


def unpacked(package, root):
    """Download a package and unpack it into root/files. Returns the archive."""
    known = set(root.glob("*.deb"))
    subprocess.run(["apt-get", "download", package], cwd=root, check=True, stdout=subprocess.DEVNULL)
    archive = (set(root.glob("*.deb")) - known).pop()
    subprocess.run(["dpkg", "-x", str(archive), str(root / "files")], check=True)
    return archive


def keep_licence(ws, package, documents):
    target = ws.photos("licences") / package
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(documents / "copyright", target)


def add(ws, package, archive, source, root, split):
    config = ws["photos"]
    inside = str(source.relative_to(root))
    if any(word in inside for word in config["exclude"]):
        return []
    if split is None:
        split = "validation" if any(word in inside for word in config["validation"]) else "train"
    # Wallpapers are named by their size; then the folder's name says more.
    parts = [p for p in source.relative_to(root).parts if p not in ("usr", "share", "contents", "images")]
    name = f"{package}-{'-'.join(parts[1:-1] + [source.stem])}.png"
    image = Image.open(source).convert("RGB")
    shrink = config["shrink"].get(package, 1)
    if shrink > 1:  # small and strongly compressed: that takes the blocks away
        image = image.resize([round(side / shrink) for side in image.size], Image.LANCZOS)
    image = halved(image, config["max_side"])
    if min(image.size) < config["min_side"]:
        return []
    target = ws.photos(split) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, compress_level=1)
    return [{"file": name, "split": split, "size": list(image.size), "package": archive, "source": inside}]


def halved(image, max_side):
    """Averages 2×2 pixels until no side is longer; that also takes camera noise away."""
    while max(image.size) > max_side:
        image = image.reduce(2)
    return image


def licence_of(listed):
    """The packages that photos came from, for provenance."""
    return sorted({p["package"] for p in listed})
