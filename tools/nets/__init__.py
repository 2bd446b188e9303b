"""PyTorch forms of the networks, with upstream's tensor names and arguments.

They exist to train small models and to measure peers on the same networks; the runtime does not use them. One file an
architecture; check.py holds them against the golden cases.
"""

from .daclip import DACLIP
from .dehazeformer import DehazeFormer
from .nafnet import NAFNet, NAFNetLocal
from .restormer import LoRARestormer, Restormer
from .retinexformer import RetinexFormer
from .router import Router

ARCHITECTURES = {
    "restormer": Restormer,
    "lora_restormer": LoRARestormer,
    "nafnet": NAFNet,
    "nafnet_local": NAFNetLocal,
    "dehazeformer": DehazeFormer,
    "retinexformer": RetinexFormer,
}


def build(architecture, args):
    """The network of that architecture with its constructor arguments."""
    return ARCHITECTURES[architecture](**args)
