"""Damage to pickles: what a ``.pth`` says."""

import io
import pickle
import pickletools
from typing import Any

from tests.support.fuzzing.damage_bytes import (
    HOSTILE,
    MOST,
    Draw,
    chosen,
    damaged_bytes,
    index,
    several,
)

PROGRAMS = (
    *(op.code.encode("latin1") for op in pickletools.opcodes if op.arg is None),
    b"cos\nsystem\n",
    b"cgone\nThing\n",
    b"cgone\nThing\n)\x81",
    b"cgone\nThing\n)R}b",
    b"cgone\nThing\n)}\x92",
    b"(igone\nThing\n",
    b"V_modules\n",
    b"V_modules\n}V_parameters\n}",
    b"\x82\x01",
    b"ctorch\nQInt8Storage\n",
    b"ctorch\nqint8\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ctorch_npu.utils.storage\n_rebuild_npu_tensor\n",
    b"Vmodule\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nfloat32\n",
    b"ctorch\nSize\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n)R",
    b"ccollections\ndefaultdict\n",
    b"cargparse\nNamespace\n)\x81",
    b"cnumpy\ndtype\n(Vf4\ntR",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"c__builtin__\nset\n",
    b"c__builtin__\nbytearray\n",
    b"Va\n",
    b"Pstorage\n",
    b"I01\n",
    b"F1e400\n",
    b"\x80\xff",
    b"\x95" + b"\xff" * 8,
    b"B\xff\xff\xff\x7f",
    b"X\xff\xff\xff\xff",
    b"\x8e" + b"\xff" * 8,
    b"\x8b\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\xff",
    b"r\xff\xff\xff\xff",
    b"j\0\0\0\0",
    b"h\0",
    b"q\0",
    b"U\x03\xff\xfe\xfd",
    b"G" + b"\x7f\xf8" + bytes(6),
)
"""Pieces of pickles: every opcode without an argument, names, and lengths beyond the end."""


def parse_pickle(program: bytes) -> list[bytes]:
    """The opcodes of a pickle, each with its argument."""
    starts = [at for *_, at in pickletools.genops(io.BytesIO(program))]
    ends = [*starts[1:], len(program)]
    return [program[start:end] for start, end in zip(starts, ends, strict=True)]


def split_pickles(data: bytes, count: int) -> list[bytes]:
    """The pickles that a file begins with, and the rest of it."""
    stream, ends = io.BytesIO(data), [0]
    for _ in range(count):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    return [data[start:end] for start, end in zip(ends, [*ends[1:], len(data)], strict=True)]


def _pushed(value: Any) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def damage_pickle(draw: Draw, opcodes: list[bytes]) -> str:
    """Changes one opcode, and tells how."""
    at = index(draw, len(opcodes))
    way = chosen(
        draw, ("drop", "double", "swap", "number", "number", "insert", "bytes", "copy", "crowd")
    )
    if way in ("drop", "double", "swap", "bytes") and not opcodes:
        return "pickle: nothing"
    if way == "drop":
        del opcodes[at]
    elif way == "double":
        opcodes.insert(at, opcodes[at])
    elif way == "swap":
        other = index(draw, len(opcodes))
        opcodes[at], opcodes[other] = opcodes[other], opcodes[at]
    elif way == "number":  # of a shape, stride, offset, count: what tensors are made of
        numbers = [
            i for i, opcode in enumerate(opcodes) if opcode[:1] in (b"K", b"M", b"J", b"\x8a")
        ]
        if numbers:
            opcodes[chosen(draw, numbers)] = _pushed(chosen(draw, (*HOSTILE, -1, -(1 << 63), True)))
    elif way == "insert":
        opcodes.insert(at, chosen(draw, PROGRAMS))
    elif way == "bytes":
        opcodes[at] = damaged_bytes(draw, opcodes[at])
    elif way == "copy":
        opcodes[at:at] = opcodes[index(draw, len(opcodes)) :][: several(draw, 1, 30)]
    else:
        piece = b"".join(chosen(draw, PROGRAMS) for _ in range(several(draw, 1, 3)))
        opcodes.insert(at, piece * (chosen(draw, (100, 5000, MOST)) // len(piece)))
    return f"pickle: {way}"
