"""The PyTorch twin. May import torch, pvt_spec, pvt_train and convert."""

from pvt_spec import list_models
from pvt_torch.model import PyramidVisionTransformer
from pvt_torch.taps import run_taps
from pvt_torch.weights import create_model, get_weights, set_weights

__all__ = [
    "PyramidVisionTransformer",
    "create_model",
    "get_weights",
    "list_models",
    "run_taps",
    "set_weights",
]
