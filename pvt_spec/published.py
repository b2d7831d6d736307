"""Names of published weights, which may stand where a path to a model may.

Where they are found, :mod:`convert.hub` knows.
"""

import os
from pathlib import PurePath

from pvt_spec.errors import ConvertError

PUBLISHED = "hub:"
"""What such a name begins with."""


def published_name(path: str | os.PathLike[str]) -> str | None:
    """Returns what stands behind ``hub:`` in a path; None of a path to something on a disk."""
    text = path.as_posix() if isinstance(path, PurePath) else os.fsdecode(path)
    return text.removeprefix(PUBLISHED) if text.startswith(PUBLISHED) else None


def check_on_disk(path: str | os.PathLike[str]) -> None:
    """Refuses the name of published weights where a file is needed, and says how to get one.

    Raises:
        ConvertError: It is one.
    """
    if (name := published_name(path)) is not None:
        file = name.rpartition("/")[2].partition("@")[0] or "model"
        raise ConvertError(
            f"{path}: a name of published weights, expected an .onnx file: make one by convert "
            f"{PUBLISHED}{name} {file}.onnx"
        )
