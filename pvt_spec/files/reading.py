"""Files opened to be read: regular ones alone. Standard library."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path | str) -> BinaryIO:
    """Opens a file, and nothing else: a pipe would keep us waiting, a device may have no end.

    Raises:
        OSError: There is no such file, it is a folder, a pipe, a socket or a device, or it may not
            be read; ``strerror`` says which.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        stream = os.fdopen(os.open(path, flags), "rb")
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise _no_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise _no_file(path)
    return stream


def _no_file(path: Path | str) -> OSError:
    return OSError(
        errno.EINVAL, "it is a folder, a pipe, a socket or a device, not a file", str(path)
    )
