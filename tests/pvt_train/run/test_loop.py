"""The loop and its records, with a twin whose losses are given."""

import errno
import re
import signal
from typing import Any

import numpy as np
import pytest

from pvt_data.edge import SIGNALS
from pvt_data.sources.labels import LabelledImages
from pvt_spec import PvtError
from pvt_train.recipe.read import make_recipe
from pvt_train.run.evaluation import evaluate
from pvt_train.run.loop import MOST_SKIPPED
from pvt_train.run.standing import Standing
from pvt_train.twin import TrainingError
from tests.support.messages import naming, tells
from tests.support.scripted_run import Done, ScriptedBatches, ScriptedTwin, stopping_at


class TestSteps:
    def test_each_gets_the_next_rate_and_batches(self, go):
        done = go(ScriptedTwin([1.0] * 6))
        expected = [1e-6 + (5e-4 - 1e-6) * (1 + np.cos(np.pi * s / 6)) / 2 for s in range(6)]
        assert done.twin.rates == pytest.approx(expected)
        assert done.twin.groups == [[(e, s)] for e in range(3) for s in range(2)]

    def test_the_log_has_every_interval(self, go):
        done = go(ScriptedTwin([1.0, 2.0, 3.0, 4.0]), log_interval=3)
        (record,) = done.records("step")
        assert (record["step"], record["epoch"], record["loss"]) == (3, 2, 3.0)
        assert record["gradient_norm"] == 30.0
        assert re.match(r"epoch 2/2  step 1/2  loss 3\.0000  .*ETA \d+:\d\d:\d\d", done.said[0])


class TestEpochs:
    def test_every_epoch_is_one_line(self, go):
        lines = go(ScriptedTwin([1.0, 2.0, 0.5, 0.25])).lines
        shape = (
            r"epoch {}/2  loss {}  lr \d\.\d\de-0\d  grad {}  Top-1 100\.00 %"
            r"  \d+ images/s  \d+\.\d s"
        )
        values = ((1, "1.5000", "15"), (2, "0.3750", "3.75"))
        for line, value in zip(lines, values, strict=True):
            assert re.match(shape.format(*value), line)
        assert "ETA" in lines[0] and "ETA" not in lines[1]

    def test_the_log_has_its_numbers(self, go):
        record = go(ScriptedTwin([1.0, 3.0], learns_at=2)).records("epoch")[0]
        # A uniform guess of the logits 1 and 0: log(1 + e) - 1 where it is right.
        right = np.log(1 + np.exp(1)) - 1
        assert record["val_loss"] == pytest.approx((2 * right + 2 * np.log(1 + np.exp(-1))) / 4)
        assert (record["loss"], record["gradient_norm"], record["top1"]) == (2.0, 20.0, 100.0)
        assert (record["ema_top1"], record["skipped"], record["unreadable"]) == (None, 0, 0)

    def test_skipped_updates_are_counted_and_no_norm_is_theirs(self, go):
        twin = ScriptedTwin([1.0, -1.0])  # a negative loss stands for an overflow
        twin.scale = 1024.0
        done = go(twin)
        record = done.records("epoch")[0]
        assert (record["skipped"], record["gradient_norm"], record["loss_scale"]) == (1, 10.0, 1024)
        assert tells(done.lines[0], "1", "skipped") and tells(done.lines[0], "1024")

    def test_no_norm_is_known_where_every_update_was_skipped(self, go):
        twin = ScriptedTwin([-1.0, -1.0])
        twin.scale = 1024.0
        done = go(twin)
        assert done.records("epoch")[0]["gradient_norm"] is None
        assert tells(done.lines[0], "grad")

    def test_validation_has_its_interval_and_the_last_epoch(self, go):
        done = go(ScriptedTwin([1.0] * 10), val_interval=2)
        assert [record["top1"] is not None for record in done.records("epoch")] == [
            False, True, False, True, True,
        ]  # fmt: skip
        assert (
            go(ScriptedTwin([1.0] * 2), val_while_train=False).records("epoch")[0]["top1"] is None
        )

    def test_unreadable_images_are_named_and_counted(self, go):
        batches = ScriptedBatches()
        batches.unreadable = (("a/b.jpg", "it is empty"),)
        done = go(ScriptedTwin([1.0] * 2, ranks=2), batches=batches)
        assert done.said == ["not readable, replaced by another image: a/b.jpg: it is empty"]
        assert done.records("epoch")[0]["unreadable"] == 2

    def test_an_unreadable_image_is_named_once_in_a_run(self, go):
        batches = ScriptedBatches()
        batches.unreadable = (("a/b.jpg", "it is empty"),)
        done = go(ScriptedTwin([1.0] * 8), batches=batches)
        assert len([line for line in done.said if "a/b.jpg" in line]) == 1
        assert [record["unreadable"] for record in done.records("epoch")] == [1] * 4

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_answers_that_are_no_numbers_end_a_run(self, bad, go):
        class Diverged(ScriptedTwin):
            def forward(self, images):
                return super().forward(images) + np.float32(bad)

        with pytest.raises(PvtError, match=r"no numbers"):
            go(Diverged([1.0] * 2))


class TestFiles:
    def test_best_is_the_first_of_the_highest(self, go):
        done = go(ScriptedTwin([1.0] * 8, learns_at=4), keep_checkpoint_max=2)
        written = [(name, int(w["steps"])) for name, w, _ in done.store.models]
        assert written == [
            ("pvt_nano-1.ckpt", 2),
            ("best.ckpt", 2),
            ("pvt_nano-2.ckpt", 4),
            ("best.ckpt", 4),
            ("pvt_nano-3.ckpt", 6),
            ("pvt_nano-4.ckpt", 8),
        ]
        assert done.outcome.standing.best.epoch == 2 and done.outcome.standing.best.top1 == 100.0
        left = {path.name for path in done.folder.glob("*.ckpt")}
        assert left == {"best.ckpt", "last.ckpt", "pvt_nano-3.ckpt", "pvt_nano-4.ckpt"}

    def test_the_best_k_stay_with_top_k(self, go):
        twin = ScriptedTwin([1.0] * 8, learns_at=4)
        done = go(twin, keep_checkpoint_max=2, ckpt_save_policy="top_k")
        left = {path.name for path in done.folder.glob("pvt_nano-*")}
        assert left == {"pvt_nano-2.ckpt", "pvt_nano-3.ckpt"}
        assert "pvt_nano-4.ckpt" not in [name for name, _, _ in done.store.models]

    def test_models_say_what_they_are(self, go):
        info = go(ScriptedTwin([1.0] * 2)).store.models[0][2]
        facts = {"trained with": "none", "epoch": "1", "top1": "100.00"}
        assert info.provenance == {"seed": "42", **facts}

    def test_averaged_weights_are_validated_and_kept(self, go):
        done = go(ScriptedTwin([1.0] * 6, learns_at=2), ema=True)
        records = done.records("epoch")
        assert [record["top1"] for record in records] == [100.0] * 3
        assert [record["ema_top1"] for record in records] == [0.0, 100.0, 100.0]
        assert done.outcome.standing.best.epoch == 2
        assert all(weights["averaged"] for _, weights, _ in done.store.models)
        assert done.store.models[0][2].provenance["weights"] == "averaged"
        assert "EMA Top-1   0.00 %" in done.lines[0]

    def test_the_state_has_its_interval_and_the_end(self, go):
        done = go(ScriptedTwin([1.0] * 10), ckpt_save_interval=2)
        # Before and after validation.
        saved = [
            (facts["run"]["step"], facts["run"]["to_validate"]) for _, facts in done.store.states
        ]
        assert saved == [(step, before) for step in (4, 8, 10) for before in (True, False)]
        assert make_recipe(done.store.states[0][1]["recipe"], "") == done.recipe


def without_times(done: Done) -> list[dict[str, Any]]:
    """The log's epochs, but for what a clock tells."""
    times = ("images_per_second", "seconds")
    return [
        {key: value for key, value in record.items() if key not in times}
        for record in done.records("epoch")
    ]


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_the_step_is_finished_and_the_state_saved(self, go, number):
        done = go(stopping_at(4, number))
        assert done.outcome.stopped == number
        assert done.twin.done == 5
        state, facts = done.store.states[-1]
        assert (int(state["steps"]), facts["run"]["step"]) == (5, 5)

    def test_after_the_last_step_of_an_epoch_it_is_validated_first(self, go):
        done = go(stopping_at(3, signal.SIGTERM))
        assert len(done.records("epoch")) == 2
        assert done.store.states[-1][1]["run"]["step"] == 4

    def test_where_nobody_can_be_told_any_more_the_state_is_saved_first(self, go):
        def tell(line: str) -> None:
            raise OSError(errno.EIO, "of a terminal that is closed")

        with pytest.raises(OSError, match="closed"):
            go(ScriptedTwin([1.0] * 8), tell=tell, log_interval=3)
        assert go.done.store.states[-1][1]["run"]["step"] == 3

    def test_in_the_last_epoch_it_is_finished(self, go):
        assert go(stopping_at(7, signal.SIGTERM)).outcome.stopped is None

    @pytest.mark.parametrize("step", [2, 3, 4, 5, 6])
    def test_going_on_gives_the_same_log_and_files(self, go, step):
        straight = go(ScriptedTwin([1.0] * 8, learns_at=2))
        expected = without_times(straight)
        first = go(stopping_at(step, signal.SIGTERM))
        assert first.outcome.stopped == signal.SIGTERM
        state, facts = first.store.states[-1]
        assert facts["run"]["step"] == step + 1
        twin = ScriptedTwin([1.0] * 8, learns_at=2)
        twin.load_state(state)
        second = go(twin, start=Standing.from_dict(facts["run"]))
        assert without_times(second) == expected
        assert second.outcome.standing == straight.outcome.standing
        assert first.twin.groups + second.twin.groups == straight.twin.groups

    @pytest.mark.parametrize("number", SIGNALS)
    def test_another_workers_signal_stops_this_one(self, go, number):
        twin = ScriptedTwin([1.0] * 8, ranks=2, rank=1)

        def total(values: np.ndarray) -> np.ndarray:
            asked = [twin.done >= 3 and each == number for each in SIGNALS]
            return values + asked if len(values) == len(SIGNALS) else values

        twin.total = total
        done = go(twin)
        assert done.outcome.stopped == number and twin.done == 3
        assert not done.store.states and not done.lines  # the first worker's to write


class TestNotFinite:
    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_loss_ends_it_and_names_the_tap(self, go, loss):
        twin = ScriptedTwin([1.0, 1.0, 1.0, loss])
        twin.not_finite = "block2.1.attn"
        with pytest.raises(TrainingError) as error:
            go(twin)
        message = str(error.value)
        assert message.startswith(f"loss is {loss} at step 3 (epoch 2), learning rate ")
        assert tells(message, "block2.1.attn", "last.ckpt", "1")
        assert go.done.store.states[-1][1]["run"]["step"] == 2

    def test_without_a_state_that_is_said(self, go):
        with pytest.raises(TrainingError, match=naming("finite")):
            go(ScriptedTwin([float("nan")] * 2))

    def test_gradients_end_it_without_a_loss_scale(self, go):
        with pytest.raises(TrainingError, match=naming("-1", "gradients")):
            go(ScriptedTwin([1.0, -1.0]))

    def test_too_many_skipped_in_a_row_end_it(self, go):
        twin = ScriptedTwin([-1.0] * (2 * MOST_SKIPPED))
        twin.scale = 2.0
        with pytest.raises(TrainingError, match=naming(MOST_SKIPPED)):
            go(twin)
        assert twin.done == MOST_SKIPPED

    @pytest.mark.parametrize("step", [3, 4, 8])
    @pytest.mark.parametrize("changes", [{}, {"val_while_train": False}], ids=str)
    def test_weights_that_an_update_ruins_replace_no_good_ones(self, go, step, changes):
        class Ruined(ScriptedTwin):
            def weights(self):
                return {**super().weights(), "head.bias": self.bias()}

            def state(self):
                return {**super().state(), "head.bias": self.bias()}

            def bias(self):
                return np.array([1.0, np.inf if self.done >= step else 2.0])

        with pytest.raises(TrainingError, match=naming("head.bias", "last.ckpt", "--lr")):
            go(Ruined([1.0] * 8), **changes)
        saved = [weights for _, weights, _ in go.done.store.models]
        saved += [state for state, _ in go.done.store.states]
        assert saved and all(np.isfinite(each["head.bias"]).all() for each in saved)
        assert go.done.store.states[-1][1]["run"]["step"] == (step - 1) // 2 * 2


class TestEvaluation:
    @pytest.mark.parametrize("batch", [1, 2, 3, 7, 20])
    def test_every_image_counts_once_whatever_the_batch(self, batch):
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((7, 6)).astype(np.float32)
        labels = rng.integers(0, 6, 7)
        twin = ScriptedTwin([])
        twin.forward = lambda images: logits[images[:, 0].astype(int)]
        images = LabelledImages(lambda i: np.array([i]), labels)
        found = evaluate(twin, images, batch, 2, {}, 0)
        order = np.argsort(-logits, axis=1)
        assert found.count == 7
        assert found.top1 == pytest.approx(100 * np.mean(order[:, 0] == labels))
        assert found.top5 == pytest.approx(100 * np.mean((order[:, :5] == labels[:, None]).any(1)))
        chosen = np.exp(logits.astype(float))[range(7), labels]
        assert found.loss == pytest.approx(np.mean(-np.log(chosen / np.exp(logits).sum(1))), 1e-5)

    def test_workers_share_the_images_and_weigh_their_parts(self):
        labels = np.array([0, 0, 0, 0, 1])
        seen: list[list[int]] = []
        sums = []
        for rank in range(2):
            twin = ScriptedTwin([], ranks=2, rank=rank)
            mine: list[int] = []
            seen.append(mine)
            twin.forward = lambda images: np.tile(np.float32([1, 0]), (len(images), 1))
            twin.total = lambda values: sums.append(values) or values
            images = LabelledImages(lambda i, m=mine: m.append(i) or np.zeros(1), labels)
            evaluate(twin, images, 2, 1, {}, 0)
        assert sorted(seen[0]) == [0, 2, 4] and sorted(seen[1]) == [1, 3]
        hits, _, _, count, _ = sums[0] + sums[1]
        assert (hits, count) == (4, 5)
