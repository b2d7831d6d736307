"""An ``.onnx`` of ours, read and written; the files beside it that hold weights with it."""

from collections.abc import Mapping, Set
from pathlib import Path

from convert.formats.onnx.encoding import graph_pieces, model_size, write_model
from convert.formats.onnx.layout import (
    GRAPH,
    MAX_BYTES,
    METADATA_PROPS,
    MODEL_PARTS,
    RECONVERT,
    is_plain,
)
from convert.formats.onnx.tensors import ModelReader, Tensor
from convert.formats.weight_file import WeightFile, check_sharing, map_file
from pvt_onnx.ascend import aipp_config, aipp_file, atc_commands
from pvt_onnx.targets import ASCEND, choose_opset, find_target
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError, PvtError
from pvt_spec.files.replacing import check_target, replacing_all
from pvt_spec.hashes import (
    CERTIFICATE_KEY,
    GRAPH_KEY,
    GRAPH_PARTS,
    PAIR_BYTES,
    PAIR_KEY,
    PRECISION_KEY,
    QUANTIZATION_KEY,
    PartsHash,
    check_pair,
    encode_maths,
    pair_mark,
    stamp_of,
)
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import show

_AGAIN = "the file is cut off, damaged or no ONNX model: copy or download it again"


def read(path: Path) -> WeightFile:
    """Reads the weights and metadata of an ONNX model that ``convert`` wrote.

    Args:
        path: An ``.onnx`` file. Files that it keeps weights in are read from its folder.

    Returns:
        Read-only arrays under canonical names, in the file's order: views of the mapped files.

    Raises:
        ConvertError: The file is missing, damaged, not ONNX, or was written by something else; or
            a weight is kept where it may not be, or as what numpy has no array for.
    """
    reader = ModelReader(path, memoryview(map_file(path)), _AGAIN)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    digest = PartsHash(GRAPH_PARTS)
    graphs = 0
    for key, start, stop in reader.fields(0, len(reader.data)):
        if key == GRAPH:  # in several pieces, it is all of them
            graphs += 1
            reader.add_graph(start, stop, tensors, digest)
        elif key == METADATA_PROPS:
            reader.add_text(start, stop, metadata)
        elif key in MODEL_PARTS:
            digest.add(MODEL_PARTS[key], reader.data[start:stop])
    if not graphs:
        raise ConvertError(f"{path}: without a graph, expected an ONNX model; {_AGAIN}")
    if METADATA_KEY not in metadata:
        raise ConvertError(
            f"{path}: no {METADATA_KEY} in its metadata, so it was not written by convert; "
            f"exporters rename and fold weights: {RECONVERT}"
        )
    for _, constant in sorted(each for each in tensors.items() if "/" in each[0]):
        digest.add("constant", reader.data[constant.at : constant.stop])
    digest.add("description", encode_maths(metadata[METADATA_KEY]))
    graph_hash = digest.hexdigest()
    other = metadata.get(GRAPH_KEY, graph_hash) != graph_hash
    coarse = other or not metadata.keys().isdisjoint({PRECISION_KEY, QUANTIZATION_KEY})
    if coarse and (found := _read_coarse(path, metadata, graph_hash, tensors.keys())):
        return found
    arrays = {name: reader.array(t) for name, t in tensors.items() if "/" not in name}
    beside = dict(reader.beside.values())  # once each, by however many names
    try:
        check_sharing(arrays.values(), len(reader.data) + sum(map(len, beside.values())))
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}; {RECONVERT}") from None
    for file, data in beside.items():
        check_pair(str(path), metadata, str(file), bytes(data[-PAIR_BYTES:]))
    return WeightFile({"": arrays}, metadata, files=(path, *beside), graph_hash=graph_hash)


def _read_coarse(
    path: Path, metadata: dict[str, str], graph_hash: str, named: Set[str]
) -> WeightFile | None:
    """Reads a model whose graph may not be as it was written, by what its nodes do with weights.

    Returns:
        What it holds where that is coarser than float32 or kept otherwise than we do; None where
        it is as we keep it, or cannot be read so.
    """
    from pvt_onnx.reading.files import load_proto, places
    from pvt_onnx.reading.held import read_held
    from pvt_onnx.reading.precision import describe_rounding, read_precision

    try:
        config = ModelInfo.from_json(metadata[METADATA_KEY]).config
        model = load_proto(path)
        precision, held = read_precision(model), read_held(model, config)
        made = describe_rounding(model)
    except (PvtError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    if precision == FLOAT32 and held.weights.keys() <= named:
        return None
    return WeightFile(
        {"": held.weights},
        metadata,
        files=(path, *(path.parent / name for name in sorted(places(model)))),
        graph_hash=graph_hash,
        precision=precision,
        rounded=held.kept,
        made=made,
    )


def planned(
    path: Path,
    *,
    target: str | None,
    opset: int | None,
    dynamic_size: bool,
    uint8: bool,
    precision: str,
    half_ends: bool,
    embed: bool,
    external_data: bool,
) -> list[Path]:
    """Returns a model's files, the one to name first: with the weights inside, or beside it.

    Raises:
        ConfigError: The target has no such graph.
    """
    choose_opset(find_target(target), opset, dynamic_size, uint8, precision, embed)
    files = [path, _data_file(path)] if external_data else [path]
    return [*files, aipp_file(path)] if target == ASCEND else files


def next_steps(path: Path, info: ModelInfo, *, target: str | None, **_: object) -> list[str]:
    """Returns the lines by which what the file is for goes on from there."""
    return atc_commands(path, info) if target == ASCEND else []


def _data_file(path: Path) -> Path:
    """Returns the file of a model's weights.

    Raises:
        ConvertError: It cannot be called so within a model.
    """
    found = path.with_name(f"{path.name}.data")
    if not is_plain(found.name):
        raise ConvertError(
            f"{path}: a model says what its file of weights is called, which {show(found.name)} "
            "cannot be: expected a name of plain characters"
        )
    return found


def write(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    force: bool,
    *,
    opset: int | None,
    dynamic_size: bool,
    target: str | None,
    uint8: bool,
    precision: str,
    half_ends: bool,
    embed: bool,
    external_data: bool,
) -> list[Path]:
    """Writes a model, whole or not at all: its graph from the metadata, and the weights.

    Args:
        path: The target.
        tensors: Every weight by canonical name.
        metadata: Texts, :meth:`pvt_spec.ModelInfo.to_json` under ``METADATA_KEY`` among them.
        force: Whether existing files are replaced.
        opset: The opset; None for the target's own.
        dynamic_size: Whether the image's height and width are left open.
        target: The name of what the graph is for, one of
            :data:`pvt_onnx.targets.TARGETS`; None for the first.
        uint8: Whether the graph takes pixels and normalises them itself.
        precision: What it computes in; of ``"fp16"``, the weights are as
            :func:`pvt_onnx.graph.build.as_halves` makes them.
        half_ends: Whether what goes in and comes out of such a graph is float16 too.
        embed: Whether the graph takes pixels of any size, and resizes and crops them too.
        external_data: Whether the weights go to a file beside it. They do in any case where the
            model would pass :data:`MAX_BYTES`.

    Returns:
        The files that were written.

    Raises:
        ConfigError: The target has no such graph.
        ConvertError: A file cannot be written.
        FileExists: One is there and ``force`` is not given.
    """
    from pvt_onnx.graph.build import as_initializers, build_skeleton

    check_target(path, force)
    info = ModelInfo.from_json(metadata[METADATA_KEY])
    tensors = as_initializers(info.config, tensors, target)
    skeleton = build_skeleton(
        info,
        {name: array.dtype for name, array in tensors.items()},
        dynamic_size=dynamic_size,
        opset=opset,
        target=target,
        uint8=uint8,
        precision=precision,
        half_ends=half_ends,
        embed=embed,
    )
    if stamp := stamp_of(metadata):
        skeleton.metadata_props.add(key=CERTIFICATE_KEY, value=stamp)
    external = external_data or model_size(skeleton, tensors) > MAX_BYTES
    config = aipp_config(path, info) if target == ASCEND else None
    files = [path, *([_data_file(path)] if external else [])]
    files += [aipp_file(path)] if config else []
    mark = pair_mark(skeleton.SerializeToString(deterministic=True)) if external else b""
    if external:
        skeleton.metadata_props.add(key=PAIR_KEY, value=mark.decode())

    def bridge(name: str) -> bytes:
        return b"".join(graph_pieces(skeleton, tensors, name))

    with replacing_all(files, force, bridge if external and not config else None) as streams:
        beside = (files[1].name, streams[1]) if external else None
        write_model(streams[0], skeleton, tensors, beside)
        if external:
            streams[1].write(mark)
        if config:
            streams[-1].write(config.encode())
    return files
