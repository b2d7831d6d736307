"""``parity run`` over models that are right, to see that it says so.

    python -m benchmarks.clean_runs [--threads 1 --threads 2] [--json FILE]

Variants, profiles of maths, weights, images, runtimes and optimisation levels, once for each
number of threads (in a process that has no more cores). A *run* is one model in one runtime over
one set of images; a *false alarm* one that ``parity run`` does not call the same. *Worst* is the
largest error in units of what is allowed at its tap: 1 would be an alarm.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import add_json_option, python, report, run
from pvt_spec import PVTConfig, make_config

SMALL = ("v1", "v2", "linear", "pvt_nano")
LARGE = ("pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li")
LARGE_SIZE = (96, 96)
"""Pixels; pvt_tiny's position embeddings are resized to it."""

PROFILES = ("official", "mindcv", "hf")
ONNX_LEVELS = ("onnxruntime", "onnxruntime-extended", "onnxruntime-basic", "onnxruntime-disabled")
RUNTIMES = ("mindspore", "torch", *ONNX_LEVELS)
IMAGES = ("default", "noise", "digits", "photos")


@dataclass(frozen=True)
class Job:
    """One ``parity run``.

    Attributes:
        model: A variant, or one of the small models of ``benchmarks.models``.
        profile: The profile of its maths.
        weights: ``"initial"`` or ``"random"``.
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

    from pvt_data.digits import write_digits

    write_digits(folder / "digits")
    for number, photo in enumerate(load_sample_images().images):
        for part in range(4):
            top, left = part // 2 * 200, part % 2 * 300
            target = folder / "photos" / f"{number}{part}.png"
            target.parent.mkdir(exist_ok=True)
            Image.fromarray(np.asarray(photo)[top : top + 220, left : left + 340]).save(target)


def run_job(job: Job, folder: Path) -> list[dict[str, Any]]:
    """Returns what ``parity run`` finds, one record per runtime."""
    from parity import run as parity
    from parity.inputs.samples import (
        Inputs,
        default_samples,
        evenly_spaced,
        file_samples,
        noise_samples,
    )
    from parity.selection import read_models
    from pvt_data.listing import list_images

    path = folder / "model.pth"
    make_model(job, path)
    models = read_models([path])
    preprocessing = models[path].info.preprocessing
    size = job.image_size or preprocessing.image_size
    if job.images == "default":
        samples = default_samples(dataclasses.replace(preprocessing, image_size=size), job.seed)
    elif job.images == "noise":
        samples = noise_samples(8, job.seed)
    else:
        samples = file_samples(evenly_spaced(list_images([folder / job.images]), 8))
    pairs = [(path, runtime) for runtime in job.runtimes]
    result = parity.run(pairs, models, Inputs(samples, size))
    return [record(job, comparison) for comparison in result.comparisons]


def record(job: Job, comparison: Any) -> dict[str, Any]:
    """Returns what is kept of one run."""
    from parity.report.text import verdict

    judged = {
        (name, group): comparison.judge_group(name, group)
        for name in comparison.names
        for group in comparison.errors[name]
    }
    shares = {place: each.times / each.allowed for place, each in judged.items()}
    (tap, group) = worst = max(shares, key=lambda place: shares[place])
    given = dataclasses.asdict(job)
    return {
        **{key: given[key] for key in ("model", "profile", "weights", "images", "seed")},
        "image_size": job.image_size,
        "runtime": comparison.runtime,
        "taps": len(judged),
        "worst": shares[worst],
        "times": judged[worst].times,
        "tap": tap,
        "group": group,
        "alarm": "" if comparison.same else verdict(comparison),
    }


def run_with(threads: int, file: Path) -> None:
    """Runs all jobs in this process, on so many cores; their records go to a file."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    records = []
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        for job in jobs():
            records += run_job(job, Path(name))
            file.write_text(json.dumps([{"threads": len(cores), **each} for each in records]))


def rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row per runtime, per number of threads, per kind of images, and of all."""
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {}

    def has(key: str, value: Any, each: dict[str, Any]) -> bool:
        return bool(each[key] == value)

    for key in ("runtime", "threads", "model", "images"):
        for value in dict.fromkeys(each[key] for each in records):
            kinds[f"{key} {value}"] = partial(has, key, value)
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
    parser.add_argument("--threads", type=int, action="append", help="repeatable; default 1 and 2")
    parser.add_argument("--records", type=Path, metavar="FILE", help="run here, write records")
    add_json_option(parser)
    options = parser.parse_args()
    if options.records:
        return run_with(options.threads[0], options.records)
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for threads in options.threads or (1, 2):
            file = Path(name) / f"{threads}.json"
            child = python("-m", "benchmarks.clean_runs", "--threads", threads, "--records", file)
            run(["env", f"OMP_NUM_THREADS={threads}", *child])
            records += json.loads(file.read_text())
    report(rows(records), options.json)
    for each in records:
        if each["alarm"]:
            print(each)
    return None


if __name__ == "__main__":
    main()
