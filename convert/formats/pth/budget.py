"""How long a pickle has run, and how much memory the values that it made have taken."""

from dataclasses import dataclass
from typing import Any

from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import LEAST_COPIED, MAX_COPIES, MAX_GROWTH, MAX_OPCODES

ITEM = 64
"""Bytes that an item of a dict or set takes."""

_TEXT_LIKE = (str, bytes, bytearray)
_CONTAINERS = (list, tuple, dict, set, frozenset)


@dataclass
class Budget:
    """What a pickle has taken so far, and may: by :mod:`pvt_spec.files.limits`.

    Attributes:
        source: The pickle's name in a complaint.
        room: How many more bytes values may take.
        read: Bytes of the pickle that were read.
        given: Items and bytes that calls were given.
        steps: Opcodes that were run, and items that calls were given.
    """

    source: str
    room: int
    read: int = 0
    given: int = 0
    steps: int = 0

    def step(self, read: int) -> None:
        """Accounts for one opcode, at so many bytes from the start."""
        self.read = read
        self.steps += 1
        if self.steps > MAX_OPCODES:
            raise ConvertError(f"{self.source} has over {MAX_OPCODES} steps, more than any model")

    def take(self, size: int) -> None:
        """Accounts for bytes of memory; garbage counts too."""
        self.room -= size
        if self.room < 0:
            raise ValueError(f"its values take over {MAX_GROWTH} times the memory of the file")

    def spend(self, value: Any) -> None:
        """Accounts for a value that a call is given, which may be the same again and again."""
        if isinstance(value, _TEXT_LIKE):
            self.given += len(value)
            self.take(len(value))
        elif isinstance(value, _CONTAINERS):
            self.given += len(value)
            self.steps += len(value)
            self.take(ITEM * len(value))
        if self.given > MAX_COPIES * self.read + LEAST_COPIED:
            raise ValueError("the same values are used over and over")
