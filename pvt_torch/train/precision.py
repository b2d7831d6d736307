"""How a model computes while it is trained: levels of mixed precision, kernels and memory.

Weights stay float32. The model's own maths is what happens where a recipe says nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pvt_torch.model import Attention, PyramidVisionTransformer
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import TrainingError


class Cast(nn.Module):
    """Around a layer: it computes in one dtype and answers in another."""

    def __init__(self, inner: nn.Module, computes: torch.dtype, answers: torch.dtype):
        super().__init__()
        self.inner, self.computes, self.answers = inner, computes, answers

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the inner layer answers."""
        weights = {name: p.to(self.computes) for name, p in self.inner.named_parameters()}
        return functional_call(self.inner, weights, x.to(self.computes)).to(self.answers)


def set_switches(recipe: Recipe) -> None:
    """Sets what torch has for the whole process: TF32, and algorithms that give bits twice."""
    torch.backends.cuda.matmul.allow_tf32 = recipe.tf32
    torch.backends.cudnn.allow_tf32 = recipe.tf32
    if recipe.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


@contextmanager
def determined() -> Iterator[None]:
    """Turns what torch says of an operation that gives no bits twice into one line.

    Raises:
        TrainingError: There is one, and ``deterministic`` is on.
    """
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        first = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"deterministic is True, but {first}: give --deterministic False"
        ) from (error)


def fit_model(model: PyramidVisionTransformer, recipe: Recipe) -> None:
    """Makes a model compute as a recipe says; see the keys for what each does.

    Args:
        model: The model, whose layers are changed in place; its parameters keep names and dtypes.
            Collect them under their canonical names before.
        recipe: ``channels_last``, ``fused_attention``, ``checkpoint_blocks`` and ``amp_level``.
    """
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.fused_attention:
        for layer in model.modules():
            if isinstance(layer, Attention):
                attend = partial(F.scaled_dot_product_attention, scale=layer.scale)
                layer.attend = attend  # type: ignore[method-assign]
    model.set_grad_checkpointing(recipe.checkpoint_blocks)
    cast_model(model, recipe.amp_level)


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
