"""How the templates of pages here are filled in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.report.numbers import figure
from pvt_data import pages
from pvt_spec.words import counted

_FILTERS: dict[str, Callable[..., str]] = {"count": counted, "figure": figure, "g": "{:g}".format}


def render(template: str, **values: Any) -> str:
    """Returns a page; see :func:`pvt_data.pages.render`."""
    return pages.render(Path(__file__).with_name(template), values, _FILTERS)
