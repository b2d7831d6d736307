"""RandAugment: strengths against published formulas, choices, and known pixels."""

from math import inf, sqrt

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from pvt_spec import ConfigError
from pvt_train.input.image_operations import OPERATIONS, Canvas
from pvt_train.input.rand_augment import parse_policy, rand_augment
from pvt_train.input.randomness import RandomUse, generator
from tests.support.runtimes import import_mindspore

NEAREST = Canvas((9, 8, 7), Image.Resampling.NEAREST)
NEAREST_GREY = Canvas(9, Image.Resampling.NEAREST)
TABLES = sorted(OPERATIONS)
LEVELS = (0, 5, 9, 10)

PLAIN = {"AutoContrast", "Equalize", "Invert"}
ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")
SIGNED = {
    "Rotate": (0, 15, 27, 30),
    "ShearX": (0, 0.15, 0.27, 0.3),
    "ShearY": (0, 0.15, 0.27, 0.3),
    "TranslateX": (0, 0.225, 0.405, 0.45),
    "TranslateY": (0, 0.225, 0.405, 0.45),
}
"""The argument at each of LEVELS, and its negative at the negative level."""

UNSIGNED = {
    # Bits that are kept, the least value that is inverted, what is added to dark values.
    ("rand", False): {
        "Posterize": (0, 2, 3, 4),
        "Solarize": (0, 128, 230, 256),
        "SolarizeAdd": (0, 55, 99, 110),
        **{name: (0.1, 1.0, 1.72, 1.9) for name in ENHANCEMENTS},
    },
    ("rand", True): {
        "Posterize": (4, 2, 1, 0),
        "Solarize": (256, 128, 26, 0),
        "SolarizeAdd": (0, 55, 99, 110),
    },
    ("randaug", False): {
        "Posterize": (8, 6, 5, 4),
        "Solarize": (0, 127, 229, 255),
        **{name: (0.1, 1.0, 1.72, 1.9) for name in ENHANCEMENTS},
    },
    ("randaug", True): {"Posterize": (4, 6, 7, 8), "Solarize": (255, 128, 26, 0)},
}


def draws(*place: int) -> np.random.Generator:
    return generator(0, RandomUse.AUGMENTATION, *place)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def applied(name: str, argument: float, pixels: np.ndarray, table=("rand", False)) -> np.ndarray:
    canvas = NEAREST if pixels.ndim == 3 else NEAREST_GREY
    return np.asarray(OPERATIONS[table][name].apply(Image.fromarray(pixels), argument, canvas))


# --- how strong operations are


@pytest.mark.parametrize("table", TABLES)
def test_arguments_are_those_that_timm_and_mindcv_publish(table):
    operations = OPERATIONS[table]
    for name, expected in {**SIGNED, **UNSIGNED[table]}.items():
        assert [operations[name].argument(level) for level in LEVELS] == pytest.approx(expected)
        assert operations[name].signed == (name in SIGNED)
    for name, expected in SIGNED.items():
        negative = [operations[name].argument(-level) for level in LEVELS]
        assert negative == pytest.approx([-value for value in expected])


@pytest.mark.parametrize("word", ["rand", "randaug"])
@pytest.mark.parametrize("name", ENHANCEMENTS)
def test_increasing_enhancements_go_either_way_from_none(word, name):
    operation = OPERATIONS[word, True][name]
    assert operation.signed
    assert [operation.argument(v) for v in LEVELS] == pytest.approx([1, 1.45, 1.81, 1.9])
    assert [operation.argument(-v) for v in LEVELS] == pytest.approx([1, 0.55, 0.19, 0.1])
    assert operation.argument(-20) == 0.1


@pytest.mark.parametrize("table", TABLES)
def test_the_operations_are_timms_fifteen_and_mindcvs_fourteen(table):
    names = PLAIN | set(SIGNED) | set(UNSIGNED[table]) | set(ENHANCEMENTS)
    assert set(OPERATIONS[table]) == names
    assert len(names) == {"rand": 15, "randaug": 14}[table[0]]
    assert not any(OPERATIONS[table][name].signed for name in PLAIN)


# --- which are chosen


def chosen(text: str, count: int) -> list[list[tuple[str, float]]]:
    policy = parse_policy(text)
    return [policy.draw(draws(i)) for i in range(count)]


@pytest.mark.parametrize(("text", "kinds"), [("rand-p1", 15), ("randaug-p1-inc1", 14)])
def test_every_operation_is_as_likely(text, kinds):
    names = [name for image in chosen(text, 6000) for name, _ in image]
    counts = [names.count(name) for name in sorted(set(names))]
    assert sum(counts) == 12000 and len(counts) == kinds
    assert stats.chisquare(counts).pvalue > 0.001


def test_choices_are_independent_and_may_repeat():
    pairs = [tuple(name for name, _ in image) for image in chosen("randaug-p1", 6000)]
    same = sum(first == second for first, second in pairs)
    assert same / 6000 == pytest.approx(1 / 14, abs=4 * sqrt(1 / 14 / 6000))


@pytest.mark.parametrize(("text", "n", "p"), [("rand", 2, 0.5), ("rand-n3-p0.2", 3, 0.2)])
def test_each_choice_is_applied_with_its_probability(text, n, p):
    numbers = [len(image) for image in chosen(text, 4000)]
    counts = np.bincount(numbers, minlength=n + 1)
    expected = 4000 * stats.binom.pmf(range(n + 1), n, p)
    assert stats.chisquare(counts, expected).pvalue > 0.001


def test_weights_are_mindcvs():
    names = [name for image in chosen("randaug-w0-n1-p1", 8000) for name, _ in image]
    weights = {"Rotate": 0.3, "ShearX": 0.2, "ShearY": 0.2, "TranslateX": 0.1, "TranslateY": 0.1}
    weights |= dict.fromkeys(("Color", "Sharpness", "AutoContrast"), 0.025)
    rare = ("Solarize", "Contrast", "Brightness", "Equalize", "Posterize")
    weights |= dict.fromkeys(rare, 0.005)
    assert sum(weights.values()) == pytest.approx(1)
    counts = [names.count(name) for name in weights]
    assert sum(counts) == 8000
    assert stats.chisquare(counts, 8000 * np.array([*weights.values()])).pvalue > 0.001


def test_weighted_choices_do_not_repeat():
    for image in chosen("randaug-w0-n13-p1-inc1", 50):
        assert len({name for name, _ in image}) == 13 and "Invert" not in dict(image)


# --- magnitudes


def levels(text: str, count: int = 3000) -> np.ndarray:
    """Levels of rotations, with their sign; 30 degrees are level 10."""
    policy = parse_policy(text)
    images = (policy.draw(draws(i)) for i in range(count))
    return np.array([a for image in images for name, a in image if name == "Rotate"]) / 3


def test_without_deviation_the_magnitude_is_itself():
    assert set(np.abs(levels("rand-m9-n10")).round(9)) == {9.0}
    assert set(np.abs(levels("rand-n10")).round(9)) == {10.0}


def test_signs_are_as_likely():
    found = levels("rand-m9-n10")
    assert np.mean(found > 0) == pytest.approx(0.5, abs=2 / sqrt(len(found)))


@pytest.mark.parametrize(
    ("text", "mean", "std"), [("rand-m5-mstd0.5-n10", 5, 0.5), ("randaug-m5-n10", 5, 0.5)]
)
def test_magnitudes_are_normal_around_their_mean(text, mean, std):
    assert stats.kstest(np.abs(levels(text)), "norm", (mean, std)).pvalue > 0.001


def test_magnitudes_are_clipped_to_ten_and_to_zero():
    high, low = np.abs(levels("rand-m9-mstd0.5-n10")), np.abs(levels("rand-m0-mstd1-n10"))
    # Half a deviation is a unit: beyond two of them lies 2.3 %.
    share = stats.norm.sf(2)
    assert high.max() == pytest.approx(10)
    assert (high > 9.999999).mean() == pytest.approx(share, abs=4 * sqrt(share / len(high)))
    assert (low == 0).mean() == pytest.approx(0.5, abs=2 / sqrt(len(low)))
    assert stats.kstest(low[low > 0], "halfnorm").pvalue > 0.001


@pytest.mark.parametrize("deviation", ["inf", "101"])
def test_infinite_deviation_is_uniform(deviation):
    found = np.abs(levels(f"rand-m8-mstd{deviation}-n10"))
    assert stats.kstest(found, "uniform", (0, 8)).pvalue > 0.001


def test_mmax_is_the_largest_magnitude():
    found = np.abs(levels("rand-m15-mstd5-mmax20-n10"))
    assert found.max() == pytest.approx(20)
    assert stats.kstest(found[found < 20], stats.truncnorm(-3, 1, 15, 5).cdf).pvalue > 0.001


@pytest.mark.parametrize("table", TABLES)
def test_levels_above_ten_are_still_images(table):
    for name, operation in OPERATIONS[table].items():
        out = applied(name, operation.argument(20.0), noise(16, 12, 3), table)
        assert out.shape == (16, 12, 3), name
    strongest = applied("Posterize", OPERATIONS[table]["Posterize"].argument(20.0), noise(64, 64))
    kept = {("rand", True): 0, ("rand", False): 8, ("randaug", False): 0, ("randaug", True): 8}
    assert len(np.unique(strongest)) == 2 ** kept[table]


# --- what they do to pixels


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30)])
def test_operations_keep_size_and_mode_and_change_pixels(table, shape):
    pixels = (noise(*shape) * 0.9 + 12).astype(np.uint8)
    for name, operation in OPERATIONS[table].items():
        out = applied(name, operation.argument(6.0), pixels, table)
        assert out.shape == shape and out.dtype == np.uint8
        # A grey image has no colour; MindCV's shears move it by less than a pixel.
        same = (name == "Color" and len(shape) == 2) or (name[:5] == "Shear" and "aug" in table[0])
        assert same or not np.array_equal(out, pixels), name


@pytest.mark.parametrize("bits", range(9))
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16)])
def test_posterize_keeps_the_highest_bits(bits, shape):
    pixels = noise(*shape)
    assert np.array_equal(applied("Posterize", bits, pixels), pixels >> (8 - bits) << (8 - bits))


@pytest.mark.parametrize("threshold", [0, 26, 128, 255, 256])
@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16)])
def test_solarize_inverts_from_the_threshold_on(threshold, shape):
    pixels = noise(*shape)
    expected = np.where(pixels < threshold, pixels, 255 - pixels)
    assert np.array_equal(applied("Solarize", threshold, pixels), expected)


@pytest.mark.parametrize("addend", [0, 55, 110, 200])
def test_solarize_add_brightens_the_darker_half(addend):
    pixels = noise(16, 16, 3)
    brighter = np.minimum(pixels.astype(int) + addend, 255)
    expected = np.where(pixels < 128, brighter, pixels)
    assert np.array_equal(applied("SolarizeAdd", addend, pixels), expected)


def test_invert_inverts():
    pixels = noise(16, 16, 3)
    assert np.array_equal(applied("Invert", 0, pixels), 255 - pixels)


def test_auto_contrast_stretches_each_channel():
    ramp = np.arange(50, 101, dtype=np.uint8)
    pixels = np.stack([ramp, ramp // 2, np.linspace(0, 255, 51).astype(np.uint8)], 1)[None]
    out = applied("AutoContrast", 0, pixels)[0].astype(int)
    assert np.abs(out[:, 0] - np.linspace(0, 255, 51)).max() <= 1
    assert out[:, 1].min() == 0 and out[:, 1].max() >= 254
    assert np.array_equal(out[:, 2], pixels[0, :, 2])


def test_equalize_makes_levels_as_frequent():
    # 256 values, each as often, in the darkest sixteenth of the range.
    pixels = np.repeat(np.arange(16, dtype=np.uint8), 16 * 255).reshape(255, 256)
    out = applied("Equalize", 0, pixels)
    assert np.abs(np.unique(out) - np.arange(16) * 255 / 15).max() <= 1


def test_enhancements_blend_with_their_degenerate_image():
    pixels = noise(12, 12, 3)
    luma = (pixels @ [0.299, 0.587, 0.114]).round()
    degenerate = {
        "Color": np.repeat(luma[:, :, None], 3, 2),
        "Contrast": np.full(pixels.shape, luma.mean().round()),
        "Brightness": np.zeros(pixels.shape),
    }
    for name, zero in degenerate.items():
        assert np.array_equal(applied(name, 1.0, pixels), pixels)
        for factor in (0.1, 0.55, 1.9):
            expected = np.clip(zero + factor * (pixels - zero), 0, 255)
            assert np.abs(applied(name, factor, pixels) - expected).max() <= 2


def test_sharpness_blends_with_a_smoothed_image():
    pixels = np.zeros((7, 7), np.uint8)
    pixels[3, 3] = 130
    smooth = applied("Sharpness", 0.0, pixels)
    # Pillow's filter weighs the pixel 5 and its eight neighbours 1, of 13.
    assert smooth[3, 3] == 50 and smooth[2, 2] == smooth[3, 4] == 10 and smooth[1, 1] == 0
    assert np.array_equal(applied("Sharpness", 1.0, pixels), pixels)


def test_translations_move_by_a_share_of_the_side_and_fill_the_rest():
    pixels = noise(16, 32, 3)
    left, up = applied("TranslateX", 0.25, pixels), applied("TranslateY", 0.25, pixels)
    assert np.array_equal(left[:, :24], pixels[:, 8:]) and (left[:, 24:] == [9, 8, 7]).all()
    assert np.array_equal(up[:12], pixels[4:]) and (up[12:] == [9, 8, 7]).all()
    right, down = applied("TranslateX", -0.25, pixels), applied("TranslateY", -0.25, pixels)
    assert np.array_equal(right[:, 8:], pixels[:, :24]) and (right[:, :8] == [9, 8, 7]).all()
    assert np.array_equal(down[4:], pixels[:12]) and (down[:4] == [9, 8, 7]).all()
    grey = applied("TranslateX", 0.25, pixels[:, :, 0].copy())
    assert np.array_equal(grey[:, :24], pixels[:, 8:, 0]) and (grey[:, 24:] == 9).all()


def test_rotations_are_anticlockwise_about_the_centre():
    pixels = noise(16, 16, 3)
    assert np.array_equal(applied("Rotate", 0.0, pixels), pixels)
    assert np.array_equal(applied("Rotate", 90.0, pixels), np.rot90(pixels))
    turned = applied("Rotate", 45.0, pixels)
    assert (turned[[0, 0, -1, -1], [0, -1, 0, -1]] == [9, 8, 7]).all()


def line(vertical: bool) -> np.ndarray:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:, 16] = 255
    return pixels if vertical else pixels.T.copy()


@pytest.mark.parametrize(("name", "vertical"), [("ShearX", True), ("ShearY", False)])
def test_timms_shears_lean_lines_from_the_corner(name, vertical):
    # Slope 1, between centres: what is at (x, y) comes from x + 1/2 + y + 1/2.
    out = applied(name, 1.0, line(vertical))
    out = out if vertical else out.T
    for y in range(32):
        assert np.flatnonzero(out[y] == 255).tolist() == ([15 - y] if y <= 15 else [])
        assert (out[y, 31 - y :] == 9).all()
    half = applied(name, 0.5, line(vertical))
    half = half if vertical else half.T
    assert [int(np.flatnonzero(half[y] == 255)[0]) for y in (0, 1, 2, 9)] == [16, 15, 15, 11]


@pytest.mark.parametrize(("name", "vertical"), [("ShearX", True), ("ShearY", False)])
def test_mindcvs_shears_lean_lines_about_the_centre_by_degrees(name, vertical):
    out = applied(name, 45.0, line(vertical), ("randaug", False))
    out = out if vertical else out.T
    for y in range(32):
        assert np.flatnonzero(out[y] == 255).tolist() == [31 - y]


def test_operations_without_movement_are_the_same_in_both_sets():
    pixels = noise(16, 16, 3)
    for name in ("TranslateX", "TranslateY", "Rotate", *PLAIN, *ENHANCEMENTS):
        outs = [applied(name, 0.3, pixels, table) for table in TABLES]
        assert all(np.array_equal(out, outs[0]) for out in outs)


def smooth() -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    waves = [np.sin(x / 9) + np.cos(y / 7), np.sin((x + y) / 11), np.cos((x - y) / 8)]
    return np.stack([100 + 40 * wave for wave in waves], 2).astype(np.uint8)


def test_mindcvs_operations_are_mindspores():
    """MindCV hands these arguments to ``mindspore.dataset.vision``."""
    import_mindspore()
    from mindspore.dataset import vision

    pixels, canvas = smooth(), {"resample": vision.Inter.BICUBIC, "fill_value": (9, 8, 7)}
    a, k, f, t = 12.0, 5, 1.6, 0.125
    peers = {
        # name: argument, MindSpore's operation, largest and mean difference within the border.
        "AutoContrast": (0, vision.AutoContrast(), 0, 0),
        "Invert": (0, vision.Invert(), 0, 0),
        "Posterize": (k, vision.RandomPosterize((k, k)), 0, 0),
        "Solarize": (127, vision.RandomSolarize((127, 127)), 0, 0),
        "Color": (f, vision.RandomColor((f, f)), 1, 1),
        "Contrast": (f, vision.RandomColorAdjust(contrast=(f, f)), 1, 1),
        "Brightness": (f, vision.RandomColorAdjust(brightness=(f, f)), 1, 1),
        "Sharpness": (f, vision.RandomSharpness((f, f)), 1, 1),
        "Rotate": (a, vision.RandomRotation((a, a), **canvas), 9, 2.5),
        "TranslateX": (-t, vision.RandomAffine(0, translate=(t, t), **canvas), 0, 0),
        "TranslateY": (-t, vision.RandomAffine(0, translate=(0, 0, t, t), **canvas), 0, 0),
        "ShearX": (a, vision.RandomAffine(0, shear=(a, a), **canvas), 9, 2.5),
        "ShearY": (a, vision.RandomAffine(0, shear=(0, 0, a, a), **canvas), 9, 2.5),
    }
    assert set(peers) == set(OPERATIONS["randaug", True]) - {"Equalize"}
    canvas_here = Canvas((9, 8, 7), Image.Resampling.BICUBIC)
    for name, (argument, peer, largest, mean) in peers.items():
        apply = OPERATIONS["randaug", True][name].apply
        out = np.asarray(apply(Image.fromarray(pixels), argument, canvas_here)).astype(int)
        off = np.abs(out - peer(pixels))[12:-12, 12:-12]
        assert off.max() <= largest and off.mean() <= mean, (name, off.max(), off.mean())


# --- policies


def test_an_image_is_augmented_with_what_was_drawn():
    policy, pixels = parse_policy("rand-m9-n3-p0.8-inc1"), noise(16, 16, 3)
    for i in range(30):
        image = Image.fromarray(pixels)
        for name, argument in policy.draw(draws(i)):
            image = OPERATIONS["rand", True][name].apply(image, argument, NEAREST)
        out = rand_augment(Image.fromarray(pixels), policy, NEAREST, draws(i))
        assert np.array_equal(np.asarray(out), np.asarray(image))


@pytest.mark.parametrize("word", ["rand", "randaug"])
def test_policies_are_read_in_any_order(word):
    policy = parse_policy(f"{word}-inc1-mstd.25-n3-mmax12-m9-p1")
    assert (policy.word, policy.increasing, policy.weighted) == (word, True, False)
    assert (policy.layers, policy.probability, policy.largest) == (3, 1.0, 12.0)
    assert (policy.magnitude, policy.deviation) == (9.0, 0.25)


def test_what_a_string_leaves_out_is_its_authors_default():
    for text, deviation in [("rand", 0.0), ("randaug", 0.5)]:
        policy = parse_policy(text)
        assert (policy.magnitude, policy.layers, policy.probability) == (10, 2, 0.5)
        assert (policy.deviation, policy.largest, policy.increasing) == (deviation, 10, False)
    assert not parse_policy("randaug-inc0").increasing
    assert parse_policy("rand-mstdinf").deviation == inf
    assert parse_policy("randaug-w0").weighted


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["expected rand or randaug as its first word"]),
        ("augmix-m3", ["expected rand or randaug as its first word"]),
        ("Rand-m9", ["expected rand or randaug as its first word"]),
        ("rand-q3-", ["'q3' is none of its parts m, n, p, mstd, mmax, inc", "'' is none"]),
        ("rand-w0", ["'w0' is none of its parts"]),
        ("rand-m-n", ["'m' is none", "'n' is none"]),
        ("rand-mnan", ["'mnan' is none"]),
        ("rand-m11", ["m is 11, expected 0 to mmax"]),
        ("rand-m9-m8", ["m is given 2 times"]),
        ("rand-n0-p1.5", ["n is 0, expected a whole number", "p is 1.5, expected 0 to 1"]),
        ("rand-n1.5", ["n is 1.5, expected a whole number"]),
        ("rand-ninf-mmaxinf", ["n is inf", "mmax is inf, expected more than 0"]),
        ("rand-m0-mmax0", ["mmax is 0, expected more than 0"]),
        ("randaug-inc2-w1", ["inc is 2, expected 0, or 1", "w is 1, expected 0"]),
        ("randaug-w0-n14", ["n is 14, expected a whole number, 1 to 99"]),
    ],
)
def test_what_cannot_be_read_is_named(text, parts):
    with pytest.raises(ConfigError) as error:
        parse_policy(text)
    assert str(error.value).startswith(f"auto_augment is {text!r}")
    for part in parts:
        assert part in str(error.value)
