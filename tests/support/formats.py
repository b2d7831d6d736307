"""Every format of single files, as bytes: what the contract of formats and each one's tests use."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.formats.table import SUFFIXES, Format
from convert.formats.weight_file import WeightFile
from pvt_spec import METADATA_KEY

FORMATS: dict[str, Format] = {row.name: row for row in SUFFIXES.values()}


def read_bytes(kind: str, data: bytes) -> WeightFile:
    """What a file of these bytes holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file.{kind}"
        path.write_bytes(data)
        return FORMATS[kind].read(path)


def write_stream(
    kind: str, stream: Any, tensors: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Writes any tensors; into an ONNX model without nodes, which the format alone can not."""
    home: Any = FORMATS[kind].module
    if kind != "onnx":
        home.write(stream, tensors, metadata)
        return
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "graph", [], []))
    helper.set_model_props(model, {METADATA_KEY: "{}", **metadata})
    home.write_model(stream, model, tensors)


def written(
    kind: str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a file with these tensors and texts."""
    stream = io.BytesIO()
    write_stream(kind, stream, tensors, metadata or {})
    return stream.getvalue()


def sample(dtype: Any, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    """Values that every dtype has: whole numbers, or truth values."""
    dtype = np.dtype(dtype)
    values = np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 100, shape)
    return np.asarray(values).astype(dtype)
