"""What a parity run sees: the same pixels everywhere, and images in which small errors show."""

import hashlib
import io
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from parity.inputs.samples import (
    Sample,
    default_samples,
    file_samples,
    hash_input,
    load_batch,
    noise_samples,
    thumbnail,
)
from pvt_data.images.pixels import normalise, to_pixels
from pvt_data.images.preprocessing import encode_png, load_image, load_pixels
from pvt_data.sources.listing import evenly_spaced
from pvt_spec import ImageError, Preprocessing
from tests.support.messages import naming

NATURAL = tuple(f"natural {i}" for i in (1, 2, 3, 4))
CONSTANT, LOW, EDGES, DOTS = (
    "constant grey",
    "low contrast 2/255",
    "high contrast edges",
    "dots one pixel wide",
)


def preprocessing(
    size: tuple[int, int] = (64, 64), channels: int = 3, crop_pct: float = 0.9
) -> Preprocessing:
    mean, std = (0.485, 0.456, 0.406, 0.5)[:channels], (0.229, 0.224, 0.225, 0.25)[:channels]
    return Preprocessing(size, crop_pct, mean, std)


@pytest.mark.parametrize("resize", ["squash", "shortest", "none"])
def test_generated_images_suit_a_model_that_crops_nothing(resize: str) -> None:
    given = Preprocessing((64, 64), 1.0, resize=resize, crop_mode="none")
    assert load_batch(default_samples(given), given).shape == (8, 3, 64, 64)


def drawn(samples: list[Sample], given: Preprocessing) -> dict[str, np.ndarray]:
    """By name: the pixels as they were drawn, uint8 (height, width, C), not resized or cropped."""
    H, W = given.image_size
    found = {}
    for sample in samples:
        size = H * 13 // 10, W * 16 // 10
        if sample.name == DOTS:
            size = int(H / given.crop_pct), int(W / given.crop_pct)
        channels = len(given.mean)
        whole = Preprocessing(size, 1.0, (0.0,) * channels, (1.0,) * channels)
        found[sample.name] = to_pixels(sample.load(whole), whole)
    return found


def seen(samples: list[Sample], given: Preprocessing) -> dict[str, np.ndarray]:
    """By name: the pixels that a model is given, uint8 (H, W, C)."""
    return {sample.name: to_pixels(sample.load(given), given) for sample in samples}


# --- the generated images: the same in every release

PINNED = {
    (64, 64): {
        "natural 1": "5317b6d3a409cae6",
        "natural 2": "dd6df2fe8baf4cc2",
        "natural 3": "d86d35ae6bbe3717",
        "natural 4": "7fc8fe98145e0405",
        "constant grey": "418b8538154ae085",
        "low contrast 2/255": "3e1cb42bab081537",
        "high contrast edges": "c1e94425ffac6a71",
        "dots one pixel wide": "933d00f80e77a573",
    },
    (224, 160): {
        "natural 1": "35b9b01edd23bad1",
        "natural 2": "b3d7fe13b943252d",
        "natural 3": "01c8cb60f00a8173",
        "natural 4": "b26c827502208aa2",
        "constant grey": "45626af0be177902",
        "low contrast 2/255": "fed9ca7bf46a80e7",
        "high contrast edges": "5f03b26db9a358e8",
        "dots one pixel wide": "0053520b0b90d9fc",
    },
}
"""SHA-256 of the pixels, its first 16 digits: results of two releases can be laid side by side."""


@pytest.mark.parametrize("size", PINNED)
def test_pixels_are_those_of_every_release(size):
    given = preprocessing(size)
    pixels = drawn(default_samples(given), given)
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in pixels.items()}
    assert {name: digest[:16] for name, digest in hashes.items()} == PINNED[size]


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (224, 96)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_size_and_number_of_channels_is_drawn(size, channels):
    given = preprocessing(size, channels)
    samples = default_samples(given)
    batch = load_batch(samples, given)
    assert batch.shape == (8, channels, *size)
    assert batch.dtype == np.float32 and np.isfinite(batch).all()
    assert len({hash_input(image) for image in batch}) == 8


def test_those_of_a_group_stand_together():
    samples = default_samples(preprocessing())
    groups = [sample.group for sample in samples]
    assert len(list(itertools.groupby(groups))) == len(set(groups)) == 5
    assert groups[:4] == ["natural"] * 4
    assert [sample.name for sample in samples] == [*NATURAL, CONSTANT, LOW, EDGES, DOTS]


def test_a_seed_draws_other_scenes_and_the_same_patterns():
    given = preprocessing()
    first, again, other = (seen(default_samples(given, seed), given) for seed in (0, 0, 1))
    for name in first:
        assert np.array_equal(first[name], again[name]), name
    same = {name for name in first if np.array_equal(first[name], other[name])}
    assert same == {CONSTANT, EDGES, DOTS}


def test_loading_twice_gives_the_same_and_neither_can_spoil_the_other():
    given = preprocessing()
    sample = default_samples(given)[0]
    once = sample.load(given)
    kept = once.copy()
    once[:] = 0
    assert np.array_equal(sample.load(given), kept)


def test_another_preprocessing_begins_with_the_same_pixels():
    """Two files that differ in their crop see the same image, each in its own way."""
    drawn_for, other = preprocessing(crop_pct=0.9), preprocessing(crop_pct=0.875)
    (first, *_) = default_samples(drawn_for)
    (same, *_) = default_samples(other)
    assert np.array_equal(first.load(other), same.load(other))
    assert not np.array_equal(first.load(drawn_for), first.load(other))


def test_generated_images_are_preprocessed_as_files_are(tmp_path):
    given = preprocessing((48, 80), crop_pct=0.875)
    samples = default_samples(given)
    for sample, (name, pixels) in zip(samples, drawn(samples, given).items(), strict=True):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert np.array_equal(sample.load(given), load_image(tmp_path / "a.png", given)), name


# --- what each of them is for


def test_constant_is_constant_after_preprocessing_too():
    given = preprocessing((56, 72))
    constant = next(s for s in default_samples(given) if s.name == CONSTANT).load(given)
    for channel, mean, std in zip(constant, given.mean, given.std, strict=True):
        assert np.ptp(channel) == 0
        assert channel[0, 0] == pytest.approx((128 / 255 - mean) / std, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_low_contrast_is_two_steps_of_255_around_the_models_mean(channels):
    given = preprocessing((64, 96), channels)
    samples = default_samples(given)
    away = drawn(samples, given)[LOW] - np.rint(np.array(given.mean) * 255)
    assert np.abs(away).max() == 2
    for channel in away.reshape(-1, channels).T:
        assert len(np.unique(channel)) >= 4
    low, high = (
        next(s for s in samples if s.name == name).load(given).std() for name in (LOW, EDGES)
    )
    assert 0 < 40 * low < high


def test_low_contrast_is_so_where_the_mean_is_black_or_white():
    given = Preprocessing((64, 64), 0.9, (0.0, 1.0, 0.5), (1.0, 1.0, 1.0))
    pixels = drawn(default_samples(given), given)[LOW]
    assert [int(np.ptp(pixels[:, :, i])) for i in range(3)] == [4, 4, 4]


def test_high_contrast_has_the_extremes_side_by_side():
    given = preprocessing()
    pixels = drawn(default_samples(given), given)[EDGES].astype(int)
    assert set(np.unique(pixels)) == {0, 255}
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).max(axis=2)
        assert (steps == 255).mean() > 0.1
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    assert len(colours) >= 6


@pytest.mark.parametrize("axis", [0, 1], ids=["down", "right"])
def test_a_shift_by_one_pixel_changes_the_dots_more_than_any_scene(axis):
    given = preprocessing((64, 64))
    change = {
        name: np.abs(np.diff(array.astype(float), axis=axis)).mean() / array.std()
        for name, array in seen(default_samples(given), given).items()
        if array.std()
    }
    assert change[DOTS] > 1.5 * max(change[name] for name in NATURAL)


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (33, 65)])
def test_dots_come_through_the_preprocessing_unblurred(size):
    given = preprocessing(size)
    dots = seen(default_samples(given), given)[DOTS]
    assert {tuple(colour) for colour in dots.reshape(-1, 3)} == {(250, 235, 215), (20, 35, 60)}


def test_dots_of_a_file_that_crops_next_to_nothing_stay_small():
    given = Preprocessing((32, 32), crop_pct=0.001)
    (dots,) = (one.load.args[0] for one in default_samples(given) if one.name == DOTS)
    assert dots.size <= 3 * (4 * 32) ** 2


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (33, 65)])
@pytest.mark.parametrize("crop_pct", [0.9, 0.875, 1.0])
def test_dots_show_what_is_done_to_an_edge(size, crop_pct):
    """Its outermost pixels are bright at the top and on the left; rows are unlike the next one."""
    given = preprocessing(size, crop_pct=crop_pct)
    bright = seen(default_samples(given), given)[DOTS][:, :, 0] > 128
    assert bright[0].mean() >= 0.5 > bright[-1].mean()
    assert bright[:, 0].mean() >= 0.3 > bright[:, -1].mean()
    for axis in (0, 1):
        assert np.diff(bright, axis=axis).any(axis=1 - axis).mean() > 0.95


def test_scenes_look_natural():
    """Smooth, neither dark nor glaring, of channels that vary together."""
    given = preprocessing((224, 224))
    pixels = drawn(default_samples(given), given)
    for name in NATURAL:
        array = pixels[name].astype(float)
        grey = array.mean(axis=2)
        assert 25 < grey.std() < 90 and 60 < grey.mean() < 190, name
        neighbours = np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1]
        assert neighbours > 0.85, name
        assert np.corrcoef(array.reshape(-1, 3).T).min() > 0.4, name
        assert np.isin(grey, (0, 255)).mean() < 0.15, name


def test_scenes_of_objects_are_more_red_than_blue():
    """So that exchanged channels show in the mean already."""
    given = preprocessing((224, 224))
    pixels = drawn(default_samples(given), given)
    for name in NATURAL[1:]:
        red, green, blue = pixels[name].mean(axis=(0, 1))
        assert red > green + 10 > blue + 20, name


def test_channels_that_are_exchanged_show():
    given = preprocessing(channels=4)
    for name, array in seen(default_samples(given), given).items():
        if name not in (CONSTANT, LOW):
            for a, b in itertools.combinations(range(4), 2):
                assert not np.array_equal(array[:, :, a], array[:, :, b]), (name, a, b)


def test_one_channel_is_the_brightness():
    colours, grey = (
        drawn(default_samples(preprocessing(channels=n)), preprocessing(channels=n)) for n in (3, 1)
    )
    for name in (*NATURAL, EDGES, DOTS):
        rgb, found = colours[name].astype(float), grey[name][:, :, 0]
        luma = rgb @ np.array([0.299, 0.587, 0.114])
        assert np.abs(found - luma).max() < 2, name


# --- noise and files


def test_noise_is_the_first_ones_whatever_the_number():
    given = preprocessing((40, 48))
    few, many = noise_samples(2, seed=3), noise_samples(5, seed=3)
    assert [sample.name for sample in many[:2]] == [sample.name for sample in few]
    assert np.array_equal(load_batch(few, given), load_batch(many[:2], given))
    assert len({hash_input(image) for image in load_batch(many, given)}) == 5
    other = load_batch(noise_samples(2, seed=4), given)
    assert not np.array_equal(other, load_batch(few, given))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_noise_is_standard_normal_in_place_of_normalised_images(channels):
    given = preprocessing((96, 64), channels)
    batch = load_batch(noise_samples(3, seed=0), given)
    assert batch.shape == (3, channels, 96, 64) and batch.dtype == np.float32
    assert abs(batch.mean()) < 0.03 and abs(batch.std() - 1) < 0.03
    assert {sample.group for sample in noise_samples(3, seed=0)} == {"noise"}


def save_image(path: Path, value: int) -> Path:
    Image.new("RGB", (70, 90), (value, value, value)).save(path)
    return path


def test_files_are_read_in_order_and_refused_once_they_change(tmp_path):
    given = preprocessing()
    paths = [save_image(tmp_path / name, value) for name, value in (("b.png", 9), ("a.png", 99))]
    samples = file_samples(paths)
    assert [sample.name for sample in samples] == [str(path) for path in paths]
    assert {sample.group for sample in samples} == {"images"}
    before = load_batch(samples, given)
    assert np.array_equal(before, [load_image(path, given) for path in paths])
    assert np.array_equal(load_batch(samples, given), before)
    save_image(paths[0], 200)
    with pytest.raises(ImageError, match=naming("b.png", "was written to")):
        load_batch(samples, given)
    assert np.array_equal(load_batch(samples[1:], given), before[1:])


def test_a_file_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"text")
    samples = file_samples([save_image(tmp_path / "a.png", 9), tmp_path / "broken.png"])
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_batch(samples, preprocessing())


@given(items=st.lists(st.integers(), unique=True, max_size=60), limit=st.integers(0, 70))
def test_evenly_spaced_items_are_in_order_and_no_two_gaps_differ_by_more_than_one(items, limit):
    chosen = evenly_spaced(items, limit)
    assert len(chosen) == min(limit, len(items))
    places = [items.index(item) for item in chosen]
    gaps = np.diff([*places, len(items)]) if places else np.array([0])
    assert places[:1] in ([], [0])
    assert np.ptp(gaps) <= 1 and (not places or gaps.min() >= 1)


def test_evenly_spaced_takes_some_of_every_class():
    paths = [f"{label}/{i}" for label in "abcd" for i in range(100)]
    assert {path[0] for path in evenly_spaced(paths, 8)} == set("abcd")


# --- hashes and thumbnails


def test_hash_is_of_shape_and_little_endian_values():
    values = [1.5, -2.25, 1e-38, 7.0, 0.0, 3.0]
    expected = hashlib.sha256(b"1x2x3" + struct.pack("<6f", *values)).hexdigest()
    array = np.array(values, np.float32).reshape(1, 2, 3)
    assert hash_input(array) == expected
    assert hash_input(array.astype(">f4")) == expected
    assert hash_input(np.asfortranarray(array)) == expected
    assert hash_input(np.repeat(array, 2, axis=2)[:, :, ::2]) == expected


def test_hash_sees_one_bit_and_the_shape():
    array = np.ones((1, 2, 3), np.float32)
    other = array.copy()
    other[0, 1, 2] = np.nextafter(np.float32(1), np.float32(2))
    hashes = {hash_input(a) for a in (array, other, array.reshape(1, 3, 2), array.reshape(2, 1, 3))}
    assert len(hashes) == 4


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "L")])
@pytest.mark.parametrize("size", [(64, 224), (300, 100), (40, 40)])
def test_thumbnail_is_a_small_png(channels, mode, size):
    given = preprocessing(size, channels)
    sample = default_samples(given)[0]
    with Image.open(io.BytesIO(thumbnail(sample, given, side=48))) as image:
        image.load()
        assert (image.format, image.mode) == ("PNG", mode)
        assert max(image.size) == min(48, max(size))
        assert image.height / image.width == pytest.approx(size[0] / size[1], rel=0.05)


def test_thumbnail_shows_what_the_model_is_given():
    """At its own size it is exactly the preprocessed pixels."""
    given = preprocessing((64, 96))
    for sample in default_samples(given):
        with Image.open(io.BytesIO(thumbnail(sample, given))) as image:
            assert np.array_equal(np.asarray(image), to_pixels(sample.load(given), given))


def test_thumbnail_of_noise_is_clipped():
    given = preprocessing((64, 64))
    (sample,) = noise_samples(1, seed=0)
    with Image.open(io.BytesIO(thumbnail(sample, given))) as image:
        pixels = np.asarray(image)
    mean, std = (np.array(v)[:, None, None] * 255 for v in (given.mean, given.std))
    values = sample.load(given) * std + mean
    assert ((pixels == 0).transpose(2, 0, 1) == (values <= 0.5)).all()
    assert ((pixels == 255).transpose(2, 0, 1) == (values >= 254.5)).all()


# --- pixels, to the model's input and back


def test_pixels_are_loaded_as_a_file_of_them_is(tmp_path):
    rng = np.random.default_rng(0)
    for channels, mode in ((1, "L"), (3, "RGB")):
        given = preprocessing((48, 40), channels)
        pixels = rng.integers(0, 256, (90, 70, channels), np.uint8)
        path = tmp_path / f"{mode}.png"
        Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(path)
        assert np.array_equal(load_pixels(pixels, given), load_image(path, given))


def test_every_channel_of_pixels_is_resized_by_itself():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (90, 70, 5), np.uint8)
    five = Preprocessing((48, 40), 0.9, (0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 0.4, 0.3, 0.2, 0.1))
    whole = load_pixels(pixels, five)
    assert whole.shape == (5, 48, 40) and whole.flags.c_contiguous
    for i in range(5):
        one = Preprocessing((48, 40), 0.9, five.mean[i : i + 1], five.std[i : i + 1])
        assert np.array_equal(load_pixels(pixels[:, :, i : i + 1], one)[0], whole[i])


def test_pixels_of_other_channels_are_refused():
    with pytest.raises(ImageError, match=naming("3", "4")):
        load_pixels(np.zeros((50, 50, 4), np.uint8), preprocessing())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_pixel_comes_back_from_its_normalised_value(channels):
    given = preprocessing(channels=channels)
    pixels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(channels, axis=2)
    array = normalise(pixels, given)
    assert array.dtype == np.float32 and array.shape == (channels, 256, 1)
    expected = (np.arange(256) / 255 - given.mean[0]) / given.std[0]
    assert np.abs(array[0, :, 0] - expected).max() < 1e-6
    assert np.array_equal(to_pixels(array, given), pixels)


def test_pixels_out_of_range_are_the_nearest_there_are():
    given = Preprocessing((32, 32), 1.0, (0.0,), (1.0,))
    array = np.array([-7.0, -1e-9, 0.4999 / 255, 0.5001 / 255, 1.0, 1.2]).reshape(1, 1, 6)
    assert to_pixels(array, given).ravel().tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((100, 50), 40, (20, 40)), ((50, 100), 40, (40, 20)), ((30, 20), 40, (20, 30))],
)
def test_png_fits_its_side_and_is_not_enlarged(shape, side, size):
    for channels, mode in ((1, "L"), (2, "L"), (3, "RGB"), (4, "L")):
        pixels = np.full((*shape, channels), 77, np.uint8)
        pixels[:, :, 1:] = 200
        with Image.open(io.BytesIO(encode_png(pixels, side))) as image:
            assert (image.format, image.mode, image.size) == ("PNG", mode, size)
            assert image.getpixel((0, 0)) == ((77, 200, 200) if channels == 3 else 77)
