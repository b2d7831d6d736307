"""Folders of a repository: a model, its configuration and its names, whole or not at all."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import onnx

from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.tapped import serialize
from pvt_onnx.graph.build import build
from pvt_onnx.graph.preprocess import check_embeddable
from pvt_onnx.reading.files import load_proto, places
from pvt_onnx.reading.held import read_held
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.repository.config import LABELS, label_lines, write_config
from pvt_onnx.serve.models import ServedModel, open_served
from pvt_onnx.serve.repository import MODEL, ModelFile
from pvt_spec import ConfigError, tensor_specs
from pvt_spec.errors import PvtError
from pvt_spec.files.folders import check_new_folder, check_not_inside, replacing_folder
from pvt_spec.files.replacing import check_folder
from pvt_spec.files.stamps import made_of, stamp_files
from pvt_spec.model_info import Untouched
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import listed

PIXELS = "_pixels"
"""What the name of a model has at its end that takes images of any size, as they are decoded."""


def write_repository(
    files: Sequence[ModelFile], target: Path, max_batch: int, force: bool, tell: Tell
) -> Iterator[str]:
    """Writes models into a repository, and yields their names in it as they are there.

    Each is run once before. Beside a model that takes prepared images comes one of the same weights
    that prepares them itself, where a graph can do that.

    Args:
        files: The models.
        target: The repository, which may be there, with others in it.
        max_batch: Images of a call.
        force: Whether models of these names in it are replaced.
        tell: The function that is told what is changed in a file, and which has no other beside.

    Raises:
        PvtError: A model cannot be used, or its folder is there.
    """
    names = [name for file in files for name in (file.name, file.name + PIXELS)]
    if len({*names}) < len(names):
        raise PvtError(f"{', '.join(names)}: each once, expected: rename a file")
    if not target.exists():
        check_folder(target)
    elif not target.is_dir():
        raise PvtError(f"{target}: a file or a device, expected a folder to write models into")
    for name in names:
        check_new_folder(target / name, force)
    check_not_inside([target / name for name in names], [file.path for file in files])
    made = not target.exists()
    try:
        for file in files:
            with made_of(stamp_files(file.path)):
                yield from _write(file, target, max_batch, force, tell)
    finally:
        if made:
            with suppress(OSError):  # there is something in it
                target.rmdir()


def _write(file: ModelFile, target: Path, max_batch: int, force: bool, tell: Tell) -> Iterator[str]:
    """Writes a model, and the one beside it, where there can be one."""
    model = open_served(file.path, file.name, "1", EngineOptions(), tell=tell)
    model.warm_up(1)
    proto = load_proto(file.path, weights=False)
    data = [file.path.parent / each for each in places(proto)]
    check_not_inside([target / file.name, target / (file.name + PIXELS)], data)
    name = file.name + PIXELS
    pixels, why = _of_pixels(model, proto, file.path)
    target.mkdir(exist_ok=True)
    with replacing_folder(target / file.name, force) as folder:
        _describe(file.name, model, proto.graph, max_batch, folder)
        _copy(file.path, proto, folder / "1", tell)
    yield file.name
    if not pixels:
        left = ", and the one that is there is of another file" if (target / name).exists() else ""
        tell(f"{file.path}: no {name} beside it: {why}{left}")
        return
    with replacing_folder(target / name, force) as folder:
        path = folder / "1" / MODEL
        path.parent.mkdir()
        path.write_bytes(serialize(pixels, name))
        served = open_served(path, name, "1", EngineOptions())
        served.warm_up(1)
        _describe(name, served, pixels.graph, max_batch, folder)
    yield name


def _copy(path: Path, proto: onnx.ModelProto, folder: Path, tell: Tell) -> None:
    """Copies a model and the files that it keeps weights in.

    Sizes in such a file are read by nobody who opens the model there: then all of it is one file.
    """
    kept = [tensor for tensor in proto.graph.initializer if tensor.external_data]
    if any(tensor.data_type == onnx.TensorProto.INT64 for tensor in kept):
        tell(f"{path}: keeps sizes in another file, which servers do not read: written as one")
        (folder / MODEL).write_bytes(serialize(load_proto(path), str(path)))
        return
    shutil.copyfile(path, folder / MODEL)
    for beside in places(proto):
        shutil.copyfile(path.parent / beside, folder / beside)


def _of_pixels(
    model: ServedModel, proto: onnx.ModelProto, path: Path
) -> tuple[onnx.ModelProto | None, str]:
    """Returns a model of the same weights that prepares images itself, or why there is none."""
    info = model.file.info
    if why := _why_none(model, proto):
        return None, why
    held = read_held(load_proto(path) if places(proto) else proto, info.config).weights
    if missing := [spec.name for spec in tensor_specs(info.config) if spec.name not in held]:
        return None, f"its weights have other names ({listed(missing, 2)} missing)"
    return build(info.config, info.numerics, held, info=info, embed=True), ""


def _why_none(model: ServedModel, proto: onnx.ModelProto) -> str:
    """Returns why no model of the same weights prepares images itself; "" where one can."""
    preprocessing = model.file.info.preprocessing
    if isinstance(preprocessing, Untouched):
        return "it prepares images already"
    if (precision := read_precision(proto)) != FLOAT32:
        return f"it computes in {precision}"
    try:
        check_embeddable(preprocessing)
    except ConfigError as error:
        return str(error)
    return ""


def _describe(
    name: str, model: ServedModel, graph: onnx.GraphProto, max_batch: int, folder: Path
) -> None:
    """Writes what is said of a model into its folder, in which there is one for its version."""
    (folder / "1").mkdir(exist_ok=True)
    (folder / "config.pbtxt").write_text(write_config(name, model, graph, max_batch), "utf-8")
    if labels := label_lines(model):
        (folder / LABELS).write_text(labels, "utf-8")
