"""A result for programs: JSON, and JUnit XML for a continuous integration."""

import math
import re
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from parity.measure.compare import Comparison
from parity.measure.decisions import Decisions
from parity.report.taps import TAP_COLUMNS, Tap, groups_of, taps_of
from parity.report.text import explain, verdict
from parity.result import Result

FORMAT = 2
"""The JSON document's version; a change that a reader must know of counts it up."""

_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not have; names of files may have any."""


def to_dict(result: Result) -> dict[str, Any]:
    """Returns everything that was measured; numbers that are not finite are None."""
    return {
        "format": FORMAT,
        "same": result.same,
        "reference": {"file": result.reference, "computed_in": result.computed_in},
        "variant": result.info.variant,
        "profile": result.info.profile,
        "image_size": list(result.image_size),
        "images": [{"name": s.name, "group": s.group} for s in result.samples],
        "seconds": result.seconds,
        "runtimes": [_comparison(comparison) for comparison in result.comparisons],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "runtime": comparison.runtime,
        "name": comparison.name,
        "file": comparison.file,
        "same": comparison.same,
        "verdict": verdict(comparison),
        "precision": comparison.precision,
        "kernels": {"of": comparison.kernels.name, "known": comparison.kernels.known},
        "answers_alone": comparison.answers_alone,
        "first_different": comparison.first_different,
        "first_out_of_bounds": comparison.first_out_of_bounds,
        "checked": comparison.checked,
        "missing_taps": list(comparison.missing),
        "structure": [asdict(difference) for difference in comparison.differences],
        "images": comparison.images,
        "seconds": comparison.seconds,
        "facts": comparison.facts,
        "decisions": _decisions(comparison) if comparison.classifies else None,
        "taps": {name: _tap(comparison, tap) for name, tap in taps_of(comparison).items()},
    }


def _tap(comparison: Comparison, tap: Tap) -> dict[str, Any]:
    groups = {group: tap_to_dict(each) for group, each in groups_of(comparison, tap.name).items()}
    for figures in groups.values():
        del figures["group"]
    return {**tap_to_dict(tap), "groups": groups}


def tap_to_dict(tap: Tap) -> dict[str, Any]:
    """Returns every column of one tap that JSON has."""
    found = {column.key: column.value_of(tap) for column in TAP_COLUMNS if column.key}
    return {key: _finite(v) if isinstance(v, float) else v for key, v in found.items()}


def _decisions(comparison: Comparison) -> dict[str, Any]:
    decisions = comparison.decisions
    images = decisions.images
    return {
        "images": images,
        "top1_agreement": decisions.same_first / images if images else None,
        "top5_agreement": decisions.same_five / images if images else None,
        "flips_within_margin": decisions.roundings,
        "flips_beyond_margin": decisions.bugs,
        "first_flips_within_margin": decisions.first_roundings,
        "first_flips_beyond_margin": decisions.first_bugs,
        "not_finite": decisions.not_finite,
        "mean_kl": _finite(decisions.mean_divergence),
        "max_kl": _finite(decisions.max_divergence),
        "disagreement_rate_95": list(decisions.disagreement_interval),
        "disagreement_rate_upper_95": decisions.disagreement_upper,
        "accuracy": _accuracy(decisions) if decisions.labelled else None,
    }


def _accuracy(decisions: Decisions) -> dict[str, Any]:
    """Returns shares in [0, 1] of the images whose label is known."""
    labelled = decisions.labelled
    return {
        "images": labelled,
        "top1": decisions.accuracy,
        "top5": decisions.right_five / labelled,
        "reference_top1": decisions.reference_accuracy,
        "reference_top5": decisions.reference_right_five / labelled,
        "only_right": decisions.only_right,
        "only_reference_right": decisions.only_reference_right,
        "mcnemar_p": decisions.accuracy_p_value,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_junit(result: Result) -> str:
    """Returns JUnit XML: a suite per runtime, a case per tap and one for the structure."""
    suites = ElementTree.Element("testsuites", name="parity")
    for comparison in result.comparisons:
        failures = {
            name: explain(comparison, name)
            for name in comparison.names
            if not comparison.judge(name).within
        }
        if comparison.differences:
            failures["structure"] = "\n".join(map(str, comparison.differences))
        cases = ["structure", *comparison.names]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=comparison.name,
            tests=str(len(cases)),
            failures=str(len(failures)),
            errors="0",
            time=f"{comparison.seconds:.3f}",
        )
        for case in cases:
            element = ElementTree.SubElement(
                suite, "testcase", classname=comparison.name, name=case, time="0"
            )
            if case in failures:
                message = failures[case].splitlines()[0]
                failure = ElementTree.SubElement(element, "failure", message=message)
                failure.text = failures[case]
        ElementTree.SubElement(suite, "system-out").text = verdict(comparison)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
    return _NO_XML.sub("\ufffd", text) + "\n"
