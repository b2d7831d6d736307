"""Validation images that cannot be read: named and counted, and no epoch is lost by them."""

import numpy as np
import pytest

from pvt_spec import ImageError
from pvt_train.run.standing import Standing
from tests.support.messages import naming, tells
from tests.support.scripted_run import STEPS, ScriptedBatches, ScriptedTwin


def broken(*numbers):
    """What loads images but these."""

    def load(number):
        if number in numbers:
            raise ImageError(f"{number}.png: it is cut off")
        return np.full((3, 32, 32), 1 if number > 1 else -1, np.float32)

    return load


def without_times(done):
    return [{**record, "seconds": 0, "images_per_second": 0} for record in done.records("epoch")]


def test_they_are_named_once_and_counted_and_left_out(go):
    done = go(ScriptedTwin([1.0] * 3 * STEPS), load=broken(1), ema=True)
    assert done.said == ["not readable, left out of the accuracy: 1.png: it is cut off"]
    assert [record["unreadable"] for record in done.records("epoch")] == [1, 1, 1]
    assert [record["top1"] for record in done.records("epoch")] == [100.0] * 3


@pytest.mark.parametrize(("most", "ends"), [(0, True), (1, True), (2, False), (5, False)])
def test_the_limit_holds(go, most, ends):
    losses = [1.0] * STEPS
    if not ends:
        go(ScriptedTwin(losses), load=broken(1, 3), max_unreadable=most)
        return
    with pytest.raises(ImageError, match=naming("--max-unreadable", most, "1.png", "3.png")):
        go(ScriptedTwin(losses), load=broken(1, 3), max_unreadable=most)


def test_images_of_which_none_can_be_read_end_a_run(go):
    with pytest.raises(ImageError, match=naming("0.png")):
        go(ScriptedTwin([1.0] * STEPS), load=broken(0, 1, 2, 3), max_unreadable=10)


def test_the_limit_is_of_all_workers(go):
    """Each of which has one of them."""
    for rank in (0, 1):
        twin = ScriptedTwin([1.0] * STEPS, ranks=2, rank=rank)
        with pytest.raises(ImageError, match=naming("--max-unreadable", 1)):
            go(twin, load=broken(0, 1), max_unreadable=1)


def test_the_state_of_the_epoch_is_saved_before(go):
    with pytest.raises(ImageError):
        go(ScriptedTwin([1.0] * 3 * STEPS), load=broken(0, 1), max_unreadable=1)
    [(state, facts)] = go.done.store.states
    assert int(state["steps"]) == facts["run"]["step"] == STEPS


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_was_trained_is_saved_where_no_more_images_can_be_read(ranks, go):
    """A hundred updates of an epoch were lost by one image more than may be unreadable."""

    class Ending(ScriptedBatches):
        def epoch(self, epoch, start):
            for number, group in enumerate(super().epoch(epoch, start), epoch * STEPS + start):
                if number == STEPS + 1:
                    self.unreadable = (("a/b.jpg", "it is empty"),)
                    raise ImageError("too many")
                yield group

    with pytest.raises(ImageError, match="too many"):
        go(ScriptedTwin([1.0] * 3 * STEPS, ranks=ranks), batches=Ending())
    state, facts = go.done.store.states[-1]
    assert int(state["steps"]) == facts["run"]["step"] == STEPS + 1
    assert tells(go.done.said[-1], "last.ckpt", "1")
    assert facts["run"]["unreadable"] == (ranks == 1)
    twin = ScriptedTwin([1.0] * 3 * STEPS)
    twin.load_state(state)
    again = go(twin, start=Standing.from_dict(facts["run"]))
    assert again.twin.groups[0] == [(1, 1)] and again.outcome.stopped is None


def test_nothing_is_saved_where_the_first_cannot_be_read(go):
    class Ending(ScriptedBatches):
        def epoch(self, epoch, start):
            yield from ()
            raise ImageError("too many")

    with pytest.raises(ImageError, match="too many"):
        go(ScriptedTwin([1.0] * STEPS), batches=Ending())
    assert not go.done.store.states and not go.done.said


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("fails_in", ["validation", "the state after it"])
def test_what_was_not_validated_is_when_the_run_goes_on(go, tmp_path, epochs, fails_in):
    """Its models, log and best are then those of a run that nothing befell."""
    losses = [float(number + 1) for number in range(epochs * STEPS)]
    once = go(ScriptedTwin(losses, learns_at=STEPS))
    expected = [
        {**record, "seconds": 0, "images_per_second": 0} for record in once.records("epoch")
    ]

    calls = []

    def load(number):
        calls.append(number)
        if fails_in == "validation" and len(calls) > 4 * (epochs - 1):
            raise KeyboardInterrupt
        return broken()(number)

    store = type(once.store)()
    inner = store.save_state

    def save(path, state, info, facts):
        if fails_in != "validation" and len(store.states) == 2 * epochs - 1:
            raise KeyboardInterrupt
        inner(path, state, info, facts)

    store.save_state = save
    with pytest.raises(KeyboardInterrupt):
        go(ScriptedTwin(losses, learns_at=STEPS), load=load, store=store)
    state, facts = store.states[-1]
    assert facts["run"]["step"] == epochs * STEPS
    twin = ScriptedTwin(losses, learns_at=STEPS)
    twin.load_state(state)
    again = go(twin, start=Standing.from_dict(facts["run"]))
    assert twin.done == epochs * STEPS and not twin.groups
    assert again.outcome.standing == once.outcome.standing
    assert without_times(again) == expected
