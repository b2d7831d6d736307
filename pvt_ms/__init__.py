"""The MindSpore twin. May import mindspore, pvt_spec, pvt_train and convert."""

from pvt_ms.model import PyramidVisionTransformer
from pvt_ms.taps import run_taps
from pvt_ms.weights import create_model, get_weights, set_weights
from pvt_spec import list_models

__all__ = [
    "PyramidVisionTransformer",
    "create_model",
    "get_weights",
    "list_models",
    "run_taps",
    "set_weights",
]
