"""Weights between ``.ckpt``, ``.pth`` and ``.onnx``; names between dialects.

Needs no framework. May import numpy, onnx, pvt_spec and pvt_onnx's graph builder.
"""

from pvt_spec.lazy import lazy_exports

_HOMES = {
    "ConvertError": "convert.errors",
    "Given": "convert.model_file",
    "load_model": "convert.model_file",
    "read_model": "convert.model_file",
    "save_model": "convert.saving",
}
__all__ = list(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
