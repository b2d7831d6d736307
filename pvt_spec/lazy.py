"""Package exports that are imported when they are first asked for.

So that ``--help``, and a program that needs one part of a package, load nothing else. Standard
library only.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module ``__getattr__`` (PEP 562).

    Args:
        package: ``__name__`` of the package.
        homes: Exported name -> module that defines it.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return getattr_
