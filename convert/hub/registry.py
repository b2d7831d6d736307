"""The registry: what is known of published weights, as data, a row for each.

``published.json`` beside this module has the rows that everybody has. The user's own registry, a
file of the same form, fills in what is not known there, and may have rows of its own::

    {"format": 1, "files": [
     {"name": "official/pvt_tiny", "size": 52990000, "sha256": "…"},
     {"name": "lab/birds", "variant": "pvt_tiny", "address": "https://lab.example/birds.pth"}]}

Row by row and field by field, what the user's says holds. What is not known is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pvt_spec.errors import ConfigError, ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.locks import held
from pvt_spec.files.models import read_text
from pvt_spec.files.records import read_record
from pvt_spec.files.replacing import replacing
from pvt_spec.words import show

FORMAT = 1

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"{_WORD}/{_WORD}")
_PART = r"[^\s/?#\\\x00-\x1f\x7f]"
"""A character of a part of an address, whose last one becomes a file's name."""

_FORMS = {
    "name": (_NAME, "SOURCE/NAME, of letters, digits, '.', '_' and '-'"),
    "repository": (_NAME, "ORGANISATION/NAME, as on the Hugging Face hub"),
    "address": (
        re.compile(rf"https?://[^\s/?#@\\\x00-\x1f\x7f]+/(?:{_PART}*/)*(?!\.|hub\.json$){_PART}+"),
        "an address, https://HOST/…/FILE, where FILE is no hub.json and begins with no '.'",
    ),
    "reported": (re.compile(r"https?://\S+"), "an address, https://…: a page links to it"),
    "sha256": (re.compile("[0-9a-f]{64}"), "64 hexadecimal digits"),
    "digits": (re.compile("[0-9a-f]{8,64}"), "the first of a sha256, at least 8"),
    "commit": (re.compile("[0-9a-f]{40}"), "40 hexadecimal digits"),
}
"""What fields that are texts look like, and the words for it."""

DETECTION = "detection"
"""The task of weights that are the backbone of a detector, and classify nothing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of published weights; None is unknown.

    Attributes:
        name: Where they are from and what they are called there, ``"mindcv/pvt_tiny"``.
        variant: The variant that they are of.
        address: The address of their file; None where they are a repository of Hugging Face.
        repository: The repository, ``"timm/pvt_v2_b0.in1k"``; None where they are a file.
        commit: The commit of the repository that is taken where none is asked for.
        size: Bytes of the weights' file.
        sha256: Its hash.
        digits: The first digits of its hash, as its name carries them.
        dialect: The names that its tensors have.
        profile: The maths that they were trained with.
        licence: The licence that they come under.
        task: What they are for.
        top1: The reported accuracy on ImageNet-1K, per cent.
        top5: The same of the five most probable classes.
        reported: Where that is reported.
        hosts: The hosts, with those below them, that the address may lead on to.
        recorded: The fields that are the user's registry's.
    """

    name: str
    variant: str | None = None
    address: str | None = None
    repository: str | None = None
    commit: str | None = None
    size: int | None = None
    sha256: str | None = None
    digits: str | None = None
    dialect: str | None = None
    profile: str | None = None
    licence: str | None = None
    task: str = "classification"
    top1: float | None = None
    top5: float | None = None
    reported: str | None = None
    hosts: tuple[str, ...] = ()
    recorded: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for what, (pattern, words) in _FORMS.items():
            value = getattr(self, what)
            if value is not None and not pattern.fullmatch(value):
                raise ConfigError(f"{what} is {show(value)}, expected {words}")
        if (self.address is None) == (self.repository is None):
            raise ConfigError(f"{self.name}: expected an address or a repository, one of the two")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size is {self.size}, expected bytes")

    @property
    def source(self) -> str:
        """What stands before the slash of the name."""
        return self.name.partition("/")[0]

    @property
    def short(self) -> str:
        """What stands behind it."""
        return self.name.partition("/")[2]

    @property
    def file(self) -> str:
        """The name of the file that the address is of; "" of a repository."""
        return (self.address or "").rpartition("/")[2]


def read_registry(own: Path) -> dict[str, Row]:
    """Returns every row by its name, those that everybody has first.

    Args:
        own: The user's registry, which may be missing.

    Raises:
        ConvertError: It cannot be read, or says what cannot be.
    """
    rows = {name: dict(facts) for name, facts in _published().items()}
    for name, facts in read_own(own).items():
        said = {what: value for what, value in facts.items() if value is not None}
        rows[name] = {**rows.get(name, {}), **said, "recorded": [*said]}
    try:
        return {name: _row(facts, name) for name, facts in rows.items()}
    except ConfigError as error:
        raise ConvertError(f"{own}: {error}") from error


def _row(facts: Mapping[str, Any], name: str) -> Row:
    # Where accuracy is reported is known of a source; whether it is, of a row.
    without = {"reported"} if facts.get("top1") is None else set()
    return read_record(Row, {k: v for k, v in facts.items() if k not in without}, f"row {name}")


@cache
def _published() -> dict[str, dict[str, Any]]:
    """Returns the rows that come with us, each with what is said of its source."""
    text = resources.files("convert.hub").joinpath("published.json").read_text("utf-8")
    data = parse_json(text)
    shared = {
        each["name"]: {what: value for what, value in each.items() if what not in ("name", "about")}
        for each in data["sources"]
    }
    return {row["name"]: shared[row["name"].partition("/")[0]] | row for row in data["files"]}


def read_own(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of the user's registry as they are, by name; none where there is no file.

    Raises:
        ConvertError: It cannot be read, or is none.
    """
    if not path.exists():
        return {}
    try:
        data = parse_json(read_text(path))
    except ValueError as error:
        raise ConvertError(f"{path}: is no registry ({error}): mend it, or remove it") from None
    expected = f"an object with format {FORMAT} and files, a list of rows, each with a name"
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConvertError(f"{path}: is no registry: expected {expected}")
    rows = data.get("files")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConvertError(f"{path}: is no registry: expected {expected}")
    names = [row.get("name") for row in rows]
    if not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
        raise ConvertError(f"{path}: expected a name in each row, and no name twice")
    return {row["name"]: row for row in rows}


def record(path: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Writes what was found out of a row into the user's registry, beside what that has.

    Args:
        path: The registry, which is made if need be, with its folder.
        name: The row's name.
        facts: Values of its fields.

    Raises:
        ConvertError: The registry cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path.with_name(f".{path.name}.lock.tmp"), wait=True):
            rows = read_own(path)
            rows[name] = {"name": name, **rows.get(name, {}), **facts}
            data = {"format": FORMAT, "files": [*rows.values()]}
            with replacing(path, force=True) as stream:
                stream.write(encode_json(data, indent=1).encode() + b"\n")
    except OSError as error:
        raise ConvertError(f"{path}: cannot be written ({error.strerror}): name another") from error
