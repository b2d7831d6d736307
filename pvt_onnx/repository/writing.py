"""Folders of a repository: a model, its configuration and its names, whole or not at all."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import onnx

from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import serialize
from pvt_onnx.graph.build import build
from pvt_onnx.graph.preprocess import check_embeddable
from pvt_onnx.reading.files import load_proto, places
from pvt_onnx.reading.held import read_held
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.repository.config import LABELS, label_lines, write_config
from pvt_onnx.serve.models import ServedModel, open_served
from pvt_onnx.serve.repository import MODEL, ModelFile
from pvt_spec import ConfigError
from pvt_spec.errors import FileExists, PvtError
from pvt_spec.files.replacing import check_folder
from pvt_spec.model_info import Untouched
from pvt_spec.precisions import FLOAT32

PIXELS = "_pixels"
"""What the name of a model has at its end that takes images of any size, as they are decoded."""


def write_repository(
    files: Sequence[ModelFile], target: Path, max_batch: int, force: bool, tell: Tell
) -> list[str]:
    """Writes models into a repository, and returns their names in it.

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
    written = []
    for file in files:
        model = open_served(file.path, file.name, "1", EngineOptions(), tell=tell)
        model.warm_up(1)
        _write(model, file, target / file.name, max_batch, force)
        written.append(file.name)
        if (pixels := _with_preprocessing(model, file, tell)) is not None:
            name = file.name + PIXELS
            _write_built(pixels, name, target / name, max_batch, force)
            written.append(name)
    return written


def _with_preprocessing(model: ServedModel, file: ModelFile, tell: Tell) -> onnx.ModelProto | None:
    """Returns a model of the same weights that prepares images itself, where there can be one."""
    info = model.file.info
    why = "" if not isinstance(info.preprocessing, Untouched) else "it prepares images already"
    proto = load_proto(file.path)
    if (precision := read_precision(proto)) != FLOAT32:
        why = why or f"it computes in {precision}"
    try:
        check_embeddable(info.preprocessing)
    except ConfigError as error:
        why = why or str(error)
    if why:
        tell(f"{file.path}: no {file.name}{PIXELS} beside it: {why}")
        return None
    held = read_held(proto, info.config)
    return build(info.config, info.numerics, held.weights, info=info, embed=True)


def _write_built(
    proto: onnx.ModelProto, name: str, folder: Path, max_batch: int, force: bool
) -> None:
    place = Path(mkdtemp(prefix=".pvt-", dir=folder.parent))
    try:
        path = place / MODEL
        path.write_bytes(serialize(proto, name))
        model = open_served(path, name, "1", EngineOptions())
        model.warm_up(1)
        _write(model, ModelFile(name, "1", path), folder, max_batch, force)
    finally:
        shutil.rmtree(place)


def _write(model: ServedModel, file: ModelFile, folder: Path, max_batch: int, force: bool) -> None:
    """Writes a model's folder beside where it is to be, and puts it there."""
    if folder.exists() and not force:
        raise FileExists(f"{folder} exists: name another repository, or give --force")
    folder.parent.mkdir(exist_ok=True)
    proto = load_proto(file.path, weights=False)
    new = Path(mkdtemp(prefix=".pvt-", dir=folder.parent))
    try:
        new.chmod(0o755)
        (new / "1").mkdir()
        shutil.copyfile(file.path, new / "1" / MODEL)
        for beside in places(proto):
            shutil.copyfile(file.path.parent / beside, new / "1" / beside)
        config = write_config(folder.name, model, proto.graph, max_batch)
        (new / "config.pbtxt").write_text(config, "utf-8")
        if labels := label_lines(model):
            (new / LABELS).write_text(labels, "utf-8")
        if folder.exists():
            old = Path(mkdtemp(prefix=".pvt-", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(new, folder)
            shutil.rmtree(old)
        else:
            os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
