"""Training images and randomness against closed forms and distributions."""

from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvt_spec import default_preprocessing, make_config
from pvt_train.data import TrainingImages, augment, crop_box, smooth_labels
from pvt_train.optimizer import BETAS, EPS, adamw_update, parameter_groups
from pvt_train.randomness import Stream, drop_path_scales, epoch_order, generator
from pvt_train.recipe import Recipe

DRAWS = 4000
CONFIG = make_config("pvt_nano", drop_path_rate=0.3)


def draws(*place: int) -> np.random.Generator:
    return generator(0, Stream.AUGMENTATION, *place)


def crops(width: int, height: int, scale, ratio) -> np.ndarray:
    return np.array([crop_box(width, height, scale, ratio, draws(i)) for i in range(DRAWS)])


def test_crops_have_the_areas_shapes_and_places_that_are_asked_for():
    scale, ratio = (0.2, 0.4), (0.5, 2.0)
    left, top, right, bottom = crops(1000, 1000, scale, ratio).T
    area, shape = (right - left) * (bottom - top) / 1e6, (right - left) / (bottom - top)
    # A uniform variable's mean and deviation, within four standard errors; 1 % for the rounding.
    error = 4 * 0.2 / sqrt(12) / sqrt(DRAWS)
    assert area.mean() == pytest.approx(0.3, abs=error)
    assert area.std() == pytest.approx(0.2 / sqrt(12), rel=0.05)
    assert np.log(shape).mean() == pytest.approx(0, abs=4 * log(4) / sqrt(12 * DRAWS))
    assert np.log(shape).std() == pytest.approx(log(4) / sqrt(12), rel=0.05)
    assert (left / (1000 - (right - left))).mean() == pytest.approx(0.5, abs=4 / sqrt(12 * DRAWS))
    assert (top / (1000 - (bottom - top))).mean() == pytest.approx(0.5, abs=4 / sqrt(12 * DRAWS))
    assert area.min() > 0.2 * 0.99 and area.max() < 0.4 * 1.01
    assert shape.min() > exp(-log(2)) * 0.99 and shape.max() < 2 * 1.01


def test_crops_reach_every_edge_and_stay_inside():
    boxes = crops(9, 7, (0.3, 1.0), (0.75, 1.333))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min(axis=0).tolist()[:2] == [0, 0]
    assert boxes.max(axis=0).tolist()[2:] == [9, 7]


@pytest.mark.parametrize(
    ("size", "box"), [((100, 10), (43, 0, 56, 10)), ((10, 100), (0, 43, 10, 56))]
)
def test_a_shape_that_never_fits_is_cut_from_the_centre(size, box):
    assert crop_box(*size, (1.0, 1.0), (0.75, 1.333), draws()) == box


@pytest.mark.parametrize("hflip", [0.0, 0.3, 1.0])
def test_images_are_mirrored_with_the_probability_asked_for(hflip):
    recipe = Recipe("pvt_nano", hflip=hflip, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    image = Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1)))
    mirrored = [
        np.asarray(augment(image, (32, 32), recipe, draws(i)))[0, 0] > 100 for i in range(1000)
    ]
    assert np.mean(mirrored) == pytest.approx(hflip, abs=4 * sqrt(hflip * (1 - hflip) / 1000))


def test_a_whole_crop_of_the_right_size_is_the_image_itself():
    recipe = Recipe("pvt_nano", hflip=0.0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    out = augment(Image.fromarray(pixels), (32, 32), recipe, draws())
    assert np.array_equal(np.asarray(out), pixels)


def test_smoothed_labels_are_szegedys():
    targets = smooth_labels(np.array([1, 3]), 4, 0.2)
    assert targets.dtype == np.float32
    assert targets.tolist() == [
        pytest.approx([0.05, 0.85, 0.05, 0.05]),
        pytest.approx([0.05, 0.05, 0.05, 0.85]),
    ]


def image_folder(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        target = folder / "ab"[i % 2] / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(target)
    return folder


def epoch_of(images: TrainingImages, epoch: int, **changes) -> tuple[np.ndarray, np.ndarray]:
    recipe = Recipe("pvt_nano", **changes)
    preprocessing = default_preprocessing(CONFIG, "official")
    pairs = list(images.batches(epoch, recipe, preprocessing))
    return tuple(np.concatenate(arrays) for arrays in zip(*pairs, strict=True))


def test_an_image_of_an_epoch_is_the_same_in_batches_of_any_size(tmp_path):
    images = TrainingImages(image_folder(tmp_path, 12))
    pixels, targets = epoch_of(images, 1, batch_size=4)
    assert pixels.shape == (12, 3, 32, 32) and pixels.dtype == np.float32
    for size in (3, 12):
        again = epoch_of(images, 1, batch_size=size)
        assert np.array_equal(again[0], pixels) and np.array_equal(again[1], targets)
    for other in (epoch_of(images, 2, batch_size=4), epoch_of(images, 1, batch_size=4, seed=1)):
        assert not np.array_equal(other[0], pixels)


def test_the_rest_of_the_last_batch_is_left_out_and_few_images_are_one_batch(tmp_path):
    images = TrainingImages(image_folder(tmp_path, 7))
    few, many = Recipe("pvt_nano", batch_size=3), Recipe("pvt_nano", batch_size=8)
    assert (images.steps_per_epoch(few), images.batch_size(few)) == (2, 3)
    assert (images.steps_per_epoch(many), images.batch_size(many)) == (1, 7)
    assert len(epoch_of(images, 0, batch_size=3)[0]) == 6
    assert len(epoch_of(images, 0, batch_size=8)[0]) == 7


def test_every_epoch_has_an_order_of_its_own():
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert epoch_order(1, 2, 50).tolist() == orders[5]


def test_streams_and_places_share_no_numbers():
    """Zeros at the end of a place count too: SeedSequence pads its entropy with zeros."""
    places = [(), (0,), (0, 0), (1,), (0, 1), (1, 0)]
    first = {generator(s, stream, *p).random() for s in (0, 1) for stream in Stream for p in places}
    first |= {np.random.default_rng(seed).random() for seed in (0, 1)}
    assert len(first) == 2 * len(Stream) * len(places) + 2


def test_branches_are_dropped_at_their_blocks_rates():
    scales = drop_path_scales(CONFIG, 0, 7, DRAWS)
    assert scales.shape == (4, 2, DRAWS) and scales.dtype == np.float32
    for rate, block in zip([0.0, 0.1, 0.2, 0.3], scales, strict=True):
        assert set(np.unique(block)) <= {np.float32(0), np.float32(1 / (1 - rate))}
        error = 4 * sqrt(rate * (1 - rate) / (2 * DRAWS))
        assert (block == 0).mean() == pytest.approx(rate, abs=error)
    assert np.array_equal(scales, drop_path_scales(CONFIG, 0, 7, DRAWS))
    assert not np.array_equal(scales, drop_path_scales(CONFIG, 0, 8, DRAWS))


def test_no_drop_path_is_ones():
    config = make_config("pvt_nano", drop_path_rate=0.0)
    assert np.array_equal(drop_path_scales(config, 0, 0, 3), np.ones((4, 2, 3)))


def test_vectors_and_the_class_token_do_not_decay():
    decaying, others = parameter_groups(make_config("pvt_tiny"))
    assert "cls_token" in others and "pos_embed1" in decaying and "pos_embed4" in decaying
    assert {name.rpartition(".")[2] for name in decaying if "." in name} == {"weight"}
    assert all("norm" not in name for name in decaying)
    assert all(name.endswith(".bias") or "norm" in name for name in others if name != "cls_token")
    assert len(decaying) + len(others) == 161


def textbook_adamw(gradients: np.ndarray, rates: list[float], decay: float) -> float:
    """Loshchilov and Hutter's algorithm 2, in float64, from a weight of 1."""
    w, m, v = 1.0, 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        w -= lr * (m / (1 - BETAS[0] ** t) / (sqrt(v / (1 - BETAS[1] ** t)) + EPS) + decay * w)
    return w


@pytest.mark.parametrize("size", [1.0, 1e-8])
def test_the_update_without_bias_correction_is_adamw_with_it(size):
    gradients = np.random.default_rng(0).standard_normal(20) * size
    rates = [1e-2 * (t + 1) for t in range(20)]
    w, m, v = 1.0, 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        update = adamw_update(t, lr, 0.05)
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        w -= update.rate * (m / (sqrt(v) + update.eps) + update.decay * w)
    assert w == pytest.approx(textbook_adamw(gradients, rates, 0.05), rel=1e-13)
