"""Weights between ``.ckpt``, ``.pth``, ``.safetensors``, ``.onnx`` and Hugging Face's folders.

Needs no framework.
"""

from pvt_packages import lazy_exports

_HOMES = {
    "ConvertError": "pvt_spec.errors",
    "Changes": "convert.options",
    "Given": "convert.options",
    "OnnxOptions": "convert.options",
    "Options": "convert.options",
    "convert_file": "convert.conversion",
    "load_model": "convert.model.read",
    "read_model": "convert.model.read",
    "save_model": "convert.model.write",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
