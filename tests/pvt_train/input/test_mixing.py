"""Mixup and CutMix against their distributions, by hand, and the losses of two frameworks."""

import numpy as np
import pytest
import torch
from scipy import stats

from pvt_train.input.mixing import Mix, apply, cut_box, draw_mix, partners, smooth_labels
from pvt_train.input.randomness import RandomUse, generator
from pvt_train.recipe.keys import Recipe
from tests.support.runtimes import import_mindspore

DRAWS = 4000
SIZE = (120, 200)


def rng(*place: int) -> np.random.Generator:
    return generator(0, RandomUse.MIXING, *place)


def mixes(count: int = DRAWS, size: tuple[int, int] = SIZE, **changes) -> list[Mix]:
    recipe = Recipe("pvt_tiny", **changes)
    return [draw_mix(recipe, size, rng(step)) for step in range(count)]


def area(box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


# --- who is mixed with whom


def test_neighbours_are_partners():
    assert partners(6).tolist() == [1, 0, 3, 2, 5, 4]
    assert partners(5).tolist() == [1, 0, 3, 2, 4]
    assert partners(1).tolist() == [0]
    for count in range(1, 20):
        assert partners(count)[partners(count)].tolist() == list(range(count))


@pytest.mark.parametrize("workers", [2, 3, 6])
def test_workers_with_even_batches_mix_the_same_pairs(workers):
    share = 12 // workers
    cut = np.concatenate([partners(share) + rank * share for rank in range(workers)])
    assert np.array_equal(cut, partners(12))


# --- what is drawn


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_mixups_share_is_beta_distributed(alpha):
    found = mixes(mixup=alpha, cutmix=0.0)
    assert all(mix.box is None for mix in found)
    assert stats.kstest([mix.share for mix in found], "beta", (alpha, alpha)).pvalue > 0.001


@pytest.mark.parametrize("switch", [0.0, 0.3, 1.0])
def test_batches_switch_between_both(switch):
    boxes = [mix.box is not None for mix in mixes(mixup_switch_prob=switch)]
    error = 4 * (switch * (1 - switch) / DRAWS) ** 0.5
    assert np.mean(boxes) == pytest.approx(switch, abs=error)


@pytest.mark.parametrize("switch", [0.0, 1.0])
def test_switching_needs_both(switch):
    assert all(m.box for m in mixes(50, mixup=0.0, cutmix=1.0, mixup_switch_prob=switch))
    assert not any(m.box for m in mixes(50, mixup=0.8, cutmix=0.0, mixup_switch_prob=switch))


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.0}, {"cutmix": 0.0}])
def test_batches_are_mixed_with_the_probability_asked_for(probability, changes):
    found = [mix != Mix(1.0) for mix in mixes(cutmix_prob=probability, **changes)]
    # A box drawn around a corner may be empty, as may mixup's share be 1.
    error = 4 * (probability * (1 - probability) / DRAWS) ** 0.5 + 0.02 * probability
    assert np.mean(found) == pytest.approx(probability, abs=error)


def test_both_off_is_no_mixing():
    assert set(mixes(100, mixup=0.0, cutmix=0.0)) == {Mix(1.0)}


def test_cutmixs_share_is_what_the_box_leaves_exactly():
    for mix in mixes(mixup=0.0):
        left, top, right, bottom = mix.box
        assert 0 <= left <= right <= 200 and 0 <= top <= bottom <= 120
        covered = np.zeros(SIZE)
        covered[top:bottom, left:right] = 1
        assert mix.share == 1 - covered.sum() / covered.size


def test_cutmixs_boxes_cover_what_they_do_in_expectation():
    # A side of r of the image's, centred anywhere in it, covers r - r^2 / 4 on average, and r^2
    # is uniform for alpha 1: the mean of (r - r^2 / 4)^2 is 1/2 - 1/5 + 1/48.
    shares = np.array([1 - mix.share for mix in mixes(size=(2000, 3000), mixup=0.0)])
    error = 4 * shares.std() / DRAWS**0.5
    assert shares.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=error + 0.001)


def test_boxes_that_are_not_cut_off_have_the_area_and_shape_asked_for():
    boxes = [cut_box((2000, 3000), 0.75, rng(i)) for i in range(DRAWS)]
    whole = [b for b in boxes if b[0] > 0 and b[1] > 0 and b[2] < 3000 and b[3] < 2000]
    assert {(right - left, bottom - top) for left, top, right, bottom in whole} == {(1500, 1000)}
    # The centre is in the middle quarter then.
    assert len(whole) / DRAWS == pytest.approx(1 / 4, abs=4 * (3 / 16 / DRAWS) ** 0.5)
    assert {area(cut_box((7, 9), 1.0, rng(i))) for i in range(50)} == {0}


def test_boxes_have_their_centre_anywhere():
    boxes = np.array([cut_box((2000, 3000), 0.9999, rng(i)) for i in range(DRAWS)])
    # 1 % of each side, so hardly one is cut off.
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    assert stats.kstest(x / 3000, "uniform").pvalue > 0.001
    assert stats.kstest(y / 2000, "uniform").pvalue > 0.001


def test_boxes_have_timms_sides():
    # int(7 * sqrt(0.7)) = 5 and int(9 * sqrt(0.7)) = 7, two and three on each side of a pixel.
    boxes = {cut_box((7, 9), 0.3, rng(i)) for i in range(DRAWS)}
    expected = {
        (max(x - 3, 0), max(y - 2, 0), min(x + 3, 9), min(y + 2, 7))
        for x in range(9)
        for y in range(7)
    }
    assert boxes == expected


# --- what is done with it


def batch(count: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(count)
    pixels = source.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return pixels, smooth_labels(np.arange(count) % 4, 4, 0.1)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_cutmix_exchanges_the_box_and_mixes_targets(count):
    pixels, targets = batch(count)
    before, goals = pixels.copy(), targets.copy()
    out, mixed, mixing = apply(Mix(0.75, (1, 2, 5, 5)), pixels, targets)
    assert out is pixels and mixing.dtype == mixed.dtype == np.float32
    assert mixing.tolist() == [1.0] * count
    for i in range(count):
        j = i if i == count - 1 and count % 2 else i + 1 if i % 2 == 0 else i - 1
        for y in range(6):
            for x in range(8):
                source = j if 1 <= x < 5 and 2 <= y < 5 else i
                assert np.array_equal(out[i, y, x], before[source, y, x])
        assert mixed[i] == pytest.approx(0.75 * goals[i] + 0.25 * goals[j], abs=1e-7)
    assert np.array_equal(targets, goals)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_mixup_mixes_targets_and_leaves_pixels_to_the_device(count):
    pixels, targets = batch(count)
    before = pixels.copy()
    out, mixed, mixing = apply(Mix(0.3), pixels, targets)
    assert np.array_equal(out, before) and mixing.dtype == mixed.dtype == np.float32
    assert mixing.tolist() == [np.float32(0.3)] * count
    for i in range(count):
        j = i if i == count - 1 and count % 2 else i + 1 if i % 2 == 0 else i - 1
        assert mixed[i] == pytest.approx(0.3 * targets[i] + 0.7 * targets[j], abs=1e-7)
    assert mixed.sum(1) == pytest.approx(1, abs=1e-6)


def test_no_mixing_changes_no_bit():
    pixels, targets = batch(6)
    out, mixed, mixing = apply(Mix(1.0), pixels.copy(), targets)
    assert np.array_equal(out, pixels) and np.array_equal(mixed, targets)
    assert mixing.tolist() == [1.0] * 6


# --- targets


def test_targets_take_no_square_of_the_classes():
    targets = smooth_labels(np.array([7, 199_999]), 200_000, 0.0)
    assert targets.argmax(axis=1).tolist() == [7, 199_999] and targets.sum() == 2


def test_smoothed_labels_are_szegedys():
    targets = smooth_labels(np.array([1, 3]), 4, 0.2)
    assert targets.dtype == np.float32
    assert targets.tolist() == [
        pytest.approx([0.05, 0.85, 0.05, 0.05]),
        pytest.approx([0.05, 0.05, 0.05, 0.85]),
    ]


def mean_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-(targets * log_softmax).sum(1).mean())


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothing_before_mixing_is_smoothing_in_the_loss(share, smoothing):
    """As MindCV does: its mixing gets smoothing 0, its cross-entropy the recipe's."""
    labels = np.array([1, 3, 0, 2, 2, 4])
    logits = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    _, ours, _ = apply(Mix(share), pixels, smooth_labels(labels, 5, smoothing))
    _, hard, _ = apply(Mix(share), pixels, smooth_labels(labels, 5, 0.0))
    loss = mean_cross_entropy(logits, ours)
    peer = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(hard), label_smoothing=smoothing
    )
    assert loss == pytest.approx(float(peer), rel=1e-6)
    mindspore = import_mindspore()
    theirs = mindspore.ops.cross_entropy(
        mindspore.Tensor(logits), mindspore.Tensor(hard), label_smoothing=smoothing
    )
    assert loss == pytest.approx(float(theirs.asnumpy()), rel=1e-6)
