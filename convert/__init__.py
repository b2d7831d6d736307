"""Weights between ``.ckpt``, ``.pth``, ``.safetensors``, ``.onnx`` and Hugging Face's folders.

Needs no framework. May import numpy, onnx, pvt_spec and pvt_onnx's graph builder.
"""

from pvt_spec.lazy import lazy_exports

_HOMES = {
    "ConvertError": "convert.errors",
    "Changes": "convert.changes",
    "Given": "convert.model_file",
    "OnnxOptions": "convert.saving",
    "Options": "convert.conversion",
    "convert_file": "convert.conversion",
    "load_model": "convert.model_file",
    "read_model": "convert.model_file",
    "save_model": "convert.saving",
}
__all__ = list(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
