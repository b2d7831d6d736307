"""``predict`` and ``validate``: the same commands in every runtime."""

import dataclasses
import errno
import io
import json

import numpy as np
import pytest
from PIL import Image

from convert import load_model, save_model
from convert.command_line import main as convert
from parity.command_line import main as parity
from pvt_data.answers.outputs import open_output
from pvt_data.answers.rows import FORMATS, Head
from pvt_data.progress import progress_bar
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import make_config, output_names
from pvt_spec.model_info import Preprocessing
from pvt_torch.command_line import main as pvt_torch
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import info_of, random_images, random_weights
from tests.support.runtimes import import_mindspore, run_float64


def save_nano(path, *labels, **changes):
    """A random pvt_nano, and what its file says of it."""
    config = make_config("pvt_nano", **changes)
    info = dataclasses.replace(
        info_of(config, "official", *labels), preprocessing=Preprocessing((32, 32), 0.9)
    )
    save_model(path, random_weights(config), info)
    return info


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """With named classes, as ``.onnx`` and ``.pth``."""
    folder = tmp_path_factory.mktemp("model")
    for ending in ("onnx", "pth"):
        save_nano(folder / f"m.{ending}", "ant", "bee", "cat", "dog", num_classes=4)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A labelled folder of 3 classes x 3 images of several sizes and kinds."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("bee", "cat", "dog"):
        (folder / name).mkdir()
        for i, (size, mode) in enumerate([((40, 30), "RGB"), ((64, 64), "L"), ((33, 90), "RGB")]):
            pixels = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has its best model."""
    (tmp_path / "run").mkdir()
    save_nano(tmp_path / "run" / "best.ckpt", "ant", "bee", "cat", num_classes=3)
    return tmp_path / "run"


def test_a_runs_folder_stands_for_its_best_model_in_every_command(run, images):
    """Said on stderr, or as a finding."""
    image = images / "cat" / "0.png"
    for arguments in (
        (pvt_torch, "predict", run, image),
        (pvt_torch, "predict", "--ckpt-path", run, image),
        (pvt_torch, "predict", run / "best.ckpt", image),
        (convert, run, run.parent / "a.onnx"),
        (convert, "ckpt-to-onnx", run, run.parent / "b.onnx"),
        (convert, "inspect", run),
        (parity, "run", run, "--runtime", "torch", "--random", "1", "--taps", "logits"),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 0, (arguments, done.output)
        said = "best.ckpt is taken" in done.output
        assert said == (run in arguments), done.output
    assert tells(refusal(pvt_onnx, "predict", run, image), "convert", run / "best.ckpt")


def test_predict_gives_probabilities_by_name(model, images):
    done = invoke(pvt_onnx, "predict", model / "m.onnx", images / "cat" / "0.png", "--json")
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)["images"]
    assert row["image"].endswith("0.png")
    assert {c["label"] for c in row["classes"]} == {"ant", "bee", "cat", "dog"}
    probabilities = [c["probability"] for c in row["classes"]]
    assert sum(probabilities) == pytest.approx(1.0)
    assert probabilities == sorted(probabilities, reverse=True)


def test_predict_takes_files_folders_and_globs(model, images):
    counts = []
    for source in (images / "cat" / "0.png", images / "cat", images, images / "*" / "1.png"):
        done = invoke(pvt_onnx, "predict", model / "m.onnx", source, "--top-k", 2)
        assert done.exit_code == 0, done.output
        counts.append(len(done.stdout.splitlines()))
        assert all(line.count("%") == 2 for line in done.stdout.splitlines())
    assert counts == [1, 3, 9, 3]


def test_batches_do_not_change_answers(model, images):
    outputs = [
        json.loads(invoke(pvt_onnx, "predict", model / "m.onnx", images, "--json", *more).stdout)[
            "images"
        ]
        for more in (["--batch-size", 1], ["--batch-size", 4])
    ]
    for one, four in zip(*outputs, strict=True):
        assert one["image"] == four["image"]
        for a, b in zip(one["classes"], four["classes"], strict=True):
            assert a["label"] == b["label"]
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_validate_matches_classes_by_name_in_every_runtime(model, images):
    """The folder lacks class ``ant``: its classes 0, 1, 2 are the model's 1, 2, 3."""
    answers = json.loads(
        invoke(pvt_onnx, "predict", model / "m.onnx", images, "--top-k", 1, "--json").stdout
    )
    hits = [row["classes"][0]["label"] == row["image"].split("/")[-2] for row in answers["images"]]
    for main, file in ((pvt_onnx, "m.onnx"), (pvt_torch, "m.pth"), (pvt_torch, "m.onnx")):
        done = invoke(main, "validate", model / file, "--data_dir", images, "--json")
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert result["count"] == 9
        assert result["top1"] == pytest.approx(100 * np.mean(hits))
    text = invoke(pvt_onnx, "validate", model / "m.onnx", "--data-dir", images)
    assert tells(text.stdout, "9", "images")


def test_what_pillow_warns_of_is_not_printed(model, images, monkeypatch):
    # A quarter more than it takes without a word; twice as many it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30 * 4 // 5)
    done = invoke(pvt_onnx, "predict", model / "m.onnx", images / "cat" / "0.png")
    assert done.exit_code == 0 and len(done.stderr.splitlines()) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    message = refusal(pvt_onnx, "predict", model / "m.onnx", images / "cat" / "0.png")
    assert "cat/0.png" in message


def test_photos_are_turned_by_predict_and_left_by_validate(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "cat" / "a.jpg", exif=exif)
    for command, wanted, rule in (
        (("predict", model / "m.onnx", tmp_path), (), "exif"),
        (("predict", model / "m.onnx", tmp_path), ("--orientation", "stored"), "stored"),
        (("validate", model / "m.onnx", "--data-dir", tmp_path), (), "stored"),
        (("validate", model / "m.onnx", "--data-dir", tmp_path), ("--orientation", "exif"), "exif"),
    ):
        done = invoke(pvt_onnx, *command, *wanted)
        assert done.exit_code == 0 and tells(done.stderr, f"orientation {rule}", "1 of 1")


class TestErrors:
    """One clear message, exit code 1."""

    def test_unreadable_image(self, model, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        message = refusal(pvt_onnx, "predict", model / "m.onnx", tmp_path / "broken.png")
        assert "broken.png" in message

    def test_missing_image_and_empty_folder(self, model, tmp_path):
        assert tells(refusal(pvt_onnx, "predict", model / "m.onnx", tmp_path / "x.png"), "such")
        assert tells(refusal(pvt_onnx, "predict", model / "m.onnx", tmp_path), "image")

    def test_text_file_named_onnx(self, images, tmp_path):
        (tmp_path / "text.onnx").write_text("not a model\n")
        assert "text.onnx" in refusal(pvt_onnx, "predict", tmp_path / "text.onnx", images)
        assert tells(refusal(pvt_onnx, "predict", tmp_path / "none.onnx", images), "such")

    def test_unlabelled_folder(self, model, images, tmp_path):
        assert tells(
            refusal(pvt_onnx, "validate", model / "m.onnx", "--data-dir", images / "cat"), "folders"
        )
        assert tells(
            refusal(pvt_onnx, "validate", model / "m.onnx", "--data-dir", tmp_path / "x"), "such"
        )

    def test_class_that_the_model_does_not_know(self, model, tmp_path):
        (tmp_path / "emu").mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / "emu" / "a.png")
        message = refusal(pvt_onnx, "validate", model / "m.onnx", "--data-dir", tmp_path)
        assert "emu" in message and "ant" in message

    def test_model_without_head(self, images, tmp_path):
        save_nano(tmp_path / "f.onnx", num_classes=0)
        assert load_model(tmp_path / "f.onnx")[1].config.num_classes == 0
        assert tells(refusal(pvt_onnx, "predict", tmp_path / "f.onnx", images), "head")

    @pytest.mark.parametrize("command", [("predict",), ("validate", "--data-dir")])
    def test_model_that_answers_maps(self, command, images, tmp_path):
        save_nano(tmp_path / "f.onnx", features_only=True)
        message = refusal(pvt_onnx, command[0], tmp_path / "f.onnx", *command[1:], images)
        assert tells(message, "stage1", "stage2", "stage3", "stage4")


@pytest.mark.parametrize(
    "changes", [{"num_classes": 4}, {"num_classes": 0}, {"features_only": True}]
)
def test_load_forward_names_the_outputs_in_every_runtime(changes, tmp_path):
    import pvt_onnx
    import pvt_torch

    import_mindspore()
    import pvt_ms

    info = save_nano(tmp_path / "a.onnx", **changes)
    config, images = info.config, random_images(info.config)
    expected = run_float64(config, info.numerics, random_weights(config), images)
    for runtime in (pvt_onnx, pvt_torch, pvt_ms):
        forward, read = runtime.load_forward(tmp_path / "a.onnx")
        outputs = forward(images)
        assert read == info and tuple(outputs) == output_names(config)
        for name, array in outputs.items():
            assert array.dtype == np.float32 and array.shape == expected[name].shape
            assert np.abs(array - expected[name]).max() < 2e-5


class TestMindCVsSpelling:
    def test_validate_takes_variant_data_dir_and_ckpt_path(self, model, images, tmp_path):
        data = tmp_path / "data"
        (data / "train").mkdir(parents=True)
        (data / "val").symlink_to(images)
        arguments = ("--data_dir", data, "--ckpt_path", model / "m.onnx")
        found = invoke(pvt_onnx, "validate", *arguments)
        plain = invoke(pvt_onnx, "validate", model / "m.onnx", "--data-dir", images)
        assert found.stdout == plain.stdout and found.exit_code == 0

    def test_predict_takes_ckpt_path_and_image_path(self, model, images):
        image = images / "cat" / "0.png"
        plain = invoke(pvt_onnx, "predict", model / "m.onnx", image).stdout
        by_path = ("--ckpt_path", model / "m.onnx", "--image_path", image)
        assert invoke(pvt_onnx, "predict", *by_path).stdout == plain
        assert invoke(pvt_onnx, "predict", "--ckpt_path", model / "m.onnx", image).stdout == plain

    def test_another_variant_is_refused(self, model, images):
        more = ("--model", "pvt_tiny", "--data-dir", images)
        done = invoke(pvt_onnx, "validate", model / "m.onnx", *more)
        assert done.exit_code == 1
        assert tells(done.stderr, "pvt_tiny")

    @pytest.mark.parametrize(
        "command", [["validate", "--data-dir", "x"], ["predict"], ["predict", "m.onnx"]]
    )
    def test_a_model_or_images_are_missing(self, command):
        done = invoke(pvt_onnx, *command)
        assert done.exit_code == 2 and tells(done.stderr, "argument")


def test_a_class_may_be_called_train(model, images, tmp_path):
    """Only beside val it is a split."""
    (tmp_path / "train").symlink_to(images / "cat")
    done = invoke(pvt_onnx, "validate", model / "m.onnx", "--data-dir", tmp_path)
    assert done.exit_code == 1 and "train" in done.stderr and "val:" not in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_it_is(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("images") as show:
        show(2, 4, "loss 1.5")
    shown = terminal.getvalue()
    assert "images" in shown and "2/4" in shown and "loss 1.5" in shown


def test_a_terminal_that_is_closed_is_nothing_to_the_work(monkeypatch):
    from rich.progress import Progress

    stop = Progress.stop

    def fail(bar: Progress) -> None:
        stop(bar)
        raise OSError(errno.EIO, "closed")

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "stop", fail)
    with progress_bar("images") as show:
        show(2, 4)


@pytest.mark.parametrize("form", ["--csv", "--jsonl", "--json"])
def test_names_of_files_do_not_write_to_a_terminal(monkeypatch, form):
    row = FORMATS[form.strip("-")]
    records = [{"image": "a\x1b[2J\udcff.png", "error": "no"}]
    head = Head("m\x1b[2J.onnx", {}, 1, "probability")
    whole = "".join(row.write(head, records))
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    with open_output(None, row, head, False, False) as output:
        output.write(whole)
    assert "\x1b" not in terminal.getvalue() and "[2J" in terminal.getvalue()
    program = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", program)
    with open_output(None, row, head, False, False) as output:
        output.write(whole)
    program.flush()
    assert program.buffer.getvalue() == whole.encode("utf-8", "surrogateescape")


def test_elsewhere_nothing_is_shown(capsys):
    with progress_bar("images") as show:
        show(2, 4)
    assert capsys.readouterr() == ("", "")


def test_only_the_options_name_is_respelt(model, images, tmp_path):
    (tmp_path / "a_b").symlink_to(images)
    done = invoke(pvt_onnx, "validate", model / "m.onnx", f"--data_dir={tmp_path}/a_b")
    assert done.exit_code == 0, done.output


def test_names_from_files_neither_move_a_cursor_nor_fill_a_screen():
    from pvt_data.answers.rows import Head, write_table

    names = ["\x1b[2J\x07", "a" * 60_000, "\u202eabc", "日本"]
    classes = [{"index": i, "label": name, "probability": 0.25} for i, name in enumerate(names)]
    record = {"image": "caf\udce9\x1b.png", "classes": classes}
    (text,) = write_table(Head("m", {}, 4, "probability"), [record])
    lines = text.splitlines()
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert "日本" in lines[0]
