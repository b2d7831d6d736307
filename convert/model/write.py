"""Model files, written: canonical weights and ModelInfo to any format, whole or not at all."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.formats.table import FOLDER, file_format
from convert.model.maths import computes, target_numerics
from convert.names.dialects import Dialect, find_dialect
from convert.names.translation import from_canonical
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files import refuse_existing, replacing, replacing_all

DEFAULT_DIALECT = {
    "ckpt": "pvt_ms",
    "pth": "official",
    "safetensors": "official",
    "onnx": "official",
    FOLDER: "hf",
}
"""The names that a format is written with where no others are asked for.

The canonical names are then those of our own twin: the file says which maths its weights are for.
"""

_MINDSPORE = ("pvt_ms", "mindcv")
"""Dialects whose safetensors are MindSpore's, which it tells by a word in the metadata."""


@dataclass(frozen=True)
class OnnxOptions:
    """How an ``.onnx`` is written.

    Attributes:
        opset: The opset; None for :data:`pvt_onnx.graph.build.DEFAULT_OPSET`.
        dynamic_size: Whether the image's height and width are left open.
        external_data: Whether the weights go to ``NAME.onnx.data`` beside it, as they do in any
            case where the file would pass protobuf's 2 GiB.
    """

    opset: int | None = None
    dynamic_size: bool = False
    external_data: bool = False


def target_dialect(path: Path, asked: str | None, version: int) -> Dialect:
    """The names that a file is to be written with.

    Args:
        path: The target.
        asked: A dialect's name, or None for the format's own.
        version: Of the PVT.

    Raises:
        ConvertError: There is no such dialect for this PVT, or the format leaves no choice.
    """
    kind = file_format(path)
    if kind in ("onnx", FOLDER) and asked not in (None, DEFAULT_DIALECT[kind]):
        what = "an .onnx" if kind == "onnx" else "a Hugging Face folder"
        raise ConvertError(
            f"{path}: {what} is written in dialect {DEFAULT_DIALECT[kind]} alone; for {asked}, "
            "name a .ckpt, .pth or .safetensors"
        )
    return find_dialect(asked or DEFAULT_DIALECT[kind], version)


def planned_files(path: Path, onnx: OnnxOptions) -> list[Path]:
    """The files that a target will consist of, the one to name first.

    Raises:
        ConvertError: The path stands for no format.
    """
    kind = file_format(path)
    if kind == FOLDER:
        from convert.formats.huggingface import folder as hf_folder

        return [path / name for name in hf_folder.WRITTEN]
    if kind == "onnx" and onnx.external_data:
        return [path, path.with_name(f"{path.name}.data")]
    return [path]


def save_model(
    path: Path | str,
    weights: Mapping[str, Array],
    info: ModelInfo,
    *,
    force: bool = False,
    dialect: str | None = None,
    onnx: OnnxOptions = OnnxOptions(),
) -> list[Path]:
    """Writes a model file whole or not at all.

    Args:
        path: The target; its ending chooses the format, and a folder is one of Hugging Face.
        weights: Every tensor of ``info.config`` by canonical name; bytes and dtypes are kept.
        info: Travels in the file's metadata.
        force: Replace an existing file.
        dialect: Names to write, for the code that uses them, which then has to compute
            ``info.numerics``; None for the format's own, with which any maths travels.
        onnx: Of an ``.onnx`` alone.

    Returns:
        The files that were written, the one to name first.

    Raises:
        ConvertError: The target's ending or the dialect does not fit, the code behind the dialect
            computes other maths, or it cannot be written.
        FileExists: The target exists and ``force`` is not given.
    """
    path = Path(path)
    kind = file_format(path)
    names = target_dialect(path, dialect, info.config.version)
    if dialect or kind == FOLDER:
        _check_maths(path, names, info)
    if kind == "onnx":
        return _save_onnx(path, weights, info, force, onnx)
    bare = not info.config.num_classes
    named = from_canonical(weights, names.groups(info.config, bare=bare))
    metadata = {METADATA_KEY: info.to_json()}
    if kind in ("safetensors", FOLDER):
        metadata = {"format": "ms" if names.name in _MINDSPORE else "pt", **metadata}
    if kind == FOLDER:
        from convert.formats.huggingface import folder as hf_folder

        return hf_folder.write(path, named, metadata, info, force)
    from convert.formats import ckpt
    from convert.formats import safetensors as safetensors_file
    from convert.formats.pth import file as pth

    writers = {"ckpt": ckpt.write, "pth": pth.write, "safetensors": safetensors_file.write}
    with replacing(path, force) as stream:
        writers[kind](stream, named, metadata)
    return [path]


def _check_maths(path: Path, names: Dialect, info: ModelInfo) -> None:
    target = target_numerics(names, info.numerics, info.config)
    if not computes(target, info.numerics):
        raise ConvertError(
            f"{path}: the code behind dialect {names.name} would compute another function of "
            f"these weights, as their profile is {info.profile}; without a dialect the maths "
            "travels in the file, for our own twins"
        )
    if names.features_only and not info.config.features_only:
        raise ConvertError(
            f"{path}: dialect {names.name} names backbones alone, without a head: give --features"
        )


def _save_onnx(
    path: Path, weights: Mapping[str, Array], info: ModelInfo, force: bool, options: OnnxOptions
) -> list[Path]:
    from pvt_onnx.graph.build import DEFAULT_OPSET, MAX_BYTES, build_skeleton, model_size, write

    refuse_existing(path, force)
    skeleton = build_skeleton(
        info,
        {name: array.dtype for name, array in weights.items()},
        dynamic_size=options.dynamic_size,
        opset=options.opset or DEFAULT_OPSET,
    )
    if not options.external_data and model_size(skeleton, weights) <= MAX_BYTES:
        with replacing(path, force) as stream:
            write(stream, skeleton, weights)
        return [path]
    files = planned_files(path, dataclasses.replace(options, external_data=True))
    with replacing_all(files, force) as (stream, external):
        write(stream, skeleton, weights, external=(files[1].name, external))
    return files
