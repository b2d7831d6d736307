"""Where every command starts and ends: what nobody foresaw, signals, and streams that are closed.

What takes time to import is imported inside the functions, as Ctrl-C may come before that ends.
"""

import errno
import os
import signal
import sys
import time
from _thread import get_ident, start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any, NoReturn, TextIO

from pvt_packages import HiddenPackage, explain_import, installed_version

BAD_DATA = 1
FAULT = 70
"""Exit codes; 70 is EX_SOFTWARE of sysexits.h."""

_VERSIONS = (
    "pvt-twins", "numpy", "onnx", "onnxruntime", "Pillow", "click", "mindspore", "torch",
)  # fmt: skip

_OUT_OF_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "failed to map segment"),
    *("bad_alloc", "bad allocation", "out of memory", "allocate memory failed"),
)
"""What a library's own error says where Python's would be a MemoryError."""

_OUT_OF_THREADS = ("can't start new thread", "resource temporarily unavailable")
"""The same of threads and processes."""

_OUTSIDE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.EAGAIN,
)
"""What the system may answer to a call on an open file, which names none."""

_WAYS = {
    errno.EMFILE: ": allow more of them, ulimit -n",
    errno.EFBIG: ": allow larger ones, ulimit -f, or take another disk",
    errno.ENOSPC: ": make space",
}
"""What to do about some of these."""

SIGNALS = [
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""What asks a command to stop, of which the system has these; where workers of a run got different
ones, the first here counts."""

SAME_SECONDS = 1.0
"""Within it, a signal after another is the same request: a terminal that is closed, say, and its
shell send one each. What the first has begun to clear up is not to be cut short."""

_IMPORTS = ("_frozen_importlib", "importlib._bootstrap")
_LOCKING = (
    *("acquire", "release", "__enter__", "__exit__"),
    *("_get_module_lock", "_lock_unlock_module", "cb"),
)
_WHOLE = (
    ("tempfile", ""),
    ("pvt_spec.files.temporary", ""),
    ("pvt_spec.files.replacing", "put_in_place"),
    ("pvt_spec.files.locks", "held"),
    *((module, function) for module in _IMPORTS for function in _LOCKING),
)
"""Modules, or functions of them, that no signal ends half-way: who calls them removes what they
made, once it is known, and files of a set come to their places all or none. Python's own locks of
modules would stay taken, and a thread that imports one would wait for ever.
"""

_WAITING = ("pvt_spec.files.locks", "await_lock")
"""What a signal ends within these all the same: another process may take its time."""


_NEED_FOLDER = ("parity", "pvt_ms", "pvt_torch")
"""Packages whose frameworks end the process where the folder that one is in is gone."""


def run(package: str) -> None:
    """Runs a package's command as this process, and ends it with the exit code.

    Args:
        package: The package, whose ``command_line`` has ``main``, a :class:`click.Command`.
    """
    by_module = os.path.basename(sys.argv[0]) == "__main__.py"
    try:
        with edge():  # signals may come as soon as they are listened to
            _listen()
            _prepare()
            if package in _NEED_FOLDER and not _has_folder():
                raise FileNotFoundError
            main = import_module(f"{package}.command_line").main
            main(prog_name=package.replace("_", "-") if by_module else None)
    finally:
        if _stopped or _is_half_imported():
            # What is half imported may not survive its own clearing up.
            ended = sys.exc_info()[1]
            code = int(ended.code or 0) if isinstance(ended, SystemExit) else FAULT
            _leave_at_once(128 + _stopped if _stopped else code)
        for each in SIGNALS:
            # From here on the interpreter takes itself apart, and there is nothing to clear up.
            if signal.getsignal(each) is _stop:
                signal.signal(each, signal.SIG_DFL)


def _is_half_imported() -> bool:
    """Returns whether parts of a framework are there that could not be imported."""
    there = {name.partition(".")[0] for name in sys.modules}
    return bool(there.intersection(("mindspore", "torch")) - sys.modules.keys())


def _leave_at_once(code: int) -> NoReturn:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _prepare() -> None:
    """Has streams and libraries as commands expect them."""
    _fill_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has not all letters gets the rest as codes; a file name may be no text.
        settle = getattr(stream, "reconfigure", lambda **_: None)
        settle(errors="backslashreplace")
        try:
            "a".encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
        except (UnicodeError, LookupError):  # of names of hosts, say, which has no such errors
            settle(encoding="utf-8")
        with suppress(OSError, ValueError, AttributeError):
            # What does not fit into a pipe at once would be lost.
            os.set_blocking(stream.fileno(), True)
    # onnxruntime would tell its makers of each run, and complain where it cannot number it.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Processes of Python that we or a library start would import what lies in the folder that one
    # is in, a downloaded one perhaps, before anything else. (Python 3.10 does in any case.)
    os.environ.setdefault("PYTHONSAFEPATH", "1")


def _fill_streams() -> None:
    """Has something in the place of streams that are closed, where the next file would be.

    What is said has nowhere to go then; but an answer that nobody can read is an error, as nothing
    can be written to what stands for stdout.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR if descriptor == 2 else os.O_RDONLY)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


@contextmanager
def edge(*passed: type[Exception]) -> Iterator[None]:
    """Ends the process with one line and an exit code where the block ends in any exception.

    Args:
        passed: Exceptions that somebody outside of the block will tell.

    Raises:
        SystemExit: With 128 and the signal's number after one of :data:`SIGNALS`, 141 where nobody
            reads what is printed, 1 where memory or something of the system's is missing, 70 where
            it is a fault of ours.
    """
    try:
        yield
    except passed:
        raise
    except (KeyboardInterrupt, Exception) as error:
        _end(error)


_stopped: signal.Signals | None = None
"""The signal that asked us to stop. A library may have made another error of it meanwhile."""

_deaf_until = 0.0
"""Until when a signal is taken for the one before it, in seconds of the monotonic clock."""


def _listen() -> None:
    """Has signals end the process quietly from now on, unless ignored or somebody else's.

    By default most would end it at once, with temporary files left where they were.
    """

    def unraisable(given: Any) -> None:
        global _deaf_until
        # In a destructor, say, Python prints it and goes on. We come back to it in a moment.
        if _stopped and given.exc_type is KeyboardInterrupt:
            _deaf_until = 0.0
            _come_again(_stopped)
        else:
            before(given)

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    for each in SIGNALS:
        if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(each, _stop)
    if signal.getsignal(signal.SIGINT) is _stop:
        _take_ctrl_c()


def _take_ctrl_c() -> None:
    """Has Ctrl-C reach the main thread whatever a framework does with its signal."""
    if hasattr(signal, "pthread_sigmask"):
        # MindSpore takes SIGINT with every graph that it runs, and makes a SIGTERM of it. So no
        # thread gets it (each begins with the mask of the one that started it) but one of ours,
        # which hands it on to the main thread as a signal that nobody else uses.
        signal.signal(signal.SIGURG, _as_interrupt)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        start_new_thread(_hand_on, (get_ident(),))


_mapped: dict[str, int] = {}
"""How many bytes the files had that are read as they are touched, by path."""

_kept: list[Any] = []
"""What the system calls, which has to stay in memory."""


def expect_cuts(path: str, size: int) -> None:
    """Has the command end in one line where a mapped file is cut off while it is read.

    What is behind its end by then is a SIGBUS to whoever touches it, which ends a process without
    a word. A program that only uses our packages keeps its own way.

    Args:
        path: The file.
        size: How many bytes it has now.
    """
    if signal.getsignal(signal.SIGINT) is not _stop or not hasattr(signal, "SIGBUS"):
        return
    _mapped[path] = size
    if _kept:
        return
    import ctypes

    from pvt_spec.words import printable

    def end(_: int) -> None:
        # No code of Python's or of an allocator's was at work here, so this can be said.
        named = "a file"
        try:
            with suppress(OSError):  # of one that is gone
                named = next(each for each, size in _mapped.items() if os.stat(each).st_size < size)
            said = f"Error: {printable(named)}: was cut off while it was read: try again when it is"
            os.write(2, f"{said} whole\n".encode(errors="replace"))
        finally:
            os._exit(BAD_DATA)

    _kept.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(end))
    ctypes.CDLL(None).signal(int(signal.SIGBUS), _kept[0])


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopped, _deaf_until
    if time.monotonic() < _deaf_until:
        return
    while frame:
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (module, function) == _WAITING:
            break
        if not {(module, ""), (module, function)}.isdisjoint(_WHOLE) or _is_import(frame):
            return _come_again(number)
        frame = frame.f_back
    _stopped, _deaf_until = signal.Signals(number), time.monotonic() + SAME_SECONDS
    raise KeyboardInterrupt


def _is_import(frame: FrameType) -> bool:
    """Returns whether compiled code is about to be imported, and so may import more.

    It would print what a signal raises there, as numpy's ``import_array`` does, or not expect it:
    the frameworks call compiled code that calls Python as they are imported, and end in an abort.
    """
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    if package in ("torch", "mindspore") and frame.f_code.co_name == "<module>":
        return True
    loads = frame.f_code.co_name in ("create_module", "exec_module")
    return loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader)


def _come_again(number: int) -> None:
    from threading import Timer

    Timer(0.05, os.kill, (os.getpid(), number)).start()


def _hand_on(main: int) -> None:
    while signal.sigwait([signal.SIGINT]):
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            os._exit(128 + signal.SIGINT)
        signal.pthread_kill(main, signal.SIGURG)


def _as_interrupt(_: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)


def _end(error: BaseException) -> NoReturn:
    if _stopped or isinstance(error, KeyboardInterrupt):
        number = _stopped or signal.SIGINT
        said = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
        leave(said, 128 + number)
    if isinstance(error, FileNotFoundError) and not _has_folder():
        leave("Error: the folder that you are in is not there any more: go to another", BAD_DATA)
    if isinstance(error, HiddenPackage):
        leave(str(error), BAD_DATA)
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if no_memory or isinstance(error, MemoryError) or _says(error, _OUT_OF_MEMORY):
        leave("Error: there is not enough memory for this", BAD_DATA)
    if _says(error, _OUT_OF_THREADS):
        leave(
            "Error: no more threads or processes can be started: allow more (ulimit -u, or the "
            "container's limit), or more memory",
            BAD_DATA,
        )
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error.strerror):
        leave(
            "Error: no folder for temporary files can be written to: make space in one, or name "
            "another as TMPDIR",
            BAD_DATA,
        )
    if words := explain_import(error):
        leave(f"Error: {_one_line(words, 1000)}", BAD_DATA)
    if isinstance(error, OSError):
        _check_streams()
        if _is_of_printing(error):
            _end_printing("what is printed", error.errno)
    if isinstance(error, OSError) and (error.filename or error.errno in _OUTSIDE):
        where = "" if error.filename is None else f"{_one_line(str(error.filename), 1000)}: "
        way = _WAYS.get(error.errno or 0, "")
        leave(f"Error: {where}{error.strerror or type(error).__name__}{way}", BAD_DATA)
    import traceback

    what = traceback.format_exception_only(type(error), error)[-1].strip()
    leave(f"Error: this is a fault of ours: {_one_line(what, 200)}; {_write_report(error)}", FAULT)


def _check_streams() -> None:
    """Ends the process where stdout or stderr can no longer be written to: of ``| head``, say."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
            code = errno.EPIPE if _is_closed(stream) else None
        except OSError as error:
            code = errno.EPIPE if error.errno == errno.EINVAL else error.errno  # as Windows has it
        if code is None:
            continue
        # What is in its buffer would be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        _end_printing("stdout" if stream is sys.stdout else "stderr", code)


def _end_printing(what: str, code: int | None) -> NoReturn:
    if code == errno.EPIPE:
        sys.exit(128 + getattr(signal, "SIGPIPE", 13))
    leave(f"Error: {what} cannot be written: {os.strerror(code or 0)}", BAD_DATA)


def _is_of_printing(error: OSError) -> bool:
    """Returns whether click could not print: to a socket, say, which keeps nothing to try again."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    module = at.tb_frame.f_globals.get("__name__") if at else ""
    return error.filename is None and module == "click.utils"


def _is_closed(stream: TextIO) -> bool:
    """Returns whether nobody reads a stream any more, where the system says so."""
    try:
        import select

        waiting = select.poll()
        waiting.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in waiting.poll(0))
    except (OSError, ValueError, AttributeError):
        return False  # no poll, or no file


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    """Returns whether an error that a library makes of the system's has some of its words."""
    return isinstance(error, (RuntimeError, ImportError)) and any(
        text in str(error).lower() for text in words
    )


def _has_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _one_line(text: str, most: int) -> str:
    from pvt_spec.words import shortened

    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shortened(text, most))


def _write_report(error: BaseException) -> str:
    """Returns words for where the report is, which tells nothing of the environment."""
    import platform
    import shlex
    import tempfile
    import traceback

    report = "\n".join(
        (
            f"command line: {shlex.join(sys.argv)}",
            f"Python {sys.version} on {platform.platform()}",
            *(f"{name} {version}" for name in _VERSIONS if (version := installed_version(name))),
            "",
            "".join(traceback.format_exception(error)),
        )
    )
    try:
        descriptor, name = tempfile.mkstemp(".txt", "pvt-report-")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except (OSError, ValueError) as why:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        return f"at {place} (no report was written: {why})"
    return f"please send us the report {name} (traceback, versions and command line)"


def leave(line: str, code: int) -> NoReturn:
    """Ends the process with a line on stderr, if somebody reads it, and an exit code."""
    with suppress(OSError, ValueError, AttributeError):
        if _takes(sys.stderr):
            print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def _takes(stream: TextIO) -> bool:
    """Returns whether a stream takes a line within a second: not a full pipe that nobody reads."""
    try:
        import select

        waiting = select.poll()
        waiting.register(stream.fileno(), select.POLLOUT)
        return bool(waiting.poll(1000))
    except (OSError, ValueError, AttributeError):
        return True  # no poll, or no file
