"""Every weight and attribute of a runtime's own model: what no tolerance on outputs can catch."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from parity.runtimes.attributes import UNSEEN, Attributes, expected_attributes
from pvt_spec import ModelInfo, PVTConfig, tap_names
from pvt_spec.arrays import Array

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


class Inside(Protocol):
    """What was read from a runtime's own objects: of a runner, or recorded in a bundle."""

    @property
    def kind(self) -> str:
        """``"torch"``, ``"mindspore"`` or ``"onnx"``."""

    @property
    def attributes(self) -> Attributes:
        """See :mod:`parity.runtimes.attributes`."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """Of every weight; see :func:`hash_weights`."""


def structure_differences(
    info: ModelInfo, hashes: Mapping[str, str], other: ModelInfo, inside: Inside
) -> list[Difference]:
    """What in a runtime's actual model is not as it should be.

    Args:
        info: Of the reference's model.
        hashes: Of the reference's weights.
        other: Of the model that the runtime was opened with.
        inside: What it holds.
    """
    expected = expected_attributes(info.config, info.numerics)
    return [
        *info_differences(info, other),
        *attribute_differences(expected, inside.attributes, inside.kind, info.config),
        *weight_differences(hashes, inside.hashes, info.config),
    ]


def first_tap(subject: str, config: PVTConfig) -> str | None:
    """The first tap whose value a tensor, an attribute or a field enters; None if none does.

    Args:
        subject: ``block1.0.norm1.weight``, ``block1.0.attn.sr.padding``, ``numerics.gelu``,
            ``preprocessing.mean``.
        config: Of the model.
    """
    names = tap_names(config)
    place, _, rest = subject.partition(".")
    if place == "preprocessing":
        return INPUT
    if place == "numerics":
        found = _first_of_numerics(rest, config)
    elif place.startswith("block"):
        block, _, layer = rest.partition(".")
        branch = "attn" if layer.split(".")[0] in ("norm1", "attn") else "mlp"
        found = f"{place}.{block}.{branch}"
    else:
        places = {"cls_token": f"embed{len(config.depths)}", "head": "logits"}
        places["pos_embed"] = "embed1"
        found = places.get(place, place.replace("pos_embed", "embed"))
    return found if found in names else None


def _first_of_numerics(field: str, config: PVTConfig) -> str:
    """Of a field of Numerics."""
    reducing = next((i for i in range(len(config.depths)) if config.reduces(i)), 0) + 1
    return {
        "gelu": "block1.0.attn" if config.linear else "block1.0.mlp",
        "conv_padding": "patch_embed1",
        "patch_norm_eps": "patch_embed1",
        "attn_norm_eps": f"block{reducing}.0.attn",
        "norm1_eps": "block1.0.attn",
        "norm2_eps": "block1.0.mlp",
        "final_norm_eps": "norm1" if config.version == 2 else "norm",
    }.get(field, "embed1")


def attribute_differences(
    expected: Attributes, actual: Attributes, kind: str, config: PVTConfig
) -> list[Difference]:
    """Every attribute that is missing, unknown or different, in the spec's order.

    Args:
        expected: From :func:`parity.runtimes.attributes.expected_attributes`.
        actual: Read from a runtime's model.
        kind: ``"torch"``, ``"mindspore"`` or ``"onnx"``: what it may not show.
        config: Of the model.
    """
    keys = [*expected, *(key for key in actual if key not in expected)]
    return [
        Difference(
            key,
            str(actual.get(key, "missing")),
            str(expected.get(key, "absent")),
            first_tap(key, config),
        )
        for key in keys
        if actual.get(key) != expected.get(key)
        and not (key not in actual and key.rpartition(".")[2] in UNSEEN[kind])
    ]


def hash_weights(weights: Mapping[str, Array]) -> dict[str, str]:
    """A hash of every tensor's shape and values.

    float16 and bfloat16 are widened first, without loss: however a number is kept, it is the same.
    """
    return {name: _hash(array) for name, array in weights.items()}


def _hash(array: Array) -> str:
    dtype = "<f8" if array.dtype == np.float64 else "<f4"
    digest = hashlib.blake2b(repr((dtype, array.shape)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array, dtype).data)
    return digest.hexdigest()


def weight_differences(
    expected: Mapping[str, str], actual: Mapping[str, str], config: PVTConfig
) -> list[Difference]:
    """Every tensor that is missing, unknown or holds other values, by hash."""
    names = [*expected, *(name for name in actual if name not in expected)]
    return [
        Difference(
            name,
            f"other values (hash {actual[name][:8]})" if name in actual else "missing",
            f"the reference's (hash {expected[name][:8]})" if name in expected else "absent",
            first_tap(name, config),
        )
        for name in names
        if actual.get(name) != expected.get(name)
    ]


def info_differences(first: ModelInfo, other: ModelInfo) -> list[Difference]:
    """What two files say differently of maths and preprocessing, and of labels if both have any."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for part in ("numerics", "preprocessing"):
        ours, theirs = getattr(other, part), getattr(first, part)
        for field in dataclasses.fields(theirs):
            pair = getattr(ours, field.name), getattr(theirs, field.name)
            pairs[f"{part}.{field.name}"] = pair
    if other.labels and first.labels:
        pairs["labels"] = other.labels, first.labels
    return [
        Difference(subject, _shown(found), _shown(expected), first_tap(subject, first.config))
        for subject, (found, expected) in pairs.items()
        if found != expected
    ]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
