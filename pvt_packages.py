"""What the packages of this distribution need to be imported at all; standard library only.

Python looks for a package in the folder that ``python -m`` is called in, or that a script lies in,
before it looks where packages are installed. So this module is beside the packages, not inside one
that may be hidden itself, and each package calls it first.
"""

import os
import signal
import sys

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


def _command() -> str:
    """Returns the name of the program that is run, or of the module that is with ``python -m``."""
    name = "".join(sys.argv[:1])
    if name == "-m":  # as long as the module is looked for
        return sys.orig_argv[-len(sys.argv)]
    return os.path.basename(name)


def _let_ctrl_c_end_commands() -> None:
    """Has Ctrl-C end a command of ours without a traceback until :mod:`pvt_data.edge` listens.

    In other programs it stays what it is.
    """
    ours = {_command().replace("-", "_"), _command().removeprefix("pvt-")} & {*PACKAGES}
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


_let_ctrl_c_end_commands()  # before what takes longer to import than Python to start

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any

LIBRARIES = {
    **dict.fromkeys(("click", "jinja2", "ml_dtypes", "numpy", "onnx", "onnxruntime"), "pvt-twins"),
    **dict.fromkeys(("PIL", "rfc8785", "rich"), "pvt-twins"),
    **dict.fromkeys(("matplotlib", "simplejpeg", "tensorboardX", "yaml"), "pvt-twins[train]"),
    **dict.fromkeys(("httptools", "prometheus_client", "starlette", "uvicorn"), "pvt-twins[serve]"),
    **dict.fromkeys(("huggingface_hub", "pooch", "requests", "urllib3"), "pvt-twins[hub]"),
    "mindspore": "pvt-twins[mindspore]",
    "openvino": "pvt-twins[openvino]",
    "torch": "pvt-twins[torch]",
    "sklearn": "scikit-learn",
}
"""The libraries that the packages import, and what to install for each."""


class HiddenPackage(ImportError):
    """Another file or folder has the name of one of the packages and would be imported instead."""


class LibraryMissing(ModuleNotFoundError):
    """A library is not installed, or cannot be imported: which one, and what to install."""


DISTRIBUTION = "pvt-twins"


def installed_version(distribution: str) -> str:
    """Returns the version of a distribution that is installed; "" of another."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def suite_version() -> str:
    """Returns the name and version of this distribution, as certificates have it."""
    return f"{DISTRIBUTION} {installed_version(DISTRIBUTION) or 'unknown'}"


def is_installed(library: str) -> bool:
    """Returns whether a library can be found; it is not imported."""
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):  # it is blocked, or half there
        return False


def require(*libraries: str) -> None:
    """Refuses to go on without some of :data:`LIBRARIES`.

    Raises:
        LibraryMissing: One is not installed.
    """
    for library in libraries:
        if not is_installed(library):
            raise LibraryMissing(_install(library, "is not installed"), name=library)


def explain_import(error: BaseException) -> str | None:
    """Returns the words for an import that failed because of a library, None for anything else.

    Where a part of it is missing, a library's own modules may raise any error.
    """
    if isinstance(error, LibraryMissing):
        return str(error)
    raised, place, within = error.__traceback__, "", None
    while raised:  # to where it was: a library's own module, perhaps
        place, code = str(raised.tb_frame.f_globals.get("__name__")), raised.tb_frame.f_code
        package, raised = place.partition(".")[0], raised.tb_next
        if package in LIBRARIES and code.co_name == "<module>":
            within = within or package
    if not isinstance(error, ImportError):
        return within and _install(within, f"cannot be imported ({type(error).__name__}: {error})")
    missing = (error.name or "").partition(".")[0]
    words = {missing, place.partition(".")[0], *re.findall(r"\w+", str(error))}
    named = (each for each in (missing, *LIBRARIES) if each in LIBRARIES and each in words)
    library = next(named, within)
    if library is None:
        return None
    of_another = not isinstance(error, ModuleNotFoundError) or missing not in ("", library)
    if is_installed(library) and of_another:
        return _install(library, f"cannot be imported ({error})")
    return _install(library, "is not installed")


def _install(library: str, problem: str) -> str:
    return f"{library} {problem}: pip install '{LIBRARIES[library]}'"


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
        LibraryMissing: When an export is asked for: a library that it needs is not installed.
    """
    check_packages(package)

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(homes[name]), name)
        except Exception as error:
            if (words := explain_import(error)) is None:
                raise
            missing = getattr(error, "name", None)
            raise LibraryMissing(f"{package}.{name}: {words}", name=missing) from error

    return getattr_, lambda: sorted({*vars(sys.modules[package]), *homes})
