"""Progress of a run: a bar on a terminal, and how long it will take."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

Advance = Callable[[str], None]
"""Called after every update, with a text that stands behind the bar."""


class Clock:
    """How fast a run goes, validation and all, and how long it will take."""

    def __init__(self, done: int, total: int):
        """Starts now.

        Args:
            done: Updates that were done before.
            total: Updates in the whole run.
        """
        self._done, self._total = done, total
        self._first = self._mark = (done, time.perf_counter())
        self._counted = False

    def count(self) -> None:
        """One update more."""
        self._done += 1
        if not self._counted:
            # What is compiled in the first update is not compiled in the others.
            self._counted, self._first = True, self._now()

    def _now(self) -> tuple[int, float]:
        return self._done, time.perf_counter()

    def mark(self) -> None:
        """From here on :meth:`pace` is measured."""
        self._mark = self._now()

    def pace(self) -> float:
        """Updates per second since the last mark."""
        return self._rate(self._mark)

    def left(self) -> str:
        """The time that is left, as ``1:23:45``, validation included."""
        rate = self._rate(self._first)
        return str(timedelta(seconds=round((self._total - self._done) / rate))) if rate else "?"

    def _rate(self, since: tuple[int, float]) -> float:
        done, now = self._now()
        seconds = now - since[1]
        return (done - since[0]) / seconds if seconds else 0.0


@contextmanager
def epoch_progress(title: str, steps: int, done: int) -> Iterator[Advance]:
    """A bar on stderr while an epoch lasts, if that is a terminal.

    Args:
        title: Stands before the bar.
        steps: How many calls fill it.
        done: How many of them were made before.

    Yields:
        What to call after every step.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=steps, completed=done, text="")
        yield lambda text: progress.update(task, advance=1, text=text)
