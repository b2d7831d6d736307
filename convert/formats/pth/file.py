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

Our own files are ``{"state_dict": {name: tensor, …}, "KEY": "text", …}``, those of a training with
its ``training_state`` beside it, or for other people's
code, which may know no such keys, ``{name: tensor, …}`` as ``torch.save(model.state_dict())``
writes it, with the texts in its ``_metadata``. ``torch.load(path, weights_only=True)`` loads both.
"""

import dataclasses
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from convert.formats.pth import machine
from convert.formats.pth.encoding import encode_checkpoint
from convert.formats.pth.legacy import LegacyFile, is_legacy
from convert.formats.pth.names import NAMES
from convert.formats.pth.places import find_places
from convert.formats.pth.tensors import TensorReader
from convert.formats.pth.zip_records import Archive, write_record
from convert.formats.weight_file import WeightFile, check_sharing, contents
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.words import listed, show

CONTAINER, STATE = "state_dict", "training_state"
"""Keys that a model's tensors, and the state of their training, are under in files we write."""

_SHOWN = 6
"""Names that are listed of objects that are no tensors."""

ROOT = "archive/"
"""Top folder of the files we write, and of torch's where it writes to a stream."""


def read(path: Path) -> WeightFile:
    """Reads what a ``.pth`` holds. Nothing in it is executed, and torch is not needed.

    Tensors are found in every dict, however nested, and go under the keys that lead to it. Texts
    of the top level are ``metadata``; what else there is beside tensors is in ``extras``, under
    the keys that lead to it.

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
        found = find_places(root)
        check_sharing((a for held in found.places.values() for a in held.values()), len(saved))
        if not found.places:
            raise ConvertError(
                f"holds {_shown(root)} and no tensors by name, expected a dict of tensors"
                + ("" if unread else f": {machine.RESAVE}")
            )
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}{_beside(unread)}") from error
    return dataclasses.replace(found, unread=tuple(unread))


def _beside(unread: Sequence[str]) -> str:
    """Returns the words for objects that are no tensors, where there are any."""
    return f"; left unread: {listed(unread, _SHOWN)}: {machine.RESAVE}" if unread else ""


def _shown(root: Any) -> str:
    """Returns what a file holds, fit for a terminal."""
    if not isinstance(root, dict):
        return f"a {type(root).__name__}"
    return f"a dict ({listed([*root], 8, show)})"


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
        metadata: Texts, kept at the top level beside :data:`CONTAINER`.
        wrapped: Whether the tensors are under that key; else they are the top level, and the
            texts in its ``_metadata``.

    Raises:
        ConvertError: A tensor is of a dtype that torch has not, or a text is named as a container.
    """
    _write(stream, {CONTAINER if wrapped else "": tensors}, metadata)


def write_training(
    stream: BinaryIO,
    weights: Mapping[str, Array],
    state: Mapping[str, Array],
    metadata: Mapping[str, str],
) -> None:
    """Writes as :func:`write` does, with the state of training beside the weights' dict.

    Raises:
        ConvertError: A tensor is of a dtype that torch has not, or a text is named as a container.
    """
    _write(stream, {CONTAINER: weights, STATE: state}, metadata)


def _write(
    stream: BinaryIO, places: Mapping[str, Mapping[str, Array]], metadata: Mapping[str, str]
) -> None:
    if taken := {CONTAINER, *places} & metadata.keys():
        raise ConvertError(f"metadata cannot be named {min(taken)}: tensors are kept there")
    pickle = encode_checkpoint(places, metadata)
    arrays = [array for tensors in places.values() for array in tensors.values()]
    with zipfile.ZipFile(stream, "w") as archive:
        write_record(archive, stream, f"{ROOT}data.pkl", pickle)
        write_record(archive, stream, f"{ROOT}byteorder", b"little")
        for key, array in enumerate(arrays):
            write_record(archive, stream, f"{ROOT}data/{key}", contents(array))
        write_record(archive, stream, f"{ROOT}version", b"3\n")
