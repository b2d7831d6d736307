"""Crops, flips, jitter and erasing against closed forms and distributions."""

import pickle
from itertools import permutations
from math import exp, log, sqrt

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pvt_spec import ConfigError, Preprocessing, default_preprocessing, make_config
from pvt_train.input import augmentation
from pvt_train.input.augmentation import (
    Augmentation,
    augmentation_problems,
    crop_box,
    flip,
    jitter_colours,
    jitter_strengths,
)
from pvt_train.input.erasing import check_fill, erase, erased_box, fill
from pvt_train.input.randomness import RandomUse, generator
from pvt_train.recipe.keys import Recipe
from tests.support.messages import naming

DRAWS = 4000
PREPROCESSING = default_preprocessing(make_config("pvt_tiny"), "official")
GREY = Preprocessing(mean=(0.485,), std=(0.229,))
PLAIN = dict(hflip=0.0, auto_augment=None, color_jitter=0.0, re_prob=0.0)
"""A recipe that leaves the crop as it is."""


def draws(*place: int) -> np.random.Generator:
    return generator(0, RandomUse.AUGMENTATION, *place)


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


def test_a_crops_shape_is_width_over_height():
    left, top, right, bottom = crops(1000, 1000, (0.05, 0.1), (1.5, 3.0)).T
    shape = (right - left) / (bottom - top)
    assert 1.49 < shape.min() < 1.51 and 2.95 < shape.max() < 3.03


def test_ten_crops_are_drawn_before_the_centre_is_taken():
    # Of square crops with up to 20 times the image's area, those up to 100.5 pixels' side fit,
    # and from 99.5 on they are the whole image too.
    fits = 1.005**2 / 20
    whole = (1 - fits) ** 10 + (1 - (1 - fits) ** 10) * (1 - (0.995 / 1.005) ** 2)
    found = (crops(100, 100, (0.0, 20.0), (1.0, 1.0)) == [0, 0, 100, 100]).all(1)
    assert found.mean() == pytest.approx(whole, abs=3 * sqrt(whole * (1 - whole) / DRAWS))


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


# --- the whole


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def recipe(**changes) -> Recipe:
    return Recipe("pvt_tiny", **{**PLAIN, **changes})


@pytest.mark.parametrize(
    ("shape", "preprocessing"), [((32, 48, 3), PREPROCESSING), ((32, 48), GREY)]
)
def test_nothing_asked_for_is_nothing_done(shape, preprocessing):
    pixels = noise(*shape)
    out = Augmentation(recipe(), preprocessing).finish(Image.fromarray(pixels), draws())
    assert out.dtype == np.uint8 and out.flags.writeable
    assert np.array_equal(out, pixels.reshape(32, 48, -1))


def test_crops_are_the_recipes():
    made = Augmentation(recipe(scale=(0.2, 0.4), ratio=(0.5, 2.0)), PREPROCESSING)
    assert made.crop(90, 70, draws(3)) == crop_box(90, 70, (0.2, 0.4), (0.5, 2.0), draws(3))


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-inc1", "randaug-m9-inc1"])
def test_an_image_is_a_function_of_its_random_numbers(auto_augment):
    made = Augmentation(Recipe("pvt_tiny", auto_augment=auto_augment), PREPROCESSING)
    again, image = pickle.loads(pickle.dumps(made)), Image.fromarray(noise(32, 48, 3))
    first = [made.finish(image, draws(i)) for i in range(20)]
    assert all(np.array_equal(again.finish(image, draws(i)), first[i]) for i in range(20))
    # A quarter of them is left alone by RandAugment, and may be by the rest.
    assert len({each.tobytes() for each in first}) > 10


def test_colours_are_jittered_only_without_randaugment():
    image = Image.fromarray(noise(16, 16, 3))

    def seen(auto_augment: str | None, color_jitter: float) -> list[bytes]:
        made = Augmentation(
            recipe(auto_augment=auto_augment, color_jitter=color_jitter), PREPROCESSING
        )
        return [made.finish(image, draws(i)).tobytes() for i in range(10)]

    assert seen(None, 0.0) == [image.tobytes()] * 10
    assert image.tobytes() not in seen(None, 0.8)
    assert seen("rand-m9", 0.0) == seen("rand-m9", 0.8)


def test_erasing_comes_last():
    made = Augmentation(
        recipe(auto_augment="rand-m9-n5-p1", re_prob=1.0, re_scale=(0.2, 0.3), vflip=0.5),
        PREPROCESSING,
    )
    image = Image.fromarray(np.full((64, 64, 3), 250, np.uint8))
    mean = [124, 116, 104]
    share = [(made.finish(image, draws(i)) == mean).all(2).mean() for i in range(50)]
    assert min(share) > 0.19


@pytest.mark.parametrize(
    ("shape", "preprocessing", "mean"),
    [((32, 32, 3), PREPROCESSING, (124, 116, 104)), ((32, 32), GREY, (124,))],
)
def test_what_randaugment_uncovers_has_the_mean_colour(shape, preprocessing, mean):
    made = Augmentation(recipe(auto_augment="rand-m10-n1-p1"), preprocessing)
    white = Image.fromarray(np.full(shape, 255, np.uint8))
    images = [made.finish(white, draws(i)) for i in range(300)]
    corners = [tuple(image[y, x]) for image in images for y in (0, -1) for x in (0, -1)]
    # Of fifteen operations, five move pixels; each uncovers at least one corner.
    assert 1 / 15 < corners.count(mean) / len(corners) < 5 / 15
    assert corners.count(tuple(128 for _ in mean)) == 0


def test_a_mean_beyond_pixels_fills_with_the_nearest():
    far = Preprocessing((32, 32), mean=(-1.0, 2.0**40, 0.5), std=(1.0, 1.0, 1.0))
    made = Augmentation(recipe(auto_augment="rand-m10-n1-p1"), far)
    grey = Image.fromarray(np.full((32, 32, 3), 7, np.uint8))
    corners = {tuple(made.finish(grey, draws(i))[0, 0]) for i in range(100)}
    assert (0, 255, 128) in corners


def test_all_that_is_wrong_is_named_at_once():
    wrong = recipe(auto_augment="rand-q1", color_jitter=(0.1, 0.1), re_value="noise")
    problems = list(augmentation_problems(wrong))
    for named, problem in zip(
        ("'q1'", "color_jitter is (0.1, 0.1)", "'noise'"), problems, strict=True
    ):
        assert named in problem
    assert not list(augmentation_problems(Recipe("pvt_tiny")))


# --- flips


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_images_are_mirrored_with_the_probability_asked_for(axis, probability):
    pixels = noise(8, 8)
    asked = [0.0, 0.0]
    asked[1 - axis] = probability
    mirrored = 0
    for i in range(1000):
        out = np.asarray(flip(Image.fromarray(pixels), *asked, draws(i)))
        mirrored += np.array_equal(out, np.flip(pixels, axis))
        assert np.array_equal(out, pixels) or np.array_equal(out, np.flip(pixels, axis))
    error = 4 * sqrt(probability * (1 - probability) / 1000)
    assert mirrored / 1000 == pytest.approx(probability, abs=error)


def test_both_mirrors_are_independent():
    pixels = noise(8, 8)
    outs = [np.asarray(flip(Image.fromarray(pixels), 0.5, 0.5, draws(i))) for i in range(2000)]
    kinds = [pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]]
    counts = [sum(np.array_equal(out, kind) for out in outs) for kind in kinds]
    assert sum(counts) == 2000 and stats.chisquare(counts).pvalue > 0.001


# --- jitter


def recorded(monkeypatch, strengths: tuple[float, ...], count: int) -> list[list[tuple]]:
    """For each of ``count`` images: (which, factor), in the order they were applied."""
    images: list[list[tuple]] = []

    def recorder(name: str):
        def record(image, factor):
            images[-1].append((name, factor))
            return image

        return record

    monkeypatch.setattr(augmentation, "JITTERS", tuple(map(recorder, "bcsh")))
    for i in range(count):
        images.append([])
        jitter_colours(Image.new("RGB", (1, 1)), strengths, draws(i))
    return images


def test_jitter_comes_in_every_order(monkeypatch):
    images = recorded(monkeypatch, (0.4, 0.4, 0.4), 3000)
    orders = ["".join(name for name, _ in image) for image in images]
    counts = [orders.count("".join(order)) for order in permutations("bcs")]
    assert sum(counts) == 3000 and stats.chisquare(counts).pvalue > 0.001


def test_jitters_factors_are_uniform_around_one(monkeypatch):
    images = recorded(monkeypatch, (0.4, 0.9, 1.5, 0.25), 3000)
    for name, low, high in [("b", 0.6, 1.4), ("c", 0.1, 1.9), ("s", 0, 2.5), ("h", 0.75, 1.25)]:
        factors = [dict(image)[name] for image in images]
        assert stats.kstest(factors, "uniform", (low, high - low)).pvalue > 0.001


def test_what_has_no_strength_is_not_jittered(monkeypatch):
    assert {len(image) for image in recorded(monkeypatch, (0.0, 0.4, 0.0), 50)} == {1}


def jittered(which: int, factor: float, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(augmentation.JITTERS[which](Image.fromarray(pixels), factor)).astype(int)


def test_each_jitter_changes_what_it_is_named_for():
    pixels = noise(8, 8, 3)
    luma = (pixels @ [0.299, 0.587, 0.114]).round()
    for which in range(3):
        assert np.array_equal(jittered(which, 1.0, pixels), pixels)
    assert np.abs(jittered(0, 0.5, pixels) - pixels * 0.5).max() <= 1
    assert np.abs(jittered(1, 0.5, pixels) - (pixels + luma.mean()) / 2).max() <= 1
    assert np.abs(jittered(2, 0.5, pixels) - (pixels + luma[:, :, None]) / 2).max() <= 1


def test_hue_turns_the_circle_of_colours():
    red = np.array([[[255, 0, 0]]], np.uint8)
    for turns, colour in [(0, (255, 0, 0)), (1 / 3, (0, 255, 0)), (-1 / 3, (0, 0, 255))]:
        # Pillow's circle has 256 steps, a third of it is between two.
        assert np.abs(jittered(3, 1 + turns, red)[0, 0] - colour).max() <= 6
    grey = noise(4, 4)
    assert np.array_equal(jittered(3, 1.3, grey), grey)


def test_strengths_are_one_number_three_or_four():
    assert jitter_strengths(None) == ()
    assert jitter_strengths(0.4) == (0.4, 0.4, 0.4)
    assert jitter_strengths((0.1, 0.2, 0.3)) == (0.1, 0.2, 0.3)
    assert jitter_strengths((0.1, 0.2, 0.3, 0.5)) == (0.1, 0.2, 0.3, 0.5)
    for wrong in (-0.1, float("nan"), float("inf"), (), (0.1,), (0.1,) * 5, (0.1, 0.1, 0.1, 0.6)):
        with pytest.raises(ConfigError, match=naming("color_jitter")):
            jitter_strengths(wrong)


# --- erasing


def boxes(width: int, height: int, scale, ratio, attempts: int = 10) -> list:
    return [erased_box(width, height, scale, ratio, attempts, draws(i)) for i in range(DRAWS)]


def test_erased_boxes_have_the_areas_shapes_and_places_of_mindspores():
    left, top, right, bottom = np.array(boxes(3000, 2000, (0.1, 0.2), (0.4, 1.6))).T
    w, h = right - left, bottom - top
    assert stats.kstest(w * h / 6e6, "uniform", (0.1, 0.1)).pvalue > 0.001
    assert stats.kstest(w / h, "uniform", (0.4, 1.2)).pvalue > 0.001
    # Shuffled below a pixel, so that whole places are as good as uniform ones.
    shift = np.random.default_rng(0).random(DRAWS)
    assert stats.kstest((left + shift) / (3000 - w + 1), "uniform").pvalue > 0.001
    assert stats.kstest((top + shift) / (2000 - h + 1), "uniform").pvalue > 0.001


def test_erased_boxes_reach_every_edge_and_never_fill_a_side():
    found = np.array([box for box in boxes(9, 7, (0.02, 0.5), (0.3, 3.3)) if box])
    assert found[:, :2].min(0).tolist() == [0, 0] and found[:, 2:].max(0).tolist() == [9, 7]
    assert (found[:, 2] - found[:, 0]).max() == 8 and (found[:, 3] - found[:, 1]).max() == 6


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_box_is_drawn_as_often_as_asked_for(attempts):
    # Of square boxes with up to twice the image's area, those below 99.5 pixels' side fit.
    fits = 0.995**2 / 2
    none = (1 - fits) ** attempts
    found = boxes(100, 100, (0.0, 2.0), (1.0, 1.0), attempts)
    assert found.count(None) / DRAWS == pytest.approx(none, abs=4 * sqrt(none / DRAWS))


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_images_are_erased_with_the_probability_asked_for(probability):
    erased = 0
    for i in range(1000):
        pixels = np.zeros((16, 16, 1), np.uint8)
        erase(pixels, recipe(re_prob=probability), GREY, draws(i))
        erased += bool(pixels.any())
    error = 4 * sqrt(probability * (1 - probability) / 1000)
    assert erased / 1000 == pytest.approx(probability, abs=error)


def test_only_the_box_is_erased():
    asked = recipe(re_prob=1.0, re_scale=(0.1, 0.3), re_ratio=(0.5, 1.5))
    before = noise(20, 30, 3)
    before[(before == [124, 116, 104]).all(2)] = 0
    for i in range(50):
        pixels = before.copy()
        erase(pixels, asked, PREPROCESSING, draws(i))
        rng = draws(i)
        rng.random()
        left, top, right, bottom = erased_box(30, 20, (0.1, 0.3), (0.5, 1.5), 10, rng)
        inside = np.zeros((20, 30), bool)
        inside[top:bottom, left:right] = True
        assert (pixels[inside] == [124, 116, 104]).all()
        assert np.array_equal(pixels[~inside], before[~inside])


def test_an_image_that_no_box_fits_stays():
    pixels = noise(8, 8, 3)
    before = pixels.copy()
    erase(pixels, recipe(re_prob=1.0, re_scale=(1.0, 1.0)), PREPROCESSING, draws())
    assert np.array_equal(pixels, before)


def test_a_number_fills_with_the_pixel_nearest_to_it():
    assert fill((2, 2, 3), 0.0, PREPROCESSING, draws()).ravel().tolist() == [124, 116, 104]
    # 0.485 * 255 + 0.229 * 255 = 182.07, and so on; beyond white is white.
    assert fill((2, 2, 3), 1, PREPROCESSING, draws()).ravel().tolist() == [182, 173, 161]
    assert fill((2, 2, 3), -9.0, PREPROCESSING, draws()).ravel().tolist() == [0, 0, 0]
    assert fill((2, 2, 3), 9.0, PREPROCESSING, draws()).ravel().tolist() == [255, 255, 255]


def clipped_normal(mean: float, std: float) -> tuple[float, float]:
    """Mean and deviation of a normal variable rounded and clipped to 0..255."""
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    share = np.diff(stats.norm.cdf(edges, mean, std))
    first = (share * np.arange(256)).sum()
    return first, sqrt((share * (np.arange(256) - first) ** 2).sum())


@pytest.mark.parametrize("value", ["random", "pixel", "rand"])
def test_random_fills_are_standard_normal_in_normalised_units(value):
    if value == "rand":
        fills = [fill((5, 4, 3), value, PREPROCESSING, draws(i)) for i in range(DRAWS)]
        assert {each.shape for each in fills} == {(1, 1, 3)}
        drawn = np.concatenate(fills)[:, 0]
    else:
        drawn = fill((DRAWS // 50, 50, 3), value, PREPROCESSING, draws()).reshape(-1, 3)
    assert drawn.shape == (DRAWS, 3) and drawn.dtype == np.uint8
    for channel, values in enumerate(drawn.T):
        mean, std = clipped_normal(
            PREPROCESSING.mean[channel] * 255, PREPROCESSING.std[channel] * 255
        )
        assert values.mean() == pytest.approx(mean, abs=4 * std / sqrt(DRAWS))
        assert values.std() == pytest.approx(std, rel=0.05)
    assert np.abs(np.corrcoef(drawn.T.astype(float))[np.triu_indices(3, 1)]).max() < 0.07


def test_fills_are_named_or_finite_numbers():
    for right in ("random", "pixel", "rand", 0, -1.5):
        check_fill(right)
    for wrong in ("noise", "", float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=naming("re_value")):
            check_fill(wrong)
