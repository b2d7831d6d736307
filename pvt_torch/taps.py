"""Intermediate results of the PyTorch twin, by the spec's names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pvt_spec import TapSpec, tap_specs
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, fill_up
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.words import reason
from pvt_torch.model import PyramidVisionTransformer

Taps = dict[str, Array]


class _Enough(Exception):
    """The forward pass has come to the last tap that is wanted."""


@checked
def run_taps(
    model: PyramidVisionTransformer, images: Array, names: Sequence[str] | None = None
) -> Taps:
    """Runs one forward pass, op by op (eager), and returns intermediate results.

    Args:
        model: The model, in evaluation mode.
        images: float32 (B, in_chans, H, W), normalised; converted to the model's dtype.
        names: The taps wanted; by default all of :func:`pvt_spec.tap_names` that the model
            has. The pass ends with the last of them.

    Returns:
        Arrays of the model's dtype under these names, in forward order.
    """
    return run_from(model, images, model.own_taps() if names is None else names, {})


def run_from(
    model: PyramidVisionTransformer,
    images: Array,
    names: Sequence[str],
    given: Mapping[str, Array],
) -> Taps:
    """Runs one forward pass as :func:`run_taps` does, with some of its taps given.

    Args:
        model: The model, in evaluation mode.
        images: float32 (B, in_chans, H, W), normalised; converted to the model's dtype.
        names: The taps wanted. The pass ends with the last of them.
        given: Taps that the pass goes on from instead of its own, where they are wanted and their
            shape is that of its own.

    Returns:
        Arrays of the model's dtype under these names, in forward order: what was computed, not
        what was given.
    """
    tensors = {name: _like_weights(model, array) for name, array in given.items()}
    taps: dict[str, Tensor] = {}

    def take(name: str, value: Tensor) -> Tensor:
        taps[name] = value
        if len(taps) == len(names):
            raise _Enough
        tensor = tensors.get(name, value)
        return tensor if tensor.shape == value.shape else value

    with ExitStack() as stack:
        for handle in add_hooks(model, names, take):
            stack.callback(handle.remove)
        stack.enter_context(torch.inference_mode())
        stack.enter_context(suppress(_Enough))
        model(_like_weights(model, images))
    return {name: taps[name].cpu().numpy() for name in names}


def compiled_taps(model: PyramidVisionTransformer, names: Sequence[str]) -> Callable[[Array], Taps]:
    """Returns a compiled forward pass (``torch.compile``) that also gives intermediate results.

    Args:
        model: The model, in evaluation mode; what records its taps stays in it.
        names: The taps wanted.

    Returns:
        A function from images to arrays, as :func:`run_taps`. It is compiled for the first
        batch's shape; smaller batches are filled up to it.
    """
    taps: dict[str, Tensor] = {}

    def take(name: str, value: Tensor) -> Tensor:
        taps[name] = value
        return value

    add_hooks(model, names, take)
    compiled = torch.compile(model, dynamic=False)

    def run(images: Array) -> Taps:
        count = len(next(iter(taps.values()))) if taps else len(images)
        with torch.inference_mode(), compiling():
            compiled(_like_weights(model, fill_up(images, count)))
        return {name: taps[name].cpu().numpy()[: len(images)] for name in names}

    return run


@contextmanager
def compiling() -> Iterator[None]:
    """Turns what torch says in the block where it cannot compile into one line.

    Raises:
        RuntimeUnusable: It cannot: there is no C++ compiler, say.
    """
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            raise
        said = " ".join(reason(error).splitlines()[:2]).strip()
        raise RuntimeUnusable(
            f"torch cannot compile here: {said}: install what it asks for "
            "(on a CPU a C++ compiler, as g++), or do without compiling"
        ) from error


def _like_weights(model: PyramidVisionTransformer, array: Array) -> Tensor:
    """Returns an array on the device and in the dtype of the model's weights."""
    weight = model.patch_embed1.proj.weight
    return torch.from_numpy(array).to(weight.device, weight.dtype)


def add_hooks(
    model: PyramidVisionTransformer, names: Sequence[str], take: Callable[[str, Tensor], Tensor]
) -> list[RemovableHandle]:
    """Makes every pass hand its taps, by name, to a function, and go on from what that returns."""
    modules = dict(model.named_modules())
    wanted = [tap for tap in tap_specs(model.config) if tap.name in names]
    return [_add_hook(modules[tap.module], tap, take) for tap in wanted]


def _add_hook(
    module: nn.Module, tap: TapSpec, take: Callable[[str, Tensor], Tensor]
) -> RemovableHandle:
    def before(_: nn.Module, inputs: Any) -> Any:
        return (take(tap.name, inputs[0]),)

    def after(_: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # tokens, with the height and width of their grid
            return (take(tap.name, output[0]), *output[1:])
        return take(tap.name, output)

    if tap.layer == "features":
        return module.register_forward_pre_hook(before)
    return module.register_forward_hook(after)
