"""Images are loaded ahead: in order, in several threads, no more of them than is said."""

import itertools
import threading
import time
import weakref
from queue import Queue
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pvt_data.images.ahead import ahead, answer_ahead, load_ahead, usable_cores
from pvt_spec import ImageError


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5))
def test_batches_are_the_items_in_order_whatever_takes_how_long(
    count: int, size: int, workers: int
) -> None:
    def load(item: int) -> int:
        time.sleep(item % 3 / 10000)
        return -item

    batches = [*load_ahead(load, range(count), size, workers)]
    assert [pair for batch in batches for pair in batch] == [(i, -i) for i in range(count)]
    assert all(len(batch) == size for batch in batches[:-1])
    assert not batches or 1 <= len(batches[-1]) <= size


def test_an_image_error_is_given_back_in_its_place_and_others_are_raised() -> None:
    def load(item: int) -> int:
        if item == 1:
            raise ImageError("one")
        return 10 // (item - 3)

    batches = load_ahead(load, range(4), 2, 2)
    [(zero, loaded), (one, error)] = next(batches)
    assert (zero, loaded, one) == (0, -4, 1) and isinstance(error, ImageError)
    with pytest.raises(ZeroDivisionError):
        next(batches)


def test_the_next_are_loaded_while_a_batch_is_used() -> None:
    """By as many threads as are asked for: each waits until all of them are there."""
    together, met = threading.Barrier(3), threading.Event()

    def load(item: int) -> int:
        if item >= 4:
            together.wait(10)
            met.set()
        return item

    batches = load_ahead(load, range(10), 4, 3)
    assert len(next(batches)) == 4
    assert met.wait(10)
    assert len([*batches]) == 2


class Image:
    """What can be counted."""


def test_no_more_are_in_memory_than_is_said() -> None:
    alive: set[int] = set()
    numbers = itertools.count()
    most = 0

    def load(item: int) -> Image:
        nonlocal most
        image, number = Image(), next(numbers)
        alive.add(number)
        weakref.finalize(image, alive.discard, number)
        most = max(most, len(alive))
        return image

    for _batch in load_ahead(load, range(100), 5, 3):
        time.sleep(0.001)
    assert 5 < most <= 2 * 5 + 3


def test_what_has_not_begun_never_does_once_nobody_wants_it() -> None:
    begun: list[int] = []

    def load(item: int) -> int:
        begun.append(item)
        time.sleep(0.001)
        return item

    batches = load_ahead(load, itertools.count(), 2, 2)
    next(batches)
    batches.close()
    after = len(begun)
    assert after <= 2 * 2 + 2
    time.sleep(0.02)
    assert len(begun) == after
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_thread_of_its_own_may_collect_it() -> None:
    """Who came to an error left it to the garbage, and was told of threads that join themselves."""
    left: Queue[Any] = Queue()
    told: Queue[str] = Queue()

    def make(item: int) -> int:
        if item:
            try:
                left.get().close()
                told.put("closed")
            except RuntimeError as error:
                told.put(str(error))
        return item

    made = ahead(make, range(3), 1, 2)
    assert next(made) == (0, 0)
    left.put(made)
    assert told.get(timeout=10) == "closed" and not [*made]


def test_calls_are_made_side_by_side_and_given_back_in_order() -> None:
    """Each of three waits until all of them are there; one is made by the caller's own thread."""
    together = threading.Barrier(3)

    def answer(batch: list[tuple[int, int]]) -> int:
        together.wait(10)
        return sum(loaded for _, loaded in batch)

    found = answer_ahead(answer, load_ahead(int, range(18), 2), 3)
    assert [made for _, made in found] == [4 * first + 1 for first in range(9)]
    threads = answer_ahead(lambda _: threading.current_thread(), load_ahead(int, range(6), 2), 1)
    assert {made for _, made in threads} == {threading.current_thread()}


@pytest.mark.parametrize("calls", [1, 3])
def test_what_a_call_raises_is_raised_in_its_turn_and_ends_the_others(calls: int) -> None:
    begun = itertools.count()

    def answer(batch: list[tuple[int, int]]) -> int:
        next(begun)
        time.sleep(0.001)
        return 1 // (batch[0][0] - 5)

    answers = answer_ahead(answer, load_ahead(int, itertools.count(), 1, 2), calls)
    assert [next(answers)[1] for _ in range(5)] == [-1] * 5
    with pytest.raises(ZeroDivisionError):
        next(answers)
    assert next(begun) <= 6 + calls
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_no_more_answers_wait_than_is_said() -> None:
    alive: set[int] = set()
    numbers = itertools.count()
    most = 0

    def answer(_: object) -> Image:
        nonlocal most
        image, number = Image(), next(numbers)
        alive.add(number)
        weakref.finalize(image, alive.discard, number)
        most = max(most, len(alive))
        return image

    for answered in answer_ahead(answer, load_ahead(int, range(100), 1, 2), 3):
        del answered  # the next is begun before it would be let go
        time.sleep(0.001)
    assert 3 < most <= 3 + 2


def test_there_is_a_core() -> None:
    assert usable_cores() >= 1
    assert [*load_ahead(int, [1.5], 1)] == [[(1.5, 1)]]
