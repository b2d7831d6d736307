"""What became of one row of the hub's registry, as it is kept between runs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from convert.certificates.record import Part
from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.models import read_text
from pvt_spec.files.records import read_record
from pvt_spec.files.replacing import replacing

FORMAT = 1
"""The version of what is kept; of another one, the work is done again."""

RESULT, CERTIFICATE = "result.json", "port.json"
"""The files of an entry that stay, in a folder of its own."""


@dataclass(frozen=True)
class Written:
    """A format that the weights were converted to.

    Attributes:
        name: The name of the file or folder.
        parts: Its files, with their hashes.
        problem: Why it was not written, in words; "" where it was.
        verified: Whether it verifies against the certificate.
        seconds: The duration.
    """

    name: str
    parts: tuple[Part, ...]
    problem: str
    verified: bool
    seconds: float


@dataclass(frozen=True)
class Proved:
    """A runtime that the weights were run in.

    Attributes:
        runtime: The runtime.
        file: The file that ran in it.
        same: Whether it computes the published weights' function.
        worst: The largest error of any tap over what it may be at most: 1 is the most that is
            within bounds; None where it is not finite.
        tap: That tap.
        seconds: The time spent in forward passes.
    """

    runtime: str
    file: str
    same: bool
    worst: float | None
    tap: str
    seconds: float


@dataclass(frozen=True)
class Entry:
    """What became of published weights.

    Attributes:
        name: The name of the registry's row.
        variant: The variant that the file holds; "" of none with a name.
        suite: The version of this suite.
        terms: How they were run, in words: of other ones, the work is done again.
        profile: The maths.
        licence: The licence that they come under; "" where it is not known.
        top1: The reported accuracy, per cent.
        reported: Where that is reported; "" where it is not known.
        address: Where the weights are from.
        sha256: The hash of their file.
        verified: What that was compared with, in words.
        size: Bytes of that file.
        formats: What they were converted to.
        runtimes: Where they were run.
        certificate: The SHA-256 of their certificate; "" where there is none.
        seconds: How long each step took.
        problem: Why the work ended before its end; "" where it did not.
    """

    name: str
    suite: str
    terms: str
    variant: str = ""
    profile: str = ""
    licence: str = ""
    top1: float | None = None
    reported: str = ""
    address: str = ""
    sha256: str = ""
    verified: str = ""
    size: int = 0
    formats: tuple[Written, ...] = ()
    runtimes: tuple[Proved, ...] = ()
    certificate: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    problem: str = ""

    @property
    def folder(self) -> str:
        """The name of the folder of its files."""
        return self.name.replace("/", "--")

    @property
    def good(self) -> bool:
        """Whether every runtime is the same, and every file that was written verifies."""
        written = [each for each in self.formats if not each.problem]
        proved = bool(self.runtimes) and all(each.same for each in self.runtimes)
        return not self.problem and proved and all(each.verified for each in written)


def write_entry(folder: Path, entry: Entry) -> None:
    """Writes an entry into its folder."""
    with replacing(folder / RESULT, force=True) as stream:
        said = {"format": FORMAT, **dataclasses.asdict(entry)}
        stream.write(encode_json(said, indent=1).encode() + b"\n")


def is_ours(path: Path, key: str) -> bool:
    """Returns whether a file has a version and ``key``, as an entry has, and the table of them."""
    try:
        said = parse_json(read_text(path))
    except (ValueError, PvtError):
        return False
    return isinstance(said, dict) and {"format", key} <= said.keys()


def read_entry(folder: Path) -> Entry | None:
    """Returns what is kept in a folder; None where nothing is that this version knows."""
    path = folder / RESULT
    try:
        said = parse_json(read_text(path))
        if not isinstance(said, dict) or said.pop("format", None) != FORMAT:
            return None
        return read_record(Entry, said, str(path))
    except (ValueError, PvtError):
        return None
