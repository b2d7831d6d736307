"""``parity run``: the same images through every runtime, against PyTorch in float64."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convert.model_file import Model, read_model
from parity.compare import Comparison, compare_names
from parity.runners import RUNTIMES, Runner, installed, open_reference
from parity.structure import attribute_differences, expected_attributes
from pvt_spec import ModelInfo, PvtError, tap_names
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


def read_models(paths: Sequence[Path]) -> list[Model]:
    """The models of all files.

    Raises:
        ConvertError: A file cannot be read.
        ParityError: They are not of one architecture, so that there is nothing to compare.
    """
    models = [read_model(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if tap_names(model.info.config) != tap_names(models[0].info.config):
            raise ParityError(
                f"{path} is {model.info.variant or 'another architecture'}, {paths[0]} is "
                f"{models[0].info.variant or 'none of the variants'}: they have different layers"
            )
    return models


def image_batches(info: ModelInfo, images: Sequence[Path], size: int) -> Iterator[np.ndarray]:
    """Image files as the model's input, float32 (B, in_chans, H, W), a batch at a time."""
    for batch in batched(images, size):
        yield load_batch(batch, info.preprocessing)


def random_batches(info: ModelInfo, count: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Standard normal noise in place of normalised images, a batch at a time."""
    rng = np.random.default_rng(seed)
    shape = (info.config.in_chans, *info.preprocessing.image_size)
    for batch in batched(range(count), size):
        yield rng.standard_normal((len(batch), *shape), np.float32)


def run(
    paths: Sequence[Path],
    models: Sequence[Model],
    runtimes: Sequence[str],
    batches: Iterator[np.ndarray],
) -> list[Comparison]:
    """Every file in every runtime, against the first file in float64.

    Args:
        paths: Model files.
        models: As they were read.
        runtimes: Of :data:`parity.runners.RUNTIMES`.
        batches: float32 (B, in_chans, H, W), normalised.

    Returns:
        One comparison per file and runtime, files first.
    """
    reference = open_reference(models[0])
    spec = expected_attributes(models[0].info.config, models[0].info.numerics)
    runners: list[tuple[Runner, Comparison]] = []
    for path, model in zip(paths, models, strict=True):
        for runtime in runtimes:
            runner = RUNTIMES[runtime](model, path)
            name = runtime if len(paths) == 1 else f"{runtime} {path.name}"
            structure = attribute_differences(spec, runner.attributes)
            comparison = compare_names(tap_names(model.info.config), name, structure)
            runners.append((runner, comparison))
    for batch in batches:
        expected = reference(batch)
        for runner, comparison in runners:
            start = time.perf_counter()
            actual = runner.taps(batch)
            comparison.seconds += time.perf_counter() - start
            comparison.add(actual, expected)
    return [comparison for _, comparison in runners]
