"""``convert ckpt-to-onnx`` against the usual way through PyTorch's exporter, as whole processes.

    python -m benchmarks.conversion --variant pvt_large --repeat 3

Targets: at least 20 times faster than the usual way, peak memory at most 3 times the checkpoint.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import Usage, add_json_option, medians, python, report, run, run_in_turn

COPY = """
import os, shutil, sys, numpy, onnx
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()
    os.fsync(target.fileno())
"""
"""The floor: what any converter in Python must do, import numpy and onnx and copy the bytes."""


def commands(source: Path, folder: Path) -> dict[str, list[str]]:
    """The contestants, which convert ``source`` into files of ``folder``."""
    ours = python("-m", "convert", "ckpt-to-onnx", source, folder / "ours.onnx", "--force")
    usual = python("-m", "benchmarks.models", "export", source, folder / "usual.onnx")
    floor = python("-c", COPY, source, folder / "floor.ckpt")
    return {"ours": ours, "floor": floor, "usual": usual}


def rows(usages: Mapping[str, list[Usage]], size: int) -> list[dict[str, Any]]:
    """A row for each contestant: medians, and how they stand to ours and to the file's size."""
    ours = medians(usages["ours"])
    return [
        {
            "process": name,
            "runs": len(usages[name]),
            "wall s": (used := medians(usages[name])).wall,
            "CPU s": used.cpu,
            "peak MB": used.peak / 1e6,
            "wall / ours": used.wall / ours.wall,
            "CPU / ours": used.cpu / ours.cpu,
            "peak / checkpoint": used.peak / size,
        }
        for name in usages
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="pvt_large")
    parser.add_argument("--profile", default="official", choices=("official", "mindcv", "hf"))
    parser.add_argument("--repeat", type=int, default=3, help="runs of the usual way")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "model.ckpt"
        run(python("-m", "benchmarks.models", "random", options.variant, options.profile, source))
        size = source.stat().st_size
        print(f"{options.variant}, {options.profile}: a checkpoint of {size / 1e6:.1f} MB\n")
        contestants = commands(source, folder)
        for quick in ("ours", "floor"):  # so that neither compiles its modules on the clock
            run(contestants[quick])
        usages = run_in_turn(contestants, options.repeat)
    report(rows(usages, size), options.json)


if __name__ == "__main__":
    main()
