"""Model files, written: canonical weights and ModelInfo to any format, whole or not at all.

May import numpy, pvt_spec and pvt_onnx's graph builder.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from convert.dialects import find_dialect
from convert.errors import ConvertError
from convert.file_formats import file_format
from convert.replacing import refuse_existing, replacing
from pvt_spec import METADATA_KEY, ModelInfo, profile_numerics
from pvt_spec.arrays import Array

DIALECT_OF = {"ckpt": "pvt_ms", "pth": "official", "onnx": "official"}
"""The dialect that a format is written in where none is asked for."""


def save_model(
    path: Path,
    weights: Mapping[str, Array],
    info: ModelInfo,
    *,
    force: bool = False,
    dialect: str | None = None,
    dynamic_size: bool = False,
    opset: int | None = None,
) -> None:
    """Writes a model file whole or not at all.

    Args:
        path: The target; its ending chooses the format.
        weights: Every tensor of ``info.config`` by canonical name; bytes and dtypes are kept.
        info: Travels in the file's metadata.
        force: Replace an existing file.
        dialect: Names to write, where the format leaves a choice.
        dynamic_size: ONNX: leave the image's height and width open.
        opset: ONNX: the opset to write.

    Raises:
        ConvertError: The target's ending or the dialect does not fit, or it cannot be written.
        FileExists: The target exists and ``force`` is not given.
    """
    kind = file_format(path)
    refuse_existing(path, force)
    names = find_dialect(dialect or DIALECT_OF[kind], info.config.version)
    if names.name == "mindcv" and not _computes_as_mindcv(info):
        raise ConvertError(
            f"{path}: MindCV would compute another function of these weights, as their profile is "
            f"{info.profile}, not mindcv; write dialect pvt_ms, which pvt_ms runs with their maths"
        )
    if kind == "onnx":
        with replacing(path, force) as stream:
            _write_onnx(stream, weights, info, dynamic_size, opset)
        return
    from convert import ckpt, pth

    write = ckpt.write if kind == "ckpt" else pth.write
    named = {names.from_canonical(name): array for name, array in weights.items()}
    with replacing(path, force) as stream:
        write(stream, named, {METADATA_KEY: info.to_json()})


def _computes_as_mindcv(info: ModelInfo) -> bool:
    theirs = profile_numerics("mindcv", info.config.version)
    stored = info.numerics.pos_embed_dtype
    return dataclasses.replace(theirs, pos_embed_dtype=stored) == info.numerics


def _write_onnx(
    stream: BinaryIO,
    weights: Mapping[str, Array],
    info: ModelInfo,
    dynamic_size: bool,
    opset: int | None,
) -> None:
    from pvt_onnx.assembly import DEFAULT_OPSET, build_skeleton, write

    dtypes = {name: array.dtype for name, array in weights.items()}
    skeleton = build_skeleton(info, dtypes, dynamic_size=dynamic_size, opset=opset or DEFAULT_OPSET)
    write(stream, skeleton, weights)
