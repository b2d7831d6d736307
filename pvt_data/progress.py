"""Progress of long work: a bar on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Show = Callable[..., None]
"""A function that is told what is done, what there is in all and, if need be, a text beside it."""


@contextmanager
def progress_bar(title: str) -> Iterator[Show]:
    """Draws a bar on stderr while the block lasts if that is a terminal, and nothing elsewhere.

    Args:
        title: The text that stands before the bar.

    Yields:
        What to call whenever something is done.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    beside = TextColumn("{task.fields[text]}")
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), beside)
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    try:
        task = bar.add_task(title, total=None, text="")
        yield lambda done, total, text="": bar.update(task, completed=done, total=total, text=text)
    finally:
        with suppress(OSError):  # the terminal was closed, which is nothing to the work
            bar.stop()
