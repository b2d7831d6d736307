"""What an engine's sums of 8-bit products are worth on this CPU."""

from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from pvt_onnx.engines.table import open_engine

_COUNT = 64


@cache
def sums_saturate() -> bool:
    """Returns whether onnxruntime's sums of uint8 times int8 are wrong where they are large.

    Without VNNI, x86 adds two such products in 16 bits, which keep 32,767 at most. It computes
    a matrix product of the largest numbers to find out.
    """
    largest, weight = np.full((1, _COUNT), 255, np.uint8), np.full((_COUNT, 16), 127, np.int8)
    node = helper.make_node("MatMulInteger", ["images", "weight"], ["sums"])
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, largest.shape)
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 16])
    held = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph([node], "sums of products", [images], [sums], held)
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    engine = open_engine(model.SerializeToString(), "a product")
    (found,) = engine.run({"images": largest}, ["sums"])
    return bool((found != _COUNT * 255 * 127).any())
