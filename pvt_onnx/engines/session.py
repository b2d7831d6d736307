"""Running a model file of ours in any engine."""

from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

import onnx

from pvt_data.answers.accuracy import Forward, Opened
from pvt_data.description import Description, check_variant
from pvt_data.sources.labels import Tell, ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import Engine, find_engine
from pvt_onnx.reading.bounds import check_size
from pvt_onnx.reading.files import (
    OnnxFileError,
    check_files,
    check_onnx_file,
    check_pair_of,
    embedded,
    file_size,
    load_proto,
    places,
    read_metadata,
    reporting,
)
from pvt_onnx.reading.interface import Interface, check_graph, checked_answers, image_sides
from pvt_onnx.reading.precision import describe_rounding
from pvt_spec import METADATA_KEY, ConfigError, ModelInfo, output_names
from pvt_spec.arguments import checked
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.files.replacing import AnyPath
from pvt_spec.files.stamps import check_unchanged, stamp_files
from pvt_spec.hashes import PAIR_KEY, describe_changes
from pvt_spec.model_info import Untouched
from pvt_spec.precisions import FLOAT16, FLOAT32, coarser
from pvt_spec.words import listed

_MOST_BYTES = 1 << 30
"""Bytes of a graph that is handed to an engine as such; protobuf has twice as many at most."""


class InfoMissing(OnnxFileError):
    """A model that does not say what it is."""

    def __init__(self, name: str, problem: str):
        """Says so, and what can be done.

        Args:
            name: The model's name.
            problem: The words for why it does not.
        """
        super().__init__(
            f"{name}: {problem}; make the model with convert from the weights that it was made from"
        )
        self.problem = problem


def read_info(model: onnx.ModelProto, name: str) -> ModelInfo:
    """Returns what travelled with the weights, from a model's metadata.

    Raises:
        InfoMissing: The model was not written by ``convert``, or its metadata is damaged.
    """
    with reporting(name, "its metadata cannot be read"):
        metadata = read_metadata(model)
    if METADATA_KEY not in metadata:
        raise InfoMissing(
            name,
            f"no {METADATA_KEY} in its metadata, so its preprocessing and classes are not known",
        )
    try:
        return ModelInfo.from_json(metadata[METADATA_KEY])
    except ConfigError as error:
        raise InfoMissing(name, f"its metadata cannot be used: {error}") from error


@checked
def load_forward(
    path: AnyPath,
    tell: Tell | None = None,
    options: EngineOptions = EngineOptions(),
) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: An ``.onnx`` file written by ``convert``.
        tell: A function that is told if the file was changed since it was written; without one,
            that is not looked for.
        options: Which engine runs it, and how.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`; the model's description.

    Raises:
        OnnxFileError: The file cannot be used; when called, the graph cannot be run.
        RuntimeUnusable: The engine cannot do what is asked.
        LibraryMissing: The engine is not installed.
    """
    opened = open_model(path, tell, options)
    return opened.forward, opened.info


def open_model(
    path: AnyPath,
    tell: Tell | None = None,
    options: EngineOptions = EngineOptions(),
    size: tuple[int, int] | None = None,
    said: Description = Description(),
) -> Opened:
    """Opens a model file as :func:`load_forward` does, and says what really runs it too.

    Images are of ``size``, (H, W) in pixels, in place of the model's own. A file that does not say
    what it is is what is ``said`` of it.
    """
    engine, interface, info, beside = open_file(path, tell, options, size, said)
    forward = checked_answers(engine.run, output_names(info.config), interface, info)
    batch = interface.batch or (1 if options.at_once > 1 else None)
    return Opened(forward, info, engine.facts, options.at_once, batch, beside)


class OpenFile(NamedTuple):
    """A model file that an engine has opened.

    Attributes:
        engine: What runs its graph as it is.
        interface: How that takes images and answers.
        info: What travels with its weights.
        beside: The files that it keeps weights in.
    """

    engine: Engine
    interface: Interface
    info: ModelInfo
    beside: tuple[Path, ...]


def open_file(
    path: AnyPath,
    tell: Tell | None = None,
    options: EngineOptions = EngineOptions(),
    size: tuple[int, int] | None = None,
    said: Description = Description(),
) -> OpenFile:
    """Opens a model file, as :func:`open_model` does, for who gives its graph its own inputs."""
    open_ = find_engine(options)
    path = Path(path)
    check_onnx_file(path)
    stamps = stamp_files(path)
    info, interface, paired, beside = _inspect(path, tell, size, said)
    files = tuple(path.parent / name for name in sorted(beside))
    stamps = stamp_files(path, files) | stamps
    check_variant(str(path), info.variant, said.model)
    if isinstance(info.preprocessing, Untouched) and options.engine == "openvino":
        raise RuntimeUnusable(
            f"{path}: its graph resizes images, of which OpenVINO leaves the averaging out without "
            "a word: take engine onnxruntime, or write it without --embed-preprocess"
        )
    check_precision(options, interface)
    engine = open_(_whole(path, beside), str(path))
    if paired:
        check_pair_of(path)
    check_unchanged(stamps)
    # What a graph computes in integers or float16, an engine's own precision does not say.
    precision = coarser(engine.facts["precision"], interface.precision)
    engine = replace(engine, facts={**engine.facts, "precision": precision})
    return OpenFile(engine, interface, info, files)


def _whole(path: Path, beside: set[str]) -> Path | bytes:
    """Returns a graph with the weights that it keeps in another file, as far as one can hold them.

    Engines map such a file: who writes over it changes the answers of those that run, and who cuts
    it off ends them.
    """
    if not beside or file_size(path, beside) > _MOST_BYTES:
        return path
    whole: bytes = load_proto(path).SerializeToString()
    return whole


def check_precision(options: EngineOptions, interface: Interface) -> None:
    """Refuses to compute floats otherwise than a graph does that says it of each operator.

    Raises:
        RuntimeUnusable: float32 is asked for of a graph in float16.
    """
    if options.precision == FLOAT32 and interface.precision == FLOAT16:
        raise RuntimeUnusable(
            f"{interface.model}: its graph computes in {FLOAT16}, asked for {FLOAT32}: leave "
            "precision out to run it as it is, or take the file that convert writes without "
            f"--precision {FLOAT16}"
        )


def _inspect(
    path: Path, tell: Tell | None, size: tuple[int, int] | None, said: Description
) -> tuple[ModelInfo, Interface, bool, set[str]]:
    """Returns what a file says, how its graph is used, whether it is one of a pair, and the files
    that it keeps weights in.

    If it was changed, that is told.
    """
    model = load_proto(path, weights=False)
    own, says = read_or_describe(model, path, tell or ignore, size, said)
    if size and embedded(model):
        H, W = own.preprocessing.image_size
        raise OnnxFileError(f"{path}: its graph resizes images itself, to {H}x{W}: give no size")
    info = own.sized(size)
    if size:
        check_size(size, image_sides(model, own.config), str(path))
    check_files(model, path)
    interface = check_graph(model, info, str(path), info.preprocessing.image_size)
    if tell:
        from pvt_onnx.reading.changes import find_changes

        whole = load_proto(path) if any(t.external_data for t in model.graph.initializer) else model
        if says and (changes := find_changes(whole, info)):
            tell(f"{path}: {describe_changes(changes)}")
        if rounding := describe_rounding(model):
            tell(f"{path}: {rounding}")
    paired = PAIR_KEY in read_metadata(model)
    info = _as_given(info, path, tell) if embedded(model) else info
    return info, interface, paired, places(model)


def read_or_describe(
    model: onnx.ModelProto,
    path: Path,
    tell: Tell,
    size: tuple[int, int] | None,
    said: Description,
) -> tuple[ModelInfo, bool]:
    """Returns what a file is, and whether it says so itself, in which case it is believed."""
    try:
        own = read_info(model, str(path))
    except InfoMissing as error:
        from pvt_onnx.reading.stated import describe

        return describe(model, str(path), error.problem, said, size, tell), False
    rows = (row for row in fields(said) if getattr(said, row.name) != row.default)
    if given := [row.name for row in rows if row.name != "model"]:  # which is compared
        tell(
            f"{path}: says itself what it is, so what is said of it ({listed(given, 5)}) is not "
            "used: convert writes a file that says something else"
        )
    return own, True


def _as_given(info: ModelInfo, path: Path, tell: Tell | None) -> ModelInfo:
    """Returns what a file says whose graph prepares images itself: they are given as they are."""
    if tell:
        tell(f"{path}: its graph resizes and crops: images are given to it whole, one at a time")
    return replace(info, preprocessing=Untouched(**vars(info.preprocessing)))
