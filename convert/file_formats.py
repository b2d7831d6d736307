"""The file formats, by the ending of a file's name."""

from collections.abc import Callable
from pathlib import Path

from convert.errors import ConvertError
from convert.weight_file import WeightFile

FORMATS = {".ckpt": "ckpt", ".pth": "pth", ".pt": "pth", ".onnx": "onnx"}
"""File name ending -> format."""


def file_format(path: Path) -> str:
    """The format that a file name's ending stands for.

    Raises:
        ConvertError: It stands for none.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConvertError(
            f"{path}: cannot tell its format from its name; expected {', '.join(FORMATS)}"
        )
    return FORMATS[path.suffix.lower()]


def check_format(path: Path, expected: str) -> None:
    """Holds if a file name's ending stands for the expected format.

    Raises:
        ConvertError: It stands for another, or for none.
    """
    if file_format(path) != expected:
        endings = ", ".join(ending for ending, name in FORMATS.items() if name == expected)
        raise ConvertError(f"{path}: expected a file name that ends in {endings}")


def read_file(path: Path) -> WeightFile:
    """What a file holds under its own names, in any format.

    Raises:
        ConvertError: The file cannot be read.
    """
    from convert import ckpt, onnx_file, pth

    readers: dict[str, Callable[[Path], WeightFile]] = {
        "ckpt": ckpt.read,
        "pth": pth.read,
        "onnx": onnx_file.read,
    }
    return readers[file_format(path)](path)
