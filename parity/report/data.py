"""A result for programs: JSON, and JUnit XML for a continuous integration."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Suite:
    """A suite of JUnit.

    Attributes:
        name: What was checked.
        cases: What of it, and why that failed; "" where it did not.
        verdict: The words for all of it.
        seconds: The duration.
    """

    name: str
    cases: Mapping[str, str]
    verdict: str
    seconds: float = 0.0


def to_junit(result: Result) -> str:
    """Returns JUnit XML: a suite per runtime, a case per tap and one for the structure."""
    return encode_junit(map(suite_of, result.comparisons))


def suite_of(comparison: Comparison) -> Suite:
    """Returns the suite of a runtime."""
    cases = {"structure": "\n".join(map(str, comparison.differences))}
    for name in comparison.names:
        within = comparison.judge(name).within
        cases[name] = "" if within else explain(comparison, name)
    return Suite(comparison.name, cases, verdict(comparison), comparison.seconds)


def encode_junit(suites: Iterable[Suite]) -> str:
    """Returns JUnit XML of suites."""
    root = ElementTree.Element("testsuites", name="parity")
    for suite in suites:
        element = ElementTree.SubElement(
            root,
            "testsuite",
            name=suite.name,
            tests=str(len(suite.cases)),
            failures=str(sum(map(bool, suite.cases.values()))),
            errors="0",
            time=f"{suite.seconds:.3f}",
        )
        for name, problem in suite.cases.items():
            case = ElementTree.SubElement(
                element, "testcase", classname=suite.name, name=name, time="0"
            )
            if problem:
                message = problem.splitlines()[0]
                ElementTree.SubElement(case, "failure", message=message).text = problem
        ElementTree.SubElement(element, "system-out").text = suite.verdict
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", xml_declaration=True)
    return _NO_XML.sub("\ufffd", text) + "\n"
