"""Timing contestants side by side: in turn, with a pause before each turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from pvt_data.benchmark.contestants import GEMM, Setting
from pvt_data.benchmark.turns import ContestantFailed, Hello, Worker
from pvt_data.progress import Show

Start = Callable[[str, Setting], Worker]
"""From a contestant's name and how it runs to its process."""

Turns = Sequence[Sequence[float]]
"""The seconds of each call, turn by turn."""


@dataclass(frozen=True)
class Plan:
    """How long is measured.

    Attributes:
        rounds: Turns that each contestant has.
        seconds: How long a turn calls.
        pause: Seconds before each turn: threads of the one before go on waiting in a loop.
    """

    rounds: int = 7
    seconds: float = 0.3
    pause: float = 0.2


@dataclass(frozen=True)
class Row:
    """What came of one contestant in one setting.

    Attributes:
        contestant: Its name.
        threads: Its threads.
        batch: Images in a call.
        calls: Calls that were timed.
        p50_ms: Median milliseconds of a call.
        p90_ms: What nine of ten calls are below.
        p99_ms: What 99 of 100 are below.
        images_per_second: Images over the time of all calls.
        gmacs_per_second: Billions of multiply-accumulates in a second of the median call.
        of_gemm: The same over that of the model's matrix products alone; None without those.
        ratio: Median, over the rounds, of its median call over the first contestant's.
        ratio_quartiles: The quartiles of those ratios.
        error: Why there are no figures; "" where there are.
    """

    contestant: str
    threads: int
    batch: int
    calls: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    images_per_second: float | None = None
    gmacs_per_second: float | None = None
    of_gemm: float | None = None
    ratio: float | None = None
    ratio_quartiles: tuple[float, float] | None = None
    error: str = ""


def measure(
    names: Sequence[str], settings: Sequence[Setting], plan: Plan, start: Start, show: Show
) -> tuple[list[Row], dict[str, Hello]]:
    """Times contestants in one setting after the other.

    Args:
        names: The contestants, the one that others are compared to first.
        settings: How they run.
        plan: How long is measured.
        start: What starts their processes.
        show: A function that is told of each turn.

    Returns:
        A row for each contestant and setting; what runs each that could be opened.

    Raises:
        ContestantFailed: None could be opened.
    """
    rows: list[Row] = []
    hellos: dict[str, Hello] = {}
    total = len(settings) * plan.rounds
    for number, setting in enumerate(settings):
        errors: dict[str, str] = {}
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            for name in names:  # one after the other, so that none disturbs another
                worker = stack.enter_context(start(name, setting))
                try:
                    hellos[name] = worker.hello()
                    workers[name] = worker
                except ContestantFailed as error:
                    errors[name] = str(error)
            if not hellos:
                raise ContestantFailed(errors[names[0]])
            done = partial(_add, show, number * plan.rounds, total)
            times = _take_turns(workers, plan, errors, done)
        rows += _rows(names, setting, times, errors, hellos)
    return rows, hellos


def _add(show: Show, before: int, total: int, rounds: int) -> None:
    show(before + rounds, total)


def _take_turns(
    workers: dict[str, Worker], plan: Plan, errors: dict[str, str], done: Callable[[int], None]
) -> dict[str, list[list[float]]]:
    """Returns the times of those that had all their turns; ``errors`` gets why others had not."""
    times: dict[str, list[list[float]]] = {name: [] for name in workers}
    names = [*workers]
    for number, turn in enumerate(in_turn(names, plan.rounds), 1):
        if turn not in errors:
            time.sleep(plan.pause)
            try:
                times[turn].append(workers[turn].turn(plan.seconds))
            except ContestantFailed as error:
                errors[turn] = str(error)
        done(number // len(names))
    return {name: turns for name, turns in times.items() if name not in errors}


def _rows(
    names: Sequence[str],
    setting: Setting,
    times: dict[str, list[list[float]]],
    errors: dict[str, str],
    hellos: dict[str, Hello],
) -> Iterator[Row]:
    """Yields the row of each contestant in one setting."""
    rates = {
        name: hellos[name].macs * setting.batch / median(_joined(turns)) / 1e9
        for name, turns in times.items()
    }
    first = next((name for name in times if name != GEMM), None)
    for name in names:
        if name in errors:
            yield Row(name, setting.threads, setting.batch, error=errors[name])
            continue
        calls = _joined(times[name])
        p50, p90, p99 = (1e3 * seconds for seconds in percentiles(calls, 50, 90, 99))
        ratios = paired_ratios(times[name], times[first]) if first else [1.0]
        low, middle, high = percentiles(ratios, 25, 50, 75)
        yield Row(
            contestant=name,
            threads=setting.threads,
            batch=setting.batch,
            calls=len(calls),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            images_per_second=setting.batch * len(calls) / sum(calls),
            gmacs_per_second=rates[name],
            of_gemm=rates[name] / rates[GEMM] if GEMM in rates else None,
            ratio=middle,
            ratio_quartiles=(low, high),
        )


def paired_ratios(turns: Turns, first: Turns) -> list[float]:
    """Returns each turn's median over that of the first contestant's in the same round."""
    return [median(over) / median(under) for over, under in zip(turns, first, strict=True)]


def in_turn(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yields every name ``rounds`` times: A B C, then C B A, then A B C, …"""
    for turn in range(rounds):
        yield from names[:: -1 if turn % 2 else 1]


def percentiles(numbers: Sequence[float], *percents: float) -> list[float]:
    """Returns what so many per cent of some numbers are below."""
    return [float(value) for value in np.percentile(numbers, percents)]


def _joined(turns: Turns) -> list[float]:
    return [seconds for turn in turns for seconds in turn]
