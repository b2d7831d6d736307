"""Templates of pages, and how one is filled in."""

from pathlib import Path
from typing import Any

from parity.report.numbers import figure
from pvt_spec.words import counted


def render(template: str, **values: Any) -> str:
    """Returns a page, self-contained: no scripts, and nothing is fetched.

    Jinja2 is imported here, as most runs make no page. It escapes every value that comes from a
    file or its name.

    Returns:
        HTML that can be encoded as UTF-8, whatever bytes file names are made of.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(Path(__file__).parent),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"count": counted, "figure": figure, "g": "{:g}".format}
    page = environment.get_template(template).render(**values)
    # Bytes of a file name that are no UTF-8 are lone surrogates in Python.
    return page.encode("utf-8", "backslashreplace").decode()
