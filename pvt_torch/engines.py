"""What runs a model in PyTorch, in the words of all twins. Nothing heavy is imported."""

from pvt_onnx.engines.options import EngineOptions

_PROVIDERS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32")}

ENGINES = {"torch": _PROVIDERS, "torch-compile": _PROVIDERS}
"""The engines, as :data:`pvt_onnx.engines.options.Choices`."""

OPTIONS = EngineOptions("torch")
"""What runs a model where nothing is chosen."""
