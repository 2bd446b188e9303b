"""Takes up a model that was exported: its encoder and gates, to train them further, and everything else as it is."""

import pathlib
import subprocess

import torch

from nets import DACLIP, Router, tensors

from . import folder
from .workspace import read_json, write_json


class Model:
    """A model folder: its configuration, all tensors by name, and the encoder and router built from them."""

    def __init__(self, path):
        path = pathlib.Path(path)
        self.config = read_json(path / "config.json")
        index = read_json(path / "tensors.json")
        self.tensors = {}
        for shard in index["shards"]:
            self.tensors |= tensors.load(path / shard["file"])
        for alias, name in index["aliases"].items():
            self.tensors[alias] = self.tensors[name]
        self.leaves = self.config["tree"]["leaves"]
        self.levels = self.config["tree"]["levels"]
        self.encoder_prefix = self.config["estimator"]["prefix"]
        self.router_prefix = self.config["router"]["prefix"]

    def encoder(self):
        net = DACLIP(**self.config["estimator"]["args"])
        # What only the released model's content encoder reads is not exported.
        missing, _ = net.load_state_dict(self.part(self.encoder_prefix), strict=False)
        unknown = [name for name in missing if "zero_modules" not in name]
        if unknown:
            raise SystemExit(f"the model lacks {unknown[0]} of the encoder")
        return net

    def router(self):
        net = Router(self.config["router"]["width"], len(self.leaves), len(self.levels))
        state = {k: v for k, v in self.part(self.router_prefix).items() if k in net.state_dict()}
        net.load_state_dict(state | {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")})
        return net

    def part(self, prefix):
        """The tensors whose names start with a prefix, without it, in fp32."""
        return {name[len(prefix):]: value.float() for name, value in self.tensors.items() if name.startswith(prefix)}

    def expert(self, name):
        """The configuration of the expert of that name."""
        for expert in self.config["experts"]:
            if expert["name"] == name:
                return expert
        raise SystemExit(f"the model has no expert {name!r}")

    def write(self, ws, trained, notes, out):
        """A model folder like this one in which the tensors trained, by name, take the place of its own."""
        unknown = [name for name in trained if name not in self.tensors]
        if unknown:
            raise SystemExit(f"the model has no tensor {unknown[0]!r}")
        state = self.tensors | {name: value.cpu() for name, value in trained.items()}
        config = {**self.config, "provenance": {**self.config["provenance"]}}
        config["provenance"]["license"] = ws["export"]["license"]
        config["provenance"]["notes"] = config["provenance"].get("notes", []) + notes
        tensors_file, config_file = ws.path("further", "model.safetensors"), ws.path("further", "config.json")
        tensors.save(tensors_file, {name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()})
        write_json(config_file, config)
        subprocess.run([ws.command(folder.COMMAND), "pack", "--config", str(config_file), "--tensors", str(tensors_file),
                        "--out", str(out), "--max-bytes", str(ws["export"]["max_bytes"])], check=True)
