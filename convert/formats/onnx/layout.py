"""What of ``onnx/onnx.proto`` weights need: the keys of fields, and the dtypes of tensors."""

from pathlib import PureWindowsPath

from convert.formats.weight_file import little_endian

_ENUM = """
    undefined float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64
    complex64 complex128 bfloat16
"""
_WITHOUT_ARRAYS = ("undefined", "string", "complex64", "complex128")
DTYPES = {
    number: little_endian(name)
    for number, name in enumerate(_ENUM.split())
    if name not in _WITHOUT_ARRAYS
}
"""numpy's dtype of each ``TensorProto.DataType`` that a weight may have."""

TYPES = {dtype: number for number, dtype in DTYPES.items()}

MAX_BYTES = 2**31 - 1
"""Protobuf's limit on the size of a model's file."""

ALIGNMENT = 4096
"""What offsets in a file of weights are a multiple of: a page, as ONNX advises for mapping it."""

GRAPH, METADATA_PROPS = 7 << 3 | 2, 14 << 3 | 2
MODEL_PARTS = {8 << 3 | 2: "opset", 25 << 3 | 2: "function"}
GRAPH_FIELDS = {1 << 3 | 2: "node", 11 << 3 | 2: "input", 12 << 3 | 2: "output"}
INITIALIZER, SPARSE_INITIALIZER = 5 << 3 | 2, 15 << 3 | 2
DATA_TYPE, NAME, RAW_DATA = 2 << 3, 8 << 3 | 2, 9 << 3 | 2
EXTERNAL_DATA, DATA_LOCATION = 13 << 3 | 2, 14 << 3
TYPED_DATA = {3: "segment", 4: "float_data", 5: "int32_data", 6: "string_data", 7: "int64_data"}
TYPED_DATA |= {10: "double_data", 11: "uint64_data"}

RECONVERT = "convert the checkpoint that it was made from"
"""The way out where a file is not ours."""


def is_plain(location: str) -> bool:
    """Returns whether a location that a model names is a path of plain names and slashes."""
    parts = location.split("/")
    foreign = "\\" in location or PureWindowsPath(location).drive or len(location) > 1000
    return not foreign and location.isprintable() and "" not in parts and ".." not in parts
