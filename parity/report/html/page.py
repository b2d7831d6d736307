"""A result as a page: one file that needs nothing else, for someone who was not there.

What is here are values; ``page.html.jinja`` says where they stand, ``page.css`` how they look.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from parity.measure.compare import Comparison
from parity.measure.decisions import Decisions
from parity.measure.tolerance import FACTOR, FACTOR_OF_FEW, FEW, find_tolerance
from parity.report.html.images import shown_images
from parity.report.html.maps import error_maps, scale_pictures
from parity.report.html.plot import shared_axes
from parity.report.html.templates import render
from parity.report.numbers import figure
from parity.report.taps import TAP_COLUMNS, explanations, taps_of
from parity.report.text import compared_taps, strictness, unseen, verdict, worst_taps
from parity.result import Result
from pvt_spec import tap_names
from pvt_spec.words import counted


def to_html(result: Result) -> str:
    """Returns the whole page; see :func:`parity.report.html.templates.render`."""
    comparisons, axes = result.comparisons, shared_axes(result)
    preprocessing = dataclasses.replace(result.info.preprocessing, image_size=result.image_size)
    return render(
        "page.html.jinja",
        result=result,
        comparisons=comparisons,
        model=result.info.variant or "PVT",
        different=sum(not comparison.same for comparison in comparisons),
        classifies=any(comparison.classifies for comparison in comparisons),
        verdicts=[(c, verdict(c).removeprefix(c.name)) for c in comparisons],
        fixed=comparisons[0].fixed,
        bounds={"factor": FACTOR, "of_few": FACTOR_OF_FEW, "few": FEW},
        axes=axes,
        stages=list(worst_taps(result)),
        columns=[column for column in TAP_COLUMNS if column.heading],
        explanations=list(explanations()),
        taps=[taps_of(comparison) for comparison in comparisons],
        decisions=list(_decisions(result)),
        images=list(shown_images(result, preprocessing)),
        maps=[list(error_maps(result, c, preprocessing)) for c in comparisons],
        scale=scale_pictures(),
        what_ran=list(_what_ran(result)),
        runs=[(comparison.name, list(_facts(comparison))) for comparison in comparisons],
    )


def _decisions(result: Result) -> Iterator[tuple[str, list[str]]]:
    """Yields a title, and what it is of each runtime."""

    def flips(number: int, first: Sequence[int]) -> str:
        names = ", ".join(result.samples[i].name for i in first)
        return f"{number}: {names}{', …' if number > len(first) else ''}" if number else "0"

    told: dict[str, Callable[[Decisions], str]] = {
        "top-1 agrees": lambda d: _share(d.same_first, d.images),
        "top-5 agree, in any order": lambda d: _share(d.same_five, d.images),
        "flips within the margin": lambda d: flips(d.roundings, d.first_roundings),
        "flips beyond the margin": lambda d: flips(d.bugs, d.first_bugs),
        "logits not finite": lambda d: counted(d.not_finite, "image"),
        "KL divergence, mean": lambda d: f"{figure(d.mean_divergence)} nats",
        "KL divergence, largest": lambda d: f"{figure(d.max_divergence)} nats",
        "rate of flips, 95 % interval": lambda d: " to ".join(
            f"{rate:.2%}" for rate in d.disagreement_interval
        ),
        "rate of flips, 95 % upper bound": lambda d: f"{d.disagreement_upper:.2%}",
    }
    if any(comparison.decisions.labelled for comparison in result.comparisons):
        told |= {
            "labelled images": lambda d: f"{d.labelled:,}",
            "accuracy, top-1": lambda d: _share(d.right, d.labelled),
            "of the reference": lambda d: _share(d.reference_right, d.labelled),
            "accuracy, top-5": lambda d: _share(d.right_five, d.labelled),
            "of the reference, top-5": lambda d: _share(d.reference_right_five, d.labelled),
            "only the runtime is right": lambda d: counted(d.only_right, "image"),
            "only the reference is right": lambda d: counted(d.only_reference_right, "image"),
            "McNemar's p": lambda d: (
                "-" if d.accuracy_p_value is None else f"{d.accuracy_p_value:.3g}"
            ),
        }
    for title, say in told.items():
        yield title, [say(c.decisions) if c.classifies else "-" for c in result.comparisons]


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} ({part / whole:.2%})" if whole else "-"


def _what_ran(result: Result) -> Iterator[tuple[str, str]]:
    info = result.info
    H, W = result.image_size
    groups = Counter(sample.group for sample in result.samples)
    yield "reference", result.reference
    yield "computed in", result.computed_in
    if result.certificate:
        yield "certificate, by its SHA-256", result.certificate
    yield "variant", info.variant or "none by name"
    yield "profile of maths", info.profile
    yield "image size", f"{H} × {W} pixels"
    yield "images", ", ".join(f"{number} {group}" for group, number in groups.items())
    yield "taps", f"{len(compared_taps(result))} of {len(tap_names(info.config))}"
    yield from (("file says: " + name, value) for name, value in info.provenance.items())
    yield from ((f"seconds, {name}", f"{value:.1f}") for name, value in result.seconds.items())


def _facts(comparison: Comparison) -> Iterator[tuple[str, str]]:
    yield "file", comparison.file
    if comparison.fixed:
        fixed = comparison.fixed
        yield "judged by", f"|difference| ≤ {fixed.atol:g} + {fixed.rtol:g} |reference|"
    else:
        reason = find_tolerance(comparison.precision).reason
        yield "precision class", f"{comparison.precision}: {reason}"
        measured = "measured on these images" if comparison.envelope else "from the table"
        yield "1× rounding", "; ".join([measured, *strictness(comparison)])
    yield from comparison.facts.items()
    yield from (("taps", text) for text in unseen(comparison))
    yield "seconds in forward passes", f"{comparison.seconds:.2f}"
