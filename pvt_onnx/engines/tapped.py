"""Running a graph for its intermediate results, and a graph as engines take it from memory."""

from collections.abc import Sequence

import onnx
from google.protobuf.message import EncodeError

from pvt_data.answers.accuracy import Forward, Opened
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import check_precision, read_info
from pvt_onnx.engines.table import Engine, find_engine
from pvt_onnx.reading.files import OnnxFileError
from pvt_onnx.reading.interface import check_graph, checked_answers
from pvt_spec import ConfigError, output_names, tap_names
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.words import listed


@checked
def open_taps(
    model: onnx.ModelProto,
    name: str,
    wanted: Sequence[str] | None = None,
    options: EngineOptions = EngineOptions(),
) -> Forward:
    """Opens a forward pass that gives intermediate results.

    More outputs can change which nodes an engine fuses, and so the last digits; the model's own
    outputs therefore come from a second session of the model as it is.

    Args:
        model: A model of :func:`pvt_onnx.build` or :func:`load_proto`.
        name: The model's name in an error.
        wanted: The taps that are wanted; all of :func:`pvt_spec.tap_names` by default.
        options: Which engine runs it, and how.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under these
        names, in forward order.

    Raises:
        OnnxFileError: The engine cannot load the model, or it lacks a tap.
        ConfigError: No tap is wanted.
        RuntimeUnusable: The engine cannot do what is asked.
        LibraryMissing: The engine is not installed.
    """
    return open_tapped(model, name, wanted, options).forward


def open_tapped(
    model: onnx.ModelProto,
    name: str,
    wanted: Sequence[str] | None,
    options: EngineOptions,
    size: tuple[int, int] | None = None,
) -> Opened:
    """Opens a forward pass as :func:`open_taps` does, and says what really runs it too.

    Args:
        model: The model.
        name: Its name in an error.
        wanted: The taps that are wanted.
        options: Which engine runs it, and how.
        size: The (H, W) in pixels of what it will be given; None where any may be.
    """
    info = read_info(model, name)
    interface, config = check_graph(model, info, name, size), info.config
    names = tap_names(config) if wanted is None else wanted
    outputs = [tap for tap in output_names(config) if tap in names]
    inner = [tap for tap in names if tap not in outputs]
    if not names:
        raise ConfigError(
            f"{name}: no tap is wanted, expected some of {listed(tap_names(config), 4)}"
        )

    check_precision(options, interface)
    open_ = find_engine(options)

    def opened(taps: Sequence[str]) -> Engine:
        asked = model if taps is outputs else with_outputs(model, name, taps)
        return open_(serialize(asked, name), name)

    engines = [(opened(taps), taps) for taps in (outputs, inner) if taps]
    passes = [checked_answers(engine.run, taps, interface, info) for engine, taps in engines]

    def run(images: Array) -> dict[str, Array]:
        taps: dict[str, Array] = {}
        for each in passes:
            taps |= each(images)
        return {tap: taps[tap] for tap in names}

    return Opened(run, info, engines[0][0].facts)


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


def serialize(model: onnx.ModelProto, name: str) -> bytes:
    """Returns a model's bytes, as an engine takes them.

    Raises:
        OnnxFileError: It is too large for that.
    """
    try:
        encoded: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise OnnxFileError(
            f"{name}: engines take models of less than 2 GiB from memory, expected a smaller "
            "one: its intermediate results cannot be had"
        ) from error
    return encoded
