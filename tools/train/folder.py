"""The model folder: what is trained, stored for the runtime."""

import subprocess

from nets import tensors

from . import estimator, expert, photos, pool, views
from .loop import progress
from .workspace import write_json

COMMAND = "tools/train/cmd/model"
ROUTER = "router"  # the run of the gates
ENCODER = "daclip_model."


def prefixes(experts):
    """The name that each expert's tensors start with, as in the released checkpoint."""
    seen, names = {}, []
    for e in experts:
        number = seen.get(e["level"], 0)
        seen[e["level"]] = number + 1
        names.append(f"l{e['level']}_experts.{number}.")
    return names


def provenance(ws, layout):
    runs = {expert.run_name(e["name"]): e["name"] for e in layout["experts"]}
    runs |= {estimator.NAME: "estimator", ROUTER: "router"}
    notes = [f"seed {ws['seed']}; photos from {', '.join(photos.origins(ws))}"]
    for run, name in runs.items():
        made = progress(ws, run)
        notes.append(f"{name}: {made['step']} steps, {made['seconds'] / 3600:.2f} h")
    return {"converted": "tools/train", "dtype": "f16", "license": ws["export"]["license"], "notes": notes}


def configuration(ws, layout):
    """The config.json of the model folder."""
    names = prefixes(layout["experts"])
    experts = []
    for e, prefix in zip(layout["experts"], names):
        entry = {"name": e["name"], "architecture": e["architecture"], "args": e["args"], "prefix": prefix, "level": e["level"]}
        if e["architecture"] == "lora_restormer":
            entry["base"] = 0
        experts.append(entry)
    return {
        "format": "unirestorer", "version": 1, "name": ws["name"], "description": ws["export"]["description"],
        "estimator": {"architecture": "daclip", "args": ws["estimator"]["args"], "prefix": ENCODER,
                      "mean": list(views.MEAN), "std": list(views.STD), "fragments": ws["estimator"]["fragments"]},
        "router": {"width": ws["estimator"]["args"]["embed_dim"], "prefix": ""},
        "tree": {"leaves": layout["leaves"], "levels": layout["levels"]},
        "experts": experts,
        "provenance": provenance(ws, layout),
    }


def pack(ws, folder, gates):
    """Write the model folder: the encoder and the pool's experts as trained so far, and these gates. Gives the encoder and
    the experts."""
    layout = pool.load(ws)
    encoder, networks = estimator.trained(ws).cpu(), [expert.trained(ws, e).cpu() for e in layout["experts"]]
    state = {ENCODER + key: value for key, value in encoder.state_dict().items()} | gates.cpu().state_dict()
    for prefix, net in zip(prefixes(layout["experts"]), networks):
        state |= {prefix + key: value for key, value in net.state_dict().items()}
    tensors_file, config = ws.path("export", "model.safetensors"), ws.path("export", "config.json")
    tensors.save(tensors_file, state)
    write_json(config, configuration(ws, layout))
    subprocess.run([ws.command(COMMAND), "pack", "--config", str(config), "--tensors", str(tensors_file), "--out", str(folder),
                    "--max-bytes", str(ws["export"]["max_bytes"])], check=True)
    return encoder, networks
