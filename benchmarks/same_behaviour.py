"""Whether two checkouts behave the same: one list of command lines, run in both.

    python -m benchmarks.same_behaviour BEFORE AFTER [--only GROUP ...] [--cache DIR]

BEFORE and AFTER are folders of checkouts, run by this Python. A case is a few command lines in a
fresh folder whose ``in`` is what BEFORE made: golden files, models, bundles, a run that has begun.
So AFTER must open what BEFORE has written. Exit codes, stdout, stderr and the bytes of every file
are compared, but for what ``VARIES``, ``NO_TEXT`` and ``PARTS`` say. Differences that are meant go
into ``EXPECTED``; any other is shown, and the exit code is then 1. ``--cache`` keeps what BEFORE
answered (on this machine, with these packages), so that the next comparison runs AFTER alone.

The groups are golden, answers, errors, parity, train, help and, unless it is asked for, not demo.
"""

import argparse
import difflib
import hashlib
import inspect
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from PIL import Image

EXPECTED: tuple[tuple[str, str], ...] = ()
"""Pattern of a case's name, as it is printed, and why the case may differ."""

VARIES = (
    (r'"(seconds|total|judge|images_per_second)": [\d.e+-]+', r'"\1": …', "durations, JSON"),
    (r"\d+ images/s( +[\d.]+ s\b)?", "… images/s", "durations, lines of pvt-ms train"),
    (r"ETA \S+", "ETA …", "the time left is guessed from the time passed"),
    (r' time="[\d.]+"', ' time="…"', "durations, JUnit"),
    (r"(<dt>seconds[^<]*</dt><dd>)[\d.]+", r"\1…", "durations, HTML"),
    (r"tfevents\.\d+", "tfevents.…", "the name of an event file begins with the time"),
    (r"\d+\.\d s\b", "… s", "durations, summary of benchmarks.demo"),
)
"""Pattern in a text or a file's name, what stands for it, and why two runs differ in it."""

TEXT = (".html", ".json", ".jsonl", ".xml")
"""Endings of files that are compared as texts."""

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
"""As many threads as cases leave room for, and help texts of one width."""

AT_ONCE, SECONDS, SHOWN = 2, 600, 24
"""Cases at a time, seconds before a command is given up, lines of a difference that are shown."""

TEXTS = {
    "labels.txt": "one\ntwo\nthree\n",
    "unknown.yaml": "model: pvt_nano\nepochs: 3\n",
    "values.yaml": "model: pvt_nano\nlr: fast\nopt: adan\nmixup: -1\nscale: [1, 0.5]\n",
    "broken.yaml": "model: [pvt_nano\n",
    "list.yaml": "- model\n",
    "mindcv.yaml": "model: pvt_nano\ndataset: imagenet\ndrop_rate: 0.0\nuse_nesterov: False\n",
    "empty.ckpt": "",
    "noise.pth": "no model\n",
    "noise.onnx": "no model\n",
    "noise.safetensors": "no model\n",
    "noise.npz": "no bundle\n",
    "noise/one/noise.png": "no image\n",
    "log/log.jsonl": '{"kind": "epoch"}\n{"kind": "epoch", "step": 1}\n',
}
"""Files that BEFORE need not make."""

RUN = (
    "pvt_ms train --config in/configs/demo/pvt_nano_digits.yaml --data-dir in/classes "
    "--epoch-size 2 --batch-size 8 --warmup-epochs 0 --num-parallel-workers 0 --log-interval 1 "
    "--mode 1 --output run"
)
"""Training, op by op, as compiling takes longer than so few steps."""

MADE = (
    "benchmarks.models random pvt_nano official nano.ckpt --num-classes 3",
    "convert nano.ckpt nano.onnx --labels in/labels.txt",
    "convert nano.ckpt nano.pth",
    "convert nano.ckpt nano.safetensors",
    "convert nano.ckpt wrong.pth --profile mindcv",
    "convert golden/official_v2_small/weights.pth hub --to-dialect hf --allow-different-maths",
    "parity capture nano.ckpt --runtime mindspore -o mindspore.npz",
    "parity capture nano.ckpt --runtime torch -o torch.npz",
    "parity capture nano.ckpt --runtime reference -o reference.npz",
    RUN,
)
"""What BEFORE makes in ``in``, which is itself there too."""

TARGETS = ("out.ckpt", "out.pth", "out.safetensors", "out.onnx", "out")
DIALECTS = {
    "official": "out.pth",
    "pvt_ms": "out.ckpt",
    "mindcv": "out.ckpt",
    "timm": "out.safetensors",
    "hf": "out",
    "mmdet": "out.pth",
}
CONVERSIONS = (
    *(f"{target} --report report.json" for target in TARGETS),
    *(f"{target} --to-dialect {name}" for name, target in DIALECTS.items()),
    *(f"{target} --to-dialect {name} --allow-different-maths" for name, target in DIALECTS.items()),
    "out.pth --weights ema",
    "out.onnx --image-size 96x64",
    "out.onnx --features",
    "out.ckpt --num-classes 0",
    "out.safetensors --dtype float16",
    "out.ckpt --dtype bfloat16",
    "out.onnx --dynamic-size",
    "out.onnx --opset 17",
    "out.onnx --external-data",
)
"""What every golden model is converted to."""

RUNTIMES = {"pvt_ms": "in/run/best.ckpt", "pvt_torch": "in/nano.pth", "pvt_onnx": "in/nano.onnx"}
ANSWERS = (
    "predict {model} in/pictures in/classes/val/a --json",
    "predict {model} 'in/pictures/*.png' --top-k 2 --batch-size 2",
    "validate {model} --data-dir in/classes --json",
    "validate --ckpt_path {model} --model pvt_nano --data_dir in/classes/val",
)
"""What is asked of a model in each runtime."""

ERRORS = (
    "convert",
    "convert nano.ckpt",
    "convert missing.ckpt out.onnx",
    "convert missing out",
    "convert in/nano.ckpt out.txt",
    "convert in/nano.ckpt missing/out.pth",
    "convert in/labels.txt out.onnx",
    "convert in/empty.ckpt out.onnx",
    "convert in/noise.pth out.onnx",
    "convert in/noise.onnx out.pth",
    "convert in/noise.safetensors out.onnx",
    "convert in/classes out.onnx",
    "convert in/cut.ckpt out.onnx",
    "convert in/cut.pth out.onnx",
    "convert in/cut.safetensors out.onnx",
    "convert in/cut.onnx out.pth",
    "convert in/nano.ckpt out.onnx --colour red",
    "convert in/nano.ckpt out.onnx --dtype int8",
    "convert in/nano.ckpt out.onnx --opset 9",
    "convert in/nano.ckpt out.pth --opset 17 --dynamic-size --external-data",
    "convert in/nano.ckpt out.onnx --image-size 0",
    "convert in/nano.ckpt out.onnx --image-size small",
    "convert in/nano.ckpt out.onnx --num-classes 5",
    "convert in/nano.ckpt out.onnx --model pvt_tiny",
    "convert in/nano.ckpt out.onnx --model pvt_huge",
    "convert in/nano.ckpt out.onnx --from-dialect timm",
    "convert in/nano.ckpt out.onnx --weights ema",
    "convert in/nano.ckpt out.onnx --labels in/configs/demo/pvt_nano_digits.yaml",
    "convert ckpt-to-onnx in/nano.pth out.onnx",
    "convert ckpt-to-onx in/nano.ckpt out.onnx",
    "convert inspect missing.pth",
    "convert inspect in/nano.ckpt --diff in/noise.pth",
    "parity run",
    "parity walk in/nano.ckpt",
    "parity run missing.ckpt",
    "parity run in/noise.pth",
    "parity run in/nano.ckpt in/golden/official_v2_small/weights.pth",
    "parity run in/nano.ckpt --runtime tensorflow",
    "parity run in/nano.ckpt --runtime cuda",
    "parity run in/nano.ckpt --emulate fp7",
    "parity run in/nano.ckpt --images missing",
    "parity run in/nano.ckpt --images in/noise",
    "parity run in/nano.ckpt --images in/pictures --random 2",
    "parity run in/nano.ckpt --atol -1",
    "parity check in/noise.npz in/nano.ckpt",
    "parity check in/torch.npz in/golden/mindcv_v1_small/weights.ckpt",
    "parity compare in/torch.npz",
    "parity compare in/torch.npz in/noise.npz",
    "parity diagnose in/nano.ckpt",
    "parity diagnose in/nano.ckpt in/golden/official_v2_small/weights.pth",
    "parity validate in/nano.ckpt --images in/labels.txt",
    "pvt_onnx predict in/nano.pth in/pictures",
    "pvt_onnx predict in/nano.onnx",
    "pvt_onnx predict in/nano.onnx in/noise",
    "pvt_onnx predict in/nano.onnx 'nothing/*.png' --top-k 0",
    "pvt_torch predict missing.pth in/pictures",
    "pvt_torch validate in/nano.pth --data-dir in/pictures",
    "pvt_torch validate in/nano.pth --data-dir in/classes --model pvt_tiny",
    "pvt_ms validate in/cut.ckpt --data-dir in/classes",
    "pvt_train plot missing",
    "pvt_train plot in/log -o curves.png",
    "pvt_train plot in/run -o curves.txt",
    "pvt_ms train",
    "pvt_ms train --model pvt_nano --data-dir missing",
    "pvt_ms train --model pvt_huge --data-dir in/classes",
    "pvt_ms train --model pvt_nano --data-dir in/classes --learning-rate 1",
    "pvt_ms train --model pvt_nano --data-dir in/classes --lr fast",
    "pvt_ms train --model pvt_nano --data-dir in/classes --batch-size 1000 --opt adan",
    f"{RUN} --num-classes 5",
    f"{RUN} --batch-size 1000",
    f"{RUN} --lr 1e30 --epoch-size 9",
    f"{RUN} --device-target Ascend",
    f"{RUN} --pretrained in/golden/official_v2_small/weights.pth",
    f"{RUN} --freeze 'stem.*'",
    "pvt_ms train --config missing.yaml",
    "pvt_ms train --config in/unknown.yaml --data-dir in/classes",
    "pvt_ms train --config in/values.yaml --data-dir in/classes",
    "pvt_ms train --config in/broken.yaml --data-dir in/classes",
    "pvt_ms train --config in/list.yaml --data-dir in/classes",
    "pvt_ms train --config in/mindcv.yaml --data-dir missing",
    "pvt_ms train --resume missing",
    "pvt_ms train --resume in/nano.ckpt --output new",
)
"""Wrong usage and bad files."""

V1, V2 = "in/golden/mindcv_v1_small/weights.ckpt", "in/golden/official_v2_small/weights.pth"
PARITY = (
    f"parity run {V1} --json --html page.html --junit junit.xml",
    f"parity run {V2} -v",
    "parity run in/nano.ckpt in/nano.pth in/nano.onnx in/torch.npz --images in/pictures --limit 3",
    "parity run in/nano.ckpt in/wrong.pth --html page.html --junit junit.xml",
    "parity run in/nano.onnx --runtime onnx-reference --runtime onnxruntime-disabled --json",
    "parity run in/nano.pth --runtime torch --emulate fp16 --emulate bf16-graph --precision bf16",
    "parity run in/nano.pth --runtime torch --atol 1e-5 --rtol 1e-4 --taps stages --random 2",
    "parity run in/nano.pth --runtime torch --atol 1e-9 --taps logits --seed 3 --batch 3 --json",
    "parity run in/nano.ckpt --runtime mindspore-o2 --runtime mindspore-graph --image-size 40x36",
    "parity run in/golden/mmdet_v1_small/weights.pth --runtime torch --runtime onnxruntime",
    "parity run in/hub --runtime onnxruntime-basic --images in/torch.npz",
    f"parity capture {V2} --runtime onnxruntime -o out.npz --taps stages --random 2",
    f"parity capture {V1} --runtime mindspore -o out.npz --without-inputs --images in/pictures",
    "parity capture in/nano.ckpt --runtime reference --precision fp16 -o out.npz --random 1",
    "parity check in/mindspore.npz in/nano.ckpt --runtime torch --json",
    "parity check in/torch.npz in/wrong.pth --runtime onnxruntime",
    "parity check in/theirs.npz in/nano.ckpt --runtime torch",
    "parity compare in/reference.npz in/torch.npz in/mindspore.npz -v",
    "parity compare in/torch.npz in/mindspore.npz --json --html page.html",
    "parity diagnose in/nano.ckpt in/nano.onnx",
    "parity diagnose in/nano.ckpt in/wrong.pth --json",
    "parity diagnose in/wrong.pth in/torch.npz",
    "parity diagnose in/theirs.npz in/nano.ckpt",
    "parity validate in/run/best.ckpt --images in/classes/val --html page.html",
    "parity validate in/nano.ckpt in/wrong.pth --images in/classes/val --limit 9 --json",
)

TRAINING = (
    "--mode 0 --plot --num-parallel-workers 1",
    "--mixup 0.8 --cutmix 1 --gradient-accumulation-steps 2 --clip-value 0.1 --layer-decay 0.7",
    "--opt sgd --use-nesterov True --scheduler step_decay --ema False --hflip 0.5 --vflip 0.5",
    "--opt momentum --scheduler multi_step_decay --weight-decay-filter norm_and_bias --val-split a",
    "--opt lamb --auto-augment randaug-m9-mstd0.5-inc1 --re-prob 1 --re-value random",
    "--color-jitter 0.4 --aug-repeats 2 --scheduler deit_cosine --warmup-epochs 1 --lr 0.1",
    "--amp-level O2 --loss-scale-type auto --profile mindcv --ckpt-save-policy top_k",
    "--pretrained in/wrong.pth --freeze 'patch_embed*,block1.*' --val-while-train False",
    "--model pvt_v2_b0 --image-resize 64 --num-samples 8 --epoch-size 1 --in-channels 1",
)
"""What is added to ``RUN``."""

PROGRAMS = {
    "convert": ("", "inspect", "any-to-any", "ckpt-to-onnx", "safetensors-to-pth"),
    "parity": ("", "run", "capture", "check", "compare", "diagnose", "validate"),
    "pvt_ms": ("", "train", "predict", "validate"),
    "pvt_torch": ("", "predict", "validate"),
    "pvt_onnx": ("", "predict", "validate"),
    "pvt_train": ("", "plot"),
}
"""Programs and their commands, for ``--help``."""


@dataclass(frozen=True)
class Case:
    """Command lines that run one after the other in a folder of their own.

    Attributes:
        group: What it is a case of.
        commands: A module and its arguments each.
        copies: What is copied from ``in``, as the commands change it or look for it here.
    """

    group: str
    commands: tuple[str, ...]
    copies: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The group and the commands, as a shell would have them."""
        return f"{self.group}: {' && '.join(self.commands)}".replace(RUN, "RUN")


def cases(before: Path) -> Iterator[Case]:
    """Every case, the golden ones of the files that BEFORE has."""
    golden = before / "tests/golden"
    for file in sorted(golden.glob("*/*.[cps]*t*")):
        path = f"in/golden/{file.relative_to(golden)}"
        other = "in/golden/official_v1_small/training_checkpoint.pth"
        yield Case("golden", tuple(f"convert inspect {path}{o}" for o in ("", " --json")))
        yield Case("golden", (f"convert inspect {other} --diff {path}",))
        for conversion in CONVERSIONS:
            target = conversion.split()[0]
            commands = (f"convert {path} {conversion}", f"convert inspect {target} --json")
            yield Case("golden", commands)
    for module, model in RUNTIMES.items():
        for question in ANSWERS:
            yield Case("answers", (f"{module} {question.format(model=model)}",))
    capture = "parity capture in/nano.pth --runtime torch -o a.npz"
    for command in ("convert in/nano.ckpt a.pth", capture):
        yield Case("errors", (command, command, f"{command} --force"))
    yield Case("errors", ("convert in/nano.ckpt a.pth", "convert a.pth a.pth --force"))
    yield Case("errors", ("pvt_ms train --resume run",), ("run",))
    yield Case("errors", ("pvt_ms train --resume run --seed 1 --opt sgd",), ("run",))
    yield from (Case("errors", (command,)) for command in ERRORS)
    yield from (Case("parity", (command,)) for command in PARITY)
    for options in TRAINING:
        yield Case("train", (f"{RUN} {options}", "pvt_train plot run -o again.png"))
    yield Case("train", ("pvt_ms train --resume run --epoch-size 3", RUN), ("run",))
    yield Case("train", ("pvt_ms train --resume in/run --epoch-size 3 --output new --lr 0.1",))
    for module, commands in PROGRAMS.items():
        yield from (Case("help", (f"{module} {command} --help",)) for command in commands)
    yield Case("demo", ("benchmarks.demo",), ("configs",))


def run(command: str, checkout: Path, folder: Path) -> dict[str, str]:
    """What a command of a checkout answers in a folder: exit code, stdout, stderr."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout)}
    words = [sys.executable, "-m", *shlex.split(command)]
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"exit code": f"none within {SECONDS} s"}
    return {"exit code": str(done.returncode), "stdout": done.stdout, "stderr": done.stderr}


def make_inputs(before: Path, folder: Path) -> None:
    """Fills a folder with what the cases take, as BEFORE makes it."""
    (folder / "in").symlink_to(".")
    shutil.copytree(before / "tests/golden", folder / "golden")
    shutil.copytree(before / "configs", folder / "configs")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rng = np.random.default_rng(0)
    splits = [(f"classes/{s}/{c}", n) for s, n in (("train", 8), ("val", 4)) for c in "abc"]
    for name, count in [*splits, ("pictures", 5)]:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (36 + number, 44, 4), np.uint8)
            image = Image.fromarray(pixels).convert(("RGB", "L", "RGBA", "P")[number % 4])
            image.save(folder / name / f"{number}.png")
    for command in MADE:
        answer = run(command, before, folder)
        if answer["exit code"] != "0":
            sys.exit(f"{before}: {command} failed:\n{answer.get('stderr')}")
    for ending in ("ckpt", "pth", "safetensors", "onnx"):
        whole = (folder / f"nano.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    images = rng.standard_normal((2, 3, 32, 32), np.float32)
    np.savez(folder / "theirs.npz", input=images, logits=images[:, :, 0, 0])


def contents(path: Path) -> str:
    """A file for comparison: its text, or the hash of its bytes or of those parts that last."""
    data = path.read_bytes()
    if path.suffix in TEXT:
        return data.decode(errors="replace")
    if path.suffix == ".npz":
        # The entries of the zip bear the time.
        with zipfile.ZipFile(path) as archive:
            return "\n".join(f"{name} {digest(archive.read(name))}" for name in archive.namelist())
    if "tfevents" in path.name:
        return "\n".join(digest(event) for event in events(data))
    return digest(data)


def events(data: bytes) -> Iterator[bytes]:
    """TensorBoard's events without their times, and without those that are durations.

    Each is its length (8 bytes), a checksum (4), the event and a checksum (4); an event begins
    with the time (9).
    """
    while data:
        (length,) = struct.unpack_from("<Q", data)
        event, data = data[12 : 12 + length], data[16 + length :]
        if b"epoch/seconds" not in event and b"epoch/images_per_second" not in event:
            yield event[9:]


def digest(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def answers(case: Case, checkout: Path, inputs: Path) -> dict[str, str]:
    """Everything that a case says and writes, by what it is."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="same-") as name:
        folder = Path(name)
        (folder / "in").symlink_to(inputs)
        for copy in case.copies:
            shutil.copytree(inputs / copy, folder / copy)
        for command in case.commands:
            for what, text in run(command, checkout, folder).items():
                found[f"{len(found) // 3 + 1} {what}"] = text
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.parent.name != "in":
                found[f"file {path.relative_to(folder)}"] = contents(path)
    # Where things are is the comparison's doing, not the checkout's.
    places = {name: "HERE", str(inputs): "INPUTS", str(checkout): "CHECKOUT"}
    for place, word in places.items():
        found = {what: text.replace(place, word) for what, text in found.items()}
    return found


def without_what_varies(text: str) -> str:
    """A text with words in place of what two runs differ in."""
    for pattern, word, _ in VARIES:
        text = re.sub(pattern, word, text)
    return text


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Lines that say what differs, none if nothing does."""
    lines = []
    old, new = (
        {without_what_varies(what): without_what_varies(text) for what, text in found.items()}
        for found in (before, after)
    )
    for what in sorted(old.keys() | new.keys()):
        texts = [found.get(what, "(nothing)").splitlines() for found in (old, new)]
        diff = list(difflib.unified_diff(*texts, "before", "after", lineterm="", n=1))[2:]
        if old.get(what) != new.get(what):
            lines += [f"  {what}", *(f"    {line[:200]}" for line in diff[:SHOWN])]
            lines += [f"    … {len(diff) - SHOWN} more lines"] * (len(diff) > SHOWN)
    return lines


def cache_folder(cache: Path, before: Path) -> Path:
    """Where the answers of this BEFORE to these inputs are kept."""
    state = b"".join(
        subprocess.run(["git", "-C", before, *words], capture_output=True, check=True).stdout
        for words in (("rev-parse", "HEAD"), ("diff", "HEAD"))
    )
    made = repr((TEXTS, MADE, ENVIRONMENT)) + inspect.getsource(make_inputs)
    return cache / digest(state + made.encode())[:12]


def cached_answers(case: Case, before: Path, folder: Path) -> dict[str, str]:
    """What BEFORE answered, now or earlier."""
    kept = folder / f"{digest(repr(case).encode())[:16]}.json"
    if not kept.exists():
        found = answers(case, before, folder / "inputs")
        kept.write_text(json.dumps({"case": case.name, **found}))
    return {what: text for what, text in json.loads(kept.read_text()).items() if what != "case"}


def compare(case: Case, before: Path, after: Path, folder: Path) -> tuple[str, list[str]]:
    """A case's verdict, and the lines that go with it."""
    lines = differences(
        cached_answers(case, before, folder), answers(case, after, folder / "inputs")
    )
    reason = next((why for pattern, why in EXPECTED if fnmatch(case.name, pattern)), None)
    if lines and reason:
        return "expected", [f"  {reason}"]
    return "DIFFERS" if lines else "same", lines


def main() -> None:
    """Compares, prints a line per case, and ends with exit code 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="all but demo, if not given")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where BEFORE's answers are kept")
    options = parser.parse_args()
    before, after = options.before.resolve(), options.after.resolve()
    every = list(cases(before))
    groups = {case.group: None for case in every}
    wanted = options.only or [group for group in groups if group != "demo"]
    for checkout in (before, after):
        # Python would take what is missing there from what is installed.
        if not (checkout / "convert/__main__.py").is_file():
            parser.error(f"{checkout} is no checkout")
    if unknown := set(wanted) - set(groups):
        parser.error(f"no group {', '.join(sorted(unknown))}: there are {', '.join(groups)}")
    start, counts = time.monotonic(), dict.fromkeys(("same", "expected", "DIFFERS"), 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = cache_folder((options.cache or Path(scratch)).resolve(), before)
        if not (folder / "inputs").is_dir():
            making = folder / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            make_inputs(before, making)
            making.rename(folder / "inputs")
        chosen = [case for case in every if case.group in wanted]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = pool.map(lambda case: compare(case, before, after, folder), chosen)
            for case, (verdict, lines) in zip(chosen, results, strict=True):
                counts[verdict] += 1
                print("\n".join([f"{verdict:<9}{case.name}", *lines]), flush=True)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"{len(chosen)} cases: {said}; {time.monotonic() - start:.0f} s")
    sys.exit(counts["DIFFERS"] > 0)


if __name__ == "__main__":
    main()
