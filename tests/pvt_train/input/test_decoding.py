"""Resized crops of image files against Pillow's whole decoding, cropping and resizing."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from pvt_data.images.decoding import convert_mode, open_image
from pvt_spec import ImageError
from pvt_train.input.decoding import FRACTIONS, decode_crop
from tests.support.messages import Facts, naming

BICUBIC = Image.Resampling.BICUBIC
PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def whole(encoded: bytes, box, size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """What Pillow makes of it, step by step."""
    image = Image.open(BytesIO(encoded)).convert(mode)
    return image.crop(box).resize((size[1], size[0]), BICUBIC)


def difference(a: Image.Image, b: Image.Image) -> float:
    assert (a.size, a.mode) == (b.size, b.mode)
    return float(np.abs(np.asarray(a, np.int64) - np.asarray(b, np.int64)).mean())


def boxes(width: int, height: int, count: int):
    """Boxes of any size and place, the whole image first."""
    rng = np.random.default_rng(0)
    yield 0, 0, width, height
    for _ in range(count):
        left, right = sorted(rng.choice(width + 1, 2, replace=False).tolist())
        top, bottom = sorted(rng.choice(height + 1, 2, replace=False).tolist())
        yield left, top, right, bottom


def cut(encoded: bytes, box, size: tuple[int, int], channels: int = 3) -> Image.Image:
    return decode_crop(encoded, "photo", lambda width, height: box, size, channels, BICUBIC)


SMALL = PHOTOS[0].resize((301, 203), BICUBIC)
FILES = {
    "baseline": lambda: encode(SMALL, quality=90, subsampling="4:2:0"),
    "4:4:4": lambda: encode(SMALL, quality=100, subsampling="4:4:4"),
    "4:2:2": lambda: encode(SMALL, quality=70, subsampling="4:2:2"),
    "progressive": lambda: encode(SMALL, progressive=True),
    "restarts": lambda: encode(SMALL, restart_marker_rows=1),
    "grey": lambda: encode(SMALL.convert("L")),
    "RGB JPEG": lambda: encode(SMALL, keep_rgb=True),
    "CMYK": lambda: encode(SMALL.convert("CMYK")),
    "PNG": lambda: encode(SMALL, "PNG"),
    "RGBA": lambda: encode(SMALL.convert("RGBA"), "PNG"),
    "palette": lambda: encode(SMALL.quantize(32), "PNG"),
    "1 bit": lambda: encode(SMALL.convert("1"), "PNG"),
    "WebP": lambda: encode(SMALL, "WEBP"),
}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("file", FILES)
def test_crops_without_pixels_to_spare_are_pillows_bit_for_bit(file: str, mode: str) -> None:
    encoded = FILES[file]()
    for box in boxes(301, 203, 12):
        expected = whole(encoded, box, (224, 200), mode)
        ours = cut(encoded, box, (224, 200), len(mode))
        assert np.array_equal(np.asarray(ours), np.asarray(expected))


def lossless(side: int, channels: int, scans: int = 1) -> bytes:
    """A JPEG of pixels, not frequencies, each of them as the one before it; one bit each."""

    def part(marker: int, body: bytes) -> bytes:
        return bytes([255, marker]) + struct.pack(">H", len(body) + 2) + body

    of_frame = b"".join(bytes([number, 0x11, 0]) for number in range(channels))
    of_scan = b"".join(bytes([number, 0]) for number in range(channels))
    data = b"\xff\xd8" + part(0xC3, struct.pack(">BHHB", 8, side, side, channels) + of_frame)
    data += part(0xC4, bytes([0, 1, *[0] * 15, 0]))
    pixels = bytes(side * side * channels // 8 + 1)
    data += part(0xDA, bytes([channels]) + of_scan + b"\1\0\0") + pixels
    return data + part(0xDA, b"\1\0\0\1\0\0") * (scans - 1) + b"\xff\xd9"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_jpeg_has_no_fractions(channels: int) -> None:
    """simplejpeg, asked for one, writes beyond the end of its memory."""
    encoded, box = lossless(512, channels), (3, 5, 500, 510)
    expected = whole(encoded, box, (24, 24))
    assert difference(cut(encoded, box, (24, 24)), expected) == 0


def test_scans_of_a_lossless_jpeg_are_counted() -> None:
    first = lossless(512, 3, 200)
    one = first.replace(b"\xff\xda\0\x0c\3\0\0\1\0\2\0", b"\xff\xda\0\x08\1\0\0")
    with pytest.raises(ImageError, match=naming("200", "scans")):
        cut(one, (0, 0, 512, 512), (24, 24))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_their_upper_8(kind: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50), np.uint16)
    encoded = encode(Image.fromarray(deep), kind)
    assert np.array_equal(
        np.asarray(cut(encoded, (5, 6, 45, 36), (30, 40), 1)), deep[6:36, 5:45] >> 8
    )
    with Image.open(BytesIO(encoded)) as image:
        for whole in (open_image(BytesIO(encoded), 1), convert_mode(image, 1)):
            assert np.array_equal(np.asarray(whole), deep >> 8)


@pytest.mark.sampled
@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("size", [(700, 525), (1000, 667), (2000, 1500)])
@pytest.mark.parametrize("photo", [0, 1])
def test_photographs_change_less_than_by_saving_them_as_a_good_jpeg(
    photo: int, size: tuple[int, int], quality: int
) -> None:
    """Which is what no eye sees, and no model minds: many of ImageNet's own are of quality 95."""
    image = PHOTOS[photo].resize(size, Image.Resampling.LANCZOS)
    encoded = encode(image, quality=quality, subsampling="4:2:0")
    changed = []
    for box in boxes(*size, 12):
        expected = whole(encoded, box, (96, 96))
        saved = Image.open(BytesIO(encode(expected, quality=95, subsampling="4:4:4")))
        changed.append(difference(cut(encoded, box, (96, 96)), expected))
        assert changed[-1] < difference(saved, expected)
    assert max(changed) > 0  # or it did not decode any at a fraction


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"keep_rgb": True}),
    ],
)
@pytest.mark.parametrize("size", [60, 110, 160, 500])
def test_a_slope_stays_where_it_is_at_every_fraction(mode: str, options, size: int) -> None:
    """Pixel centres have the values of the line; half a pixel aside would be off by 0.14 or more.

    At 1/8 the decoder rounds eighths of a value half up, which is 1/16 on average.
    """
    line = np.linspace(0, 255, 1777, dtype=np.float32)
    slope = Image.fromarray(np.tile(np.rint(line).astype(np.uint8), (1501, 1)))
    encoded = encode(slope.convert(mode), quality=100, **options)
    left, right = 203, 1703
    ours = np.asarray(cut(encoded, (left, 11, right, 1403), (size, size), 1), np.float64)
    centres = left + (np.arange(size) + 0.5) * (right - left) / size - 0.5
    error = (ours - centres * 255 / 1776)[:, 2:-2]
    assert abs(error.mean()) < 0.1 and abs(error).max() < 1.6


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("options", [{}, {"keep_rgb": True}])
def test_what_is_decoded_has_at_least_the_pixels_that_are_asked_for(
    fraction: int, options, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    resize = Image.Image.resize

    def spy(self, size, resample, box, *gap):
        seen.append((box[2] - box[0], box[3] - box[1]))
        return resize(self, size, resample, box, *gap)

    monkeypatch.setattr(Image.Image, "resize", spy)
    encoded = encode(Image.new("RGB", (1003, 997), "teal"), **options)
    for side in range(50 * fraction, 100 * fraction, 3):
        cut(encoded, (1, 0, 1 + side, side), (50, 50))
    assert min(side for pair in seen for side in pair) >= 50
    assert min(width for width, _ in seen) < 2 * 50


def test_orientation_is_left_as_it_is_stored() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    encoded = encode(SMALL, exif=turned)
    seen = []
    decode_crop(
        encoded, "photo", lambda *size: seen.append(size) or (0, 0, 9, 9), (9, 9), 3, BICUBIC
    )
    assert seen == [(301, 203)]


def damaged() -> bytes:
    """With more data than the image needs, of which one decoder complains."""
    encoded = FILES["baseline"]()
    return encoded[:-2] + b"\x00\x11\x22" + encoded[-2:]


@pytest.mark.parametrize("file", [*FILES, "damaged"])
def test_the_box_is_chosen_once(file: str) -> None:
    chosen = []

    def choose(width: int, height: int):
        chosen.append((width, height))
        return 0, 0, width, height

    decode_crop({**FILES, "damaged": damaged}[file](), "photo", choose, (8, 8), 3, BICUBIC)
    assert chosen == [(301, 203)]


def test_a_damaged_jpeg_is_as_pillow_reads_it() -> None:
    ours = cut(damaged(), (0, 0, 301, 203), (200, 200))
    expected = whole(damaged(), (0, 0, 301, 203), (200, 200))
    assert np.array_equal(np.asarray(ours), np.asarray(expected))


@pytest.mark.parametrize(
    ("encoded", "facts"),
    [
        (b"", ("photo",)),
        (b"\xff\xd8\xff\xe0 not a JPEG", ("photo",)),
        (FILES["baseline"]()[:4000], ("truncated",)),
        (FILES["PNG"]()[:4000], ("photo",)),
        (encode(Image.new("F", (9, 9)), "TIFF"), ("photo",)),
    ],
)
def test_what_is_no_whole_image_is_refused(encoded: bytes, facts: Facts) -> None:
    with pytest.raises(ImageError, match=naming(*facts)):
        cut(encoded, (0, 0, 9, 9), (8, 8))


def test_four_channels_are_refused() -> None:
    with pytest.raises(ImageError, match=naming("1", "3", "4")):
        cut(FILES["RGBA"](), (0, 0, 9, 9), (8, 8), 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_that_would_fill_the_memory_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = encode(SMALL, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 301 * 203 // 2 - 1)
    with pytest.raises(ImageError, match=naming("resize")):
        cut(encoded, (0, 0, 9, 9), (8, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert cut(encoded, (0, 0, 9, 9), (8, 8)).size == (8, 8)
