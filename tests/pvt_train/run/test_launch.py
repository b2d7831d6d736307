"""``train`` from its command line to its files, with a twin that learns nothing and takes no time.

What MindSpore adds is in ``tests/pvt_ms/test_command_line.py``; what is here needs no framework.
"""

import os
import shutil
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from convert import load_model, save_model
from convert.training.checkpoint import load_training
from pvt_data.command_line import Commands
from pvt_spec import PvtError
from pvt_train.command_line import train_command, train_options
from pvt_train.recipe.options import RecipeCommand
from pvt_train.run import launch
from pvt_train.run.folder import output_folder
from pvt_train.run.log import read_log
from tests.support.messages import naming, tells
from tests.support.scripted_run import AddingTwin

COLOURS = {"black": 0, "white": 255}


def write_images(folder: Path, colours: dict[str, int] = COLOURS, count: int = 2) -> None:
    for name, value in colours.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (32, 32), (value,) * 3).save(folder / name / f"{i}.png")


@pytest.fixture
def data(tmp_path) -> Path:
    write_images(tmp_path / "data/train", count=4)
    write_images(tmp_path / "data/val")
    return tmp_path / "data"


def go(*arguments: object, rank: int = 0, ranks: int = 1, hook: Any = None) -> Result:
    """The command, two images per update, with a twin that is this worker of so many."""

    @click.group(cls=Commands)
    def program() -> None:
        pass

    @program.command(cls=RecipeCommand)
    @train_options
    def train(config: Path | None, force: bool, plot: bool, keys: dict[str, Any]) -> None:
        train_command(
            config, keys, "adding", force=force, plot=plot,
            open_twin=lambda info, recipe, weights: AddingTwin(weights, rank, ranks, hook),
        )  # fmt: skip

    return CliRunner().invoke(program, ["train", *map(str, arguments)])


def link_to_mine(path: Path) -> None:
    mine = path.parent.parent / "mine"
    mine.write_text("mine")
    path.symlink_to(mine)


NEW = (
    "--model", "pvt_nano", "--image-resize", 32, "--warmup-epochs", 0, "--num-parallel-workers", 0,
    "--batch-size", 4, "--epoch-size", 2, "--auto-augment", "null",
)  # fmt: skip


def start(data: Path, output: Path, *more: object, **how: Any) -> Result:
    return go(*NEW, "--data-dir", data, "--output", output, *more, **how)


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def run(data, tmp_path) -> Path:
    """A finished run of two epochs of two steps."""
    done(start(data, tmp_path / "run"))
    return tmp_path / "run"


class TestStart:
    def test_epochs_and_the_best_are_the_result_the_rest_is_not(self, data, tmp_path):
        result = done(start(data, tmp_path / "run"))
        first, second, best = result.stdout.splitlines()
        assert first.startswith("epoch 1/2  ") and second.startswith("epoch 2/2  ")
        assert best == f"best: epoch 1, Top-1 100.00 %: {tmp_path}/run/best.ckpt"
        assert result.stderr.splitlines()[-1] == (
            "pvt_nano (official): 8 images of 2 classes, 4 to validate; 2 epochs of 2 steps of 4 "
            "images"
        )

    def test_a_short_run_warms_up_for_a_tenth_of_it(self, data, tmp_path):
        said = done(start(data, tmp_path / "run", "--warmup-epochs", "null")).stderr
        assert tells(said, "warmup_epochs", "1", "epoch_size", "2")
        assert "warmup_epochs" not in done(start(data, tmp_path / "2")).stderr

    def test_so_does_one_that_is_shorter_than_the_warm_up_of_its_file(self, data, tmp_path):
        recipe = tmp_path / "r.yaml"
        recipe.write_text("model: pvt_nano\nepoch_size: 30\nwarmup_epochs: 5\nimage_resize: 32\n")
        short = ("--config", recipe, "--epoch-size", 2, *NEW[6:10], "--data-dir", data)
        said = done(go(*short, "--output", tmp_path / "run")).stderr
        assert tells(said, "warmup_epochs", "1", "epoch_size", "2")
        given = go(*short, "--warmup-epochs", 5, "--output", tmp_path / "2")
        assert given.exit_code == 1 and tells(given.stderr, "warmup_epochs", "5", "2")

    def test_curves_that_are_replaced_are_said(self, data, tmp_path):
        first = done(start(data, tmp_path / "run", "--plot")).stderr
        again = done(go("--resume", tmp_path / "run", "--epoch-size", 3, "--plot")).stderr
        path = f"{tmp_path}/run/curves.png"
        assert first.splitlines()[-1] == f"curves: {path}"
        assert again.splitlines()[-1].startswith(f"curves: {path} (")

    def test_a_picture_that_is_there_is_not_replaced(self, data, tmp_path):
        curves = tmp_path / "run" / "curves.png"
        curves.parent.mkdir()
        curves.write_text("mine")
        result = start(data, curves.parent, "--plot")
        assert result.exit_code == 1 and tells(result.output, curves, "--force")
        done(start(data, curves.parent))
        assert curves.read_text() == "mine"

    def test_fewer_images_than_a_batch_are_said(self, data, tmp_path):
        said = done(start(data, tmp_path / "run", "--gradient-accumulation-steps", 4)).stderr
        assert tells(said, "8", "16")

    def test_the_seed_chooses_the_weights(self, data, tmp_path):
        found = []
        for seed in (1, 2, 1):
            done(start(data, tmp_path / "run", "--seed", seed, "--force"))
            found.append(AddingTwin.last.first["head.weight"])
        assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])

    def test_classes_that_val_lacks_keep_their_numbers(self, data, tmp_path):
        shutil.rmtree(data / "val/black")
        assert tells(done(start(data, tmp_path / "run")).stdout, "Top-1", "100.00")

    def test_without_validation_no_val_is_needed(self, data, tmp_path):
        shutil.rmtree(data / "val")
        result = done(start(data, tmp_path / "run", "--val-while-train", "False"))
        assert "best" not in result.stdout and not (tmp_path / "run/best.ckpt").exists()

    def test_maths_and_labels_of_a_pretrained_model(self, data, run, tmp_path):
        weights, info = load_model(run / "best.ckpt")
        save_model(tmp_path / "p.safetensors", weights, info)
        said = done(start(data, tmp_path / "2", "--pretrained", tmp_path / "p.safetensors")).stderr
        assert tells(said, f"{tmp_path}/p.safetensors")
        assert np.array_equal(AddingTwin.last.first["head.bias"], weights["head.bias"])

    def test_names_of_folders_need_not_be_unicode(self, data, tmp_path):
        odd = data.rename(os.fsdecode(os.fsencode(data) + b"\xff"))
        done(start(odd, tmp_path / "run"))
        done(go("--resume", tmp_path / "run", "--epoch-size", 3))

    def test_a_run_may_have_no_end(self, data, tmp_path):
        def stop(twin: AddingTwin) -> None:
            if twin.steps == 3:
                signal.raise_signal(signal.SIGTERM)

        result = start(data, tmp_path / "run", "--epoch-size", 10**18, hook=stop)
        assert result.exit_code == 128 + signal.SIGTERM and "ETA ?" in result.output

    @pytest.mark.parametrize("text", ['{"epoch": 1, "loss": 2.0}\n', "mine\n", '"mine"'])
    def test_another_programs_log_is_not_replaced(self, text, data, tmp_path):
        log = tmp_path / "run" / "log.jsonl"
        log.parent.mkdir()
        log.write_text(text)
        result = start(data, log.parent)
        assert result.exit_code == 1 and tells(result.output, log, "--force")
        assert [*log.parent.iterdir()] == [log] and log.read_text() == text
        done(start(data, log.parent, "--force"))

    def test_a_folder_that_may_not_be_written_to(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
        refused = pytest.raises(PvtError, match=naming("written"))
        with refused, output_folder(tmp_path / "new"):
            pass


class TestForce:
    @pytest.mark.parametrize("name", ["best.ckpt", "pvt_nano-1.ckpt", "log.jsonl"])
    @pytest.mark.parametrize("make", [os.mkdir, link_to_mine])
    def test_only_files_are_replaced(self, name, make, run, data):
        (run / name).unlink()
        make(run / name)
        before = {path: path.lstat() for path in run.iterdir()}
        result = start(data, run, "--force")
        assert result.exit_code == 1 and tells(result.output, run / name, "link")
        assert {path: path.lstat() for path in run.iterdir()} == before

    def test_nothing_of_the_old_run_is_gone_on_from(self, data, run):
        def fail(twin: AddingTwin) -> None:
            raise PvtError("the power failed")

        assert start(data, run, "--force", hook=fail).exit_code == 1
        assert not (run / "last.ckpt").exists() and not (run / "best.ckpt").exists()
        assert [*read_log(run)] == []

    def test_a_run_that_goes_on_in_its_place_has_its_own_log(self, data, run, tmp_path):
        done(start(data, tmp_path / "other", "--log-interval", 1))
        assert go("--resume", run, "--output", tmp_path / "other").exit_code == 1
        more = ("--output", tmp_path / "other", "--epoch-size", 3, "--force")
        done(go("--resume", run, *more))
        assert [record["step"] for record in read_log(tmp_path / "other")] == [6]

    def test_the_weights_it_starts_from_do_not_go_with_it(self, data, run):
        before = (run / "best.ckpt").read_bytes()
        result = start(data, run, "--force", "--pretrained", run / "best.ckpt")
        assert result.exit_code == 1 and tells(result.output, "--force")
        assert (run / "best.ckpt").read_bytes() == before


class TestResume:
    def test_another_folder_has_what_it_says_it_has(self, run, tmp_path):
        new = tmp_path / "new"
        result = done(go("--resume", run, "--epoch-size", 3, "--output", new))
        assert tells(result.stdout, "3", "Top-1", "100.00", f"{new}/best.ckpt")
        kept = load_training(new / "last.ckpt")[2]["run"]["kept"]
        assert [one["file"] for one in kept] == ["pvt_nano-3.ckpt"]
        for name in ("best.ckpt", "pvt_nano-3.ckpt"):
            assert (new / name).exists()

    @pytest.mark.parametrize(("junk", "fact"), [(None, "not there"), (b"junk", "best.ckpt")])
    def test_a_best_model_that_is_lost_is_not_named_as_there(self, junk, fact, run):
        (run / "best.ckpt").unlink()
        if junk:
            (run / "best.ckpt").write_bytes(junk)
        result = done(go("--resume", run, "--epoch-size", 3))
        assert tells(result.stderr, run / "best.ckpt", fact, "from here on is kept")
        assert tells(result.stdout, "epoch 3", run / "best.ckpt")
        assert (run / "best.ckpt").is_file()

    def test_weights_to_start_from_are_not_taken_in_the_midst(self, run):
        """They were said to hold from there on."""
        result = done(go("--resume", run, "--epoch-size", 3, "--pretrained", "no.pth"))
        assert tells(result.stderr, "pretrained", "no.pth", "not used")
        assert "pretrained was" not in result.stderr

    def test_a_folder_of_images_that_is_elsewhere_now(self, data, run):
        data.rename(data.parent / "moved")
        result = go("--resume", run, "--epoch-size", 3)
        assert result.exit_code == 1
        assert tells(result.output, data / "train", "no such folder", "--data-dir")

    def test_a_link_to_the_folder_is_the_folder(self, run, tmp_path):
        (tmp_path / "link").symlink_to(run)
        done(go("--resume", tmp_path / "link", "--output", run, "--epoch-size", 3))
        assert [r["epoch"] for r in read_log(run) if r["kind"] == "epoch"] == [1, 2, 3]

    @pytest.mark.parametrize(
        "name", ["best.ckpt", "last.pth", "pvt_nano-3.ckpt", "log.jsonl", "curves.png"]
    )
    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, link_to_mine])
    def test_what_is_no_file_of_a_run_is_not_taken_for_one(self, name, make, run, tmp_path):
        (run / name).unlink(missing_ok=True)
        make(run / name)
        before = load_training(run / "last.ckpt")[2]
        result = go("--resume", run, "--epoch-size", 3)
        assert result.exit_code == 1 and tells(result.output, run / name)
        assert load_training(run / "last.ckpt")[2] == before
        assert not (tmp_path / "mine").exists() or (tmp_path / "mine").read_text() == "mine"

    def test_a_folder_that_was_moved_goes_on_where_it_is(self, run, tmp_path):
        run.rename(tmp_path / "moved")
        result = done(go("--resume", tmp_path / "moved", "--epoch-size", 3))
        assert not run.exists()
        assert tells(result.stderr, "epoch_size", "2", "3")
        assert "ckpt_" not in result.stderr
        assert int(load_training(tmp_path / "moved/last.ckpt")[0]["updates"]) == 6

    def test_a_recipe_that_is_given_is_the_whole_recipe(self, data, run, tmp_path):
        (tmp_path / "r.yaml").write_text(
            "model: pvt_nano\nimage_resize: 32\nbatch_size: 4\nepoch_size: 3\nlr: 0.5\n"
            f"warmup_epochs: 0\nnum_parallel_workers: 0\ndata_dir: {data}\n"
        )
        said = done(go("--config", tmp_path / "r.yaml", "--resume", run)).stderr
        assert tells(said, "0.0005", "0.5", "auto_augment", "'randaug-m9-mstd0.5-inc1'")

    def test_other_classes_are_refused(self, data, run):
        for split in ("train", "val"):
            (data / split / "white").rename(data / split / "pale")
        result = go("--resume", run, "--epoch-size", 3)
        assert result.exit_code == 1
        assert tells(result.output, "pale")

    @pytest.mark.parametrize(
        ("more", "found"),
        [(("--batch-size", 2), "8 images and 4 per update, this one 8 and 2"), ((), "one 9 and 4")],
    )
    def test_another_epoch_is_refused(self, data, run, more, found):
        if not more:
            shutil.copy(data / "train/white/0.png", data / "train/white/9.png")
        result = go("--resume", run, "--epoch-size", 3, *more)
        assert result.exit_code == 1 and found in result.output

    def test_in_the_middle_of_an_epoch(self, data, tmp_path):
        def stop(twin: AddingTwin) -> None:
            if twin.steps == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        more = ("--epoch-size", 3, "--plot")
        result = start(data, tmp_path / "run", *more, hook=stop)
        assert result.exit_code == 128 + signal.SIGTERM
        assert result.stderr.splitlines()[-1].startswith("stopped by SIGTERM; to go on: --resume ")
        assert not (tmp_path / "run/curves.png").exists()
        said = done(go("--resume", tmp_path / "run")).stderr
        assert tells(said, "1", "going")


class TestWorkers:
    def test_the_second_one_writes_and_says_nothing_of_the_run(self, data, run):
        before = {path: path.read_bytes() for path in run.iterdir()}
        more = ("--resume", run, "--epoch-size", 3, "--batch-size", 2, "--plot")
        result = done(go(*more, rank=1, ranks=2))
        assert result.stdout == ""
        assert "images of 2 classes" not in result.stderr and "curves" not in result.stderr
        assert {path: path.read_bytes() for path in run.iterdir()} == before

    def test_the_first_says_how_many_share(self, data, tmp_path):
        said = done(start(data, tmp_path / "run", "--batch-size", 2, ranks=2)).stderr
        assert tells(said, "4", "2")


class TestTwoAtOnce:
    def during(self, first: Any, second: Any) -> list[Result]:
        """Both runs' results, the second tried after the first one's first step."""
        others: list[Result] = []

        def hook(twin: AddingTwin) -> None:
            if not others:
                others.append(second())

        return [first(hook=hook), *others]

    @pytest.mark.parametrize("more", [(), ("--force",)])
    def test_one_folder_is_one_runs(self, data, tmp_path, more):
        again = partial(start, data, tmp_path / "run", *more)
        first, second = self.during(again, again)
        done(first)
        assert second.exit_code == 1 and second.stdout == ""
        assert tells(second.stderr, tmp_path / "run", os.getpid(), socket.gethostname(), "--output")
        assert not list((tmp_path / "run").glob(".*"))

    def test_a_run_goes_on_once(self, data, run):
        again = partial(go, "--resume", run, "--epoch-size", 3)
        first, second = self.during(again, again)
        done(first)
        assert second.exit_code == 1 and tells(second.stderr, os.getpid())

    def test_a_run_that_has_gone_on_meanwhile_is_not_taken_back(self, data, run, monkeypatch):
        def late(twin: Any, state: Any) -> None:
            shutil.copy(run / "last.ckpt", run / "copy")
            os.replace(run / "copy", run / "last.ckpt")

        monkeypatch.setattr(AddingTwin, "load_state", late)
        result = go("--resume", run, "--epoch-size", 3)
        assert result.exit_code == 1 and tells(result.stderr, run / "last.ckpt", "meanwhile")

    def test_a_run_that_ended_here_meanwhile_is_not_replaced(self, data, run, tmp_path):
        def late(*_: Any) -> None:
            shutil.copytree(run, tmp_path / "new", dirs_exist_ok=True)

        original = launch.TrainingBatches.__init__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                launch.TrainingBatches, "__init__", lambda *a, **k: late() or original(*a, **k)
            )
            result = start(data, tmp_path / "new")
        assert result.exit_code == 1 and tells(result.stderr, "last.ckpt", "--force")
        assert (tmp_path / "new/last.ckpt").read_bytes() == (run / "last.ckpt").read_bytes()

    def test_a_lock_of_a_killed_run_holds_nobody_up(self, data, run):
        (run / ".run.lock").write_text("process 1 on elsewhere\n")
        done(go("--resume", run, "--epoch-size", 3))
        assert not (run / ".run.lock").exists()
