"""Where a model's head lies, which people replace: ``head.1``, ``head.fc``, or beside a backbone.

A PVT's head is one linear layer. Dropout and flattening have no tensors, so a head of these and one
linear layer is a PVT's; what stands between two linear layers no tensor shows.
"""

from collections.abc import Mapping
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
    above = prefix.split(".")[:-1]
    befores = [prefix]
    for _ in range(min(_ABOVE, len(above))):
        above.pop()
        befores.append("".join(f"{part}." for part in above))
    leads = [f"{prefix}{own}", *(before + name for before in befores for name in _HEADS)]
    for lead in leads:
        held = {n: s for n, s in shapes.items() if n.startswith(f"{lead}.") and s}
        if not held:
            continue
        weights = [n for n, s in held.items() if len(s) == 2]
        place = weights[0].removesuffix(".weight") if len(weights) == 1 else ""
        if lead == leads[0] and held.keys() <= _parts(lead).keys():
            place = lead  # whatever its shapes are
        names = {name: part for name, part in _parts(place).items() if name in held}
        fits = len(names) == len(held) and (place == leads[0] or held[weights[0]][1] == width)
        if fits:
            return Head(place, names)
        if lead == leads[0] or (weights and all(len(shape) <= 2 for shape in held.values())):
            return Head(odd=tuple(held))
    return Head()


def _parts(layer: str) -> dict[str, str]:
    """Returns the parts of a linear layer by their names."""
    return {f"{layer}.{part}": part for part in ("weight", "bias")}
