"""Pictures of figures, by matplotlib, which is imported when one is drawn."""

from collections.abc import Callable
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    with replacing(target, force) as stream:
        figure.savefig(stream, format=target.suffix[1:].lower())
