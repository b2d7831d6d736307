"""Pictures of figures, by matplotlib, which is imported when one is drawn."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from pvt_packages import require
from pvt_spec.errors import PvtError
from pvt_spec.files.replacing import replacing

ENDINGS = (".svg", ".png", ".pdf")
"""What a picture's name may end in."""


def check_picture(target: Path) -> None:
    """Refuses, before any work, a picture that cannot be drawn.

    Raises:
        PvtError: Its name has another ending.
        LibraryMissing: matplotlib is not installed.
    """
    require("matplotlib")
    if target.suffix.lower() not in ENDINGS:
        raise PvtError(f"{target}: expected a name that ends in {', '.join(ENDINGS)}")


def draw_picture(
    target: Path, size: tuple[float, float], draw: Callable[[Any], None], force: bool
) -> None:
    """Writes a picture, whole or not at all.

    Args:
        target: The file; its ending chooses the format.
        size: Its width and height in inches.
        draw: A function that draws on a matplotlib ``Figure``.
        force: Whether an existing file is replaced.

    Raises:
        PvtError: It cannot be written.
    """
    check_picture(target)
    # A target is relative to the folder that one is in, which an import may change for a moment.
    with replacing(target, force) as stream, _own_settings():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        # Where a disk is full, what writes a PDF fails over what it has left open.
        drawn = BytesIO()
        figure.savefig(drawn, format=target.suffix[1:].lower())
        stream.write(drawn.getbuffer())


@contextmanager
def _own_settings() -> Iterator[None]:
    """Has matplotlib draw by its own defaults while the block lasts.

    A ``matplotlibrc``, which it would take from the folder that one is in, can have it start LaTeX
    with whatever is written there, and make a picture of any size.
    """
    with _without_settings():
        import matplotlib
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextmanager
def _without_settings() -> Iterator[None]:
    """Has matplotlib, which reads settings when it is imported, find nothing but its own."""
    found = find_spec("matplotlib")
    if "matplotlib" in sys.modules or not found or not found.submodule_search_locations:
        yield
        return
    folder, backend = os.getcwd(), os.environ.pop("MPLBACKEND", None)
    try:
        os.chdir(Path(found.submodule_search_locations[0], "mpl-data"))
        yield
    finally:
        os.chdir(folder)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
