"""Pickles read as data: a machine for the opcodes that build values, which can run no code.

A pickle is a program for a stack machine. Python's own ``pickle`` imports what the program names
and calls it. This machine imports nothing: a name stands for an entry of a table that the caller
gives, and any other name for a placeholder, as does whatever a call of it would make. So lists,
dicts, numbers and text come out as they were, an ``argparse.Namespace`` as a dict, and the rest
as placeholders, with the items and attributes that the program gives them.

``pickletools`` cuts the bytes into opcodes and checks every length against what is left. Time and
memory are bounded by :mod:`pvt_spec.files.limits`. Standard library only.
"""

import pickletools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from convert.formats.pth.budget import ITEM, Budget
from convert.formats.pth.values import (
    Deferred,
    Known,
    Namespace,
    OfAnotherKind,
    OrderedDict,
    Placeholder,
    hashable,
)
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_GROWTH, SMALL
from pvt_spec.words import printable

RESAVE = "save its tensors alone with torch: torch.save(model.state_dict(), 'weights.pth')"
"""The way out where a file is not what is read here."""

_NAME = 200
"""Characters that are kept of the name of something that is not read."""

_BITS = 1024
"""Bits of an integer that is kept: Python writes none of over 4,300 digits, and slowly."""


def load(
    stream: IO[bytes],
    source: str,
    known: Mapping[str, Known],
    load_storage: Callable[[Any], Any],
    file_size: int,
) -> tuple[Any, list[str]]:
    """Returns the value that a pickle describes, and the names that placeholders stand for.

    Nothing is executed.

    Args:
        stream: The pickle, of protocol 0 to 5; the stream stands at its end afterwards.
        source: The pickle's name in a complaint.
        known: The meanings of names in it, by "module.name" ("builtins", not "__builtin__").
        load_storage: A function that makes the value of a persistent id.
        file_size: Bytes of the file that the pickle is in.

    Raises:
        ConvertError: The pickle is damaged or too long, or makes too much of itself.
    """
    budget = Budget(source, MAX_GROWTH * file_size + SMALL)
    machine = _Machine(known, load_storage, budget)
    start = stream.tell()
    at: int | None = start
    try:
        for opcode, argument, at in pickletools.genops(stream):
            budget.step((at or 0) - start)
            machine.step(opcode.name, argument)
        return machine.result(), [*machine.unread]
    except ConvertError:
        raise
    except Exception as error:
        # A damaged pickle fails in as many ways as there are opcodes.
        problem = printable(f"{type(error).__name__}: {error!s:.200}")
        raise ConvertError(
            f"{source}, byte {at}: cannot be read ({problem}). The file is damaged, or holds what "
            f"no checkpoint needs: copy or download it again, or {RESAVE}"
        ) from error


def _resolve(value: Any) -> Any:
    return value.value if isinstance(value, Deferred) and value.value is not None else value


@dataclass
class _Machine:
    """A pickle's stack and memo. A program that is not right makes ``step`` fail in any way."""

    known: Mapping[str, Known]
    load_storage: Callable[[Any], Any]
    budget: Budget
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # heights of the stack
    memo: dict[int, Any] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)  # names of what placeholders stand for

    def step(self, opcode: str, argument: Any) -> None:
        """Runs one opcode with the argument that follows it in the pickle."""
        self.budget.take(_SIZES.get(opcode, 72))
        if opcode in _CONSTANTS:
            self.budget.take(sys.getsizeof(argument) if opcode not in _SIZES else 0)
            if isinstance(argument, str):
                # A name that is no Unicode has lone surrogates, which no terminal would take later.
                argument = argument.encode(errors="backslashreplace").decode()
            if isinstance(argument, int) and argument.bit_length() > _BITS:
                argument = self.placeholder("a very long integer")
            self.stack.append(argument)
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _IGNORED:
            raise ValueError(f"opcode {opcode}")

    def result(self) -> Any:
        """Returns the one value that is left when the program is done."""
        (value,) = self.stack
        return _resolve(value)

    def pop(self) -> Any:
        return _resolve(self.stack.pop())

    def pop_mark(self) -> list[Any]:
        height = self.marks.pop()
        items = [_resolve(value) for value in self.stack[height:]]
        del self.stack[height:]
        return items

    def find(self, module: Any, name: Any) -> Known | Placeholder:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        module = "builtins" if module == "__builtin__" else module  # Python 2's and protocol 2's
        # Cut, as no known one is as long: a long text may be named again and again.
        name = f"{module[:_NAME]}.{name[:_NAME]}"
        return self.known.get(name) or self.placeholder(name)

    def placeholder(self, name: str) -> Placeholder:
        """Returns what stands for something that is not read, and notes its name."""
        name = (name if name.isprintable() else ascii(name[:_NAME]))[:_NAME]
        if name not in self.unread:
            self.budget.take(2 * sys.getsizeof(name))
            self.unread[name] = None
        made = Placeholder(name)
        self.budget.take(sys.getsizeof(made))
        return made

    def call(self, function: Any, arguments: Any, keywords: Any = None) -> Any:
        if not isinstance(function, Known | Placeholder):
            raise TypeError(f"a call of a {type(function).__name__}")
        self.budget.spend(arguments)
        for argument in arguments:
            self.budget.spend(argument)
        if isinstance(function, Placeholder) or function.make is None or keywords:
            return self.placeholder(function.name)
        try:
            return function.make(*arguments)
        except OfAnotherKind:
            return self.placeholder(function.name)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            if function.tensor:
                raise
            return self.placeholder(function.name)

    def drop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def push_tuple(self, length: int) -> None:
        items = [self.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(items)))

    def push_global(self, argument: str) -> None:
        self.stack.append(self.find(*argument.split(" ", 1)))

    def push_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.find(module, name))

    def push_instance(self, argument: str) -> None:
        self.stack.append(self.call(self.find(*argument.split(" ", 1)), self.pop_mark()))

    def push_object(self, _: Any) -> None:
        function, *arguments = self.pop_mark()
        self.stack.append(self.call(function, arguments))

    def push_reduced(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self.call(function, arguments))

    def push_reduced_with_keywords(self, _: Any) -> None:
        keywords, arguments, function = self.pop(), self.pop(), self.pop()
        self.stack.append(self.call(function, arguments, keywords))

    def push_extension(self, code: int) -> None:
        self.stack.append(self.placeholder(f"extension {code}"))

    def push_storage(self, identity: Any) -> None:
        try:
            self.stack.append(self.load_storage(identity))
        except OfAnotherKind as error:
            self.stack.append(self.placeholder(str(error)))

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        self.budget.spend(state)
        if isinstance(target, Deferred):
            self.set_state(target, state)
        elif isinstance(target, Namespace | Placeholder):
            if isinstance(state, dict):
                target.update(state)
        elif isinstance(target, OrderedDict):
            target.attributes = state if isinstance(state, dict) else {}
        elif not isinstance(target, dict):  # the attributes of another dict are left out
            raise TypeError(f"state of a {type(target).__name__}")

    def set_state(self, target: Deferred, state: Any) -> None:
        try:
            target.set_state(state)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            target.value = self.placeholder(target.name)

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Placeholder):  # the items of a list of its own class
            raise TypeError(f"items of a {type(target).__name__}")

    def add(self, items: list[Any]) -> None:
        self.budget.take(ITEM * len(items))
        if not isinstance(self.stack[-1], set):
            raise TypeError(f"members of a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(self.key, items))

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise TypeError(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(self.make_dict(items))

    def make_dict(self, items: list[Any]) -> dict[Any, Any]:
        """Returns a dict of keys and values that take turns."""
        self.budget.take(ITEM * len(items))
        return {self.key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}

    def key(self, value: Any) -> Any:
        """Returns a key of a dict or a member of a set, or what stands for an odd one."""
        try:
            return hashable(value)
        except TypeError:
            return self.placeholder(f"key of type {type(value).__name__}")

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]


_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # text here: Python 2's
_BYTES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_CONSTANTS = _NUMBERS | _TEXTS | _BYTES | {"NONE"}
_MEMOIZING = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETTING = {"GET", "BINGET", "LONG_BINGET"}

_SIZES = {
    **dict.fromkeys({"NONE", "BININT1", "NEWTRUE", "NEWFALSE", "DUP", *_GETTING}, 24),
    **dict.fromkeys({"EMPTY_SET", "FROZENSET"}, 232),
    **dict.fromkeys(_MEMOIZING, 128),
}
"""Bytes that an opcode takes on the stack and beside it, at most, where they are not 72."""

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": _Machine.drop,
    "POP_MARK": lambda m, _: m.pop_mark().clear(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE1": lambda m, _: m.push_tuple(1),
    "TUPLE2": lambda m, _: m.push_tuple(2),
    "TUPLE3": lambda m, _: m.push_tuple(3),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_mark())),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "LIST": lambda m, _: m.stack.append(m.pop_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "DICT": lambda m, _: m.stack.append(m.make_dict(m.pop_mark())),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "ADDITEMS": lambda m, _: m.add(m.pop_mark()),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(map(m.key, m.pop_mark()))),
    **dict.fromkeys(_MEMOIZING, _Machine.memoize),
    **dict.fromkeys(_GETTING, lambda m, index: m.stack.append(m.memo[index])),
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_stack_global,
    "INST": _Machine.push_instance,
    "OBJ": _Machine.push_object,
    "REDUCE": _Machine.push_reduced,
    "NEWOBJ": _Machine.push_reduced,
    "NEWOBJ_EX": _Machine.push_reduced_with_keywords,
    "BUILD": _Machine.build,
    "EXT1": _Machine.push_extension,
    "EXT2": _Machine.push_extension,
    "EXT4": _Machine.push_extension,
    "PERSID": lambda m, identity: m.push_storage(identity),
    "BINPERSID": lambda m, _: m.push_storage(m.pop()),
}
