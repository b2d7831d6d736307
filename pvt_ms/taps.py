"""Intermediate results of the MindSpore twin, by the spec's names."""

from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from pvt_ms.model import PyramidVisionTransformer
from pvt_spec import tap_names


def run_taps(model: PyramidVisionTransformer, images: np.ndarray) -> dict[str, np.ndarray]:
    """One forward pass, op by op (pynative), with every intermediate result.

    Args:
        model: In evaluation mode.
        images: float32 (B, in_chans, H, W), normalised.

    Returns:
        float32 arrays under :func:`pvt_spec.tap_names`, in forward order.
    """
    taps: dict[str, np.ndarray] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_: nn.Cell, inputs: Any, output: Any) -> None:
            if name == "head":
                taps["features"] = inputs[0].asnumpy()
            tensor = output[0] if isinstance(output, tuple) else output
            taps["logits" if name == "head" else name] = tensor.asnumpy()

        return hook

    names = tap_names(model.config)
    hooked = {*names, "head"} if "features" in names else {*names}
    cells = {n: c for n, c in model.cells_and_names() if n in hooked}
    handles = [cell.register_forward_hook(record(name)) for name, cell in cells.items()]
    try:
        model(Tensor(images))
    finally:
        for handle in handles:
            handle.remove()
    return {name: taps[name] for name in names}
