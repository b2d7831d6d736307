"""Hostile files of every format: the seconds and bytes that they take, against their size.

What is costly per byte, alike or colliding, or asks for much, is given to the whole reader: file
to findings, as ``convert inspect`` has it.
"""

import dataclasses
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

from convert import ConvertError, convert_file, save_model
from convert.findings import Finding, to_dict
from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.pth import file as pth
from convert.inspection import compare_files, inspect_file
from pvt_spec import METADATA_KEY, PvtError
from pvt_spec.files.limits import MAX_FIELDS
from pvt_spec.files.wire import encode_field
from pvt_spec.hashes import GRAPH_KEY
from tests.support.fuzzing.commands import _peak, _reset_peak
from tests.support.messages import tells
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


def unknown_in_a_deep_one() -> bytes:
    said = json.loads(INFO.to_json())
    said["config"]["depths"] = [200] * 4
    unknown = (f"block1.0.attn.a{number:02}.weight" for number in range(60))
    tensors = {**WEIGHTS, **dict.fromkeys(unknown, ONE)}
    return written("ckpt", tensors, {METADATA_KEY: json.dumps(said)})


def same_bytes_beside(length: bool = True, again: int = 100) -> dict[str, bytes]:
    """An ``.onnx``, said to be of another graph, with constants that all lie over one file."""
    import onnx

    model = onnx.ModelProto(ir_version=8, opset_import=[onnx.helper.make_opsetid("", 17)])
    for key, value in ((METADATA_KEY, INFO.to_json()), (GRAPH_KEY, "another")):
        model.metadata_props.add(key=key, value=value)
    place = {"location": "w", **({"length": str(2 * MB)} if length else {})}
    for number in range(again):
        made = model.graph.initializer.add(name=f"/{number}", data_type=1, dims=[MB // 2])
        made.data_location = made.EXTERNAL
        for key, value in place.items():
            made.external_data.add(key=key, value=value)
    return {"m.onnx": model.SerializeToString(), "w": bytes(2 * MB)}


def framed_dims() -> bytes:
    shape = ",".join([str(1 << 62)] * 100_000)
    return framed(f'{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]}}}}'.encode())


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
    "safetensors: dims": framed_dims,
    "ckpt: single values": single_values,
    "ckpt: unknown names in a deep one": unknown_in_a_deep_one,
    "onnx: the same bytes beside it": same_bytes_beside,
    "onnx: the same file beside it": lambda: same_bytes_beside(length=False),
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
    name = next((each for each in files if each.startswith(("file.", "m.onnx"))), "")
    path = tmp_path / name
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


def test_two_files_are_compared_within_limits(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        tensors = {"x": np.full(8 * MB, value, np.uint8)}
        (tmp_path / f"{name}.ckpt").write_bytes(written("ckpt", tensors))
    before = _reset_peak()
    found = to_dict(compare_files(tmp_path / "a.ckpt", tmp_path / "b.ckpt"))
    assert _peak() - before < 10 * 16 * MB
    facts = {"tensor": "x", "values": 8 * MB, "of": 8 * MB, "max_abs": 1.0}
    assert found["other_bytes"] == [facts]


def test_a_gap_in_maths_is_estimated_on_images_within_limits(tmp_path: Path) -> None:
    """A file may ask for images of any size, and attention takes the square of their pixels."""
    config = dataclasses.replace(SMALL["v2"], sr_ratios=(1, 1, 1, 1))
    source = tmp_path / "a.pth"
    save_model(source, random_weights(config), info_of(config, "mindcv").sized((640, 640)))
    before, found = _reset_peak(), list[Finding]()
    with pytest.raises(ConvertError, match="--allow-different-maths"):
        convert_file(source, tmp_path / "hub", tell=found.append)
    assert _peak() - before < 500 * MB
    (gap,) = (each for each in found if each.what == "estimated_gap")
    assert tells(gap.note, "160x160")
