"""What ``pvt-onnx quantize`` is asked for, and the words for it. Nothing heavy is imported."""

from dataclasses import dataclass

from pvt_spec import ConfigError
from pvt_spec.arguments import CheckedFields

METHODS = ("static", "dynamic")
"""Whether the ranges of activations are found by calibration, or anew in every run."""

CALIBRATIONS = ("minmax", "percentile", "entropy")
"""How a range is chosen from calibration's values: all of them, all but the rarest, or the range
whose distribution is nearest."""

ACTIVATIONS = {"uint8": 8, "int8": 8, "uint16": 16}
"""What activations are rounded to, and its bits; int8 is symmetric, about a zero that is 0."""


@dataclass(frozen=True)
class QuantizeOptions(CheckedFields):
    """How a model is quantised, and what it has to keep.

    Attributes:
        method: One of :data:`METHODS`.
        activations: A key of :data:`ACTIVATIONS`; None for the target's own.
        calibrate: One of :data:`CALIBRATIONS`.
        calibration_images: How many images calibrate.
        full_range: Whether weights have all 8 bits, or 7; None for 8 where this CPU adds up the
            products of 8 bits without saturating, else 7.
        smooth: How much of the activations' spread between channels goes into the weights, 0 to 1
            (the exponent of SmoothQuant, Xiao et al. 2023, equation 4); None for none.
        keep: Modules that stay in float, as ``block1.0.attn``, or patterns of them.
        max_drop: The most points of Top-1 that may be lost; None for any.
        min_agreement: The smallest share of images, 0 to 1, on which the class that comes first
            must be the float model's; None for any.
        rounds: The most times that more is left in float and all is measured again.
        ranking: How many images the modules are ranked by; 0 where they are not, unless it is
            needed.
        threads: How many threads run a model; None for the engine's own choice.
        limit: How many images are answered at most, to measure what is kept; None for all.
    """

    method: str = "static"
    activations: str | None = None
    calibrate: str = "minmax"
    calibration_images: int = 64
    full_range: bool | None = None
    smooth: float | None = None
    keep: tuple[str, ...] = ()
    max_drop: float | None = None
    min_agreement: float | None = None
    rounds: int = 8
    ranking: int = 8
    threads: int | None = None
    limit: int | None = None

    def check(self, labelled: bool) -> None:
        """Refuses what contradicts itself.

        Args:
            labelled: Whether there is a labelled folder to measure accuracy on.

        Raises:
            ConfigError: Something does.
        """
        problems = []
        for name, value in (("--smooth", self.smooth), ("--min-agreement", self.min_agreement)):
            if value is not None and not 0 <= value <= 1:
                problems.append(f"{name} {value:g}: expected a number from 0 to 1")
        if self.max_drop is not None and not (0 <= self.max_drop <= 100):
            problems.append(f"--max-drop {self.max_drop:g}: expected points, from 0 to 100")
        if self.max_drop is not None and not labelled:
            problems.append("--max-drop needs --data-dir: a drop is of the accuracy on a folder")
        if self.method == "dynamic":
            if self.smooth is not None:
                problems.append("--smooth is for --method static, which knows the activations")
            if self.activations not in (None, "uint8"):
                problems.append("--activations is for --method static: dynamic takes uint8")
        if problems:
            raise ConfigError("; ".join(problems))

    @property
    def bounded(self) -> bool:
        """Whether there is something that the quantised model has to keep."""
        return self.max_drop is not None or self.min_agreement is not None
