"""What ``parity run`` costs, as whole processes: time against plain forward passes, and memory.

    python -m benchmarks.parity_cost [--repeat 5] [--json FILE]

*plain* imports one runtime, loads the same file, runs the same images in the same batches, and
looks at nothing; the ratio to their sum is the median of the turns' ratios. Targets: ``parity run``
with all taps takes at most 1.3 times the sum of the plain runs of its three runtimes; with
onnxruntime alone at most 5 s; its peak of memory with 2000 images is that with 64.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.processes import Usage, add_json_option, medians, python, report, run, run_in_turn

RUNTIMES = ("mindspore", "torch", "onnxruntime")
FEW, MANY = 64, 2000


def run_plain(runtime: str, path: Path) -> None:
    """Loads a file in a runtime and runs the images that ``parity run`` does, without taps."""
    from convert.model.read import read_model
    from parity.inputs.samples import Inputs, default_samples, load_batch

    model = read_model(path)
    preprocessing = model.info.preprocessing
    forward = {
        "mindspore": plain_mindspore,
        "torch": plain_torch,
        "onnxruntime": plain_onnxruntime,
    }[runtime](model)
    inputs = Inputs(default_samples(preprocessing), preprocessing.image_size)
    for batch in inputs.batches():
        forward(load_batch(batch, preprocessing))


def plain_mindspore(model: Any) -> Any:
    """Returns MindSpore op by op and without its asynchronous queue, as ``parity`` runs it."""
    from pvt_ms.environment import prepare_environment

    prepare_environment()
    import mindspore

    import pvt_ms

    mindspore.runtime.launch_blocking()
    twin = pvt_ms.model_from_weights(model.info.config, model.info.numerics, model.weights)
    return lambda images: twin(mindspore.Tensor(images)).asnumpy()


def plain_torch(model: Any) -> Any:
    """Returns PyTorch in eager mode."""
    import torch

    import pvt_torch

    twin = pvt_torch.model_from_weights(model.info.config, model.info.numerics, model.weights)

    def forward(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return twin(torch.from_numpy(images)).numpy()

    return forward


def plain_onnxruntime(model: Any) -> Any:
    """Returns onnxruntime with all optimisations."""
    import pvt_onnx
    from pvt_onnx.engines.table import open_engine
    from pvt_spec import output_names

    info = model.info
    graph = pvt_onnx.build(info.config, info.numerics, model.weights, info=info)
    engine = open_engine(graph.SerializeToString(), "plain")
    return lambda images: engine.run({"images": images}, output_names(info.config))


def parity(model: Path, *arguments: object) -> list[str]:
    """Returns the command."""
    return python("-m", "parity", "run", model, *arguments)


def time_rows(model: Path, repeat: int) -> list[dict[str, Any]]:
    """Times the processes in turn."""
    # Threads that spin while they wait, as parity's do not, would flatter it on a busy machine.
    plain = ["env", "OMP_WAIT_POLICY=passive", *python("-m", "benchmarks.parity_cost", "plain")]
    commands = {
        **{f"plain {runtime}": [*plain, runtime, str(model)] for runtime in RUNTIMES},
        "parity run": parity(model),
        "parity run --runtime onnxruntime": parity(model, "--runtime", "onnxruntime"),
    }
    for command in commands.values():  # so that none compiles modules on the clock
        run(command)
    usages = run_in_turn(commands, repeat)
    sums = [
        Usage(sum(u.wall for u in turn), sum(u.cpu for u in turn), max(u.peak for u in turn))
        for turn in zip(*(usages[f"plain {runtime}"] for runtime in RUNTIMES), strict=True)
    ]
    usages = {**usages, "sum of plain": sums}
    return [
        {
            "process": name,
            "runs": repeat,
            "wall s": (used := medians(each)).wall,
            "CPU s": used.cpu,
            "wall / sum of plain": median(u.wall / s.wall for u, s in zip(each, sums, strict=True)),
            "peak MB": used.peak / 1e6,
        }
        for name, each in usages.items()
    ]


def write_images(folder: Path, count: int) -> None:
    """Writes small PNG files of noise."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")


def memory_rows(model: Path, folder: Path, repeat: int) -> list[dict[str, Any]]:
    """Measures memory over few images and many, through two runtimes."""
    commands = {}
    for count in (FEW, MANY):
        images = folder / f"{count}"
        write_images(images, count)
        runtimes = ("--runtime", "onnxruntime", "--runtime", "torch")
        commands[count] = parity(model, *runtimes, "--images", images, "--limit", 0)
    usages = run_in_turn({str(count): command for count, command in commands.items()}, repeat)
    few = medians(usages[str(FEW)]).peak
    return [
        {
            "images": count,
            "runs": repeat,
            "wall s": (used := medians(each)).wall,
            "peak MB": used.peak / 1e6,
            "peak / few": used.peak / few,
        }
        for count, each in usages.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="pvt_v2_b0")
    parser.add_argument("--profile", default="official", choices=("official", "mindcv", "hf"))
    parser.add_argument("--repeat", type=int, default=5)
    add_json_option(parser)
    commands = parser.add_subparsers(dest="command")
    plain = commands.add_parser("plain", help="run a file in one runtime, without taps")
    plain.add_argument("runtime", choices=RUNTIMES)
    plain.add_argument("path", type=Path)
    options = parser.parse_args()
    if options.command:
        return run_plain(options.runtime, options.path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, small = folder / "model.pth", folder / "small.pth"
        random = python("-m", "benchmarks.models", "random")
        run([*random, options.variant, options.profile, str(model)])
        run([*random, "pvt_nano", options.profile, str(small)])
        times = time_rows(model, options.repeat)
        memory = memory_rows(small, folder, 1)
    report(times, options.json)
    print()
    report(memory, options.json and options.json.with_suffix(".memory.json"))
    return None


if __name__ == "__main__":
    main()
