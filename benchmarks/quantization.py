"""What int8 keeps and wins: agreement, accuracy and speed of what ``pvt-onnx quantize`` writes.

    python -m benchmarks.quantization MODEL... --images DIR [--image-size 224] [--json FILE]

MODEL is a file that convert reads, of a trained model; DIR holds labelled images in train and val.
Each is quantised with the options that users get by themselves, and answers val. Then the float
file and the int8 one take turns on one image with one thread, in onnxruntime and in OpenVINO; with
``--image-size`` of that size instead, as the small images of the digits show little of it. Pin the
process to a core (``taskset -c 0``).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convert import convert_file
from convert.options import Changes, Options
from pvt_data.benchmark.turns import time_calls
from pvt_data.sources.labels import ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import open_model
from pvt_onnx.quantize.options import QuantizeOptions
from pvt_onnx.quantize.preparing import Images
from pvt_onnx.quantize.quantization import quantize

ENGINES = ("onnxruntime", "openvino")


def quantised(source: Path, target: Path, images: Path) -> dict[str, Any]:
    """Quantises a file and returns what came of it."""
    report = quantize(
        source,
        target,
        QuantizeOptions(threads=1, ranking=0),
        Images(images, images),
        latency=False,
        force=True,
        tell=ignore,
        show=lambda *_, **__: None,
    )
    return report.to_dict()


def in_turn(files: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of each file in each engine, and how many times quicker it is.

    Times are medians, ratios medians of the rounds' own to the first contestant.
    """
    calls = {}
    for name, path in files.items():
        for engine in ENGINES:
            opened = open_model(path, None, EngineOptions(engine=engine, threads=1))
            prepared = opened.info.preprocessing
            shape = (1, opened.info.config.in_chans, *prepared.image_size)
            image = np.random.default_rng(0).standard_normal(shape, np.float32)
            calls[f"{name} {engine}"] = lambda run=opened.forward, x=image: run(x)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(float(np.median(time_calls(call, 0.2))))
    first = np.array(next(iter(times.values())))
    return {
        name: {"ms": 1000 * float(np.median(found)), "ratio": float(np.median(first / found))}
        for name, found in times.items()
    }


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            files = {name: Path(folder) / f"{model.stem}-{name}.onnx" for name in ("fp32", "int8")}
            convert_file(model, files["fp32"])
            row = {"model": model.stem, **quantised(files["fp32"], files["int8"], options.images)}
            if side := options.image_size:
                larger = Changes(image_size=(side, side))
                convert_file(model, files["fp32"], changes=larger, options=Options(force=True))
                quantised(files["fp32"], files["int8"], options.images)
            row["speed"] = in_turn(files, options.rounds)
            same, top1 = row["agreement"], row["top1"]
            low, high = (100 * each for each in top1["interval"])
            print(
                f"{model.stem}: agreement {same['share']:.2%} of {same['images']}, Top-1 "
                f"{top1['share']:.2%} ({low:.1f} to {high:.1f}), float "
                f"{row['float_top1']['share']:.2%}",
                flush=True,
            )
            for name, found in row["speed"].items():
                print(f"    {name:20} {found['ms']:8.2f} ms  x{found['ratio']:.2f}", flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
