"""What a run found: what reports are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from parity.inputs.samples import Sample
from parity.measure.compare import Comparison
from pvt_spec import ModelInfo


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        info: What travels with the reference's model.
        reference: The reference's file.
        computed_in: What the reference ran in, in words.
        image_size: (H, W) in pixels of the inputs.
        samples: What was run, in order.
        comparisons: One per file and runtime.
        seconds: The duration of everything, and of the judge's own thread.
        certificate: The SHA-256 of the certificate of this run, or of the one that the reference's
            file says it has; "" without one.
    """

    info: ModelInfo
    reference: str
    computed_in: str
    image_size: tuple[int, int]
    samples: Sequence[Sample]
    comparisons: list[Comparison]
    seconds: dict[str, float] = field(default_factory=dict)
    certificate: str = ""

    @property
    def same(self) -> bool:
        """Whether every runtime computes the reference's function."""
        return all(comparison.same for comparison in self.comparisons)
