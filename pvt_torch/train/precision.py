"""Mixed precision, level by level; weights stay float32."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pvt_torch.model import PyramidVisionTransformer


class Cast(nn.Module):
    """Around a layer: it computes in one dtype and answers in another."""

    def __init__(self, inner: nn.Module, computes: torch.dtype, answers: torch.dtype):
        super().__init__()
        self.inner, self.computes, self.answers = inner, computes, answers

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the inner layer answers."""
        weights = {name: p.to(self.computes) for name, p in self.inner.named_parameters()}
        return functional_call(self.inner, weights, x.to(self.computes)).to(self.answers)


def cast_model(model: PyramidVisionTransformer, level: str) -> None:
    """Makes a model compute in float16 where the level says so; its answer may be float16 then.

    - O0, bf16: nowhere; see :func:`computing` for the latter.
    - O1: linear layers and convolutions, which answer in float32. (This is MindCV's O1.)
    - O2: everywhere but in the norms, which answer in float16 again.
    - O3: everywhere.

    Args:
        model: The model, whose layers are changed in place, not its parameters. Collect them under
            their canonical names before.
        level: ``"O0"``, ``"O1"``, ``"O2"``, ``"O3"`` or ``"bf16"``.
    """
    for kinds, computes, answers in _CASTS[level]:
        for owner in list(model.modules()):
            for name, inner in list(owner.named_children()):
                if isinstance(inner, kinds) and not isinstance(owner, Cast):
                    owner.register_module(name, Cast(inner, computes, answers))


def computing(level: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Returns what makes a block compute as a level does beside :func:`cast_model`.

    It is nothing but for ``bf16``, which is torch's autocast: matrix products and convolutions in
    bfloat16, what needs more digits in float32.
    """
    if level != "bf16":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def activation_dtype(level: str) -> torch.dtype:
    """Returns the dtype of what flows between layers."""
    return torch.float16 if level in ("O2", "O3") else torch.float32


_LAYERS, _NORMS = (nn.Linear, nn.Conv2d), (nn.LayerNorm,)
_HALF, _FULL = torch.float16, torch.float32

_CASTS: dict[str, tuple[tuple[tuple[type[nn.Module], ...], torch.dtype, torch.dtype], ...]] = {
    "O0": (),
    "O1": ((_LAYERS, _HALF, _FULL),),
    "O2": ((_LAYERS, _HALF, _HALF), (_NORMS, _FULL, _HALF)),
    "O3": ((_LAYERS, _HALF, _HALF), (_NORMS, _HALF, _HALF)),
    "bf16": (),
}
"""Level -> which layers compute in which dtype, and answer in which."""
