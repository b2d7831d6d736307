"""Images per second from JPEG files to accuracy, against what the machine could do.

    python -m benchmarks.end_to_end --variants pvt_tiny,pvt_v2_b0 --sizes 500x375,2000x1500

``validate`` decodes in worker threads while the session runs. It is compared with what the session
gives by itself, a call after the other with the threads it has, and with what the cores have time
for: cores / (processor time of the session + that of decoding, for an image, on one thread each).
The ratio is ``validate``'s rate to the smaller of the two, of the same round; the target is 0.9.
*one by one* is the rate if an image were decoded and then answered.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.input_speed import write_photos
from benchmarks.processes import Worker, add_json_option, in_turn, python, quartiles, report, run

if TYPE_CHECKING:
    from pvt_onnx.engines.options import EngineOptions

PAUSE = 0.5
"""Seconds before each turn: threads of the one before may spin for a while."""


def write_folder(folder: Path, size: tuple[int, int], count: int) -> None:
    """Writes ``count`` JPEGs of two classes, of which some are the same."""
    folder.mkdir()
    write_photos(folder, size)
    photos = sorted(folder.glob("*/*.jpg"))
    for number in range(count - len(photos)):
        photo = photos[number % len(photos)]
        shutil.copyfile(photo, photo.with_name(f"{photo.stem}-{number}.jpg"))


def serve(
    requests: Connection,
    model: Path,
    batch: int,
    options: "EngineOptions",
    workers: int | None = None,
) -> None:
    """Answers, as a worker, each (what, folder) with a measurement of it.

    That is of ``"validate"`` images per second; of ``"session"`` images per second of the model
    alone, and processor seconds an image; of ``"decoding"`` processor seconds an image.
    """
    import numpy as np

    from pvt_data.answers.validate import Candidate, Options, validate
    from pvt_data.images.preprocessing import load_image
    from pvt_onnx.engines.session import open_model

    opened = open_model(model, None, options)
    candidate = Candidate(model.name, opened)
    info = opened.info
    images = np.random.default_rng(0).standard_normal(
        (batch, info.config.in_chans, *info.preprocessing.image_size), np.float32
    )
    opened.forward(images)
    while (request := requests.recv()) is not None:
        what, folder = request
        photos = sorted(folder.glob("*/*.jpg"))
        calls = max(1, len(photos) // batch // 4)
        start, busy = time.perf_counter(), time.process_time()
        if what == "session":
            for _ in range(calls):
                opened.forward(images)
            done = calls * batch
        elif what == "decoding":
            done = max(1, len(photos) // 4)
            for photo in photos[:done]:
                load_image(photo, info.preprocessing)
        else:
            (run,) = validate([candidate], folder, Options(workers=workers))
            done = run.standing.done
        elapsed = time.perf_counter() - start
        requests.send((done / elapsed, (time.process_time() - busy) / done))


def measure(model: Path, folder: Path, cores: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of one model and one size of photos."""
    from pvt_onnx.engines.options import EngineOptions

    batch, own = options.batch, EngineOptions(threads=options.threads)
    rates: dict[str, list[float]] = {"validate": [], "session": [], "one by one": [], "cores": []}
    with (
        Worker(serve, model, batch, own.beside_decoding(), options.workers) as given,
        Worker(serve, model, batch, own) as alone,
        Worker(serve, model, batch, EngineOptions(threads=1)) as single,
    ):
        jobs = {
            "validate": (given, "validate"),
            "session": (alone, "session"),
            "work": (single, "session"),
            "decoding": (single, "decoding"),
        }
        found: dict[str, tuple[float, float]] = {}
        for number, name in enumerate(in_turn(jobs, options.rounds), 1):
            time.sleep(PAUSE)
            worker, what = jobs[name]
            found[name] = worker.call((what, folder))
            if number % len(jobs) == 0:
                session, decoding = found["session"][0], found["decoding"][1]
                rates["validate"].append(found["validate"][0])
                rates["session"].append(session)
                rates["one by one"].append(1 / (1 / session + decoding))
                rates["cores"].append(cores / (found["work"][1] + decoding))
    bounds = [*map(min, rates["session"], rates["cores"])]
    middle, spread = quartiles(rates["validate"], bounds)
    return {
        "decoding ms": 1e3 * found["decoding"][1],
        "session ms": 1e3 * found["work"][1],
        **{f"{name} /s": median(values) for name, values in rates.items()},
        "ratio": middle,
        "quartiles": spread,
        "of the cores": quartiles(rates["validate"], rates["cores"])[0],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    from pvt_data.images.ahead import usable_cores

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default="pvt_tiny,pvt_v2_b0,pvt_v2_b2")
    parser.add_argument("--sizes", default="500x375,1000x750,2000x1500")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of the session; default: the engine's own")
    parser.add_argument("--workers", type=int, help="that decode; default: validate's own")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    cores = usable_cores()
    print(
        f"{cores} cores, {options.threads or 'its own'} threads, {options.workers or cores} "
        f"workers, batches of {options.batch}, {options.rounds} rounds of {options.images} images\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as made:
        sizes = options.sizes.split(",")
        for size in sizes:
            width, height = map(int, size.split("x"))
            write_folder(Path(made, size), (width, height), options.images)
        for variant in options.variants.split(","):
            source, model = Path(made, f"{variant}.ckpt"), Path(made, f"{variant}.onnx")
            named = ("random", variant, "official", source, "--num-classes", 2)
            run(python("-m", "benchmarks.models", *named))
            run(python("-m", "convert", source, model))
            for size in sizes:
                found = measure(model, Path(made, size), cores, options)
                rows.append({"variant": variant, "JPEG": size, **found})
    report(rows, options.json)


if __name__ == "__main__":
    main()
