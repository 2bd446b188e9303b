"""Fetches the photos: pictures from Debian packages and from repositories, split into those for training and those for
watching it, and negatives, pictures that are no photos."""

import glob
import pathlib
import shutil
import subprocess
import tempfile

from PIL import Image

from . import repositories
from .workspace import read_json, write_json


def fetch(ws):
    """Download the packages and repositories of the configuration and write their photos as PNG, no larger than max_side.
    Negatives are screenshots, scans and textures: nothing has been done to them, whatever they look like."""
    listed = fetched(ws, "list.json", ws["photos"]["packages"], None)
    cloned(ws)
    fetched(ws, "negatives.json", ws["photos"].get("negatives", {}), "negatives")
    return listed


def is_done(ws):
    """Whether all that the configuration names was fetched."""
    return ws.photos("list.json").exists() and not missing(ws)


def missing(ws):
    """The repositories of the configuration that were not fetched at their commit."""
    if "repositories" not in ws["photos"]:
        return []
    path = ws.photos("repositories.json")
    done = read_json(path) if path.exists() else {}
    return [r for r in read_json(ws.config_path.parent / ws["photos"]["repositories"]) if identity(r) not in done]


def identity(repository):
    return f"{repository['url']} {repository['commit']}"


def cloned(ws):
    """Fetch the photos of the repositories that are missing, and list them."""
    path = ws.photos("repositories.json")
    for repository in missing(ws):
        done = read_json(path) if path.exists() else {}
        with tempfile.TemporaryDirectory() as folder:
            done[identity(repository)] = pictures_of(ws, repository, repositories.fetched(repository, pathlib.Path(folder)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, done)


def pictures_of(ws, repository, root):
    """Write the photos of a repository that was checked out at root. Returns their entries in the list."""
    name = "-".join(repository["url"].rsplit("/", 2)[1:])
    keep_licence(ws, name, root / repository["notice"])
    listed = []
    for i, file in enumerate(repository["files"]):
        image = opened(root / file)
        split = "validation" if file in repository["validation"] else "train"
        target = f"{name}-{i:03}-{pathlib.PurePosixPath(file).stem}.png"
        shrink = min(repository["shrink"], min(image.size) / ws["photos"]["enough"])
        listed += save(ws, image, split, target, f"{name} {repository['commit'][:12]}", file, shrink)
    if len(listed) != len(repository["files"]):
        raise SystemExit(f"some of the photos of {repository['url']} are smaller than {ws['photos']['min_side']} pixels")
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
            keep_licence(ws, package, documents / "copyright")
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


def keep_licence(ws, name, notice):
    target = ws.photos("licences") / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notice, target)


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
    return save(ws, opened(source), split, name, archive, inside, config["shrink"].get(package, 1))


def opened(path):
    return Image.open(path).convert("RGB")


def save(ws, image, split, name, origin, inside, shrink):
    """Write a picture made smaller by a factor, which takes the blocks of compression and camera noise away, and not larger
    than max_side; one that is too small is left out. Returns its entry in the list, or none."""
    config = ws["photos"]
    if shrink > 1:
        image = image.resize([round(side / shrink) for side in image.size], Image.LANCZOS)
    image = halved(image, config["max_side"])
    if min(image.size) < config["min_side"]:
        return []
    target = ws.photos(split) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, compress_level=1)
    return [{"file": name, "split": split, "size": list(image.size), "package": origin, "source": inside}]


def halved(image, max_side):
    """Averages 2×2 pixels until no side is longer; that also takes camera noise away."""
    while max(image.size) > max_side:
        image = image.reduce(2)
    return image


def origins(ws):
    """The packages and repositories that photos came from, for provenance."""
    listed = read_json(ws.photos("list.json"))
    if "repositories" in ws["photos"]:
        listed += sum(read_json(ws.photos("repositories.json")).values(), [])
    return sorted({photo["package"] for photo in listed})
