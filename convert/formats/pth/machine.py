"""Pickles read as data: a machine for the opcodes that build values, which can run no code.

A pickle is a program for a stack machine. Python's own ``pickle`` imports what the program names
and calls it. This machine imports nothing: a name stands for an entry of a table that the caller
gives, and any other name ends the reading. So lists, dicts, numbers and text come out as they
were, an ``argparse.Namespace`` as a dict, and the rest not at all.

``pickletools`` cuts the bytes into opcodes and checks every length against what is left. Time is
bounded by :data:`MAX_OPCODES` and :data:`MAX_COPIES`, memory by :data:`MAX_GROWTH`. Standard
library only.
"""

import io
import pickletools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.formats.pth.values import Deferred, Known, Namespace, hashable, make_dict
from pvt_spec.errors import ConvertError

MAX_OPCODES = 2_000_000
"""Longest program that is run; the items that its calls are given count too.

A checkpoint of PVT v2 b5 with Adam's moments has about 130,000.
"""

MAX_COPIES = 16
"""How many times its own size a pickle may pass to calls: one that calls ``set`` on the same long
list over and over would take forever.
"""

MAX_GROWTH = 4
"""How many times the size of its file the values of a pickle may take in memory, beside
:data:`SMALL`: one byte makes an empty set, of over 200. Beside tensors, a pickle is small.
"""

SMALL = 1 << 19
"""Bytes of memory that the values of any pickle may take."""


def load(
    data: memoryview,
    source: str,
    known: Mapping[str, Known],
    load_storage: Callable[[Any], Any],
    file_size: int,
) -> Any:
    """Returns the value that a pickle describes. Nothing is executed.

    Args:
        data: The pickle, of protocol 0 to 5.
        source: The pickle's name in a complaint.
        known: The meanings of names in it, by "module.name" ("builtins", not "__builtin__").
        load_storage: A function that makes the value of a persistent id.
        file_size: Bytes of the file that the pickle is in.

    Raises:
        ConvertError: The pickle is damaged or too long, makes too much of itself, or names
            something that is not known. Nothing was executed.
    """
    machine = _Machine(
        source, known, load_storage, MAX_COPIES * len(data), MAX_GROWTH * file_size + SMALL
    )
    at: int | None = 0
    try:
        for opcode, argument, at in pickletools.genops(io.BytesIO(data)):  # noqa: B007
            machine.step(opcode.name, argument)
        return machine.result()
    except ConvertError:
        raise
    except Exception as error:
        # A damaged pickle fails in as many ways as there are opcodes.
        problem = _printable(f"{type(error).__name__}: {error!s:.200}")
        raise ConvertError(
            f"{source}, byte {at}: cannot be read ({problem}). The file is damaged, or holds what "
            "no checkpoint needs: copy or download it again, or save its tensors alone with "
            "torch: torch.save(model.state_dict(), 'weights.pth')"
        ) from error


_TEXT_LIKE = (str, bytes, bytearray)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _resolve(value: Any) -> Any:
    return value.value if isinstance(value, Deferred) and value.value is not None else value


@dataclass
class _Machine:
    """A pickle's stack and memo. A program that is not right makes ``step`` fail in any way."""

    source: str
    known: Mapping[str, Known]
    load_storage: Callable[[Any], Any]
    budget: int  # how many more items and bytes calls may be given
    room: int  # how many more bytes values may take
    steps: int = 0
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # heights of the stack
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        """Runs one opcode with the argument that follows it in the pickle."""
        self.steps += 1
        if self.steps > MAX_OPCODES:
            raise ConvertError(f"{self.source} has over {MAX_OPCODES} steps, more than any model")
        self.take(_SIZES.get(opcode, 72))
        if opcode in _CONSTANTS:
            self.take(sys.getsizeof(argument) if opcode not in _SIZES else 0)
            if isinstance(argument, str):
                argument.encode()  # fails on a lone surrogate, which no terminal would take later
            self.stack.append(argument)
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _IGNORED:
            raise self.refusal(f"opcode {opcode}")

    def result(self) -> Any:
        """Returns the one value that is left when the program is done."""
        (value,) = self.stack
        return _resolve(value)

    def refusal(self, what: str) -> ConvertError:
        return ConvertError(
            f"{self.source} holds code ({_printable(what):.200}), which a checkpoint has no need "
            "of; nothing was executed. Expected tensors, numbers, texts, dicts and lists. If you "
            "trust whoever made the file, load it with torch and save its tensors alone: "
            "torch.save(model.state_dict(), 'weights.pth')"
        )

    def pop(self) -> Any:
        return _resolve(self.stack.pop())

    def pop_mark(self) -> list[Any]:
        height = self.marks.pop()
        items = [_resolve(value) for value in self.stack[height:]]
        del self.stack[height:]
        return items

    def find(self, module: str, name: str) -> Known:
        module = "builtins" if module == "__builtin__" else module  # Python 2's and protocol 2's
        if (known := self.known.get(f"{module}.{name}")) is None:
            raise self.refusal(f"{module}.{name}")
        return known

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Known) or function.make is None:
            raise self.refusal(f"a call of {getattr(function, 'name', type(function).__name__)}")
        self.spend(arguments)
        for argument in arguments:
            self.spend(argument)
        return function.make(*arguments)

    def take(self, size: int) -> None:
        """Accounts for bytes of memory; garbage counts too."""
        self.room -= size
        if self.room < 0:
            raise ValueError(f"its values take over {MAX_GROWTH} times the memory of the file")

    def spend(self, value: Any) -> None:
        if isinstance(value, _TEXT_LIKE):
            self.budget -= len(value)
            self.take(len(value))
        elif isinstance(value, _CONTAINERS):
            self.budget -= len(value)
            self.steps += len(value)
            self.take(_ITEM * len(value))
        if self.budget < 0:
            raise ValueError("the same values are used over and over")

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
        if self.pop():
            raise TypeError("keyword arguments")
        self.push_reduced(_)

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        self.spend(state)
        if isinstance(target, Deferred):
            target.set_state(state)
        elif isinstance(target, Namespace):
            target.update({**state})  # fails unless it is a dict
        elif not isinstance(target, dict):  # a dict's attributes (_metadata) are left out
            raise TypeError(f"state of a {type(target).__name__}")

    def target(self, kind: type) -> Any:
        """Returns the value on top of the stack, to which items are added."""
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"items of a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def append(self, items: list[Any]) -> None:
        self.target(list).extend(items)

    def add(self, items: list[Any]) -> None:
        self.take(_ITEM * len(items))
        self.target(set).update(map(hashable, items))

    def set_items(self, items: list[Any]) -> None:
        self.take(_ITEM * len(items))
        self.target(dict).update(make_dict(items))

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

_ITEM = 64
"""Bytes that an item of a dict or set takes."""

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
    "DICT": lambda m, _: m.stack.append(make_dict(m.pop_mark())),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "ADDITEMS": lambda m, _: m.add(m.pop_mark()),
    "FROZENSET": lambda m, _: m.stack.append(frozenset(map(hashable, m.pop_mark()))),
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
    "PERSID": lambda m, identity: m.stack.append(m.load_storage(identity)),
    "BINPERSID": lambda m, _: m.stack.append(m.load_storage(m.pop())),
}
