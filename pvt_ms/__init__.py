"""The MindSpore twin.

The first export that is asked for sets the process up for MindSpore and imports it, see
:func:`prepare_environment`; importing the package alone does neither.
"""

from typing import Any

from pvt_packages import lazy_exports

_HOMES = {
    "PyramidVisionTransformer": "pvt_ms.model",
    "create_model": "pvt_ms.weights",
    "get_weights": "pvt_ms.weights",
    "list_models": "pvt_spec",
    "load_forward": "pvt_ms.runtime",
    "load_weights": "pvt_ms.weights",
    "model_from_weights": "pvt_ms.weights",
    "prepare_environment": "pvt_ms.environment",
    "run_taps": "pvt_ms.taps",
    "set_weights": "pvt_ms.weights",
}
__all__ = list(_HOMES)
_export, __dir__ = lazy_exports(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES and name not in ("list_models", "prepare_environment"):
        _export("prepare_environment")()
    return _export(name)
