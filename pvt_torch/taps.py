"""Intermediate results of the PyTorch twin, by the spec's names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pvt_spec import tap_names
from pvt_torch.model import PyramidVisionTransformer


def run_taps(model: PyramidVisionTransformer, images: np.ndarray) -> dict[str, np.ndarray]:
    """One forward pass with every intermediate result.

    Args:
        model: In evaluation mode.
        images: float32 (B, in_chans, H, W), normalised; converted to the model's dtype.

    Returns:
        Arrays of the model's dtype under :func:`pvt_spec.tap_names`, in forward order.
    """
    taps: dict[str, np.ndarray] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if name == "head":
                taps["features"] = inputs[0].cpu().numpy()
            tensor = output[0] if isinstance(output, tuple) else output
            taps["logits" if name == "head" else name] = tensor.cpu().numpy()

        return hook

    names = tap_names(model.config)
    hooked = {*names, "head"} if "features" in names else {*names}
    modules = {n: m for n, m in model.named_modules() if n in hooked}
    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        with torch.inference_mode():
            parameter = model.patch_embed1.proj.weight
            model(torch.from_numpy(images).to(parameter.device, parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return {name: taps[name] for name in names}
