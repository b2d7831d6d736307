"""A conversion from file to file: read, check, change, write; and its report.

May import numpy, pvt_spec and pvt_onnx's graph builder.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.changes import Changes, apply, with_numerics
from convert.dialects import Dialect
from convert.errors import ConvertError
from convert.findings import Finding, as_facts
from convert.maths import differences, estimate_gap, target_numerics
from convert.model_file import Given, Model, read_model
from convert.replacing import refuse_existing, replacing
from convert.saving import OnnxOptions, planned_files, save_model, target_dialect
from convert.translation import count_changes, names_by_canonical
from pvt_spec.arrays import Array

Tell = Callable[[Finding], None]


@dataclass(frozen=True)
class Target:
    """How to write the target.

    Attributes:
        dialect: Its names; None for the format's own, with which any maths travels.
        onnx: Of an ``.onnx`` alone.
        force: Whether existing files are replaced.
        allow_different_maths: Whether the code behind the dialect may compute other maths than
            the source's.
        allow_nonfinite: Whether weights may be NaN or infinite.
        report: A JSON file to write about the conversion.
    """

    dialect: str | None = None
    onnx: OnnxOptions = OnnxOptions()
    force: bool = False
    allow_different_maths: bool = False
    allow_nonfinite: bool = False
    report: Path | None = None


def convert_file(
    source: Path,
    path: Path,
    *,
    given: Given = Given(),
    changes: Changes = Changes(),
    target: Target = Target(),
    tell: Tell = lambda finding: None,
) -> Model:
    """Converts one model file to another, whole or not at all.

    Args:
        source: The file to read, or a folder of Hugging Face.
        path: The file or folder to write.
        given: What the user says about the source.
        changes: What to change on the way.
        target: How to write.
        tell: Is told every finding as soon as it is found.

    Returns:
        The model as it was written.

    Raises:
        ConvertError: The source cannot be read, or the target not be written as asked.
        FileExists: The target or the report exists and may not be replaced.
    """
    for planned in [*planned_files(path, target.onnx), *filter(None, [target.report])]:
        refuse_existing(planned, target.force)
    told: list[Finding] = []

    def found(finding: Finding) -> None:
        told.append(finding)
        tell(finding)

    read = read_model(source, given)
    for finding in read.findings:
        found(finding)
    for field, guess in read.guesses.items():
        if not (field == "image_size" and changes.image_size and read.info.config.version == 2):
            found(Finding("guess", guess))
    names = target_dialect(path, target.dialect, read.info.config.version)
    if target.report:
        _check_report(target.report, path, [*read.files, *planned_files(path, target.onnx)])
    if not target.allow_nonfinite:
        check_finite(source, read.weights)
    model = apply(read, _implied(changes, names, read))
    model = _settle_maths(model, names, path, target, found)
    if not target.allow_nonfinite:
        held = {id(array) for array in read.weights.values()}
        check_finite(path, {n: a for n, a in model.weights.items() if id(a) not in held})
    for finding in model.findings[len(read.findings) :]:
        found(finding)
    for finding in _describe_names(read, model, names):
        found(finding)
    written = save_model(
        path,
        model.weights,
        model.info,
        force=target.force,
        dialect=target.dialect,
        onnx=target.onnx,
    )
    found(Finding("wrote", [str(file) for file in written], _size(written)))
    if target.report:
        _write_report(target.report, read.files, written, told, target.force)
    return model


def _check_report(report: Path, path: Path, models: Iterable[Path]) -> None:
    """Holds if a report can be written without harm, which happens once the target is there.

    Raises:
        ConvertError: It is a file of the source or target, or there is no such folder.
    """
    if report.resolve() in [file.resolve() for file in models]:
        raise ConvertError(f"{report}: is a file of the source or target: name another report")
    if report.parent != path and not report.parent.is_dir():
        raise ConvertError(f"{report}: there is no folder {report.parent}: make it first")


def _write_report(
    path: Path,
    source: Iterable[Path],
    target: Iterable[Path],
    findings: Iterable[Finding],
    force: bool,
) -> None:
    facts = {
        "source": [describe_file(file) for file in source],
        "target": [describe_file(file) for file in target],
        **as_facts(findings),
    }
    with replacing(path, force) as stream:
        stream.write(json.dumps(facts, indent=1).encode() + b"\n")


def _implied(changes: Changes, names: Dialect, model: Model) -> Changes:
    """The changes, with what the target's dialect asks for."""
    if names.features_only and not model.info.config.features_only:
        return dataclasses.replace(changes, features_only=True)
    return changes


def _settle_maths(model: Model, names: Dialect, path: Path, target: Target, found: Tell) -> Model:
    """The model with the maths that the code behind the target's dialect computes.

    Raises:
        ConvertError: They are others, and that was not allowed.
    """
    if not target.dialect and names.name != "hf":
        return model
    theirs = target_numerics(names, model.info.numerics, model.info.config)
    differing = differences(model, theirs)
    if differing:
        for field, (ours, other) in differing.items():
            facts = {"field": field, "here": ours, "there": other}
            text = f"{field}: {ours} here, {other} in {names.name}"
            found(Finding("maths_differ", facts, text=text))
        gap = estimate_gap(model, theirs)
        note = "two images of noise, in onnxruntime"
        found(Finding("estimated_gap", dataclasses.asdict(gap), note, str(gap)))
        if not target.allow_different_maths:
            other = "no --to-dialect" if target.dialect else "a file instead of a folder"
            raise ConvertError(
                f"{path}: the code behind dialect {names.name} would answer otherwise than "
                f"{model.info.profile} does ({', '.join(differing)}; {gap}): give "
                f"--allow-different-maths to write it nevertheless, or {other}, so that the maths "
                "travels with it"
            )
    return with_numerics(model, theirs, changed=bool(differing))


def check_finite(path: Path, weights: Mapping[str, Array]) -> None:
    """Holds if no weight is NaN or infinite.

    Raises:
        ConvertError: Some are: how many, in which tensors.
    """
    problems = []
    for name, array in weights.items():
        # A sum of finite numbers may overflow, but none with others is finite: so this is quick.
        with np.errstate(all="ignore"):
            if np.isfinite(array.sum(dtype=np.float32)):
                continue
            nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        if nan or inf:
            problems.append(f"{name}: {nan} NaN, {inf} infinite, of {array.size}")
    if problems:
        raise ConvertError(
            f"{path}: {len(problems)} tensors with values that are no numbers (training diverged, "
            "or a cast overflowed); give --allow-nonfinite to convert them as they are\n  "
            + "\n  ".join(problems)
        )


def _describe_names(read: Model, model: Model, names: Dialect) -> Iterator[Finding]:
    """What became of the source's names."""
    yield Finding("names", names.name)
    bare = not model.info.config.num_classes
    target = names_by_canonical(names.groups(model.info.config, bare=bare))
    for what, count in count_changes(read.names, target).items():
        if count or what == "renamed":
            yield Finding(what, count)


def _size(files: Iterable[Path]) -> str:
    return f"{sum(file.stat().st_size for file in files):,} bytes"


def describe_file(path: Path) -> dict[str, Any]:
    """Name, size and hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return {"file": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}
