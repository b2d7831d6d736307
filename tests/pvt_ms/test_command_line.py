"""``pvt-ms train``: what it prints and writes, how it goes on, and what it refuses."""

import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from convert import load_model, save_model
from convert.model.training_checkpoint import load_training
from pvt_ms.command_line import main
from pvt_spec import make_config, tensor_specs
from pvt_train.command_line import main as pvt_train
from pvt_train.run.log import read_log
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import assert_same
from tests.support.processes import Ended, run_python
from tests.support.train_command import OP_BY_OP, arguments, run_here


def run_command(data: Path, output: Path, *more: str) -> Ended:
    """The command in a process of its own, as a user starts it."""
    return run_python("-m", "pvt_ms", *arguments(data, output, *more), check=False)


@pytest.fixture(scope="module")
def finished(few_digits, tmp_path_factory) -> tuple[Path, Ended]:
    output = tmp_path_factory.mktemp("run") / "new" / "folder"
    return output, run_command(few_digits, output, "--plot", "--num-parallel-workers", "1")


class TestCommand:
    def test_it_reports_each_epoch_and_the_best(self, finished):
        output, done = finished
        assert done.returncode == 0, done.stderr
        first, second, best = done.stdout.splitlines()
        losses = [float(re.search(r"loss (\S+)", line)[1]) for line in (first, second)]
        assert losses[1] < losses[0]
        assert re.fullmatch(rf"best: epoch [12], Top-1 +\d+\.\d\d %: {output}/best.ckpt", best)

    def test_nothing_else_is_printed(self, finished):
        output, done = finished
        first, second, third = done.stderr.splitlines()
        assert re.fullmatch(r"mindspore 2\.\S+ on CPU: .*compile.*", first)
        assert second == (
            "pvt_nano (official): 60 images of 10 classes, 20 to validate; "
            "2 epochs of 3 steps of 20 images"
        )
        assert third == f"curves: {output}/curves.png"

    def test_the_folder_holds_models_state_log_and_curves(self, finished):
        names = {path.name for path in finished[0].iterdir()}
        events = {name for name in names if name.startswith("events.out.tfevents.")}
        assert len(events) == 1
        models = {"best.ckpt", "last.ckpt", "pvt_nano-1.ckpt", "pvt_nano-2.ckpt"}
        assert names - events == {*models, "log.jsonl", "curves.png"}

    def test_the_checkpoints_are_whole_models(self, finished):
        output, _ = finished
        for name in ("pvt_nano-2.ckpt", "last.ckpt"):
            weights, info = load_model(output / name)
            assert list(weights) == [spec.name for spec in tensor_specs(info.config)]
            assert info.config == make_config("pvt_nano", drop_path_rate=0.1)
            assert info.labels == tuple("0123456789")
            assert info.preprocessing.crop_pct == 1.0
        info = load_model(output / "pvt_nano-2.ckpt")[1]
        assert (info.provenance["epoch"], info.provenance["weights"]) == ("2", "averaged")
        assert info.provenance["trained with"].startswith("mindspore 2.")

    def test_the_model_that_was_trained_is_the_one_that_is_loaded(self, finished, few_digits):
        output, done = finished
        reported = re.search(r"best: .* Top-1 +(\S+) %", done.stdout)[1]
        path = str(output / "best.ckpt")
        result = CliRunner().invoke(main, ["validate", path, "--data-dir", str(few_digits / "val")])
        assert result.stdout.startswith(f"Top-1 {reported} %")
        result = CliRunner().invoke(main, ["predict", path, str(few_digits / "val/3"), "--top-k=2"])
        assert result.output.count("%") == 4

    def test_the_curves_can_be_drawn_later(self, finished, tmp_path):
        target = str(tmp_path / "curves.svg")
        result = CliRunner().invoke(pvt_train, ["plot", str(finished[0]), "-o", target])
        assert result.exit_code == 0 and "<svg" in Path(target).read_text()
        again = CliRunner().invoke(pvt_train, ["plot", str(finished[0]), "-o", target])
        assert again.exit_code == 1 and "--force" in again.output


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The log's epochs, without times."""
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "images_per_second")}
        for record in read_log(folder)
        if record["kind"] == "epoch"
    ]


def wait_for(path: Path, lines: int, process: "subprocess.Popen[str]") -> None:
    """Until a log has so many lines."""
    deadline = time.monotonic() + 300
    while not path.exists() or path.read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def resume(folder: Path, *more: object) -> str:
    """What a run says on stderr that goes on to its end."""
    done = invoke(main, "train", "--resume", folder, *more)
    assert done.exit_code == 0, done.output
    return done.stderr


LONGER = ("--epoch-size", "4", "--log-interval", "1", *OP_BY_OP)


@pytest.fixture(scope="module")
def straight(few_digits, tmp_path_factory) -> Path:
    """A run of four epochs that nothing stopped."""
    output = tmp_path_factory.mktemp("straight") / "run"
    assert run_command(few_digits, output, *LONGER).returncode == 0
    return output


def interrupted(data: Path, output: Path, number: int, lines: int) -> "subprocess.Popen[str]":
    """The same run, hit by a signal once its log has so many lines."""
    command = [sys.executable, "-m", "pvt_ms", *arguments(data, output, *LONGER)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(output / "log.jsonl", lines, process)
    process.send_signal(number)
    return process


def assert_same_run(found: Path, expected: Path) -> None:
    assert numbers(found) == numbers(expected)
    assert_same(load_training(found / "last.ckpt")[0], load_training(expected / "last.ckpt")[0])
    for name in ("best.ckpt", "pvt_nano-3.ckpt", "pvt_nano-4.ckpt"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


class TestGoingOn:
    """In other processes than the run they are compared with: the same seed gives the same bits."""

    def test_a_killed_run_ends_in_the_same_bits(self, straight, few_digits, tmp_path):
        # Three steps and an epoch's line are four lines: in the middle of the third epoch.
        process = interrupted(few_digits, tmp_path / "run", signal.SIGKILL, 9)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert load_training(tmp_path / "run/last.ckpt")[2]["run"]["step"] == 6
        done = run_here(few_digits, tmp_path / "run", "--epoch-size", "4", "--resume",
                        str(tmp_path / "run"), "--log-interval", "1")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert tells(done.stderr, "2", "going")
        assert_same_run(tmp_path / "run", straight)

    def test_a_stopped_run_ends_in_the_same_bits(self, straight, few_digits, tmp_path):
        process = interrupted(few_digits, tmp_path / "run", signal.SIGTERM, 5)
        _, said = process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert said.splitlines()[-1] == f"stopped by SIGTERM; to go on: --resume {tmp_path}/run"
        # The recipe is in the state, so the folder is all that is needed.
        said = resume(tmp_path / "run")
        assert re.search(r"going on after epoch \d( and \d steps)?$", said, re.MULTILINE)
        assert_same_run(tmp_path / "run", straight)

    def test_another_number_of_epochs_plans_the_rate_anew(self, straight, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        said = resume(tmp_path / "run", "--epoch-size", 6)
        assert tells(said, "epoch_size", "4", "6")
        rates = [record["lr"] for record in numbers(tmp_path / "run")]
        # The last step of epoch 5 of 6: 14 of 18 steps of a cosine from 1e-3 to 1e-5.
        assert rates[4] == pytest.approx(1e-5 + 0.99e-3 * (1 + np.cos(np.pi * 14 / 18)) / 2)
        assert len(rates) == 6

    def test_with_the_images_of_an_update_in_other_parts(self, straight, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        more = ("--batch-size", 10, "--gradient-accumulation-steps", 2, "--epoch-size", 5)
        resume(tmp_path / "run", *more)
        assert len(numbers(tmp_path / "run")) == 5

    def test_into_another_folder(self, straight, tmp_path):
        resume(straight, "--epoch-size", 5, "--output", tmp_path / "new")
        assert (tmp_path / "new/pvt_nano-5.ckpt").exists()
        assert not (straight / "pvt_nano-5.ckpt").exists()

    @pytest.mark.parametrize(
        ("more", "facts"),
        [
            (("--seed", "1"), ("42", "1")),
            (("--model", "pvt_tiny"), ("'pvt_nano'", "'pvt_tiny'")),
            (("--ema", "False"), ("False",)),
            (("--epoch-size", "4"), ("4", "finished")),
            (("--batch-size", "30"), ("60", "20", "30")),
        ],
    )
    def test_what_would_be_another_run_is_refused(self, straight, more, facts):
        said = refusal(main, "train", "--resume", straight, *more)
        assert tells(said, *facts)
        assert "--pretrained" in said or "give a larger --epoch-size" in said

    def test_a_cut_or_missing_state_is_refused(self, straight, tmp_path):
        whole = (straight / "last.ckpt").read_bytes()
        (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
        for path, fact in (
            (tmp_path, f"{tmp_path}/last.ckpt"),
            (tmp_path / "none", "such"),
            (straight / "best.ckpt", "training"),
        ):
            assert tells(refusal(main, "train", "--resume", path), fact)


@pytest.fixture
def data(tmp_path, few_digits) -> Path:
    """A folder of images that a test may change."""
    shutil.copytree(few_digits, tmp_path / "data")
    return tmp_path / "data"


class TestData:
    def test_tar_files_give_what_folders_give(self, straight, few_digits, tmp_path):
        for split in ("train", "val"):
            (tmp_path / "tars" / split).mkdir(parents=True)
            for folder in sorted((few_digits / split).iterdir()):
                with tarfile.open(tmp_path / "tars" / split / f"{folder.name}.tar", "w") as tar:
                    for path in sorted(folder.iterdir()):
                        tar.add(path, path.name)
        done = run_here(tmp_path / "tars", tmp_path / "run", "--epoch-size", "4")
        assert done.exit_code == 0, done.output
        assert_same_run(tmp_path / "run", straight)
        model = str(tmp_path / "run/best.ckpt")
        found, expected = (
            CliRunner().invoke(main, ["validate", model, "--data-dir", str(data), "--json"]).stdout
            for data in (tmp_path / "tars", few_digits)
        )
        assert found == expected != ""

    def test_an_unreadable_image_is_named_and_replaced(self, data, tmp_path):
        broken = sorted((data / "train/4").iterdir())[0]
        broken.write_bytes(broken.read_bytes()[:60])
        done = run_here(data, tmp_path / "run")
        assert done.exit_code == 0, done.output
        named = f"not readable, replaced by another image: {broken}: cannot be read as an image"
        assert done.stderr.count(named) == 1  # in two epochs
        assert [record["unreadable"] for record in numbers(tmp_path / "run")] == [1, 1]

    def test_too_many_of_them_end_it(self, data, tmp_path):
        for broken in sorted((data / "train/4").iterdir())[:3]:
            broken.write_bytes(b"")
        done = run_here(data, tmp_path / "run", "--max-unreadable", "2")
        assert done.exit_code == 1
        assert tells(done.output, "3", "1")


class TestFineTuning:
    def test_another_number_of_classes_and_frozen_stages(self, straight, data, tmp_path):
        for split in ("train", "val"):
            for digit in range(3, 10):
                shutil.rmtree(data / split / str(digit))
        more = ("--pretrained", str(straight / "best.ckpt"), "--freeze", "patch_embed*,block1.*")
        done = run_here(data, tmp_path / "run", *more)
        assert done.exit_code == 0, done.output
        assert tells(done.stderr, "10", "3")
        before, after = (
            load_model(folder / "best.ckpt")[0] for folder in (straight, tmp_path / "run")
        )
        for name, array in after.items():
            if name.startswith(("patch_embed", "block1.")):
                assert np.array_equal(array, before[name]), name
            elif name.endswith(("norm2.weight", "fc1.weight")):
                assert not np.array_equal(array, before[name]), name
        assert after["head.weight"].shape[0] == 3

    def test_the_maths_of_the_weights_is_kept(self, straight, data, tmp_path):
        weights, info = load_model(straight / "best.ckpt")
        import dataclasses

        from pvt_spec import profile_numerics

        info = dataclasses.replace(info, numerics=profile_numerics("mindcv", info.config.version))
        save_model(tmp_path / "mindcv.safetensors", weights, info)
        more = ("--pretrained", str(tmp_path / "mindcv.safetensors"), "--epoch-size", "1")
        done = run_here(data, tmp_path / "run", *more)
        assert done.exit_code == 0, done.output
        assert load_model(tmp_path / "run/best.ckpt")[1].numerics.gelu == "tanh"


class TestFailures:
    def test_numbers_that_run_away_end_it(self, data, tmp_path):
        done = run_here(data, tmp_path / "run", "--lr", "1e30", "--epoch-size", "20")
        assert done.exit_code == 1
        pattern = (
            r"Error: (loss is (nan|inf)|gradients are not finite .*) at step \d+ \(epoch \d\), "
        )
        assert re.search(pattern, done.output)
        assert tells(done.output, "finite", "learning")
        assert "Traceback" not in done.output


def refused(data: Path, output: Path, *more: str) -> str:
    """What a run says that must end before its first step, and leave no folder."""
    there = output.exists()
    said = refusal(main, *arguments(data, output, *more))
    assert output.exists() == there
    return said


class TestRefusals:
    def test_no_train_folder(self, tmp_path):
        assert tells(refused(tmp_path, tmp_path / "run"), f"{tmp_path}/train")

    def test_no_data_folder_at_all(self, tmp_path):
        assert tells(refusal(main, "train", "--model", "pvt_nano"), "data_dir", "--data-dir")

    def test_no_val_folder(self, data, tmp_path):
        shutil.rmtree(data / "val")
        assert tells(refused(data, tmp_path / "run"), f"{data}/val")

    def test_a_class_without_images(self, data, tmp_path):
        (data / "train/x").mkdir()
        assert tells(refused(data, tmp_path / "run"), f"{data}/train/x")

    def test_a_class_that_is_only_in_val(self, data, tmp_path):
        (data / "val/3").rename(data / "val/x")
        assert tells(refused(data, tmp_path / "run"), "10", "classes")

    def test_another_number_of_classes(self, data, tmp_path):
        said = refused(data, tmp_path / "run", "--num-classes", "1000")
        assert tells(said, "num_classes", "1000", "10")

    def test_an_unknown_recipe_key(self, data, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("model: pvt_nano\nepochs: 3\n")
        assert tells(refused(data, tmp_path / "run", "--config", str(recipe)), "epoch_size")

    def test_force_leaves_nothing_of_the_run_before(self, straight, data, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        done = run_here(data, tmp_path / "run", "--force", "--epoch-size", "1")
        assert done.exit_code == 0, done.output
        models = sorted(path.name for path in (tmp_path / "run").glob("*.ckpt"))
        assert models == ["best.ckpt", "last.ckpt", "pvt_nano-1.ckpt"]

    def test_without_validation_the_last_model_is_named(self, data, tmp_path):
        done = run_here(data, tmp_path / "run", "--val-while-train", "False", "--epoch-size", "1")
        assert done.exit_code == 0, done.output
        assert done.stderr.endswith(
            f"not validated; the last model: {tmp_path}/run/pvt_nano-1.ckpt\n"
        )

    @pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
    def test_checkpoints_that_are_there(self, data, tmp_path, name):
        (tmp_path / name).write_text("mine")
        said = refused(data, tmp_path)
        assert tells(said, tmp_path / name) and "--force" in said
        assert (tmp_path / name).read_text() == "mine"

    def test_a_file_where_the_folder_should_be(self, data, tmp_path):
        (tmp_path / "file").write_text("mine")
        for output in (tmp_path / "file", tmp_path / "file/run"):
            assert tells(refused(data, output), output)

    def test_a_device_that_is_not_there(self, data, tmp_path):
        said = refused(data, tmp_path / "run", "--device-target", "Ascend")
        assert tells(said, "--device-target")

    def test_a_pretrained_model_of_another_architecture(self, straight, data, tmp_path):
        more = ("--model", "pvt_tiny", "--pretrained", str(straight / "best.ckpt"))
        said = refused(data, tmp_path / "run", *more, "--image-resize", "64")
        assert tells(said, "best.ckpt", "pvt_nano", "pvt_tiny", "--model")


def test_mindcvs_recipe_is_read_as_it_is(few_digits, tmp_path):
    """Its 1000 classes are not these, so it ends there, after its oddity was named."""
    command = ["train", "--config", "configs/pvt/pvt_small_ascend.yaml", "--distribute", "False"]
    done = CliRunner().invoke(
        main, [*command, "--data_dir", str(few_digits), "--ckpt_save_dir", str(tmp_path / "run")]
    )
    assert done.exit_code == 1
    assert tells(done.stderr, "num_classes", "1000", "10")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert sum("the learning rate stays at min_lr from epoch 400 on" in w for w in warnings) == 1
    assert len(warnings) == len(set(warnings))
