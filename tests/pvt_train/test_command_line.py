"""The twins' ``train``: what it prints and writes, how it goes on, and what it refuses."""

import json
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
from convert.training.checkpoint import load_training
from pvt_spec import make_config, tensor_specs
from pvt_train.command_line import main as pvt_train
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from pvt_train.run.log import read_log
from tests.support.commands import invoke, refusal
from tests.support.messages import tells
from tests.support.models import assert_same, random_weights
from tests.support.processes import Ended
from tests.support.theirs import OfficialRun
from tests.support.train_command import MINDSPORE, OP_BY_OP, TRAINERS, Trainer, arguments
from tests.support.training import batch

ONCE = pytest.mark.parametrize("trainer", ["torch"], indirect=True)
"""What the framework has no part in."""


@pytest.fixture(scope="module", params=TRAINERS)
def trainer(request) -> Trainer:
    """The command of each framework in turn."""
    return TRAINERS[request.param]


@pytest.fixture(scope="module")
def finished(trainer, few_digits, tmp_path_factory) -> tuple[Path, Ended]:
    output = tmp_path_factory.mktemp("run") / "new" / "folder"
    return output, trainer.run(few_digits, output, "--plot", "--num-parallel-workers", "1")


class TestCommand:
    @pytest.mark.long
    def test_it_reports_each_epoch_and_the_best(self, trainer, finished):
        output, done = finished
        assert done.returncode == 0, done.stderr
        first, second, best = done.stdout.splitlines()
        losses = [float(re.search(r"loss (\S+)", line)[1]) for line in (first, second)]
        assert losses[1] < losses[0]
        assert re.fullmatch(
            rf"best: epoch [12], Top-1 +\d+\.\d\d %: {trainer.file(output, 'best')}", best
        )

    def test_nothing_else_is_printed(self, trainer, finished):
        output, done = finished
        first, second, third = done.stderr.splitlines()
        assert re.fullmatch(r"\S+ 2\.\S+ on CPU: (.*compile.*|op by op)", first)
        assert first.startswith(trainer.framework)
        assert second == (
            "pvt_nano (official): 60 images of 10 classes, 20 to validate; "
            "2 epochs of 3 steps of 20 images"
        )
        assert third == f"curves: {output}/curves.png"

    def test_the_folder_holds_models_state_log_and_curves(self, trainer, finished):
        names = {path.name for path in finished[0].iterdir()}
        events = {name for name in names if name.startswith("events.out.tfevents.")}
        assert len(events) == 1
        kept = ("best", "last", "pvt_nano-1", "pvt_nano-2")
        models = {f"{name}{trainer.ending}" for name in kept}
        assert names - events == {*models, "log.jsonl", "curves.png"}

    def test_the_checkpoints_are_whole_models(self, trainer, finished):
        output, _ = finished
        for name in ("pvt_nano-2", "last"):
            weights, info = load_model(trainer.file(output, name))
            assert list(weights) == [spec.name for spec in tensor_specs(info.config)]
            assert info.config == make_config("pvt_nano", drop_path_rate=0.1)
            assert info.labels == tuple("0123456789")
            assert info.preprocessing.crop_pct == 1.0
        info = load_model(trainer.file(output, "pvt_nano-2"))[1]
        assert (info.provenance["epoch"], info.provenance["weights"]) == ("2", "averaged")
        assert info.provenance["trained with"].startswith(trainer.framework)

    def test_the_model_that_was_trained_is_the_one_that_is_loaded(
        self, trainer, finished, few_digits
    ):
        output, done = finished
        reported = re.search(r"best: .* Top-1 +(\S+) %", done.stdout)[1]
        main, path = trainer.main, str(trainer.file(output, "best"))
        result = CliRunner().invoke(main, ["validate", path, "--data-dir", str(few_digits / "val")])
        assert result.stdout.startswith(f"Top-1 {reported} %")
        result = CliRunner().invoke(main, ["predict", path, str(few_digits / "val/3"), "--top-k=2"])
        assert result.output.count("%") == 4

    @ONCE
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


def resume(trainer: Trainer, folder: Path, *more: object) -> str:
    """What a run says on stderr that goes on to its end."""
    done = invoke(trainer.main, "train", "--resume", folder, *more)
    assert done.exit_code == 0, done.output
    return done.stderr


LONGER = ("--epoch-size", "4", "--log-interval", "1", *OP_BY_OP)


@pytest.fixture(scope="module")
def straight(trainer, few_digits, tmp_path_factory) -> Path:
    """A run of four epochs that nothing stopped."""
    output = tmp_path_factory.mktemp("straight") / "run"
    assert trainer.run(few_digits, output, *LONGER).returncode == 0
    return output


def interrupted(
    trainer: Trainer, data: Path, output: Path, number: int, lines: int
) -> "subprocess.Popen[str]":
    """The same run, hit by a signal once its log has so many lines."""
    command = [sys.executable, "-m", trainer.package, *arguments(data, output, *LONGER)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(output / "log.jsonl", lines, process)
    process.send_signal(number)
    return process


def assert_same_run(trainer: Trainer, found: Path, expected: Path) -> None:
    assert numbers(found) == numbers(expected)
    states = [load_training(trainer.file(folder, "last"))[0] for folder in (found, expected)]
    assert_same(*states)
    for name in (f"{name}{trainer.ending}" for name in ("best", "pvt_nano-3", "pvt_nano-4")):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


class TestGoingOn:
    """In other processes than the run they are compared with: the same seed gives the same bits."""

    @pytest.mark.long
    def test_a_killed_run_ends_in_the_same_bits(self, trainer, straight, few_digits, tmp_path):
        # Three steps and an epoch's line are four lines: in the middle of the third epoch.
        process = interrupted(trainer, few_digits, tmp_path / "run", signal.SIGKILL, 9)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert load_training(trainer.file(tmp_path / "run", "last"))[2]["run"]["step"] == 6
        done = trainer.run_here(few_digits, tmp_path / "run", "--epoch-size", "4", "--resume",
                        str(tmp_path / "run"), "--log-interval", "1")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert tells(done.stderr, "2", "going")
        assert_same_run(trainer, tmp_path / "run", straight)

    @pytest.mark.long
    def test_a_stopped_run_ends_in_the_same_bits(self, trainer, straight, few_digits, tmp_path):
        process = interrupted(trainer, few_digits, tmp_path / "run", signal.SIGTERM, 5)
        _, said = process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert said.splitlines()[-1] == f"stopped by SIGTERM; to go on: --resume {tmp_path}/run"
        # The recipe is in the state, so the folder is all that is needed.
        said = resume(trainer, tmp_path / "run")
        assert re.search(r"going on after epoch \d( and \d steps?)?$", said, re.MULTILINE)
        assert_same_run(trainer, tmp_path / "run", straight)

    @pytest.mark.sampled
    def test_another_number_of_epochs_plans_the_rate_anew(self, trainer, straight, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        said = resume(trainer, tmp_path / "run", "--epoch-size", 6)
        assert tells(said, "epoch_size", "4", "6")
        rates = [record["lr"] for record in numbers(tmp_path / "run")]
        # The last step of epoch 5 of 6: 14 of 18 steps of a cosine from 1e-3 to 1e-5.
        assert rates[4] == pytest.approx(1e-5 + 0.99e-3 * (1 + np.cos(np.pi * 14 / 18)) / 2)
        assert len(rates) == 6

    @pytest.mark.sampled
    def test_with_the_images_of_an_update_in_other_parts(self, trainer, straight, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        more = ("--batch-size", 10, "--gradient-accumulation-steps", 2, "--epoch-size", 5)
        resume(trainer, tmp_path / "run", *more)
        assert len(numbers(tmp_path / "run")) == 5

    @pytest.mark.sampled
    def test_into_another_folder(self, trainer, straight, tmp_path):
        resume(trainer, straight, "--epoch-size", 5, "--output", tmp_path / "new")
        assert trainer.file(tmp_path / "new", "pvt_nano-5").exists()
        assert not trainer.file(straight, "pvt_nano-5").exists()

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
    def test_what_would_be_another_run_is_refused(self, trainer, straight, more, facts):
        said = refusal(trainer.main, "train", "--resume", straight, *more)
        assert tells(said, *facts)
        assert "--pretrained" in said or "give a larger --epoch-size" in said

    def test_a_state_beside_a_runs_own_does_not_replace_it(self, trainer, straight, tmp_path):
        run = shutil.copytree(straight, tmp_path / "run")
        state, other = trainer.file(run, "last"), trainer.file(run, "old")
        shutil.copyfile(state, other)
        before = state.read_bytes()
        said = refusal(trainer.main, "train", "--resume", other, "--epoch-size", 5)
        assert tells(said, state, "exists") and state.read_bytes() == before

    def test_a_run_that_would_be_replaced_is_no_start(
        self, trainer, straight, few_digits, tmp_path
    ):
        run = shutil.copytree(straight, tmp_path / "run")
        best = trainer.file(run, "best").read_bytes()
        done = trainer.run_here(few_digits, run, "--force", "--pretrained", str(run))
        assert done.exit_code == 1 and tells(done.stderr, run, "--force")
        assert trainer.file(run, "best").read_bytes() == best

    def test_a_link_in_a_run_is_not_written_through(self, trainer, straight, tmp_path):
        run = shutil.copytree(straight, tmp_path / "run")
        (tmp_path / "mine.txt").write_text("mine")
        (run / "log.jsonl.new").symlink_to(tmp_path / "mine.txt")
        resume(trainer, run, "--epoch-size", 5, *OP_BY_OP)
        assert (tmp_path / "mine.txt").read_text() == "mine"
        assert not (run / "log.jsonl").is_symlink() and [*read_log(run)]

    def test_a_cut_or_missing_state_is_refused(self, trainer, straight, tmp_path):
        whole = trainer.file(straight, "last").read_bytes()
        trainer.file(tmp_path, "last").write_bytes(whole[: len(whole) // 2])
        for path, fact in (
            (tmp_path, trainer.file(tmp_path, "last")),
            (tmp_path / "none", "such"),
            (trainer.file(straight, "best"), "training"),
        ):
            assert tells(refusal(trainer.main, "train", "--resume", path), fact)


@pytest.mark.parametrize("trainer", TRAINERS, indirect=True)
class TestHandOver:
    """A run that goes on in the other framework."""

    @pytest.mark.sampled
    def test_it_goes_on_where_the_other_stopped(self, trainer, straight, few_digits, tmp_path):
        other = next(each for each in TRAINERS.values() if each is not trainer)
        half = ("--epoch-size", "2", "--decay-epochs", "4", "--log-interval", "1")
        done = trainer.run_here(few_digits, tmp_path / "run", *half)
        assert done.exit_code == 0, done.output
        said = resume(other, tmp_path / "run", "--epoch-size", 4, "--mode", 1)
        assert tells(said, other.framework.split()[0], "2")
        found, expected = (
            [record for record in read_log(run) if record["kind"] == "step"]
            for run in (tmp_path / "run", straight)
        )
        assert len(found) == len(expected) == 12
        for one, two in zip(found, expected, strict=True):
            for name in ("lr", "loss", "gradient_norm"):
                assert one[name] == pytest.approx(two[name], rel=1e-3), (one["step"], name)
        # One state and one best, whichever framework wrote it last.
        names = {path.name for path in (tmp_path / "run").iterdir()}
        assert f"last{other.ending}" in names and f"last{trainer.ending}" not in names
        assert len(names & {"best.ckpt", "best.pth"}) == 1
        kept = {f"pvt_nano-{epoch}{trainer.ending}" for epoch in (1, 2)}
        assert names > kept | {f"pvt_nano-{epoch}{other.ending}" for epoch in (3, 4)}


class TestAnotherProgramsRun:
    """A run of the official code that goes on here, with a recipe that its file does not say."""

    @pytest.fixture
    def theirs(self, tmp_path) -> Path:
        import torch

        info = model_info(Recipe("pvt_nano", image_resize=32), [str(i) for i in range(10)])
        run = OfficialRun(info, random_weights(info.config))
        run.step(batch(info, 0), 1e-3)
        torch.save(run.saved(), tmp_path / "checkpoint.pth")
        return tmp_path / "checkpoint.pth"

    @pytest.mark.sampled
    def test_it_goes_on_with_a_recipe(self, trainer, theirs, few_digits, tmp_path):
        run, how = tmp_path / "run", ("--resume", str(theirs), "--ema", "False")
        done = trainer.run_here(few_digits, run, *how)
        assert done.exit_code == 0, done.output
        assert tells(done.stderr, "weight_decay", "0.5", "0.05", "lr_scheduler", "moment1", "1")
        assert [record["epoch"] for record in numbers(run)] == [2]
        state, info, facts = load_training(trainer.file(run, "last"))
        # One before, and an epoch of three.
        assert state["updates"] == 4 and facts["run"]["step"] == 6
        assert info.labels == tuple("0123456789")
        assert theirs.exists()

    @ONCE
    @pytest.mark.parametrize(
        ("more", "facts"),
        [
            ((), ("ema", "--pretrained")),
            (("--ema", "False", "--model", "pvt_tiny"), ("'pvt_nano'", "'pvt_tiny'")),
            (("--ema", "False", "--opt", "lamb"), ("'adamw'", "'lamb'")),
            (("--ema", "False", "--profile", "mindcv"), ("'official'", "'mindcv'")),
        ],
    )
    def test_what_would_be_another_run_is_refused(
        self, trainer, theirs, few_digits, tmp_path, more, facts
    ):
        done = trainer.run_here(few_digits, tmp_path / "run", "--resume", str(theirs), *more)
        assert done.exit_code == 1 and tells(done.stderr, theirs, *facts)

    @ONCE
    def test_without_a_recipe_one_is_asked_for(self, trainer, theirs, few_digits):
        said = refusal(trainer.main, "train", "--resume", theirs, "--data-dir", few_digits)
        assert tells(said, theirs, "--config", "--output")

    @ONCE
    def test_other_images_than_its_own_are_noticed(self, trainer, theirs, few_digits, tmp_path):
        how = ("--resume", str(theirs), "--ema", "False", "--epoch-size", "3")
        import torch

        saved = torch.load(theirs, weights_only=False)
        for state in saved["optimizer"]["state"].values():
            state["step"] = torch.tensor(7.0)
        torch.save(saved, theirs)
        done = trainer.run_here(few_digits, tmp_path / "run", *how)
        assert done.exit_code == 1 and tells(done.stderr, theirs, 7, 3, 60, 20)


@pytest.fixture
def data(tmp_path, few_digits) -> Path:
    """A folder of images that a test may change."""
    shutil.copytree(few_digits, tmp_path / "data")
    return tmp_path / "data"


@ONCE
class TestData:
    @pytest.mark.long
    def test_tar_files_give_what_folders_give(self, trainer, straight, few_digits, tmp_path):
        for split in ("train", "val"):
            (tmp_path / "tars" / split).mkdir(parents=True)
            for folder in sorted((few_digits / split).iterdir()):
                with tarfile.open(tmp_path / "tars" / split / f"{folder.name}.tar", "w") as tar:
                    for path in sorted(folder.iterdir()):
                        tar.add(path, path.name)
        done = trainer.run_here(tmp_path / "tars", tmp_path / "run", "--epoch-size", "4")
        assert done.exit_code == 0, done.output
        assert_same_run(trainer, tmp_path / "run", straight)
        model = str(trainer.file(tmp_path / "run", "best"))
        found, expected = (
            json.loads(invoke(trainer.main, "validate", model, "--data-dir", data, "--json").stdout)
            for data in (tmp_path / "tars", few_digits)
        )
        for said in (found, expected):
            for name in [key for key in said if "second" in key]:
                del said[name]
        assert found == expected and expected["count"] == 20

    def test_an_unreadable_image_is_named_and_replaced(self, trainer, data, tmp_path):
        broken = sorted((data / "train/4").iterdir())[0]
        broken.write_bytes(broken.read_bytes()[:60])
        done = trainer.run_here(data, tmp_path / "run")
        assert done.exit_code == 0, done.output
        named = f"not readable, replaced by another image: {broken}: cannot be read as an image"
        assert done.stderr.count(named) == 1  # in two epochs
        assert [record["unreadable"] for record in numbers(tmp_path / "run")] == [1, 1]

    def test_too_many_of_them_end_it(self, trainer, data, tmp_path):
        for broken in sorted((data / "train/4").iterdir())[:3]:
            broken.write_bytes(b"")
        done = trainer.run_here(data, tmp_path / "run", "--max-unreadable", "2")
        assert done.exit_code == 1
        assert tells(done.output, "3", "1")


class TestFineTuning:
    @pytest.mark.sampled
    def test_another_number_of_classes_and_frozen_stages(self, trainer, straight, data, tmp_path):
        for split in ("train", "val"):
            for digit in range(3, 10):
                shutil.rmtree(data / split / str(digit))
        more = (
            "--pretrained",
            str(trainer.file(straight, "best")),
            "--freeze",
            "patch_embed*,block1.*",
        )
        done = trainer.run_here(data, tmp_path / "run", *more)
        assert done.exit_code == 0, done.output
        assert tells(done.stderr, "10", "3")
        before, after = (
            load_model(trainer.file(folder, "best"))[0] for folder in (straight, tmp_path / "run")
        )
        for name, array in after.items():
            if name.startswith(("patch_embed", "block1.")):
                assert np.array_equal(array, before[name]), name
            elif name.endswith(("norm2.weight", "fc1.weight")):
                assert not np.array_equal(array, before[name]), name
        assert after["head.weight"].shape[0] == 3

    @pytest.mark.sampled
    def test_the_maths_of_the_weights_is_kept(self, trainer, straight, data, tmp_path):
        weights, info = load_model(trainer.file(straight, "best"))
        import dataclasses

        from pvt_spec import profile_numerics

        info = dataclasses.replace(info, numerics=profile_numerics("mindcv", info.config.version))
        save_model(tmp_path / "mindcv.safetensors", weights, info)
        more = ("--pretrained", str(tmp_path / "mindcv.safetensors"), "--epoch-size", "1")
        done = trainer.run_here(data, tmp_path / "run", *more)
        assert done.exit_code == 0, done.output
        assert load_model(trainer.file(tmp_path / "run", "best"))[1].numerics.gelu == "tanh"


class TestFailures:
    def test_numbers_that_run_away_end_it(self, trainer, data, tmp_path):
        done = trainer.run_here(data, tmp_path / "run", "--lr", "1e30", "--epoch-size", "20")
        assert done.exit_code == 1
        pattern = (
            r"Error: (loss is (nan|inf)|gradients are not finite .*) at step \d+ \(epoch \d\), "
        )
        assert re.search(pattern, done.output)
        assert tells(done.output, "finite", "learning")
        assert "Traceback" not in done.output


def refused(trainer: Trainer, data: Path, output: Path, *more: str) -> str:
    """What a run says that must end before its first step, and leave no folder."""
    there = output.exists()
    said = refusal(trainer.main, *arguments(data, output, *more))
    assert output.exists() == there
    return said


@ONCE
class TestRefusals:
    def test_no_train_folder(self, trainer, tmp_path):
        assert tells(refused(trainer, tmp_path, tmp_path / "run"), f"{tmp_path}/train")

    def test_no_data_folder_at_all(self, trainer, tmp_path):
        assert tells(
            refusal(trainer.main, "train", "--model", "pvt_nano"), "data_dir", "--data-dir"
        )

    def test_no_val_folder(self, trainer, data, tmp_path):
        shutil.rmtree(data / "val")
        assert tells(refused(trainer, data, tmp_path / "run"), f"{data}/val")

    def test_a_class_without_images(self, trainer, data, tmp_path):
        (data / "train/x").mkdir()
        assert tells(refused(trainer, data, tmp_path / "run"), f"{data}/train/x")

    def test_a_class_that_is_only_in_val(self, trainer, data, tmp_path):
        (data / "val/3").rename(data / "val/x")
        assert tells(refused(trainer, data, tmp_path / "run"), "10", "classes")

    def test_another_number_of_classes(self, trainer, data, tmp_path):
        said = refused(trainer, data, tmp_path / "run", "--num-classes", "1000")
        assert tells(said, "num_classes", "1000", "10")

    def test_an_unknown_recipe_key(self, trainer, data, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("model: pvt_nano\nepochs: 3\n")
        assert tells(
            refused(trainer, data, tmp_path / "run", "--config", str(recipe)), "epoch_size"
        )

    def test_force_leaves_nothing_of_the_run_before(self, trainer, straight, data, tmp_path):
        shutil.copytree(straight, tmp_path / "run")
        done = trainer.run_here(data, tmp_path / "run", "--force", "--epoch-size", "1")
        assert done.exit_code == 0, done.output
        models = sorted(path.stem for path in (tmp_path / "run").glob(f"*{trainer.ending}"))
        assert models == ["best", "last", "pvt_nano-1"]

    def test_without_validation_the_last_model_is_named(self, trainer, data, tmp_path):
        done = trainer.run_here(
            data, tmp_path / "run", "--val-while-train", "False", "--epoch-size", "1"
        )
        assert done.exit_code == 0, done.output
        assert done.stderr.endswith(
            f"not validated; the last model: {trainer.file(tmp_path / 'run', 'pvt_nano-1')}\n"
        )

    @pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
    def test_checkpoints_that_are_there(self, trainer, data, tmp_path, name):
        (tmp_path / name).write_text("mine")
        said = refused(trainer, data, tmp_path)
        assert tells(said, tmp_path / name) and "--force" in said
        assert (tmp_path / name).read_text() == "mine"

    def test_a_file_where_the_folder_should_be(self, trainer, data, tmp_path):
        (tmp_path / "file").write_text("mine")
        for output in (tmp_path / "file", tmp_path / "file/run"):
            assert tells(refused(trainer, data, output), output)

    def test_a_pretrained_model_of_another_architecture(self, trainer, straight, data, tmp_path):
        more = ("--model", "pvt_tiny", "--pretrained", str(trainer.file(straight, "best")))
        said = refused(trainer, data, tmp_path / "run", *more, "--image-resize", "64")
        assert tells(said, f"best{trainer.ending}", "pvt_nano", "pvt_tiny", "--model")


def test_mindcvs_recipe_is_read_as_it_is(trainer, few_digits, tmp_path):
    """Its 1000 classes are not these, so it ends there, after its oddity was named."""
    command = ["train", "--config", "configs/pvt/pvt_small_ascend.yaml", "--distribute", "False"]
    done = CliRunner().invoke(
        trainer.main,
        [*command, "--data_dir", str(few_digits), "--ckpt_save_dir", str(tmp_path / "run")],
    )
    assert done.exit_code == 1
    assert tells(done.stderr, "num_classes", "1000", "10")
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert sum("the learning rate stays at min_lr from epoch 400 on" in w for w in warnings) == 1
    assert len(warnings) == len(set(warnings))


@pytest.mark.parametrize("trainer", TRAINERS, indirect=True)
def test_a_device_that_is_not_there(trainer, data, tmp_path):
    device = "Ascend" if trainer is MINDSPORE else "GPU"
    said = refused(trainer, data, tmp_path / "run", "--device-target", device)
    assert tells(said, "--device-target", device)


@pytest.mark.parametrize(
    ("trainer", "option", "value"),
    [
        ("torch", "--device-target", "Ascend"),
        ("mindspore", "--amp-level", "bf16"),
        ("mindspore", "--compile", "True"),
    ],
    indirect=["trainer"],
)
def test_what_the_other_framework_alone_has(trainer, data, tmp_path, option, value):
    said = refused(trainer, data, tmp_path / "run", option, value)
    assert tells(said, option.strip("-").replace("-", "_"), value, "MindSpore", "PyTorch")
