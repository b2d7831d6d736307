"""The table of formats: one row for each way of keeping a model on a disk.

What a path stands for, the commands ``X-to-Y`` and their options, and which module reads and
writes: all of it is in the rows. Help texts are made of them, so nothing heavy is imported here;
a format's own module is loaded when a file is read or written.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvt_spec.errors import ConvertError
from pvt_spec.files.models import check_model_file, first_bytes, reaching

if TYPE_CHECKING:
    from convert.formats.huggingface.card import Known
    from convert.formats.weight_file import WeightFile
    from convert.options import OnnxOptions
    from pvt_spec import ModelInfo
    from pvt_spec.arrays import Array

NAMING = ("dialect", "allow_different_maths")
"""The options of a format that can be written in any dialect."""

STATE = "training_state"
"""The option of a format that can hold the whole state of a training."""


@dataclass(frozen=True)
class Format:
    """One way of keeping a model on a disk.

    Attributes:
        name: The name that a finding and the commands ``X-to-Y`` give it.
        suffixes: The endings of its files' names; () for the folder.
        description: The words for it in a help text.
        dialect: The names that it is written with where no others are asked for. Canonical names
            are then those of our own twins: the file says which maths its weights are for.
        home: The module in this package that holds its ``read`` and ``write``; "" for its name's.
        begins: A pattern of the first bytes.
        fixed: The words for it in the error for another dialect; "" where any can be written.
        options: The options of the file that is written: fields of
            :class:`convert.options.Options` and :class:`convert.options.OnnxOptions`.
        command: The format whose commands take it too; "" for its own.
        single: Whether it is one file, whose ``write`` is given a stream; else a path.
        carries_maths: Whether the maths that it says is computed, whatever it is.
        beside_config: Whether a ``config.json`` beside the file may say what it is.
        wraps: Whether our own files keep the tensors under a key that other people's code may not
            know, so that what is written for that code is without.
        has_card: Whether a page for people is written beside the weights.
        says_framework: Whether its metadata says whose parameters they are, MindSpore's or
            PyTorch's.
    """

    name: str
    suffixes: tuple[str, ...]
    description: str
    dialect: str
    home: str = ""
    begins: bytes = b"(?!)"
    fixed: str = ""
    options: tuple[str, ...] = NAMING
    command: str = ""
    single: bool = True
    carries_maths: bool = True
    beside_config: bool = False
    wraps: bool = False
    has_card: bool = False
    says_framework: bool = False

    @property
    def module(self) -> Any:
        """The module of the format."""
        return import_module(f"convert.formats.{self.home or self.name}")

    def read(self, path: Path) -> "WeightFile":
        """Reads what a file holds under its own names.

        Raises:
            ConvertError: The file cannot be read as this format.
        """
        if self.suffixes:
            check_model_file(path)
        file: WeightFile = self.module.read(path)
        return file

    def planned(self, path: Path, onnx: "OnnxOptions") -> list[Path]:
        """Returns the files that a target will consist of, the one to name first."""
        if self.single:
            return [path]
        files: list[Path] = self.module.planned(path, **self._asked(onnx))
        return files

    def next_steps(self, path: Path, info: "ModelInfo", onnx: "OnnxOptions") -> list[str]:
        """Returns lines for a shell by which what a written file is for goes on from there."""
        if "target" not in self.options:
            return []
        steps: list[str] = self.module.next_steps(path, info, **self._asked(onnx))
        return steps

    def write(
        self,
        path: Path,
        tensors: "Mapping[str, Array]",
        metadata: Mapping[str, str],
        force: bool,
        onnx: "OnnxOptions",
        ours: bool = True,
        known: "Known | None" = None,
    ) -> list[Path]:
        """Writes a model, whole or not at all, and returns its files, the one to name first.

        Args:
            path: The target.
            tensors: Arrays by the names to write.
            metadata: Texts.
            force: Whether files that are there are replaced.
            onnx: How an ``.onnx`` is written.
            ours: Whether the file is for our own code, not for that of the tensors' dialect.
            known: What else is known of the model, for the card of what has one.

        Raises:
            ConvertError: The format cannot hold it, or a file cannot be written.
            FileExists: A file exists and ``force`` is not given.
        """
        if self.single:
            from pvt_spec.files.replacing import replacing

            with replacing(path, force) as stream:
                wrapped = {"wrapped": ours} if self.wraps else {}
                self.module.write(stream, tensors, metadata, **wrapped)
            return [path]
        asked = self._asked(onnx)
        if known:
            asked["known"] = known
        files: list[Path] = self.module.write(path, tensors, metadata, force, **asked)
        return files

    def _asked(self, onnx: "OnnxOptions") -> dict[str, Any]:
        """Returns the values of this format's own options."""
        return {name: getattr(onnx, name) for name in self.options if name not in NAMING}


FORMATS = (
    Format(
        "ckpt",
        (".ckpt",),
        "MindSpore checkpoint",
        "pvt_ms",
        options=(*NAMING, STATE),
        begins=rb"\x0a[\x80-\xff]{,9}[\x00-\x7f]\x0a",  # a parameter: its key, length, tag's key
    ),
    Format(
        "pth",
        (".pth", ".pt", ".bin"),
        "PyTorch file",
        "official",
        home="pth.file",
        options=(*NAMING, STATE),
        wraps=True,
        begins=rb"PK\x03\x04|\x80[\x02-\x05]",  # a zip; before torch 1.6, a pickle
        beside_config=True,
    ),
    Format(
        "safetensors",
        (".safetensors",),
        "safetensors file, or folder of Hugging Face,",
        "official",
        begins=rb".{5}\x00{3}\{",  # the length of a header, and the header
        beside_config=True,
        says_framework=True,
    ),
    Format(
        "onnx",
        (".onnx",),
        "ONNX model",
        "official",
        begins=rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]",  # ir_version, another field's key
        home="onnx.file",
        fixed="an .onnx",
        options=(
            *("target", "opset", "dynamic_size", "uint8", "precision", "half_ends"),
            *("embed", "external_data"),
        ),
        single=False,
    ),
    Format(
        "folder",
        (),
        "folder of Hugging Face",
        "hf",
        home="huggingface.folder",
        fixed="a Hugging Face folder",
        command="safetensors",
        single=False,
        carries_maths=False,
        has_card=True,
        says_framework=True,
    ),
)
"""Every format, in the order of the help."""

SUFFIXES = {suffix: row for row in FORMATS for suffix in row.suffixes}
"""The format of each ending of a file's name."""

START = 32
"""First bytes of a file that tell its format."""

FOLDER = next(row for row in FORMATS if not row.suffixes)
"""The format of a path without an ending."""


def find_format(path: Path) -> Format:
    """Returns the format of a path, by its ending; a folder, or no ending, is a folder.

    Raises:
        ConvertError: It stands for none.
    """
    ending = path.suffix.lower()
    with reaching(path):
        folder = path.is_dir() or (not ending and not path.exists())
    if folder:
        return FOLDER
    if ending not in SUFFIXES:
        raise ConvertError(
            f"{path}: cannot tell its format from its name; expected {', '.join(SUFFIXES)}, or a "
            "folder of Hugging Face"
        )
    return SUFFIXES[ending]


def find_source(path: Path) -> Format:
    """Returns the format of a model that is there, by what is in its file.

    Its ending decides where its first bytes fit that, or tell nothing.

    Raises:
        ConvertError: It is no model, or neither bytes nor ending tell of which format.
    """
    if not path.is_file():
        return find_format(path)
    check_model_file(path)
    start = first_bytes(path, START)
    named = SUFFIXES.get(path.suffix.lower())
    if named and re.match(named.begins, start, re.DOTALL):
        return named
    if found := recognise(start) or named:
        return found
    raise ConvertError(
        f"{path}: cannot tell its format from its content, nor from its name; expected a file that "
        f"ends in {', '.join(SUFFIXES)}, or a folder of Hugging Face"
    )


def check_format(row: Format, path: Path, command: str) -> None:
    """Refuses a path whose format is none of a command.

    Raises:
        ConvertError: It is not.
    """
    if command not in (row.name, row.command):
        endings = ", ".join(ending for ending, row in SUFFIXES.items() if row.name == command)
        raise ConvertError(
            f"{path} is a {row.description.rstrip(',')}: expected a file name that ends in "
            f"{endings}, or another command"
        )


def read_file(path: Path) -> "WeightFile":
    """Reads what a file holds under its own names, in any format.

    Raises:
        ConvertError: The file cannot be read.
    """
    with reaching(path):
        row = find_source(path)
        try:
            file = row.read(path)
        except ConvertError as error:
            if row.suffixes and path.suffix.lower() not in row.suffixes:
                read_as = f"It begins as .{row.name}, and was read so."
                raise ConvertError(f"{error} ({read_as})") from error
            raise
        if row.beside_config:
            described: WeightFile = FOLDER.module.with_config(path, file)
            return described
        return file


def recognise(start: bytes) -> Format | None:
    """Returns the format that a file's first bytes are of, None where they tell nothing."""
    found = {row: re.match(row.begins, start, re.DOTALL) for row in FORMATS}
    lengths = {row: match.end() for row, match in found.items() if match}
    # The longest: a header's length may have the one byte that others begin with.
    return max(lengths, key=lambda row: lengths[row], default=None)
