"""What came of a benchmark: a table, and a document for programs."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pvt_data.benchmark.contestants import GEMM
from pvt_data.benchmark.measure import Plan, Row
from pvt_data.benchmark.turns import Hello
from pvt_data.images.ahead import usable_cores
from pvt_spec.words import columns

_COLUMNS = (
    "contestant",
    "threads",
    "batch",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "images/s",
    "GMAC/s",
    "of gemm",
    "× first",
    "quartiles",
)


@dataclass(frozen=True)
class Benchmark:
    """Contestants timed side by side.

    Attributes:
        model: The model's file.
        plan: What was timed.
        rows: The figures.
        hellos: What ran each contestant.
    """

    model: str
    plan: Plan
    rows: Sequence[Row]
    hellos: Mapping[str, Hello]

    @property
    def of_model(self) -> Hello:
        """What a contestant says of the whole model."""
        whole = [hello for name, hello in self.hellos.items() if name != GEMM]
        return [*whole, *self.hellos.values()][0]

    @property
    def failed(self) -> dict[str, str]:
        """Why contestants have no figures, by their names."""
        return {row.contestant: row.error for row in self.rows if row.error}

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document of it says."""
        said = self.of_model
        return {
            "model": self.model,
            "variant": said.variant,
            "image_size": list(said.image_size),
            "gmacs": said.macs / 1e9,
            "machine": machine(),
            "plan": asdict(self.plan),
            "contestants": {
                name: {"facts": dict(hello.facts), "opened_seconds": hello.opened}
                for name, hello in self.hellos.items()
            },
            "rows": [asdict(row) for row in self.rows],
        }

    def lines(self) -> Iterator[str]:
        """Yields what is shown: what was timed, a table, and why anything is not in it."""
        said, plan = self.of_model, self.plan
        size = "x".join(map(str, said.image_size))
        yield (
            f"{said.variant or 'a PVT'} at {size}: {said.macs / 1e9:.3g} GMAC an image; "
            f"{plan.rounds} rounds of {plan.seconds:g} s; images/s are of all calls, GMAC/s of the "
            "median one, ratios medians of the rounds' own"
        )
        rows = [row for row in self.rows if not row.error]
        yield from columns([_COLUMNS, *map(_cells, rows)]) if rows else ()
        for name, why in self.failed.items():
            yield f"{name}: {why}"


def processor() -> str:
    """Returns what this machine's processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def machine() -> dict[str, Any]:
    """Returns what the figures depend on, without names or paths."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_used": usable_cores(),
        "python": platform.python_version(),
    }


def _cells(row: Row) -> list[str]:
    low_high = (
        "" if row.ratio_quartiles is None else "{:.2f} to {:.2f}".format(*row.ratio_quartiles)
    )
    numbers = [f"{ms:.2f}" for ms in (row.p50_ms, row.p90_ms, row.p99_ms) if ms is not None]
    numbers += [f"{rate:.1f}" for rate in (row.images_per_second, row.gmacs_per_second) if rate]
    shares = [
        "" if row.of_gemm is None else f"{row.of_gemm:.0%}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
    ]
    return [row.contestant, str(row.threads), str(row.batch), *numbers, *shares, low_high]
