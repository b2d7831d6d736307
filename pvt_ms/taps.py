"""Intermediate results of the MindSpore twin, by the spec's names."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from pvt_ms.model import PyramidVisionTransformer
from pvt_spec import TapSpec, tap_specs
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, fill_up

Taps = dict[str, Array]


@checked
def run_taps(
    model: PyramidVisionTransformer, images: Array, names: Sequence[str] | None = None
) -> Taps:
    """Runs one forward pass, op by op (pynative), and returns intermediate results.

    Args:
        model: The model, in evaluation mode.
        images: float32 (B, in_chans, H, W), normalised.
        names: The taps wanted; by default all of :func:`pvt_spec.tap_names` that the model
            has.

    Returns:
        float32 arrays under these names, in forward order.
    """
    names = model.own_taps() if names is None else names
    taps: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for handle in add_hooks(model, names, taps):
            stack.callback(handle.remove)
        model(Tensor(images))
    return {name: taps[name].asnumpy() for name in names}


def compiled_taps(model: PyramidVisionTransformer, names: Sequence[str]) -> Callable[[Array], Taps]:
    """Returns a compiled forward pass (graph mode) that also gives intermediate results.

    A graph calls no hooks, so what records a tap is a cell around the tapped one, which assigns
    its answer to a parameter within the graph.

    Args:
        model: The model, in evaluation mode; what records its taps stays in it.
        names: The taps wanted.

    Returns:
        A function from images to arrays, as :func:`run_taps`. It is compiled for the first
        batch's shape; smaller batches are filled up to it.
    """
    values: dict[str, Parameter] = {}
    compiled = ms.jit(model)

    def run(images: Array) -> Taps:
        if not values:
            values.update(insert_recorders(model, run_taps(model, images, names)))
        count = len(next(iter(values.values())))
        compiled(Tensor(fill_up(images, count)))
        return {name: values[name].asnumpy()[: len(images)].copy() for name in names}

    return run


def add_hooks(
    model: PyramidVisionTransformer, names: Sequence[str], taps: dict[str, Tensor]
) -> list[Any]:
    """Makes every pass leave its taps in a dictionary; returns handles to remove the hooks."""
    cells = dict(model.cells_and_names())
    wanted = [tap for tap in tap_specs(model.config) if tap.name in names]
    return [_add_hook(cells[tap.module], tap, taps) for tap in wanted]


def _add_hook(cell: nn.Cell, tap: TapSpec, taps: dict[str, Tensor]) -> Any:
    def hook(_: nn.Cell, inputs: Any, output: Any) -> None:
        found = inputs if tap.layer == "features" else output
        # A patch embedding answers tokens, with the height and width of their grid.
        taps[tap.name] = found[0] if isinstance(found, tuple) else found

    return cell.register_forward_hook(hook)


class Recorder(nn.Cell):
    """A cell around another, whose tap it also assigns to a parameter."""

    def __init__(self, inner: nn.Cell, tap: TapSpec, value: Parameter):
        super().__init__()
        self.inner = inner
        self.layer = tap.layer
        self.value = value

    def construct(self, *inputs: Any) -> Any:
        """Returns what the inner cell answers."""
        output = self.inner(*inputs)
        if self.layer == "features":
            ops.assign(self.value, inputs[0])
        elif self.layer == "patch_embed":
            ops.assign(self.value, output[0])
        else:
            ops.assign(self.value, output)
        return output


def insert_recorders(model: PyramidVisionTransformer, examples: Taps) -> dict[str, Parameter]:
    """Puts a recorder around every tapped cell; returns what they record to.

    Args:
        model: The model, which is changed in place; its own parameters keep their names.
        examples: The taps, for their shapes.
    """
    named = [(parameter, parameter.name) for parameter in model.get_parameters()]
    values = {
        name: Parameter(Tensor(np.zeros_like(array)), name=f"tap.{name}", requires_grad=False)
        for name, array in examples.items()
    }
    for tap in tap_specs(model.config):
        if tap.name in values:
            insert(model, tap, values[tap.name])
    # Being put into another cell renamed them, and a graph wants every name once.
    for parameter, name in [*named, *((value, f"tap.{n}") for n, value in values.items())]:
        parameter.name = name
    return values


def insert(model: PyramidVisionTransformer, tap: TapSpec, value: Parameter) -> None:
    """Puts a recorder around the cell that has a tap."""
    if tap.stage is None or tap.block is None:
        setattr(model, tap.module, Recorder(getattr(model, tap.module), tap, value))
        return
    blocks = getattr(model, f"block{tap.stage + 1}")
    block = blocks[tap.block]
    if tap.layer == "block":
        blocks[tap.block] = Recorder(block, tap, value)
    else:
        setattr(block, tap.layer, Recorder(getattr(block, tap.layer), tap, value))
