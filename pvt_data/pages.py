"""Pages made of templates; Jinja2 is imported when one is filled in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def render(
    template: Path, values: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] = {}
) -> str:
    """Returns a page, as self-contained as its template.

    Every value is escaped, as it may come from a file or its name.

    Args:
        template: Its file; others that it names are beside it.
        values: What it is filled in with.
        filters: What it may write values with, by name.

    Returns:
        HTML that can be encoded as UTF-8, whatever bytes file names are made of.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(template.parent),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= filters
    page = environment.get_template(template.name).render(**values)
    # Bytes of a file name that are no UTF-8 are lone surrogates in Python.
    return page.encode("utf-8", "backslashreplace").decode()
