"""Every weight and attribute of a runtime's own model: what no tolerance on outputs can catch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from pvt_spec import ModelInfo, PVTConfig, TensorSpec, tap_specs, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.attributes import (
    UNSEEN,
    Attributes,
    expected_attributes,
    steps_allow,
    within_a_step,
)
from pvt_spec.hashes import can_compare
from pvt_spec.numerics import EPSILONS
from pvt_spec.runtime import COARSE, FUSED
from pvt_spec.words import shortened

if TYPE_CHECKING:
    from parity.bundles.record import Record
    from parity.runtimes.table import Runner

INPUT = "input"
"""What comes before the first tap: preprocessing."""


@dataclass(frozen=True)
class Difference:
    """Something of a model that is not as it should be.

    Attributes:
        subject: A tensor's name, an attribute's, or a field's of ModelInfo.
        found: What it is.
        expected: What it should be.
        tap: The first tap that it enters; ``"input"`` of preprocessing, None of names alone.
    """

    subject: str
    found: str
    expected: str
    tap: str | None

    def __str__(self) -> str:
        return f"{self.subject} is {self.found}, expected {self.expected}"


def structure_differences(
    info: ModelInfo,
    hashes: Mapping[str, str],
    other: ModelInfo,
    inside: "Runner | Record",
    weights: Mapping[str, Array] = MappingProxyType({}),
) -> list[Difference]:
    """Returns what in a runtime's actual model is not as it should be.

    Args:
        info: What the reference's file says of its model.
        hashes: The hashes of the reference's weights.
        other: What the file says that the runtime was opened with.
        inside: What the runtime holds.
        weights: The reference's weights, with which those are compared that were rounded; without
            them, as between bundles, nothing is.
    """
    expected = expected_attributes(info.config, info.numerics)
    coarse = COARSE in inside.facts
    shown = {n: digest for n, digest in hashes.items() if not coarse or n in inside.hashes}
    return [
        *info_differences(info, other),
        *attribute_differences(
            expected,
            inside.attributes,
            inside.kind,
            info.config,
            fused=coarse or FUSED in inside.facts,
            steps=inside.steps,
        ),
        *weight_differences(shown, inside.hashes, info.config),
        *rounded_differences(weights, inside, info.config),
    ]


_LAYERS = {**EPSILONS, "conv_padding": "patch_embed.proj", "gelu": "mlp.fc1"}
"""A field of Numerics, and the layer that it is about or comes right after."""

_TAPS = {
    **{"cls_token": "embed", "pos_embed": "embed", "norm1": "attn", "norm2": "mlp"},
    "head": "logits",
}
"""The first part of a layer's name, and the layer of the tap that it enters, if that is another."""


def first_tap(subject: str, config: PVTConfig) -> str | None:
    """Returns the first tap whose value something enters; None if none does.

    Args:
        subject: The name of a tensor, an attribute or a field: ``block1.0.norm1.weight``,
            ``block1.0.attn.sr.padding``, ``numerics.gelu``, ``preprocessing.mean``.
        config: The model's.
    """
    part, _, field = subject.partition(".")
    if part == "preprocessing":
        return INPUT
    if part == "numerics":
        layer = "attn.sr" if field == "gelu" and config.linear else _LAYERS.get(field, "pos_embed")
        spec = next((spec for spec in tensor_specs(config) if spec.layer == layer), None)
    else:
        spec = _first_tensor(subject, config)
    if spec is None:
        return None
    part = spec.layer.partition(".")[0]
    return _taps_by_place(config).get((_TAPS.get(part, part), spec.stage, spec.block))


def _first_tensor(subject: str, config: PVTConfig) -> TensorSpec | None:
    """Returns the first tensor of the innermost layer, block or stage that has this name in it."""
    known = _first_tensors(config)
    while subject and subject not in known:
        subject = subject.rpartition(".")[0]
    return known.get(subject)


@cache  # a file may have any number of names that are not known
def _first_tensors(config: PVTConfig) -> dict[str, TensorSpec]:
    """Returns the first tensor of everything that has a name: stages, blocks, layers, tensors."""
    found: dict[str, TensorSpec] = {}
    for spec in tensor_specs(config):
        parts = spec.name.split(".")
        for count in range(len(parts), 0, -1):
            found.setdefault(".".join(parts[:count]), spec)
    return found


@cache
def _taps_by_place(config: PVTConfig) -> dict[Any, str]:
    """Returns the names of taps by layer, stage and block."""
    return {tap[1:]: tap.name for tap in reversed(tap_specs(config))}


def _differences(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    config: PVTConfig,
    show_expected: Callable[[Any], str],
    show_found: Callable[[Any], str],
) -> list[Difference]:
    """Returns what is missing, unknown or another value, in the order of what is expected."""
    return [
        Difference(
            shortened(subject),
            show_found(found[subject]) if subject in found else "missing",
            show_expected(expected[subject]) if subject in expected else "absent",
            first_tap(subject, config),
        )
        for subject in dict.fromkeys([*expected, *found])
        if found.get(subject) != expected.get(subject)
    ]


def attribute_differences(
    expected: Attributes,
    actual: Attributes,
    kind: str,
    config: PVTConfig,
    *,
    fused: bool = False,
    steps: Mapping[str, Any] = MappingProxyType({}),
) -> list[Difference]:
    """Returns every attribute that is missing, unknown or different, in the spec's order.

    Args:
        expected: What :func:`pvt_spec.attributes.expected_attributes` returns.
        actual: What was read from a runtime's model.
        kind: ``"torch"``, ``"mindspore"`` or ``"onnx"``: what it may not show.
        config: The model's.
        fused: Whether an engine has made nodes of its own of several: then any may be missing.
        steps: How far apart the numbers are that an attribute can be, of those that are rounded.
    """
    near = {
        key: expected[key] if within_a_step(expected[key], value, steps.get(key)) else value
        for key, value in actual.items()
        if key in expected
    }
    seen = {
        key: value
        for key, value in expected.items()
        if key in actual or (not fused and key.rpartition(".")[2] not in UNSEEN[kind])
    }
    return _differences(seen, {**actual, **near}, config, _shortened, _shortened)


def weight_differences(
    expected: Mapping[str, str], actual: Mapping[str, str], config: PVTConfig
) -> list[Difference]:
    """Returns every tensor that is missing, unknown or holds other values, by hash.

    Hashes of different kinds, of two bundles, tell nothing.
    """
    if not can_compare(expected, actual):
        return []
    return _differences(
        expected,
        actual,
        config,
        lambda digest: f"the reference's (hash {digest[:8]})",
        lambda digest: f"other values (hash {digest[:8]})",
    )


def rounded_differences(
    weights: Mapping[str, Array], inside: "Runner | Record", config: PVTConfig
) -> list[Difference]:
    """Returns every weight that is further from the reference's than its own rounding takes it."""
    found: list[Difference] = []
    steps = inside.steps
    for name, array in getattr(inside, "coarse", {}).items():
        if name not in weights:
            continue
        exact, step = np.asarray(weights[name], np.float64), steps[name]
        if exact.shape != array.shape:
            text, most = f"{array.shape}", f"{exact.shape}"
        else:
            text = f"up to {np.nanmax(abs(array - exact) / step):.3g} of its own steps away"
            most = "half a step of the reference's"
            if bool(np.all(steps_allow(exact, array, step))):
                continue
        found.append(Difference(name, text, most, first_tap(name, config)))
    return found


def info_differences(first: ModelInfo, other: ModelInfo) -> list[Difference]:
    """Returns what two files say differently; of labels, if both have any."""
    expected, found = (
        {f"numerics.{field}": value for field, value in vars(info.numerics).items()}
        | {f"preprocessing.{field}": v for field, v in vars(info.preprocessing).items()}
        | ({"labels": info.labels} if first.labels and other.labels else {})
        for info in (first, other)
    )
    return _differences(expected, found, first.config, _shortened, _shortened)


def _shortened(value: Any) -> str:
    return shortened(str(value))
