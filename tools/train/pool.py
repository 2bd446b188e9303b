"""Lays out the pool of experts over the clustering tree."""

import numpy as np

from nets import DACLIP, build

from .workspace import read_json, write_json

COARSE = "coarse"
LEVELS = ("coarse", "middle", "fine")


def coarse(ws):
    """The expert for everything; it needs no tree."""
    return {"name": COARSE, "level": 0, "architecture": ws["pool"]["coarse"], "args": ws["architectures"][ws["pool"]["coarse"]],
            "parent": None, "kinds": None, "severity": None, "training": ws["experts"]["coarse"]}


def load(ws):
    return read_json(ws.path("pool.json"))


def find(ws, name):
    """The expert of that name."""
    if name == COARSE:
        return coarse(ws)
    for expert in load(ws)["experts"]:
        if expert["name"] == name:
            return expert
    raise SystemExit(f"no expert is called {name!r}")


def lay_out(ws, tree, leaf_of, kinds, severities):
    """Write pool.json from the tree that the command cluster made, the leaf of each sample, and the kinds [N] and
    severities [N] of the samples."""
    groups, leaves = tree["groups"], tree["leaves"]
    group_of = np.array([leaf["parent"] for leaf in leaves])[leaf_of]
    root = coarse(ws)
    experts, middle = [root], []
    for g, group in enumerate(groups):
        main = main_kind(group)
        if len(group["children"]) == 1 and not ws["pool"]["middle"].get(main, True):
            middle.append(None)  # this group shares the expert of its only leaf
            continue
        middle.append(len(experts))
        experts.append(expert(ws, 1, g, main, root, ws["pool"]["middle"], group_of == g, kinds, severities))
    table, twins = [], []
    for i, leaf in enumerate(leaves):
        main, index = main_kind(leaf), middle[leaf["parent"]]
        parent = experts[index] if index is not None else root
        fine = expert(ws, 2, i, main, parent, ws["pool"]["fine"], leaf_of == i, kinds, severities, root)
        table.append([0, len(experts) if index is None else index, len(experts)])
        experts.append(fine)
        rule = ws["pool"]["twins"]
        if main in rule["kinds"] and fine["architecture"] != rule["architecture"]:
            twin = expert(ws, 2, i, main, root, {"*": rule["architecture"]}, leaf_of == i, kinds, severities, root)
            twin["name"] += "-twin"
            twins.append(twin)
    pool = {"levels": list(LEVELS), "experts": experts + twins, "leaves": [
        {"name": leaf["name"], "kinds": tree["tree"]["leaves"][i].get("kinds", []), "experts": table[i]}
        for i, leaf in enumerate(leaves)]}
    check_size(ws, pool["experts"])
    write_json(ws.path("pool.json"), pool)
    return pool


def check_size(ws, experts):
    """Refuse a pool that could not be exported, before it is trained. Adapters' bases are stored once."""
    values = sum(p.numel() for p in DACLIP(**ws["estimator"]["args"]).parameters())
    for e in experts:
        state = build(e["architecture"], e["args"]).state_dict()
        values += sum(v.numel() for k, v in state.items() if e["architecture"] != "lora_restormer" or ".conv." not in k)
    limit = ws["export"]["max_bytes"]
    print(f"pool of {len(experts)} experts: {2 * values / 1e6:.2f} MB in fp16")
    if 2 * values > 0.98 * limit:
        raise SystemExit(f"the pool takes {2 * values} bytes, export allows {limit}")


def main_kind(node):
    return max(sorted(node["classes"]), key=lambda kind: node["classes"][kind])


def expert(ws, level, number, main, parent, rules, members, kinds, severities, root=None):
    architecture = rules.get(main) or rules["*"]
    # Around clean pictures lie mild cases of everything.
    own, severity = training_range(ws, main == "clean" and level == 2, kinds[members], severities[members])
    if architecture == "lora_restormer":
        parent = root or parent
    elif architecture != parent["architecture"]:
        parent = root if root is not None and architecture == root["architecture"] else None
    kind_of_training = LEVELS[level] if parent is not None else "scratch"
    training = {**ws["experts"][LEVELS[level]], **ws["experts"][kind_of_training]}
    for rule, value in (("architectures", architecture), ("roles", f"{LEVELS[level]}-{main}")):
        training |= training.pop(rule, {}).get(value, {})
    own = training.pop("kinds", own)  # a role may name the kinds itself
    training["clean"] = max(training.get("clean", 0), round(float((kinds[members] == "clean").mean()), 2))
    return {"name": f"{LEVELS[level]}-{number}-{main}", "level": level, "architecture": architecture,
            "args": ws["architectures"][architecture], "parent": parent and parent["name"], "kinds": own,
            "severity": severity, "training": training}


def training_range(ws, everything, kinds, severities):
    """The kinds that make up a share of a cluster, or none for all of them, and where their severities lie but for a
    twentieth at either end."""
    names, counts = np.unique(kinds, return_counts=True)
    common = names[(names != "clean") & (counts >= ws["tree"]["share"] * counts.sum())]
    own = None if everything else [kind for kind in ws["data"]["kinds"] if kind in common] or None
    s = severities[kinds != "clean" if own is None else np.isin(kinds, own)]
    if not len(s):
        return own, "0.02:0.2"
    low, high = np.quantile(s, 0.05), np.quantile(s, 0.95)
    low, high = max(0.05, np.floor(low * 20) / 20 - 0.05), min(1.0, np.ceil(high * 20) / 20 + 0.05)
    return own, f"{low:.2f}:{high:.2f}"
