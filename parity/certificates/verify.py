"""Files held against a certificate, offline and without a framework; and the run once more."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.certificates.compare import Standing, certified_parts, compare_model
from convert.certificates.record import CertificateFile, Claim, Inputs as CertifiedInputs, Ruling
from convert.hub import find_model
from convert.model.read import Model, read_model
from parity.bundles.bundle import SUFFIX
from parity.errors import ParityError
from parity.inputs.samples import Inputs, Sample, default_samples, noise_samples
from parity.measure.tolerance import FixedTolerance
from parity.report.data import Suite
from parity.result import Result
from parity.run import EMULATED, run
from parity.runtimes.table import RUNTIMES, missing_for
from parity.selection import Terms, at_size
from pvt_spec.words import listed


@dataclass(frozen=True)
class Verified:
    """What was found out of files.

    Attributes:
        standings: How each stands to the certificate.
        models: What is in those that hold a model.
    """

    standings: tuple[Standing, ...]
    models: dict[Path, Model]

    @property
    def good(self) -> bool:
        """Whether all are what was certified."""
        return all(standing.good for standing in self.standings)


def verify_files(read: CertificateFile, paths: Sequence[Path]) -> Verified:
    """Returns how files stand to a certificate.

    Raises:
        ConvertError: A file cannot be read.
    """
    models: dict[Path, Model] = {}
    standings = []
    for given in paths:
        if given.suffix.lower() == SUFFIX:
            standings.append(_compare_bundle(read, given))
            continue
        path, _ = find_model(given)
        model = read_model(path)
        found = compare_model(read.certificate, read.sha256, path, model)
        model.check_unchanged()
        if found.good:
            models[path] = model
        standings.append(found)
    return Verified(tuple(standings), models)


def _compare_bundle(read: CertificateFile, path: Path) -> Standing:
    """Returns how a bundle stands: there is no other container of one."""
    try:
        (part,) = certified_parts([path])
    except OSError as error:
        raise ParityError(f"{path}: cannot be read ({error.strerror})") from error
    for number, certified in enumerate(read.certificate.claim.files):
        if certified.digests == [part.sha256]:
            return Standing(path, number, 0)
    return Standing(path, None, None, ("a bundle of other bytes than any that was certified",))


def describe(read: CertificateFile, verified: Verified) -> Iterator[str]:
    """Yields what is said of a certificate and of files, a line each."""
    claim = read.certificate.claim
    first = claim.models[0].info
    runtimes = ", ".join(_name(claim, ruling) for ruling in claim.runtimes)
    yield (
        f"{read.path}: {'same' if claim.same else 'DIFFERENT'} in {runtimes}, on "
        f"{len(claim.inputs.images)} images ({claim.inputs.source}), by {claim.suite}, "
        f"{read.certificate.measured.when}: {first.variant or 'PVT'}, profile {first.profile}"
    )
    for standing in verified.standings:
        for word in _sentences(claim, standing):
            yield f"{standing.path}: {word}"


def suites_of(read: CertificateFile, verified: Verified) -> Iterator[Suite]:
    """Yields a suite of JUnit for the certificate, and one for each file."""
    words = "" if read.certificate.claim.same else "says that its runtimes DIFFER"
    yield Suite(str(read.path), {"says same": words}, f"sha256 {read.sha256}")
    for standing in verified.standings:
        said = "; ".join(_sentences(read.certificate.claim, standing))
        failed = "" if standing.good else "\n".join(standing.changes)
        yield Suite(str(standing.path), {"is what was certified": failed}, said)


def _sentences(claim: Claim, standing: Standing) -> Iterator[str]:
    if not standing.good:
        yield f"not what was certified: {'; '.join(standing.changes)}"
    elif standing.file is not None:
        yield f"the same bytes as {claim.files[standing.file].name}, which was certified"
    else:
        names = [each.name for each in claim.files if each.model == standing.model]
        yield (
            f"the same weights and description as {listed(names, 3)}, which was certified, in "
            "another file"
        )
    yield from standing.remarks


def _name(claim: Claim, ruling: Ruling) -> str:
    return f"{ruling.runtime} ({claim.files[ruling.file].name})"


@dataclass(frozen=True)
class Plan:
    """What can be run here of what was certified.

    Attributes:
        pairs: Files, and runtimes that were certified for them.
        left_out: What cannot, in words.
    """

    pairs: tuple[tuple[Path, str], ...]
    left_out: tuple[str, ...]


def plan_rerun(claim: Claim, verified: Verified) -> Plan:
    """Returns which files are to be run again where.

    A file with the bytes of a certified one is run where that was; another in every runtime that
    its model was certified in.

    Raises:
        ParityError: Nothing can be run here.
    """
    pairs: dict[tuple[Path, str], None] = {}
    left_out: dict[str, None] = {}
    for standing in verified.standings:
        if standing.path not in verified.models:
            left_out[f"{standing.path}: a bundle, which was made elsewhere"] = None
            continue
        for ruling in claim.runtimes:
            theirs = claim.files[ruling.file]
            wanted = (
                ruling.file == standing.file
                if standing.file is not None
                else (theirs.model == standing.model)
            )
            if not wanted:
                continue
            if reason := _obstacle(ruling.runtime):
                left_out[f"{ruling.runtime}: {reason}"] = None
            else:
                pairs[standing.path, ruling.runtime] = None
    if reason := missing_for("torch"):
        raise ParityError(f"{reason} (the reference runs in torch)")
    if not pairs:
        raise ParityError(f"nothing of what was certified can be run here: {'; '.join(left_out)}")
    return Plan(tuple(pairs), tuple(left_out))


def _obstacle(runtime: str) -> str | None:
    if runtime.startswith(EMULATED):
        return None
    return missing_for(runtime) if runtime in RUNTIMES else "no runtime of this version"


def check_images(inputs: Inputs, certified: CertifiedInputs, model: Model) -> None:
    """Refuses other images than those of a certificate.

    Raises:
        ParityError: Some are, or there are more or fewer.
    """
    from parity.certificates.certify import certified_images

    made = certified_images(inputs, inputs.resized(model.info.preprocessing))
    other = [
        ours.name
        for ours, theirs in zip(made, certified.images, strict=False)
        if ours.sha256 != theirs.sha256
    ]
    if len(made) != len(certified.images) or other:
        raise ParityError(
            f"{len(made)} images, {len(certified.images)} were certified"
            + (f"; not as they were: {listed(other, 4)}" if other else "")
            + ": give --images the same files (and --limit 0), in an order that sorts as then; "
            "another release of numpy or Pillow may make other pixels"
        )


def certified_samples(certified: CertifiedInputs, model: Model) -> list[Sample] | None:
    """Returns inputs that can be made again; None of files and bundles, which are to be given."""
    if certified.source == "noise":
        return noise_samples(len(certified.images), certified.seed)
    if certified.source != "generated":
        return None
    sized = dataclasses.replace(model.info.preprocessing, image_size=certified.image_size)
    return default_samples(sized, certified.seed)


def rerun(
    claim: Claim,
    verified: Verified,
    plan: Plan,
    inputs: Inputs,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Result, list[str]]:
    """Runs what was certified once more.

    Returns:
        The result, and which verdicts are others than those of the certificate, in words.

    Raises:
        PvtError: A file, an image or a runtime cannot be used.
    """
    judging = claim.judging
    fixed = None
    if judging.atol is not None and judging.rtol is not None:
        fixed = FixedTolerance(judging.atol, judging.rtol)
    terms = Terms(judging.taps, judging.precision, fixed)
    models = {path: at_size(each, inputs.image_size) for path, each in verified.models.items()}
    result = run(plan.pairs, models, inputs, terms, progress)
    certified: dict[str, bool] = {}
    for ruling in claim.runtimes:
        certified.setdefault(ruling.runtime, ruling.same)
    words = {True: "same", False: "different"}
    others = [
        f"{each.name}: {words[each.same]} here, certified {words[certified[each.runtime]]}"
        for each in result.comparisons
        if each.same != certified[each.runtime]
    ]
    return result, others
