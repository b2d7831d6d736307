"""What a path to a model stands for, and what files are that people take for models.

No format of a model is known here, only what none of them can be.
"""

import codecs
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_TEXT_BYTES
from pvt_spec.files.reading import check_source
from pvt_spec.files.replacing import AnyPath
from pvt_spec.published import check_on_disk
from pvt_spec.words import listed, show

BEST, LAST = "best", "last"
"""The best model and the whole training state in a run's folder, without their endings."""

RUN_ENDINGS = (".ckpt", ".pth")
"""What the names of a run's files end in, as MindSpore or PyTorch has written them."""

CONFIG = "config.json"
"""What every folder of Hugging Face has."""

_MOST = 4  # names that are listed


def find_model(path: AnyPath) -> tuple[Path, str]:
    """Returns the file or folder that a path to a model stands for, and how it was chosen.

    A run's folder stands for its best model; the folder that huggingface_hub keeps a repository in
    (``models--ORG--NAME``) for the revision of its branch main, or the only one. Any other path
    stands for itself, and "" is said of it. What takes names of published weights too finds them
    by :func:`convert.hub.find_model`.

    Raises:
        ConvertError: It is such a folder, and it cannot be told what it stands for; or it is the
            name of published weights.
    """
    check_on_disk(path)
    path = Path(path)
    with reaching(path):
        _check_there(path)
        return _find_model(path)


def _check_there(path: Path) -> None:
    """Refuses a path that cannot be looked at; of one where nothing is, nothing is said yet."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValueError as error:  # a NUL in it
        raise unreadable(path, error) from None


def _find_model(path: Path) -> tuple[Path, str]:
    if not path.is_dir() or (path / CONFIG).exists():
        return path, ""
    if path.name == "snapshots":
        return _find_snapshot(path.parent)
    if best := run_file(path, BEST):
        return best, f"{path} is the folder of a run: its {best.name} is taken"
    if last := run_file(path, LAST):
        raise ConvertError(
            f"{path}: the folder of a run that has no {BEST}{last.suffix} yet: give {last}, or "
            "wait for the first validation"
        )
    if (path / "snapshots").is_dir():
        return _find_snapshot(path)
    if repositories := sorted(each.name for each in path.glob("models--*--*") if each.is_dir()):
        raise ConvertError(
            f"{path}: a cache of Hugging Face, which holds {_quoted(repositories)}: give one of "
            "these folders"
        )
    return path, ""


def run_file(folder: Path, name: str) -> Path | None:
    """Returns a run's file of this name, with either ending; None where there is none.

    A run that goes on in another framework has both for a moment: the later one counts.
    """
    there = [path for ending in RUN_ENDINGS if (path := folder / f"{name}{ending}").is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def _find_snapshot(path: Path) -> tuple[Path, str]:
    kept = sorted(each for each in (path / "snapshots").iterdir() if each.is_dir())
    main = path / "refs" / "main"
    revision = first_bytes(main, 100).decode(errors="replace").strip()
    chosen = [each for each in kept if each.name == revision] or kept
    if len(chosen) != 1:
        raise ConvertError(
            f"{path}: a cache of Hugging Face without one revision that is its main: it holds "
            f"{_quoted([each.name for each in kept])}: give the folder of one of them, "
            f"{path / 'snapshots' / 'REVISION'}, or download the model again"
        )
    return chosen[0], f"{path} is a cache of Hugging Face: its {chosen[0].name} is taken"


def _quoted(names: list[str]) -> str:
    return listed(names, _MOST, show) or "nothing"


@dataclass(frozen=True)
class _Other:
    """A kind of file that is no model.

    Attributes:
        begins: A pattern of its first bytes; what its group finds is shown.
        what: The words for it.
        way: What to do; ``{path}`` stands for the file, ``{gunzip}`` for a command.
    """

    begins: bytes
    what: str
    way: str


_UNPACK = "unpack it, and give the model that is in it: "
_AGAIN = "download the model itself"
_SOURCE = "give the .onnx that it was made of"
_OF_A_PVT = "give the weights of a PVT"

_OTHERS = (
    _Other(
        rb"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run git lfs pull in its folder, or download the file itself",
    ),
    _Other(
        rb"(?i)[\xef\xbb\xbf\s]*<(?:!doctype html|html|head)\b(?:.*?<title[^>]*>([^<]{,60}))?",
        "a web page, not the file that it offers",
        f"{_AGAIN}, by the address of its content and not of its page",
    ),
    _Other(rb"\x1f\x8b", "compressed by gzip", _UNPACK + "{gunzip}"),
    _Other(rb"BZh[1-9]", "compressed by bzip2", _UNPACK + "bunzip2 -k '{path}'"),
    _Other(rb"\xfd7zXZ\x00", "compressed by xz", _UNPACK + "unxz -k -S .xz '{path}'"),
    _Other(rb"\x28\xb5\x2f\xfd", "compressed by Zstandard", _UNPACK + "unzstd '{path}'"),
    _Other(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK + "7z x '{path}'"),
    _Other(rb"Rar!\x1a\x07", "a RAR archive", _UNPACK + "unrar x '{path}'"),
    _Other(rb"(?=.{257}ustar)([^\0]{1,100})", "a tar archive", _UNPACK + "tar xf '{path}'"),
    _Other(
        rb"\x0a.[\d.]{3,8}\x12\x09MindSpore",
        "a MindIR graph of MindSpore",
        "give the .ckpt of its weights: mindspore.save_checkpoint(net, 'model.ckpt')",
    ),
    _Other(
        rb"\s*[<{]?\s*\"?ir_?[vV]ersion\"?\s*:",
        "an ONNX model as text",
        "write it as onnx does by default: onnx.save(onnx.load('{path}'), 'model.onnx')",
    ),
    _Other(rb".{4}ORTM", "a model in onnxruntime's own format", _SOURCE),
    _Other(rb".{4}TFL3", "a model of TensorFlow Lite", _SOURCE),
    _Other(rb"[pf]trt", "an engine of TensorRT", _SOURCE),
    _Other(rb"\s*(?:<\?xml[^>]*>)?\s*<net\b", "a graph of OpenVINO", _SOURCE),
    _Other(rb"IMOD", "an offline model of Ascend", _SOURCE),
    _Other(rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _OF_A_PVT),
    _Other(rb"GGUF", "a GGUF file, as of language models", _OF_A_PVT),
    _Other(rb"\x93NUMPY", "an array of numpy", _OF_A_PVT),
    _Other(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF.{4}WEBP", "an image", "give a model here"),
    _Other(rb"%PDF-", "a PDF document", _AGAIN),
)
"""Kinds of files that people have in a model's place, and what to do about each."""

_TEXTS = (
    _Other(rb"\s*<([^\n]{,60})", "an XML text, as a server answers", _AGAIN),
    _Other(rb"\s*([\[{][^\n]{,60})", "a JSON text, as settings are or a server answers", _AGAIN),
    _Other(rb"\s*([^\n]{1,60})", "a text", _AGAIN),
)
"""The same of texts that are none of these."""

_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def check_model_file(path: Path, *, texts: bool = True) -> None:
    """Refuses a file that is no model but what people have in its place, and says what it is.

    Of what cannot be read nothing is said.

    Args:
        path: The file, of a model or a part of one.
        texts: Whether no text is right.

    Raises:
        ConvertError: It is one of these.
    """
    start = first_bytes(path, LOOKED_AT)
    if found := _recognise(start, texts):
        other, what = found
        way = other.way.format(path=path, gunzip=_gunzip(path, start))
        if path.suffix == ".json" and other in _TEXTS:
            way = f"give the folder that it is in, {path.parent}"
        raise ConvertError(f"{path}: {what}; {way}")


def describe_other(start: bytes) -> str:
    """Returns what a file is, by its first :data:`LOOKED_AT` bytes, that is no model; else ""."""
    found = _recognise(start, texts=True)
    return found[1] if found else ""


LOOKED_AT = 1024
"""First bytes of a file by which it is told what it is."""


def _recognise(start: bytes, texts: bool) -> tuple[_Other, str] | None:
    """Returns the kind of file that is no model, and the words for it; None of any other."""
    for other in (*_OTHERS, *(_TEXTS if texts and _is_text(start) else ())):
        if match := re.match(other.begins, start, re.DOTALL):
            found = match[1] if match.re.groups else None
            shown = f" ({found.decode(errors='replace').strip()!a})" if found else ""
            return other, other.what + shown
    return None


def first_bytes(path: Path, count: int) -> bytes:
    """Returns so many bytes of a file, or fewer; none of what is no file or cannot be read.

    Raises:
        ConvertError: It is to be written; see :func:`pvt_spec.files.reading.to_be_written`.
    """
    check_source(path)
    try:
        if path.is_file():
            with path.open("rb") as stream:
                return stream.read(count)
    except OSError:
        pass
    return b""


def read_text(path: Path, most: int = MAX_TEXT_BYTES) -> str:
    """Reads a text in UTF-8, of so many bytes at most: names, settings.

    Raises:
        ConvertError: There is none, it is no file or too long, or not for us to read.
    """
    check_source(path)
    try:
        # Before opening: a pipe would keep us waiting for its other end.
        if not stat.S_ISREG((facts := path.stat()).st_mode):
            raise ConvertError(f"{path}: a folder, a pipe or a device, expected a file")
        if facts.st_size > most:
            raise ConvertError(
                f"{path}: has {facts.st_size} bytes, expected a text of at most {most}"
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConvertError(f"{path}: is not UTF-8 text: save it as such") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ConvertError:
    """Returns the error to raise for a path that the system does not let us read, and why."""
    if isinstance(error, FileNotFoundError):
        return ConvertError(f"{path}: there is no such file or folder")
    reason = error.strerror if isinstance(error, OSError) else error
    return ConvertError(f"{path}: cannot be used: {reason}")


@contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turns what the system says against a path, or what lies in it, into one error.

    Raises:
        ConvertError: It says so: no permission, a name that is too long, links without an end.
    """
    try:
        yield
    except OSError as error:
        raise unreadable(Path(os.fsdecode(error.filename or path)), error) from error


def _is_text(start: bytes) -> bool:
    if not _TEXT.fullmatch(start):
        return False
    try:
        # It may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _gunzip(path: Path, start: bytes) -> str:
    """Returns the command that unpacks a file of gzip, which may be a tar."""
    try:
        inside = zlib.decompressobj(31).decompress(start, 300)
    except zlib.error:
        inside = b""
    if inside[257:262] == b"ustar":
        return f"tar xzf '{path}'"
    plain = path.stem if path.suffix == ".gz" else f"unpacked-{path.name}"
    return f"gunzip < '{path}' > '{path.with_name(plain)}'"
