"""What pickles are made of: the records that stand for names, and checks of hostile values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Known:
    """What a name in a pickle stands for.

    Attributes:
        name: The module and the qualified name.
        make: A function that makes the value of a call of it from the call's arguments, and is
            harmless whatever these are. None where the name is only a value itself, as a dtype is.
        tensor: Whether that is a tensor, which has to be right: any other value that cannot be
            made is set aside as a :class:`Placeholder`.
    """

    name: str
    make: Callable[..., Any] | None = None
    tensor: bool = False


class Placeholder(dict[Any, Any]):
    """What stands for an object that is not read: its items and attributes, where it has any.

    Two are never equal, and a hash looks at none of what is in them, which may be themselves.
    """

    __slots__ = ("name",)

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<{self.name}>"


class OrderedDict(dict[Any, Any]):
    """A ``collections.OrderedDict``, and the attributes that torch gives to a state dict."""

    __slots__ = ("attributes",)

    def __init__(self, items: dict[Any, Any]):
        super().__init__(items)
        self.attributes: dict[Any, Any] = {}


class OfAnotherKind(Exception):
    """A name that is known makes a kind of value here that is not read."""


class Namespace(dict[str, Any]):
    """The attributes of an object of a class like ``argparse.Namespace``."""


class Deferred:
    """An object whose value is known only after its state was set (opcode ``BUILD``).

    Attributes:
        name: The name of its class.
        value: What it comes to; None before its state was set.
    """

    name = ""
    value: Any = None

    def set_state(self, state: Any) -> None:
        """Works ``value`` out."""
        raise NotImplementedError


_PLAIN = (str, bytes, int, float, bool, type(None), Placeholder)
_INT64 = range(-(1 << 63), 1 << 63)


def hashable(value: Any) -> Any:
    """Returns ``value``, if it may be a key or a member of a set.

    Raises:
        TypeError: It is not plain. Hashes of texts nobody can foresee, those of numbers of 64 bits
            are nearly all different; but of tuples and complex numbers any number can be made that
            have the same, and each would then be compared with all before it.
    """
    if not isinstance(value, _PLAIN) or (isinstance(value, int) and value not in _INT64):
        raise TypeError(f"a key of type {type(value).__name__}")
    return value


def numbers(value: Any) -> tuple[int, ...]:
    """Returns ``value``, if it may be a shape or the strides of an array.

    Raises:
        TypeError: It is no tuple of at most 32 integers from 0 up that fit 64 bits.
    """
    if not isinstance(value, tuple) or len(value) > 32:
        raise TypeError("a shape")
    if not all(type(item) is int and item >= 0 and item in _INT64 for item in value):
        raise TypeError("a shape's numbers")
    return value


def make_dict(items: list[Any]) -> dict[Any, Any]:
    """Returns a dict of keys and values that take turns."""
    return {hashable(k): v for k, v in zip(items[::2], items[1::2], strict=True)}
