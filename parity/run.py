"""``parity run``: the same images through every runtime, against PyTorch in float64."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from convert.file_formats import FOLDER, file_format
from convert.model_file import Model, read_model
from parity.compare import Comparison, compare_names
from parity.runners import RUNTIMES, Runner, installed, open_reference
from parity.structure import attribute_differences, expected_attributes
from pvt_spec import ModelInfo, PvtError, output_names, tap_names
from pvt_spec.arrays import Array
from pvt_spec.evaluation import batched, load_batch


class ParityError(PvtError):
    """Models or runtimes that cannot be compared."""


def choose_runtimes(wanted: Sequence[str]) -> list[str]:
    """The runtimes to run: those wanted, or all that are installed.

    Raises:
        ParityError: One that is wanted is unknown or not installed, or the reference's is not.
    """
    unknown = [name for name in wanted if name not in RUNTIMES]
    if unknown:
        raise ParityError(f"no runtime {', '.join(unknown)}: there are {', '.join(RUNTIMES)}")
    missing = [name for name in ("torch", *wanted) if not installed(name)]
    if missing:
        raise ParityError(
            f"{', '.join(dict.fromkeys(missing))} is not installed "
            "(torch is always needed: the reference runs in it)"
        )
    return list(wanted) or [name for name in RUNTIMES if installed(name)]


def read_models(paths: Sequence[Path]) -> dict[Path, Model]:
    """The models of all files, by path.

    Raises:
        ConvertError: A file cannot be read.
        ParityError: They are not of one architecture, so that there is nothing to compare.
    """
    models = {path: read_model(path) for path in paths}
    first = models[paths[0]].info
    for path, model in models.items():
        ours, theirs = dataclasses.asdict(first.config), dataclasses.asdict(model.info.config)
        differing = [field for field in ours if ours[field] != theirs[field]]
        if differing and differing != ["drop_path_rate"]:
            raise ParityError(
                f"{path} and {paths[0]} have different layers, so there is nothing to compare: "
                + "; ".join(f"{field} {theirs[field]} and {ours[field]}" for field in differing)
            )
    return models


def evenly_spaced(items: Sequence[Path], limit: int) -> list[Path]:
    """At most ``limit`` items, first to last: of a folder of classes, some of each."""
    count = min(limit, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def image_batches(info: ModelInfo, images: Sequence[Path], size: int) -> Iterator[Array]:
    """Image files as the model's input, float32 (B, in_chans, H, W), a batch at a time."""
    for batch in batched(images, size):
        yield load_batch(batch, info.preprocessing)


def random_batches(info: ModelInfo, count: int, seed: int, size: int) -> Iterator[Array]:
    """Standard normal noise in place of normalised images, a batch at a time."""
    rng = np.random.default_rng(seed)
    shape = (info.config.in_chans, *info.preprocessing.image_size)
    for batch in batched(range(count), size):
        yield rng.standard_normal((len(batch), *shape), np.float32)


def weight_differences(first: Model, other: Model) -> list[str]:
    """One line for every tensor whose values are not exactly the first file's."""
    if other is first:
        return []
    return [
        f"{name} has other values than the first file's"
        for name, array in first.weights.items()
        if not np.array_equal(array.astype(np.float64), other.weights[name].astype(np.float64))
    ]


HOME = {
    "ckpt": "mindspore",
    "pth": "torch",
    "safetensors": "torch",
    FOLDER: "torch",
    "onnx": "onnxruntime",
}
"""Where a file of a format is run when several files are compared and no runtime is asked for."""


def pair_up(paths: Sequence[Path], wanted: Sequence[str]) -> list[tuple[Path, str]]:
    """Which file is run where: one file in every runtime, several each in its own.

    Args:
        paths: Model files.
        wanted: Runtimes that the user named, for all files; may be empty.

    Raises:
        ConvertError: A file's ending is unknown.
        ParityError: A runtime is unknown or not installed.
    """
    if len(paths) == 1 or wanted:
        return [(path, runtime) for path in paths for runtime in choose_runtimes(wanted)]
    homes = [HOME[file_format(path)] for path in paths]
    choose_runtimes(homes)
    return list(zip(paths, homes, strict=True))


def run(
    pairs: Sequence[tuple[Path, str]], models: Mapping[Path, Model], batches: Iterator[Array]
) -> list[Comparison]:
    """Files in runtimes, against the first file in float64.

    Args:
        pairs: From :func:`pair_up`.
        models: From :func:`read_models`.
        batches: float32 (B, in_chans, H, W), normalised.

    Returns:
        One comparison per pair.
    """
    first = models[pairs[0][0]]
    reference = open_reference(first)
    config = first.info.config
    spec = expected_attributes(config, first.info.numerics)
    runners: list[tuple[Runner, Comparison]] = []
    for path, runtime in pairs:
        runner = RUNTIMES[runtime](models[path], path)
        name = runtime if len(models) == 1 else f"{runtime} {path.name}"
        structure = attribute_differences(spec, runner.attributes)
        structure += weight_differences(first, models[path])
        comparison = compare_names(tap_names(config), output_names(config), name, structure)
        runners.append((runner, comparison))
    for batch in batches:
        expected = reference(batch)
        for runner, comparison in runners:
            start = time.perf_counter()
            actual = runner.taps(batch)
            comparison.seconds += time.perf_counter() - start
            comparison.add(actual, expected)
    return [comparison for _, comparison in runners]
