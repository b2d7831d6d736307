"""A benchmark as a picture: latencies and throughput, a group of bars for each setting."""

from pathlib import Path
from typing import Any

from pvt_data.benchmark.measure import Row
from pvt_data.benchmark.report import Benchmark
from pvt_data.pictures import draw_picture


def draw_benchmark(benchmark: Benchmark, target: Path, force: bool) -> None:
    """Draws each contestant's latency (median, with the 90th and 99th percentile) and images/s.

    Raises:
        PvtError: The picture cannot be written.
        LibraryMissing: matplotlib is not installed.
    """
    rows = [row for row in benchmark.rows if not row.error]
    settings = list(dict.fromkeys((row.threads, row.batch) for row in rows))
    names = list(dict.fromkeys(row.contestant for row in rows))

    def draw(figure: Any) -> None:
        latency, throughput = figure.subplots(2, 1, sharex=True)
        width = 0.8 / max(len(names), 1)
        for number, name in enumerate(names):
            own = [row for row in rows if row.contestant == name]
            places = [settings.index((r.threads, r.batch)) + width * number for r in own]
            _draw_bars(latency, throughput, places, own, width, name)
        middles = [place + width * (len(names) - 1) / 2 for place in range(len(settings))]
        labels = [f"batch {batch}, {_threads(threads)}" for threads, batch in settings]
        throughput.set_xticks(middles, labels)
        latency.set_ylabel("ms a call: median and 99th percentile")
        throughput.set_ylabel("images/s")
        for axes in (latency, throughput):
            axes.grid(axis="y", alpha=0.3)
        latency.legend()
        said = benchmark.of_model
        size = "×".join(map(str, said.image_size))
        figure.suptitle(f"{said.variant or 'PVT'}, {size}, {said.macs / 1e9:.3g} GMAC an image")

    draw_picture(target, (max(7, 2 * len(settings) + 3), 7), draw, force)


def _draw_bars(
    latency: Any, throughput: Any, places: list[float], rows: list[Row], width: float, name: str
) -> None:
    medians = [row.p50_ms or 0.0 for row in rows]
    above = [(row.p99_ms or 0.0) - middle for row, middle in zip(rows, medians, strict=True)]
    whiskers = {"yerr": [[0.0] * len(rows), above], "capsize": 2, "ecolor": "0.3"}
    latency.bar(places, medians, width, label=name, **whiskers)
    throughput.bar(places, [row.images_per_second for row in rows], width)


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"
