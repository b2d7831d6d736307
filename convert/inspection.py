"""What a file is, and how two files differ, as findings."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.conversion import count_not_finite
from convert.findings import Finding
from convert.formats.weight_file import WeightFile, contents
from convert.hub.find import Found, find, find_model
from convert.model.read import (
    Model,
    format_of,
    left_unread,
    read_stamped,
    understand,
    with_origin,
)
from convert.names.training_state import count_leading_parts, is_training_state
from pvt_spec import (
    METADATA_KEY,
    TASKS,
    ModelInfo,
    Numerics,
    Preprocessing,
    PVTConfig,
    output_names,
    tensor_specs,
)
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.files.stamps import check_unchanged, describe_file
from pvt_spec.hashes import CERTIFICATE_KEY, GRAPH_KEY, PAIR_KEY, stamp_of
from pvt_spec.unseen import UNSEEN_KEY
from pvt_spec.words import show


def inspect_file(path: AnyPath) -> Iterator[Finding]:
    """Yields the facts of a model file, in the order in which they are read.

    A file that is no whole PVT ends in a finding ``problem``, after what can be said of it.

    Raises:
        ConvertError: The file cannot be read, or was written to meanwhile.
    """
    found = find(path)
    file, stamps = read_stamped(found.path)
    yield from found.findings()
    yield from _facts(found, file)
    check_unchanged(stamps)


def _facts(found: Found, file: WeightFile) -> Iterator[Finding]:
    path = found.path
    for facts in map(describe_file, file.files or (path,)):
        text = f"{facts['file']} ({facts['bytes']:,} bytes, sha256 {facts['sha256']})"
        yield Finding("file", facts, text=text)
    try:
        model = with_origin(understand(path, file), found)
    except ConvertError as error:
        yield from _contents(path, file)
        yield Finding("problem", str(error))
        return
    yield from model.findings
    yield from (Finding("guess", guess) for guess in model.guesses.values())
    yield from _model(model, file)
    yield from _beside(file)


def _contents(path: Path, file: WeightFile) -> Iterator[Finding]:
    """Yields what can be said of any file."""
    yield format_of(path)
    if [*file.places] != [""]:
        yield Finding("containers", [*file.places])
    state = [name for name in file.tensors if is_training_state(name)]
    if state:
        yield Finding("training_state", count_leading_parts(state))
    yield Finding("tensors", len(file.tensors))
    yield Finding("dtypes", _dtypes(file.tensors))
    yield from left_unread(file)
    yield from _beside(file)


def _model(model: Model, file: WeightFile) -> Iterator[Finding]:
    info = model.info
    yield _settings("config", info.config)
    yield _settings("numerics", info.numerics)
    yield Finding("tensors", len(model.weights))
    yield Finding("parameters", sum(spec.size for spec in tensor_specs(info.config)))
    yield Finding("dtypes", _dtypes(model.weights, file.rounded))
    if not_finite := count_not_finite(model.weights):
        yield Finding("not_finite", not_finite, "convert takes them with --allow-nonfinite")
    yield Finding("labels", list(info.labels), "" if info.labels else "not known")
    yield _settings("preprocessing", info.preprocessing)
    yield Finding("task", info.task, TASKS[info.task])
    yield Finding("provenance", dict(info.provenance))


def _settings(what: str, record: PVTConfig | Numerics | Preprocessing) -> Finding:
    fields = dataclasses.asdict(record)
    return Finding(
        what, fields, text=", ".join(f"{name} {value}" for name, value in fields.items())
    )


def _beside(file: WeightFile) -> Iterator[Finding]:
    beside = {**file.extras, **file.metadata}
    hidden = {METADATA_KEY, GRAPH_KEY, PAIR_KEY, UNSEEN_KEY}
    if certificate := stamp_of(file.metadata):
        yield Finding("certificate", certificate, text=f"sha256 {certificate}")
        hidden.add(CERTIFICATE_KEY)
    entries = {name: show(value) for name, value in beside.items() if name not in hidden}
    text = ", ".join(f"{n} {v}" if len(v) < 20 else n for n, v in entries.items()) or "none"
    yield Finding("other_entries", entries, text=text)


def _dtypes(tensors: Mapping[str, Array], kept: Mapping[str, str] = {}) -> dict[str, int]:
    return dict(Counter(kept.get(name, array.dtype.name) for name, array in tensors.items()))


def is_good(findings: Iterable[Finding]) -> bool:
    """Returns whether a file is a whole PVT, or two files are the same."""
    return not any(finding.what == "problem" or finding.note == DIFFERS for finding in findings)


DIFFERS = "differs"
"""The note of every finding that tells two files apart."""


def compare_files(path: AnyPath, other: AnyPath) -> Iterator[Finding]:
    """Yields how the second file differs from the first, whatever their formats and dialects.

    Weights are compared under canonical names where both files are whole PVTs, else all tensors
    under the files' own names. Where nothing differs there are no findings but ``same``.

    Raises:
        ConvertError: A file cannot be read, or was written to meanwhile.
    """
    paths = [each for each, _ in map(find_model, (path, other))]
    files, stamps = zip(*map(read_stamped, paths), strict=True)
    try:
        models = [understand(each, file) for each, file in zip(paths, files, strict=True)]
    except ConvertError as error:
        reason = str(error).partition("\n")[0]
        yield Finding("warning", f"compared under the files' own names: {reason}")
        first, second = (file.tensors for file in files)
    else:
        first, second = (model.weights for model in models)
        yield from _described_differently(*models)
    yield from _tensor_differences(first, second)
    for each in stamps:
        check_unchanged(each)


def _described_differently(first: Model, second: Model) -> Iterator[Finding]:
    """Yields what decides a model's answers beside its weights."""
    ours, theirs = _description(first.info), _description(second.info)
    for what, value in ours.items():
        if value != theirs[what]:
            yield Finding(what, [_short(value), _short(theirs[what])], DIFFERS)
    changes = [{c for c in model.changed if c not in model.weights} for model in (first, second)]
    for number, word in ((0, "the first"), (1, "the second")):
        for change in sorted(changes[number] - changes[1 - number]):
            facts = {"file": word, "change": change}
            yield Finding("other_graph", facts, DIFFERS, f"{word}'s {change}")


def _description(info: ModelInfo) -> dict[str, Any]:
    config, preprocessing = info.config, vars(info.preprocessing)
    return {
        "variant": info.variant,
        "num_heads": config.num_heads,
        "profile": info.profile,
        **preprocessing,
        "image_size": "{}x{}".format(*info.preprocessing.image_size),
        "classes": config.num_classes,
        "task": info.task,
        "answers": output_names(config),
        "labels": info.labels,
    }


def _short(value: Any) -> Any:
    return show(value) if isinstance(value, tuple) else value


def _tensor_differences(
    first: Mapping[str, Array], second: Mapping[str, Array]
) -> Iterator[Finding]:
    same = 0
    for name in [*first, *(name for name in second if name not in first)]:
        if name not in second:
            yield Finding("missing", name, DIFFERS)
        elif name not in first:
            yield Finding("extra", name, DIFFERS)
        elif first[name].shape != second[name].shape:
            shapes = [[*first[name].shape], [*second[name].shape]]
            yield Finding("other_shape", {"tensor": name, "shapes": shapes}, DIFFERS)
        elif difference := _difference(first[name], second[name]):
            facts = {"tensor": name, **difference}
            yield Finding("other_bytes", facts, DIFFERS, _sentence(facts))
        else:
            same += 1
    yield Finding("same", same, "tensors, to the bit")


def _difference(first: Array, second: Array) -> dict[str, Any]:
    """Returns how two arrays of one shape differ; nothing where every bit is the same."""
    kinds = [first.dtype.name, second.dtype.name]
    if kinds[0] == kinds[1] and contents(first) == contents(second):
        return {}
    values, largest = 0, np.float64(0)
    flat = first.reshape(-1), second.reshape(-1)
    for start in range(0, first.size, _PIECE):
        differing, gap = _piece_difference(*(array[start : start + _PIECE] for array in flat))
        values, largest = values + differing, np.maximum(largest, gap)
    dtypes = {} if kinds[0] == kinds[1] else {"dtypes": kinds}
    return {**dtypes, "values": values, "of": first.size, "max_abs": float(largest)}


_PIECE = 1 << 20
"""Values that are compared at a time: each takes many times its bytes on the way."""


def _piece_difference(first: Array, second: Array) -> tuple[int, Any]:
    """Returns how many values differ, and by how much at most."""
    wide = np.complex128 if "c" in (first.dtype.kind, second.dtype.kind) else np.float64
    ours, theirs = (array.astype(wide) for array in (first, second))
    # Whole numbers of 64 bits are not all float64's.
    same = first == second if first.dtype == second.dtype else ours == theirs
    # NaN differs from nothing but itself here.
    differing = ~(same | (np.isnan(ours) & np.isnan(theirs)))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(ours - theirs)[differing]
    return int(differing.sum()), gaps.max(initial=0)


def _sentence(facts: Mapping[str, Any]) -> str:
    dtypes = f"{' and '.join(facts['dtypes'])}, " if "dtypes" in facts else ""
    return (
        f"{facts['tensor']}: {dtypes}{facts['values']} of {facts['of']} values, "
        f"max abs difference {facts['max_abs']:.3g}"
    )
