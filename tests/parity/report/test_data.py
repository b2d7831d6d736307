"""A result for programs: strict JSON of a known shape, and JUnit that other programs read."""

import dataclasses
import json
import math
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from parity.measure.compare import Comparison, Judged
from parity.measure.metrics import TapError
from parity.measure.structure import Difference
from parity.measure.tolerance import FixedTolerance
from parity.report.data import FORMAT, tap_to_dict, to_dict, to_junit
from parity.report.taps import Tap
from parity.report.text import explain, verdict
from parity.result import Result
from tests.support.converting import strict_json
from tests.support.results import compared, result_of

NAMES = ("block1.0", "features", "logits")


def with_value(value: float) -> np.ndarray:
    logits = np.eye(4, 7)
    logits[3, 2] = value
    return logits


WRONG = [
    Difference("block1.0.norm1.epsilon", "1e-05", "1e-06", "block1.0.attn"),
    Difference("labels", "('<a> & \"b\"',)", "('c',)", None),
]

CASES: dict[str, dict[str, Any]] = {
    "same": {},
    "off": {"actual": {"block1.0": np.full((4, 5, 8), 1.5)}},
    "nan": {"actual": {"logits": with_value(math.nan)}},
    "inf": {"actual": {"features": np.full((4, 8), -math.inf)}},
    "shape": {"actual": {"block1.0": np.ones((4, 6, 8)), "logits": np.ones((4, 3))}},
    "reference": {"reference": {"block1.0": np.full((4, 5, 8), math.nan)}},
    "flips": {"actual": {"logits": with_value(9.0)}},
    "zeros": {"reference": {"features": np.zeros((4, 8))}},
    "noise": {
        "actual": {"features": np.ones((4, 8))},
        "reference": {"features": np.zeros((4, 8))},
    },
    "structure": {"differences": WRONG},
    "fixed": {"actual": {"logits": with_value(math.nan)}, "fixed": FixedTolerance(0.0, 0.0)},
    "<odd> & \"named\" 'ü'": {"actual": {"features": np.zeros((4, 8))}, "differences": WRONG},
}


def comparison(case: str) -> Comparison:
    """Of two groups of two images; what is not given is right."""
    given = dict(CASES[case])
    truth = dict(zip(NAMES, (np.ones((4, 5, 8)), np.ones((4, 8)), np.eye(4, 7)), strict=True))
    truth |= given.pop("reference", {})
    actual = {**truth, **given.pop("actual", {})}
    found = Comparison(case, "torch", "a.pth", "fp32", NAMES, ("logits",), **given)
    found.add(["a", "a", "b", "b"], actual, truth)
    return found


@pytest.fixture
def everything() -> Result:
    """All that can happen to a runtime, in one result."""
    return result_of(compared(), *map(comparison, CASES))


def only(found: Comparison) -> dict[str, Any]:
    """What the document says of the one runtime of a result."""
    (runtime,) = to_dict(result_of(found))["runtimes"]
    return runtime


# --- JSON


NUMBER = (int, float)
OPTIONAL = (int, float, type(None))

METRICS = {
    "max_abs": OPTIONAL,
    "scaled": OPTIONAL,
    "mean_abs": OPTIONAL,
    "rms": OPTIONAL,
    "reference_rms": OPTIONAL,
    "one_minus_cosine": OPTIONAL,
    "snr_db": OPTIONAL,
    "one_thousandth": OPTIONAL,
    "five_thousandths": OPTIONAL,
    "exact": bool,
    "count": int,
    "nans": int,
    "infs": int,
    "worst": (dict, type(None)),
    "ulps": (dict, type(None)),
}
JUDGED = {"times_rounding": OPTIONAL, "allowed": NUMBER, "within": bool}
DECISIONS = {
    "images": int,
    "top1_agreement": OPTIONAL,
    "top5_agreement": OPTIONAL,
    "flips_within_margin": int,
    "flips_beyond_margin": int,
    "first_flips_within_margin": list,
    "first_flips_beyond_margin": list,
    "not_finite": int,
    "mean_kl": OPTIONAL,
    "max_kl": OPTIONAL,
    "disagreement_rate_95": list,
    "disagreement_rate_upper_95": NUMBER,
}
RUNTIME = {
    "runtime": str,
    "name": str,
    "file": str,
    "same": bool,
    "verdict": str,
    "precision": str,
    "first_different": (str, type(None)),
    "first_out_of_bounds": (str, type(None)),
    "structure": list,
    "images": int,
    "seconds": NUMBER,
    "facts": dict,
    "decisions": (dict, type(None)),
    "taps": dict,
}
DOCUMENT = {
    "format": int,
    "same": bool,
    "reference": dict,
    "variant": (str, type(None)),
    "profile": str,
    "images": list,
    "seconds": dict,
    "runtimes": list,
}
"""What a reader may count on; a document may have more."""


def assert_shape(data: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    missing = [key for key in schema if key not in data]
    assert not missing, f"{where} lacks {missing}"
    wrong = {key: data[key] for key, types in schema.items() if not isinstance(data[key], types)}
    assert not wrong, f"{where}: {wrong}"


def test_document_is_strict_json_of_the_shape_that_readers_count_on(everything):
    data = strict_json(json.dumps(to_dict(everything), allow_nan=False))
    assert_shape(data, DOCUMENT, "the document")
    assert data["format"] == FORMAT
    assert [set(image) >= {"name", "group"} for image in data["images"]] == [True] * 2
    assert_shape(data["reference"], {"file": str, "computed_in": str}, "reference")
    for runtime in data["runtimes"]:
        assert_shape(runtime, RUNTIME, runtime["name"])
        assert_shape(runtime["decisions"], DECISIONS, f"{runtime['name']}: decisions")
        low, high = runtime["decisions"]["disagreement_rate_95"]
        assert 0 <= low <= high <= 1
        for name, tap in runtime["taps"].items():
            where = f"{runtime['name']}: {name}"
            assert_shape(tap, {**METRICS, **JUDGED, "group": str, "groups": dict}, where)
            assert tap["group"] in tap["groups"]
            for group, figures in tap["groups"].items():
                assert_shape(figures, {**METRICS, **JUDGED}, f"{where}, {group}")
            assert tap["count"] == sum(f["count"] for f in tap["groups"].values())


def test_document_says_what_the_comparisons_do(everything):
    data = to_dict(everything)
    assert data["same"] is everything.same is False
    assert [r["name"] for r in data["runtimes"]] == [c.name for c in everything.comparisons]
    for runtime, found in zip(data["runtimes"], everything.comparisons, strict=True):
        assert runtime["same"] is found.same
        assert runtime["verdict"] == verdict(found)
        assert runtime["first_different"] == found.first_different
        assert list(runtime["taps"]) == list(found.names)
        for name, tap in runtime["taps"].items():
            judged = found.judge(name)
            assert (tap["within"], tap["group"]) == (judged.within, judged.group)
            finite = judged.times if math.isfinite(judged.times) else None
            assert (tap["times_rounding"], tap["allowed"]) == (finite, judged.allowed)
            assert tap["max_abs"] in (found.total(name).max_abs, None)


def tap_of(name: str, tap: str) -> dict[str, Any]:
    found: dict[str, Any] = only(comparison(name))["taps"][tap]
    return found


def test_what_is_not_finite_is_none_and_counted():
    tap = tap_of("nan", "logits")
    assert (tap["nans"], tap["infs"], tap["within"], tap["group"]) == (1, 0, False, "b")
    assert tap["max_abs"] is tap["times_rounding"] is tap["snr_db"] is None
    assert tap["worst"] == {"image": 3, "position": [2]}
    assert tap["groups"]["a"]["within"] and tap["groups"]["a"]["max_abs"] == 0
    runtime = only(comparison("nan"))
    assert runtime["decisions"]["not_finite"] == 1 and runtime["decisions"]["max_kl"] is None
    tap = tap_of("inf", "features")
    assert (tap["nans"], tap["infs"], tap["exact"]) == (0, 32, False)


def test_what_has_another_shape_is_not_within():
    tap = tap_of("shape", "block1.0")
    assert not tap["within"] and tap["times_rounding"] is None and tap["ulps"] is None
    runtime = only(comparison("shape"))
    assert runtime["decisions"]["top1_agreement"] == 0


def test_exact_is_told_from_immeasurable():
    tap = tap_of("zeros", "features")
    assert (tap["exact"], tap["within"], tap["max_abs"], tap["snr_db"]) == (True, True, 0, None)
    tap = tap_of("noise", "features")
    assert (tap["exact"], tap["within"], tap["max_abs"], tap["scaled"]) == (False, False, 1, None)


def test_structure_is_listed_whole():
    runtime = only(comparison("structure"))
    assert runtime["structure"] == [
        {"subject": d.subject, "found": d.found, "expected": d.expected, "tap": d.tap}
        for d in WRONG
    ]
    assert not runtime["same"] and runtime["first_out_of_bounds"] is None


def test_decisions_are_shares_and_images():
    runtime = only(comparison("flips"))
    decisions = runtime["decisions"]
    assert (decisions["images"], decisions["top1_agreement"]) == (4, 0.75)
    assert decisions["flips_within_margin"] + decisions["flips_beyond_margin"] == 1
    assert decisions["first_flips_beyond_margin"] == [3]


def test_models_without_classes_have_no_decisions():
    found = Comparison("a", "torch", "a.pth", "fp32", ("features",), ("features",))
    found.add(["a"], {"features": np.ones((1, 8))}, {"features": np.ones((1, 8))})
    runtime = only(found)
    assert runtime["decisions"] is None and runtime["same"]


def test_figures_of_float32_have_a_histogram():
    error = TapError()
    ours = np.array([[1.0, 1.0, np.nextafter(np.float32(1), np.float32(2))]], np.float32)
    error.add(ours, np.ones((1, 3)))
    found = tap_to_dict(Tap("a", Judged(0.0, 4.0, "a"), error, error.worst))
    assert sum(found["ulps"].values()) == found["count"] == 3
    assert (found["ulps"]["0"], found["ulps"]["1"]) == (2, 1)
    assert found["worst"] == {"image": 0, "position": [2]}
    nothing = tap_to_dict(Tap("a", Judged(math.inf, 4.0, "a"), TapError(), None))
    assert nothing["max_abs"] is nothing["times_rounding"] is nothing["worst"] is None


# --- JUnit


def suites_of(result: Result) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(to_junit(result))
    assert root.tag == "testsuites" and {child.tag for child in root} == {"testsuite"}
    return {suite.attrib["name"]: suite for suite in root}


def test_junit_has_a_suite_per_runtime_whose_counts_are_right(everything):
    suites = suites_of(everything)
    assert list(suites) == [comparison.name for comparison in everything.comparisons]
    for found in everything.comparisons:
        suite = suites[found.name]
        cases = suite.findall("testcase")
        assert [case.attrib["name"] for case in cases] == ["structure", *found.names]
        assert {case.attrib["classname"] for case in cases} == {found.name}
        failed = [case.attrib["name"] for case in cases if case.find("failure") is not None]
        assert suite.attrib["tests"] == str(len(cases))
        assert suite.attrib["failures"] == str(len(failed))
        assert suite.attrib["errors"] == "0" and float(suite.attrib["time"]) >= 0
        wrong = [name for name in found.names if not found.judge(name).within]
        assert failed == [*(["structure"] if found.differences else []), *wrong]
        assert (not failed) is found.same
        assert suite.findtext("system-out") == verdict(found)


def test_junit_failures_carry_the_explanation(everything):
    suites, explained = suites_of(everything), 0
    for found in everything.comparisons:
        for case in suites[found.name].findall("testcase"):
            failure = case.find("failure")
            if failure is None or case.attrib["name"] == "structure":
                continue
            assert failure.text == explain(found, case.attrib["name"])
            assert failure.attrib["message"] == failure.text.splitlines()[0]
            explained += 1
    assert explained >= 8


def test_junit_names_everything_that_is_wrong_inside():
    suite = suites_of(result_of(comparison("structure")))["structure"]
    failure = suite.find("testcase[@name='structure']/failure")
    assert failure is not None and failure.text == "\n".join(map(str, WRONG))
    assert failure.attrib["message"] == str(WRONG[0])


def test_junit_is_a_file_in_utf8_that_begins_as_xml_does(everything):
    text = to_junit(everything)
    assert text.startswith("<?xml version='1.0'") and text.endswith("</testsuites>\n")
    root = ElementTree.fromstring(text.encode())
    assert any("ü" in suite.attrib["name"] for suite in root)


@pytest.mark.parametrize("name", ["bell \a.pth", "\x1b[31mred.pth", "\udce9t\udce9.pth", "\ufffe"])
def test_junit_can_be_read_whatever_a_file_is_called(name):
    """XML has no such characters, and names of files may have any."""
    result = result_of(dataclasses.replace(comparison("off"), name=f"torch {name}"))
    (suite,) = ElementTree.fromstring(to_junit(result).encode())
    assert suite.attrib["name"].startswith("torch ")
    assert suite.attrib["failures"] == "1"
    assert json.loads(json.dumps(to_dict(result)))
