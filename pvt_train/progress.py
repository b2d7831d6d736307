"""Progress of an epoch: live on a terminal, nothing elsewhere. May import rich."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def epoch_progress(title: str, steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr while an epoch lasts, if that is a terminal.

    Args:
        title: Stands before the bar.
        steps: How many calls fill it.

    Yields:
        What to call after every step, with a text that stands behind the bar.
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
        task = progress.add_task(title, total=steps, text="")
        yield lambda text: progress.update(task, advance=1, text=text)
