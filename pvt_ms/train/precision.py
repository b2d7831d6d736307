"""Mixed precision, level by level, as casts around the cells of a model; weights stay float32."""

from collections.abc import Callable

import mindspore as ms
from mindspore import Tensor, nn

from pvt_ms.model import PyramidVisionTransformer


class Widened(nn.Cell):
    """Around a cell that computes in float16: what it answers is float32."""

    def __init__(self, inner: nn.Cell):
        super().__init__(auto_prefix=False)
        self.inner = inner

    def construct(self, x: Tensor) -> Tensor:
        """Returns what the inner cell answers."""
        return self.inner(x).astype(ms.float32)


def cast_model(model: PyramidVisionTransformer, level: str) -> None:
    """Makes a model compute in float16 where the level says so; its answer may be float16 then.

    - O0: nowhere.
    - O1: linear layers and convolutions. (This is MindCV's O1. MindSpore's own, which rewrites the
      code of ``construct``, would take attention's products too, but 2.10 fails where it meets
      ``ops.cat`` or a conditional expression.)
    - O2: everywhere but in the norms, which answer in float16 again.
    - O3: everywhere.

    Every level computes forward and backward on a CPU too, where float16 is no faster.

    Args:
        model: The model, whose cells are changed in place, not its parameters, which keep name and
            dtype. Collect them under their canonical names before.
        level: ``"O0"``, ``"O1"``, ``"O2"`` or ``"O3"``.
    """
    _CASTS[level](model)


def _cast_layers(cell: nn.Cell) -> None:
    for name, inner in cell.name_cells().items():
        if isinstance(inner, nn.Dense | nn.Conv2d):
            _replace(cell, name, Widened(inner.to_float(ms.float16)))
        else:
            _cast_layers(inner)


def _replace(owner: nn.Cell, name: str, cell: nn.Cell) -> None:
    # Not by setattr, which would give the parameters below other names.
    owner._cells[name] = cell


_CASTS: dict[str, Callable[[PyramidVisionTransformer], object]] = {
    "O0": lambda model: None,
    "O1": _cast_layers,
    # What they return only casts the answer to float32; the model itself is changed.
    "O2": lambda model: ms.amp.auto_mixed_precision(model, "O2", ms.float16),
    "O3": lambda model: ms.amp.auto_mixed_precision(model, "O3", ms.float16),
}
