"""A run's result as a certificate."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from convert.certificates.compare import (
    all_hashes,
    certified_file,
    certified_model,
    certified_parts,
)
from convert.certificates.record import (
    Certificate,
    CertifiedFile,
    CertifiedModel,
    Claim,
    Decisions,
    Image,
    Inputs as CertifiedInputs,
    Judging,
    Machine,
    Measured,
    Ruling,
    RuntimeFigures,
    TapFigures,
)
from convert.model.read import Model
from parity.bundles.bundle import Bundle
from parity.inputs.samples import Inputs, hash_input
from parity.measure.compare import Comparison
from parity.report.taps import taps_of
from parity.report.text import verdict
from parity.result import Result
from parity.runtimes.table import machine_facts
from parity.selection import Terms
from pvt_packages import installed_version, suite_version
from pvt_spec.files.stamps import check_unchanged
from pvt_spec.model_info import Preprocessing
from pvt_spec.words import printable

_PACKAGES = ("numpy", "Pillow", "onnx", "onnxruntime", "torch", "mindspore", "openvino")
"""What may change a number, where it is installed."""

BUNDLE = "bundle"
"""The format that is said of a bundle."""


def certify(
    result: Result,
    models: Mapping[Path, Model],
    bundles: Sequence[Bundle],
    inputs: Inputs,
    terms: Terms,
) -> Certificate:
    """Returns the certificate of a run.

    Args:
        result: What it found.
        models: What was compared, by file; the first is the reference.
        bundles: What was recorded elsewhere, and judged too.
        inputs: What was run.
        terms: How it was compared.

    Raises:
        OSError: A file cannot be read.
        PvtError: An image cannot be.
    """
    held, files = _certified(models, bundles)
    order = {str(path): i for i, path in enumerate([*models, *(each.path for each in bundles)])}
    preprocessing = inputs.resized(next(iter(models.values())).info.preprocessing)
    atol, rtol = (terms.fixed.atol, terms.fixed.rtol) if terms.fixed else (None, None)
    claim = Claim(
        suite=suite_version(),
        models=tuple(held),
        files=tuple(files),
        inputs=CertifiedInputs(
            inputs.source,
            inputs.seed,
            inputs.image_size,
            inputs.orientation,
            certified_images(inputs, preprocessing),
        ),
        judging=Judging(terms.detail, terms.precision, atol, rtol),
        runtimes=tuple(_ruling(each, order[each.file]) for each in result.comparisons),
        same=result.same,
    )
    measured = Measured(
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        round(result.seconds["total"], 3),
        tuple(map(_figures, result.comparisons)),
    )
    return Certificate(claim, measured, _machine(result))


def _certified(
    models: Mapping[Path, Model], bundles: Sequence[Bundle]
) -> tuple[list[CertifiedModel], list[CertifiedFile]]:
    """Returns the models that differ from each other, and the files that hold them."""
    held: list[CertifiedModel] = []
    files = []
    for path, model in models.items():
        made = certified_model(model, all_hashes(model))
        if made not in held:
            held.append(made)
        files.append(certified_file(path, model, held.index(made)))
        model.check_unchanged()
    for bundle in bundles:
        parts = certified_parts([bundle.path])
        check_unchanged({bundle.path: bundle.stamp})
        files.append(CertifiedFile(parts[0].name, BUNDLE, parts, None, ""))
    return held, files


def certified_images(inputs: Inputs, preprocessing: Preprocessing) -> tuple[Image, ...]:
    """Returns what is said of the inputs, which are loaded once more."""
    made = []
    for sample in inputs.samples:
        path = Path(sample.name)
        read = sample.group == "images" and path.is_file()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if read else ""
        name = printable(path.name if read else sample.name)
        made.append(Image(name, sample.group, hash_input(sample.load(preprocessing)), digest))
    return tuple(made)


def _ruling(comparison: Comparison, file: int) -> Ruling:
    return Ruling(
        comparison.runtime,
        file,
        comparison.precision,
        comparison.same,
        comparison.first_different,
    )


def _figures(comparison: Comparison) -> RuntimeFigures:
    taps = {
        name: TapFigures(
            _finite(tap.judged.times),
            _finite(tap.judged.allowed),
            tap.judged.group,
            _finite(tap.error.max_abs),
        )
        for name, tap in taps_of(comparison).items()
    }
    decided = _decisions(comparison) if comparison.classifies else None
    return RuntimeFigures(verdict(comparison), round(comparison.seconds, 3), decided, taps)


def _decisions(comparison: Comparison) -> Decisions:
    found = comparison.decisions
    return Decisions(
        images=found.images,
        top1_agreement=found.same_first / found.images if found.images else None,
        top5_agreement=found.same_five / found.images if found.images else None,
        flips_within_margin=found.roundings,
        flips_beyond_margin=found.bugs,
        labelled=found.labelled,
        top1=found.accuracy if found.labelled else None,
    )


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if isfinite(number) else None


def _machine(result: Result) -> Machine:
    found = {name: installed_version(name) for name in _PACKAGES}
    packages = {name: text for name, text in found.items() if text}
    return Machine(
        {"python": machine_facts()["python"], **packages},
        result.computed_in,
        tuple({k: str(v) for k, v in each.facts.items()} for each in result.comparisons),
    )
