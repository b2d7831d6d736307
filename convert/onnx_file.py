"""Weights in ``.onnx`` files: the initializers, bit for bit.

``pvt_onnx`` gives every weight's initializer its canonical name; the graph's own constants have a
slash in theirs. May import onnx, numpy and pvt_onnx's graph builder.
"""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from convert.errors import ConvertError
from convert.weight_file import WeightFile
from pvt_spec import METADATA_KEY
from pvt_spec.arrays import Array


def read(path: Path) -> WeightFile:
    """The weights and metadata of an ONNX model that ``convert`` wrote.

    Args:
        path: An ``.onnx`` file.

    Returns:
        Read-only arrays under canonical names, in the file's order.

    Raises:
        ConvertError: The file is missing, damaged, not ONNX, or was written by something else.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read as an ONNX model ({error})") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise ConvertError(
            f"{path}: no {METADATA_KEY} in its metadata, so it was not written by convert; "
            "exporters rename and fold weights: convert the checkpoint that it was made from"
        )
    weights = [tensor for tensor in model.graph.initializer if "/" not in tensor.name]
    return WeightFile({tensor.name: _array(tensor, path) for tensor in weights}, metadata)


def _array(tensor: onnx.TensorProto, path: Path) -> Array:
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ConvertError(f"{path}: {tensor.name} is kept in another file, which is not read")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
    except (KeyError, ValueError) as error:
        raise ConvertError(f"{path}: tensor {tensor.name} is damaged ({error})") from error
