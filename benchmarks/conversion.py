"""Every conversion against the floor and the usual ways, as whole processes.

    python -m benchmarks.conversion --repeat 3
    python -m benchmarks.conversion --variant pvt_v2_b0 --num-classes 900000 --ours-only

The second makes a checkpoint of 1 GB whose head MindSpore's format splits in two.

Targets: ckpt-to-onnx takes at most 2 times the floor (import numpy and onnx, copy the bytes, fsync)
and is at least 25 times faster than torch.onnx.export; every other pair takes at most 1.5 times
that limit, 3 times the floor; peak memory is at most 1.6 times the checkpoint; pth-to-safetensors
is at least 3 times faster than torch.load and safetensors.torch.save_file.
"""

import argparse
import tempfile
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.processes import Usage, add_json_option, medians, python, report, run, run_in_turn

FORMATS = ("ckpt", "pth", "safetensors", "onnx")

COPY = """
import os, shutil, sys, numpy, onnx
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()
    os.fsync(target.fileno())
"""
"""The floor: what any converter in Python must do, import numpy and onnx and copy the bytes."""


def commands(folder: Path) -> dict[str, list[str]]:
    """The contestants, which convert the ``model.*`` of ``folder``."""
    source = {kind: folder / f"model.{kind}" for kind in FORMATS}
    ours = {
        f"{a}-to-{b}": python(
            "-m", "convert", f"{a}-to-{b}", source[a], folder / f"from_{a}.{b}", "--force"
        )
        for a, b in permutations(FORMATS, 2)
    }
    export, save = (folder / "export.onnx", folder / "saved.safetensors")
    return {
        "floor": python("-c", COPY, source["ckpt"], folder / "floor.ckpt"),
        **ours,
        "torch.onnx.export": python("-m", "benchmarks.models", "export", source["ckpt"], export),
        "safetensors.torch": python("-m", "benchmarks.models", "safetensors", source["pth"], save),
    }


def rows(usages: Mapping[str, list[Usage]], size: int) -> list[dict[str, Any]]:
    """Returns a row for each contestant: medians, and how they stand to floor and file size."""
    floor = medians(usages["floor"])
    return [
        {
            "process": name,
            "runs": len(usages[name]),
            "wall s": (used := medians(usages[name])).wall,
            "CPU s": used.cpu,
            "wall / floor": used.wall / floor.wall,
            "peak / checkpoint": used.peak / size,
        }
        for name in usages
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="pvt_large")
    parser.add_argument("--profile", default="official", choices=("official", "mindcv", "hf"))
    parser.add_argument("--num-classes", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="leave out the usual ways")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "model.ckpt"
        made = ["random", options.variant, options.profile, first]
        classes = ["--num-classes", options.num_classes]
        run(python("-m", "benchmarks.models", *made, *classes))
        for kind in FORMATS[1:]:
            run(python("-m", "convert", first, folder / f"model.{kind}"))
        size = first.stat().st_size
        print(f"{options.variant}, {options.profile}: a checkpoint of {size / 1e6:.1f} MB\n")
        contestants = commands(folder)
        if options.ours_only:
            contestants = {k: v for k, v in contestants.items() if "torch" not in k}
        run(contestants["floor"])  # so that it compiles no modules on the clock
        usages = run_in_turn(contestants, options.repeat)
    report(rows(usages, size), options.json)


if __name__ == "__main__":
    main()
