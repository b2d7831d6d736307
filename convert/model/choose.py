"""Which of a file's tensors are a model's: in which dict they lie, and under which prefix."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from shlex import quote

from convert.formats.weight_file import WeightFile
from convert.names.detect import Shapes
from convert.names.naming import Naming
from convert.names.prefixes import averaged_part, group_by_prefix
from convert.names.training_state import averaged_name, is_training_state
from convert.names.wrappers import unwrap
from convert.options import Given
from pvt_spec import PvtError
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.words import show

FindNaming = Callable[[Shapes], Naming]
"""A function that finds how tensors of these names and shapes are named."""

_SHOWN = 8

_FEWEST = 48
"""Fewer tensors than any PVT has: four stages of 4 and a block of 8 to 12."""


@dataclass(frozen=True, eq=False)
class Place:
    """A dict of a file that has weights.

    Attributes:
        keys: The keys that lead to it.
        tensors: Its weights by their names without wrappers.
        written: The names as they are in the file, by those without wrappers.
        averaged: Whether all of it is averaged weights.
    """

    keys: str
    tensors: dict[str, Array]
    written: dict[str, str]
    averaged: bool = False

    def full(self, name: str) -> str:
        """Returns a name of it with the keys before."""
        return f"{self.keys}.{name}" if self.keys else name


@dataclass(frozen=True, eq=False)
class Candidate:
    """Where a PVT may lie: a dict, what stands before the names, and these without it."""

    place: Place
    prefix: str
    names: tuple[str, ...]

    @property
    def averaged(self) -> bool:
        """Whether it is averaged weights, as the keys or the prefix say."""
        return self.place.averaged or bool(averaged_part(self.place.full(self.prefix)))

    @cached_property
    def weights(self) -> dict[str, Array]:
        """The tensors under their names without the prefix."""
        return {name: self.place.tensors[self.prefix + name] for name in self.names}


@dataclass(frozen=True)
class Choice:
    """What was chosen of a file.

    Attributes:
        taken: The tensors that are the model's.
        places: All dicts of the file that have weights.
        averaged: The averaged weights that there are.
        state: The names of training state beside the model's.
        ignored: The names that were left out because the user says so.
    """

    taken: Candidate
    places: tuple[Place, ...]
    averaged: tuple[Candidate, ...]
    state: tuple[str, ...]
    ignored: tuple[str, ...]


def choose(file: WeightFile, given: Given, find: FindNaming) -> Choice:
    """Chooses the one PVT that a file holds, or the one of several that the user asks for.

    Args:
        file: The file.
        given: The user's word for what to take and what to leave out.
        find: A function that tells how tensors are named, and refuses what is no PVT.

    Raises:
        ConvertError: None is there that is asked for, or several are.
    """
    kept, ignored = _without_ignored(file, given.ignore)
    places = tuple(_places(kept))
    there = [*_candidates(places)]
    found = _asked_for(there, given)
    if there and not found:
        raise ConvertError(f"no PVT is where it is asked for: there is {_listed(there)}")
    averaged = [each for each in found if each.averaged]
    if given.weights == "ema":
        if not averaged:
            raise ConvertError("no averaged weights in it (ema.*, model_ema): give --weights raw")
        found = averaged
    if len(found) > 1:
        found = [*_distinct(each for each in found if _is_whole(each, find))] or found
    found = [each for each in found if not each.averaged] or found
    if len(found) > 1 and _is_whole(found[0], find):
        raise ConvertError(f"several PVTs are in it: choose one, by convert with {_listed(found)}")
    # Of several that are none, the largest is what the problems are said of.
    taken = max(found, key=lambda each: len(each.names), default=_largest(places, given))
    state = tuple(name for held in kept.values() for name in held if is_training_state(name))
    return Choice(taken, places, tuple(averaged), state, ignored)


def _without_ignored(
    file: WeightFile, patterns: Iterable[str]
) -> tuple[dict[str, dict[str, Array]], tuple[str, ...]]:
    """Returns the tensors less those of a name that fits a pattern, and these names.

    Raises:
        ConvertError: A pattern fits none.
    """
    ignored = {}
    for pattern in patterns:
        fitting = [n for held in file.places.values() for n in held if fnmatchcase(n, pattern)]
        if not fitting:
            raise ConvertError(f"--ignore {show(pattern)} fits the name of no tensor in it")
        ignored.update(dict.fromkeys(fitting))
    kept = {
        keys: {name: array for name, array in held.items() if name not in ignored}
        for keys, held in file.places.items()
    }
    return kept, tuple(ignored)


def _places(tensors: Mapping[str, Mapping[str, Array]]) -> Iterator[Place]:
    """Yields the weights of each dict, raw and averaged apart, without training state."""
    for keys, held in tensors.items():
        raw = {name: array for name, array in held.items() if not is_training_state(name)}
        averages = {w: array for name, array in held.items() if (w := averaged_name(name))}
        for weights, averaged in ((raw, False), (averages, True)):
            written: dict[str, str] = {}
            for name in weights:
                # Of two names that are one without wrappers, the plain or the first one is it.
                bare = unwrap(name)
                written[name if bare in written or bare in weights else bare] = name
            if weights:
                named = {bare: weights[name] for bare, name in written.items()}
                yield Place(keys, named, written, averaged)


def _candidates(places: Iterable[Place]) -> Iterator[Candidate]:
    for place in places:
        for prefix, names in group_by_prefix(place.tensors).items():
            yield Candidate(place, prefix, tuple(names))


def _asked_for(candidates: Iterable[Candidate], given: Given) -> list[Candidate]:
    inside = [each for each in candidates if given.container in (None, each.place.keys)]
    if given.prefix is None:
        return inside
    # Without its wrappers only where none is called so: they stay where two names would be one.
    prefix = _dotted(given.prefix)
    exact = [each for each in inside if each.prefix == prefix]
    return exact or [each for each in inside if each.prefix == unwrap(f"{prefix}x")[:-1]]


def _dotted(prefix: str) -> str:
    return f"{prefix}." if prefix and not prefix.endswith(".") else prefix


def _listed(candidates: Iterable[Candidate]) -> str:
    """Returns what to type for each of some."""
    places = {(each.place.keys, each.prefix): None for each in candidates}
    containers, prefixes = zip(*places, strict=True)
    # What is the same for all needs no choice.
    shown = [
        " ".join(
            f"{flag} {quote(value)}"
            for flag, value, all_values in (
                ("--container", container, containers),
                ("--prefix", prefix, prefixes),
            )
            if len({*all_values}) > 1 or len(places) == 1
        )
        for container, prefix in places
    ]
    more = [f"{len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return "; or ".join(shown[:_SHOWN] + more)


def _is_whole(candidate: Candidate, find: FindNaming) -> bool:
    """Returns whether all tensors of a model are there, but for a head."""
    if len(candidate.names) < _FEWEST:
        return False
    shapes = {name: array.shape for name, array in candidate.weights.items()}
    try:
        naming = find(shapes)
    except PvtError:
        return False
    specs = (spec for pairing in naming.pairings for spec in pairing.theirs)
    return all(spec.name in shapes for spec in specs if spec.layer != "head")


def _distinct(candidates: Iterable[Candidate]) -> Iterable[Candidate]:
    """Returns candidates less those that are the same memory under other names."""
    kept: dict[object, Candidate] = {}
    for each in candidates:
        held = sorted((name, array.ctypes.data) for name, array in each.weights.items())
        kept.setdefault(tuple(held), each)
    return kept.values()


def _largest(places: Iterable[Place], given: Given) -> Candidate:
    """Returns what there is to say of a file in which nothing looks like a PVT."""
    prefix = _dotted(given.prefix or "")
    fitting = [each for each in places if given.container in (None, each.keys)]
    place = max(fitting, key=lambda each: len(each.tensors), default=Place("", {}, {}))
    names = (name.removeprefix(prefix) for name in place.tensors if name.startswith(prefix))
    return Candidate(place, prefix, tuple(names))
