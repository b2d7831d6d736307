"""Hostile files of every format: the seconds and bytes that they take, against their size.

What is costly per byte, alike or colliding, or asks for much, is given to the whole reader: file
to findings, as ``convert inspect`` has it.
"""

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.pth import file as pth
from convert.inspection import inspect_file
from pvt_spec import METADATA_KEY, PvtError
from pvt_spec.files.limits import MAX_FIELDS
from pvt_spec.files.wire import encode_field
from tests.support.fuzzing.commands import _peak, _reset_peak
from tests.support.models import SMALL, info_of, random_weights

MOST_SECONDS = 5.0
MB = 1_000_000

WEIGHTS, INFO = random_weights(SMALL["v2"]), info_of(SMALL["v2"])
FORMATS: dict[str, Any] = {"ckpt": ckpt, "pth": pth, "safetensors": safetensors_file}
ONE = np.ones(2, np.float32)
ROOM = {"room": np.zeros(2 * MB, np.float32)}
"""Bytes that leave a pickle room for what it makes."""


def written(ending: str, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    FORMATS[ending].write(stream, tensors, metadata or {})
    return stream.getvalue()


def zipped(pickle: bytes, size: int = 20 * MB) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/data/0", bytes(size))
    return stream.getvalue()


def message(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(encode_field(number << 3 | 2, value) for number, value in fields)


def initializer(tensor: bytes) -> bytes:
    return b"\x08\x07" + message((7, message((5, tensor))))


def keyed(count: int, key: Callable[[int], bytes]) -> bytes:
    return zipped(b"\x80\x02}(" + b"".join(key(i) + b"N" for i in range(count)) + b"u.")


def signs(number: int) -> bytes:
    """A tuple of -1 and -2, whose hashes are the same."""
    items = (struct.pack("<i", -1 - (number >> bit & 1)) for bit in range(16))
    return b"(" + b"".join(b"J" + item for item in items) + b"t"


def complex_number(number: int) -> bytes:
    """A complex number whose hash is 0: that of its real part and 1000003 times the other's."""
    parts = (struct.pack(">d", part) for part in (-1000003.0 * number, float(number)))
    return b"c__builtin__\ncomplex\n(" + b"".join(b"G" + part for part in parts) + b"tR"


def hub(config: Any, **more: bytes) -> dict[str, bytes]:
    text = config if isinstance(config, str) else json.dumps({"model_type": "pvt_v2", **config})
    return {
        "config.json": text.encode(),
        "model.safetensors": written("safetensors", WEIGHTS),
    } | more


def saying(ending: str, part: str, **changes: Any) -> bytes:
    said = json.loads(INFO.to_json())
    (said[part] if part else said).update(changes)
    return written(ending, WEIGHTS, {METADATA_KEY: json.dumps(said)})


def many(ending: str, name: str, count: int = 9000) -> bytes:
    room = ROOM if ending == "pth" else {}
    names = (name.format(i=i, j=i % 4 + 1, k=i // 4) for i in range(count))
    return written(ending, {**room, **WEIGHTS, **dict.fromkeys(names, ONE)})


def deep_in_many_places() -> bytes:
    said = json.loads(INFO.to_json())
    said["config"]["depths"] = [200] * 4
    count = 9800 // len(WEIGHTS)
    tensors = {f"m{i}.{name}": ONE + i for i in range(count) for name in WEIGHTS}
    return written("ckpt", tensors, {METADATA_KEY: json.dumps(said)})


def single_values() -> bytes:
    names = (f"counter{number}" for number in range(9500))
    return written("ckpt", {**WEIGHTS, **dict.fromkeys(names, np.ones(1, np.int32))})


HUGE = [10**9] * 4
MANY_KEYS = "{" + ",".join(f'"{n}":1' for n in range(60_000)) + ',"model_type":"pvt_v2","7":1}'
CASES: dict[str, Callable[[], Any]] = {
    "onnx: zeros": lambda: bytes(20 * MB),
    "onnx: fields": lambda: b"\x08\x01" * (MAX_FIELDS + MB),
    "onnx: nodes": lambda: b"\x08\x07" + message((7, b"\x0a\x00" * (MAX_FIELDS + MB))),
    "onnx: fields of a tensor": lambda: initializer(b"\x10\x01" * (MAX_FIELDS + MB)),
    "onnx: dims": lambda: initializer(message((1, b"\x01" * 20 * MB))),
    "onnx: a name": lambda: initializer(message((8, b"\x01" * 20 * MB))),
    "ckpt: dims": lambda: message((1, message((1, b"a"), (2, message((1, b"\1" * 20 * MB)))))),
    "ckpt: a name": lambda: message((1, message((1, b"\x01" * 20 * MB), (2, b"")))),
    "ckpt: deep in many places": deep_in_many_places,
    "pth: tuples with one hash": lambda: keyed(40_000, signs),
    "pth: complex numbers with one hash": lambda: keyed(40_000, complex_number),
    "pth: integers": lambda: keyed(40_000, lambda i: b"\x8a\x08" + struct.pack("<q", i << 46)),
    "pth: records": lambda: crowded(),
    "safetensors: spaces": lambda: framed(b"{" + b" " * 20 * MB),
    "safetensors: escapes": lambda: framed(b'{"' + b"\\u0001" * 3 * MB + b'":1}'),
    "ckpt: single values": single_values,
    "hub: a key twice": lambda: hub(MANY_KEYS),
    "hub: channels": lambda: hub({"num_channels": 10**9}),
    "hub: widths": lambda: hub({"hidden_sizes": HUGE}),
    "hub: depths": lambda: hub({"depths": HUGE}),
    "hub: depths within": lambda: hub({"depths": [200] * 4}),
    "hub: classes": lambda: hub({"num_labels": 10**9}),
    "hub: images": lambda: hub({"image_size": 10**9}),
    "hub: nested": lambda: hub('{"a":' * 200_000),
    "hub: lists": lambda: hub('{"a":[' + "[]," * 5 * MB + "0]}"),
    **{
        f"{ending}: {what}": lambda ending=ending, name=name: many(ending, name)  # type: ignore[misc]
        for ending in FORMATS
        for what, name in {
            "unknown names": "block1.0.attn.q.{i}",
            "long unknown names": f"block1.0.attn.q.{'x' * 400}" + "{i}",
            "names of many parts": "a." * 200 + "{i}",
            "blocks": "block{j}.{i}.mlp.fc1.weight",
            "prefixes": "p{k}.patch_embed{j}.proj.weight",
        }.items()
    },
    **{
        f"{ending}: says {part} {next(iter(changes))}": (  # type: ignore[misc]
            lambda ending=ending, part=part, changes=changes: saying(ending, part, **changes)
        )
        for ending in ("ckpt", "pth")
        for part, changes in (
            ("config", {"depths": HUGE}),
            ("config", {"embed_dims": HUGE}),
            ("config", {"in_chans": 10**9}),
            ("config", {"num_classes": 10**9}),
            ("config", {"image_size": [10**9, 10**9]}),
            ("config", {"mlp_ratios": HUGE, "depths": [200] * 4}),
            ("preprocessing", {"mean": [0.5] * 200_000}),
            ("", {"hashes": dict.fromkeys(map(str, range(60_000)), "x")}),
            ("", {"provenance": dict.fromkeys(map(str, range(60_000)), "\x1b[2J")}),
            ("", {"labels": ["\x1b[2J" * 1000] * 7}),
        )
    },
}  # fmt: skip


def framed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def crowded() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", b"}.")
        for number in range(80_000):
            archive.writestr(f"archive/{number}", b"")
    return stream.getvalue()


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES)
def test_time_and_memory_are_in_proportion_to_the_file(case: str, tmp_path: Path) -> None:
    made = CASES[case]()
    files = made if isinstance(made, dict) else {f"file.{case.partition(':')[0]}": made}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    size = sum(map(len, files.values()))
    path = tmp_path if isinstance(made, dict) else next(tmp_path.iterdir())
    del made, files
    before, started = _reset_peak(), time.process_time()
    try:
        said = "\n".join(map(str, inspect_file(path)))
    except PvtError as error:
        said = str(error)
        assert said.startswith(str(path))
    taken, grown = time.process_time() - started, _peak() - before
    assert taken < MOST_SECONDS
    assert grown < 10 * size + 50 * MB
    assert said.replace("\n", "").isprintable() and len(said) < 50_000
