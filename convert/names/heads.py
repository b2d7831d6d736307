"""Where a model's head lies, which people replace: ``head.1``, ``head.fc``, or beside a backbone.

A PVT's head is one linear layer. Dropout and flattening have no tensors, so a head of these and one
linear layer is a PVT's; what stands between two linear layers no tensor shows.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from convert.names.detect import Shapes

_HEADS = ("head", "heads", "cls_head", "classification_head", "classifier", "fc", "linear")
"""What the head beside a backbone is called."""

_ABOVE = 3
"""How many parts of a backbone's prefix are left off, one by one, to look for a head beside it."""


@dataclass(frozen=True)
class Head:
    """A model's head among the names of a file.

    Attributes:
        place: What stands before its ``.weight`` and ``.bias``; "" where there is none.
        names: The parts of it, ``weight`` and ``bias``, by the names of the tensors.
        odd: The tensors of a head that is not one linear layer, and therefore no PVT's.
    """

    place: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    odd: tuple[str, ...] = ()


def find_head(shapes: Shapes, prefix: str, own: str, width: int) -> Head:
    """Finds the head of a model.

    Args:
        shapes: The shapes of all tensors that may be its, by name.
        prefix: What stands before the names of the model's other tensors.
        own: The name of the head in the model's dialect.
        width: The features that it takes.

    Returns:
        The head that has the dialect's name, or else the first that is called like one, under the
        prefix or beside it.
    """
    for lead, held in _held(shapes, prefix, own):
        is_own = lead == f"{prefix}{own}."
        weights = [name for name, shape in held.items() if len(shape) == 2]
        place = weights[0].removesuffix(".weight") if len(weights) == 1 else ""
        if is_own and held.keys() <= _parts(lead[:-1]).keys():
            place = lead[:-1]
        names = {name: part for name, part in _parts(place).items() if name in held}
        # Of a head that has the dialect's own names, the shapes are checked with all others.
        fits = (place == lead[:-1] and is_own) or (bool(names) and held[weights[0]][1] == width)
        if fits and len(names) == len(held):
            return Head(place, names)
        if is_own or (weights and all(len(shape) <= 2 for shape in held.values())):
            return Head(odd=tuple(held))
    return Head()


def _held(shapes: Shapes, prefix: str, own: str) -> Iterator[tuple[str, Shapes]]:
    """Yields what may be a head, the likeliest first: what stands before its names, and these."""
    above = prefix.split(".")[:-1]
    befores = [prefix]
    for _ in range(min(_ABOVE, len(above))):
        above.pop()
        befores.append("".join(f"{part}." for part in above))
    leads = [f"{prefix}{own}.", *(f"{before}{name}." for before in befores for name in _HEADS)]
    for lead in leads:
        if held := {n: s for n, s in shapes.items() if n.startswith(lead) and s}:
            yield lead, held
    # In a Sequential of backbone and head, what comes after the backbone is the head.
    *before, number = prefix.split(".")[:-1] or [""]
    lead = "".join(f"{part}." for part in before)
    if number.isdecimal():
        following = re.compile(rf"{re.escape(lead)}(\d{{1,9}})\.")
        found = {name: match for name in shapes if (match := following.match(name))}
        held = {n: shapes[n] for n, m in found.items() if int(m[1]) > int(number) and shapes[n]}
        if held:
            yield lead, held


def _parts(layer: str) -> dict[str, str]:
    """Returns the parts of a linear layer by their names."""
    return {f"{layer}.{part}": part for part in ("weight", "bias")}
