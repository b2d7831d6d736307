"""A conversion from file to file: read, check, change, write; and its report."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.certificates.compare import model_changes
from convert.certificates.record import CertificateFile, read_certificate
from convert.findings import Finding, to_dict
from convert.formats.table import FOLDER, find_format
from convert.hub import find_model
from convert.model.answers import replaced_in_transformers
from convert.model.changes import apply, halve, with_numerics
from convert.model.embedded import measure_preprocessing
from convert.model.maths import Differences, Gap, differences, estimate_gap, noise_size
from convert.model.read import Model, read_model
from convert.model.write import save_model, target_dialect
from convert.names.dialects import Dialect
from convert.names.translation import count_changes, names_by_canonical
from convert.options import Changes, Given, Options
from convert.training.checkpoint import save_training
from convert.training.moving import check_alone, check_holds_state, next_to_do
from convert.training.state import read_training
from pvt_spec import output_names
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import encode_json
from pvt_spec.files.models import CONFIG, LAST, reaching, run_file
from pvt_spec.files.replacing import (
    AnyPath,
    check_distinct,
    check_folder,
    check_not_read,
    check_target,
    replacing,
)
from pvt_spec.files.stamps import (
    Stamps,
    check_unchanged,
    describe_file,
    describing,
    made_of,
    stamp_files,
)
from pvt_spec.hashes import describe_changes
from pvt_spec.precisions import FLOAT16
from pvt_spec.published import published_name
from pvt_spec.words import counted


@checked
def convert_file(
    source: AnyPath,
    target: AnyPath,
    *,
    given: Given = Given(),
    changes: Changes = Changes(),
    options: Options = Options(),
    tell: Callable[[Finding], None] = lambda finding: None,
) -> Model:
    """Converts one model file to another, whole or not at all.

    Args:
        source: The file to read, a folder of Hugging Face, or the name of published weights.
        target: The file or folder to write.
        given: What the user says about the source.
        changes: The changes to make on the way.
        options: The way to write the target.
        tell: A function that is told every finding as soon as it is found.

    Returns:
        The model as it was written.

    Raises:
        ConvertError: The source cannot be read or was changed since it was written, or the target
            not be written as asked.
        FileExists: The target or the report exists and may not be replaced.
    """
    source, path = Path(source), Path(target)
    if options.training_state:
        return _move_training(source, path, given, changes, options, _Log(tell))
    # What would be downloaded waits until it is known that the target can be written.
    found = source if published_name(source) is not None else find_model(source)[0]
    planned = _check_places(found, path, options)
    reports = [options.report] if options.report else []
    log = _Log(tell)
    keep_head = changes.num_classes != 0 and not changes.features_only
    read = read_model(source, given, keep_head=keep_head)
    log.add(_read_findings(read, changes))
    if read.changed and not options.allow_changed:
        raise ConvertError(
            f"{source}: {describe_changes(read.changed)}; copy or download it again, or give "
            "--allow-changed to convert its weights as they are, with the maths that it says"
        )
    if read.rounded and not options.allow_changed:
        raise ConvertError(
            f"{source}: {read.rounded}, so its weights are rounded: convert the file that it was "
            "made from, or give --allow-changed to convert what they were rounded to"
        )
    sources = [*read.files, *filter(None, [options.certificate])]
    check_not_read([path, *planned, *reports], sources)
    check_distinct([*planned, *reports])
    model = _prepare(read, path, changes, options, log)
    certificate = _certificate_of(model, path, options, log)
    with _writing(read.stamps, options) as described:
        written = save_model(
            path,
            model.weights,
            model.info,
            force=options.force,
            dialect=options.dialect,
            onnx=options.onnx,
            hashes=model.hashes,
            certificate=certificate,
        )
    log.add([Finding("wrote", [str(file) for file in written], _size_of(written))])
    if options.onnx.embed and "embed" in find_format(path).options:
        log.add(measure_preprocessing(written[0], model.info))
    steps = find_format(path).next_steps(written[0], model.info, options.onnx)
    log.add(Finding("next_step", step) for step in steps)
    if options.report:
        _write_report(options, read.files, read.stamps, described, log.told)
    return model


@contextmanager
def _writing(source: Stamps, options: Options) -> Iterator[dict[Path, dict[str, Any]]]:
    """Yields what is to be reported of files that are written in the block, made of a source."""
    with made_of(source), ExitStack() as stack:
        yield stack.enter_context(describing()) if options.report else {}


def _size_of(written: Iterable[Path]) -> str:
    """Returns how large a target is; another process may be replacing it already."""
    try:
        return f"{sum(file.stat().st_size for file in written):,} bytes"
    except FileNotFoundError:
        return "another process is replacing them"


def _certificate_of(
    model: Model, path: Path, options: Options, log: "_Log"
) -> CertificateFile | None:
    """Returns the certificate that is asked for, if it is one of the model that is written.

    Raises:
        ConvertError: It is none, of another model, or says that runtimes differ.
    """
    if options.certificate is None:
        if model.certificate:
            note = "the source's, which DST does not carry: give it with --certificate"
            log.add([Finding("certificate", model.certificate, note)])
        return None
    read = read_certificate(options.certificate)
    if changes := model_changes(read.certificate, model):
        raise ConvertError(
            f"{path}: would not be what {read.path} is about ({'; '.join(changes)}): certify what "
            "is written, or leave out --certificate"
        )
    if not read.certificate.claim.same:
        raise ConvertError(f"{read.path}: says that its runtimes DIFFER: there is nothing to carry")
    log.add([Finding("certificate", read.sha256, read.path.name)])
    return read


@dataclass(frozen=True)
class _Log:
    """What was found, told as soon as it is, and kept for the report."""

    tell: Callable[[Finding], None]
    told: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Tells and keeps them."""
        for finding in findings:
            self.told.append(finding)
            self.tell(finding)


def _move_training(
    source: Path, path: Path, given: Given, changes: Changes, options: Options, log: _Log
) -> Model:
    """Moves the whole state of a training as it is; returns the model in what was written.

    Raises:
        ConvertError: There is none in the source, something else is asked for too, or the target
            cannot hold it.
        FileExists: The target or the report exists and may not be replaced.
    """
    check_alone(given, changes, options)
    found = source if not source.is_dir() else run_file(source, LAST) or source
    planned = _check_places(found, path, options)
    check_holds_state(path)
    reports = [options.report] if options.report else []
    check_not_read([*planned, *reports], [found])
    check_distinct([*planned, *reports])
    stamps = stamp_files(found)
    state = read_training(found)
    log.add(state.findings)
    check_finite(found, state.tensors)
    with _writing(stamps, options) as described:
        save_training(path, state.tensors, state.info, state.facts, force=options.force)
    log.add(next_to_do(state, found, path))
    log.add([Finding("wrote", [str(path)], f"{path.stat().st_size:,} bytes")])
    if options.report:
        _write_report(options, [found], stamps, described, log.told)
    return read_model(path)


def _prepare(read: Model, path: Path, changes: Changes, options: Options, log: _Log) -> Model:
    """Returns the model as it is to be written: changed as asked, with the target's maths.

    Raises:
        ConvertError: It cannot be changed or written so.
    """
    names = target_dialect(path, options.dialect, read.info.config.version)
    if not options.allow_nonfinite:
        check_finite(read.files[0], read.weights)
    if names.features_only and not read.info.config.features_only:
        changes = dataclasses.replace(changes, features_only=True)
    model = apply(read, changes)
    if options.onnx.precision == FLOAT16 and "precision" in find_format(path).options:
        model = halve(model)
    if options.dialect or not find_format(path).carries_maths:
        model = _settle_maths(model, names, path, options, log)
    if not find_format(path).carries_maths:
        log.add(replaced_in_transformers(model.info))
    held = {id(array) for array in read.weights.values()}
    if not options.allow_nonfinite:
        check_finite(path, {n: a for n, a in model.weights.items() if id(a) not in held})
    log.add(model.findings[len(read.findings) :])
    log.add(_describe_target(read, model, names))
    log.add(_missing_beside(path, names))
    if options.allow_nonfinite and (not_finite := count_not_finite(model.weights)):
        log.add([Finding("not_finite", not_finite)])
    return model


def _read_findings(read: Model, changes: Changes) -> Iterator[Finding]:
    """Yields what was found out about the source, less what does not matter to the target."""
    without = {"features_only"} if changes.features_only or changes.num_classes == 0 else set()
    # v2 takes any size as it is: where one is given, what it was made for is of no account.
    if read.info.config.version == 2 and changes.image_size and "image_size" in read.guesses:
        without.add("image_size")
    yield from (finding for finding in read.findings if finding.what not in without)
    for what, guess in read.guesses.items():
        if what not in without:
            yield Finding("guess", guess)


def _check_places(source: Path, path: Path, options: Options) -> list[Path]:
    """Refuses, before anything is read, a target that cannot be written; returns its files.

    Raises:
        ConvertError: There is no folder for it, or it is the source, of which it would keep the
            weights alone.
        ConfigError: The opset cannot be written.
        FileExists: It or the report exists and may not be replaced.
    """
    if published_name(path) is not None:
        raise ConvertError(f"{path}: a name of published weights, expected a file to write")
    planned = find_format(path).planned(path, options.onnx)
    with reaching(path):
        check_folder(path)
        for file in planned:
            if file.parent.is_dir():
                check_folder(file)
            if file.exists() and source.exists() and file.samefile(source):
                raise ConvertError(f"{file} is the source too: name another target")
    if options.report and (options.report.parent != path or path.is_dir()):
        check_folder(options.report)
    if options.report and options.report.exists() and not options.report.is_file():
        raise ConvertError(f"{options.report}: a folder or a device, expected a file to write")
    for file in [*planned, *filter(None, [options.report])]:
        check_target(file, options.force)
    return planned


def _write_report(
    options: Options,
    source: Iterable[Path],
    stamps: Stamps,
    written: Mapping[Path, dict[str, Any]],
    told: Iterable[Finding],
) -> None:
    assert options.report
    facts = {"source": [*map(describe_file, source)], "target": [*written.values()]}
    check_unchanged(stamps)
    with replacing(options.report, options.force) as stream:
        stream.write(encode_json({**facts, **to_dict(told)}, indent=1).encode() + b"\n")


def _settle_maths(
    model: Model,
    names: Dialect,
    path: Path,
    options: Options,
    log: _Log,
) -> Model:
    """Returns the model with the maths that the code behind the target's dialect computes.

    Raises:
        ConvertError: They are others, and that was not allowed.
    """
    theirs = names.numerics(model.info.numerics, model.info.config)
    differing = differences(model, theirs)
    if differing:
        gap = estimate_gap(model, theirs)
        log.add(_maths_findings(model, differing, gap, names))
        if not options.allow_different_maths:
            other = "no --to-dialect" if options.dialect else "a file instead of a folder"
            raise ConvertError(
                f"{path}: the code behind dialect {names.name} would answer otherwise than "
                f"{model.info.profile} does ({', '.join(differing)}; {gap}): give "
                f"--allow-different-maths to write it nevertheless, or {other}, so that the maths "
                "travels with it"
            )
    return with_numerics(model, theirs, changed=bool(differing))


def _maths_findings(
    model: Model, differing: Differences, gap: Gap, names: Dialect
) -> Iterator[Finding]:
    """Yields what the code behind the target's dialect computes otherwise, and what it changes."""
    for what, (ours, other) in differing.items():
        facts = {"field": what, "here": ours, "there": other}
        yield Finding("maths_differ", facts, text=f"{what}: {ours} here, {other} in {names.name}")
    size = noise_size(model)
    smaller = "" if size == model.info.preprocessing.image_size else " of {}x{}".format(*size)
    note = f"two images of noise{smaller}, in onnxruntime"
    yield Finding("estimated_gap", dataclasses.asdict(gap), note, str(gap))


def _facts(model: Model) -> dict[str, str]:
    info = model.info
    H, W = info.preprocessing.image_size
    return {
        "classes": str(info.config.num_classes),
        "answers": ", ".join(output_names(info.config)),
        "profile": info.profile,
        "image size": f"{H}x{W}",
    }


def count_not_finite(weights: Mapping[str, Array]) -> dict[str, str]:
    """Returns how many values are NaN and how many infinite, by the tensors that have any."""
    found = {}
    for name, array in weights.items():
        # A sum of finite numbers may overflow, but none with others is finite: so this is quick.
        with np.errstate(all="ignore"):
            if np.isfinite(array.sum(dtype=np.float32)):
                continue
            nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        if nan or inf:
            found[name] = f"{nan} NaN, {inf} infinite, of {array.size}"
    return found


def check_finite(path: Path, weights: Mapping[str, Array]) -> None:
    """Refuses weights that are NaN or infinite.

    Raises:
        ConvertError: Some are: how many, in which tensors.
    """
    problems = [f"{name}: {counts}" for name, counts in count_not_finite(weights).items()]
    if problems:
        raise ConvertError(
            f"{path}: {counted(len(problems), 'tensor')} with values that are no numbers (training "
            "diverged, or a cast overflowed); give --allow-nonfinite to convert them as they are"
            "\n  " + "\n  ".join(problems)
        )


def _describe_target(read: Model, model: Model, names: Dialect) -> Iterator[Finding]:
    """Yields what became of the source's model and of its names."""
    before, after = _facts(read), _facts(model)
    changed = {what: value for what, value in after.items() if value != before[what]}
    if changed:
        yield Finding("becomes", changed)
    yield Finding("names", names.name)
    bare = not model.info.config.num_classes
    target = names_by_canonical(names.pairings(model.info.config, bare=bare))
    for what, count in count_changes(read.names, target).items():
        if count or what == "renamed":
            yield Finding(what, count)


def _missing_beside(path: Path, names: Dialect) -> Iterator[Finding]:
    """Yields a warning of weights that their loader takes for nothing without a file beside."""
    alone = find_format(path).beside_config and names.name == FOLDER.dialect
    if alone and not (path.parent / CONFIG).exists():
        needs = f"no {CONFIG} beside it, which from_pretrained needs"
        yield Finding("warning", f"{needs}: name a folder to have one written")
