"""Models of ours as other people's tools make them coarser: int8 in its ways, float16."""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pvt_onnx.graph.layers import INPUT


@contextmanager
def _apart() -> Iterator[Path]:
    """A folder for what tools leave, and no word of theirs."""
    before = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        here = Path.cwd()
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(here)
            logging.disable(before)


def quantise_dynamically(model: onnx.ModelProto, images: np.ndarray, **options: Any) -> Any:
    """What ``quantize_dynamic`` makes of a model."""
    from onnxruntime.quantization import quantize_dynamic

    with _apart() as folder:
        onnx.save(model, folder / "before.onnx")
        quantize_dynamic(folder / "before.onnx", folder / "after.onnx", **options)
        return onnx.load(folder / "after.onnx")


def quantise_statically(model: onnx.ModelProto, images: np.ndarray, **options: Any) -> Any:
    """What ``quantize_static`` makes of a model, calibrated with some images."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """The one batch to calibrate by."""

        def __init__(self) -> None:
            self.batches = iter([{INPUT: images}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with _apart() as folder:
        onnx.save(model, folder / "before.onnx")
        quant_pre_process(folder / "before.onnx", folder / "prepared.onnx")
        quantize_static(folder / "prepared.onnx", folder / "after.onnx", Images(), **options)
        return onnx.load(folder / "after.onnx")


def quantise_channels(model: onnx.ModelProto, images: np.ndarray, **options: Any) -> Any:
    """Static QDQ, unsigned results, weights by channel: what CPUs are quickest with."""
    from onnxruntime.quantization import QuantType

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    return quantise_statically(model, images, per_channel=True, **kinds, **options)


def quantise_operators(model: onnx.ModelProto, images: np.ndarray, **options: Any) -> Any:
    """Static, with operators on integers."""
    from onnxruntime.quantization import QuantFormat

    return quantise_statically(model, images, quant_format=QuantFormat.QOperator, **options)


def quantise_weights(model: onnx.ModelProto, images: np.ndarray) -> Any:
    """Weights alone, in blocks of 8 bits, of the products whose weight is a MatMul's."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    changed = with_products(model)
    quantiser = MatMulNBitsQuantizer(changed, bits=8, block_size=32, is_symmetric=True)
    with _apart():
        quantiser.process()
    return quantiser.model.model


def with_products(model: onnx.ModelProto) -> Any:
    """A model whose every Gemm is a MatMul with the weight transposed, and an Add."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        x, weight, bias = node.input
        turned = numpy_helper.from_array(numpy_helper.to_array(held[weight]).T.copy(), weight)
        held[weight].CopyFrom(turned)
        (made,) = node.output
        nodes.append(helper.make_node("MatMul", [x, weight], [f"{made}/product"], name=made))
        nodes.append(helper.make_node("Add", [f"{made}/product", bias], [made]))
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def halve(model: onnx.ModelProto, images: np.ndarray, keep_io_types: bool = True) -> Any:
    """Every value in float16, but for what goes in and comes out."""
    from onnxconverter_common import float16

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    with _apart():
        return float16.convert_float_to_float16(copied, keep_io_types=keep_io_types)


def halve_all(model: onnx.ModelProto, images: np.ndarray) -> Any:
    """Every value in float16."""
    return halve(model, images, keep_io_types=False)


Tool = Callable[..., Any]
"""A function of a model, images to calibrate by, and options of the quantiser's own."""

QUANTISERS: dict[str, Tool] = {
    "dynamic": quantise_dynamically,
    "static": quantise_statically,
    "channels": quantise_channels,
    "operators": quantise_operators,
    "weights": quantise_weights,
}
"""Ways to int8."""

HALVERS: dict[str, Tool] = {"float16 inside": halve, "float16": halve_all}
"""Ways to float16."""
