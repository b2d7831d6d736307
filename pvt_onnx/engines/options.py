"""How a model is run, in the words that all commands and twins share. Nothing heavy is imported."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pvt_data.images.ahead import MOST_THREADS, usable_cores
from pvt_spec.arguments import CheckedFields
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import show

Choices = Mapping[str, Mapping[str, Collection[str]]]
"""Engine -> what it can run on -> in which precisions; of each the first is the default."""

OPTIMIZATIONS = ("all", "extended", "basic", "disabled")
"""What onnxruntime may do to a graph before it runs it."""


MOST_CALLS = 64
"""The most calls at once: each holds intermediate results."""


@dataclass(frozen=True)
class EngineOptions(CheckedFields):
    """What runs a graph, and how.

    Attributes:
        engine: A key of :data:`pvt_onnx.engines.table.ENGINES`.
        provider: What it runs on: ``"cpu"``, ``"cuda"``, ``"cann"`` or ``"tensorrt"``.
        threads: How many threads share the work of one operator; None for the engine's own choice,
            which is one for each physical core, or one where there are several calls.
        precision: What floats are computed in; None for what the graph says, where that is
            nothing else fp32.
        optimization: One of :data:`OPTIMIZATIONS`, of onnxruntime alone.
        calls: How many calls it answers at once, beside other work; None for one that has the cores
            to itself, where onnxruntime's threads wait for each other busily.
    """

    engine: str = "onnxruntime"
    provider: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    optimization: str = "all"
    calls: int | None = None

    @property
    def computes(self) -> str:
        """What floats of float32 are computed in."""
        return self.precision or FLOAT32

    @property
    def at_once(self) -> int:
        """How many calls it answers at once."""
        return self.calls or 1

    @property
    def each(self) -> int | None:
        """How many threads a call has; None for the engine's own choice."""
        return self.threads or (1 if self.at_once > 1 else None)

    def of_each(self, threads: str) -> str:
        """Returns words for the threads of a call, and for how many calls have them."""
        return f"{threads} for each of {self.calls} calls" if self.at_once > 1 else threads

    def beside_decoding(self) -> "EngineOptions":
        """Returns the options for most images a second while others are decoded.

        On a CPU calls side by side keep the cores busier than threads that share an operator's
        work; other devices take a call at a time.
        """
        calls = usable_cores() // (self.threads or 1) if self.provider == "cpu" else 1
        return replace(self, calls=min(max(calls, 1), MOST_CALLS))

    def check(self, choices: Choices) -> None:
        """Refuses what no engine is, or can do.

        Raises:
            RuntimeUnusable: Something is none of the choices: which are.
        """
        _check("engine", self.engine, choices)
        providers = choices[self.engine]
        _check("provider", self.provider, providers, f" of {self.engine}")
        where = f" of {self.engine} on {self.provider}"
        rest = "; leave it out to run a graph in what it computes in itself"
        _check("precision", self.computes, providers[self.provider], where, rest)
        _check("optimization", self.optimization, OPTIMIZATIONS)
        for name, most in (("threads", MOST_THREADS), ("calls", MOST_CALLS)):
            if (given := getattr(self, name)) is not None and not 1 <= given <= most:
                raise RuntimeUnusable(f"{name} {given}: expected 1 to {most}")


def _check(what: str, given: str, known: Collection[str], where: str = "", rest: str = "") -> None:
    if given not in known:
        raise RuntimeUnusable(
            f"{what} {show(given)}: none{where}, expected {', '.join(known)}{rest}"
        )
