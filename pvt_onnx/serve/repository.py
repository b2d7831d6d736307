"""Which files are served under which names: those that are named, or those of a repository."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvt_data.sources.labels import Tell
from pvt_spec.errors import PvtError
from pvt_spec.files.models import find_model, reaching
from pvt_spec.words import is_unicode, listed, show

MODEL = "model.onnx"
"""What the file of a version is called in a repository."""

_MOST_DIGITS = 18  # of a version: 64 bits


@dataclass(frozen=True)
class ModelFile:
    """A file to be served.

    Attributes:
        name: What its model is called.
        version: A number above 0, as text.
        path: The file.
    """

    name: str
    version: str
    path: Path


def name_files(paths: Iterable[Path], tell: Tell) -> list[ModelFile]:
    """Returns files by their names without ending, each as version 1.

    Raises:
        PvtError: One is no file, two have the same name, or one is none that a request could have.
    """
    found: dict[str, ModelFile] = {}
    for given in paths:
        path, taken = find_model(given)
        if taken:
            tell(taken)
        if not path.is_file():
            if path.is_dir():
                raise PvtError(
                    f"{path}: a folder, expected an .onnx file, or --repository {path} with "
                    "NAME/VERSION/model.onnx in it"
                )
            raise PvtError(f"{path}: no such file, expected an .onnx file")
        name = path.stem
        _check_name(name, path)
        if name in found:
            raise PvtError(
                f"{found[name].path} and {path}: both are called {show(name)}: rename one, or put "
                f"them in a repository: DIR/NAME/1/{MODEL}"
            )
        found[name] = ModelFile(name, "1", path)
    return [*found.values()]


def list_repository(folder: Path, tell: Tell) -> list[ModelFile]:
    """Returns the files ``NAME/VERSION/model.onnx`` of a folder, by name and version.

    Raises:
        PvtError: It is no such folder, or it has none, or a version without a model.
    """
    if not folder.is_dir():
        raise PvtError(f"{folder}: no such folder, expected one of NAME/VERSION/{MODEL}")
    found, left = [], []
    with reaching(folder):
        for each in sorted(folder.iterdir()):
            versions = _versions(each)
            if versions:
                _check_name(each.name, each)
                found += [ModelFile(each.name, v.name, v / MODEL) for v in versions]
            elif not each.name.startswith("."):
                left.append(each.name)
        missing = [str(each.path) for each in found if not each.path.is_file()]
    if missing:
        raise PvtError(f"{folder}: no such file: {listed(missing, 4)}")
    if not found:
        raise PvtError(f"{folder}: no model in it, expected NAME/VERSION/{MODEL}")
    if left:
        tell(f"{folder}: without a version, and left out: {listed(left, 4, show)}")
    return found


def _versions(folder: Path) -> list[Path]:
    """Returns the versions of a model, smallest first."""
    if folder.name.startswith(".") or not folder.is_dir():
        return []
    numbers = (each for each in folder.iterdir() if _is_version(each.name))
    return sorted((each for each in numbers if each.is_dir()), key=lambda each: int(each.name))


def _is_version(name: str) -> bool:
    digits = name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS
    return digits and not name.startswith("0")


def _check_name(name: str, path: Path) -> None:
    if not is_unicode(name) or not name.isprintable():
        raise PvtError(f"{path}: no request could name {show(name)}: rename it")
