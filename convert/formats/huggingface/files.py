"""Hugging Face folders: ``config.json`` and the files of weights beside it, without transformers.

A folder is what ``save_pretrained`` of transformers writes::

    config.json                        the architecture, the maths and the class names
    preprocessor_config.json           from image to input; may be missing
    model.safetensors                  the weights, or
    model.safetensors.index.json       "weight_map": tensor -> file, and those files, or
    pytorch_model.bin                  either of the two as a ``.pth``
    pytorch_model.bin.index.json

The names of the tensors are those of dialect ``hf``; ``config.json`` is understood by
:mod:`convert.formats.huggingface.config`. timm's models on the hub are such folders too, with a
``config.json`` of their own (:mod:`convert.formats.huggingface.timm`). Source:
``modeling_utils.py`` of transformers 5.23.
"""

import dataclasses
from collections.abc import Mapping
from os.path import lexists
from pathlib import Path, PureWindowsPath
from typing import Any

from convert.formats.huggingface.config import model_version
from convert.formats.huggingface.images import PREPROCESSOR
from convert.formats.huggingface.timm import is_timm
from convert.formats.table import find_source
from convert.formats.weight_file import WeightFile, map_file
from pvt_spec.errors import ConvertError
from pvt_spec.files.folders import lies_in
from pvt_spec.files.json_text import parse_json
from pvt_spec.files.limits import MAX_TEXT_BYTES
from pvt_spec.files.models import CONFIG, check_model_file
from pvt_spec.words import listed, show

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

_ENDINGS = (".safetensors", ".bin", ".pth", ".pt")
"""What others call files of weights, whose names hold a variant's or are their own."""

_PROCESSOR, _ADAPTER = "processor_config.json", "adapter_config.json"
_IMAGES = "image_processor"
"""The key of the former that transformers goes by instead of ``preprocessor_config.json``."""

WEIGHTS = (SAFETENSORS, SAFETENSORS_INDEX, PICKLED, PICKLED_INDEX)
"""What the weights can be in; the first that is there is taken, as transformers does."""


_SHOWN = 40
"""Problems that are listed."""


def read_configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Reads ``config.json``, of a PVT or timm, and ``preprocessor_config.json``, None without one.

    Raises:
        ConvertError: The first is missing or of another model, one is damaged, or transformers
            goes by a file beside them.
    """
    config = _read_json(folder / CONFIG)
    check_beside(folder)
    try:
        if not is_timm(config):
            model_version(config)
    except ConvertError as error:
        raise ConvertError(f"{folder}: {error}") from error
    has_preprocessor = lexists(folder / PREPROCESSOR)  # a link to nothing is not none
    return config, _read_json(folder / PREPROCESSOR) if has_preprocessor else None


def check_beside(folder: Path) -> None:
    """Refuses files with which transformers makes another model, or other images, of a folder.

    Raises:
        ConvertError: There is one.
    """
    if lexists(folder / _ADAPTER):
        raise ConvertError(
            f"{folder}: holds {_ADAPTER}, by which transformers adds to the weights: merge the "
            "adapter into them, or give a folder without it"
        )
    if lexists(folder / _PROCESSOR) and _IMAGES in _read_json(folder / _PROCESSOR):
        raise ConvertError(
            f"{folder}: {_PROCESSOR} has {_IMAGES}, by which transformers prepares images: "
            f"expected it in {PREPROCESSOR} alone"
        )


def read_weights(folder: Path) -> WeightFile:
    """Reads the tensors of a folder, the metadata of their files, and these files.

    Raises:
        ConvertError: There are none, or a file is missing, damaged or not as the index says.
    """
    source = next((name for name in WEIGHTS if lexists(folder / name)), None)
    if source is None:
        names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if name.endswith(_ENDINGS)]
        in_parts = any(".index." in name for name in names)
        way = "save the model again without a variant" if in_parts else "give the file itself"
        there = f"; it holds {listed(others, 4, show)}: {way}" if others else ""
        raise ConvertError(
            f"{folder}: holds no weights: expected one of {', '.join(WEIGHTS)}{there}"
        )
    path = folder / source
    if source.endswith(".json"):
        return _read_shards(path)
    return dataclasses.replace(_read_part(path), files=(path,))


def _read_part(path: Path) -> WeightFile:
    """Reads a file of weights; a folder in its place, which may have one in its, is none."""
    if path.is_dir():
        raise ConvertError(f"{path}: a folder, expected a file of weights")
    return find_source(path).read(path)


def _read_json(path: Path) -> dict[str, Any]:
    with map_file(path) as data:
        text = data[: MAX_TEXT_BYTES + 1]
    try:
        value = parse_json(text)
    except ValueError as error:
        check_model_file(path, texts=False)
        raise ConvertError(f"{path}: is not JSON ({error}): copy or download it again") from None
    if not isinstance(value, dict):
        raise ConvertError(f"{path}: holds a {type(value).__name__}, expected an object of keys")
    return value


def _read_shards(index: Path) -> WeightFile:
    """Reads the tensors of the files that an index names, in its order.

    Raises:
        ConvertError: A file is missing or lies elsewhere, or does not hold exactly the tensors
            that the index says; all problems at once.
    """
    tensor_files = _weight_map(index)
    files = {
        name: _read_part(path)
        for name, path in _shards(index, sorted({*tensor_files.values()})).items()
    }
    held = {name: file.tensors for name, file in files.items()}
    problems = [
        f"{show(tensor)} is missing from {name}"
        for tensor, name in tensor_files.items()
        if tensor not in held[name]
    ]
    problems += [
        f"{show(tensor)} is in {name}, and the index has it "
        + (f"in {tensor_files[tensor]}" if tensor in tensor_files else "nowhere")
        for name, tensors in held.items()
        for tensor in tensors
        if tensor_files.get(tensor) != name
    ]
    if problems:
        raise ConvertError(
            f"{index}: its files hold other tensors: copy or download the folder again\n  "
            + listed(sorted(problems), _SHOWN, separator="\n  ")
        )
    metadata: dict[str, str] = {}
    for file in files.values():
        metadata |= file.metadata
    found = {tensor: held[name][tensor] for tensor, name in tensor_files.items()}
    beside = (index.parent / name for name in files)
    return WeightFile({"": found}, metadata, files=(index, *beside))


def _weight_map(index: Path) -> Mapping[str, str]:
    weight_map = _read_json(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise ConvertError(
            f"{index}: weight_map is {show(weight_map)}, expected an object of tensor: file name"
        )
    return weight_map


def _shards(index: Path, names: list[str]) -> dict[str, Path]:
    """Returns the paths of the files that an index names.

    Raises:
        ConvertError: One is missing, named so that it lies in another folder, or named twice.
    """
    paths, missing = {}, []
    for name in names:
        # Windows' rules, which know both separators and drives.
        plain = PureWindowsPath(name).name == name and name.isprintable()
        if not plain or name in ("", ".."):
            raise ConvertError(
                f"{index}: names the file {show(name)}, expected a plain file name in its folder"
            )
        paths[name] = index.parent / name
        if not paths[name].exists():
            missing.append(name)
        elif not lies_in(paths[name], index.parent):
            raise ConvertError(
                f"{index}: {name} is a link out of the folder: copy the file into it"
            )
    if missing:
        raise ConvertError(
            f"{index}: files are missing: {listed(missing, _SHOWN)}: download them again"
        )
    kept = {(found.st_dev, found.st_ino): None for found in map(Path.stat, paths.values())}
    if len(kept) < len(paths):  # which would be read under each
        raise ConvertError(
            f"{index}: names {len(paths)} files, of which there are {len(kept)} under several "
            "names, expected each once: download the folder again"
        )
    return paths
