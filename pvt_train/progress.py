"""Progress of a run: a bar on a terminal, and how long it will take. May import rich."""

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
        self._start, self._before, self._done, self._total = time.perf_counter(), done, done, total

    def count(self) -> None:
        """One update more."""
        self._done += 1

    def rate(self) -> float:
        """Updates per second since the start."""
        return (self._done - self._before) / (time.perf_counter() - self._start)

    def left(self) -> str:
        """The time that is left, as ``1:23:45``."""
        return str(timedelta(seconds=round((self._total - self._done) / self.rate())))


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
