"""Trains an expert of an exported model further, on pictures as people save them and as cameras see them."""

from nets import build

from . import imported
from .loop import averaged, fit, progress
from .records import Records
from .restore import Patches, measure, restoration_loss, validation_set


def run_name(name):
    return "further-" + name


def options_of(ws, name):
    """The configuration of a further training: that of all experts, with the expert's own over it."""
    own = ws["further"]["experts"].get(name)
    if own is None:
        raise SystemExit(f"no expert {name!r} is trained further; known are {', '.join(ws['further']['experts'])}")
    return ws["experts"] | own


def network(model, name):
    """The expert of that name with the model's weights."""
    expert = model.expert(name)
    net = build(expert["architecture"], expert["args"])
    net.load_state_dict(net.state_dict() | model.part(expert["prefix"]))
    return net


def held(ws, options):
    """Pictures that only watch training: those of the recipe, and as many of each kind as people save them."""
    sets, v = validation_set(ws), ws["validation"]
    shown = {kind: sets[kind] for kind in [*options["kinds"], "clean"] if kind in sets}
    for kind in [*options["kinds"], "clean"]:
        alone = {"mixed": 0, "clean": 1} if kind == "clean" else {"kinds": [kind], "mixed": 0, "clean": 0}
        with Records(ws, "validation", v["size"], v["seed"], severity=v["severity"], saved=1, visible=True,
                     photographed=options.get("photographed", 0), **alone) as stream:
            records = stream.read(v["per_kind"])
        shown[f"{kind} saved"] = records["degraded"], records["clean"]
    return shown


def train(ws, name, stop):
    options = options_of(ws, name)
    model = imported.Model(ws.repository / ws["further"]["model"])
    net = network(model, name)
    patches = Patches(ws, run_name(name), options["steps"], options["stages"], kinds=options["kinds"],
                      severity=options["severity"], mixed=options["mixed"], clean=options["clean"], others=options["others"],
                      partners=ws["data"]["kinds"] if options.get("any_partner") else None,
                      tones=options["tones"], backdrops=options["backdrops"], saved=options["saved"], visible=True,
                      photographed=options.get("photographed", 0), negatives=options.get("negatives", 0))
    sets = held(ws, options)

    def loss(net, step):
        degraded, clean = patches.batch(step)
        return restoration_loss(net(degraded), clean, options["floor"], options["l1"]), {}

    if not progress(ws, run_name(name))["step"]:
        print("before:", measure(net.eval(), sets), flush=True)
    try:
        return fit(ws, run_name(name), net, loss, steps=options["steps"], lr=options["lr"], warmup=options["warmup"],
                   weight_decay=options["weight_decay"], ema=options["ema"], stop=stop,
                   validate=lambda mean: measure(mean, sets))
    finally:
        patches.close()


def trained(ws, model, name):
    """The tensors that an expert has come to, by the model's names."""
    prefix = model.expert(name)["prefix"]
    return {prefix + key: value for key, value in averaged(ws, run_name(name)).items()}
