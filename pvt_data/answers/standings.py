"""How far validations have come: counts that add up, and a file from which they go on."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from time import monotonic

import numpy as np

from pvt_data.answers.accuracy import Tally
from pvt_data.sources.labels import Tell
from pvt_data.sources.source import Source
from pvt_spec.errors import ConfigError, ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.limits import MAX_CLASSES
from pvt_spec.files.locks import sole
from pvt_spec.files.models import read_text
from pvt_spec.files.records import read_record
from pvt_spec.files.replacing import cannot_write, check_folder, replacing

FORMAT = 1

_YEARS = 1e9
"""More seconds than a validation takes."""

SECONDS = 10.0
"""How often a file is written while counts grow: so much is lost at most if a process is killed."""


@dataclass(frozen=True)
class Standing:
    """What is counted of some images in a row; those of the next ones can be added.

    Attributes:
        done: Images that were gone through.
        tally: The counts of those that could be read.
        unreadable: The others, and why.
        sideways: Images with an EXIF orientation that says that they are to be turned.
        seconds: How long it took.
        model_seconds: How much of that the model took.
    """

    done: int = 0
    tally: Tally = field(default_factory=Tally)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    sideways: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0

    def __add__(self, other: "Standing") -> "Standing":
        """Returns the counts of both."""
        more = other.unreadable
        return Standing(
            self.done + other.done,
            self.tally + other.tally,
            {**self.unreadable, **more} if more else self.unreadable,
            self.sideways + other.sideways,
            self.seconds + other.seconds,
            self.model_seconds + other.model_seconds,
        )


@dataclass(frozen=True)
class Identity:
    """What counts are of.

    Attributes:
        name: What the model is called; it is found under any other name too.
        model: A text that tells it, as it is run, from any other.
        images: A text that tells the images, as they are taken, from any others.
    """

    name: str
    model: str
    images: str


def hash_images(source: Source, numbers: Iterable[int], where: str) -> str:
    """Returns a hash of what some images are called and of their classes, not of their pixels.

    Args:
        source: All images.
        numbers: Those that are meant, in order.
        where: The folder or file that they come from, whose own name does not count.
    """
    digest = sha256(repr(source.classes).encode(errors="surrogateescape"))
    for number in numbers:
        name = source.name(number).removeprefix(where)
        digest.update(f"{name}\0{source.labels[number]}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class _Record:
    """A standing as it is kept; the counts by class are numbers with spaces between them."""

    identity: Identity
    done: int
    by_class: tuple[str, str, str, str]
    loss: float
    unreadable: dict[str, str]
    sideways: int
    seconds: float
    model_seconds: float

    @classmethod
    def of(cls, identity: Identity, standing: Standing) -> "_Record":
        images, first, five, answers = (
            " ".join(map(str, row)) for row in standing.tally.by_class.tolist()
        )
        others = {**vars(standing), "unreadable": dict(standing.unreadable)}
        del others["tally"]
        rows = (images, first, five, answers)
        return cls(identity=identity, by_class=rows, loss=standing.tally.loss, **others)

    def standing(self) -> Standing:
        """Returns the standing.

        Raises:
            ValueError: Its numbers are none of a standing.
        """
        if max(row.count(" ") for row in self.by_class) >= MAX_CLASSES:
            raise ValueError(f"it has over {MAX_CLASSES} classes")
        counts = np.array([row.split(" ") for row in self.by_class], np.int64)
        tally = Tally(counts, self.loss)
        images, first, five, _ = counts
        if (
            not counts.size
            or (counts < 0).any()
            or (first > five).any()
            or (five > images).any()
            or (counts > self.done).any()
            or self.loss < 0
            or tally.count + len(self.unreadable) != self.done
        ):
            raise ValueError("its counts do not add up")
        if not (0 <= self.model_seconds <= self.seconds < _YEARS and self.sideways >= 0):
            raise ValueError("its times are none")
        tally = tally if tally.count else Tally()
        return Standing(
            self.done, tally, self.unreadable, self.sideways, self.seconds, self.model_seconds
        )


@dataclass(frozen=True)
class _File:
    format: int
    standings: tuple[_Record, ...] = ()


class StandingsFile:
    """A file in which is kept how far validations have come, of any models and images."""

    def __init__(self, path: Path):
        """Reads the file if it is there.

        Raises:
            ConvertError: It is another file, or there is no folder for it.
        """
        self.path = path
        check_folder(path)
        self._kept: dict[Identity, Standing] = {}
        if path.exists():
            self._kept = dict(_read(path))

    def find(self, wanted: Identity, classes: int, images: int, tell: Tell) -> Standing:
        """Returns the standing that is kept of a model and images; says which, or why none is.

        Raises:
            ConvertError: It is no standing of a model of so many classes, and of so many images.
        """
        for identity, standing in self._kept.items():
            if replace(identity, name=wanted.name) == wanted:
                found = standing.tally.by_class.shape[1]
                if standing.done > images or (standing.tally.count and found != classes):
                    raise _refused(
                        self.path, f"{found} classes and {standing.done} images of {wanted.name}"
                    )
                tell(f"{wanted.name}: {self.path} has {standing.done} images, goes on from there")
                return standing
        models = [each.model for each in self._kept if each.name == wanted.name]
        if models:
            other = "images" if wanted.model in models else "file or options"
            tell(f"{wanted.name}: what {self.path} has of it is of other {other}: it starts anew")
        return Standing()

    @contextmanager
    def keeping(
        self, standings: Callable[[], Sequence[tuple[Identity, Standing]]]
    ) -> Iterator[Callable[[], None]]:
        """Keeps what a function returns, from time to time and however the block ends.

        No other process keeps anything in the file meanwhile; what one has kept since it was read
        stays in it.

        Yields:
            What to call whenever something is done.

        Raises:
            ConvertError: The file cannot be written, or another process keeps its own there.
        """
        real = Path(os.path.realpath(self.path))  # which has one lock, under any name
        with sole(
            real.with_name(f".{real.name}.lock"),
            lambda other: ConvertError(
                f"{self.path}: {other} keeps its counts there: wait for it to end, or name another "
                "file"
            ),
            lambda error: cannot_write([self.path], error),
        ):
            if self.path.exists():
                self._kept |= dict(_read(self.path))
            with self._writing(standings) as keep:
                yield keep

    @contextmanager
    def _writing(
        self, standings: Callable[[], Sequence[tuple[Identity, Standing]]]
    ) -> Iterator[Callable[[], None]]:
        self._write(standings())
        last = monotonic()

        def keep() -> None:
            nonlocal last
            if monotonic() - last >= SECONDS:
                self._write(standings())
                last = monotonic()

        try:
            yield keep
        finally:
            self._write(standings())

    def _write(self, standings: Iterable[tuple[Identity, Standing]]) -> None:
        self._kept.update(standings)
        records = tuple(_Record.of(*each) for each in self._kept.items())
        with replacing(self.path, force=True) as stream:
            stream.write(f"{encode_json(asdict(_File(FORMAT, records)), indent=1)}\n".encode())


def _read(path: Path) -> Iterator[tuple[Identity, Standing]]:
    """Yields what a file keeps.

    Raises:
        ConvertError: It is another file.
    """
    text = read_text(path)
    try:
        file = read_record(_File, parse_json(text, names=True), "it")
        if file.format != FORMAT:
            raise ValueError(f"it has format {file.format}, expected {FORMAT}")
        for record in file.standings:
            yield record.identity, record.standing()
    except (ValueError, ConfigError, OverflowError) as error:
        raise _refused(path, error) from error


def _refused(path: Path, why: object) -> ConvertError:
    return ConvertError(
        f"{path}: holds no counts of validate ({why}): name another file, or take it away"
    )
