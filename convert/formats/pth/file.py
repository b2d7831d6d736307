"""PyTorch's ``.pth``: read without torch and without running anything, written for ``torch.load``.

The file is a zip of uncompressed records under one top folder (torch >= 1.6; what older ones
wrote is in :mod:`convert.formats.pth.legacy`)::

    archive/data.pkl     a pickle of whatever was saved
    archive/byteorder    "little" or "big"; little where it is missing
    archive/data/0, …    the bytes of each storage
    archive/version      "3"

In the pickle, a tensor is a call of ``torch._utils._rebuild_tensor_v2`` with a storage, an offset,
a shape and strides (in elements); a storage is a persistent id ``("storage", type, key, device,
number of elements)`` whose type gives the dtype. Newer dtypes come as untyped storages, measured
in bytes, with ``_rebuild_tensor_v3``, which is given the dtype. Source: ``torch/serialization.py``,
``torch/_tensor.py`` and ``torch/_utils.py`` of torch 2.13.

Our own files are ``{"state_dict": {name: tensor, …}, "KEY": "text", …}``, or for other people's
code, which may know no such keys, ``{name: tensor, …}`` as ``torch.save(model.state_dict())``
writes it, with the texts in its ``_metadata``. ``torch.load(path, weights_only=True)`` loads both.
"""

import dataclasses
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.formats.pth import machine
from convert.formats.pth.encoding import encode_checkpoint
from convert.formats.pth.legacy import LegacyFile, is_legacy
from convert.formats.pth.names import NAMES
from convert.formats.pth.tensors import TensorReader, state_dict
from convert.formats.pth.values import OrderedDict, Placeholder
from convert.formats.pth.zip_records import Archive, write_record
from convert.formats.weight_file import WeightFile, contents
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict")
"""Keys that training scripts keep a model's averaged tensors under."""

CONTAINERS = ("state_dict", "model", "module", "net", "weights", *AVERAGED)
"""Keys that training scripts keep a model's tensors under; the first that is there is taken."""

_SHOWN = 6
"""Names that are listed of objects that are no tensors."""

ROOT = "archive/"
"""Top folder of the files we write, and of torch's where it writes to a stream."""


def read(path: Path) -> WeightFile:
    """Reads what a ``.pth`` holds. Nothing in it is executed, and torch is not needed.

    Tensors are those of the first of :data:`CONTAINERS` that holds any, or else of the top level.
    The other values of the top level are ``metadata`` where they are text and ``extras`` where
    not, other containers among them, under their own keys; what the container holds beside
    tensors is in ``extras`` under ``"CONTAINER.KEY"``. Averaged tensors are those of the first of
    :data:`AVERAGED`.

    Objects beside the tensors, and tensors that are no plain arrays (sparse, quantised), are left
    unread. Of a module that was pickled whole, the tensors are taken.

    The arrays are read-only views of the mapped file; copies only where the file is big-endian.

    Raises:
        ConvertError: The file cannot be read, is damaged, or holds no tensors at all.
    """
    saved = LegacyFile(path) if is_legacy(path) else Archive(path)
    tensors = TensorReader(path, saved.storage, saved.big_endian)
    root, unread = machine.load(
        saved.pickle(),
        f"{path} (data.pkl)",
        {**NAMES, **tensors.names()},
        tensors.load_storage,
        len(saved),
    )
    try:
        file = _choose_container(root)
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}{_beside(unread)}") from error
    return dataclasses.replace(file, unread=tuple(unread))


def _beside(unread: Sequence[str]) -> str:
    """Returns the words for objects that are no tensors, where there are any."""
    more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
    return f"; left unread: {', '.join(unread[:_SHOWN])}{more}: {machine.RESAVE}" if unread else ""


def _choose_container(root: Any) -> WeightFile:
    if not isinstance(root, dict):
        raise ConvertError(
            f"holds a {type(root).__name__}, expected a dict of tensors: {machine.RESAVE}"
        )
    container = next((key for key in CONTAINERS if _tensors(root.get(key))), "")
    held = root[container] if container else root
    tensors = _tensors(held)
    if not tensors:
        keys = ", ".join(f"{key!r:.60}" for key in [*root][:8])
        raise ConvertError(f"no tensors at its top level ({keys}) or under {', '.join(CONTAINERS)}")
    metadata, extras = _texts(held), {}
    for key, value in root.items():
        if isinstance(key, str) and isinstance(value, str):
            metadata[key] = value
        elif held is not root or key not in tensors:
            extras[str(key)] = value
    if container:
        del extras[container]
        beside = {key: value for key, value in held.items() if key not in tensors}
        extras.update({f"{container}.{key}": value for key, value in beside.items()})
    averaged = next((key for key in AVERAGED if _tensors(root.get(key))), "")
    return WeightFile(tensors, metadata, extras, container, averaged, _tensors(root.get(averaged)))


def _texts(state_dict: Any) -> dict[str, str]:
    """Returns the texts in the ``_metadata`` of a state dict, where its modules say the same."""
    attributes = state_dict.attributes if isinstance(state_dict, OrderedDict) else {}
    modules = attributes.get("_metadata")
    said = [*modules.values()] if isinstance(modules, dict) else []
    pairs = dict.fromkeys(
        (key, text)
        for each in said
        if isinstance(each, dict)
        for key, text in each.items()
        if isinstance(key, str) and isinstance(text, str)
    )
    counts = Counter(key for key, _ in pairs)
    return {key: text for key, text in pairs if counts[key] == 1}


def _tensors(value: Any) -> dict[str, Array]:
    if not isinstance(value, dict):
        return {}
    if isinstance(value, Placeholder) and (of_module := state_dict(value)):
        return of_module
    return {
        key: item
        for key, item in value.items()
        if isinstance(key, str) and isinstance(item, np.ndarray)
    }


def write(
    stream: BinaryIO,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    *,
    wrapped: bool = True,
) -> None:
    """Writes a checkpoint that :func:`read` and ``torch.load(path, weights_only=True)`` take.

    The same tensors and metadata give the same bytes. One tensor at a time is copied, if any.

    Args:
        stream: A file open for writing; the zip starts where it stands.
        tensors: Arrays of torch's dtypes, of any byte order and memory layout.
        metadata: Texts, kept at the top level beside "state_dict".
        wrapped: Whether the tensors are under that key; else they are the top level, and the
            texts in its ``_metadata``.

    Raises:
        ConvertError: A tensor is of a dtype that torch has not, or a text is named as a container.
    """
    if taken := sorted({*CONTAINERS} & metadata.keys()):
        raise ConvertError(f"metadata cannot be named {', '.join(taken)}: tensors are kept there")
    pickle = encode_checkpoint(tensors, metadata, wrapped=wrapped)
    with zipfile.ZipFile(stream, "w") as archive:
        write_record(archive, stream, f"{ROOT}data.pkl", pickle)
        write_record(archive, stream, f"{ROOT}byteorder", b"little")
        for key, array in enumerate(tensors.values()):
            write_record(archive, stream, f"{ROOT}data/{key}", contents(array))
        write_record(archive, stream, f"{ROOT}version", b"3\n")
