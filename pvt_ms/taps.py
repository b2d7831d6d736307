"""Intermediate results of the MindSpore twin, by the spec's names."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from pvt_ms.model import PyramidVisionTransformer
from pvt_spec import tap_names


def run_taps(
    model: PyramidVisionTransformer, images: np.ndarray, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """One forward pass, op by op (pynative), with intermediate results.

    Args:
        model: In evaluation mode.
        images: float32 (B, in_chans, H, W), normalised.
        names: Those wanted; all of :func:`pvt_spec.tap_names` by default.

    Returns:
        float32 arrays under these names, in forward order.
    """
    names = tap_names(model.config) if names is None else names
    with recording(model, names) as taps:
        model(Tensor(images))
    return {name: taps[name].asnumpy() for name in names}


def compiled_taps(
    model: PyramidVisionTransformer, names: Sequence[str]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A compiled forward pass (graph mode) that also gives intermediate results.

    A graph calls no hooks, so what records a tap is a cell around the tapped one, which assigns
    its answer to a parameter within the graph.

    Args:
        model: In evaluation mode; what records its taps stays in it.
        names: Those wanted.

    Returns:
        A function from images to arrays, as :func:`run_taps`. It is compiled for the first
        batch's shape; smaller batches are filled up to it.
    """
    values: dict[str, Parameter] = {}
    compiled = ms.jit(model)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        if not values:
            values.update(insert_recorders(model, run_taps(model, images, names)))
        count = len(next(iter(values.values())))
        compiled(Tensor(fill_up(images, count)))
        return {name: values[name].asnumpy()[: len(images)].copy() for name in names}

    return run


def fill_up(images: np.ndarray, count: int) -> np.ndarray:
    """A batch with its last image repeated until there are ``count``."""
    return np.concatenate([images, images[-1:].repeat(max(0, count - len(images)), axis=0)])


@contextmanager
def recording(model: PyramidVisionTransformer, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within it, every forward pass leaves its taps in the dictionary."""
    taps: dict[str, Tensor] = {}
    handles = [
        cell.register_forward_hook(record(name, taps)) for name, cell in recorded(model, names)
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def recorded(model: PyramidVisionTransformer, names: Sequence[str]) -> list[tuple[str, nn.Cell]]:
    """The cells whose output is a tap; the head's input is one too, ``features``."""
    hooked = {"head" if name in ("features", "logits") else name for name in names}
    return [(name, cell) for name, cell in model.cells_and_names() if name in hooked]


def record(name: str, taps: dict[str, Tensor]) -> Callable[..., None]:
    """A forward hook that keeps what a cell answers."""

    def hook(_: nn.Cell, inputs: Any, output: Any) -> None:
        if name == "head":
            taps["features"] = inputs[0]
        taps["logits" if name == "head" else name] = (
            output[0] if isinstance(output, tuple) else output
        )

    return hook


class Recorder(nn.Cell):
    """Around a cell: what it answers is also assigned to a parameter."""

    def __init__(self, inner: nn.Cell, value: Parameter):
        super().__init__()
        self.inner = inner
        self.value = value

    def construct(self, *inputs: Any) -> Any:
        """What the inner cell answers."""
        output = self.inner(*inputs)
        ops.assign(self.value, output)
        return output


class FirstRecorder(Recorder):
    """Around a cell that answers a tuple, whose first is the tap."""

    def construct(self, *inputs: Any) -> Any:
        """What the inner cell answers."""
        output = self.inner(*inputs)
        ops.assign(self.value, output[0])
        return output


class InputRecorder(Recorder):
    """Around a cell whose input is the tap."""

    def construct(self, x: Tensor) -> Any:
        """What the inner cell answers."""
        ops.assign(self.value, x)
        return self.inner(x)


def insert_recorders(
    model: PyramidVisionTransformer, examples: dict[str, np.ndarray]
) -> dict[str, Parameter]:
    """Puts a recorder around every tapped cell; returns what they record to.

    Args:
        model: Changed in place; its own parameters keep their names.
        examples: The taps, for their shapes.
    """
    named = [(parameter, parameter.name) for parameter in model.get_parameters()]
    values = {
        name: Parameter(Tensor(np.zeros_like(array)), name=f"tap.{name}", requires_grad=False)
        for name, array in examples.items()
    }
    # The innermost first: a block's branches before the block, by whose name they are found.
    for name, cell in sorted(recorded(model, list(values)), key=lambda item: -item[0].count(".")):
        if name == "head":
            around = Recorder(cell, values["logits"]) if "logits" in values else cell
            if "features" in values:
                around = InputRecorder(around, values["features"])
        else:
            kind = FirstRecorder if name.startswith("patch_embed") else Recorder
            around = kind(cell, values[name])
        place(model, name, around)
    # Being put into another cell renamed them, and a graph wants every name once.
    for parameter, name in [*named, *((value, f"tap.{n}") for n, value in values.items())]:
        parameter.name = name
    return values


def place(model: PyramidVisionTransformer, name: str, cell: nn.Cell) -> None:
    """Puts a cell where the one of that name was."""
    parent, _, last = name.rpartition(".")
    owner = dict(model.cells_and_names())[parent] if parent else model
    if isinstance(owner, nn.CellList):
        owner[int(last)] = cell
    else:
        setattr(owner, last, cell)
