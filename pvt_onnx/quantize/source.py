"""The float model that is quantised, in the form that quantises best."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from pvt_data.sources.labels import Tell
from pvt_onnx.engines.session import read_info
from pvt_onnx.graph.build import build
from pvt_onnx.reading.changes import find_changes
from pvt_onnx.reading.files import (
    OnnxFileError,
    check_onnx_file,
    embedded,
    load_proto,
    read_metadata,
)
from pvt_onnx.reading.held import read_held
from pvt_onnx.reading.interface import check_graph
from pvt_onnx.reading.precision import read_precision
from pvt_onnx.targets import (
    ASCEND,
    DEFAULT_TARGET,
    LINEAR,
    TARGET_KEY,
    TARGETS,
    Target,
)
from pvt_spec import METADATA_KEY, ModelInfo, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.hashes import GRAPH_KEY, describe_changes, stamp_of
from pvt_spec.taps import tap_specs

_AGAIN = "quantise the float32 file that convert wrote"

Layers = dict[str, tuple[str, ...]]
"""Module, by the name of its tap -> the layers in it that can be quantised."""


@dataclass(frozen=True)
class Source:
    """A float model, as its file has it.

    Attributes:
        name: The file's name in messages.
        model: The file's own graph.
        info: What its metadata says.
        weights: Every weight by canonical name, float32.
        target: What its graph was written for.
        opset: The graph's opset.
        size: The (H, W) of images that it takes; None for any.
        uint8: Whether it takes pixels.
        bytes: The size of its file, and of the one that it keeps its weights in.
    """

    name: str
    model: onnx.ModelProto
    info: ModelInfo
    weights: dict[str, Array]
    target: Target
    opset: int
    size: tuple[int, int] | None
    uint8: bool
    bytes: int

    def build(self, weights: dict[str, Array], target: Target, opset: int) -> onnx.ModelProto:
        """Returns a model of these weights that takes what the file takes, and says what it says.

        Args:
            weights: Weights that answer as the file's do.
            target: The form.
            opset: The opset.
        """
        model = build(
            self.info.config,
            self.info.numerics,
            weights,
            info=self.info,
            image_size=self.size,
            dynamic_size=self.size is None,
            opset=opset,
            target=target,
            uint8=self.uint8,
        )
        said = {entry.key: entry for entry in model.metadata_props}
        # The weights' hashes stay those of the float model: which one it was made from.
        said[METADATA_KEY].value = self.info.to_json()
        model.metadata_props.remove(said[GRAPH_KEY])
        return model


def read_source(path: Path, tell: Tell) -> Source:
    """Reads the model that is to be quantised.

    Args:
        path: An ``.onnx`` file that ``convert`` wrote.
        tell: What is told what is done with weights of another dtype and with a certificate.

    Raises:
        OnnxFileError: It is no such file: quantised already, changed, another's, or for a target
            that has a quantiser of its own.
    """
    model, name = _load(path), str(path)
    info = read_info(model, name)
    interface = check_graph(model, info, name)
    target = _target(model, info, name)
    weights = read_held(model, info.config).weights
    size = _size(path, weights)
    if half := [key for key, array in weights.items() if array.dtype != np.float32]:
        tell(f"{name}: {len(half)} of its weights are not float32 and are widened, which is exact")
        weights = {key: array.astype(np.float32) for key, array in weights.items()}
    if certificate := stamp_of(read_metadata(model)):
        tell(f"{name}: its certificate {certificate} is of the float model, and is not carried")
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    return Source(
        name,
        model,
        info,
        weights,
        target,
        opset,
        _whole(interface.sides),
        interface.dtype == np.uint8,
        size,
    )


def _load(path: Path) -> onnx.ModelProto:
    """Reads a graph of floats that takes images as they calibrate it; see :func:`read_source`."""
    check_onnx_file(path)
    model = load_proto(path)
    if (precision := read_precision(model)) != "fp32":
        done = "is quantised already" if precision == "int8" else f"computes in {precision}"
        raise OnnxFileError(f"{path}: it {done}: {_AGAIN}")
    if embedded(model):
        raise OnnxFileError(
            f"{path}: it resizes and crops images itself, and is calibrated with those that are "
            "fitted: quantise one that convert wrote without --embed-preprocess, or with --uint8"
        )
    return model


def _target(model: onnx.ModelProto, info: ModelInfo, name: str) -> Target:
    """Returns what a graph was written for, which is unchanged; see :func:`read_source`."""
    if changes := find_changes(model, info):
        raise OnnxFileError(
            f"{name}: {describe_changes(changes)}, and a quantised graph is written anew from "
            f"the weights: {_AGAIN}"
        )
    target = TARGETS.get(read_metadata(model).get(TARGET_KEY, ""), TARGETS[DEFAULT_TARGET])
    if target.name == ASCEND:
        raise OnnxFileError(
            f"{name}: its graph is for Ascend, whose own tools quantise it: give one that convert "
            "wrote for another target"
        )
    return target


def _whole(sides: tuple[int | None, int | None]) -> tuple[int, int] | None:
    H, W = sides
    return (H, W) if H and W else None


def _size(path: Path, weights: dict[str, Array]) -> int:
    held, inside = sum(array.nbytes for array in weights.values()), path.stat().st_size
    return inside if inside > held else inside + held


def quantisable(target: Target) -> Target:
    """Returns the form of a target's graphs that quantises best.

    Where its linear layers may be convolutions, all over tokens are: onnxruntime's quantised
    convolutions are the quickest of its products of integers (a fifth quicker than ``QGemm``), and
    OpenVINO stumbles over the dequantised rows of a ``Gemm``.
    """
    return dataclasses.replace(target, kernels=LINEAR) if target.kernels else target


def layers_of(source: Source) -> Layers:
    """Returns the layers that can be quantised, by the module that has them, in forward order."""
    layers = [
        spec
        for spec in tensor_specs(source.info.config)
        if spec.kind in ("conv", "linear") and spec.part == "weight"
    ]
    found = {}
    for tap in tap_specs(source.info.config):
        kind = "head" if tap.layer == "logits" else tap.layer
        found[tap.name] = tuple(
            spec.module
            for spec in layers
            if (spec.layer.split(".")[0], spec.stage, spec.block) == (kind, tap.stage, tap.block)
        )
    return {module: layers for module, layers in found.items() if layers}
