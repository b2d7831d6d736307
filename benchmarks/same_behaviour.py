"""Whether two checkouts behave the same: one list of command lines, run in both.

    python -m benchmarks.same_behaviour BEFORE AFTER [--only GROUP ...] [--cache DIR]

BEFORE and AFTER are folders of checkouts, run by this Python. A case is a few command lines in a
fresh folder whose ``in`` is what BEFORE made: golden files, models, bundles, a run that has begun.
So AFTER must open what BEFORE has written. Exit codes, stdout, stderr and the bytes of every file
are compared, without what ``VARIES`` and ``contents`` leave out. Differences that are meant go into
``EXPECTED``; any other is shown, and the exit code is then 1. ``--cache`` keeps what BEFORE
answered (on this machine, with these packages), so that the next comparison runs AFTER alone.

Groups: golden (files of the peers, inspected and converted), train, errors, parity, answers
(predict and validate), help, and demo (``benchmarks.demo``, which runs only if it is named).
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
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image

EXPECTED: tuple[tuple[str, str], ...] = (
    (
        "errors: parity run in/nano.ckpt --emulate fp7",
        "precisions are one table, so they are listed in one order where there were two",
    ),
)
"""Pattern of a case's name, as it is printed, and why the case may differ."""

VARIES = (
    (
        r'"(seconds|total|judge|(?:model_)?images_per_second)": [\d.e+-]+',
        r'"\1": …',
        "durations, JSON",
    ),
    (r"[\d.]+ images/s; the model alone [\d.]+", "… images/s", "durations, lines of validate"),
    (r"\d+ images/s( +[\d.]+ s\b)?", "… images/s", "durations, lines of pvt-ms train"),
    (r"ETA \S+", "ETA …", "the time left is guessed from the time passed"),
    (r' time="[\d.]+"', ' time="…"', "durations, JUnit"),
    (r"(<dt>seconds[^<]*</dt><dd>)[\d.]+", r"\1…", "durations, HTML"),
    ("Worst at:", "worst at:", "the legend of the page names a column as its heading does"),
    (r"tfevents\.\d+", "tfevents.…", "the name of an event file has the time in it"),
    (r"\d+\.\d s\b", "… s", "durations, summary of benchmarks.demo"),
)
"""Pattern in a text or a file's name, what stands for it, and why two runs differ in it."""

TEXT = (".html", ".json", ".jsonl", ".xml")
"""Endings of files that are compared as texts; of ``.npz`` and event files see ``contents``."""

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
"""As many threads as the cases beside it leave, and help texts of one width."""

AT_ONCE, SECONDS, SHOWN = 2, 600, 24
"""Cases at a time, seconds before a command is given up, lines of a difference that are shown."""

TEXTS = {
    "labels.txt": "a\nb\nc\n",
    "unknown.yaml": "model: pvt_nano\nepochs: 3\n",
    "values.yaml": "model: pvt_nano\nopt: adan\nmixup: -1\nscale: [1, 0.5]\n",
    "types.yaml": "model: pvt_nano\nlr: fast\n",
    "broken.yaml": "model: [pvt_nano\n",
    "list.yaml": "- model\n",
    "mindcv.yaml": "model: pvt_nano\ndataset: imagenet\ndrop_rate: 0.0\ncolor_jitter: 0.4\n",
    "empty.ckpt": "",
    **{f"noise.{ending}": "no model\n" for ending in ("pth", "onnx", "safetensors", "npz")},
    "noise/a/noise.png": "no image\n",
    "log/log.jsonl": '{"kind": "epoch"}\n{"kind": "epoch", "step": 1}\n',
}
"""Files that no checkout makes."""

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
"""What BEFORE makes in ``in``, where ``in`` is that folder itself."""

FORMATS = ("ckpt", "pth", "safetensors", "onnx")
TARGETS = (*(f"out.{ending}" for ending in FORMATS), "out")
DIALECTS = {
    "official": "out.pth", "pvt_ms": "out.ckpt", "mindcv": "out.ckpt",
    "timm": "out.safetensors", "hf": "out", "mmdet": "out.pth",
}  # fmt: skip
CHANGES = (
    *(f"{target} --to-dialect {name}" for name, target in DIALECTS.items()),
    *(f"{target} --to-dialect {name} --allow-different-maths" for name, target in DIALECTS.items()),
    "out.pth --weights ema", "out.onnx --image-size 96x64", "out.onnx --features",
    "out.ckpt --num-classes 0", "out.safetensors --dtype float16", "out.ckpt --dtype bfloat16",
    "out.onnx --dynamic-size", "out.onnx --opset 17", "out.onnx --external-data",
)  # fmt: skip
"""What every golden model is converted to, with which options."""

RUNTIMES = {"pvt_ms": "in/run/best.ckpt", "pvt_torch": "in/nano.pth", "pvt_onnx": "in/nano.onnx"}
ANSWERS = (
    "predict {model} in/pictures in/classes/val/a --json",
    "predict {model} 'in/pictures/*.png' --top-k 2 --batch-size 2",
    "validate {model} --data-dir in/classes --json",
    "validate --ckpt_path {model} --model pvt_nano --data_dir in/classes/val",
)
"""What is asked of a model in each runtime."""

V1, V2 = "in/golden/mindcv_v1_small/weights.ckpt", "in/golden/official_v2_small/weights.pth"

ERRORS = {
    "convert": (
        "", "in/nano.ckpt", "missing.ckpt out.onnx", "missing out", "in/nano.ckpt out.txt",
        "in/nano.ckpt missing/out.pth", "in/labels.txt out.onnx", "in/classes out.onnx",
        "in/empty.ckpt out.onnx", "in/noise.pth out.onnx", "in/noise.onnx out.pth",
        "in/noise.safetensors out.onnx", "in/cut.ckpt out.onnx", "in/cut.pth out.onnx",
        "in/cut.safetensors out.onnx", "in/cut.onnx out.pth", "ckpt-to-onnx in/nano.pth out.onnx",
        "ckpt-to-onx in/nano.ckpt out.onnx", "in/nano.ckpt out.pth --opset 17 --dynamic-size",
        "inspect missing.pth", "inspect in/nano.ckpt --diff in/noise.pth",
        f"inspect {V1} --diff in/golden/official_v1_small/training_checkpoint.pth",
    ),
    "convert in/nano.ckpt out.onnx": (
        "--colour red", "--dtype int8", "--opset 9", "--image-size 0", "--image-size small",
        "--num-classes 5", "--model pvt_tiny", "--model pvt_huge", "--from-dialect timm",
        "--weights ema", "--labels in/list.yaml",
    ),
    "parity": (
        "run", "walk in/hub", "run missing.ckpt", "run in/noise.pth", f"run in/nano.ckpt {V2}",
        "check in/noise.npz in/nano.ckpt", f"check in/torch.npz {V1}", "compare in/torch.npz",
        "compare in/torch.npz in/noise.npz", "diagnose in/nano.ckpt", f"diagnose in/nano.ckpt {V2}",
        "validate in/nano.ckpt --images in/labels.txt",
    ),
    "parity run in/nano.ckpt": (
        "--runtime tensorflow", "--runtime cuda", "--emulate fp7", "--atol -1", "--images missing",
        "--images in/noise", "--images in/pictures --random 2", "in/torch.npz --images in/pictures",
    ),
    "pvt_onnx predict": (
        "in/nano.pth in/pictures", "in/nano.onnx", "in/nano.onnx in/noise",
        "in/nano.onnx in/pictures --top-k 0",
    ),
    "pvt_torch": (
        "predict missing.pth in/pictures", "validate in/nano.pth --data-dir in/pictures",
        "validate in/nano.pth --data-dir in/classes --model pvt_tiny",
    ),
    "pvt_ms": ("train", "train --resume missing", "validate in/cut.ckpt --data-dir in/classes"),
    "pvt_ms train --data-dir in/classes": (
        "--config missing.yaml", "--config in/unknown.yaml", "--config in/values.yaml",
        "--config in/types.yaml", "--config in/broken.yaml", "--config in/list.yaml",
        "--config in/mindcv.yaml --data-dir missing", "--model pvt_huge",
        "--model pvt_nano --learning-rate 1", "--model pvt_nano --lr fast",
    ),
    RUN: (
        "--num-classes 5", "--val-split none", "--lr 1e30 --epoch-size 9", f"--pretrained {V2}",
        "--device-target Ascend", "--freeze 'stem.*'", "--resume in/nano.ckpt",
    ),
    "pvt_train plot": ("missing", "in/log -o curves.png", "in/run -o curves.txt"),
}  # fmt: skip
"""Wrong usage and bad files: a command line's beginning, and how it may go on."""

PARITY = {
    "run": (
        f"{V1} --json --html page.html --junit junit.xml",
        f"{V2} -v",
        "in/nano.ckpt in/nano.pth in/nano.onnx in/torch.npz",
        "in/nano.ckpt in/wrong.pth --html page.html --junit junit.xml",
        "in/nano.onnx --runtime onnx-reference --runtime onnxruntime-disabled --json",
        "in/nano.pth --runtime torch --emulate fp16 --emulate bf16-graph --precision bf16",
        "in/nano.pth --runtime torch --atol 1e-5 --rtol 1e-4 --taps stages --random 2",
        "in/nano.pth --runtime torch --atol 1e-9 --taps logits --seed 3 --batch 3 --json",
        "in/nano.ckpt --runtime mindspore-o2 --runtime mindspore-graph --image-size 40x36",
        "in/nano.pth --runtime onnxruntime-extended --images in/pictures --limit 3",
        "in/golden/mmdet_v1_small/weights.pth --runtime torch --runtime onnxruntime",
        "in/hub --runtime onnxruntime-basic --images in/torch.npz",
    ),
    "capture": (
        f"{V2} --runtime onnxruntime -o out.npz --taps stages --random 2",
        f"{V1} --runtime mindspore -o out.npz --without-inputs --images in/pictures",
        "in/nano.ckpt --runtime reference --precision fp16 -o out.npz --random 1",
    ),
    "check": (
        "in/mindspore.npz in/nano.ckpt --runtime torch --json",
        "in/torch.npz in/wrong.pth --runtime onnxruntime",
        "in/theirs.npz in/nano.ckpt --runtime torch",
    ),
    "compare": (
        "in/reference.npz in/torch.npz in/mindspore.npz -v",
        "in/torch.npz in/mindspore.npz --json --html page.html",
    ),
    "diagnose": (
        "in/nano.ckpt in/nano.onnx",
        "in/nano.ckpt in/wrong.pth --json",
        "in/wrong.pth in/torch.npz",
        "in/theirs.npz in/nano.ckpt",
    ),
    "validate": (
        "in/run/best.ckpt --images in/classes/val --html page.html",
        "in/nano.ckpt in/wrong.pth --images in/classes/val --limit 9 --json",
    ),
}
"""Arguments of each command of ``parity``."""

TRAINING = (
    "--mode 0 --plot --num-parallel-workers 1",
    "--mixup 0.8 --cutmix 1 --gradient-accumulation-steps 2 --clip-value 0.1 --layer-decay 0.7",
    "--opt sgd --use-nesterov True --scheduler step_decay --ema False --hflip 0.5 --vflip 0.5",
    "--opt momentum --scheduler multi_step_decay --weight-decay-filter norm_and_bias",
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

ONE_BY_ONE = {
    "parity": {f"parity {command}": ends for command, ends in PARITY.items()},
    "answers": {
        module: tuple(answer.format(model=model) for answer in ANSWERS)
        for module, model in RUNTIMES.items()
    },
    "errors": ERRORS,
    "help": {
        module: tuple(f"{command} --help" for command in commands)
        for module, commands in PROGRAMS.items()
    },
}
"""Group, a command line's beginning, and how it may go on: cases of one command each."""


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
    """Returns every case, the golden ones of the files that BEFORE has."""
    yield from golden_cases(before / "tests/golden")
    for source, target in permutations(FORMATS, 2):
        yield Case("golden", (f"convert {source}-to-{target} in/nano.{source} out.{target}",))
    for options in TRAINING:
        yield Case("train", (f"{RUN} {options}", "pvt_train plot run -o again.png"))
    yield Case("train", ("pvt_ms train --resume run --epoch-size 3", RUN), ("run",))
    yield Case("train", ("pvt_ms train --resume in/run --epoch-size 3 --output new --lr 0.1",))
    for command in (
        "convert in/nano.ckpt a.pth --report a.json",
        "parity capture in/nano.pth --runtime torch -o a.npz",
    ):
        yield Case("errors", (command, command, f"{command} --force"))
    yield Case("errors", ("convert in/nano.ckpt a.pth", "convert a.pth a.pth --force"))
    for changes in ("", " --seed 1 --opt sgd"):
        yield Case("errors", (f"pvt_ms train --resume run{changes}",), ("run",))
    for group, table in ONE_BY_ONE.items():
        for start, ends in table.items():
            yield from (Case(group, (f"{start} {end}".strip(),)) for end in ends)
    yield Case("demo", ("benchmarks.demo",), ("configs",))


def golden_cases(golden: Path) -> Iterator[Case]:
    """Yields what every file of the peers is, and what it is converted to."""
    for file in sorted(path for path in golden.glob("*/*") if path.suffix[1:] in FORMATS):
        path = f"in/golden/{file.relative_to(golden)}"
        yield Case("golden", (f"convert inspect {path}", f"convert inspect {path} --json"))
        # What is no model is refused whatever it is to become: once is enough.
        model = (file.parent / "case.json").exists()
        for to in TARGETS if model else TARGETS[:1]:
            written = f"convert {path} {to} --report report.json", f"convert inspect {to} --json"
            yield Case("golden", (*written, f"convert inspect {path} --diff {to}"))
        for change in CHANGES if model else ():
            yield Case("golden", (f"convert {path} {change}",))


def run(command: str, checkout: Path, folder: Path) -> dict[str, str]:
    """Returns what a command of a checkout answers in a folder: exit code, stdout, stderr."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout)}
    words = [sys.executable, "-m", *shlex.split(command)]
    try:
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"exit code": f"none within {SECONDS} s"}
    said = {"stdout": done.stdout, "stderr": done.stderr}
    texts = {what: text.decode(errors="replace") for what, text in said.items()}
    return {"exit code": str(done.returncode), **texts}


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
    for ending in FORMATS:
        whole = (folder / f"nano.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    images = rng.standard_normal((2, 3, 32, 32), np.float32)
    np.savez(folder / "theirs.npz", input=images, logits=images[:, :, 0, 0])


def contents(path: Path) -> str:
    """Returns a file for comparison: its text, or the hash of its bytes or of parts that last."""
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
    """Returns SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def answers(case: Case, checkout: Path, inputs: Path) -> dict[str, str]:
    """Returns everything that a case says and writes, by what it is."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="same-") as name:
        folder = Path(name)
        (folder / "in").symlink_to(inputs)
        for copy in case.copies:
            shutil.copytree(inputs / copy, folder / copy)
        for number, command in enumerate(case.commands, start=1):
            said = run(command, checkout, folder)
            found |= {f"{what} of command {number}": text for what, text in said.items()}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.parent.name != "in":
                found[f"file {path.relative_to(folder)}"] = contents(path)
    # Where things are is the comparison's doing, not the checkout's.
    places = {name: "HERE", str(inputs): "INPUTS", str(checkout): "CHECKOUT"}
    for place, word in places.items():
        found = {what: text.replace(place, word) for what, text in found.items()}
    return found


def without_what_varies(text: str) -> str:
    """Returns a text with words in place of what two runs differ in."""
    for pattern, word, _ in VARIES:
        text = re.sub(pattern, word, text)
    return text


class Page(HTMLParser):
    """What a browser makes of a page: elements, attributes in any order, words between them.

    The style sheet is left out: what it does is for eyes to compare.

    Attributes:
        lines: A line each.
    """

    def __init__(self, text: str):
        super().__init__()
        self.lines: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.lines.append(f"<{tag} {sorted(attrs)}>")

    def handle_endtag(self, tag: str) -> None:
        self.lines.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if data.strip() and self.lasttag != "style":
            # Where a line ends in the source does not show.
            self.lines.append(" ".join(data.split()))


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Lines that say what differs, none if nothing does."""
    lines = []
    old, new = (
        {without_what_varies(what): without_what_varies(text) for what, text in found.items()}
        for found in (before, after)
    )
    for what in sorted(old.keys() | new.keys()):
        texts = [found.get(what, "(nothing)") for found in (old, new)]
        split = [Page(text).lines if what.endswith(".html") else text.split("\n") for text in texts]
        diff = list(difflib.unified_diff(*split, "before", "after", lineterm="", n=1))[2:]
        if diff:
            lines += [f"  {what}", *(f"    {line[:200]}" for line in diff[:SHOWN])]
            lines += [f"    … {len(diff) - SHOWN} more lines"] * (len(diff) > SHOWN)
    return lines


def prepare(before: Path, cache: Path) -> Path:
    """Returns the folder in a cache of this BEFORE and what it makes: inputs, answers as JSON."""
    state = b"".join(
        subprocess.run(["git", "-C", before, *words], capture_output=True, check=True).stdout
        for words in (("rev-parse", "HEAD"), ("diff", "HEAD"))
    )
    made = repr((TEXTS, MADE, ENVIRONMENT)) + inspect.getsource(make_inputs)
    folder = cache / digest(state + made.encode())[:12]
    making = folder / "making"
    if not (folder / "inputs").is_dir():
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        make_inputs(before, making)
        making.rename(folder / "inputs")
    return folder


def cached_answers(case: Case, before: Path, folder: Path) -> dict[str, str]:
    """Returns what BEFORE answered, now or earlier."""
    kept = folder / f"{digest(repr(case).encode())[:16]}.json"
    if not kept.exists():
        found = {"case": case.name, "answers": answers(case, before, folder / "inputs")}
        fresh = kept.with_suffix(".new")
        fresh.write_text(json.dumps(found))
        fresh.replace(kept)
    found = json.loads(kept.read_text())
    return found["answers"]


def compare(case: Case, before: Path, after: Path, folder: Path) -> tuple[str, list[str]]:
    """Returns a case's verdict, and the lines that go with it."""
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
    for checkout in (before, after):
        # Python would take what is missing there from what is installed.
        if not (checkout / "convert/__main__.py").is_file():
            parser.error(f"{checkout} is no checkout")
    every = list(cases(before))
    groups = {case.group: None for case in every}
    wanted = options.only or [group for group in groups if group != "demo"]
    if unknown := set(wanted) - set(groups):
        parser.error(f"no group {', '.join(sorted(unknown))}: there are {', '.join(groups)}")
    start, counts = time.monotonic(), dict.fromkeys(("same", "expected", "DIFFERS"), 0)
    chosen = [case for case in every if case.group in wanted]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(AT_ONCE) as pool:
        folder = prepare(before, (options.cache or Path(scratch)).resolve())
        results = pool.map(lambda case: compare(case, before, after, folder), chosen)
        for case, (verdict, lines) in zip(chosen, results, strict=True):
            counts[verdict] += 1
            print("\n".join([f"{verdict:<9}{case.name}", *lines]), flush=True)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"{len(chosen)} cases: {said}; {time.monotonic() - start:.0f} s")
    sys.exit(counts["DIFFERS"] > 0)


if __name__ == "__main__":
    main()
