"""Our training step against MindCV's own for pvt_v2_b0, under the same MindSpore on the CPU.

    pip install --no-deps mindcv==0.3.0
    python -m benchmarks.train_step --batch 4 --rounds 7

Both compile the whole step into graphs and train on the same images with AdamW, drop path and
label smoothing. Each contestant lives in a process of its own and steps when told to, in turn:
A B C, C B A, … *theirs* is MindCV as its users run it; *theirs, same environment* also has what
:mod:`pvt_ms.environment` sets. Target: theirs takes at least 1.5 times as long.

``--profile`` prints instead where the time of one step goes, by MindSpore's own kernels.
"""

import argparse
import csv
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import Worker, add_json_option, in_turn, quartiles, report

CLASSES, SIDE, RATE = 1000, 224, 1e-3
PROFILED = 3
"""Steps that a profile is the mean of."""

Step = Callable[[], float]


@dataclass(frozen=True)
class Contestant:
    """Who steps, and with what in its environment beside the caller's.

    Attributes:
        opens: A function from the number of images to a step that answers its loss.
        environment: Variables, set before MindSpore is imported.
    """

    opens: Callable[[int], Step]
    environment: dict[str, str]


def open_ours(batch: int, profile: str = "official") -> Step:
    """Opens our twin, as ``pvt-ms train`` does."""
    from pvt_ms.environment import prepare_environment

    prepare_environment()
    import numpy as np

    from pvt_ms.train.twin import MindSporeTwin
    from pvt_spec.initial import initial_weights
    from pvt_train.input.mixing import smooth_labels
    from pvt_train.input.randomness import drop_path_scales
    from pvt_train.recipe.keys import Recipe
    from pvt_train.recipe.read import model_info
    from pvt_train.twin import Batch

    recipe = Recipe("pvt_v2_b0", profile=profile)
    info = model_info(recipe, [str(i) for i in range(CLASSES)])
    twin = MindSporeTwin(info, recipe, initial_weights(info.config, recipe.seed))
    pixels, labels = _images(batch)
    targets = smooth_labels(labels, CLASSES, recipe.label_smoothing)
    drop_path = drop_path_scales(info.config, recipe.seed, 0, batch)
    given = Batch(pixels, targets, np.ones(batch, np.float32), drop_path)
    return lambda: twin.step([given], RATE).loss


def open_ours_mindcv(batch: int) -> Step:
    """Opens our twin with MindCV's maths."""
    return open_ours(batch, "mindcv")


def open_theirs(batch: int) -> Step:
    """MindCV's model, loss, optimizer and training step, as its ``train.py`` puts them together."""
    import mindspore
    import numpy as np

    # Not asked to be imported by name where it is not installed.
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    from mindcv.loss import create_loss
    from mindcv.models import create_model
    from mindcv.optim import create_optimizer
    from mindcv.utils.trainer_factory import create_trainer

    model = create_model("pvt_v2_b0", num_classes=CLASSES, drop_path_rate=0.1)
    optimizer = create_optimizer(
        model.trainable_params(), opt="adamw", lr=RATE, weight_decay=0.05, loss_scale=1024
    )
    trainer = create_trainer(
        model,
        create_loss(name="CE", label_smoothing=0.1),
        optimizer,
        metrics=None,
        amp_level="O0",
        amp_cast_list="",
        loss_scale_type="fixed",
        loss_scale=1024,
    )
    step = trainer._train_network.set_train()
    pixels, labels = _images(batch)
    images = mindspore.Tensor((pixels.transpose(0, 3, 1, 2).astype(np.float32) - 118) / 58)
    classes = mindspore.Tensor(labels.astype(np.int32))
    return lambda: float(step(images, classes).asnumpy())


def _images(batch: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
    return pixels, rng.integers(0, CLASSES, batch)


SAME = {"ONEDNN_MAX_CPU_ISA": "AVX2"} if platform.machine() in ("x86_64", "AMD64") else {}
CONTESTANTS = {
    "ours": Contestant(open_ours, {}),
    "ours, MindCV's maths": Contestant(open_ours_mindcv, {}),
    "theirs": Contestant(open_theirs, {}),
    "theirs, same environment": Contestant(open_theirs, SAME),
}


def serve(requests: Connection, name: str, batch: int) -> None:
    """Answers, as a worker, a number of steps with their median seconds, a folder with a
    profile's."""
    contestant = CONTESTANTS[name]
    os.environ.update({"GLOG_v": "3", **contestant.environment})
    step = contestant.opens(batch)
    start = time.perf_counter()
    step()
    requests.send(time.perf_counter() - start)
    step()
    while (request := requests.recv()) is not None:
        requests.send(_profile(step, request) if isinstance(request, str) else _time(step, request))


def _time(step: Step, count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return median(times)


def _profile(step: Step, folder: str) -> list[dict[str, Any]]:
    from mindspore import profiler

    with profiler.profile(
        activities=[profiler.ProfilerActivity.CPU],
        on_trace_ready=profiler.tensorboard_trace_handler(folder),
    ) as running:
        for _ in range(PROFILED):
            step()
        running.step()
    file = next(Path(folder).rglob("cpu_op_type_info_*.csv"))
    with file.open(newline="") as rows:
        kernels = list(csv.DictReader(rows))
    kernels.sort(key=lambda kernel: -float(kernel["total_compute_time"]))
    return [
        {
            "kernel": kernel["op_type"],
            "calls": int(kernel["type_occurrences"]) // PROFILED,
            "ms": float(kernel["total_compute_time"]) / PROFILED,
            "share %": 100 * float(kernel["percent"]),
        }
        for kernel in kernels
    ]


def compare(names: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each contestant, against the first."""
    workers = {name: Worker(serve, name, options.batch) for name in names}
    firsts = {name: worker.requests.recv() for name, worker in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in in_turn(names, options.rounds):
        times[name].append(workers[name].call(options.steps))
    rows = []
    for name in names:
        middle, spread = quartiles(times[name], times[names[0]])
        rows.append(
            {
                "step": name,
                "first step s": firsts[name],
                "step ms": 1e3 * median(times[name]),
                f"times {names[0]}": middle,
                "quartiles": spread,
            }
        )
        workers[name].__exit__()
    return rows


def profile(names: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the kernels of one contestant's step, the longest first."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder, Worker(serve, name, options.batch) as worker:
            worker.requests.recv()  # how long the first step took
            kernels = worker.call(folder)
            total = {"kernel": "all", "calls": 0, "ms": 0.0, "share %": 100.0}
            for kernel in kernels:
                total["calls"] += kernel["calls"]
                total["ms"] += kernel["ms"]
            rows += [{"step": name, **kernel} for kernel in [total, *kernels[: options.kernels]]]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="these, in this order")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="per turn")
    parser.add_argument("--profile", action="store_true", help="kernels instead of a comparison")
    parser.add_argument("--kernels", type=int, default=12, help="of a profile, the longest first")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    names = options.only or list(CONTESTANTS)
    print(f"pvt_v2_b0, {options.batch} images of {SIDE} pixels, {os.cpu_count()} cores\n")
    report((profile if options.profile else compare)(names, options), options.json)


if __name__ == "__main__":
    main()
