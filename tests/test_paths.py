"""What a program may call with a path takes a text, a Path and any ``os.PathLike``."""

import importlib
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from pvt_spec.files.replacing import AnyPath
from tests.support.fuzzing.bundles import write_good

LIBRARIES = ("convert", "pvt_ms", "pvt_onnx", "pvt_torch")


class Somewhere:
    """A path that is neither text nor Path."""

    def __init__(self, path: Path):
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


KINDS: dict[str, Callable[[Path], AnyPath]] = {
    "text": str,
    "Path": lambda path: path,
    "PathLike": Somewhere,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what functions read."""
    folder = tmp_path_factory.mktemp("good")
    write_good(folder)
    (folder / "labels.txt").write_text("a\nb\n")
    return folder


def answers(loaded: Any) -> bool:
    forward, info = loaded
    images = np.zeros((1, info.config.in_chans, *info.preprocessing.image_size), np.float32)
    return bool(forward(images)["logits"].shape == (1, info.config.num_classes))


def fills(package: str, path: AnyPath) -> bool:
    twin = importlib.import_module(package)
    model = twin.load_forward(path)[1]
    fresh = twin.model_from_weights(model.config, model.numerics, read(path).weights)
    return isinstance(twin.load_weights(fresh, path), list)


def read(path: AnyPath) -> Any:
    import convert

    return convert.read_model(path)


def save(path: AnyPath) -> bool:
    import convert

    model = read(path)
    target = KINDS["text" if isinstance(path, str) else "PathLike"](Path(path).parent / "new.pth")
    convert.save_model(target, model.weights, model.info)
    shown = convert.convert_file(target, Path(path).parent / "new.onnx")
    report = str(Path(path).parent / "report.json")
    options = convert.Options(report=report if isinstance(path, str) else Path(report))
    convert.convert_file(target, os.fspath(path) + ".ckpt", options=options)
    return shown.info == model.info


def candidate(path: AnyPath) -> Any:
    from pvt_data.answers.accuracy import Opened
    from pvt_data.answers.validate import Candidate

    return Candidate("model", Opened(*_of("pvt_torch").load_forward(path), {}))


CALLS: dict[str, Callable[[Callable[[str], AnyPath]], Any]] = {
    "convert.read_model": lambda at: read(at("model.pth")),
    "convert.load_model": lambda at: importlib.import_module("convert").load_model(at("model.pth")),
    "convert.save_model": lambda at: save(at("model.pth")),
    "convert.convert_file": lambda at: save(at("model.pth")),
    "pvt_torch.load_forward": lambda at: answers(_of("pvt_torch").load_forward(at("model.pth"))),
    "pvt_ms.load_forward": lambda at: answers(_of("pvt_ms").load_forward(at("model.pth"))),
    "pvt_onnx.load_forward": lambda at: answers(_of("pvt_onnx").load_forward(at("model.onnx"))),
    "pvt_onnx.load": lambda at: _of("pvt_onnx").load(at("model.onnx")).predict(at("val/a/a.png")),
    "pvt_onnx.load_proto": lambda at: _of("pvt_onnx").load_proto(at("model.onnx")).graph.node,
    "pvt_torch.load_weights": lambda at: fills("pvt_torch", at("model.pth")),
    "pvt_ms.load_weights": lambda at: fills("pvt_ms", at("model.pth")),
    "convert.inspection.inspect_file": lambda at: [
        *_of("convert.inspection").inspect_file(at("model.pth"))
    ],
    "convert.inspection.compare_files": lambda at: [
        *_of("convert.inspection").compare_files(at("model.pth"), at("model.onnx"))
    ],
    "pvt_data.sources.label_files.read_labels": lambda at: _of(
        "pvt_data.sources.label_files"
    ).read_labels(at("labels.txt")),
    "parity.bundles.bundle.Bundle": lambda at: _of("parity.bundles.bundle").Bundle(at("good.npz")),
    "pvt_data.sources.folders.open_source": lambda at: _of("pvt_data.sources.folders").open_source(
        at("val")
    ),
    "pvt_data.sources.listing.list_images": lambda at: _of("pvt_data.sources.listing").list_images(
        [at("val")]
    ),
    "pvt_data.answers.validate.validate": lambda at: _of("pvt_data.answers.validate").validate(
        [candidate(at("model.pth"))], at("val")
    ),
    "pvt_data.answers.predict.predict": lambda at: [
        *_of("pvt_data.answers.predict").predict(
            candidate(at("model.pth")).opened, [at("val/a/a.png")], 4, 2
        )
    ],
}


def _of(module: str) -> Any:
    return importlib.import_module(module)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_paths_of_every_kind_are_taken(name, kind, good, tmp_path):
    folder = tmp_path / "files"
    shutil.copytree(good, folder)
    assert CALLS[name](lambda place: KINDS[kind](folder / place)) or "inspection" not in name


def exported() -> list[str]:
    return [f"{package}.{name}" for package in LIBRARIES for name in _of(package).__all__]


def test_every_exported_function_of_a_path_is_called_here():
    found = set()
    for name in exported():
        package, _, attribute = name.rpartition(".")
        function = getattr(_of(package), attribute)
        if inspect.isfunction(function):
            hints = {n: k for n, k in get_type_hints(function).items() if n != "return"}
            paths = {n for n, kind in hints.items() if kind == AnyPath}
            assert not {n for n, kind in hints.items() if kind in (Path, Path | str)}, name
            found |= {name} if paths else set()
    assert found == {name for name in CALLS if name.count(".") == 1}


def test_twins_take_the_same_arguments():
    for name in {*_of("pvt_ms").__all__} & {*_of("pvt_torch").__all__}:
        ours, theirs = (getattr(_of(package), name) for package in ("pvt_ms", "pvt_torch"))
        if inspect.isfunction(ours):
            assert [*inspect.signature(ours).parameters] == [*inspect.signature(theirs).parameters]
    three = [_of(package).load_forward for package in ("pvt_ms", "pvt_torch", "pvt_onnx")]
    assert len({(*inspect.signature(each).parameters,) for each in three}) == 1
