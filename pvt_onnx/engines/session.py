"""Running a model file of ours in onnxruntime."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import EncodeError

from pvt_data.answers.accuracy import Forward
from pvt_onnx.engines.runtime import CPU, CUDA
from pvt_onnx.files import OnnxFileError, check_pair_of, load_proto
from pvt_onnx.interface import (
    Interface,
    check_files,
    check_graph,
    checked_answers,
    reporting,
)
from pvt_spec import METADATA_KEY, ConfigError, ModelInfo, output_names, tap_names
from pvt_spec.arrays import Array
from pvt_spec.files.models import check_model_file
from pvt_spec.files.replacing import AnyPath
from pvt_spec.hashes import PAIR_KEY, describe_changes
from pvt_spec.words import listed

OPTIMIZATIONS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""What onnxruntime may do to a graph before it runs it."""


def open_session(
    model: Path | bytes, name: str, optimization: str = "all", provider: str = CPU
) -> onnxruntime.InferenceSession:
    """Opens an onnxruntime session.

    Args:
        model: A file, or a serialized model.
        name: The model's name in an error.
        optimization: One of :data:`OPTIMIZATIONS`.
        provider: The execution provider; what it has no kernel for runs on the CPU.

    Raises:
        OnnxFileError: onnxruntime cannot load it, or runs it elsewhere than it was asked to.
    """
    if isinstance(model, Path) and not model.is_file():
        raise OnnxFileError(f"{model}: no such file")
    with reporting(name, "onnxruntime cannot load it as an ONNX model"):
        source = model if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.graph_optimization_level = OPTIMIZATIONS[optimization]
        providers = [_explicit(provider), *([CPU] if provider != CPU else [])]
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    # Where a provider cannot start, onnxruntime warns and goes on with the next one.
    if session.get_providers()[0] != provider:
        raise OnnxFileError(
            f"{name}: asked onnxruntime for {provider}, but it runs on "
            f"{session.get_providers()[0]}: install the build for it (onnxruntime-gpu for CUDA) "
            "and what that needs, or ask for the CPU"
        )
    return session


def _explicit(provider: str) -> Any:
    """Returns a provider with every option that changes numbers: CUDA's TF32 is on by default."""
    return (CUDA, {"use_tf32": "0"}) if provider == CUDA else provider


def read_info(model: onnx.ModelProto, name: str) -> ModelInfo:
    """Returns what travelled with the weights, from a model's metadata.

    Raises:
        OnnxFileError: The model was not written by ``convert``, or its metadata is damaged.
    """
    with reporting(name, "its metadata cannot be read"):
        metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise OnnxFileError(
            f"{name}: no {METADATA_KEY} in its metadata, so its preprocessing and classes are not "
            "known; make the model with convert from the weights that it was made from"
        )
    try:
        return ModelInfo.from_json(metadata[METADATA_KEY])
    except ConfigError as error:
        raise OnnxFileError(f"{name}: its metadata cannot be used: {error}") from error


def load_forward(
    path: AnyPath, tell: Callable[[str], None] | None = None
) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: An ``.onnx`` file written by ``convert``.
        tell: A function that is told if the file was changed since it was written; without one,
            that is not looked for.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`; the model's description.

    Raises:
        OnnxFileError: The file cannot be used; when called, the graph cannot be run.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise OnnxFileError(
            f"{path}: expected an .onnx file: make one with convert {path} {path.stem}.onnx"
        )
    check_model_file(path)
    info, interface, paired = _inspect(path, tell)
    session, names = open_session(path, str(path)), output_names(info.config)
    if paired:
        check_pair_of(path)
    return _forward(session, names, interface, info), info


def _inspect(path: Path, tell: Callable[[str], None] | None) -> tuple[ModelInfo, Interface, bool]:
    """Returns what a file says, how its graph is used, and whether it is one of a pair.

    If it was changed, that is told.
    """
    model = load_proto(path, weights=False)
    info = read_info(model, str(path))
    interface = check_graph(model, info, str(path), info.preprocessing.image_size)
    check_files(model, path)
    if tell:
        from pvt_onnx.changes import find_changes

        whole = load_proto(path) if any(t.external_data for t in model.graph.initializer) else model
        if changes := find_changes(whole, info):
            tell(f"{path}: {describe_changes(changes)}")
    return info, interface, any(entry.key == PAIR_KEY for entry in model.metadata_props)


def _forward(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    interface: Interface,
    info: ModelInfo,
) -> Forward:
    def run(inputs: dict[str, Array], values: Sequence[str]) -> list[Array]:
        return list(session.run(values, inputs))

    return checked_answers(run, names, interface, info)


def open_taps(
    model: onnx.ModelProto,
    name: str,
    wanted: Sequence[str] | None = None,
    optimization: str = "all",
    provider: str = CPU,
) -> Callable[[Array], dict[str, Array]]:
    """Opens a forward pass of onnxruntime that gives intermediate results.

    More outputs can change which nodes onnxruntime fuses, and so the last digits; the model's
    own outputs therefore come from a second session of the model as it is.

    Args:
        model: A model of :func:`pvt_onnx.build` or :func:`load_proto`.
        name: The model's name in an error.
        wanted: The taps that are wanted; all of :func:`pvt_spec.tap_names` by default.
        optimization: One of :data:`OPTIMIZATIONS`.
        provider: The execution provider.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under these
        names, in forward order.

    Raises:
        OnnxFileError: onnxruntime cannot load the model, or it lacks a tap.
    """
    info = read_info(model, name)
    interface, config = check_graph(model, info, name), info.config
    names = tap_names(config) if wanted is None else wanted
    outputs = [tap for tap in output_names(config) if tap in names]
    inner = [tap for tap in names if tap not in outputs]

    def opened(taps: Sequence[str]) -> Forward:
        asked = model if taps is outputs else with_outputs(model, name, taps)
        session = open_session(_serialize(asked, name), name, optimization, provider)
        return _forward(session, taps, interface, info)

    passes = [opened(taps) for taps in (outputs, inner) if taps]

    def run(images: Array) -> dict[str, Array]:
        taps: dict[str, Array] = {}
        for each in passes:
            taps |= each(images)
        return {tap: taps[tap] for tap in names}

    return run


def with_outputs(model: onnx.ModelProto, name: str, taps: Sequence[str]) -> onnx.ModelProto:
    """Returns a copy of a model that answers more of its values.

    Raises:
        OnnxFileError: It lacks a tap.
    """
    values = {output for node in model.graph.node for output in node.output}
    missing = [tap for tap in taps if tap not in values]
    if missing:
        raise OnnxFileError(
            f"{name}: the graph has no value named {listed(missing, 5)}: it was changed after "
            "convert wrote it (by an optimiser, say); write it again with convert"
        )
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.extend(onnx.ValueInfoProto(name=tap) for tap in taps)
    return tapped


def _serialize(model: onnx.ModelProto, name: str) -> bytes:
    try:
        encoded: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise OnnxFileError(
            f"{name}: onnxruntime takes models of less than 2 GiB from memory, expected a smaller "
            "one: its intermediate results cannot be had"
        ) from error
    return encoded
