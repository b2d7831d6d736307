"""Intermediate results of the PyTorch twin, by the spec's names."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pvt_spec import tap_names
from pvt_torch.model import PyramidVisionTransformer


def run_taps(
    model: PyramidVisionTransformer, images: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """One forward pass, op by op (eager), with intermediate results.

    Args:
        model: In evaluation mode.
        images: float32 (B, in_chans, H, W), normalised; converted to the model's dtype.
        names: Those wanted; all of :func:`pvt_spec.tap_names` by default.

    Returns:
        Arrays of the model's dtype under these names, in forward order.
    """
    names = tap_names(model.config) if names is None else names
    with recording(model, names) as taps, torch.inference_mode():
        parameter = model.patch_embed1.proj.weight
        model(torch.from_numpy(images).to(parameter.device, parameter.dtype))
    return {name: taps[name].cpu().numpy() for name in names}


def compiled_taps(
    model: PyramidVisionTransformer, names: Sequence[str]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A compiled forward pass (``torch.compile``) that also gives intermediate results.

    Args:
        model: In evaluation mode; what records its taps stays in it.
        names: Those wanted.

    Returns:
        A function from images to arrays, as :func:`run_taps`. It is compiled for the first
        batch's shape; smaller batches are filled up to it.
    """
    values: dict[str, Tensor] = {}
    for name, module in recorded(model, names):
        module.register_forward_hook(record(name, values))
    compiled = torch.compile(model, dynamic=False)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        count = len(next(iter(values.values()))) if values else len(images)
        parameter = model.patch_embed1.proj.weight
        full = torch.from_numpy(fill_up(images, count)).to(parameter.device, parameter.dtype)
        with torch.inference_mode():
            compiled(full)
        return {name: values[name].cpu().numpy()[: len(images)] for name in names}

    return run


def fill_up(images: np.ndarray, count: int) -> np.ndarray:
    """A batch with its last image repeated until there are ``count``."""
    return np.concatenate([images, images[-1:].repeat(max(0, count - len(images)), axis=0)])


@contextmanager
def recording(model: PyramidVisionTransformer, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within it, every forward pass leaves its taps in the dictionary."""
    taps: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(record(name, taps)) for name, module in recorded(model, names)
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def recorded(model: PyramidVisionTransformer, names: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The modules whose output is a tap; the head's input is one too, ``features``."""
    hooked = {"head" if name in ("features", "logits") else name for name in names}
    return [(name, module) for name, module in model.named_modules() if name in hooked]


def record(name: str, taps: dict[str, Tensor]) -> Callable[..., None]:
    """A forward hook that keeps what a module answers."""

    def hook(_: nn.Module, inputs: Any, output: Any) -> None:
        if name == "head":
            taps["features"] = inputs[0]
        taps["logits" if name == "head" else name] = (
            output[0] if isinstance(output, tuple) else output
        )

    return hook
