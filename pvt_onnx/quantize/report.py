"""What came of quantising a model: for people, for programs, and as a page."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pvt_data.pages import render
from pvt_onnx.quantize.measuring.agreement import Agreement, Latency
from pvt_onnx.quantize.measuring.ranking import Cost, TapError
from pvt_onnx.reading.precision import Quantization
from pvt_spec.words import printable

_SHOWN = 5


@dataclass(frozen=True)
class Report:
    """What came of quantising a model.

    Attributes:
        source: The float model's file.
        target: The quantised model's file.
        variant: What the model is called; "" where it has no name.
        made: How it was done, as the file says it.
        measured: What the images were on which the answers are compared.
        agreement: What the quantised model keeps.
        costs: What each module costs, the dearest first; () where that was not asked for.
        taps: How far each tap is from the float model's; () with the costs.
        sizes: Bytes before and after.
        latency: Seconds before and after; None where they were not measured.
        rounds: How many times more was left in float.
        images: How many images were to be read.
        unreadable: Those that could not be, and why.
    """

    source: str
    target: str
    variant: str
    made: Quantization
    measured: str
    agreement: Agreement | None
    costs: tuple[Cost, ...]
    taps: tuple[TapError, ...]
    sizes: tuple[int, int]
    latency: Latency | None
    rounds: int
    images: int
    unreadable: Mapping[str, str]

    @property
    def kept(self) -> Mapping[str, str]:
        """The reason of each module that is left in float."""
        return self.made.kept

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yields (what, its value in words), for people."""
        yield "method", f"{self.made.method}, {self.made.rounding}"
        if self.made.calibration:
            yield "calibration", self.made.calibration
        if self.made.smooth is not None:
            yield "smoothed", f"by {self.made.smooth:g}, from norms into the layers after them"
        if self.made.gelu:
            yield "GELU", f"its {self.made.gelu} form, which is quicker; off by 0.0005 at most"
        for module, reason in self.kept.items():
            yield "left in float", f"{module}: {reason}"
        for cost in self.costs[:_SHOWN]:
            alone = f"alone takes {cost.margin:.1%} of the margin, off by {cost.error:.2%}"
            yield "costs", f"{cost.module}: {alone}"
        if self.agreement:
            yield "measured on", self.measured
            yield from self.agreement.lines()
        before, after = self.sizes
        yield (
            "size",
            f"{before:,} bytes before, {after:,} after: {before / after:.2f} times smaller",
        )
        if self.latency:
            yield "latency", str(self.latency)
        yield "wrote", self.target

    def texts(self) -> Iterator[str]:
        """Yields the lines for a terminal."""
        for what, value in self.lines():
            yield f"{what:>18}  {printable(value)}"

    def to_dict(self) -> dict[str, Any]:
        """Returns what a program would read, as JSON has it."""
        before, after = self.sizes
        return {
            "source": self.source,
            "target": self.target,
            "variant": self.variant,
            "quantization": asdict(self.made),
            "measured": self.measured,
            **(self.agreement.to_dict() if self.agreement else {}),
            "ranking": [
                {**asdict(cost), "kept": self.kept.get(cost.module, "")} for cost in self.costs
            ],
            "taps": {tap.tap: tap.error for tap in self.taps},
            "size": {"before": before, "after": after},
            "latency": self.latency.to_dict() if self.latency else None,
            "rounds": self.rounds,
            "unreadable": dict(self.unreadable),
        }


def render_page(report: Report) -> str:
    """Returns a report as a page; see :func:`pvt_data.pages.render`."""
    return render(Path(__file__).with_name("page.html.jinja"), {"report": report})
