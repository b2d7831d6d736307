"""What runs a model in MindSpore, in the words of all twins. Nothing heavy is imported."""

from pvt_onnx.engines.options import EngineOptions

DEVICES = {"auto": None, "cpu": "CPU", "cann": "Ascend"}
"""Provider -> MindSpore's name; ``auto`` is what it finds by itself: an Ascend, else the CPU."""

_PRECISIONS = ("fp32", "hf32-conv", "fp16")
_PROVIDERS = {"auto": _PRECISIONS, "cpu": ("fp32", "fp16"), "cann": _PRECISIONS}

ENGINES = {"mindspore": _PROVIDERS, "mindspore-graph": _PROVIDERS}
"""The engines, as :data:`pvt_onnx.engines.options.Choices`."""

OPTIONS = EngineOptions("mindspore", "auto")
"""What runs a model where nothing is chosen."""
