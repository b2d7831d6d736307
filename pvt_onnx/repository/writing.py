"""Folders of a repository: a model, its configuration and its names, whole or not at all."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from pvt_spec.files.locks import held
from pvt_spec.files.replacing import check_folder
from pvt_spec.model_info import Untouched
from pvt_spec.precisions import FLOAT32

PIXELS = "_pixels"
"""What the name of a model has at its end that takes images of any size, as they are decoded."""

_OLD = "old"
"""Where models are, in a folder of work, that are being replaced."""

_WORK = re.compile(r"\.pvt-[a-z0-9_]{8}")
_LOCK = ".pvt-repository.tmp"


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
        pixels = _with_preprocessing(model, file, tell)
        found = [file.name] if pixels is None else [file.name, file.name + PIXELS]
        for name in found:
            if (target / name).exists() and not force:
                raise FileExists(
                    f"{target / name} exists: name another repository, or give --force"
                )
        with _working_in(target, tell) as work:
            _write(model, file, target / file.name, max_batch, work)
            if pixels is not None:
                _write_built(pixels, found[1], target / found[1], max_batch, work)
        written += found
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


@contextmanager
def _working_in(target: Path, tell: Tell) -> Iterator[Path]:
    """Yields a folder in a repository for what is not whole yet, which is gone afterwards.

    What runs that were killed have left there goes first.
    """
    target.mkdir(exist_ok=True)
    with held(target / _LOCK, wait=True):
        for left in [each for each in target.iterdir() if _WORK.fullmatch(each.name)]:
            tell(f"{left}: a run that was stopped has left it: removed")
            _clear(left, target, tell)
        work = Path(mkdtemp(prefix=".pvt-", dir=target))
        try:
            yield work
        finally:
            _clear(work, target, tell)


def _clear(work: Path, target: Path, tell: Tell) -> None:
    """Removes such a folder, but for models that were to be replaced and were not."""
    for old in (work / _OLD).glob("*"):
        if not (target / old.name).exists():
            os.replace(old, target / old.name)
            tell(f"{target / old.name}: was to be replaced, and is as it was")
    shutil.rmtree(work, ignore_errors=True)


def _write_built(
    proto: onnx.ModelProto, name: str, folder: Path, max_batch: int, work: Path
) -> None:
    path = work / MODEL
    path.write_bytes(serialize(proto, name))
    model = open_served(path, name, "1", EngineOptions())
    model.warm_up(1)
    _write(model, ModelFile(name, "1", path), folder, max_batch, work)


def _write(model: ServedModel, file: ModelFile, folder: Path, max_batch: int, work: Path) -> None:
    """Writes a model's folder beside where it is to be, and puts it there."""
    proto = load_proto(file.path, weights=False)
    new = work / "new"
    (new / "1").mkdir(parents=True)
    shutil.copyfile(file.path, new / "1" / MODEL)
    for beside in places(proto):
        shutil.copyfile(file.path.parent / beside, new / "1" / beside)
    config = write_config(folder.name, model, proto.graph, max_batch)
    (new / "config.pbtxt").write_text(config, "utf-8")
    if labels := label_lines(model):
        (new / LABELS).write_text(labels, "utf-8")
    if folder.exists():
        (work / _OLD).mkdir(exist_ok=True)
        os.replace(folder, work / _OLD / folder.name)
    os.replace(new, folder)
