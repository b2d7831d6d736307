"""Small valid weight files of every kind, mostly by the peers' own tools: what fuzzing damages."""

import argparse
import io
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.pth import file as pth, tensors as torch_pickle
from pvt_spec import METADATA_KEY, PROFILES, PVTConfig, tensor_specs
from tests.support.models import GOLDEN

Arrays = dict[str, np.ndarray]

FORMAT = GOLDEN / "ckpt_format"
RECORD = np.dtype("<f4")

BESIDE = "weights.bin"
"""The file beside a model that onnx seeds keep values in; the same for all of them."""

SECRET = b"a file outside the folder"
"""What stands, repeated, in a file that no model may reach."""


@dataclass(frozen=True)
class Seed:
    """A valid file and the tensors that it was made of, under the names in the file."""

    name: str
    data: bytes = field(repr=False)
    tensors: Arrays = field(default_factory=dict, repr=False)


def sample(dtype: Any, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    dtype = np.dtype(dtype)
    values = np.random.default_rng(len(shape)).integers(0, 2 if dtype == np.bool_ else 100, shape)
    return np.asarray(values).astype(dtype)


def assorted(dtypes: Mapping[Any, np.dtype[Any]], empty: bool = False) -> Arrays:
    """An array of each dtype, of different shapes."""
    shapes = [(), (1,), (2, 3), (5,), (1, 2, 1, 2), (3, 1)] + ([(0,), (2, 0, 1)] if empty else [])
    return {
        f"layer{i}.{dtype}": sample(dtype, shapes[i % len(shapes)])
        for i, dtype in enumerate(dtypes.values())
    }


def by_ckpt(tensors: Arrays, metadata: Mapping[str, str], piece_bytes: int = 1 << 29) -> bytes:
    stream = io.BytesIO()
    with mock.patch.object(ckpt, "PIECE_BYTES", piece_bytes):
        ckpt.write(stream, tensors, metadata)
    return stream.getvalue()


def with_crc(data: bytes) -> bytes:
    return data + b"crc_num" + zlib.crc32(data).to_bytes(10, "big")


@cache
def ckpt_seeds() -> list[Seed]:
    with np.load(FORMAT / "values.npz") as values:
        golden = {name: values[name] for name in values if name != "bf16_as_f32"}
        golden["bf16"] = values["bf16_as_f32"].astype(ml_dtypes.bfloat16)
    appended = {
        "epoch_num": np.asarray(3),
        "step_num": np.asarray(7),
        "lr": np.asarray(0.1, "f4"),
        "flag": np.asarray(True),
    }
    files = {name: (FORMAT / f"{name}.ckpt").read_bytes() for name in ("plain", "crc", "appended")}
    tensors = assorted(ckpt.DTYPES)
    texts = {"empty": "", "note": "héllo 😀"}
    split = {name: sample(code, (4, 5)) for name, code in (("a", "f4"), ("b.c", "f2"))}
    split["bf16"] = sample(ml_dtypes.bfloat16, (33,))
    return [
        Seed("mindspore", files["plain"], golden),
        Seed("mindspore, CRC", files["crc"], golden),
        Seed("mindspore, appended", files["appended"], golden | appended),
        Seed("every dtype and texts", by_ckpt(tensors, texts), tensors),
        Seed("split", by_ckpt(split, texts, 16), split),
        Seed("split, CRC", with_crc(by_ckpt(split, {}, 24)), split),
        Seed("one", by_ckpt({"a": sample("f4")}, {}), {"a": sample("f4")}),
        Seed("texts", by_ckpt({}, texts)),
    ]


def by_torch(value: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def zipped(records: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, values in records.items():
            entry = zipfile.ZipInfo(name)  # of 1980, whatever the time is
            archive.writestr(entry, values, compression)
    return stream.getvalue()


def records_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@cache
def pth_seeds() -> list[Seed]:
    import torch

    grid = np.arange(24, dtype="f4").reshape(4, 6)
    ours = torch.from_numpy(grid.copy())
    views = {
        "whole": (ours, grid),
        "transposed": (ours.T, grid.T),
        "rows": (ours[1:3], grid[1:3]),
        "every second": (ours[:, ::2], grid[:, ::2]),
        "scalar": (ours[2, 3], grid[2, 3]),
        "none": (ours[:0], grid[:0]),
    }
    plain = {
        "f2": sample("f2"),
        "f4": sample("f4", (3,)),
        "f8": sample("f8", ()),
        "i8": sample("i8", (4,)),
        "u1": sample("u1", (1, 1)),
        "?": sample("?", (5,)),
        "c8": sample("c8"),
    }
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in plain.items()}
    bf16, unsigned = sample(ml_dtypes.bfloat16), sample("u2", (3,))
    narrow = sample(ml_dtypes.float8_e4m3fn, (4,))
    newer = {
        "bf16": torch.from_numpy(bf16.view("i2")).view(torch.bfloat16),
        "u2": torch.from_numpy(unsigned),
        "f1": torch.from_numpy(narrow.view("u1")).view(torch.float8_e4m3fn),
    }
    training = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, name="pvt", depths=[1, (2, 3)], other={"a": {1, 2}}),
        "more": SimpleNamespace(path=Path("a/b"), scalar=np.float64(0.5), array=grid[:2]),
        "state_dict": OrderedDict(tensors, _beside=None),
        "model_ema": {"f4": tensors["f4"] + 1, "nested": [{"deeper": tensors["f8"]}, b"bytes"]},
        "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.ones(2)}}, "param_groups": []},
        "note": "héllo",
    }
    objects = {
        "state_dict": OrderedDict(tensors),
        "net": torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2)),
        "loss": torch.nn.CrossEntropyLoss(),
        "kinds": [torch.optim.AdamW, torch.strided, torch.qint8, timedelta, partial(print, 1)],
        "times": {timedelta(1): date(2020, 1, 1), (1, (2, 3)): 4},
        "odd": (torch.eye(2).to_sparse(), torch.ones(1, dtype=torch.complex64).conj()),
        "records": np.zeros(2, [("a", "f4")]),
        "attributed": _attributed(torch.ones(2)),
    }
    module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.LayerNorm(2))
    of_module = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    old = {"_use_new_zipfile_serialization": False}
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    big = {
        name: values
        if "/data/" not in name
        else np.frombuffer(values, RECORD).astype(RECORD.newbyteorder(">")).tobytes()
        for name, values in records_of(by_torch({"a": ours})).items()
    }
    big["archive/byteorder"] = b"big"
    written = io.BytesIO()
    assortment = assorted(torch_pickle.DTYPES, empty=True)
    pth.write(written, assortment, {"note": "héllo"})
    weights = {f"state_dict.{name}": array for name, array in plain.items()}
    averaged = {"f4": plain["f4"] + 1, "nested.0.deeper": plain["f8"]}
    of_training = weights | {f"model_ema.{name}": array for name, array in averaged.items()}
    net = objects["net"].state_dict()
    of_objects = weights | {f"net.{name}": tensor.numpy() for name, tensor in net.items()}
    of_objects["attributed"] = np.ones(2, "f4")
    return [
        Seed("plain", by_torch(tensors), plain),
        Seed("views", by_torch({n: a for n, (a, _) in views.items()}), _second(views)),
        Seed("newer", by_torch(newer), {"bf16": bf16, "u2": unsigned, "f1": narrow}),
        Seed("training", by_torch(training), of_training),
        Seed("training, protocol 4", by_torch(training, pickle_protocol=4), of_training),
        Seed("parameter", by_torch({"model": {"p": parameter}}), {"p": np.ones((2, 2), "f4")}),
        Seed("big-endian", zipped(big), {"a": grid}),
        Seed("objects", by_torch(objects), of_objects),
        Seed("objects, protocol 4", by_torch(objects, pickle_protocol=4), of_objects),
        Seed("module", by_torch(module), of_module),
        Seed("old", by_torch(training, **old), of_training),
        Seed("old, objects", by_torch(objects, **old), of_objects),
        Seed("old, views", by_torch({n: a for n, (a, _) in views.items()}, **old), _second(views)),
        Seed("ours", written.getvalue(), assortment),
        Seed("one", zipped(records_of(by_torch({"a": ours[0, :2].clone()}))), {"a": grid[0, :2]}),
    ]


def _attributed(tensor: Any) -> Any:
    tensor.tag = "x"
    return tensor


def _second(pairs: Mapping[str, tuple[Any, Any]]) -> Arrays:
    return {name: np.asarray(second) for name, (_, second) in pairs.items()}


@cache
def safetensors_seeds() -> list[Seed]:
    import safetensors.numpy
    import safetensors.torch
    import torch

    names = ["?", "u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "f8", "i8", "u8"]
    tensors = assorted({name: np.dtype(name) for name in names}, empty=True)
    bf16 = sample(ml_dtypes.bfloat16)
    newer = {"bf16": torch.from_numpy(bf16.view("i2")).view(torch.bfloat16)}
    metadata = {"note": "héllo"}  # of two texts, the reference writes any first
    written = io.BytesIO()
    assortment = assorted(safetensors_file.DTYPES, empty=True)
    safetensors_file.write(written, assortment, metadata)
    return [
        Seed("numpy", safetensors.numpy.save(tensors), tensors),
        Seed("numpy, metadata", safetensors.numpy.save(tensors, metadata), tensors),
        Seed("torch", safetensors.torch.save(newer, metadata), {"bf16": bf16}),
        Seed("ours", written.getvalue(), assortment),
        Seed("one", safetensors.numpy.save({"a": sample("f4")}), {"a": sample("f4")}),
        Seed("none", safetensors.numpy.save({}, metadata)),
    ]


@cache
def onnx_beside() -> tuple[bytes, Arrays]:
    """The file beside, and the arrays in it, each at a multiple of 64 bytes."""
    arrays = {"w": sample("f4"), "h": sample("f2", (3,)), "x": sample("i8", ())}
    return b"".join(array.tobytes().ljust(64, b"\0") for array in arrays.values()), arrays


@cache
def onnx_seeds() -> list[Seed]:
    import onnx
    from onnx import helper, numpy_helper

    from convert.formats.onnx.layout import DTYPES
    from pvt_onnx import build
    from pvt_onnx.graph.build import as_initializers

    def model_of(*tensors: onnx.TensorProto) -> bytes:
        model = helper.make_model(helper.make_graph([], "graph", [], [], [*tensors]))
        helper.set_model_props(model, {METADATA_KEY: "{}", "note": "héllo"})
        data: bytes = model.SerializeToString()
        return data

    def beside(name: str, array: np.ndarray, **place: Any) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(array, name)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": BESIDE, **place}.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    tiny = PVTConfig(
        2,
        embed_dims=(1, 1, 1, 1),
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        mlp_ratios=(1, 1, 1, 1),
        sr_ratios=(2, 1, 1, 1),
        image_size=(32, 32),
        num_classes=1,
    )
    weights = {spec.name: sample("f4", spec.shape) for spec in tensor_specs(tiny)}
    tensors = assorted(DTYPES, empty=True)
    inside = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    _, outside = onnx_beside()
    spots = {
        "w": {"length": 24},
        "h": {"offset": 64, "length": 6},
        "x": {"offset": 128, "length": 8},
    }
    one = numpy_helper.from_array(sample("f4"), "a")
    return [
        Seed(
            "pvt_onnx",
            build(tiny, PROFILES["official"][2], weights).SerializeToString(),
            as_initializers(tiny, weights),
        ),
        Seed("every dtype", model_of(*inside), tensors),
        Seed("beside", model_of(*(beside(n, a, **spots[n]) for n, a in outside.items())), outside),
        Seed(
            "inside and beside",
            model_of(
                one, numpy_helper.from_array(sample("i8"), "a/b"), beside("w", outside["w"])
            ),  # no length
            {"a": sample("f4"), "w": outside["w"]},
        ),
        Seed("one", model_of(one), {"a": sample("f4")}),
    ]


def make_folder(folder: Path) -> Path:
    """The folder to put damaged files into, with everything beside them that they may name."""
    inner = folder / "models"
    (inner / "sub").mkdir(parents=True)
    (folder / "outside.bin").write_bytes(SECRET * 20)
    data, _ = onnx_beside()
    for name in (BESIDE, f"sub/{BESIDE}"):
        (inner / name).write_bytes(data)
    (inner / "empty.bin").touch()
    (inner / "link.bin").symlink_to(Path("..") / "outside.bin")
    (inner / "inner_link.bin").symlink_to(BESIDE)
    (inner / "loop.bin").symlink_to("loop.bin")
    (inner / "up").symlink_to("..")
    os.mkfifo(inner / "pipe.bin")
    return inner


LOCATIONS = (
    "",
    ".",
    "..",
    "/",
    "../outside.bin",
    "sub/../../outside.bin",
    "up/outside.bin",
    "link.bin",
    "inner_link.bin",
    "loop.bin",
    "pipe.bin",
    "empty.bin",
    "missing.bin",
    "sub",
    f"sub/{BESIDE}",
    f"./{BESIDE}",
    f"sub//{BESIDE}",
    "/etc/passwd",
    "/dev/zero",
    "C:\\outside.bin",
    "..\\outside.bin",
    "a\0b",
    "a" * 300,
    "x/" * 3000,
    "\x1b[2J",
)
"""Places that an onnx file may name: few of them are its to read."""
