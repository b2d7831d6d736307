"""Images that are much longer than wide: what resizing them costs, and how near it comes."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pvt_data.images import preprocessing as prepare
from pvt_data.images.preprocessing import fit
from pvt_spec import Preprocessing
from pvt_spec.model_info import RESIZES

PHOTO = load_sample_images().images[0]


def strip(height: int, width: int, kind: str = "noise") -> Image.Image:
    """Noise, or a photo again and again."""
    if kind == "noise":
        rng = np.random.default_rng((height, width))
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    down, right = (-(-side // of) for side, of in zip((height, width), PHOTO.shape, strict=False))
    return Image.fromarray(np.ascontiguousarray(np.tile(PHOTO, (down, right, 1))[:height, :width]))


def both_ways(monkeypatch, image: Image.Image, preprocessing: Preprocessing) -> list[np.ndarray]:
    """The pixels by way of the whole image, and by that of the crop's box alone."""
    made = []
    for most in (10**12, 0):
        monkeypatch.setattr(prepare, "MOST_RESIZED", most)
        made.append(np.asarray(fit(image, preprocessing), np.int64))
    return made


SIZES = [(1, 40), (40, 1), (3, 200), (700, 20), (20, 1100), (1500, 21), (640, 427)]


@pytest.mark.parametrize("crop_mode", ["center", "center_floor", "border"])
@pytest.mark.parametrize("rule", [rule for rule in RESIZES if rule != "none"])
def test_the_crops_box_alone_gives_nearly_the_same_pixels(monkeypatch, rule, crop_mode):
    different = pixels = 0
    for number, (height, width) in enumerate(SIZES):
        interpolation = ("bicubic", "bilinear", "lanczos")[number % 3]
        for crop_pct, kind in ((0.9, "noise"), (0.2, "photo"), (1.3, "noise")):
            whole, box = both_ways(
                monkeypatch,
                strip(height, width, kind),
                Preprocessing(
                    (48, 64),
                    crop_pct,
                    resize=rule,
                    interpolation=interpolation,
                    crop_mode=crop_mode,
                ),
            )
            assert whole.shape == box.shape == (48, 64, 3)
            gap = np.abs(whole - box)
            assert gap.max() <= 1, (height, width, crop_pct, interpolation)
            different, pixels = different + int((gap > 0).sum()), pixels + gap.size
    assert different < pixels / 500


@pytest.mark.parametrize("interpolation", ["nearest", "box"])
def test_filters_with_edges_take_a_pixels_neighbour_here_and_there(monkeypatch, interpolation):
    for height, width in SIZES:
        preprocessing = Preprocessing((64, 64), interpolation=interpolation)
        whole, box = both_ways(monkeypatch, strip(height, width), preprocessing)
        assert (whole != box).mean() < 0.05, (height, width)


def test_up_to_a_limit_nothing_is_different(monkeypatch):
    """An image of 20 times its width in length is resized as it always was."""
    monkeypatch.setattr(prepare, "_resized_part", None)
    for height, width in ((10, 200), (200, 10), (375, 500), (4000, 200)):
        fit(strip(height, width), Preprocessing((224, 224)))
    with pytest.raises(TypeError):
        fit(strip(10, 400), Preprocessing((224, 224)))


def test_sides_that_are_shrunk_very_much_are_near_too(monkeypatch):
    image = strip(3, 400_000, "photo")
    preprocessing = Preprocessing((64, 64), resize="squash")
    assert prepare.MOST_SHRUNK < 400_000 / 71
    ours = np.asarray(fit(image, preprocessing), np.int64)
    monkeypatch.setattr(prepare, "MOST_SHRUNK", 10**9)
    assert np.abs(ours - np.asarray(fit(image, preprocessing), np.int64)).max() <= 2


MEASURE = """
import io, resource, sys
from PIL import Image
from pvt_data.images.preprocessing import load_image
from pvt_spec import Preprocessing
from pvt_train.input.decoding import decode_crop
def load(width, height, **rules):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    load_image(stream, Preprocessing((224, 224), **rules))
    bicubic = Image.Resampling.BICUBIC
    decode_crop(stream.getvalue(), "a", lambda w, h: (0, 0, w, h), (224, 224), 3, bicubic)
load(300, 300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
width, height, rule = sys.argv[1:]
load(int(width), int(height), resize=rule)
load(int(width), int(height), resize=rule, crop_pct=0.01)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("width", "height", "rule"),
    [
        (1, 20_000, "cover"),
        (20_000, 1, "cover"),
        (65_000, 1, "shortest"),
        (1, 65_000, "cover_nearest"),
        (1, 3_000_000, "cover"),
        (3_000_000, 1, "inside"),
        (1, 3_000_000, "squash"),
    ],
)
def test_memory_is_in_proportion_to_the_pixels(width, height, rule):
    arguments = [sys.executable, "-c", MEASURE, str(width), str(height), rule]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < 8 * width * height + 50_000_000
