"""What the readers are given: seeds, damaged by the format's grammar and in their bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from hypothesis import strategies as st

from tests.support.fuzzing import damage_json, damage_messages, damage_pickles, damage_zips, seeds
from tests.support.fuzzing.damage_bytes import HOSTILE, Draw, chosen, damaged_bytes, several
from tests.support.fuzzing.seeds import Seed


@dataclass(frozen=True)
class Input:
    """A file to read.

    Attributes:
        data: Its bytes.
        seed: What it was made of.
        damage: What was done to it; () where it is the seed itself.
    """

    data: bytes
    seed: Seed
    damage: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{len(self.data)} bytes of seed {self.seed.name!r}, damage {list(self.damage)}"


NOISE = Seed("noise", b"")

CKPT = {1: {2: {}}}
ONNX = {7: {5: {13: {}}, 15: {}}, 14: {}}
"""Which fields are messages; of onnx's, those that hold weights."""

_CRC_BYTES = 17


def _grammar_of_ckpt(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    crc = seed.data[-_CRC_BYTES:].startswith(b"crc_num")
    data = seed.data[:-_CRC_BYTES] if crc else seed.data
    entries = damage_messages.parse_message(data, CKPT)
    done = []
    for _ in range(several(draw, 0, 3)):
        if chosen(draw, (True, False, False)):
            done.append(damage_messages.split_entry(draw, entries))
        else:
            done.append(damage_messages.damage_message(draw, entries))
    data = damage_messages.encode_message(entries)
    tail = chosen(draw, ("none", "right", "right", "old")) if crc else "none"
    if tail == "right":
        data = seeds.with_crc(data)
    elif tail == "old":
        data += seed.data[-_CRC_BYTES:]
    return data, [*done, f"CRC: {tail}"] if crc else done


def _grammar_of_onnx(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    model = damage_messages.parse_message(seed.data, ONNX)
    done = []
    for _ in range(several(draw, 0, 3)):
        graphs = [f.value for f in model if f.number == 7 and isinstance(f.value, list)]
        tensors = [field for graph in graphs for field in graph if field.number == 5]
        way = chosen(draw, ("any", "weights", "weights", "place"))
        if way == "place":
            done.append(damage_messages.replace_tensor_place(draw, tensors, seeds.LOCATIONS))
        elif way == "weights" and tensors:
            part = chosen(draw, tensors)
            inner = part.value if isinstance(part.value, list) else [part]
            done.append(damage_messages.damage_message(draw, inner))
        else:
            done.append(damage_messages.damage_message(draw, model))
    return damage_messages.encode_message(model), done


def _grammar_of_safetensors(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    length = int.from_bytes(seed.data[:8], "little")
    header, values = damage_json.parse_json(seed.data[8 : 8 + length]), seed.data[8 + length :]
    done = [damage_json.damage_json(draw, header) for _ in range(several(draw, 0, 3))]
    text = damage_json.encode_json(header).encode(errors="surrogatepass")
    text += b" " * (-len(text) % 8)
    size = len(text)
    if chosen(draw, (False, False, False, True)):
        size = chosen(draw, (*HOSTILE, size - 8, size + 8, size + 1)) % (1 << 64)
        done.append("header length")
    return size.to_bytes(8, "little") + text + values, done


@cache
def _parts_of_zip(data: bytes) -> dict[str, bytes]:
    return seeds.records_of(data)


_PICKLES = 5
_SAVED = 3  # of these pickles that of what was saved; the next is of the storages' keys


def _grammar_of_legacy(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    parts, done = damage_pickles.split_pickles(seed.data, _PICKLES), []
    for _ in range(several(draw, 0, 3)):
        at = chosen(draw, (_SAVED, _SAVED, _SAVED, _SAVED + 1, 0, 1, 2))
        try:
            opcodes = damage_pickles.parse_pickle(parts[at])
        except ValueError:  # it is damaged as it is
            continue
        done.append(damage_pickles.damage_pickle(draw, opcodes))
        parts[at] = b"".join(opcodes)
    if chosen(draw, (False, False, True)):
        parts[-1] = damaged_bytes(draw, parts[-1])
        done.append("storages")
    return b"".join(parts), done


def _grammar_of_pth(draw: Draw, seed: Seed) -> tuple[bytes, list[str]]:
    if not seed.data.startswith(b"PK"):
        return _grammar_of_legacy(draw, seed)
    parts = _parts_of_zip(seed.data)
    archive = damage_zips.Zip(
        [damage_zips.Record(n.encode(), d, {}, {}) for n, d in parts.items()], {}
    )
    done = []
    pickled = next(one for one in archive.records if one.name.endswith(b"data.pkl"))
    opcodes = damage_pickles.parse_pickle(pickled.data)
    for _ in range(several(draw, 0, 3)):
        done.append(damage_pickles.damage_pickle(draw, opcodes))
    pickled.data = b"".join(opcodes)
    for _ in range(chosen(draw, (0, 0, 1, 2))):
        done.append(damage_zips.damage_zip(draw, archive))
    return archive.encode() if done else seed.data, done


Grammar = Callable[[Draw, Seed], tuple[bytes, list[str]]]

_FORMATS: dict[str, tuple[Callable[[], list[Seed]], Grammar, bytes]] = {
    "ckpt": (seeds.ckpt_seeds, _grammar_of_ckpt, b"\x0a"),
    "pth": (seeds.pth_seeds, _grammar_of_pth, b"PK\x03\x04"),
    "safetensors": (seeds.safetensors_seeds, _grammar_of_safetensors, b"{"),
    "onnx": (seeds.onnx_seeds, _grammar_of_onnx, b":"),
}
"""By format: its seeds, what damages them, and how files begin."""


@st.composite
def inputs(draw: Draw, ending: str) -> Input:
    """Inputs of the format whose files end in ``ending``."""
    make_seeds, grammar, magic = _FORMATS[ending]
    if chosen(draw, range(32)) == 31:
        start = magic if draw(st.booleans()) else b""
        return Input(start + draw(st.binary(max_size=200)), NOISE, ("noise",))
    seed = chosen(draw, make_seeds())
    data, done = seed.data, []
    if chosen(draw, (True, True, False)):
        data, done = grammar(draw, seed)
    for _ in range(chosen(draw, (0, 0, 0, 0, 1, 2)) if done else chosen(draw, (1, 1, 1, 2, 4, 0))):
        data = damaged_bytes(draw, data)
        done.append("bytes")
    return Input(data, seed, tuple(done))
