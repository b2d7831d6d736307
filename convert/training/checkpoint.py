"""Our own training checkpoints: a ``.ckpt`` or ``.pth`` with the whole state, a model file too.

Both hold the same arrays, whatever framework made them. The weights have the names of the twin
whose format it is, the state of each tensor the same with a leading part (``moment1.``, ``ema.``),
counters whole names; :mod:`convert.names.training_state` knows both. In a ``.pth`` the state is in
a dict of its own beside that of the weights, which a model of PyTorch loads strictly. One text
entry holds JSON: what the run says of itself, and a digest of every array, because a file that was
cut at an entry's end or changed within one would still be a ``.ckpt``.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convert.formats.table import find_format, find_source
from convert.formats.weight_file import WeightFile, contents
from convert.names.dialects import find_dialect
from convert.names.training_state import AVERAGED, LEADING, is_training_state
from pvt_spec import METADATA_KEY, ModelInfo, PvtError, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.replacing import replacing
from pvt_spec.hashes import hash_weights

STATE_KEY = "pvt_training_state"
"""Name of the text entry that makes a file one of ours to go on from."""


def save_training(
    path: Path,
    state: Mapping[str, Array],
    info: ModelInfo,
    facts: Mapping[str, Any],
    *,
    force: bool = True,
) -> None:
    """Writes a training checkpoint whole or not at all.

    Args:
        path: The target, a ``.ckpt`` or a ``.pth``.
        state: The weights under canonical names, the state of a tensor under a leading part of
            :data:`convert.names.training_state.LEADING` and its name, counters under other names.
        info: The weights' ModelInfo; of the hashes that are written with it, those of averaged
            weights have their leading part too.
        facts: What the run says of itself, as JSON values.
        force: Whether one that is there is replaced.

    Raises:
        ConvertError: It cannot be written.
        FileExists: It exists and ``force`` is not given.
    """
    row = find_format(path)
    names = find_dialect(row.dialect, info.config.version)
    weights, beside = dict[str, Array](), dict[str, Array]()
    for name, array in state.items():
        kind = beside if is_training_state(name) else weights
        kind[_renamed(name, lambda w: next(iter(names.from_canonical(w)), None))] = array
    kept = [part + spec.name for part in ("", AVERAGED) for spec in tensor_specs(info.config)]
    hashes = hash_weights({name: state[name] for name in kept if name in state})
    model = dataclasses.replace(info, hashes=hashes).to_json()
    facts = parse_json(encode_json(dict(facts)), names=True)  # as they will be read
    described = {"facts": facts, "sha256": digest({**weights, **beside}, facts, model)}
    texts = {METADATA_KEY: model, STATE_KEY: encode_json(described)}
    with replacing(path, force) as stream:
        row.module.write_training(stream, weights, beside, texts)


def load_training(path: Path) -> tuple[dict[str, Array], ModelInfo, dict[str, Any]]:
    """Reads what :func:`save_training` wrote: the state, the weights' ModelInfo, the facts.

    Raises:
        ConvertError: The file cannot be read, is damaged, or holds no state of ours.
    """
    row = find_source(path)
    file = row.read(path)
    if not is_ours(file):
        raise ConvertError(
            f"{path}: no training state of pvt-ms or pvt-torch is in it: go on from a run's "
            "last.ckpt or last.pth, or give weights alone as --pretrained"
        )
    return state_in(path, file, row.dialect)


def is_ours(file: WeightFile) -> bool:
    """Returns whether a file says that it holds a training state of ours."""
    return STATE_KEY in file.metadata and METADATA_KEY in file.metadata


def state_in(
    path: Path, file: WeightFile, dialect: str
) -> tuple[dict[str, Array], ModelInfo, dict[str, Any]]:
    """Returns what :func:`load_training` does of a file that is read and ours.

    Raises:
        ConvertError: It is damaged.
    """
    try:
        described = parse_json(file.metadata[STATE_KEY], names=True)
        facts, expected = dict(described["facts"]), str(described["sha256"])
        info = ModelInfo.from_json(file.metadata[METADATA_KEY])
    except (ValueError, KeyError, TypeError, PvtError) as error:
        raise ConvertError(f"{path}: what it says of its training is damaged: {error}") from error
    tensors = {name: array for held in file.places.values() for name, array in held.items()}
    found = digest(tensors, facts, file.metadata[METADATA_KEY])
    if found != expected:
        raise ConvertError(
            f"{path}: its state has the digest {found[:12]}…, expected {expected[:12]}…: the file "
            "was cut off or changed; go on from another one"
        )
    names = find_dialect(dialect, info.config.version)
    state = {_renamed(name, names.to_canonical): array for name, array in tensors.items()}
    return state, info, facts


def digest(tensors: Mapping[str, Array], facts: Mapping[str, Any], model: str) -> str:
    """Returns SHA-256, in hex, of names, dtypes, shapes, bytes in order, of facts and model."""
    found = hashlib.sha256(json.dumps([facts, model], sort_keys=True).encode())
    for name, array in tensors.items():
        found.update(f"{name} {array.dtype.name} {array.shape}".encode())
        found.update(contents(array))
    return found.hexdigest()


def _renamed(name: str, rename: Callable[[str], str | None]) -> str:
    """Returns a weight's or a state's name, the weight's part renamed; others stay as they are."""
    leading = next((part for part in LEADING if name.startswith(part)), "")
    return leading + (rename(name.removeprefix(leading)) or name.removeprefix(leading))
