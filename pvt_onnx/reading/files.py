"""Reading ``.onnx`` files as they are, whoever wrote them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from pvt_onnx.targets import EMBEDDED_KEY
from pvt_spec.arguments import checked
from pvt_spec.errors import PvtError
from pvt_spec.files.folders import lies_in
from pvt_spec.files.models import check_model_file
from pvt_spec.files.reading import check_source, open_regular
from pvt_spec.files.replacing import AnyPath
from pvt_spec.files.stamps import check_unchanged, stamp_files
from pvt_spec.hashes import PAIR_BYTES, PAIR_KEY, check_pair
from pvt_spec.published import check_on_disk
from pvt_spec.words import shortened, show

AGAIN = "write it again with convert"
"""The way out that works for a model of ours."""


SIZES_BYTES, _MOST_SIZES = 4096, 10_000
"""Bytes of an initializer that may be a size, and how many initializers are looked at for one."""


class OnnxFileError(PvtError):
    """A file that is not an ONNX model, or not one that says what it is."""


@contextmanager
def reporting(name: str, problem: str) -> Iterator[None]:
    """Tells what a library raises on a strange model: neither onnx nor onnxruntime says what.

    Args:
        name: The model's name in the error.
        problem: The words for what cannot be done.

    Raises:
        OnnxFileError: Anything but an error of ours was raised.
    """
    try:
        yield
    except OnnxFileError:
        raise
    except Exception as error:
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, 300)
        raise OnnxFileError(f"{name}: {problem} ({reason}); {AGAIN}") from error


def check_onnx_file(path: Path) -> None:
    """Refuses what is no ``.onnx`` by its ending, or no model by its first bytes.

    Raises:
        ConvertError: It is something else.
        OnnxFileError: Its ending is another.
    """
    check_model_file(path)
    if path.suffix.lower() != ".onnx":
        raise OnnxFileError(
            f"{path}: expected an .onnx file: make one with convert {path} "
            f"{Path(os.path.abspath(path)).stem}.onnx"
        )


@checked
def load_proto(path: AnyPath, weights: bool = True) -> onnx.ModelProto:
    """Reads an ONNX model as it is in a file, with weights that it keeps in another one.

    Tensors that a tool wrote as operators without inputs are initializers in what is returned.

    Args:
        path: The file.
        weights: Whether the weights that it keeps in another file are read too; else those alone
            that may be sizes, which stay marked as the other file's.

    Raises:
        OnnxFileError: The file cannot be read, or onnx does not trust where it keeps weights.
    """
    check_on_disk(path)
    path = Path(path)
    try:
        stamps = stamp_files(path)
        with open_regular(path) as stream:
            model = onnx.load_model_from_string(stream.read())
        if not model.HasField("graph"):
            raise OnnxFileError(f"{path}: without a graph, expected an ONNX model")
        _check_metadata(path, model)
        _hold(model.graph)
        kept = places(model)
        for place in kept:
            check_source(path.parent / place)
        stamps = stamp_files(path, (path.parent / place for place in kept)) | stamps
        # onnx reads no link; those that a folder may have are followed for it.
        inside = (place for place in kept if lies_in(path.parent / place, path.parent))
        followed = {place: os.path.realpath(path.parent / place) for place in inside}
        if weights:
            _check_sharing(path, model, kept)
            for tensor in filter(uses_external_data, _tensors(model)):
                _read_kept(tensor, path.parent, followed)
            _check_pair(path, model, kept)
        else:
            _read_sizes(path, model, followed)
        check_unchanged(stamps)
        return model
    except PvtError:
        raise
    except FileNotFoundError as error:
        raise OnnxFileError(f"{path}: no such file") from error
    except Exception as error:  # onnx says nowhere what it raises
        raise OnnxFileError(f"{path}: cannot be read as an ONNX model ({error})") from error


def _check_metadata(path: Path, model: onnx.ModelProto) -> None:
    """Refuses metadata of which it depends on the reader what it says.

    Raises:
        OnnxFileError: A key is there more than once.
    """
    for key, times in Counter(entry.key for entry in model.metadata_props).most_common(1):
        if times > 1:
            raise OnnxFileError(
                f"{path}: its metadata has {show(key)} {times} times, expected once; {AGAIN}"
            )


def _hold(graph: onnx.GraphProto) -> None:
    """Makes initializers of the tensors that are there as operators: one place to look for them."""
    computing = []
    for node in graph.node:
        holds = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
        if holds and [each.name for each in node.attribute] == ["value"]:
            graph.initializer.append(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        else:
            computing.append(node)
    if len(computing) < len(graph.node):
        del graph.node[:]
        graph.node.extend(computing)


def _read_sizes(path: Path, model: onnx.ModelProto, followed: Mapping[str, str]) -> None:
    """Reads what is small of a model's weights in other files, of which sizes are computed."""
    for tensor in islice(model.graph.initializer, _MOST_SIZES):
        place = _place_of(tensor)
        if (
            tensor.data_type == onnx.TensorProto.INT64
            and 0 < int(place.get("length", 0)) <= SIZES_BYTES
            and (path.parent / place.get("location", "")).is_file()
        ):
            read = onnx.TensorProto()
            read.CopyFrom(tensor)
            _read_kept(read, path.parent, followed)
            tensor.raw_data = read.raw_data


def _read_kept(tensor: onnx.TensorProto, folder: Path, followed: Mapping[str, str]) -> None:
    """Reads a tensor that a model in a folder keeps in another file.

    Args:
        tensor: The tensor.
        folder: The folder.
        followed: Where the files that it may be in are, by their names in the model.

    Raises:
        ValueError: onnx does not trust the place.
    """
    base = str(folder)
    for entry in tensor.external_data:
        if entry.key == "location" and entry.value in followed:
            base, entry.value = os.path.split(followed[entry.value])
    load_external_data_for_tensor(tensor, base)


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Returns what a model says of itself, by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def embedded(model: onnx.ModelProto) -> bool:
    """Returns whether a model says that it resizes, crops and normalises images itself."""
    return EMBEDDED_KEY in read_metadata(model)


def check_pair_of(path: Path) -> None:
    """Refuses a model, which an engine has opened, if the weights beside it are another one's.

    Raises:
        ConvertError: They are.
        OnnxFileError: The file cannot be read.
    """
    model = load_proto(path, weights=False)
    try:
        _check_pair(path, model, places(model))
    except (OSError, ValueError) as error:
        raise OnnxFileError(f"{path}: cannot be read as an ONNX model ({error})") from error


def places(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the files that a model keeps weights in."""
    return {place["location"] for place in _places(model) if "location" in place}


def file_size(path: Path, beside: Iterable[str]) -> int:
    """Returns the bytes of a model's file, and of those that it keeps weights in."""
    return sum((path.parent / each).stat().st_size for each in (path.name, *beside))


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yields every tensor that is in a model."""
    holders: list[Any] = [model.graph, *model.functions]
    while holders:
        holder = holders.pop()
        tensors = [*getattr(holder, "initializer", ())]  # a function has none
        for attribute in (each for node in holder.node for each in node.attribute):
            tensors += [*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors]
            holders += [*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs]
        yield from tensors


def _places(model: onnx.ModelProto) -> Iterator[dict[str, str]]:
    """Yields where each tensor is that is kept in another file: in what file, from where on."""
    return map(_place_of, _tensors(model))


def _place_of(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_sharing(path: Path, model: onnx.ModelProto, beside: set[str]) -> None:
    """Refuses tensors that have the same bytes of another file: each is read for itself.

    Raises:
        OnnxFileError: They have more bytes than the files.
    """
    sizes = {name: (path.parent / name).stat().st_size for name in beside}
    files = {os.path.realpath(path.parent / name): size for name, size in sizes.items()}
    taken = 0
    for place in _places(model):
        size = sizes.get(place.get("location", ""), 0)
        taken += int(place.get("length") or max(0, size - int(place.get("offset") or 0)))
    if taken > (held := sum(files.values())):
        raise OnnxFileError(
            f"{path}: its tensors take {taken:,} bytes of other files, which have {held:,}, "
            f"expected each tensor's own; {AGAIN}"
        )


def _check_pair(path: Path, model: onnx.ModelProto, beside: set[str]) -> None:
    metadata = read_metadata(model)
    if PAIR_KEY not in metadata:
        return
    for name in beside:
        with (path.parent / name).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - PAIR_BYTES))
            check_pair(str(path), metadata, name, stream.read())


def check_files(model: onnx.ModelProto, path: Path) -> None:
    """Refuses weights that are kept where a model may not keep them.

    Args:
        model: The model, without the weights that it keeps elsewhere.
        path: Its file.

    Raises:
        OnnxFileError: They are outside the model's folder, or in no file.
    """
    with reporting(str(path), "where it keeps its weights cannot be read"):
        for place in sorted(places(model)):
            found = path.parent / place
            if not lies_in(found, path.parent) or not found.is_file():
                raise OnnxFileError(
                    f"{path}: it keeps weights in {show(place)}, expected a file in its folder: "
                    "put both there, or write it again with convert"
                )
