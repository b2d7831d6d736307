"""The peers' own readers, asked for the tensors of a damaged file; and where we differ from them.

Each function here answers the arrays that the peer finds, or fails in whatever way the peer does.
"""

import importlib.util
import math
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats import ckpt
from convert.formats.weight_file import WeightFile
from tests.support.fuzzing.seeds import Arrays

Reference = Callable[[Path, WeightFile], Arrays]
"""Asks for the tensors of a file that we read as the given one."""


class Differs(AssertionError):
    """The peer found something else; whatever else it raises is its own refusal."""


@cache
def checkpoint_class() -> Any:
    """MindSpore's class of its own messages, without the rest of MindSpore."""
    found = importlib.util.find_spec("mindspore")
    assert found and found.origin, "mindspore is not installed"
    path = Path(found.origin).parent / "train" / "checkpoint_pb2.py"
    spec = importlib.util.spec_from_file_location("checkpoint_pb2", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Checkpoint


def by_mindspore(path: Path, ours: WeightFile) -> Arrays:
    """As ``mindspore.load_checkpoint`` puts together what protobuf parses."""
    data = path.read_bytes()
    if data[-17:-10] == b"crc_num":
        data = data[:-17]
    parts: dict[str, list[Any]] = {}
    for value in checkpoint_class().FromString(data).value:
        parts.setdefault(value.tag, []).append(value.tensor)
    return {name: _joined(tensors) for name, tensors in parts.items() if name in ours.tensors}


def _joined(tensors: list[Any]) -> np.ndarray:
    last = tensors[-1]  # whose type and dims MindSpore takes
    values = b"".join(tensor.tensor_content for tensor in tensors)
    shape = () if list(last.dims) == [0] else tuple(last.dims)
    return np.frombuffer(values, ckpt.DTYPES[last.tensor_type]).reshape(shape)


def by_torch(path: Path, ours: WeightFile) -> Arrays:
    """As ``torch.load`` reads it without running code."""
    import torch

    root = torch.load(path, map_location="cpu", weights_only=True)
    places = {keys: (_at(root, keys), held) for keys, held in ours.places.items()}
    found = {keys: {n: there.get(n) for n in held} for keys, (there, held) in places.items()}
    tensors: dict[str, Any] = WeightFile(found).tensors
    if _is_big_endian(path):
        untyped = [n for n, array in ours.tensors.items() if array.dtype.name.startswith(UNTYPED)]
        tensors = {name: tensor for name, tensor in tensors.items() if name not in untyped}
    return {
        name: _as_numpy(tensor.detach(), ours.tensors[name])
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }


def _at(root: Any, keys: str) -> dict[str, Any]:
    """What torch has where we found tensors; nothing where we looked into a list."""
    for key in filter(None, keys.split(".")):
        root = root.get(key, {}) if isinstance(root, dict) else {}
    return root if isinstance(root, dict) else {}


def _is_big_endian(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        orders = [name for name in archive.namelist() if name.endswith("/byteorder")]
        return any(archive.read(name) == b"big" for name in orders)


def _as_numpy(tensor: Any, like: np.ndarray) -> np.ndarray:
    import torch

    if str(tensor.dtype).removeprefix("torch.") != like.dtype.name:
        raise Differs(f"torch says {tensor.dtype}, we say {like.dtype}")
    if like.dtype.kind != "V" and like.dtype.isbuiltin == 1:
        array: np.ndarray = tensor.numpy()
        return array
    whole = {1: torch.uint8, 2: torch.int16}[tensor.element_size()]
    bits: np.ndarray = tensor.view(whole).numpy()
    return bits.view(like.dtype)


def by_safetensors(path: Path, ours: WeightFile) -> Arrays:
    """As the reference implementation reads it; the bytes alone of dtypes that numpy has not."""
    from safetensors import deserialize

    found = dict(deserialize(path.read_bytes()))
    return {
        name: np.frombuffer(tensor["data"], ours.tensors[name].dtype).reshape(tensor["shape"])
        for name, tensor in found.items()
    }


def by_onnx(path: Path, ours: WeightFile) -> Arrays:
    """As onnx reads it."""
    import onnx
    from onnx import numpy_helper

    tensors = onnx.load(path, load_external_data=False).graph.initializer
    return {
        tensor.name: numpy_helper.to_array(tensor, base_dir=str(path.parent))
        for tensor in tensors
        if tensor.name in ours.tensors and _size(tensor.dims) == ours.tensors[tensor.name].size
    }


def _size(dims: Any) -> int:
    return math.prod(dims)


REFERENCES: Mapping[str, Reference] = {
    "ckpt": by_mindspore,
    "pth": by_torch,
    "safetensors": by_safetensors,
    "onnx": by_onnx,
}

STRICT = ("safetensors",)
"""Formats of which we read nothing that the reference refuses, but for :data:`DEVIATIONS`."""

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "safetensors": {
        "floating point `-0.0`": "-0 is a count to Python's JSON reader, and it is 0",
    },
}
"""By format: what the reference says of files that we read, and why we read them all the same."""

UNTYPED = ("uint16", "uint32", "uint64", "float8_")
"""How the dtypes begin whose storages torch keeps untyped, and so does not swap when it loads a
file of a big-endian machine: the values that it finds there are wrong, and are not compared."""
