"""SmoothQuant: what activations spread over their channels goes into the weights after them.

A norm's answers go into linear layers alone. Divided by a number for each channel, and the columns
of those layers' weights multiplied by it, the model computes the same, and what is rounded to 8
bits is more even (Xiao et al., "SmoothQuant", 2023). The numbers are powers of two here: then not a
bit of any answer changes in float32, short of numbers too small to be held.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pvt_spec import PVTConfig, tensor_specs
from pvt_spec.arrays import Array

_SMALLEST = 1e-5
"""What the largest value of a channel is taken for at least, as a share of the largest of all."""

_MOST = 8
"""The largest power of two that a channel is scaled by, either way."""


class Fold(NamedTuple):
    """A norm, and all layers that its answers go into.

    Attributes:
        norm: The norm, which its answer in a graph is called after too.
        after: The layers: linear ones, or convolutions.
    """

    norm: str
    after: tuple[str, ...]


def folds(config: PVTConfig) -> Iterator[Fold]:
    """Yields the norms of a model that scales may be taken from: all within blocks but one.

    The norm after a linear v2's reduction goes into a GELU, through which no scale can go.
    """
    blocks = {
        (spec.stage, spec.block): spec.name.removesuffix(".norm1.weight")
        for spec in tensor_specs(config)
        if (spec.layer, spec.part) == ("norm1", "weight")
    }
    for (stage, _), block in blocks.items():
        attn = f"{block}.attn"
        reduces = config.reduces(stage or 0)
        keys = f"{attn}.sr" if reduces else f"{attn}.kv"
        yield Fold(f"{block}.norm1", (f"{attn}.q", keys))
        if reduces and not config.linear:
            yield Fold(f"{attn}.norm", (f"{attn}.kv",))
        yield Fold(f"{block}.norm2", (f"{block}.mlp.fc1",))


def find_scales(
    config: PVTConfig, weights: Mapping[str, Array], largest: Mapping[str, Array], alpha: float
) -> dict[str, tuple[int, ...]]:
    """Returns the powers of two by which each norm's channels are divided, by the norm.

    Args:
        config: The architecture.
        weights: Every weight by canonical name.
        largest: The largest absolute value of each channel of every norm of :func:`folds`, (C,).
        alpha: How much goes into the weights, 0 to 1.
    """
    found = {}
    for fold in folds(config):
        # Of each of its channels, over all that it goes into.
        columns = np.max([_columns(weights[f"{layer}.weight"]) for layer in fold.after], axis=0)
        found[fold.norm] = _exponents(largest[fold.norm], columns, alpha)
    return found


def scale(
    config: PVTConfig, weights: Mapping[str, Array], scales: Mapping[str, Sequence[int]]
) -> dict[str, Array]:
    """Returns weights that compute the same, with the answers of norms divided.

    Args:
        config: The architecture.
        weights: Weights by canonical name, of floats; of those that are not there none is made.
        scales: The powers of two of :func:`find_scales`; their negatives undo them.
    """
    changed = dict(weights)
    for fold in folds(config):
        if fold.norm not in scales:
            continue
        factors = np.exp2(np.array(scales[fold.norm], np.float32))
        for name in (f"{fold.norm}.weight", f"{fold.norm}.bias"):
            if name in changed:
                changed[name] = changed[name] / factors
        for name in (f"{layer}.weight" for layer in fold.after):
            if name in changed:
                weight = changed[name]
                changed[name] = weight * factors.reshape(-1, *[1] * (weight.ndim - 2))
    return changed


def _columns(weight: Array) -> Array:
    """Returns the largest absolute value of each input channel, (in,)."""
    found: Array = np.abs(weight).max(axis=(0, *range(2, weight.ndim)))
    return found


def _exponents(values: Array, columns: Array, alpha: float) -> tuple[int, ...]:
    values, columns = (np.maximum(part, _SMALLEST * part.max()) for part in (values, columns))
    if not (values.all() and columns.all()):  # a norm or layer of zeros
        return (0,) * len(values)
    exponents = alpha * np.log2(values) - (1 - alpha) * np.log2(columns)
    # The whole stays as large as it is: only what channels differ in matters.
    exponents -= np.median(exponents)
    return tuple(int(each) for each in np.clip(np.rint(exponents), -_MOST, _MOST))
