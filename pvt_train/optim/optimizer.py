"""The optimizers without a framework: their numbers, what is trained, what decays and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import exp, sqrt

from pvt_spec import ConfigError, PVTConfig, TensorSpec, tensor_specs
from pvt_spec.files.limits import MAX_NEAR
from pvt_spec.words import listed, nearest, show
from pvt_train.recipe.keys import Recipe

BETAS = (0.9, 0.999)
"""Decay rates of the first and second moment in adamw and lamb: of both papers, and of MindCV."""

_SHOWN = 8
"""Patterns that are listed."""

EMA_TEMPERATURE = 2000
"""Updates over which the moving average of the weights sets in (MindCV ``train_step.py``)."""


def decays(spec: TensorSpec, weight_decay_filter: str) -> bool:
    """Returns whether weight decay applies to a tensor.

    Args:
        spec: The tensor.
        weight_decay_filter: MindCV's ``disable`` (all tensors decay: what its PVT recipes do),
            ``norm_and_bias`` (of a PVT, all vectors do not) or ``auto`` (MindSpore's rule: weights
            and biases of norms do not); or ``vectors_and_cls_token``, the official code's: vectors
            and the class token do not, position embeddings do (whai362/PVT ``pvt.py``,
            ``no_weight_decay``, and timm 0.3.2 ``optim_factory.py``).
    """
    exempt = {
        "disable": False,
        "norm_and_bias": len(spec.shape) == 1,
        "auto": spec.kind == "norm",
        "vectors_and_cls_token": len(spec.shape) == 1 or spec.kind == "cls_token",
    }
    return not exempt[weight_decay_filter]


def decaying_names(config: PVTConfig, weight_decay_filter: str) -> set[str]:
    """Returns the names of the tensors that decay.

    Args:
        config: The architecture.
        weight_decay_filter: One of the names that :func:`decays` takes.
    """
    return {spec.name for spec in tensor_specs(config) if decays(spec, weight_decay_filter)}


def trainable_names(config: PVTConfig, freeze: Sequence[str]) -> list[str]:
    """Returns the names of the tensors that are trained, in the model's order.

    Args:
        config: The architecture.
        freeze: Shell-style patterns of canonical names that are not, as ``block1.*``.

    Raises:
        ConfigError: A pattern matches no tensor, or nothing is left to train.
    """
    names = [spec.name for spec in tensor_specs(config)]
    idle = [p for p in freeze if not any(fnmatchcase(name, p) for name in names)]
    if idle:
        show_idle = partial(_matches_nothing, names)
        raise ConfigError(listed(idle, _SHOWN, show_idle, "; "))
    trained = [name for name in names if not any(fnmatchcase(name, p) for p in freeze)]
    if not trained:
        raise ConfigError(f"freeze is {', '.join(freeze)}: nothing is left to train; freeze less")
    return trained


def _matches_nothing(names: Sequence[str], pattern: str) -> str:
    near = nearest(pattern[:MAX_NEAR], names, 0.0)
    return (
        f"freeze {show(pattern)} matches no tensor (the nearest name is {near}; "
        "a pattern for a whole stage is 'block1.*')"
    )


def layer_scales(config: PVTConfig, layer_decay: float | None) -> dict[str, float]:
    """Returns what the learning rate of each tensor is multiplied by, by canonical name.

    It is ``layer_decay ** (last - layer)``, so that the head learns at the full rate (BEiT, Bao
    et al., ICLR 2022, ``optim_factory.py``; timm ``param_groups_layer_decay``). Layers are counted
    along the forward pass: what embeds a stage's input (patch and position embedding, class
    token) is one, each block is one, the final norm and the head are the last. The norms that
    PVT v2 has after its first three stages belong to the block before them.

    Args:
        config: The architecture.
        layer_decay: Factor from a layer to the one before it; None is 1.
    """
    layers = {spec.name: _layer(config, spec) for spec in tensor_specs(config)}
    last = max(layers.values())
    factor = 1.0 if layer_decay is None else layer_decay
    return {name: factor ** (last - layer) for name, layer in layers.items()}


def _layer(config: PVTConfig, spec: TensorSpec) -> int:
    stages = len(config.depths)
    if spec.stage is None or (spec.layer == "norm" and spec.stage == stages - 1):
        return stages + sum(config.depths)
    embedding = spec.stage + sum(config.depths[: spec.stage])
    if spec.block is not None:
        return embedding + 1 + spec.block
    return embedding + config.depths[spec.stage] if spec.layer == "norm" else embedding


@dataclass(frozen=True)
class Group:
    """Neighbours among the trained tensors, of the same learning rate and decay.

    Attributes:
        members: The places where they stand among all.
        scale: What the learning rate is multiplied by.
        decays: Whether weight decay applies.
    """

    members: slice
    scale: float
    decays: bool


def grouped(config: PVTConfig, recipe: Recipe) -> tuple[list[str], list[Group]]:
    """Returns the names of the trained tensors, group by group, and the groups.

    Raises:
        ConfigError: What is frozen cannot be.
    """
    scales = layer_scales(config, recipe.layer_decay)
    decaying = decaying_names(config, recipe.weight_decay_filter)
    members: dict[tuple[float, bool], list[str]] = {}
    for name in trainable_names(config, recipe.freeze):
        members.setdefault((scales[name], name in decaying), []).append(name)
    names: list[str] = []
    groups = []
    for (scale, decays), own in members.items():
        groups.append(Group(slice(len(names), len(names) + len(own)), scale, decays))
        names += own
    return names, groups


def clip_factor(norm: float, recipe: Recipe) -> float:
    """Returns what makes a gradient of this norm no longer than the recipe says."""
    longest = recipe.clip_value
    return longest / norm if recipe.clip_grad and norm > longest else 1.0


@dataclass(frozen=True)
class Update:
    """AdamW's bias-corrected update, as the numbers of one that knows no bias correction.

    With m and v the new moments, ``w -= rate * (m / (sqrt(v) + eps) + decay * w)`` equals
    ``w -= lr * (m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * w)``.

    Attributes:
        rate: The factor of the whole update.
        eps: What is added to the root of the uncorrected second moment.
        decay: The factor of a decaying tensor.
    """

    rate: float
    eps: float
    decay: float


def adamw_update(count: int, learning_rate: float, weight_decay: float, eps: float) -> Update:
    """Returns the numbers of one update.

    Args:
        count: The update's number, from 1.
        learning_rate: The learning rate of this step.
        weight_decay: The weight decay of the tensors that decay.
        eps: What is added to the root of the corrected second moment.
    """
    first = 1 - BETAS[0] ** count
    second = sqrt(1 - BETAS[1] ** count)
    return Update(learning_rate * second / first, eps * second, weight_decay * first / second)


def ema_decay(update: int, decay: float) -> float:
    """Returns the share of the moving average that stays in one update of it.

    It rises to ``decay`` as ``decay * (1 - exp(-update / 2000))``, so that the first averages are
    not the initial weights (MindCV 0.3.0 ``train_step.py``).

    Args:
        update: The number of this update of the average, from 1.
        decay: The recipe's ``ema_decay``.
    """
    return decay * (1 - exp(-update / EMA_TEMPERATURE))
