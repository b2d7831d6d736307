"""AdamW without a framework: its numbers, what decays, and the scalars of one update.

Standard library only, beside pvt_spec.
"""

from dataclasses import dataclass
from math import sqrt

from pvt_spec import PVTConfig, TensorSpec, tensor_specs

BETAS = (0.9, 0.999)
"""Decay rates of the first and second moment (Loshchilov and Hutter, ICLR 2019)."""

EPS = 1e-8
"""Added to the root of the corrected second moment (``opt_eps`` of timm, DeiT and PVT)."""


def decays(spec: TensorSpec) -> bool:
    """Whether weight decay applies to a tensor.

    Not to vectors, which all biases and norms are, nor to the class token; position embeddings
    do decay. Sources: whai362/PVT ``pvt.py`` (``no_weight_decay`` returns ``{'cls_token'}``) and
    timm 0.3.2 ``optim_factory.py``, which adds vectors and names that end in ``.bias``.
    """
    return len(spec.shape) > 1 and spec.kind != "cls_token"


def parameter_groups(config: PVTConfig) -> tuple[list[str], list[str]]:
    """Canonical names of the tensors that decay, and of those that do not, in the model's order."""
    specs = tensor_specs(config)
    return [s.name for s in specs if decays(s)], [s.name for s in specs if not decays(s)]


@dataclass(frozen=True)
class Update:
    """AdamW's bias-corrected update, as the numbers of one that knows no bias correction.

    With m and v the new moments, ``w -= rate * (m / (sqrt(v) + eps) + decay * w)`` equals
    ``w -= lr * (m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + EPS) + weight_decay * w)``.

    Attributes:
        rate: Times the whole update.
        eps: Added to the root of the uncorrected second moment.
        decay: Times a decaying tensor.
    """

    rate: float
    eps: float
    decay: float


def adamw_update(count: int, learning_rate: float, weight_decay: float) -> Update:
    """The numbers of one update.

    Args:
        count: Which update this is, from 1.
        learning_rate: Of this step.
        weight_decay: Of the tensors that decay.
    """
    first = 1 - BETAS[0] ** count
    second = sqrt(1 - BETAS[1] ** count)
    return Update(learning_rate * second / first, EPS * second, weight_decay * first / second)
