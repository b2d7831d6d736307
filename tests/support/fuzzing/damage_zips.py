"""Damage to zips: how a ``.pth`` is kept."""

import struct
import zlib
from copy import deepcopy
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.support.fuzzing.damage_bytes import HOSTILE, Draw, chosen, damaged_bytes, index


@dataclass
class Record:
    """A file in a zip, and what is said of it wherever that is not the truth.

    Attributes:
        name: Of the record.
        data: Its bytes.
        central: Changes of the fields of its entry in the directory, by name.
        local: Changes of its header before the bytes.
        extra: The directory's extra field.
        hidden: Whether the directory leaves it out.
    """

    name: bytes
    data: bytes
    central: dict[str, int]
    local: dict[str, int]
    extra: bytes = b""
    hidden: bool = False


_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_FIELDS = ("version", "flags", "method", "time", "date", "crc", "stored", "size")
_LOCAL_FIELDS += ("name_length", "extra_length")
_CENTRAL_FIELDS = ("made_by", *_LOCAL_FIELDS, "comment_length", "disk", "internal")
_CENTRAL_FIELDS += ("external", "offset")
_END_FIELDS = ("disk", "directory_disk", "here", "count", "directory_size", "directory", "comment")
_WIDE = {"crc", "stored", "size", "external", "offset", "directory_size", "directory"}


def _packed(layout: struct.Struct, magic: bytes, names: tuple[str, ...], facts: dict[str, int]):
    limits = ((1 << 32) - 1 if name in _WIDE else (1 << 16) - 1 for name in names)
    return layout.pack(
        magic, *(facts.get(n, 0) & most for n, most in zip(names, limits, strict=True))
    )


def build_zip(records: list[Record], end: dict[str, int], before: bytes, after: bytes) -> bytes:
    """A zip of stored records, with the lies that were asked for."""
    body, directory, shown = bytearray(before), bytearray(), 0
    for record in records:
        size = len(record.data)
        facts = {"version": 20, "crc": zlib.crc32(record.data), "stored": size, "size": size}
        facts |= {"name_length": len(record.name), "offset": len(body)}
        padding = -(len(body) + _LOCAL.size + len(record.name)) % 64
        local = {**facts, "extra_length": padding, **record.local}
        body += _packed(_LOCAL, b"PK\x03\x04", _LOCAL_FIELDS, local)
        body += record.name + bytes(padding) + record.data
        if not record.hidden:
            shown += 1
            central = {**facts, "extra_length": len(record.extra), **record.central}
            directory += _packed(_CENTRAL, b"PK\x01\x02", _CENTRAL_FIELDS, central)
            directory += record.name + record.extra
    facts = {"here": shown, "count": shown, "directory_size": len(directory)}
    facts = {**facts, "directory": len(body), **end}
    return bytes(body + directory) + _packed(_END, b"PK\x05\x06", _END_FIELDS, facts) + after


@dataclass
class Zip:
    """The parts of a zip, for :func:`build_zip`."""

    records: list[Record]
    end: dict[str, int]
    before: bytes = b""
    after: bytes = b""

    def encode(self) -> bytes:
        return build_zip(self.records, self.end, self.before, self.after)


def damage_zip(draw: Draw, archive: Zip) -> str:
    """Changes one record, or what is said of it, and tells how."""
    records = archive.records
    if not records:
        return "zip: nothing"
    at = index(draw, len(records))
    record = records[at]
    way = chosen(draw, _ZIP_WAYS)
    if way == "drop":
        del records[at]
    elif way == "double":
        records.insert(index(draw, len(records)), deepcopy(record))
    elif way == "swap data":
        other = chosen(draw, records)
        record.data, other.data = other.data, record.data
    elif way == "rename":
        names = [other.name for other in records]
        more = (
            b"archive/data/0",
            b"b/data.pkl",
            b"data.pkl",
            b"archive/constants.pkl",
            b"../data/0",
        )
        more += (
            b"archive/byteorder",
            b"",
            b"\xff",
            b"archive/\x1b[2J",
            b"a" * 3000,
            b"archive/data/",
        )
        record.name = chosen(draw, (*names, *more))
    elif way == "overlap":  # one place for two records
        before = sum(len(other.data) for other in records[:at])
        record.central["offset"] = chosen(draw, (0, before, *HOSTILE))
    elif way == "compressed":
        record.central["method"] = chosen(draw, (8, 8, 12, 14, 99, 1))
        if draw(st.booleans()):
            record.data = zlib.compress(record.data)[2:-4]
    elif way == "no CRC":
        record.central["crc"] = 0
    elif way == "hide":
        record.hidden = True
    elif way == "around":
        archive.before, archive.after = draw(st.binary(max_size=9)), draw(st.binary(max_size=9))
    elif way == "byteorder":
        for one in records:
            if one.name.endswith(b"byteorder"):
                one.data = chosen(draw, (b"big", b"little", b"", b"BIG", b"bigger"))
    elif way == "crowd":
        count = chosen(draw, (3, 30, 500))
        records += [replace(record, name=record.name + b"%d" % i, data=b"") for i in range(count)]
    elif way == "data":
        record.data = damaged_bytes(draw, record.data)
    else:
        lie(draw, way, archive, record)
    return f"zip: {way}"


def lie(draw: Draw, way: str, archive: Zip, record: Record) -> None:
    """Makes the directory or a header say what is not so."""
    if way == "central":
        record.central[chosen(draw, _CENTRAL_FIELDS)] = chosen(draw, HOSTILE)
    elif way == "local":
        record.local[chosen(draw, _LOCAL_FIELDS)] = chosen(draw, HOSTILE)
    elif way == "end":
        archive.end[chosen(draw, _END_FIELDS)] = chosen(draw, HOSTILE)
    elif way == "zip64":
        numbers = [chosen(draw, HOSTILE) % (1 << 64) for _ in range(index(draw, 4))]
        values = b"".join(n.to_bytes(8, "little") for n in numbers)
        record.extra = struct.pack("<HH", 1, len(values)) + values
        record.central[chosen(draw, ("size", "stored", "offset"))] = (1 << 32) - 1
    else:
        record.extra = draw(st.binary(max_size=30))


_ZIP_WAYS = ("drop", "double", "swap data", "rename", "rename", "overlap", "compressed", "no CRC")
_ZIP_WAYS += ("central", "central", "local", "end", "zip64", "extra", "hide", "around", "byteorder")
_ZIP_WAYS += ("crowd", "data", "data")
