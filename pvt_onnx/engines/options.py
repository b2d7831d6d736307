"""How a model is run, in the words that all commands and twins share. Nothing heavy is imported."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pvt_data.images.ahead import MOST_THREADS
from pvt_spec.arguments import CheckedFields
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import show

Choices = Mapping[str, Mapping[str, Collection[str]]]
"""Engine -> what it can run on -> in which precisions; of each the first is the default."""

OPTIMIZATIONS = ("all", "extended", "basic", "disabled")
"""What onnxruntime may do to a graph before it runs it."""


@dataclass(frozen=True)
class EngineOptions(CheckedFields):
    """What runs a graph, and how.

    Attributes:
        engine: A key of :data:`pvt_onnx.engines.table.ENGINES`.
        provider: What it runs on: ``"cpu"``, ``"cuda"``, ``"cann"`` or ``"tensorrt"``.
        threads: How many threads share the work of one operator; None for the engine's own choice,
            which is one for each physical core.
        precision: What floats are computed in; None for what the graph says, where that is
            nothing else fp32.
        optimization: One of :data:`OPTIMIZATIONS`, of onnxruntime alone.
        spin: Whether onnxruntime's threads wait for each other busily. Where the cores are theirs
            alone that is quicker; beside threads that decode images it takes their time.
    """

    engine: str = "onnxruntime"
    provider: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    optimization: str = "all"
    spin: bool = True

    @property
    def computes(self) -> str:
        """What floats of float32 are computed in."""
        return self.precision or FLOAT32

    def check(self, choices: Choices) -> None:
        """Refuses what no engine is, or can do.

        Raises:
            RuntimeUnusable: Something is none of the choices: which are.
        """
        _check("engine", self.engine, choices)
        providers = choices[self.engine]
        _check("provider", self.provider, providers, f" of {self.engine}")
        where = f" of {self.engine} on {self.provider}"
        _check("precision", self.computes, providers[self.provider], where)
        _check("optimization", self.optimization, OPTIMIZATIONS)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise RuntimeUnusable(f"threads {self.threads}: expected 1 to {MOST_THREADS}")


def _check(what: str, given: str, known: Collection[str], where: str = "") -> None:
    if given not in known:
        raise RuntimeUnusable(f"{what} {show(given)}: none{where}, expected {', '.join(known)}")
