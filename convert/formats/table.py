"""The file formats, by the ending of a file's name; and the one folder among them."""

from collections.abc import Callable
from pathlib import Path

from convert.formats.weight_file import WeightFile
from pvt_spec.errors import ConvertError

FORMATS = {
    ".ckpt": "ckpt",
    ".pth": "pth",
    ".pt": "pth",
    ".bin": "pth",
    ".safetensors": "safetensors",
    ".onnx": "onnx",
}
"""File name ending -> format."""

FOLDER = "folder"
"""The format of a folder as Hugging Face keeps models: ``config.json`` and safetensors."""


def file_format(path: Path) -> str:
    """The format that a path stands for: by its ending; a folder, or no ending, is a folder.

    Raises:
        ConvertError: It stands for none.
    """
    ending = path.suffix.lower()
    if path.is_dir() or (not ending and not path.exists()):
        return FOLDER
    if ending not in FORMATS:
        raise ConvertError(
            f"{path}: cannot tell its format from its name; expected {', '.join(FORMATS)}, or a "
            "folder of Hugging Face"
        )
    return FORMATS[ending]


def check_format(path: Path, expected: str) -> None:
    """Holds if a path stands for the expected format. A folder counts as safetensors.

    Raises:
        ConvertError: It stands for another, or for none.
    """
    found = file_format(path)
    if found != expected and (found, expected) != (FOLDER, "safetensors"):
        endings = ", ".join(ending for ending, name in FORMATS.items() if name == expected)
        raise ConvertError(f"{path}: expected a file name that ends in {endings}")


def read_file(path: Path) -> WeightFile:
    """What a file holds under its own names, in any format.

    Raises:
        ConvertError: The file cannot be read.
    """
    from convert.formats import ckpt
    from convert.formats import onnx as onnx_file
    from convert.formats import safetensors as safetensors_file
    from convert.formats.huggingface import folder as hf_folder
    from convert.formats.pth import file as pth

    readers: dict[str, Callable[[Path], WeightFile]] = {
        "ckpt": ckpt.read,
        "pth": pth.read,
        "safetensors": safetensors_file.read,
        "onnx": onnx_file.read,
        FOLDER: hf_folder.read,
    }
    kind = file_format(path)
    try:
        file = readers[kind](path)
    except ConvertError as error:
        looks = _looks_like(path)
        if looks in (kind, ""):
            raise
        raise ConvertError(f"{error}. It looks like .{looks}: give it that ending") from error
    return hf_folder.with_config(path, file) if kind in ("pth", "safetensors") else file


def _looks_like(path: Path) -> str:
    """The format that a file's first bytes are of; "" where they tell nothing."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[:4] == b"PK\x03\x04":
        return "pth"
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "safetensors"
    # The key of an ONNX model's ir_version, and of a checkpoint's first parameter.
    return {b"\x08": "onnx", b"\x0a": "ckpt"}.get(start[:1], "")
