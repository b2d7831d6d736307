"""Reading ``.onnx`` files as they are, whoever wrote them."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from pvt_spec.errors import PvtError


class OnnxFileError(PvtError):
    """A file that is not an ONNX model, or not one that says what it is."""


def load_proto(path: Path) -> onnx.ModelProto:
    """Reads an ONNX model as it is in a file, with weights that it keeps in another one.

    Raises:
        OnnxFileError: The file cannot be read, or onnx does not trust where it keeps weights.
    """
    try:
        return onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise OnnxFileError(f"{path}: cannot be read as an ONNX model ({error})") from error
