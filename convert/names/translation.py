"""Tensors from a dialect's names and layouts to the canonical ones and back, bit for bit."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from convert.names.dialects import Pairing
from pvt_spec import TensorSpec
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

Holders = dict[str, tuple[str, ...]]
"""The tensors of a file that hold a canonical one's rows, by its name."""


def to_canonical(tensors: Mapping[str, Array], pairings: Iterable[Pairing]) -> dict[str, Array]:
    """Returns canonical tensors of a file's: views where it has a tensor for each, else copies.

    Raises:
        ConvertError: Tensors that belong together are of different dtypes.
    """
    return {
        spec.name: array
        for pairing in pairings
        for spec, array in _regroup(tensors, pairing.theirs, pairing.ours)
    }


def from_canonical(weights: Mapping[str, Array], pairings: Iterable[Pairing]) -> dict[str, Array]:
    """Returns what :func:`to_canonical` takes, of what that gives.

    Raises:
        ConvertError: Tensors that belong together are of different dtypes.
    """
    return {
        spec.name: array
        for pairing in pairings
        for spec, array in _regroup(weights, pairing.ours, pairing.theirs)
    }


def _regroup(
    tensors: Mapping[str, Array], held: Sequence[TensorSpec], wanted: Sequence[TensorSpec]
) -> Iterable[tuple[TensorSpec, Array]]:
    """Yields the rows of the tensors ``held``, one below the other, cut into those ``wanted``."""
    arrays = [tensors[spec.name] for spec in held]
    if len({array.dtype for array in arrays}) > 1:
        kinds = ", ".join(f"{spec.name} {tensors[spec.name].dtype.name}" for spec in held)
        raise ConvertError(
            f"these become parts of one tensor, but differ in dtype: {kinds}; give --dtype for all"
        )
    if len(held) == len(wanted) == 1:
        yield wanted[0], arrays[0].reshape(wanted[0].shape)
        return
    width = held[0].shape[1:] if len(held[0].shape) < len(wanted[0].shape) else wanted[0].shape[1:]
    parts = [array.reshape(-1, *width) for array in arrays]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    start = 0
    for spec in wanted:
        stop = start + spec.shape[0]
        yield spec, rows[start:stop].reshape(spec.shape)
        start = stop


def names_by_canonical(pairings: Iterable[Pairing]) -> Holders:
    """Returns the tensors of the dialect that hold a canonical one's rows, by its name."""
    return {
        spec.name: tuple(their.name for their in pairing.theirs)
        for pairing in pairings
        for spec in pairing.ours
    }


def count_changes(source: Holders, target: Holders) -> dict[str, int]:
    """Returns how many tensors of a source keep, change or share their name in a target.

    Returns:
        Of the target's tensors: ``renamed``, ``split`` (of a source's that became several) and
        ``joined`` (of several of the source's).
    """
    origins: dict[str, set[str]] = {}
    for name, theirs in target.items():
        for their in theirs:
            origins.setdefault(their, set()).update(source[name])
    # A tensor that is cut in the source's naming and in the target's alike is only renamed.
    sharing = Counter(map(frozenset, origins.values()))
    counts = {"renamed": 0, "split": 0, "joined": 0}
    for name, held in origins.items():
        if len(held) == sharing[frozenset(held)]:
            counts["renamed"] += name not in held
        else:
            counts["split" if len(held) == 1 else "joined"] += 1
    return counts
