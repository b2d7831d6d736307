"""Where in what was saved the tensors lie: the dicts that hold them, by the keys to them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from convert.formats.pth.tensors import state_dict
from convert.formats.pth.values import Namespace, OrderedDict, Placeholder
from convert.formats.weight_file import WeightFile, other_name
from pvt_spec import METADATA_KEY
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_ENTRIES, MAX_NAME, MAX_PARTS, MAX_PLACES

_DEPTH = 8
"""Most keys that may lead to a dict of tensors."""

_MODULES = 16
"""Most modules that were pickled whole of which the tensors are looked for."""

_KEY = 60
"""Characters that are kept of a key to a dict.

Where a key is repeated in those of all that lies under it, a short file could make long ones.
"""


def find_places(root: Any) -> WeightFile:
    """Returns what was saved, each dict of tensors under the keys that lead to it.

    Every dict, list and tuple is looked into once, under the first keys that lead to it; not what
    a script was called with. What a dict has under other keys than texts (an optimizer its state)
    has no names and is no place. The texts in the ``_metadata`` of state dicts are texts of the
    file, where all of them say the same; so are descriptions of models of ours in a dict of it.

    Raises:
        ConvertError: A module that was pickled whole has no end, or there are too many dicts.
    """
    search = _Search()
    search.look(root, ())
    counts = Counter(key for key, _ in search.texts)
    said = {key: text for key, text in search.texts if counts[key] == 1}
    search.found.metadata.update({**said, **search.found.metadata})
    return replace(search.found, unlike=frozenset(counts) - said.keys())


class _Search:
    def __init__(self) -> None:
        self.found = WeightFile({})
        self.seen: set[int] = set()
        self.texts: dict[tuple[str, str], None] = {}
        self.said: set[int] = set()
        self.modules, self.parts, self.tensors = 0, MAX_PARTS, 0

    def look(self, value: Any, keys: tuple[str, ...]) -> bool:
        """Adds the tensors in a value and what is beside them; returns whether there are any."""
        if not isinstance(value, (dict, list, tuple)) or len(keys) > _DEPTH:
            return False
        if isinstance(value, Namespace) or id(value) in self.seen:
            return False
        self.seen.add(id(value))
        if tensors := self.module(value):
            self.add(keys, tensors)
            return True
        if not isinstance(value, dict):  # what it holds has a number for a key, and no name
            numbered = [self.look(item, (*keys, str(i))) for i, item in enumerate(value)]
            return any(numbered)
        beside: dict[str, Any] = {}
        inside = False
        for key, item in value.items():
            if not isinstance(key, str):
                # Bytes and what they are in may be long, and are no names.
                plain = isinstance(key, int | float | Placeholder)
                beside[str(key) if plain else type(key).__name__] = item
            elif isinstance(item, np.ndarray) and len(key) <= MAX_NAME:
                tensors[key] = item
            elif isinstance(item, str) and not keys:
                self.found.metadata[key] = item
            elif isinstance(item, str) and key == METADATA_KEY:  # a file of ours in another's dict
                self.texts[key, item] = None
            elif self.look(item, (*keys, key[:_KEY])):
                inside = True
            else:
                beside[key] = item
        if tensors:
            self.add(keys, tensors)
            self.texts.update(dict.fromkeys(self.texts_of(value)))
        if tensors or inside:
            self.note(keys, beside)
        return bool(tensors) or inside

    def add(self, keys: tuple[str, ...], tensors: dict[str, Array]) -> None:
        self.found.places[other_name(".".join(keys), self.found.places)] = tensors
        self.tensors += len(tensors)
        if self.tensors > MAX_ENTRIES:
            raise ConvertError(f"holds more than {MAX_ENTRIES} tensors, expected those of a PVT")
        if len(self.found.places) > MAX_PLACES:
            raise ConvertError(
                f"holds over {MAX_PLACES} dicts of tensors, more than any checkpoint"
            )

    def note(self, keys: tuple[str, ...], beside: dict[str, Any]) -> None:
        """Keeps what lies beside tensors, as far as there is room."""
        extras = self.found.extras
        for key, item in islice(beside.items(), max(0, MAX_PLACES - len(extras))):
            extras[".".join((*keys, key[:_KEY]))] = item

    def texts_of(self, state_dict: Any) -> Iterator[tuple[str, str]]:
        """Yields the texts, with their keys, in the ``_metadata`` of a state dict.

        What several state dicts or modules have in common is looked into once.
        """
        attributes = state_dict.attributes if isinstance(state_dict, OrderedDict) else {}
        for each in self.unsaid(attributes.get("_metadata")).values():
            for key, text in self.unsaid(each).items():
                if isinstance(key, str) and isinstance(text, str):
                    yield key, text

    def unsaid(self, value: Any) -> dict[Any, Any]:
        """Returns a dict when it is asked for first; {} of anything else."""
        if not isinstance(value, dict) or id(value) in self.said:
            return {}
        self.said.add(id(value))
        return value

    def module(self, value: Any) -> dict[str, Array]:
        """Returns the tensors of a value that is a module; none of another, or of too many."""
        if not isinstance(value, Placeholder) or "_modules" not in value:
            return {}
        self.modules += 1
        if self.modules > _MODULES:
            return {}
        tensors, self.parts = state_dict(value, self.parts)
        return tensors
