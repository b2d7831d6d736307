"""``parity run`` over models that are right, to see that it says so.

    python -m benchmarks.trained MODELS
    python -m benchmarks.clean_runs RECORDS [--models MODELS] [--threads 2] [--seconds 300]
    python -m benchmarks.clean_runs RECORDS --table [--json FILE]

Variants, profiles of maths, weights, images, runtimes and optimisation levels, on so many cores;
with ``--models`` the trained models of that folder instead. A *run* is one model in one runtime
over one set of images; a *false alarm* one that ``parity run`` does not call the same. *Worst* is
the largest error in units of what is allowed at its tap: 1 would be an alarm.

RECORDS has a line of JSON for each run. What is there is not run again, so it may be stopped and
started, or run in pieces of some seconds; ``--table`` sums it up.
"""

import argparse
import dataclasses
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import add_json_option, report
from benchmarks.records import add_record_options, add_records, read_records
from benchmarks.trained import DERIVED
from pvt_spec import PVTConfig, make_config

SMALL = ("v1", "v2", "linear", "pvt_nano")
LARGE = ("pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li")
LARGE_SIZE = (96, 96)
"""Pixels; pvt_tiny's position embeddings are resized to it."""

PROFILES = ("official", "mindcv", "hf")
COMPILED = ("-1-e10", "-0-e10-q8", "ms-demo-e20", "pvt_v2_b0-e5")
"""How the names of trained models end that run in compiled runtimes too."""

ONNX_LEVELS = ("onnxruntime", "onnxruntime-extended", "onnxruntime-basic", "onnxruntime-disabled")
RUNTIMES = ("mindspore", "torch", *ONNX_LEVELS)
IMAGES = ("default", "noise", "digits", "photos")


@dataclass(frozen=True)
class Job:
    """One ``parity run``.

    Attributes:
        model: A variant, one of the small models of ``benchmarks.models``, or a trained one's name.
        profile: The profile of its maths; trained ones have their own.
        weights: ``"initial"``, ``"random"``, or what of ``benchmarks.trained`` they are.
        images: One of :data:`IMAGES`.
        seed: The seed of weights and images.
        image_size: (H, W); None for the model's own.
        runtimes: The runtimes to run it in.
    """

    model: str
    profile: str
    weights: str
    images: str
    seed: int
    image_size: tuple[int, int] | None
    runtimes: tuple[str, ...]


def jobs() -> Iterator[Job]:
    """Yields all jobs; images and sizes take turns over the models."""
    number = count()
    for model, profile, weights in product(SMALL, PROFILES, ("initial", "random")):
        turn = next(number)
        for images in (IMAGES[turn % 4], IMAGES[(turn + 1 + turn // 4 % 3) % 4]):
            size = (72, 90) if turn % 3 == 2 else None
            also = ("onnx-reference",) if model != "pvt_nano" else ()
            yield Job(model, profile, weights, images, turn, size, RUNTIMES + also)
    for model, profile, weights in product(LARGE, ("official", "mindcv"), ("initial", "random")):
        turn = next(number)
        yield Job(model, profile, weights, IMAGES[1 + turn % 3], turn, LARGE_SIZE, RUNTIMES)
        yield Job(model, profile, weights, "default", turn, LARGE_SIZE, RUNTIMES)
    for model in SMALL:
        # PyTorch's compiler takes a minute or two of each.
        also = ("torch-compile",) if model in ("v1", "linear") else ()
        runtimes = ("mindspore-graph", *also)
        yield Job(model, "mindcv", "random", "default", next(number), None, runtimes)


def trained_jobs(folder: Path) -> Iterator[Job]:
    """Yields the jobs of trained models: default images and photos, of every other all.

    What was made together does not stand together, so that the first jobs have a bit of all.
    """

    def seed_of(path: Path) -> int:
        return zlib.crc32(path.stem.encode()) % 1000  # which stays when models are added

    for path in sorted(folder.glob("*.safetensors"), key=seed_of):
        seed = seed_of(path)
        kind = path.stem.rpartition("-")[2]
        weights = kind if kind in DERIVED else "trained"
        for images in ("default", "photos", *(("noise", "digits") if seed % 2 else ())):
            yield Job(path.stem, "its own", weights, images, seed, None, RUNTIMES)


def compiled_jobs(folder: Path) -> Iterator[Job]:
    """Yields the jobs of trained models in compiled runtimes, which take a minute or two each."""
    for job in trained_jobs(folder):
        if job.images == "default" and job.model.endswith(COMPILED):
            yield dataclasses.replace(job, runtimes=("mindspore-graph",))
        if job.images == "default" and job.model in ("torch-v1-1-e10", "torch-linear-1-e10"):
            yield dataclasses.replace(job, runtimes=("torch-compile",))


def make_model(job: Job, path: Path) -> None:
    """Writes a job's model."""
    from benchmarks.models import SMALL as CONFIGS, random_weights, write_model
    from pvt_spec import profile_numerics
    from pvt_spec.initial import initial_weights

    config: PVTConfig = CONFIGS[job.model] if job.model in CONFIGS else make_config(job.model)
    if job.weights == "initial":
        weights = initial_weights(config, job.seed)
    else:
        kept = profile_numerics(job.profile, config.version).pos_embed_dtype
        weights = random_weights(config, kept, job.seed)
    write_model(path, config, job.profile, weights)


def write_images(folder: Path) -> None:
    """``digits`` and ``photos``: real images, eight of each."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from pvt_data.sources.digits import write_digits

    write_digits(folder / "digits")
    for number, photo in enumerate(load_sample_images().images):
        for part in range(4):
            top, left = part // 2 * 200, part % 2 * 300
            target = folder / "photos" / f"{number}{part}.png"
            target.parent.mkdir(exist_ok=True)
            Image.fromarray(np.asarray(photo)[top : top + 220, left : left + 340]).save(target)


def run_job(job: Job, folder: Path, models: Path | None = None) -> list[dict[str, Any]]:
    """Returns what ``parity run`` finds, one record per runtime.

    Args:
        job: What to run.
        folder: Where images are, and where a model is written.
        models: Where trained ones are.
    """
    from parity import run as parity
    from parity.inputs.samples import (
        Inputs,
        default_samples,
        file_samples,
        noise_samples,
    )
    from parity.selection import read_models
    from pvt_data.sources.listing import evenly_spaced, list_images

    path = models / f"{job.model}.safetensors" if models else folder / "model.pth"
    if not models:
        make_model(job, path)
    read = read_models([path])
    preprocessing = read[path].info.preprocessing
    size = job.image_size or preprocessing.image_size
    if job.images == "default":
        samples = default_samples(dataclasses.replace(preprocessing, image_size=size), job.seed)
    elif job.images == "noise":
        samples = noise_samples(8, job.seed)
    else:
        samples = file_samples(evenly_spaced(list_images([folder / job.images]), 8))
    pairs = [(path, runtime) for runtime in job.runtimes]
    result = parity.run(pairs, read, Inputs(samples, size))
    return [record(job, comparison) for comparison in result.comparisons]


def record(job: Job, comparison: Any) -> dict[str, Any]:
    """Returns what is kept of one run."""
    from parity.measure.tolerance import FACTOR
    from parity.report.text import verdict

    judged = {
        (name, group): comparison.judge_group(name, group)
        for name in comparison.names
        for group in comparison.errors[name]
    }
    shares = {place: each.times / each.allowed for place, each in judged.items()}

    def most(few: bool) -> float:
        """Returns the most times rounding at taps of few values, or of more."""
        ours = (each.times for each in judged.values() if (each.allowed > FACTOR) == few)
        return max(ours, default=0.0)

    (tap, group) = worst = max(shares, key=lambda place: shares[place])
    given, errors = dataclasses.asdict(job), map(comparison.total, comparison.names)
    return {
        **{key: given[key] for key in ("model", "profile", "weights", "images", "seed")},
        "image_size": job.image_size,
        "runtime": comparison.runtime,
        "taps": len(judged),
        "worst": shares[worst],
        "few": most(True),
        "many": most(False),
        "times": judged[worst].times,
        "tap": tap,
        "group": group,
        "relative": max(e.rms / e.reference_rms for e in errors if e.reference_rms),
        "alarm": "" if comparison.same else verdict(comparison),
    }


def run_all(
    jobs: Iterable[Job], file: Path, models: Path | None, threads: int, seconds: float
) -> None:
    """Runs the jobs that are not in a file of records, until so many seconds have gone by."""
    done = {key(each) for each in read_records(file)}
    stop = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        for job in jobs:
            given = {**dataclasses.asdict(job), "threads": threads}
            left = tuple(r for r in job.runtimes if key({**given, "runtime": r}) not in done)
            if not left:
                continue
            if time.monotonic() > stop:
                return
            found = run_job(dataclasses.replace(job, runtimes=left), Path(name), models)
            add_records(file, ({"threads": threads, **each} for each in found))


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what tells a run from others."""
    fields = "threads", "model", "profile", "weights", "images", "seed", "runtime"
    return tuple(record[field] for field in fields)


def rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row per runtime, number of threads, kind of weights and of images, and of all."""
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {}

    def has(field: str, value: Any, each: dict[str, Any]) -> bool:
        return bool(each[field] == value)

    for field in ("runtime", "threads", "weights", "images"):
        for value in dict.fromkeys(each[field] for each in records):
            kinds[f"{field} {value}"] = partial(has, field, value)
    kinds["all"] = lambda each: True
    return [row(kind, [each for each in records if chosen(each)]) for kind, chosen in kinds.items()]


def row(kind: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    worst = max(records, key=lambda each: each["worst"])
    return {
        "of": kind,
        "runs": len(records),
        "taps": sum(each["taps"] for each in records),
        "false alarms": sum(bool(each["alarm"]) for each in records),
        "worst": worst["worst"],
        "× rounding": worst["times"],
        "at": f"{worst['model']} {worst['tap']}, {worst['images']}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_record_options(parser)
    parser.add_argument("--models", type=Path, metavar="DIR", help="run trained models")
    parser.add_argument("--compiled", action="store_true", help="in compiled runtimes")
    parser.add_argument("--threads", type=int, default=1)
    add_json_option(parser)
    options = parser.parse_args()
    if options.table:
        records = read_records(options.records)
        report(rows(records), options.json)
        print(*(each["alarm"] for each in records if each["alarm"]), sep="\n")
        return
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    os.sched_setaffinity(0, cores)
    trained = compiled_jobs if options.compiled else trained_jobs
    wanted = trained(options.models) if options.models else jobs()
    run_all(wanted, options.records, options.models, len(cores), options.seconds)


if __name__ == "__main__":
    main()
