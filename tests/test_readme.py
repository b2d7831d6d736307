"""The commands of the documents run as they stand there, and print what is shown below them.

What cannot stand as it is (placeholders, sizes, counts of devices, these tests) is in one table,
:data:`TABLE`; what a reader is taken to have is in another, :data:`FILES`.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest

from docs.derive import DOCUMENTS as WRITTEN
from pvt_spec import PvtError
from tests.support.documents import (
    NOT_RUN,
    Command,
    Substitution,
    find_difference,
    pattern_of,
    read_blocks,
    read_commands,
    read_spans,
    substitute,
)
from tests.support.processes import ROOT, free_port, launch_environment, run_python

DOCUMENTS = [*WRITTEN, *ROOT.glob("benchmarks/*.md")]

RUN = {
    str(path.relative_to(ROOT)): path
    for path in WRITTEN
    if path.name != "CONTRIBUTING.md" and read_commands(path.read_text())
}
"""The documents whose commands are run: all but those that the tests themselves are among."""

QUICK = (
    "--model pvt_nano --image-resize 32 --epoch-size 1 --warmup-epochs 0 --decay-epochs null "
    "--batch-size 30 --mode 1 --num-parallel-workers 0 --num-classes 10"
)
"""Options of a run that takes seconds; what stands after them in a document counts more."""

TABLE = (
    Substitution(r"^make demo\b", "test -f demo/parity.html", "it was made before"),
    Substitution(r"^make (?=test)", f"make -C {ROOT} --dry-run ", "this is one of the tests"),
    Substitution(r"^pip install -e '\.\[(mindspore|torch)\]'", "pip --version", "it is installed"),
    Substitution(r"/path/to/imagenet|/data/imagenet|(?<=data_dir )flowers", "DIR", "small"),
    Substitution(r"train … (?=--pretrained)", "train --data-dir DIR --output tuned ", "left open"),
    Substitution(r"(?<=pvt_torch train )--config …", "--data-dir DIR --output three", "left open"),
    Substitution(r"--config …", "--data-dir DIR --output two", "left open"),
    Substitution(r"^pvt-onnx serve", "timeout 100 pvt-onnx serve --port $PORT", "it would go on"),
    Substitution(r"localhost:8000", "localhost:$PORT", "others may run"),
    Substitution(r"python -m http\.server 8001", "timeout 100 python -m http.server $OTHER", "too"),
    Substitution(r"localhost:8001", "localhost:$OTHER", "others may run"),
    Substitution(r"photos/", "DIR/val/3", "a folder of images"),
    Substitution(r"--runtime torch-compile", "--runtime torch", "compiling takes minutes"),
    Substitution(r"(?<=--images )val/", "DIR/val", "a folder of labelled images"),
    Substitution(r"--model pvt_v2_b0", "--model pvt_nano", "small"),
    Substitution(r"FILE \[--json\]", "model.ckpt --json", "left open"),
    Substitution(r"FILE --diff OTHER", "model.ckpt --diff model.pth", "left open"),
    Substitution(r"--epoch-size 30 --warmup-epochs 3", "--epoch-size 2", "quick"),
    Substitution(r"--epoch_size 30 --warmup_epochs 3", "", "quick"),
    Substitution(r"--resume RUN", "--resume RUN --epoch-size 3", "it has come to its end"),
    Substitution(r"(?<=torch train --resume RUN --epoch-size )3", "4", "it has come to that end"),
    Substitution(r"--resume b0\.pth", "--resume b0.pth --epoch_size 3", "it has come to its end"),
    Substitution(r"\[--epoch_size 600\]", "--epoch_size 2", "left open"),
    Substitution(r"--amp_level bf16 --compile True", "", "a CPU takes long for both"),
    Substitution(
        r"(pvt-ms\)?|pvt-torch|pvt_ms|pvt_torch) train (?!--resume)",
        rf"\1 train {QUICK} ",
        "small",
    ),
    Substitution(r"(worker_num|nproc_per_node)=[48]", r"\1=2", "two cores"),
    Substitution(r"--master_port=8119", "", "others may run"),
    Substitution(r"\b(msrun|torchrun) ", r"\1 --master_port=$OTHER ", "others may run"),
    Substitution(r"(?<=npu\.npz )best\.ckpt", "runs/b0/best.ckpt", "one machine is both"),
)
"""What stands for something where a document's commands are run; all of it is used."""

STRIPPED = (
    "from pathlib import Path; from convert.formats import ckpt; "
    'read = ckpt.read(Path("ours.ckpt")); '
    'ckpt.write(open("pvt_tiny.ckpt", "wb"), read.places[""], {})'
)
"""Writes a checkpoint as MindCV has it: without a word of what it is."""

FILES = {
    "model.ckpt": "cp demo/run/best.ckpt model.ckpt",
    "model.pth": "cp demo/pvt_nano.pth model.pth",
    "weights.pth": "cp demo/pvt_nano.pth weights.pth",
    "names.txt": "seq 0 9 > names.txt",
    "training.ckpt": "cp demo/run/last.ckpt training.ckpt",
    "pvt_tiny.ckpt": "convert model.ckpt ours.ckpt --to-dialect mindcv --allow-different-maths "
    f"&& python -c '{STRIPPED}'",
    "pvt_tiny.pth": "cp model.pth pvt_tiny.pth",
    "pvt_v2_b0.pth": "cp model.pth pvt_v2_b0.pth",
    "pvt_v2_b2.pth": "cp model.pth pvt_v2_b2.pth",
    "other.onnx": "convert model.ckpt other.onnx --profile mindcv",
    "model.onnx": "convert model.ckpt model.onnx",
    "digits.onnx": "convert model.ckpt digits.onnx",
}
"""A file that a reader of the documents has -> how it is made of the demo's model."""

ENDS = {"parity diagnose": 1}
"""What ends in another exit code than 0, being shown for what differs."""

MADE = r"(?m)^(?:\$ +)?(?:convert|pvt-onnx quantize) (?!inspect)\S+ {}\b"
"""What makes a file in a document, which then need not be there before."""

ONE_FOLDER = [
    *("README.md", *(name for name in RUN if name.startswith("docs/tutorials/"))),
    *(f"docs/howto/{name}.md" for name in ("certificates", "hub", "serving")),
]
"""The documents whose commands follow the README's tour in its folder."""

SECONDS = 600
"""The longest that a command may take."""


def run_commands(commands: list[Command], folder: Path) -> Iterator[str]:
    """Runs commands in a folder, and yields what is wrong with the document that has them."""
    environment = {**launch_environment(), "OMP_NUM_THREADS": "1"}
    port, other = str(free_port()), str(free_port())
    for command in commands:
        text, _ = substitute(command.text, TABLE)
        text = text.replace("$PORT", port).replace("$OTHER", other)
        if command.language == "python":
            text = f"python - <<'END'\n{text}\nEND"
        done = subprocess.run(
            ["bash", "-c", text], cwd=folder, env=environment, timeout=SECONDS, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        expected = next((code for part, code in ENDS.items() if part in text), 0)
        problem = find_difference(command.shown, done.stdout) if command.shown else None
        if done.returncode != expected:
            problem = f"exit code {done.returncode}, expected {expected}"
        if problem:
            yield f"line {command.line}: {text}\n  {problem}\n{done.stdout[-3000:]}"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make demo`` leaves."""
    folder = tmp_path_factory.mktemp("demo")
    run_python("-m", "benchmarks.demo", cwd=folder)
    return folder / "demo"


@pytest.fixture(scope="session")
def files(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of :data:`FILES`."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "demo").symlink_to(demo)
    assert not list(run_commands([Command(0, text) for text in FILES.values()], folder))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("document", RUN)
def test_commands_do_what_the_document_shows(document, demo, files, few_digits, tmp_path) -> None:
    text = RUN[document].read_text()
    commands = read_commands(text)
    named = " ".join([text, *(substitute(command.text, TABLE)[0] for command in commands)])
    (tmp_path / "demo").symlink_to(demo)
    (tmp_path / "DIR").symlink_to(few_digits)
    for name in FILES:
        if name in named and not re.search(MADE.format(re.escape(name)), text):
            shutil.copy(files / name, tmp_path)
    problems = list(run_commands(commands, tmp_path))
    assert not problems, "\n".join(problems)


# --- quick: what is run is all there, and what is written is a command


def test_all_of_the_table_is_used() -> None:
    commands = [c for path in RUN.values() for c in read_commands(path.read_text())]
    used = [row for command in commands for row in substitute(command.text, TABLE)[1]]
    assert [row.pattern for row in TABLE if row not in used] == []
    for name in FILES:
        assert any(name in command.text for command in commands), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_run_or_says_why_not(document: Path) -> None:
    for line, language, lines in read_blocks(document.read_text()):
        run = document in RUN.values() or document.name in ("CONTRIBUTING.md", "CHANGELOG.md")
        of_the_site = language == "mermaid" or re.fullmatch(
            r"\{(toctree|include|image)\}.*", language
        )
        why = language.removeprefix(NOT_RUN) if language.startswith(NOT_RUN) else ""
        known = (language in ("", "python") and run) or (
            language == "json" and json.loads("\n".join(lines))
        )
        assert known or of_the_site or len(why) > 10, f"{document}: {line}: {language!r}"


def test_no_document_makes_what_another_has_made_there() -> None:
    texts = [
        command.text for name in ONE_FOLDER for command in read_commands(RUN[name].read_text())
    ]
    made = [target for text in texts for target in re.findall(MADE.format(r"([\w.-]+)"), text)]
    assert len(made) > 10
    assert [target for target, count in Counter(made).items() if count > 1] == []


def test_nothing_is_left_open() -> None:
    for path in RUN.values():
        for command in read_commands(path.read_text()):
            text = substitute(command.text, TABLE)[0].split("  #")[0]
            assert not re.search(r"…|\[-|/path/|/data/|\bFILE\b", text), text


PROGRAMS = {
    script.name: script.value
    for script in distribution("pvt-twins").entry_points
    if script.group == "console_scripts"
}
"""A command's name -> where its function is."""


def usages(text: str) -> Iterator[list[str]]:
    """The commands of ours in a line of a shell: the name and the arguments of each."""
    text = re.sub(r"\$\(which ([\w-]+)\)|[\[\]…]", r" \1 ", substitute(text, TABLE)[0])
    text = text.replace("$PORT", "8000")
    for part in re.split(r"&&|\||;", " ".join(shlex.split(text, comments=True))):
        words = part.split()
        names = [word.replace("pvt_", "pvt-") for word in words]
        start = next((i for i, name in enumerate(names) if name in PROGRAMS), None)
        if start is not None:
            yield [names[start], *words[start + 1 :]]


def check_usage(name: str, *arguments: str) -> None:
    """Reads the arguments as the command does, without running it; some may be left out.

    Raises:
        click.UsageError: There is no such option or command, or a value that none can be.
    """
    package, rest = PROGRAMS[name].partition(".")[0], list(arguments)
    command = import_module(f"{package}.command_line").main
    left_out = (
        *(click.MissingParameter, click.BadOptionUsage),
        *(click.exceptions.NoArgsIsHelpError, click.exceptions.Exit),
    )
    with suppress(*left_out, FileNotFoundError, PvtError):
        context = command.make_context(name, rest)
        while isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            inner, command, rest = command.resolve_command(context, rest)
            context = command.make_context(inner, rest, parent=context)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_is_one_with_such_options(document: Path) -> None:
    text = document.read_text()
    commands = [command.text for command in read_commands(text, ["", NOT_RUN])]
    commands += read_spans(text)
    for usage in (usage for command in commands for usage in usages(command)):
        try:
            check_usage(*usage)
        except click.UsageError as error:
            pytest.fail(f"{shlex.join(usage)}: {error.format_message()}")


@pytest.mark.parametrize(
    "usage", ["convert a b --colour", "pvt-ms train --epochs 3", "parity judge a", "pvt-onnx serf"]
)
def test_what_is_no_usage_is_found(usage: str) -> None:
    (words,) = usages(usage)
    with pytest.raises(click.UsageError):
        check_usage(*words)


# --- the test itself


SHELL = """
```
$ echo Top-1 98.2 %, 3 classes; echo much; echo more; echo same bytes
Top-1 99.15 %, 3 classes
...
same bytes
```

```
mkdir here    # a comment
test -d here \\
    && touch here/file
```

```python
from pathlib import Path

assert Path("here/file").exists()
```
"""


def problems_of(document: str, folder: Path) -> list[str]:
    return list(run_commands(read_commands(document), folder))


def test_a_right_document_has_no_problem(tmp_path: Path) -> None:
    assert len(read_commands(SHELL)) == 4
    assert problems_of(SHELL, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("3 classes\n", "4 classes\n"),
        ("Top-1 99", "Top-5 99"),
        ("\nsame bytes", "\nsame byte"),
        ("...\n", ""),
        ("same bytes\n```", "same bytes\nand more\n```"),
        ("mkdir here", "mkdir there"),
        ("-d here", "-f here"),
        ('here/file").', 'here/other").'),
    ],
)
def test_a_wrong_line_is_a_problem(right: str, wrong: str, tmp_path: Path) -> None:
    assert SHELL.count(right) == 1
    assert problems_of(SHELL.replace(right, wrong), tmp_path)


def test_what_documents_show_is_measured_or_to_the_letter() -> None:
    shown = [
        line
        for path in RUN.values()
        for command in read_commands(path.read_text())
        for line in command.shown
        if line != "..."
    ]
    assert len(shown) > 20
    for line in shown:
        assert re.fullmatch(pattern_of(line), line)
        for word in re.findall(r"(?<![\w.])[a-z]{3,}(?![\w.])", line):
            other = re.sub(rf"(?<![\w.]){word}(?![\w.])", f"{word}x", line)
            assert not re.fullmatch(pattern_of(line), other), other


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        ("wrote  a.onnx (2,009,632 bytes)", "wrote    a.onnx (997 bytes)", True),
        ("1. epsilon 1e-07 instead of 1e-05", "1. epsilon 1e-06 instead of 1e-05", False),
        ("stage 1   1.39× block1.0.attn", "stage 1  12× embed1", True),
        ("stage 1   1.39× block1.0.attn", "stage 2  1.39× block1.0.attn", False),
        ("within 1.7e-06, agrees on 32/32", "within 2e-06, agrees on 32/32", True),
        ("within 1.7e-06, agrees on 32/32", "within 1.7e-06, agrees on 31/32", False),
        ("a/0059.png  3 90.35%  1  1.78%", "a/0059.png  3 100.00%  8  0.01%", True),
        ("a/0059.png  3 90.35%", "a/0069.png  3 90.35%", False),
    ],
)
def test_a_pattern_is_of_what_is_measured(shown: str, printed: str, right: bool) -> None:
    assert (find_difference([shown], printed) is None) == right
