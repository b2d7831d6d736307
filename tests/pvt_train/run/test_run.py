"""What a run says and keeps: times, intervals, failures, what a state claims."""

import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from convert.training.state import TrainingState
from pvt_data.sources.labels import LabelledImages
from pvt_spec.errors import ConvertError
from pvt_train.run.clock import Clock
from pvt_train.run.evaluation import evaluate
from pvt_train.run.folder import clear, output_folder
from pvt_train.run.launch import load_resumed
from pvt_train.run.log import RunLog, read_log
from pvt_train.run.loop import MOST_SKIPPED
from pvt_train.run.plot import plot_run
from pvt_train.run.standing import Kept, Standing
from pvt_train.run.stopping import stop_request
from pvt_train.twin import TrainingError
from tests.support.messages import naming
from tests.support.models import SMALL, info_of
from tests.support.runtimes import import_mindspore
from tests.support.scripted_run import (
    MemoryStore,
    ScriptedBatches,
    ScriptedTwin,
    kept_epochs,
    stopping_at,
    write_log,
)


class Ticking:
    """A clock that is a second later at every look; ``wait`` makes it more."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def wait(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Ticking(monkeypatch)


def slow(twin, clock, step=2.0, forward=5.0):
    """A twin whose steps and answers take their time."""
    inner_step, inner_forward = twin.step, twin.forward

    def slow_step(*arguments):
        clock.wait(step)
        return inner_step(*arguments)

    def slow_forward(images):
        clock.wait(forward)
        return inner_forward(images)

    twin.step, twin.forward = slow_step, slow_forward
    return twin


class TestTimes:
    def test_images_per_second_are_of_training_alone_and_seconds_of_all(self, go, clock):
        # Two updates of 2 images in 2 s each; then two batches of two images, 5 s each.
        (record,) = go(slow(ScriptedTwin([1.0] * 2), clock)).records("epoch")
        assert (record["images_per_second"], record["seconds"]) == (1.0, 14.0)

    def test_of_an_epoch_that_is_gone_on_with_the_rest_counts(self, go, clock):
        twin = slow(ScriptedTwin([1.0] * 4), clock)
        twin.done = 1
        done = go(twin, start=Standing(1, 4, 2, loss_sum=1.0))
        assert [record["images_per_second"] for record in done.records("epoch")] == [1.0, 1.0]

    def test_the_clock_counts_after_the_first_update_which_compiles(self, clock):
        clock_of_run = Clock(100, 110)
        clock.wait(60)
        clock_of_run.count()
        for _ in range(2):
            clock.wait(3)
            clock_of_run.count()
        assert clock_of_run.left() == "0:00:21"  # 7 updates of 3 s

    def test_its_pace_is_that_since_the_last_mark(self, clock):
        clock_of_run = Clock(0, 10)
        clock.wait(60)
        clock_of_run.count()
        clock_of_run.mark()
        clock.wait(4)
        clock_of_run.count()
        assert clock_of_run.pace() == 0.25

    def test_the_time_left_is_said_after_a_resume(self, go, clock):
        twin = slow(ScriptedTwin([1.0] * 8), clock, forward=0.0)
        twin.done = 2
        lines = go(twin, start=Standing(2, 4, 2), log_interval=1).said
        # 4 updates of 2 s are left when the second of six is done.
        assert lines[1].endswith("ETA 0:00:08"), lines[1]
        assert "  1 images/s  " in lines[1]

    def test_after_a_long_silence_an_update_is_told_of_that_is_not_logged(self, go, clock):
        done = go(slow(ScriptedTwin([1.0] * 4), clock, step=20.0, forward=0.0))
        assert [line[:21] for line in done.said] == [
            "epoch 1/2  step 2/2  ",
            "epoch 2/2  step 2/2  ",
        ]
        assert not done.records("step")


class TestSkipping:
    def test_one_that_is_made_breaks_the_row(self, go):
        losses = [-1.0] * (MOST_SKIPPED - 1) + [1.0] + [-1.0] * (MOST_SKIPPED - 2)
        twin = ScriptedTwin(losses)
        twin.scale = 2.0
        assert go(twin).outcome.standing.step == len(losses)

    def test_it_is_counted_by_the_epoch(self, go):
        twin = ScriptedTwin([-1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
        twin.scale = 2.0
        assert [r["skipped"] for r in go(twin).records("epoch")] == [1, 1, 1, 0]

    def test_a_skipped_step_has_no_norm_in_the_log(self, go):
        twin = ScriptedTwin([-1.0, 1.0])
        twin.scale = 2.0
        assert [r["gradient_norm"] for r in go(twin, log_interval=1).records("step")] == [None, 10]


class TestNotFinite:
    def test_any_batch_of_an_update_may_hold_the_tap(self, go):
        class Two(ScriptedBatches):
            def epoch(self, epoch, start):
                yield ["fine", "broken"]

        twin = ScriptedTwin([float("nan")] * 2)
        twin.first_not_finite = lambda batch: "norm4" if batch == "broken" else None
        with pytest.raises(TrainingError, match=naming("norm4")):
            go(twin, batches=Two())

    def test_another_worker_names_itself_and_who_knows_what_is_saved(self, go):
        twin = ScriptedTwin([float("nan")] * 2, ranks=2, rank=1)
        twin.not_finite = "norm4"
        message = "is norm4 on worker 1; the first worker says what is saved: try"
        with pytest.raises(TrainingError, match=message):
            go(twin)

    def test_what_is_saved_is_said_to_the_step(self, go):
        done = go(stopping_at(2, signal.SIGTERM))
        twin = ScriptedTwin([1.0, 1.0, 1.0, float("nan")])
        twin.done = 3
        with pytest.raises(TrainingError, match=naming("last.ckpt", "1")):
            go(twin, start=Standing.from_dict(done.store.states[-1][1]["run"]))


class TestEpochs:
    def test_the_rate_is_that_of_the_last_update(self, go):
        done = go(ScriptedTwin([1.0] * 4))
        assert [r["lr"] for r in done.records("epoch")] == done.twin.rates[1::2]
        assert [r["epoch"] for r in done.records("epoch")] == [1, 2]

    def test_batches_of_the_recipes_size_are_validated(self, go):
        twin, sizes = ScriptedTwin([1.0] * 2), []
        inner = twin.forward
        twin.forward = lambda images: sizes.append(len(images)) or inner(images)
        go(twin)
        assert sizes == [2, 2]

    def test_progress_is_of_the_epoch(self, go, monkeypatch):
        seen = []

        @contextmanager
        def bar(title):
            yield lambda *given: seen.append((title, *given[:2]))

        monkeypatch.setattr("pvt_train.run.reporter.progress_bar", bar)
        twin = ScriptedTwin([1.0] * 4)
        twin.done = 1
        go(twin, start=Standing(1, 4, 2))
        assert seen == [("epoch 1/2", 2, 2), ("epoch 2/2", 1, 2), ("epoch 2/2", 2, 2)]


class FailingStore(MemoryStore):
    """A disk that is full when the state after the second epoch is written."""

    def save_state(self, path, state, info, facts):
        if len(self.states) == 3:
            raise TrainingError("full")
        super().save_state(path, state, info, facts)


class TestTopFive:
    def test_of_five_classes_it_says_nothing(self, go):
        done = go(ScriptedTwin([1.0] * 2))
        (record,) = done.records("epoch")
        assert (record["top1"], record["top5"]) == (100.0, None)
        assert "Top-1" in done.lines[0] and "Top-5" not in done.lines[0]
        assert "top5" not in done.store.models[0][2].provenance

    @pytest.mark.parametrize(("classes", "expected"), [(5, None), (6, 50.0)])
    def test_of_six_it_does(self, classes, expected):
        twin = ScriptedTwin([])
        twin.forward = lambda images: np.tile(
            np.arange(classes, 0, -1, np.float32), (len(images), 1)
        )
        images = LabelledImages(lambda i: np.zeros(1), np.array([0, classes - 1]))
        assert evaluate(twin, images, 2, 1, {}, 0).top5 == expected


class TestFiles:
    def test_models_have_their_interval_the_best_has_not(self, go):
        done = go(ScriptedTwin([1.0] * 10), ckpt_save_interval=2)
        assert [name for name, _, _ in done.store.models] == [
            "best.ckpt", "pvt_nano-2.ckpt", "pvt_nano-4.ckpt", "pvt_nano-5.ckpt",
        ]  # fmt: skip

    def test_a_model_goes_after_the_state_that_needs_it_no_more(self, go, monkeypatch):
        with pytest.raises(TrainingError, match="full"):
            go(ScriptedTwin([1.0] * 6), keep_checkpoint_max=1, store=FailingStore())
        left = {path.name for path in go.done.folder.glob("pvt_nano-*")}
        # last.ckpt, of epoch 1, still lists the first.
        assert left == {"pvt_nano-1.ckpt", "pvt_nano-2.ckpt"}

    def test_a_model_that_somebody_removed_is_no_matter(self, go):
        twin = ScriptedTwin([1.0] * 4)
        start = Standing(0, 4, 2, kept=(Kept(0, None, "gone.ckpt"),))
        done = go(twin, start=start, keep_checkpoint_max=1)
        assert [one.epoch for one in done.outcome.standing.kept] == [2]

    def test_the_state_says_how_far_it_is(self, go, monkeypatch):
        infos = []
        inner = MemoryStore.save_state
        monkeypatch.setattr(
            MemoryStore, "save_state", lambda *given: infos.append(given[3]) or inner(*given)
        )
        go(stopping_at(2, signal.SIGTERM))
        assert [info.provenance["epochs trained"] for info in infos] == ["1.0", "1.0", "1.5"]


class TestWorkers:
    def test_one_that_stops_waits_until_the_first_has_saved(self, go):
        twin, seen = stopping_at(2, signal.SIGTERM), []
        twin.ranks = 2
        twin.total = lambda values: seen.append(list(values)) or values * 2
        twin.state = lambda: seen.append("state") or {"steps": np.array(twin.done)}
        go(twin)
        assert seen[-4:] == [[0.0, 1.0, 0.0], [0.0], "state", [0.0]]

    def test_the_outcome_says_whose_it_is(self, go):
        assert go(ScriptedTwin([1.0] * 2, ranks=2, rank=1)).outcome.rank == 1


class TestRunFolder:
    def test_clear_leaves_nothing_to_go_on_from(self, tmp_path):
        events = "events.out.tfevents.1700000000"
        others = [f"{events}.host", f"{events}.host.42.0", "notes.txt"]
        for name in ("best.ckpt", "last.ckpt", "log.jsonl", f"{events}.0", *others):
            (tmp_path / name).write_text("old")
        clear(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == others

    @pytest.mark.parametrize(
        "file", ["../victim.ckpt", "/victim.ckpt", "a/b.ckpt", "", "..", "photo.jpg"]
    )
    def test_a_hostile_state_names_no_file_elsewhere(self, file):
        values = Standing(1, 1, 1, kept=(Kept(1, None, file),)).to_dict()
        with pytest.raises(TrainingError, match=naming("name")):
            Standing.from_dict(values)

    def test_a_state_that_is_none_is_named(self, tmp_path, monkeypatch):
        found = TrainingState({}, info_of(SMALL["v1"]), {"recipe": {}, "run": {"step": 1}})
        monkeypatch.setattr("pvt_train.run.launch.read_training", lambda path: found)
        with pytest.raises(TrainingError, match=naming("last.ckpt")):
            load_resumed(tmp_path)

    def test_an_output_folder_that_another_worker_removed(self, tmp_path):
        with pytest.raises(TrainingError, match="mine"), output_folder(tmp_path / "a/b"):
            (tmp_path / "a/b").rmdir()
            raise TrainingError("mine")
        assert not (tmp_path / "a").exists()


class TestRotation:
    def test_what_was_not_validated_is_behind_one_that_knows_nothing(self):
        assert kept_epochs("top_k", 1, [0.0, None]) == ([1], [2])
        assert kept_epochs("top_k", 1, [None, 0.0]) == ([2], [1])


class TestLog:
    def test_bytes_that_are_no_text_are_named_by_line(self, tmp_path):
        (tmp_path / "log.jsonl").write_bytes(b'{"kind": "step", "step": 1}\n\xff\n{}\n')
        with pytest.raises(TrainingError, match=naming("2", "record")):
            [*read_log(tmp_path)]

    def test_a_line_is_on_the_disk_once_it_is_written(self, tmp_path):
        log = RunLog(tmp_path, 0)
        log.write({"kind": "step", "step": 1, "loss": 1.0})
        assert len([*read_log(tmp_path)]) == 1
        log.close()


class TestStopRequest:
    def test_beside_the_main_thread_nothing_is_changed(self):
        seen = []

        def inside():
            with stop_request() as request:
                seen.append((request.signal, signal.getsignal(signal.SIGTERM)))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        assert seen == [(None, signal.getsignal(signal.SIGTERM))]


def test_images_of_before_a_stop_are_counted(go):
    class Broken(ScriptedBatches):
        def epoch(self, epoch, start):
            self.unreadable = [(f"{start}.jpg", "it is empty")]
            return super().epoch(epoch, start)

    done = go(stopping_at(2, signal.SIGTERM), batches=Broken())
    assert done.said[-1].endswith("0.jpg: it is empty")
    twin = ScriptedTwin([1.0] * 8, learns_at=2)
    twin.done = 3
    start = Standing.from_dict(done.store.states[-1][1]["run"])
    records = go(twin, start=start, batches=Broken()).records("epoch")
    assert [record["unreadable"] for record in records] == [1, 2, 1, 1]


class TestPictures:
    @pytest.fixture
    def drawn(self, tmp_path, monkeypatch):
        """The curves by the title of their panel and their label: their points."""
        for epoch in (1, 2):
            names = ("loss", "val_loss", "top1", "top5", "lr", "gradient_norm")
            numbers = {name: epoch + 10.0 * i for i, name in enumerate(names)}
            record = {"kind": "epoch", "step": epoch, "epoch": epoch, **numbers}
            write_log(tmp_path, record, after=epoch - 1)
        figures = []
        monkeypatch.setattr(
            "matplotlib.figure.Figure.savefig", lambda f, *_, **__: figures.append(f)
        )
        plot_run(tmp_path, tmp_path / "curves.png")
        return {
            (axes.get_title(), text): line
            for axes in figures[0].axes
            for line, text in zip(
                axes.lines, axes.get_legend_handles_labels()[1] or [""], strict=True
            )
        }

    def test_each_number_is_in_its_panel_under_its_name(self, drawn):
        points = {key: list(line.get_ydata()) for key, line in drawn.items()}
        assert points == {
            ("loss", "training"): [1.0, 2.0],
            ("loss", "validation"): [11.0, 12.0],
            ("accuracy in %", "Top-1"): [21.0, 22.0],
            ("accuracy in %", "Top-5"): [31.0, 32.0],
            ("learning rate", ""): [41.0, 42.0],
            ("gradient norm", ""): [51.0, 52.0],
        }
        assert all(list(line.get_xdata()) == [1, 2] for line in drawn.values())
        assert {line.get_marker() for line in drawn.values()} == {"."}
        ticks = {tick for line in drawn.values() for tick in line.axes.get_xticks()}
        assert {1.0, 2.0} <= ticks and all(tick == round(tick) for tick in ticks)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        write_log(tmp_path, {"kind": "epoch", "step": 1, "epoch": 1, "loss": 1.0})
        with pytest.raises(ConvertError, match=naming("none/c.png")):
            plot_run(tmp_path, tmp_path / "none/c.png")


def test_a_new_log_has_no_curve_of_steps(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_log(tmp_path, {"kind": "step", "step": 1, "epoch": 1, "loss": 1.0})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["step/epoch", "step/loss"]


def test_a_loss_of_large_logits_is_exact():
    twin = ScriptedTwin([])
    twin.forward = lambda images: np.float32([[2000, 0, 0, 0, 0, 0]] * len(images))
    images = LabelledImages(lambda i: np.zeros(1), np.array([0, 1]))
    found = evaluate(twin, images, 2, 1, {}, 0)
    assert found.loss == 1000.0


def test_a_number_that_is_not_finite_is_null(tmp_path):
    write_log(tmp_path, {"kind": "epoch", "step": 1, "val_loss": float("nan"), "lr": float("inf")})
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()
    assert next(read_log(tmp_path)) == {"kind": "epoch", "step": 1, "val_loss": None, "lr": None}


@pytest.mark.parametrize(
    ("target", "local", "expected"),
    [("Ascend", "3", ("Ascend", 3)), ("CPU", "3", ("CPU",)), ("Ascend", None, ("Ascend",))],
)
def test_under_mpirun_each_worker_takes_its_own_device(monkeypatch, target, local, expected):
    mindspore = import_mindspore()
    from pvt_ms.runtime import choose_device

    taken = []
    monkeypatch.setattr(mindspore, "set_device", lambda *given: taken.append(given))
    monkeypatch.setattr(mindspore, "get_context", lambda key: "")
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_RANK", raising=False)
    if local:
        monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", local)
    choose_device(target, "")
    assert taken == [expected]
