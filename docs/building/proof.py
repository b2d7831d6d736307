"""Draws the picture of the problem and the proof: `python -m docs.building.proof SAME RENAMED`.

SAME is what `parity run CKPT PTH ONNX --json` printed of files that say their maths, RENAMED of the
first of them and one that was renamed into another maths. It writes `docs/static/proof-light.svg`
and `proof-dark.svg`, which are apart as a page in an `<img>` cannot tell a picture its colours.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

STATIC = Path(__file__).parents[1] / "static"
COLOURS = {
    "light": {
        "ink": "#1f2328", "faint": "#59636e", "line": "#d1d9e0", "band": "#dafbe1",
        "wrong": "#cf222e", "mindspore": "#0969da", "torch": "#bc4c00", "onnxruntime": "#1a7f37",
    },
    "dark": {
        "ink": "#f0f6fc", "faint": "#9198a1", "line": "#3d444d", "band": "#12261e",
        "wrong": "#ff7b72", "mindspore": "#58a6ff", "torch": "#ffa657", "onnxruntime": "#56d364",
    },
}  # fmt: skip
"""What each thing is drawn in, on a light page and on a dark one."""

LEFT, RIGHT, TOP, BOTTOM = 84, 716, 84, 372
"""Where the axes are, in the picture's units of 720 to 440."""

LEAST, MOST = 0.2, 20000.0
"""The ends of the axis of errors, in multiples of rounding."""


def times(proof: Mapping[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """Returns each runtime's taps in order, and how many times rounding each is off."""
    return {
        row["runtime"].split()[0]: [
            (tap, each["times_rounding"]) for tap, each in row["taps"].items()
        ]
        for row in proof["runtimes"]
    }


def points(errors: list[float]) -> list[tuple[float, float]]:
    """Returns where the taps of a runtime lie in the picture."""
    step = (RIGHT - LEFT) / len(errors)
    return [(LEFT + (n + 0.5) * step, height(error)) for n, error in enumerate(errors)]


def height(error: float) -> float:
    """Returns how far down the picture an error is, on an axis of its logarithm."""
    share = math.log(min(max(error, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return BOTTOM - share * (BOTTOM - TOP)


def stages(taps: list[str]) -> list[tuple[str, float, float]]:
    """Returns the name of each stage, and from where to where its taps lie."""
    step = (RIGHT - LEFT) / len(taps)
    of = [next((letter for letter in tap if letter.isdigit()), "") for tap in taps]
    names = sorted({*of} - {""})
    spans = [(name, of.index(name), len(of) - of[::-1].index(name)) for name in names]
    return [(f"stage {name}", LEFT + first * step, LEFT + end * step) for name, first, end in spans]


def draw(same: Mapping[str, Any], renamed: Mapping[str, Any], theme: str) -> str:
    """Returns the picture as SVG."""
    ours, theirs = times(same), times(renamed)
    series = {name: points([error for _, error in taps]) for name, taps in ours.items()}
    wrong = points([error for _, error in max(theirs.values(), key=worst)])
    source = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=source, undefined=StrictUndefined, trim_blocks=True)
    return page.get_template("proof.svg.jinja").render(
        colours=COLOURS[theme], series=series, wrong=wrong, height=height,
        left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM,
        stages=stages([tap for tap, _ in next(iter(ours.values()))]),
    )  # fmt: skip


def worst(taps: list[tuple[str, float]]) -> float:
    """Returns the largest error of a runtime."""
    return max(error for _, error in taps)


def main(same: str, renamed: str) -> None:
    """Writes both pictures."""
    proofs = [json.loads(Path(name).read_text(encoding="utf-8")) for name in (same, renamed)]
    for theme in COLOURS:
        text = draw(proofs[0], proofs[1], theme)
        (STATIC / f"proof-{theme}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
