"""A run's folder: which files stay, the log as others read it, the state as JSON, the picture."""

import json
import os
import resource
import signal
import sys
import tracemalloc
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from pvt_spec import FileExists, PvtError
from pvt_train.run import plot
from pvt_train.run.checkpoints import is_better
from pvt_train.run.folder import check_output, clear, is_state, output_folder, state_file
from pvt_train.run.log import RunLog, read_log
from pvt_train.run.plot import plot_run
from pvt_train.run.standing import Kept, Standing
from pvt_train.run.stopping import stop_request
from pvt_train.twin import TrainingError
from tests.support.messages import naming
from tests.support.scripted_run import kept_epochs, write_log


class TestRotation:
    def test_the_latest_stay(self):
        assert kept_epochs("latest_k", 2, [9.0, 5.0, 7.0, 1.0]) == ([3, 4], [1, 2])

    def test_the_best_stay_and_the_first_of_equals(self):
        assert kept_epochs("top_k", 2, [5.0, 9.0, 7.0, 7.0]) == ([2, 3], [1, 4])

    def test_what_was_not_validated_goes_first(self):
        assert kept_epochs("top_k", 2, [None, 1.0, None, 2.0]) == ([2, 4], [3, 1])

    def test_all_may_stay(self):
        assert kept_epochs("all", 1, [1.0, 2.0, 3.0]) == ([1, 2, 3], [])

    def test_none_may_stay(self):
        assert kept_epochs("latest_k", 0, [1.0, 2.0]) == ([], [1, 2])

    def test_the_best_is_the_first_of_the_highest(self):
        first, equal, better = (Kept(e, s, "f") for e, s in ((1, 3.0), (2, 3.0), (3, 3.5)))
        assert is_better(first, None)
        assert not is_better(equal, first)
        assert is_better(better, first)
        assert not is_better(Kept(4, None, "f"), None)


class TestRefusal:
    @pytest.mark.parametrize(
        "name", ["best.ckpt", "last.ckpt", "pvt_v2_b2_li-12.ckpt", "last.pth", "pvt_tiny-1.pth"]
    )
    def test_a_run_is_not_replaced(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FileExists, match=naming(name, "--force")) as error:
            check_output(tmp_path, force=False)
        assert ("--resume" in str(error.value)) == name.startswith("last.")
        check_output(tmp_path, force=True)

    def test_a_log_alone_is_no_run(self, tmp_path):
        (tmp_path / "log.jsonl").write_text("")
        check_output(tmp_path, force=False)

    def test_only_a_runs_own_files_go(self, tmp_path):
        mine = ["model.ckpt", "pvt_tiny.pth", "pvt_tiny-best.ckpt", "pvt_tiny-1.onnx"]
        runs = ["best.ckpt", "last.ckpt", "pvt_tiny-1.ckpt", "pvt_v2_b0-450.pth", "last.pth"]
        for name in mine + runs:
            (tmp_path / name).write_text("")
        clear(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)

    def test_a_folder_stands_for_its_state(self, tmp_path):
        assert state_file(tmp_path / "x.ckpt") == tmp_path / "x.ckpt"
        with pytest.raises(TrainingError, match=naming(tmp_path, "last.ckpt", "last.pth")):
            state_file(tmp_path)
        for age, name in enumerate(("last.ckpt", "last.pth")):
            (tmp_path / name).write_text("")
            os.utime(tmp_path / name, (age, age))
            assert state_file(tmp_path) == tmp_path / name
        os.utime(tmp_path / "last.ckpt", (9, 9))
        assert state_file(tmp_path) == tmp_path / "last.ckpt"


class TestFolderOfItsOwn:
    def test_what_was_made_in_vain_goes_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)  # as a umask of 777 leaves a user
        refused = pytest.raises(PvtError, match=naming(str(tmp_path / "a" / "run"), "umask"))
        with refused, output_folder(tmp_path / "a" / "run"):
            pass
        assert os.listdir(tmp_path) == []

    def test_one_that_was_there_stays(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PvtError, match=naming(str(tmp_path))), output_folder(tmp_path):
            pass
        assert tmp_path.is_dir()

    def test_parents_that_cannot_hold_it_go_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "mkdir", _of_no_use_below(tmp_path / "a", os.mkdir))
        refused = pytest.raises(PvtError, match=naming(str(tmp_path / "a" / "run")))
        with refused, output_folder(tmp_path / "a" / "run"):
            pass
        assert os.listdir(tmp_path) == []


def _of_no_use_below(folder, mkdir):
    def refuse(path, *rest):
        if os.path.dirname(path) == str(folder) and folder.exists():
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *rest)

    return refuse


class TestRunState:
    def test_it_comes_back_through_json_with_every_bit(self):
        kept = (Kept(1, 10 / 3, "pvt_tiny-1.ckpt"), Kept(2, None, "pvt_tiny-2.ckpt"))
        state = Standing(7, 100, 8, 0.1 + 0.2, np.pi, 1, Kept(1, 10 / 3, "best.ckpt"), kept)
        assert Standing.from_dict(json.loads(json.dumps(state.to_dict()))) == state
        assert Standing.from_dict(Standing(0, 1, 1).to_dict()) == Standing(0, 1, 1)

    @pytest.mark.parametrize("values", [{}, {"best": None, "kept": [], "steps": 1}, {"best": 1}])
    def test_anything_else_is_refused(self, values):
        with pytest.raises(TrainingError, match=naming("state")):
            Standing.from_dict(values)

    @pytest.mark.parametrize(
        "name", ["mine.pth", "last.pth", "best.ckpt", "../pvt_tiny-1.pth", "pvt_tiny-1.onnx", ""]
    )
    def test_only_files_that_a_run_keeps_are_taken_for_its_own(self, name):
        state = Standing(7, 100, 8, kept=(Kept(1, 50.0, name),)).to_dict()
        with pytest.raises(TrainingError, match=naming("state")):
            Standing.from_dict(state)

    @pytest.mark.parametrize(
        "changes",
        [
            {"step": -5}, {"step": 10**16}, {"images": 0}, {"global_batch": 0},
            {"global_batch": 101}, {"loss_sum": -1e308}, {"norm_sum": -1.0}, {"skipped": 8},
            {"skipped": -1}, {"unreadable": -1},
        ],
        ids=str,
    )  # fmt: skip
    def test_numbers_are_those_of_a_run(self, changes):
        (name,) = changes
        with pytest.raises(TrainingError, match=naming("state", name)):
            Standing.from_dict({**Standing(7, 100, 8).to_dict(), **changes})

    @pytest.mark.parametrize("top1", [1e308, -1.0, 100.5])
    def test_an_accuracy_is_in_percent(self, top1):
        state = Standing(7, 100, 8, best=Kept(1, top1, "best.pth")).to_dict()
        with pytest.raises(TrainingError, match=naming("state")):
            Standing.from_dict(state)


def write_epochs(folder, first, last):
    epochs = [
        {"kind": "epoch", "step": step, "epoch": step, "loss": 1 / step, "top1": None}
        for step in range(first, last + 1)
    ]
    write_log(folder, *epochs, after=first - 1)


def tensorboard_scalars(folder, tag):
    """What TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


class TestLog:
    def test_tensorboard_reads_its_numbers(self, tmp_path):
        write_epochs(tmp_path, 1, 3)
        expected = [(1, 1.0), (2, 0.5), (3, np.float32(1 / 3))]
        assert tensorboard_scalars(tmp_path, "epoch/loss") == expected

    def test_every_line_is_json(self, tmp_path):
        write_epochs(tmp_path, 1, 2)
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [1.0, 0.5]

    def test_taken_up_it_drops_what_came_after(self, tmp_path):
        write_epochs(tmp_path, 1, 4)
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"kind": "ep')  # killed in the middle of a line
        write_epochs(tmp_path, 3, 3)
        assert [record["step"] for record in read_log(tmp_path)] == [1, 2, 3]
        assert [step for step, _ in tensorboard_scalars(tmp_path, "epoch/loss")] == [1, 2, 3]

    def test_one_of_many_lines_is_read_in_proportion_to_its_bytes(self, tmp_path):
        lines = b'{"kind":"epoch","step":1,"epoch":1,"loss":1}\n' * 50_000
        (tmp_path / "log.jsonl").write_bytes(lines)
        tracemalloc.start()
        RunLog(tmp_path, 1).close()
        plot._read_points(tmp_path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 2 * len(lines)

    def test_a_new_one_replaces_the_old(self, tmp_path, monkeypatch):
        # Event files are called by the second; those of another are cleared with the run.
        monkeypatch.setattr("pvt_train.run.log.time.time", lambda: 1_700_000_000.0)
        write_epochs(tmp_path, 1, 4)
        write_epochs(tmp_path, 1, 2)
        assert [record["step"] for record in read_log(tmp_path)] == [1, 2]
        assert [step for step, _ in tensorboard_scalars(tmp_path, "epoch/loss")] == [1, 2]

    def test_one_that_cannot_be_taken_up_is_as_it_was(self, tmp_path, monkeypatch):
        write_epochs(tmp_path, 1, 4)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        for error, expected in ((OSError(28, "full"), TrainingError), (KeyboardInterrupt,) * 2):
            monkeypatch.setattr("pvt_train.run.log.encode_json", Mock(side_effect=["{}", error]))
            with pytest.raises(expected):
                RunLog(tmp_path, 4)
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_what_takes_long_to_import_is_there_before_any_file(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboardX", None)
        with pytest.raises(ImportError):
            RunLog(tmp_path, 0)
        assert not [*tmp_path.iterdir()]

    def test_a_full_disk_ends_in_one_message(self, tmp_path):
        log = RunLog(tmp_path, 0)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(TrainingError, match=naming("--resume")):
                for step in range(100):
                    log.write({"kind": "step", "step": step, "loss": 1.0})
            log.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)

    def test_a_folder_without_one_is_named(self, tmp_path):
        with pytest.raises(TrainingError, match=naming("log.jsonl")):
            [*read_log(tmp_path)]

    def test_a_damaged_line_is_named(self, tmp_path):
        (tmp_path / "log.jsonl").write_text('{"kind": "step", "step": 1}\nnonsense\n{}\n')
        with pytest.raises(TrainingError, match=naming("2", "nonsense")):
            [*read_log(tmp_path)]


class TestPlot:
    @pytest.mark.sampled
    @pytest.mark.parametrize("epochs", [1, 30])
    def test_it_draws_curves(self, tmp_path, epochs):
        same = {"kind": "epoch", "lr": 1e-3, "top1": 90.0, "ema_top1": 91.0, "val_loss": None}
        numbers = range(1, epochs + 1)
        write_log(tmp_path, *({**same, "step": i, "epoch": i, "loss": 2 / i} for i in numbers))
        plot_run(tmp_path, tmp_path / "curves.png")
        pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"), int)
        # matplotlib's first colour, that of the training loss.
        blue = np.abs(pixels - [0x1F, 0x77, 0xB4]).max(axis=2) < 8
        assert blue[: len(blue) // 2, : blue.shape[1] // 2].sum() > 10

    def test_a_run_without_an_epoch_has_no_curves(self, tmp_path):
        write_log(tmp_path, {"kind": "step", "step": 1, "loss": 1.0})
        with pytest.raises(TrainingError, match=naming("finished")):
            plot_run(tmp_path, tmp_path / "curves.png")
        assert not (tmp_path / "curves.png").exists()

    def test_an_unknown_ending_is_refused(self, tmp_path):
        write_epochs(tmp_path, 1, 1)
        with pytest.raises(PvtError, match=naming("curves.docx")):
            plot_run(tmp_path, tmp_path / "curves.docx")


class TestStopRequest:
    def test_it_takes_signals_back_from_another_handler(self):
        with stop_request() as request:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            request.listen()
            os.kill(os.getpid(), signal.SIGINT)
            assert request.signal == signal.SIGINT
            request.listen()  # not again once it was asked
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL

    def test_what_is_ignored_stays_so(self):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with stop_request() as request:
                os.kill(os.getpid(), signal.SIGHUP)
                assert request.signal is None
        finally:
            signal.signal(signal.SIGHUP, before)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_is_noted_and_handlers_come_back(self, number):
        before = signal.getsignal(number)
        with stop_request() as request:
            assert request.signal is None
            os.kill(os.getpid(), number)
            assert request.signal == number
            assert signal.getsignal(number) == signal.SIG_DFL  # a second one ends the process
        assert signal.getsignal(number) == before

    def test_one_that_comes_with_the_first_is_the_same_request(self, monkeypatch):
        """A terminal that is closed and its shell send one each: the second ended the run."""
        ignored = []

        def wait(seconds: float) -> None:
            ignored.append(signal.getsignal(signal.SIGHUP))
            os.kill(os.getpid(), signal.SIGHUP)

        monkeypatch.setattr("time.sleep", wait)
        with stop_request() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.signal == signal.SIGHUP and ignored == [signal.SIG_IGN]


def test_a_link_that_leads_to_itself_is_no_state_of_the_run(tmp_path: Path) -> None:
    loop = tmp_path / "last.pth"
    loop.symlink_to(loop)
    assert not is_state(tmp_path / "other.pth", tmp_path)
