"""The main job end to end, on real images: train in MindSpore, convert, serve, prove.

``make demo`` runs this. Every step is a command that a user would type, shown as it runs; the
summary is put together from what the commands printed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from pvt_spec import PvtError

FOLDER = Path("demo")
DIGITS = FOLDER / "digits"
RUN = FOLDER / "run"
CKPT, PTH, ONNX = RUN / "best.ckpt", FOLDER / "pvt_nano.pth", FOLDER / "pvt_nano.onnx"
PAGE = FOLDER / "parity.html"
VALIDATED = {
    "mindspore": ("pvt_ms", CKPT),
    "torch": ("pvt_torch", PTH),
    "onnxruntime": ("pvt_onnx", ONNX),
}


class StepFailed(PvtError):
    """A command of the demo ended with an error."""


def step(*arguments: object, capture: bool = False) -> tuple[str, float]:
    """Runs ``python -m ARGUMENTS`` and returns (stdout if captured, wall seconds)."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ python -m {' '.join(words)}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE if capture else None, text=True
    )
    if done.returncode:
        raise StepFailed(f"python -m {' '.join(words)} ended with exit code {done.returncode}")
    return done.stdout or "", time.perf_counter() - start


def main() -> None:
    """Runs every step, then prints the summary."""
    seconds: dict[str, float] = {}
    step("pvt_data.sources.digits", DIGITS)
    _, seconds["training (MindSpore)"] = step(
        "pvt_ms", "train", "--config", "configs/demo/pvt_nano_digits.yaml",
        "--data-dir", DIGITS, "--output", RUN, "--force",
    )  # fmt: skip
    _, seconds["ckpt-to-onnx"] = step("convert", "ckpt-to-onnx", CKPT, ONNX, "--force")
    _, seconds["ckpt-to-pth"] = step("convert", "ckpt-to-pth", CKPT, PTH, "--force")
    step("pvt_onnx", "predict", ONNX, *sorted(DIGITS.glob("val/*/*.png"))[::40], "--top-k", 3)
    accuracy = {}
    for runtime, (package, model) in VALIDATED.items():
        out, seconds[f"validation ({runtime})"] = step(
            package, "validate", model, "--data-dir", DIGITS / "val", "--json", capture=True
        )
        print(out, end="")
        accuracy[runtime] = json.loads(out)
    proof, seconds["parity run"] = step(
        "parity", "run", CKPT, PTH, ONNX, "--images", DIGITS / "val", "--limit", 64, "--json",
        "--html", PAGE, "--force", capture=True,
    )  # fmt: skip
    summarise(accuracy, json.loads(proof), seconds)


def summarise(accuracy: dict, proof: dict, seconds: dict[str, float]) -> None:
    """Prints accuracy, distance from float64, sizes and times."""
    print(f"\n{'runtime':<12} {'Top-1':>8} {'Top-5':>8}   largest logit difference from float64")
    for result in proof["runtimes"]:
        runtime = result["runtime"].split()[0]
        top = accuracy[runtime]
        error = result["taps"]["logits"]["max_abs"]
        print(f"{runtime:<12} {top['top1']:7.2f}% {top['top5']:7.2f}%   {error:.1e}")
    images = proof["runtimes"][0]["images"]
    verdict = "the same function" if proof["same"] else "NOT the same function"
    print(f"parity: {verdict} in all three, tap by tap, over {images} validation images ({PAGE})")
    print("sizes:  " + ", ".join(f"{p.name} {p.stat().st_size:,} bytes" for p in (CKPT, PTH, ONNX)))
    print("times:  " + ", ".join(f"{what} {t:.1f} s" for what, t in seconds.items()))


if __name__ == "__main__":
    try:
        main()
    except StepFailed as error:
        sys.exit(f"Error: {error}")
