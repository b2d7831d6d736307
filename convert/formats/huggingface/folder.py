"""Models as Hugging Face keeps them, as one more format: a folder with ``config.json``.

What is in such a folder is read by :mod:`convert.formats.huggingface.files`, its ``config.json``
understood by :mod:`convert.formats.huggingface.config`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from os.path import lexists
from pathlib import Path
from typing import Any

from convert.formats import safetensors
from convert.formats.huggingface.card import CARD, Known, make_card
from convert.formats.huggingface.config import make_config, parse_config
from convert.formats.huggingface.files import (
    SAFETENSORS,
    WEIGHTS,
    check_beside,
    read_configs,
    read_weights,
)
from convert.formats.huggingface.images import (
    PREPROCESSOR,
    make_preprocessor,
    parse_preprocessor,
    unfit,
)
from convert.formats.huggingface.timm import is_timm, parse_timm
from convert.formats.table import SUFFIXES
from convert.formats.weight_file import WeightFile
from convert.names.dialects import DIALECTS
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.models import CONFIG
from pvt_spec.files.replacing import replacing_all
from pvt_spec.words import listed, printable, show

_NAMED = "transformers_weights"
"""The key of ``config.json`` that names the file of weights, since transformers 5."""


def planned(path: Path) -> list[Path]:
    """Returns the files of a folder that we write, the one that it is known by first."""
    return [path / name for name in (CONFIG, SAFETENSORS, PREPROCESSOR, CARD)]


def read(path: Path) -> WeightFile:
    """Reads what a folder holds: tensors under transformers' names, and the model it describes.

    Raises:
        ConvertError: It is no folder of Hugging Face or of another model than a PVT, or a file of
            it cannot be read.
    """
    if not path.exists():
        raise ConvertError(f"{path}: there is no such file or folder")
    if not (path / CONFIG).exists():
        raise ConvertError(
            f"{path}: expected a folder with {CONFIG} and a file of weights{_inside(path)}"
        )
    config, preprocessor = read_configs(path)
    return _described(path, read_weights(path), config, preprocessor)


def _inside(path: Path) -> str:
    """Returns what a folder holds that could be meant, and what to do about it."""
    if (path / "data.pkl").is_file():
        return f"; it is a .pth that was unpacked: pack it again: zip -0 -r model.pth '{path}'"
    files = sorted(path.iterdir())
    if any(each.suffix == ".distcp" for each in files):
        module = "torch.distributed.checkpoint.format_utils dcp_to_torch"
        return (
            f"; torch.distributed saved it in parts: join them: python -m {module} '{path}' a.pth"
        )
    if models := [each for each in files if each.suffix.lower() in SUFFIXES]:
        return f"; it holds {listed(models, 4)}: give one of them"
    return f"; it holds {listed([each.name for each in files], 4, show) or 'nothing'}"


def with_config(path: Path, file: WeightFile) -> WeightFile:
    """Returns a file of weights with what ``config.json`` beside it says, if they are from the hub.

    Args:
        path: The file, a ``model.safetensors`` or ``pytorch_model.bin``, say.
        file: The file's contents.

    Raises:
        ConvertError: The ``config.json`` beside tensors of transformers or timm is of no PVT.
    """
    if not (path.parent / CONFIG).is_file() or not _is_from_hub(file):
        return file
    config, preprocessor = read_configs(path.parent)
    file = dataclasses.replace(file, files=(path,))
    return _described(path.parent, file, config, preprocessor)


def _is_from_hub(file: WeightFile) -> bool:
    """Returns whether the tensors have the names of a PVT in transformers or timm."""
    dialects = [dialect for dialect in DIALECTS if dialect.hub]
    return any(dialect.to_canonical(name) for name in file.tensors for dialect in dialects)


def _described(
    folder: Path, file: WeightFile, config: dict[str, Any], preprocessor: dict[str, Any] | None
) -> WeightFile:
    """Returns a file with what the folder's configurations say of it.

    Raises:
        ConvertError: They are of another model, or of other weights.
    """
    named = config.get(_NAMED)
    if named is not None and named not in {each.name for each in file.files}:
        raise ConvertError(
            f"{folder}: {CONFIG} has {_NAMED} {show(named)}, which transformers takes in place of "
            f"{file.files[0].name}: give that file itself, or take the key away"
        )
    headless = not any(name.startswith("classifier.") for name in file.tensors)
    dialect = "timm" if is_timm(config) else "hf"
    try:
        if dialect == "timm":
            info = parse_timm(config)
        else:
            info = parse_config(config, preprocessor, headless=headless)
            biased = any(name.endswith("query.bias") for name in file.tensors)
            if config.get("qkv_bias") is False and biased:
                raise unfit(CONFIG, "qkv_bias", False, "true, as the weights have such biases")
    except ConvertError as error:
        raise ConvertError(f"{folder}: {error}") from error
    provenance = {"file": printable(folder.name), "dialect": dialect, **info.provenance}
    info = dataclasses.replace(info, provenance=provenance)
    beside = [CONFIG, *([] if preprocessor is None else [PREPROCESSOR])]
    files = (*file.files, *(folder / name for name in beside))
    return dataclasses.replace(file, described=info, files=files)


def more_than_described(folder: Path, info: ModelInfo, dtypes: set[str]) -> Iterator[str]:
    """Yields in words what transformers goes by in a folder that a model's description lacks.

    Args:
        folder: The folder.
        info: The description of the model in it.
        dtypes: The dtypes of its weights.

    Raises:
        ConvertError: A file of it cannot be read.
    """
    config, preprocessor = read_configs(folder)
    if is_timm(config):
        return
    kept = ", ".join(sorted(dtypes))
    for key in ("dtype", "torch_dtype"):
        if (dtype := config.get(key)) not in (None, kept):
            yield f"{CONFIG}: {key} is {show(dtype)}, its weights are {kept}"
    for file, said in ((CONFIG, config), (PREPROCESSOR, preprocessor or {})):
        if code := said.get("auto_map"):
            yield f"{file}: auto_map is {show(code)}, code that transformers may run instead"
    for note in parse_preprocessor(preprocessor, info.config)[1] if preprocessor else ():
        yield f"{PREPROCESSOR}: {note}"


def write(
    path: Path,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    force: bool,
    *,
    known: Known = Known(),
) -> list[Path]:
    """Writes a folder that ``from_pretrained`` loads: its files whole or not at all.

    Args:
        path: The folder; made if it is not there.
        tensors: Arrays under transformers' names.
        metadata: Texts of the safetensors file, which say what the model is.
        force: Whether files of :func:`planned` that are there are replaced. Others stay.
        known: What the model's card is to tell of beside them.

    Returns:
        The files that were written.

    Raises:
        ConvertError: transformers has no such model, or the files cannot be written.
        FileExists: One is there and ``force`` is not given.
    """
    stale = [name for name in WEIGHTS if name != SAFETENSORS and lexists(path / name)]
    if stale:
        raise ConvertError(
            f"{path}: holds the weights of another model ({', '.join(stale)}): remove them and "
            "what belongs to them, or name another folder"
        )
    check_beside(path)
    info = ModelInfo.from_json(metadata[METADATA_KEY])
    texts = [_encode(make_config(info)), _encode(make_preprocessor(info.preprocessing))]
    try:
        parse_json(texts[0])
    except ValueError as error:
        raise ConvertError(
            f"{path}: its {CONFIG} could not be read again ({error}): write it with fewer classes, "
            "or with no names of them"
        ) from error
    page = make_card(info, known).encode()
    files = planned(path)
    made = not path.exists()
    try:
        _make_folder(path)
        with replacing_all(files, force) as (config, weights, preprocessor, card):
            config.write(texts[0])
            safetensors.write(weights, tensors, metadata)
            preprocessor.write(texts[1])
            card.write(page)
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise
    return files


def _encode(value: dict[str, Any]) -> bytes:
    return encode_json(value, indent=2).encode() + b"\n"


def _make_folder(path: Path) -> None:
    """Makes a folder if it is not there."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ConvertError(
            f"{path}: the folder cannot be made ({error.strerror}): make the one above it, or name "
            "another"
        ) from error
