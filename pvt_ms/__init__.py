"""The MindSpore twin."""

from pvt_packages import lazy_exports

_HOMES = {
    "PyramidVisionTransformer": "pvt_ms.model",
    "create_model": "pvt_ms.weights",
    "get_weights": "pvt_ms.weights",
    "list_models": "pvt_spec",
    "load_forward": "pvt_ms.runtime",
    "model_from_weights": "pvt_ms.weights",
    "run_taps": "pvt_ms.taps",
    "set_weights": "pvt_ms.weights",
}
__all__ = list(_HOMES)
__getattr__ = lazy_exports(__name__, _HOMES)
