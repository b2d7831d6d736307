"""What the packages of this distribution need to be imported at all; standard library only.

Python looks for a package in the folder that ``python -m`` is called in, or that a script lies in,
before it looks where packages are installed. So this module is beside the packages, not inside one
that may be hidden itself, and each package calls it first.
"""

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

PACKAGES = (
    "pvt_spec",
    "pvt_data",
    "pvt_onnx",
    "convert",
    "pvt_train",
    "pvt_ms",
    "pvt_torch",
    "parity",
)
"""The packages, lowest first: each may import those before it."""


class HiddenPackage(ImportError):
    """Another file or folder has the name of one of the packages and would be imported instead."""


def check_packages(package: str) -> None:
    """Checks that what a package may import are the packages beside it, and nobody else's.

    Args:
        package: Its name.

    Raises:
        HiddenPackage: Another file or folder has the name of one of them. Where nobody catches
            this, the program ends with the message alone and exit code 1.
    """
    home = os.path.dirname(os.path.realpath(__file__))
    for name in PACKAGES[: PACKAGES.index(package)]:
        spec = find_spec(name)
        if spec is None:
            continue
        place = str([*(spec.submodule_search_locations or ()), spec.origin][0])
        if os.path.dirname(os.path.realpath(place)) != home:
            sys.excepthook = _message_alone(sys.excepthook)
            raise HiddenPackage(
                f"{place} hides the package {name} in {home}, which {package} needs: rename it, "
                "or work in another folder; the installed commands (pvt-convert, pvt-parity, "
                "pvt-ms, …) also work in this one",
                name=name,
                path=place,
            )


_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _message_alone(before: _Hook) -> _Hook:
    """Returns an ``excepthook`` that prints no traceback of a hidden package."""

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, HiddenPackage):
            print(error, file=sys.stderr)
        else:
            before(kind, error, traceback)

    return hook


def lazy_exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the exports of a package that are imported when they are first asked for.

    So ``--help``, and a program that needs one part of a package, load nothing else.

    Args:
        package: The ``__name__`` of the package.
        homes: Exported name -> module that defines it.

    Returns:
        The module's ``__getattr__`` and ``__dir__`` (PEP 562).

    Raises:
        HiddenPackage: As :func:`check_packages` raises it.
    """
    check_packages(package)

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return getattr_, lambda: sorted({*vars(sys.modules[package]), *homes})
