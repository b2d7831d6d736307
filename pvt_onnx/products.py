"""A model's matrix products alone, as a graph: what a machine can do at its sizes.

Convolutions are products of what they gather, with nothing gathered; depthwise ones are left out.
Each layer has weights of its own, which come from memory as the model's do.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_tensor_value_info

from pvt_data.answers.accuracy import Opened
from pvt_data.description import Description
from pvt_data.sources.labels import ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import read_or_describe
from pvt_onnx.engines.table import open_engine
from pvt_onnx.reading.files import AGAIN, OnnxFileError, file_size, load_proto, places
from pvt_onnx.reading.interface import check_graph
from pvt_spec import tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.macs import Product, list_products

OPSET = 13

_MOST_OF_A_BYTE = 4
"""Weights that a byte of a file holds at most, of 2 bits."""


def open_products(path: Path, threads: int | None, said: Description = Description()) -> Opened:
    """Opens the products of a model file in onnxruntime, on the CPU.

    Args:
        path: An ``.onnx`` file of ours.
        threads: The engine's threads; None for its own choice.
        said: What the user says of a file that says nothing of itself.

    Returns:
        What makes the products of as many images of the size as it is given; made anew for others.

    Raises:
        OnnxFileError: The file is no such model, or says that it has weights that it cannot hold.
    """
    model = load_proto(path, weights=False)
    info, _ = read_or_describe(model, path, ignore, None, said)
    check_graph(model, info, str(path))
    # What is made has the size that metadata says.
    size, weights = file_size(path, places(model)), sum(s.size for s in tensor_specs(info.config))
    if weights > _MOST_OF_A_BYTE * size:
        raise OnnxFileError(
            f"{path}: has {size:,} bytes, by its metadata {weights:,} weights; {AGAIN}"
        )
    options = EngineOptions(threads=threads)

    @cache
    def made(batch: int, size: tuple[int, int]) -> Callable[[], dict[str, Array]]:
        every = list_products(info.config, info.numerics, size)
        products = [product for product in every if product.kind != "depthwise"]
        graph, operands = products_graph(products, batch)
        engine = open_engine(graph.SerializeToString(), f"the products of {path}", options)
        names = [product.layer for product in products]
        return lambda: dict(zip(names, engine.run(operands, names), strict=True))

    def run(images: Array) -> dict[str, Array]:
        batch, _, H, W = images.shape
        return made(batch, (H, W))()

    return Opened(run, info, {"framework": "onnxruntime", "threads": str(threads)})


def products_graph(
    products: Sequence[Product], batch: int
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Returns a graph that makes every product for so many images, and its inputs.

    It answers the first value of each, so that the product is made and its memory used again.
    """
    inputs: dict[str, Array] = {}
    constants = {f"{end}/{axes}": np.full(axes, end, np.int64) for end in (0, 1) for axes in (2, 3)}
    nodes, outputs = [], []
    for product in products:
        name, axes = product.layer, 3 if product.kind == "attention" else 2
        given: list[tuple[int, ...]] = [(batch * product.rows, product.inner)]
        weight = (product.inner, product.columns)
        if product.kind == "attention":
            times = batch * product.times
            given = [(times, product.rows, product.inner), (times, *weight)]
        operands = [_name(shape) for shape in given]
        inputs |= {_name(shape): np.full(shape, 0.5, np.float32) for shape in given}
        if product.kind != "attention":
            operands.append(f"{name}.weight")
            constants[operands[1]] = np.full(weight, 0.01, np.float32)
        nodes.append(helper.make_node("MatMul", operands, [f"{name}/all"]))
        nodes.append(helper.make_node("Slice", [f"{name}/all", f"0/{axes}", f"1/{axes}"], [name]))
        outputs.append(make_tensor_value_info(name, TensorProto.FLOAT, [1] * axes))
    values = [
        make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in inputs.items()
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "products", values, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    version = helper.find_min_ir_version_for(opsets)
    return helper.make_model(graph, opset_imports=opsets, ir_version=version), inputs


def _name(shape: Sequence[int]) -> str:
    return "input/" + "x".join(map(str, shape))
