"""Batches of training: their order, what is in them, and the processes that make them."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pvt_data.sources.folders import open_source
from pvt_spec import ImageError, make_config
from pvt_train.input.loader import TrainingBatches, image_order, spread
from pvt_train.input.processes import ImageProcesses, process_count
from pvt_train.input.randomness import RandomUse, drop_path_scales, generator
from pvt_train.recipe.keys import Recipe
from pvt_train.recipe.read import model_info
from pvt_train.twin import Batch, TrainingError
from tests.support.messages import Facts, naming, tells
from tests.support.processes import ROOT

COUNT = 26
PLAIN = dict(
    hflip=0.0, auto_augment=None, color_jitter=None, re_prob=0.0, mixup=0.0, cutmix=0.0,
    label_smoothing=0.0, scale=(1.0, 1.0), ratio=(1.0, 1.0),
)  # fmt: skip
"""A recipe that shows images as they are, and whose targets tell which ones they are."""


def picture(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """26 images, each a class of its own."""
    for number in range(COUNT):
        target = tmp_path / "images" / f"{number:02}" / "a.png"
        target.parent.mkdir(parents=True)
        picture(number).save(target)
    return tmp_path / "images"


def open_batches(folder: Path, rank: int = 0, ranks: int = 1, **keys) -> TrainingBatches:
    recipe = Recipe(**{"model": "pvt_nano", "batch_size": 4, "num_parallel_workers": 0, **keys})
    source = open_source(folder)
    return TrainingBatches(source, recipe, model_info(recipe, source.classes), rank, ranks)


def epoch_of(folder: Path, epoch: int, start: int = 0, **keys) -> list[Batch]:
    with open_batches(folder, **keys) as batches:
        return [batch for group in batches.epoch(epoch, start) for batch in group]


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        for name in ("pixels", "targets", "mixing", "drop_path"):
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype and np.array_equal(x, y), name


def shown(batches: list[Batch]) -> list[int]:
    """Which images the batches hold, if the recipe is :data:`PLAIN`."""
    return [int(number) for batch in batches for number in batch.targets.argmax(axis=1)]


# --- what is in a batch


def test_a_batch_is_pixels_targets_mixing_and_drop_path(folder: Path) -> None:
    for batch in epoch_of(folder, 0, drop_path_rate=0.3):
        assert batch.pixels.shape == (4, 32, 32, 3) and batch.pixels.dtype == np.uint8
        assert batch.targets.shape == (4, COUNT) and batch.targets.dtype == np.float32
        assert batch.targets.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-6)
        assert batch.mixing.shape == (4,) and batch.mixing.dtype == np.float32
        blocks = sum(make_config("pvt_nano").depths)
        assert batch.drop_path.shape == (blocks, 2, 4) and batch.drop_path.dtype == np.float32


def test_pixels_are_the_images_resized_by_pillow(folder: Path) -> None:
    for batch in epoch_of(folder, 0, **PLAIN):
        for pixels, number in zip(batch.pixels, shown([batch]), strict=True):
            expected = picture(number).resize((32, 32), Image.Resampling.BICUBIC)
            assert np.array_equal(pixels, np.asarray(expected))


def test_grey_models_are_given_grey_images(folder: Path) -> None:
    keys = dict(in_channels=1, mean=(120.0,), std=(60.0,))
    for batch in epoch_of(folder, 0, **PLAIN, **keys):
        for pixels, number in zip(batch.pixels, shown([batch]), strict=True):
            expected = picture(number).convert("L").resize((32, 32), Image.Resampling.BICUBIC)
            assert np.array_equal(pixels[:, :, 0], np.asarray(expected))


def test_steps_are_counted_over_epochs_for_drop_path_and_mixing(folder: Path) -> None:
    batches = epoch_of(folder, 1, drop_path_rate=0.3, batch_size=5)
    config = make_config("pvt_nano", drop_path_rate=0.3)
    assert len(batches) == 5
    for number, batch in enumerate(batches, start=5):
        assert np.array_equal(batch.drop_path, drop_path_scales(config, 42, number, 5))
    shares = [epoch_of(folder, epoch, cutmix=0.0)[0].mixing[0] for epoch in range(8)]
    assert len(set(shares)) == 8


def test_a_batch_is_the_takers_own(folder: Path) -> None:
    with open_batches(folder, num_parallel_workers=2) as batches:
        taken = [(batch, batch.pixels.copy()) for (batch,) in batches.epoch(0)]
    assert all(np.array_equal(batch.pixels, copy) for batch, copy in taken)


# --- which images, in which order


def test_an_epoch_has_each_image_once_and_the_remainder_is_left_out(folder: Path) -> None:
    numbers = shown(epoch_of(folder, 0, **PLAIN))
    assert len(numbers) == len(set(numbers)) == 24
    assert shown(epoch_of(folder, 0, batch_size=13, **PLAIN))[:24] == numbers


def test_every_epoch_and_seed_has_its_own_order(folder: Path) -> None:
    orders = [shown(epoch_of(folder, e, seed=s, **PLAIN)) for e, s in ((0, 1), (1, 1), (0, 2))]
    assert len({tuple(order) for order in orders}) == 3
    left_out = {
        n for e in range(9) for n in {*range(COUNT)} - {*shown(epoch_of(folder, e, **PLAIN))}
    }
    assert len(left_out) > 2


def test_without_shuffling_images_come_as_they_are_listed(folder: Path) -> None:
    for epoch in range(2):
        assert shown(epoch_of(folder, epoch, shuffle=False, **PLAIN)) == list(range(24))


def test_num_samples_takes_that_many_images_of_each_epochs_order(folder: Path) -> None:
    order = shown(epoch_of(folder, 3, **PLAIN))
    assert shown(epoch_of(folder, 3, num_samples=9, **PLAIN)) == order[:8]
    assert shown(epoch_of(folder, 3, num_samples=99, **PLAIN)) == order


def test_repeated_augmentation_shows_a_third_of_the_images_three_times(folder: Path) -> None:
    once = shown(epoch_of(folder, 0, batch_size=12, **PLAIN))
    numbers = shown(epoch_of(folder, 0, batch_size=12, aug_repeats=3, **PLAIN))
    assert Counter(numbers) == {number: 3 for number in once[:8]}
    assert Counter(numbers[:12]) == {number: 3 for number in once[:4]}
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    assert all(a != b for a, b in pairs)


def test_repetitions_are_augmented_differently_the_first_as_ever(folder: Path) -> None:
    keys = {**PLAIN, "scale": (0.2, 0.5), "batch_size": 12}
    (batch, _), (plain, _) = epoch_of(folder, 0, aug_repeats=3, **keys), epoch_of(folder, 0, **keys)
    by_number: dict[int, list[bytes]] = {}
    for pixels, number in zip(batch.pixels, shown([batch]), strict=True):
        by_number.setdefault(number, []).append(pixels.tobytes())
    assert all(len(set(versions)) == 3 for versions in by_number.values())
    for pixels, number in zip(plain.pixels, shown([plain]), strict=True):
        if number in by_number:
            assert by_number[number][0] == pixels.tobytes()


@pytest.mark.parametrize("repeats", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 6, 30, 128])
def test_spreading_moves_every_image_and_loses_none(size: int, repeats: int) -> None:
    assert sorted(spread(size, repeats).tolist()) == list(range(size))


def test_an_order_says_which_repetition_each_is() -> None:
    recipe = Recipe("pvt_nano", shuffle=False, aug_repeats=3)
    expected = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]]
    assert image_order(recipe, 0, 8).tolist() == expected


def test_repetitions_beyond_an_epoch_take_nothing() -> None:
    """A thousand million of four images took gigabytes, and did not end."""
    recipe = Recipe("pvt_nano", shuffle=False, aug_repeats=10**9)
    assert image_order(recipe, 0, 4).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert spread(4, recipe.aug_repeats).tolist() == [0, 1, 2, 3]


# --- however it is cut


@pytest.mark.sampled
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("keys", [{}, {"aug_repeats": 3}, {"gradient_accumulation_steps": 2}])
def test_any_number_of_processes_makes_the_same_batches(folder: Path, keys, workers: int) -> None:
    expected = epoch_of(folder, 0, **keys) + epoch_of(folder, 1, **keys)
    with open_batches(folder, num_parallel_workers=workers, **keys) as batches:
        ours = [batch for epoch in (0, 1) for group in batches.epoch(epoch) for batch in group]
        assert len(process_ids()) == min(workers, process_count(workers))
    assert_same(ours, expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keys", [{}, {"aug_repeats": 3, "batch_size": 3}])
def test_an_epoch_can_be_taken_up_at_any_step(folder: Path, keys, workers: int) -> None:
    expected = epoch_of(folder, 2, **keys)
    with open_batches(folder, num_parallel_workers=workers, **keys) as batches:
        for start in range(len(expected)):
            ours = [batch for group in batches.epoch(2, start) for batch in group]
            assert_same(ours, expected[start:])
        assert list(batches.epoch(2, len(expected))) == []


def test_taking_up_an_epoch_reads_only_what_is_left(folder: Path, monkeypatch) -> None:
    with open_batches(folder, **PLAIN) as batches:
        read = []
        source = batches._source
        monkeypatch.setattr(
            type(source), "read", lambda self, i: read.append(i) or Path(self.name(i)).read_bytes()
        )
        left = [batch for group in batches.epoch(0, 4) for batch in group]
    assert read == shown(left) and len(read) == 8


def test_one_worker_and_two_with_half_the_images_see_the_same(folder: Path) -> None:
    whole = epoch_of(folder, 0, batch_size=8, drop_path_rate=0.3, aug_repeats=3)
    halves = [
        epoch_of(folder, 0, rank=rank, ranks=2, batch_size=4, drop_path_rate=0.3, aug_repeats=3)
        for rank in (0, 1)
    ]
    joined = [
        Batch(
            np.concatenate([a.pixels, b.pixels]),
            np.concatenate([a.targets, b.targets]),
            np.concatenate([a.mixing, b.mixing]),
            np.concatenate([a.drop_path, b.drop_path], axis=2),
        )
        for a, b in zip(*halves, strict=True)
    ]
    assert_same(joined, whole)


def test_accumulated_batches_are_those_of_as_many_updates(folder: Path) -> None:
    with open_batches(folder, gradient_accumulation_steps=3) as batches:
        groups = list(batches.epoch(1))
        assert (batches.steps_per_epoch, batches.global_batch, batches.batch_size) == (2, 12, 4)
    assert [len(group) for group in groups] == [3, 3]
    assert_same([batch for group in groups for batch in group], epoch_of(folder, 1))


@pytest.mark.parametrize(
    ("keys", "batch", "steps"),
    [
        ({"batch_size": 13}, 13, 2),
        ({"batch_size": 27}, 26, 1),
        ({"batch_size": 64, "gradient_accumulation_steps": 3}, 8, 1),
        ({"batch_size": 64, "num_samples": 5}, 5, 1),
        ({"batch_size": 6, "ranks": 4}, 6, 1),
        ({"batch_size": 6, "ranks": 2, "gradient_accumulation_steps": 2}, 6, 1),
    ],
)
def test_fewer_images_than_a_batch_are_one_batch(
    folder: Path, keys, batch: int, steps: int
) -> None:
    with open_batches(folder, **keys) as batches:
        assert (batches.batch_size, batches.steps_per_epoch) == (batch, steps)
        assert batches.global_batch == batch * keys.get("ranks", 1) * keys.get(
            "gradient_accumulation_steps", 1
        )
        groups = list(batches.epoch(0))
    assert len(groups) == steps and all(len(b.pixels) == batch for group in groups for b in group)


@pytest.mark.parametrize(
    ("keys", "facts"),
    [
        ({"ranks": 2, "batch_size": 14}, ("26", "2", "1", "14")),
        ({"gradient_accumulation_steps": 27}, ("26", "training")),
    ],
)
def test_too_few_images_for_an_update_are_refused(folder: Path, keys, facts: Facts) -> None:
    with pytest.raises(ImageError, match=naming(*facts)):
        open_batches(folder, **keys)


def test_tar_files_give_the_same_batches_as_folders(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    for number in range(COUNT):
        with tarfile.open(tmp_path / "tars" / f"{number:02}.tar", "w") as tar:
            tar.add(folder / f"{number:02}" / "a.png", "a.png")
    ours = epoch_of(tmp_path / "tars", 0, num_parallel_workers=2)
    assert_same(ours, epoch_of(folder, 0))


# --- images that cannot be read


def spoil(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"{number:02}" / "a.png").write_bytes(b"not an image")


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_named_and_replaced_by_others(folder: Path, workers: int) -> None:
    order = shown(epoch_of(folder, 0, **PLAIN))
    spoil(folder, order[2], order[17])
    with open_batches(folder, num_parallel_workers=workers, **PLAIN) as batches:
        made = [batch for group in batches.epoch(0) for batch in group]
        names = {str(folder / f"{order[at]:02}" / "a.png") for at in (2, 17)}
        assert {name for name, _ in batches.unreadable} == names
        assert all(why.startswith("cannot be read as an image") for _, why in batches.unreadable)
        numbers = shown(made)
        assert [at for at in range(24) if numbers[at] != order[at]] == [2, 17]
        for batch in made:
            for pixels, number in zip(batch.pixels, shown([batch]), strict=True):
                expected = picture(number).resize((32, 32), Image.Resampling.BICUBIC)
                assert np.array_equal(pixels, np.asarray(expected))
        again = [batch for group in batches.epoch(0, 0) for batch in group]
        assert_same(again, made)
        next(batches.epoch(5))
        assert len(batches.unreadable) < 2
    assert_same(made, epoch_of(folder, 0, **PLAIN))


def test_another_image_is_drawn_on_from_the_last(folder: Path, monkeypatch) -> None:
    """Begun anew for each, the draws would be the square of the unreadable images."""
    spoil(folder, *range(COUNT))
    drawn = []
    monkeypatch.setattr(
        "pvt_train.input.training_image.generator",
        lambda seed, use, *place: drawn.append(use) or generator(seed, use, *place),
    )
    with pytest.raises(ImageError, match=naming(COUNT)):
        epoch_of(folder, 0, max_unreadable=10**6, batch_size=1, **PLAIN)
    assert drawn.count(RandomUse.REPLACEMENT) == 1


def test_a_repeated_image_that_is_unreadable_counts_once(folder: Path) -> None:
    order = shown(epoch_of(folder, 0, **PLAIN))
    spoil(folder, order[0])
    numbers = shown(epoch_of(folder, 0, aug_repeats=3, max_unreadable=1, **PLAIN))
    assert order[0] not in numbers and len(numbers) == 24


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_unreadable_images_are_listed(folder: Path, workers: int) -> None:
    spoil(folder, *range(4))
    keys = dict(max_unreadable=3, batch_size=26, num_parallel_workers=workers)
    with pytest.raises(ImageError) as caught:
        epoch_of(folder, 4, **keys, **PLAIN)
    message = str(caught.value)
    assert tells(message, "4", "5")
    for number in range(4):
        assert tells(message, f"{number:02}/a.png")
    assert len(epoch_of(folder, 4, **{**keys, "max_unreadable": 4}, **PLAIN)) == 1


def test_a_limit_of_none_stops_at_the_first(folder: Path) -> None:
    spoil(folder, *range(COUNT))
    with pytest.raises(ImageError, match=naming("4", "0")):
        epoch_of(folder, 0, max_unreadable=0)


def test_images_of_which_none_can_be_read_are_refused(folder: Path) -> None:
    spoil(folder, *range(COUNT))
    with pytest.raises(ImageError, match=naming("26", "training")):
        epoch_of(folder, 0, max_unreadable=1000)


# --- processes


class Echo:
    """Makes images of what it is told, and fails or dies when told so."""

    def __call__(self, item: np.ndarray, out: np.ndarray) -> tuple[int, list]:
        number, how = map(int, item)
        if how == 1:
            raise KeyError("a bug")
        if how == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        out[...] = number
        return number, [(number, "why")] if number % 3 == 0 else []


def items(count: int, how: int = 0) -> np.ndarray:
    """Batches of five."""
    numbers = np.arange(count * 5).reshape(count, 5)
    return np.stack([numbers, np.where(numbers == 3 * 5 + 2, how, 0)], axis=2)


def process_ids() -> list[int]:
    """The processes that this one has started, less those that have ended."""
    return [process.pid for process in multiprocessing.active_children()]


def echo_workers(count: int = 2) -> ImageProcesses:
    return ImageProcesses(Echo(), count, (5, 2), (2, 3, 1))


def gone(process_ids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, process_ids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(psutil.pid_exists, process_ids))


def test_batches_come_in_order_from_processes_that_stay(folder: Path) -> None:
    with echo_workers() as workers:
        assert process_ids() == []
        for _ in range(2):
            for number, made in enumerate(workers.make(items(9))):
                expected = np.arange(number * 5, number * 5 + 5)
                assert np.array_equal(made.used, expected)
                assert (made.pixels == expected[:, None, None, None]).all()
                assert made.unreadable == [(n, "why") for n in expected.tolist() if n % 3 == 0]
            started = process_ids()
            assert len(started) == 2 and os.getpid() not in started
        assert process_ids() == started
    assert gone(started) and process_ids() == []


def test_batches_that_nobody_took_do_not_reach_the_next_epoch() -> None:
    with echo_workers() as workers:
        for taken in range(4):
            made = workers.make(items(9)[4:])
            for _ in range(taken):
                next(made)
            made.close()
            firsts = [int(made.used[0]) for made in workers.make(items(9))]
            assert firsts == list(range(0, 45, 5))


def test_an_error_in_a_process_is_told_here() -> None:
    with echo_workers() as workers:
        with pytest.raises(KeyError) as caught:
            list(workers.make(items(9, how=1)))
        assert "in _fill" in str(caught.value.__cause__)
        assert process_ids() == []
        assert len(list(workers.make(items(2)))) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_process_that_is_killed_at_work_is_told_here(count: int) -> None:
    with echo_workers(count) as workers:
        made = workers.make(items(9, how=2))
        with pytest.raises(TrainingError, match=naming("9", "killed")):
            list(made)
        assert process_ids() == []


def test_a_process_that_is_killed_idle_is_told_here_and_the_others_end(folder: Path) -> None:
    with open_batches(folder, num_parallel_workers=2) as batches:
        made = batches.epoch(0)
        next(made)
        started = process_ids()
        os.kill(started[0], signal.SIGKILL)
        with pytest.raises(TrainingError, match=naming(started[0], "9")):
            for epoch in range(99):
                list(batches.epoch(epoch))
        assert gone(started)
        assert len(list(batches.epoch(0))) == 6


def test_the_only_process_being_gone_is_told_here() -> None:
    with echo_workers(1) as workers:
        made = workers.make(items(9))
        next(made)
        (process_id,) = process_ids()
        os.kill(process_id, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):  # once the pool has collected it
            while psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
        with pytest.raises(TrainingError, match=naming("9", "killed")):
            list(made)


@pytest.mark.sampled
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_processes_leave_signals_to_this_one(number: signal.Signals) -> None:
    with echo_workers() as workers:
        made = workers.make(items(9))
        next(made)
        for process_id in process_ids():
            os.kill(process_id, number)
        assert len(list(made)) == 8


@pytest.mark.long
def test_nothing_is_left_open() -> None:
    with echo_workers() as workers:
        list(workers.make(items(2)))  # also starts what multiprocessing keeps for itself
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with echo_workers() as workers:
            list(workers.make(items(2)))
    del workers
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_signals_and_the_script_are_as_before() -> None:
    main = sys.modules["__main__"]
    with echo_workers() as workers:
        list(workers.make(items(1)))
    assert sys.modules["__main__"] is main
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


def test_a_terminal_that_closes_leaves_what_multiprocessing_counts_with(folder: Path) -> None:
    script = folder.parent / "hung_up.py"
    script.write_text(HUNG_UP)
    run = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "True 8\n", "")


def test_no_more_processes_than_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    assert [process_count(asked) for asked in (0, 1, 1000)] == [0, 1, cores]


HUNG_UP = """
import os, signal
from tests.pvt_train.input.test_loader import echo_workers, items

signal.signal(signal.SIGHUP, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # as every command of ours has it
with echo_workers() as workers:
    made = workers.make(items(9))
    next(made)
    os.killpg(0, signal.SIGHUP)
    still = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print(still, len(list(made)))
"""

SCRIPT = """
import os, signal, sys, time
import torch
from tests.pvt_train.input.test_loader import Path, open_batches, process_ids

print("script runs", flush=True)
batches = open_batches(Path(sys.argv[1]), num_parallel_workers=2)
made = batches.epoch(0)
next(made)
for process_id in process_ids():
    os.kill(process_id, signal.SIGINT)  # left to this process, from the first start on
    os.kill(process_id, signal.SIGTERM)
assert len(list(made)) == 5
for process_id in process_ids():
    print(process_id, "torch" in open(f"/proc/{process_id}/maps").read(), flush=True)
if sys.argv[2] == "wait":
    time.sleep(600)
"""


def run_script(folder: Path, how: str) -> subprocess.Popen[str]:
    """Without a guard around it, and without closing anything."""
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, folder, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_processes_run_no_script_load_no_framework_and_end_without_a_word(folder: Path) -> None:
    out, errors = run_script(folder, "end").communicate(timeout=120)
    first, *lines = out.splitlines()
    assert first == "script runs" and errors == ""
    assert len(lines) == process_count(2) and all(line.endswith(" False") for line in lines)
    assert gone([int(line.split()[0]) for line in lines])


@pytest.mark.sampled
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_however_this_one_does(folder: Path, number: signal.Signals) -> None:
    with run_script(folder, "wait") as process:
        lines = [process.stdout.readline() for _ in range(1 + process_count(2))]
        process.send_signal(number)
        process.communicate(timeout=60)
    assert gone([int(line.split()[0]) for line in lines[1:]])


@pytest.mark.parametrize(
    ("place", "name"), [(Queue, "_start_thread"), (ProcessPoolExecutor, "submit")]
)
def test_where_no_more_threads_can_be_started_that_is_said(
    place: type, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """The pool's own thread ended, and the run waited for it for ever."""

    def start(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(place, name, start)
    before = multiprocessing.active_children()
    said = naming("new thread", "--num-parallel-workers")
    with open_batches(folder, num_parallel_workers=2) as batches:  # noqa: SIM117
        with pytest.raises(TrainingError, match=said):
            next(iter(batches.epoch(0)))
    assert capfd.readouterr().err == ""
    gc.collect()
    for child in multiprocessing.active_children():
        if child not in before:
            child.join(10)
    assert not {*multiprocessing.active_children()} - {*before}
