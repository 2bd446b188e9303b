"""Clusters the encoder's features of the training set and lays out the pool over the clusters."""

import subprocess

import numpy as np

from . import estimator, pool, views
from .workspace import read_json, replacing


def build(ws):
    config = ws["tree"]
    images, severity = views.dataset(ws, "train")
    names = views.kind_names(ws, severity)
    # Clusters are named and judged by degradations that come alone; mixed ones belong to several.
    alone = np.flatnonzero(["+" not in name for name in names])
    alone = alone[::-(-len(alone) // config["samples"])]
    features = estimator.features(estimator.trained(ws), images[alone]).numpy()
    names, severity = names[alone], severity[alone].max(1)
    with replacing(ws.path("tree", "features.npy")) as temporary, open(temporary, "wb") as f:
        np.save(f, features.astype(np.float32))
    ws.path("tree", "labels.txt").write_text("\n".join(names) + "\n")
    command = [ws.command("tools/cluster/cmd/cluster"), "--features", str(ws.path("tree", "features.npy")),
               "--labels", str(ws.path("tree", "labels.txt")), "--out", str(ws.path("tree", "clusters")),
               "--k", config["k"], "--seed", str(ws["seed"])]
    for option in ("leaves", "groups", "method"):
        if config[option]:
            command += ["--" + option, str(config[option])]
    subprocess.run(command, check=True)
    leaf_of = np.loadtxt(ws.path("tree", "clusters", "leaves.txt"), dtype=int)
    tree = read_json(ws.path("tree", "clusters", "tree.json"))
    return pool.lay_out(ws, tree, leaf_of, names, severity)


def is_done(ws):
    return ws.path("pool.json").exists()


def leaves(ws, features):
    """The leaf of each sample: the one with the nearest centroid, as the clustering measures distance."""
    tree = read_json(ws.path("tree", "clusters", "tree.json"))
    x = features.numpy()
    if tree["normalization"] != "l2":
        raise SystemExit(f"features normalised by {tree['normalization']} are not supported")
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    centroids = np.array([leaf["centroid"] for leaf in tree["leaves"]])
    return ((x[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
