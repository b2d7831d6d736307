"""The ONNX twin: spec and weights to a graph, and onnxruntime to run it."""

from pvt_packages import lazy_exports

_HOMES = {
    "EngineOptions": "pvt_onnx.engines.options",
    "Predictor": "pvt_onnx.predictor",
    "build": "pvt_onnx.graph.build",
    "list_models": "pvt_spec",
    "load": "pvt_onnx.predictor",
    "load_forward": "pvt_onnx.engines.session",
    "load_proto": "pvt_onnx.reading.files",
    "open_taps": "pvt_onnx.engines.tapped",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
