"""The PyTorch twin."""

from pvt_packages import lazy_exports

_HOMES = {
    "PyramidVisionTransformer": "pvt_torch.model",
    "create_model": "pvt_torch.weights",
    "get_weights": "pvt_torch.weights",
    "list_models": "pvt_spec",
    "load_forward": "pvt_torch.runtime",
    "load_weights": "pvt_torch.weights",
    "model_from_weights": "pvt_torch.weights",
    "run_taps": "pvt_torch.taps",
    "set_weights": "pvt_torch.weights",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
