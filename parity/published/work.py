"""The work on one row of the registry, and on all: nothing but results stays on the disk."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from convert.certificates.compare import certified_parts, compare_model
from convert.certificates.record import Part, read_certificate
from convert.conversion import convert_file
from convert.hub.fetched import Fetched
from convert.hub.fetching import fetch
from convert.hub.listing import Listed, list_rows
from convert.hub.places import find_places
from convert.model.read import read_model
from convert.options import Options
from parity.certificates.certify import certify
from parity.errors import ParityError
from parity.inputs.samples import Inputs
from parity.measure.compare import Comparison
from parity.published.entry import (
    CERTIFICATE,
    RESULT,
    Entry,
    Proved,
    Written,
    is_ours,
    read_entry,
    write_entry,
)
from parity.report.taps import taps_of
from parity.run import run
from parity.selection import HOME, Terms, choose_runtimes, read_models
from pvt_packages import suite_version
from pvt_spec import ModelInfo
from pvt_spec.errors import PvtError
from pvt_spec.files.locks import sole
from pvt_spec.files.replacing import cannot_write, replacing
from pvt_spec.published import PUBLISHED
from pvt_spec.words import listed, show

RUN = ("ckpt", "pth", "onnx")
"""The formats that are run, each in its own runtime."""

_FORMATS = (".ckpt", ".pth", ".onnx", ".safetensors", "")
"""The endings of what is written; a folder of Hugging Face has none, and comes last."""

_FETCHING = "fetching"
"""The file that says that what is downloaded was not here before, so that it goes again."""

_LOCK = ".published.lock"
"""The lock that a process has on the folder of all results."""


@dataclass(frozen=True)
class Plan:
    """How all weights are treated.

    Attributes:
        output: The folder of all results.
        inputs: What a model is given, by its description.
        terms: How runtimes are compared.
        runtimes: Those that files are run in; all that are installed if empty.
        keep: Whether what was downloaded and written stays.
        described: The words for the inputs.
    """

    output: Path
    inputs: Callable[[ModelInfo], Inputs]
    terms: Terms
    runtimes: tuple[str, ...] = ()
    keep: bool = False
    described: str = ""

    @property
    def words(self) -> str:
        """What decides a result, in words."""
        return f"{self.described}; taps {self.terms.detail}; {', '.join(self.chosen)}"

    @property
    def chosen(self) -> list[str]:
        """The runtimes that files are run in, of those that their formats have."""
        return choose_runtimes(self.runtimes)


@dataclass
class _Clock:
    """How long each step took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0) + took, 3)


def work_through(
    plan: Plan,
    names: Sequence[str],
    again: bool,
    tell: Callable[[Entry, bool], None],
    say: Callable[[str], None],
) -> Iterator[list[Entry]]:
    """Yields what is known so far, after each row: what was done before is not done again.

    Args:
        plan: How weights are treated.
        names: Names of the registry; all of it if empty.
        again: Whether what was done is done again.
        tell: A function that is told every entry, and whether it was there.
        say: A function that is told what takes time.

    Raises:
        PvtError: There is no such name, nothing can be run here, or another process writes there.
    """
    rows, words, entries = list_rows(names), plan.words, []
    with sole(
        plan.output / _LOCK,
        lambda other: ParityError(
            f"{plan.output}: {other} writes results there: wait for it to end, or name another "
            "--output"
        ),
        lambda error: cannot_write([plan.output], error),
    ):
        for row in rows:
            blank = Entry(row.row.name, suite_version(), words)
            kept = read_entry(plan.output / blank.folder)
            same = kept and (kept.suite, kept.terms, kept.problem) == (blank.suite, words, "")
            entry = kept if kept and same and not again else _work(plan, row, blank, say)
            tell(entry, entry is kept)
            entries.append(entry)
            yield entries


def _work(plan: Plan, listed: Listed, blank: Entry, say: Callable[[str], None]) -> Entry:
    """Does all work on a row, and leaves its result in its folder."""
    folder, clock = plan.output / blank.folder, _Clock()
    row = listed.row
    blank = replace(blank, top1=row.top1, reported=row.reported or "", licence=row.licence or "")
    folder.mkdir(parents=True, exist_ok=True)
    _check_ours(folder, row.short)
    _clear(folder, everything=True)
    if listed.path is None:
        (folder / _FETCHING).touch()
    # Whatever ends the work, the next run knows the folder for its own.
    write_entry(folder, replace(blank, problem="was not ended"))
    try:
        with clock.step("download"):
            fetched = fetch(row.name, say)
        entry = _prove(plan, fetched, _of(blank, fetched), folder, clock)
    except PvtError as error:
        entry = replace(blank, problem=str(error))
    entry = replace(entry, seconds=clock.seconds)
    write_entry(folder, entry)
    if plan.keep:
        (folder / _FETCHING).unlink(missing_ok=True)
    else:
        _discard(folder, listed)
    return entry


def _check_ours(folder: Path, stem: str) -> None:
    """Refuses a folder that has anything but what an earlier run has left of the same weights.

    Raises:
        ParityError: It has.
    """
    ours = {f"{stem}{ending}" for ending in _FORMATS if ending}
    ours |= {f"{stem}.onnx.data", "huggingface", CERTIFICATE, RESULT, _FETCHING}
    # Who was killed while it wrote its first file has left it under a name of our own.
    there = [path.name for path in folder.iterdir() if not path.name.startswith(".pvt-")]
    others = sorted(name for name in there if name not in ours)
    known = (folder / _FETCHING).exists() or not there or is_ours(folder / RESULT, "name")
    if others or not known:
        raise ParityError(
            f"{folder}: holds what is none of ours ({listed(others or there, 3, show)}): name "
            "another --output"
        )


def _of(blank: Entry, fetched: Fetched) -> Entry:
    return replace(
        blank,
        address=fetched.address,
        sha256=fetched.sha256,
        verified=fetched.verified,
        size=fetched.size,
        licence=fetched.licence or "",
    )


def _prove(plan: Plan, fetched: Fetched, entry: Entry, folder: Path, clock: _Clock) -> Entry:
    """Converts, runs and certifies; returns the entry with all of it.

    Raises:
        PvtError: The weights cannot be read, or not be run.
    """
    source, stem = f"{PUBLISHED}{entry.name}", fetched.row.short
    written = {}
    for ending in _FORMATS[: len(RUN)]:
        written[ending] = _convert(source, folder / f"{stem}{ending}", None, clock)
    first = fetched.path
    files = [first, *(folder / each.name for each in written.values() if not each.problem)]
    models = read_models(files)
    info = models[first].info
    entry = replace(entry, variant=info.variant or "", profile=info.profile)
    pairs = [(path, HOME[path.suffix[1:]]) for path in files[1:]]
    pairs = [pair for pair in pairs if pair[1] in plan.chosen]
    if not pairs:
        raise PvtError(f"{entry.name}: nothing that was written can be run in {plan.words}")
    with clock.step("prove"):
        inputs = plan.inputs(info)
        result = run(pairs, models, inputs, plan.terms)
        made = certify(result, models, [], inputs, plan.terms).to_bytes()
    path = folder / CERTIFICATE
    with replacing(path, force=True) as stream:
        stream.write(made)
    for ending in _FORMATS[len(RUN) :]:
        target = folder / (f"{stem}{ending}" if ending else "huggingface")
        written[ending] = _convert(source, target, path if result.same else None, clock)
    with clock.step("verify"):
        formats = tuple(_verified(path, folder, each) for each in written.values())
    proved = tuple(map(_proved, result.comparisons))
    digest = hashlib.sha256(made).hexdigest()
    return replace(entry, formats=formats, runtimes=proved, certificate=digest)


def _convert(source: str, target: Path, certificate: Path | None, clock: _Clock) -> Written:
    """Writes one format; what it cannot hold is told."""
    start = time.perf_counter()
    parts: tuple[Part, ...] = ()
    problem = ""
    try:
        with clock.step("convert"):
            convert_file(source, target, options=Options(certificate=certificate))
            parts = certified_parts(read_model(target).files)
    except PvtError as error:
        problem = str(error)
    return Written(target.name, parts, problem, False, round(time.perf_counter() - start, 3))


def _verified(certificate: Path, folder: Path, written: Written) -> Written:
    """Returns the same, and whether it verifies against the certificate, as anybody can find."""
    if written.problem:
        return written
    read, path = read_certificate(certificate), folder / written.name
    standing = compare_model(read.certificate, read.sha256, path, read_model(path))
    return replace(written, verified=standing.good)


def _proved(comparison: Comparison) -> Proved:
    taps = taps_of(comparison)
    worst = comparison.worst_of(comparison.names)
    judged = taps[worst].judged
    ratio = judged.times / judged.allowed
    finite = ratio if ratio < float("inf") else None
    name = Path(comparison.file).name
    took = round(comparison.seconds, 3)
    return Proved(comparison.runtime, name, comparison.same, finite, worst, took)


def _discard(folder: Path, listed: Listed) -> None:
    """Removes what was written but for results, and what was downloaded if it was not here."""
    if (folder / _FETCHING).exists():
        row = listed.row
        places = find_places()
        (found,) = [each for each in list_rows([row.name]) if each.row.name == row.name]
        if row.repository and found.path and found.path.parent.name == "snapshots":
            shutil.rmtree(found.path.parents[1], ignore_errors=True)
        shutil.rmtree(places.folder(row.name), ignore_errors=True)
    _clear(folder, everything=False)


def _clear(folder: Path, *, everything: bool) -> None:
    """Removes what a folder has but for results; or all, but for the note of what is downloaded."""
    kept = {_FETCHING} if everything else {CERTIFICATE, RESULT}
    for path in folder.iterdir():
        if path.name not in kept:
            linked = path.is_symlink()  # to a folder, say, which stays
            shutil.rmtree(path) if path.is_dir() and not linked else path.unlink()
