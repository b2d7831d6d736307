"""A certificate: what is claimed of model files, what was measured, and on which machine.

The file is canonical JSON (RFC 8785): one claim has one text, whoever writes it. What a reader
takes is in the types of these records and, for other languages, in ``certificate.schema.json``
beside this module; ``docs/reference/bundle-format.md`` says all of it in words.
"""

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvt_packages import require
from pvt_spec import ModelInfo, Numerics, Preprocessing, PVTConfig
from pvt_spec.errors import ConfigError, ConvertError
from pvt_spec.files.json_text import parse_json
from pvt_spec.files.limits import MAX_TEXT_BYTES
from pvt_spec.files.reading import open_regular
from pvt_spec.files.records import read_record
from pvt_spec.model_info import ORIENTATIONS
from pvt_spec.words import show

FORMAT = 1
"""The format that is written; a change that a reader must know of counts it up."""

SOURCES = ("generated", "noise", "files", "bundle")
"""Where inputs come from; what of the first two was run can be made again from the seed."""

_HEX = re.compile("[0-9a-f]+")
_SHA256, _WEIGHT = 64, 40
"""Hexadecimal digits of the hash of a file, and of a weight or graph (its first ones)."""


@dataclass(frozen=True)
class Part:
    """A file that a model's, or a bundle, consists of.

    Attributes:
        name: Its name, without folders.
        bytes: Its size.
        sha256: Its SHA-256, in hex.
    """

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        _check_counts(self.bytes)
        _check_hash(f"part {show(self.name)}: sha256", self.sha256, _SHA256)


@dataclass(frozen=True)
class CertifiedModel:
    """What decides a model's answers, whatever file it is in.

    Attributes:
        config: The architecture.
        numerics: The maths.
        preprocessing: How an image becomes the input.
        labels: Class names in the order of the logits; empty when they are not known.
        task: What the logits mean, one of :data:`pvt_spec.TASKS`.
        weights: The hash of every weight by canonical name, by
            :func:`pvt_spec.hashes.hash_weights`.
    """

    config: PVTConfig
    numerics: Numerics
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    task: str
    weights: dict[str, str]

    def __post_init__(self) -> None:
        self.info  # noqa: B018  # refuses what contradicts itself
        for name, digest in self.weights.items():
            _check_hash(f"weights: {show(name)}", digest, _WEIGHT)

    @property
    def info(self) -> ModelInfo:
        """The description, without hashes and without where the model comes from."""
        return ModelInfo(
            self.config, self.numerics, self.preprocessing, self.labels, task=self.task
        )


@dataclass(frozen=True)
class CertifiedFile:
    """A model's file, a folder of Hugging Face, or a bundle.

    Attributes:
        name: Its name, without the folders that it is in.
        format: A format of :data:`convert.formats.table.FORMATS`, or ``"bundle"``.
        parts: What it consists of, in the order in which they were read.
        model: Which of the claim's models it holds; None of a bundle.
        graph: The hash of what an ``.onnx`` computes; "" where there is no graph.
    """

    name: str
    format: str
    parts: tuple[Part, ...]
    model: int | None
    graph: str

    def __post_init__(self) -> None:
        if self.graph:
            _check_hash(f"file {show(self.name)}: graph", self.graph, _WEIGHT)

    @property
    def digests(self) -> list[str]:
        """The hashes of its parts, sorted: by which a file is this one, whatever its name."""
        return sorted(part.sha256 for part in self.parts)


@dataclass(frozen=True)
class Image:
    """One input.

    Attributes:
        name: What a reader is shown: an image file's name without folders, or what was generated.
        group: Inputs of one group are judged together.
        sha256: The hash of what the first model was given: SHA-256 of ``CxHxW`` in ASCII, then
            little-endian float32.
        file: The SHA-256 of the image's file; "" where there is none.
    """

    name: str
    group: str
    sha256: str
    file: str

    def __post_init__(self) -> None:
        for digest in (self.sha256, *filter(None, [self.file])):
            _check_hash(f"image {show(self.name)}", digest, _SHA256)


@dataclass(frozen=True)
class Inputs:
    """What was run.

    Attributes:
        source: One of :data:`SOURCES`.
        seed: The seed of what was generated.
        image_size: (H, W) in pixels.
        orientation: What was done with a photo's EXIF orientation.
        images: The inputs, in order.
    """

    source: str
    seed: int
    image_size: tuple[int, int]
    orientation: str
    images: tuple[Image, ...]

    def __post_init__(self) -> None:
        for what, value, known in (
            ("source", self.source, SOURCES),
            ("orientation", self.orientation, tuple(ORIENTATIONS)),
        ):
            if value not in known:
                raise ConfigError(f"{what} is {show(value)}, expected one of {', '.join(known)}")
        _check_counts(self.seed, *(side - 1 for side in self.image_size))
        if not self.images:
            raise ConfigError("no images")


@dataclass(frozen=True)
class Judging:
    """What was compared, and by what.

    Attributes:
        taps: ``"all"``, ``"stages"`` or ``"logits"``.
        precision: The tolerance class that was asked for; None for that of what ran.
        atol: With ``rtol``, what was allowed in place of rounding; None where rounding judged.
        rtol: See ``atol``.
    """

    taps: str
    precision: str | None
    atol: float | None
    rtol: float | None


@dataclass(frozen=True)
class Ruling:
    """The verdict on a file in a runtime.

    Attributes:
        runtime: The runtime's name, or what a bundle says of its own.
        file: Which of the claim's files ran in it.
        precision: The tolerance class.
        same: Whether it computes the first model's function.
        first_different: The first tap that does not; None where all do.
    """

    runtime: str
    file: int
    precision: str
    same: bool
    first_different: str | None


@dataclass(frozen=True)
class Claim:
    """What is claimed: the same files, images and terms give the same bytes again.

    Attributes:
        suite: The version of this suite.
        models: The models that the files hold; the first is the reference.
        files: The files.
        inputs: What was run.
        judging: What was compared, and by what.
        runtimes: The verdicts.
        same: The verdict on all: whether every one of them is.
    """

    suite: str
    models: tuple[CertifiedModel, ...]
    files: tuple[CertifiedFile, ...]
    inputs: Inputs
    judging: Judging
    runtimes: tuple[Ruling, ...]
    same: bool

    def __post_init__(self) -> None:
        if not (self.models and self.files and self.runtimes):
            raise ConfigError("claim: without a model, a file or a runtime")
        if any(f.model is not None and not 0 <= f.model < len(self.models) for f in self.files):
            raise ConfigError("claim: a file of a model that is not there")
        if any(not 0 <= ruling.file < len(self.files) for ruling in self.runtimes):
            raise ConfigError("claim: a runtime of a file that is not there")
        if self.same != all(ruling.same for ruling in self.runtimes):
            raise ConfigError(f"claim: same is {self.same}, and its runtimes say otherwise")


@dataclass(frozen=True)
class TapFigures:
    """How far a tap is from the reference.

    Attributes:
        times: The error of the worst group of images, in units of rounding or of what was allowed;
            None where it is not finite.
        allowed: What it may be at most; None where it is not finite.
        group: That group.
        max_abs: The largest error; None where it is not finite.
    """

    times: float | None
    allowed: float | None
    group: str
    max_abs: float | None


@dataclass(frozen=True)
class Decisions:
    """What a classifier decided.

    Attributes:
        images: How many images.
        top1_agreement: The share of them whose first class is the reference's.
        top5_agreement: The share whose first five are.
        flips_within_margin: Other classes that the allowed error explains.
        flips_beyond_margin: Others.
        labelled: How many images' classes are known.
        top1: The share of these that is right; None without any.
    """

    images: int
    top1_agreement: float | None
    top5_agreement: float | None
    flips_within_margin: int
    flips_beyond_margin: int
    labelled: int
    top1: float | None

    def __post_init__(self) -> None:
        flips = self.flips_within_margin, self.flips_beyond_margin
        _check_counts(self.images, self.labelled, *flips)


@dataclass(frozen=True)
class RuntimeFigures:
    """What was measured of a ruling, which has the same place in the claim.

    Attributes:
        verdict: The verdict in words.
        seconds: The time spent in forward passes.
        decisions: What it decided; None of a model without classes.
        taps: How far each tap is, in forward order of the reference.
    """

    verdict: str
    seconds: float
    decisions: Decisions | None
    taps: dict[str, TapFigures]


@dataclass(frozen=True)
class Measured:
    """What was measured, which another run measures otherwise.

    Attributes:
        when: The time in UTC, ``2026-01-31T12:00:00Z``.
        seconds: The duration.
        runtimes: The figures of each of the claim's runtimes.
    """

    when: str
    seconds: float
    runtimes: tuple[RuntimeFigures, ...]


@dataclass(frozen=True)
class Machine:
    """What it was measured on.

    Attributes:
        packages: The versions of what is installed.
        reference: What the reference ran in.
        runtimes: The facts of each of the claim's runtimes: device, versions, switches.
    """

    packages: dict[str, str]
    reference: str
    runtimes: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Certificate:
    """A claim, what was measured for it, and the machine.

    Attributes:
        claim: What is claimed.
        measured: What was measured.
        machine: What it was measured on.
    """

    claim: Claim
    measured: Measured
    machine: Machine

    def __post_init__(self) -> None:
        counts = {len(each.runtimes) for each in (self.claim, self.measured, self.machine)}
        if len(counts) > 1:
            raise ConfigError("claim, measured and machine are of other numbers of runtimes")

    def to_bytes(self) -> bytes:
        """Returns the bytes of its file."""
        return encode_canonical({"format": FORMAT, **dataclasses.asdict(self)})


def encode_canonical(value: Any) -> bytes:
    """Returns a value as RFC 8785 writes it: UTF-8, names sorted, no space; lists for tuples.

    Raises:
        LibraryMissing: What writes it is not installed.
    """
    require("rfc8785")
    import rfc8785

    return rfc8785.dumps(value)


@dataclass(frozen=True)
class CertificateFile:
    """A certificate that was read.

    Attributes:
        path: Its file.
        sha256: The hash of the file.
        certificate: What is in it.
    """

    path: Path
    sha256: str
    certificate: Certificate


def read_certificate(path: Path) -> CertificateFile:
    """Reads a certificate.

    Raises:
        ConvertError: It cannot be read, is none, or none that this version knows.
    """
    data = _read(path)
    try:
        return CertificateFile(path, hashlib.sha256(data).hexdigest(), parse_certificate(data))
    except (ConfigError, ValueError) as error:
        raise ConvertError(
            f"{path}: no certificate ({error}): give what parity certify wrote"
        ) from error


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise ConvertError(
            f"{path}: cannot be read ({error.strerror}): expected a certificate, as parity certify "
            "writes it"
        ) from error


def parse_certificate(data: bytes) -> Certificate:
    """Returns the certificate that some bytes are.

    Raises:
        ConfigError: They say none, or one of a later format.
        ValueError: They are no JSON, or not the canonical text of what they say.
    """
    said = parse_json(data)
    if not isinstance(said, dict) or not {"format", "claim"} <= said.keys():
        raise ConfigError(f"it is {show(said)}, expected a claim")
    version = said.pop("format")
    if version != FORMAT or type(version) is not int:
        raise ConfigError(
            f"its format is {show(version)}, this version knows {FORMAT}: use the version that "
            "wrote it, or a later one"
        )
    if encode_canonical({"format": version, **said}) != data:
        raise ConfigError("it is not in the canonical form that is written: it was edited")
    return read_record(Certificate, said, "certificate", whole=_WHOLE)


_WHOLE = (
    *(PVTConfig, Numerics, Preprocessing, CertifiedModel, CertifiedFile, Claim, Inputs, Image),
    *(Judging, Ruling, Part, TapFigures, Decisions, RuntimeFigures, Measured, Machine, Certificate),
)


def _check_counts(*numbers: int) -> None:
    if min(numbers) < 0:
        raise ConfigError(f"a count is {min(numbers)}, expected 0 or more, or a side 1 or more")


def _check_hash(what: str, digest: str, digits: int) -> None:
    if len(digest) != digits or not _HEX.fullmatch(digest):
        raise ConfigError(f"{what} is {show(digest)}, expected {digits} hexadecimal digits")
