"""Image files to arrays, against MindSpore's own transforms; folders, labels and accuracy."""

import dataclasses
import io
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image, ImageOps, TiffImagePlugin
from sklearn.datasets import load_sample_images

from pvt_data.answers.accuracy import Forward, Opened, Tally, batched, softmax, top_k
from pvt_data.answers.predict import predict
from pvt_data.answers.rows import Head, write_table
from pvt_data.answers.validate import Candidate, Options, validate
from pvt_data.images.decoding import open_image
from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_data.images.preprocessing import fit, load_image, prepare
from pvt_data.sources.imagenet import imagenet_names
from pvt_data.sources.labels import class_order, labelled_for
from pvt_data.sources.listing import SUFFIXES, list_images, list_labelled
from pvt_spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ConfigError,
    ImageError,
    ModelInfo,
    Numerics,
    Preprocessing,
    PvtError,
    make_config,
)
from pvt_spec.words import display_width
from tests.support.messages import Facts, naming, tells

Size = tuple[int, int]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels): the hardest image to resize in just the same way."""
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def mindspore_transform(
    path: Path, resized: Size, corner: Size, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """An image file through MindSpore's dataset operations.

    Returns:
        uint8 (H, W, 3) of the crop; float32 (3, H, W), normalised.
    """
    from mindspore.dataset import vision

    pixels = vision.Decode()(np.fromfile(path, np.uint8))
    pixels = vision.Resize(resized, vision.Inter.PILCUBIC)(pixels)
    crop = vision.Crop(corner, size)(pixels)
    mean, std = ([255 * value for value in v] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return crop, vision.HWC2CHW()(vision.Normalize(mean, std)(crop))


def unnormalised(array: np.ndarray) -> np.ndarray:
    """The pixels, uint8 (H, W, 3), that a normalised array was made of."""
    mean, std = np.array(IMAGENET_MEAN) * 255, np.array(IMAGENET_STD) * 255
    pixels = array.transpose(1, 2, 0) * std + mean
    assert np.abs(pixels - np.rint(pixels)).max() < 1e-3
    return np.rint(pixels).astype(np.uint8)


# Image -> model's size and crop_pct -> size after resizing -> corner of the crop, where halves go
# to the even pixel as in torchvision (73.5 to 74, 2.5 to 2).
CASES: dict[str, tuple[Size | int, Size, float, Size, Size]] = {
    "china at MindCV's crop": (0, (224, 224), 0.9, (248, 371), (12, 74)),
    "china at the official crop": (0, (224, 224), 0.875, (256, 383), (16, 80)),
    "flower small": (1, (64, 64), 0.9, (71, 106), (4, 21)),
    "flower wide": (1, (64, 96), 0.9, (71, 106), (4, 5)),
    "flower tall": (1, (96, 64), 0.9, (106, 158), (5, 47)),
    "whole": ((40, 40), (32, 32), 1.0, (32, 32), (0, 0)),
    "wide": ((33, 77), (32, 32), 1.0, (32, 74), (0, 21)),
    "tall": ((77, 33), (32, 32), 1.0, (74, 32), (21, 0)),
    "square for a wide model": ((100, 100), (64, 96), 0.9, (106, 106), (21, 5)),
    "half a pixel to even": ((100, 100), (45, 45), 0.9, (50, 50), (2, 2)),
    "one and a half to even": ((101, 100), (33, 33), 0.9, (36, 36), (2, 2)),
    "strip": ((20, 300), (32, 32), 1.0, (32, 480), (0, 224)),
    "pole": ((300, 21), (64, 64), 0.9, (1014, 71), (475, 4)),
    "smaller than the crop": ((17, 13), (64, 64), 0.9, (92, 71), (14, 4)),
    "one row": ((1, 9), (32, 32), 1.0, (32, 288), (0, 128)),
    "one pixel": ((1, 1), (32, 32), 0.9, (35, 35), (2, 2)),
    "not to be resized": ((36, 36), (33, 33), 0.9, (36, 36), (2, 2)),
    "photo on end": ((500, 375), (64, 64), 0.9, (94, 71), (15, 4)),
    # Height shrinks a little more than width: Pillow 13 would resize columns first.
    "banner on end": ((1000, 300), (224, 224), 0.875, (853, 256), (314, 16)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_preprocessing_is_mindspores(case: Any, tmp_path: Path) -> None:
    source, size, crop_pct, resized, corner = case
    pixels = load_sample_images().images[source] if isinstance(source, int) else noise(*source)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    crop, normalised = mindspore_transform(path, resized, corner, size)
    ours = load_image(path, Preprocessing(size, crop_pct))
    assert ours.dtype == np.float32 and ours.flags["C_CONTIGUOUS"]
    assert np.array_equal(unnormalised(ours), crop)
    assert np.abs(ours - normalised).max() < 5e-7


@pytest.mark.parametrize("size", [(248, 300), (371, 249), (61, 47)])
def test_an_even_margin_is_cropped_as_in_mindspore(size: Size, tmp_path: Path) -> None:
    from mindspore.dataset import vision

    side = min(size) - 8
    path = tmp_path / "image.png"
    Image.fromarray(noise(*size)).save(path)
    crop = vision.CenterCrop((side, side))(noise(*size))
    ours = load_image(path, Preprocessing((side, side), side / min(size)))
    assert np.array_equal(unnormalised(ours), crop)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(32, 80), st.integers(32, 80)),
    crop_pct=st.floats(0.5, 1.0),
)
def test_the_image_covers_the_crop(
    size: Size, target: Size, crop_pct: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cover") / "grey.png"
    Image.new("RGB", (size[1], size[0]), (200, 100, 50)).save(path)
    ours = load_image(path, Preprocessing(target, crop_pct))
    assert ours.shape == (3, *target)
    assert (unnormalised(ours) == (200, 100, 50)).all()


def save(path: Path, pixels: np.ndarray, mode: str, **options: Any) -> Path:
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_have_equal_channels(channels: int, tmp_path: Path) -> None:
    pixels = noise(40, 40)[:, :, 0]
    path = save(tmp_path / "grey.png", pixels, "L")
    array = np.asarray(open_image(path, channels)).reshape(40, 40, -1)
    assert array.shape[2] == channels
    assert (array == pixels[:, :, None]).all()


def test_one_channel_models_get_one_channel(tmp_path: Path) -> None:
    pixels = np.repeat(noise(32, 32, 1), 3, axis=2)
    path = save(tmp_path / "grey.png", pixels, "RGB")
    array = load_image(path, Preprocessing((32, 32), 1.0, (0.5,), (0.25,)))
    expected = (pixels[:, :, 0].astype(np.float64) / 255 - 0.5) / 0.25
    assert array.shape == (1, 32, 32)
    assert np.abs(array[0] - expected).max() < 1e-6


def test_four_channel_models_take_no_files(tmp_path: Path) -> None:
    path = save(tmp_path / "image.png", noise(8, 8), "RGB")
    with pytest.raises(ImageError, match=naming("4", "channels")):
        load_image(path, Preprocessing((32, 32), 1.0, (0.5,) * 4, (0.25,) * 4))


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    palette = Image.fromarray(noise(20, 20)).quantize(16)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(np.asarray(open_image(tmp_path / "palette.png", 3)), expected)


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 16))], ids=["index", "bytes"])
def test_transparent_palettes_are_looked_up(transparency: int | bytes, tmp_path: Path) -> None:
    palette = Image.fromarray(noise(20, 20)).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=transparency)
    expected = np.asarray(palette.convert("RGB"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.asarray(open_image(tmp_path / "palette.png", 3)), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped(mode: str, tmp_path: Path) -> None:
    pixels = noise(20, 20, 4)
    if mode == "LA":
        pixels[:, :, 1:3] = pixels[:, :, :1]
    path = save(tmp_path / "alpha.png", pixels, mode)
    assert np.array_equal(np.asarray(open_image(path, 3)), pixels[:, :, :3])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_as_in_mindspore(
    suffix: str, channels: int, tmp_path: Path
) -> None:
    from mindspore.dataset import vision

    deep = np.random.default_rng(0).integers(0, 2**16, (20, 20)).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(deep).save(path)
    theirs = vision.Decode()(np.fromfile(path, np.uint8))[:, :, :channels]
    ours = np.asarray(open_image(path, channels)).reshape(20, 20, channels)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_range_are_refused(mode: str, tmp_path: Path) -> None:
    values = (noise(20, 20, 1)[:, :, 0].astype(np.float32) * 1000).astype(
        np.int32 if mode == "I" else np.float32
    )
    path = tmp_path / "values.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(ImageError, match=r"values\.tif"):
        open_image(path, 3)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
@pytest.mark.parametrize("xmp", [b"", XMP])
def test_a_tiff_is_turned_once(orientation: int | None, xmp: bytes, tmp_path: Path) -> None:
    """Pillow turns it as it loads it, and leaves of what it went by what it did not need."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if orientation:
        tags[0x0112] = orientation
    if xmp:
        tags[700] = xmp
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path, tiffinfo=tags)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    taken = Preprocessing((32, 48), normalise=False, rescale=1.0)
    for source in (path, Image.open(path)):
        assert np.array_equal(prepare(source, taken), prepare(np.asarray(upright), taken))


def test_exif_orientation_is_applied_and_told(tmp_path: Path) -> None:
    upright = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
    # By the standard, where the stored image's first row and column are shown.
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x.swapaxes(0, 1)[::-1],
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: lambda x: x.swapaxes(0, 1)[:, ::-1],
    }
    sideways: set[str] = set()
    for orientation, store in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.ascontiguousarray(store(np.asarray(upright)))
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(pixels).save(path, exif=exif)
        turned = open_image(path, 3, sideways=sideways)
        assert np.array_equal(turned, upright)
        assert np.array_equal(open_image(path, 3, orientation="stored"), pixels)
    assert sideways == {str(tmp_path / f"{orientation}.png") for orientation in range(2, 9)}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    image.save(tmp_path / "b.jpg", exif=b"Exif\0\0nothing")
    for name in "ab":
        assert open_image(tmp_path / f"{name}.jpg", 3).size == (30, 20)


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(40, 50)).save(stream, kind)
    return stream.getvalue()


UNREADABLE: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"this is not an image\n",
    "empty": lambda: b"",
    "cut png": lambda: encoded("PNG")[:1000],
    "cut jpeg": lambda: encoded("JPEG")[:1000],
    "cut bmp": lambda: encoded("BMP")[:1000],
    "cut webp": lambda: encoded("WEBP")[:500],
    "png header alone": lambda: encoded("PNG")[:33],
    "png with a wrong checksum": lambda: encoded("PNG").replace(
        b"IHDR\0\0\0\x32", b"IHDR\0\0\0\x33"
    ),
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_images_are_refused(data: Callable[[], bytes], tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(data())
    with pytest.raises(ImageError, match=naming("broken.png")):
        load_image(path, Preprocessing())


@given(kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "PPM"]), data=st.data())
def test_damaged_images_never_raise_anything_else(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(encoded(kind))
    for place in data.draw(st.lists(st.integers(0, min(len(whole), 300) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(whole[:cut])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            assert open_image(path, 3).mode == "RGB"
    except ImageError as error:
        assert str(path) in str(error)


def test_images_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "large.png", noise(40, 50), "RGB")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(ImageError, match=naming("large.png")):
        open_image(path, 3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=naming("none.png")):
        open_image(tmp_path / "none.png", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``cat/`` and ``dog/`` with images, a text file and a hidden folder beside them."""
    for name, count in (("dog", 2), ("cat", 3)):
        (tmp_path / name).mkdir()
        for index in range(count):
            save(tmp_path / name / f"{index}.png", noise(32, 32), "RGB")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("no class")
    return tmp_path


def test_folders_are_searched_through_in_order(folder: Path) -> None:
    names = [str(path.relative_to(folder)) for path in list_images([folder])]
    assert names == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]


def test_files_globs_and_folders_come_in_the_order_given(folder: Path) -> None:
    found = list_images([folder / "dog" / "1.png", f"{folder}/*/0.*", str(folder / "dog")])
    names = [str(path.relative_to(folder)) for path in found]
    assert names == ["dog/1.png", "cat/0.png", "dog/0.png", "dog/0.png", "dog/1.png"]
    assert len(list_images([f"{folder}/**/*.png"])) == 5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_ending_is_written_and_read_by_pillow(suffix: str, tmp_path: Path) -> None:
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        Image.fromarray(noise(8, 8)).convert("L").save(tmp_path / name)
    for path in list_images([tmp_path]):
        assert open_image(path, 1).size == (8, 8)
    assert len(list_images([tmp_path])) == 2


@pytest.mark.parametrize(
    ("source", "facts"),
    [("none.png", ("such",)), ("*.jpg", ("matches",)), ("empty", ("image",))],
)
def test_sources_that_name_nothing_are_refused(source: str, facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=naming(*facts)) as refusal:
        list_images([tmp_path / source])
    assert str(tmp_path / source) in str(refusal.value)


def test_labelled_folders_give_samples_and_sorted_classes(folder: Path) -> None:
    samples, classes = list_labelled(folder)
    assert classes == ["cat", "dog"]
    assert [index for _, index in samples] == [0, 0, 0, 1, 1]
    assert {path.parent.name for path, index in samples if index == 1} == {"dog"}


def test_labelled_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=naming("such")):
        list_labelled(tmp_path / "none")
    with pytest.raises(ImageError, match=naming("CLASS/*.png")):
        list_labelled(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ImageError, match=naming("image")):
        list_labelled(tmp_path)


def info_of(classes: int, *labels: str) -> ModelInfo:
    config = make_config("pvt_nano", num_classes=classes)
    return ModelInfo(config, Numerics(), Preprocessing((32, 32), 1.0), labels)


@pytest.mark.parametrize(
    ("info", "cat", "dog"),
    [
        (info_of(2), 0, 1),
        (info_of(2, "dog", "cat"), 1, 0),
        (info_of(4, "ant", "cat", "cow", "dog"), 1, 3),
    ],
    ids=["unnamed", "other order", "a part of the classes"],
)
def test_classes_are_matched_by_name(info: ModelInfo, cat: int, dog: int, folder: Path) -> None:
    paths, labels = labelled_for(info, folder)
    assert [path.parent.name for path in paths] == ["cat"] * 3 + ["dog"] * 2
    assert labels.tolist() == [cat] * 3 + [dog] * 2


@pytest.mark.parametrize(
    ("info", "facts"),
    [
        (info_of(1), ("2", "1", "--labels")),
        (info_of(0), ("2", "0")),
        (info_of(10), ("2", "10", "cat, dog", "--labels")),
        (info_of(3, "cat", "cow", "ant"), ("1 of its 2", "3", "dog", "--labels")),
        (info_of(3, "cat", "dog", "cat"), ("cat", "--labels")),
    ],
    ids=["few", "none", "more", "other names", "one name twice"],
)
def test_folders_with_other_classes_are_refused(
    info: ModelInfo, facts: Facts, folder: Path
) -> None:
    with pytest.raises(ImageError, match=naming(*facts)):
        labelled_for(info, folder)


def test_a_name_that_is_there_twice_does_not_matter_to_others(folder: Path) -> None:
    info = info_of(4, "cow", "cow", "dog", "cat")
    assert labelled_for(info, folder)[1].tolist() == [3, 3, 3, 2, 2]


def test_the_message_names_the_classes_that_do_not_fit(tmp_path: Path) -> None:
    names = [f"class {i:02}" for i in range(20)]
    for name in (*names, "other"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(ImageError, match=naming("1 of its 21", "other")) as refusal:
        labelled_for(info_of(20, *names), tmp_path)
    assert "class 19" not in str(refusal.value)


def test_numbers_of_imagenet_are_called_so(tmp_path: Path) -> None:
    for name in ("n01440764", "n01443537"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    with pytest.raises(ImageError, match=naming("ImageNet", "n01440764", "--labels")):
        labelled_for(info_of(2, "tench", "goldfish"), tmp_path)


def test_identifiers_of_imagenet_are_its_numbers(tmp_path: Path) -> None:
    """Of some of them too; those of Imagenette are known to be these numbers."""
    folders = ["n01440764", "n02102040", "n02979186", "n03425413"]
    for labels in ((), imagenet_names(), tuple(name.upper() for name in imagenet_names())):
        said: list[str] = []
        order = class_order(info_of(1000, *labels), folders, tmp_path, said.append)
        assert order.tolist() == [0, 217, 482, 571]
        assert len(said) == 1 and tells(said[0], "ImageNet's")
    for info in (info_of(1000, *map(str, range(1000))), info_of(999)):
        with pytest.raises(ImageError):
            class_order(info, folders, tmp_path)
    own = info_of(1000, *folders[::-1], *map(str, range(996)))
    assert class_order(own, folders, tmp_path).tolist() == [3, 2, 1, 0]


def test_accents_may_be_in_their_letters_or_apart(tmp_path: Path) -> None:
    """macOS takes them apart in names of files; the two looked alike in the refusal."""
    labels = ("café", "naïve", "zoo")
    apart = [unicodedata.normalize("NFD", name) for name in labels]
    assert apart[0] != labels[0]
    assert class_order(info_of(3, *labels), apart, tmp_path).tolist() == [0, 1, 2]


def test_numbers_of_tar_files_are_the_models_own(tmp_path: Path) -> None:
    said: list[str] = []
    numbers = ["0", "1", "2"]
    for labels in ((), ("cat", "dog", "cow", "ant"), ("3", "2", "1", "0")):
        order = class_order(info_of(4, *labels), numbers, tmp_path, said.append, numbered=True)
        assert order.tolist() == ([3, 2, 1] if labels[:1] == ("3",) else [0, 1, 2])
    assert len(said) == 1 and tells(said[0], "guess", "numbers")
    for labels in (("cat", "dog"), ("0", "1")):
        with pytest.raises(ImageError, match=naming("class 2", "0 to 1")):
            class_order(info_of(2, *labels), numbers, tmp_path, numbered=True)


def test_what_is_guessed_of_classes_is_said(folder: Path) -> None:
    said: list[str] = []
    labelled_for(info_of(2), folder, said.append)
    assert len(said) == 2 and tells(said[0], "left out")
    assert tells(said[1], "guess", "cat, dog", "0 to 1")
    labelled_for(info_of(2, "dog", "cat"), folder, said.append)
    assert len(said) == 3 and tells(said[2], "left out")


def test_top_k_prefers_the_lower_index_among_equals() -> None:
    logits = np.array([[1.0, 3.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]], np.float32)
    assert top_k(logits, 4).tolist() == [[1, 2, 4, 3], [0, 1, 2, 3]]
    assert top_k(logits, 99).shape == (2, 5)
    assert top_k(np.zeros((1, 1000), np.float32), 1000).tolist() == [list(range(1000))]


def counted(logits: np.ndarray, labels: list[int]) -> tuple[int, int, int]:
    """What a tally has after two batches, of the first and of all others."""
    tally = Tally.of(logits[:1], np.array(labels[:1]))
    tally += Tally.of(logits[1:], np.array(labels[1:], np.int64))
    return tally.first, tally.among_five, tally.count


def test_accuracy_counts_first_and_first_five() -> None:
    logits = np.tile(np.arange(8, dtype=np.float32), (4, 1))  # classes 7, 6, 5, 4, 3, …
    assert counted(logits, [7, 6, 3, 2]) == (1, 3, 4)
    few = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    assert counted(few, [1, 1]) == (1, 2, 2)


def test_ties_are_not_counted_for_the_label() -> None:
    assert counted(np.zeros((1, 10), np.float32), [9]) == (0, 0, 1)
    assert counted(np.zeros((1, 10), np.float32), [0]) == (1, 1, 1)


def test_softmax_bears_huge_logits() -> None:
    huge = np.array([[3e38, 3e38, -3e38], [-1e4, 0.0, 1e4]], np.float32)
    assert softmax(huge).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    small = softmax(np.log(np.array([[1.0, 2.0, 5.0]])))
    assert small == pytest.approx(np.array([[0.125, 0.25, 0.625]]), abs=1e-15)


@given(st.lists(st.integers()), st.integers(1, 9))
def test_batches_are_the_items(items: list[int], size: int) -> None:
    batches = list(batched(items, size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])


def candidate(forward: Forward, info: ModelInfo) -> Candidate:
    return Candidate("model", Opened(forward, info, {}))


def channel_means(images: np.ndarray) -> dict[str, np.ndarray]:
    """A model of three classes: how red, green and blue an image is."""
    return {"logits": images.mean(axis=(2, 3))}


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    for name, colour in (("blue", (0, 0, 255)), ("green", (0, 255, 0)), ("red", (255, 0, 0))):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (40, 30), colour).save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_predict_names_the_classes_most_probable_first(colours: Path) -> None:
    info = info_of(3, "red", "green", "blue")
    paths = [colours / "green" / "0.png", colours / "red" / "1.png", colours / "blue" / "2.png"]
    rows = [*predict(Opened(channel_means, info, {}), paths, batch_size=2, k=2)]
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    assert [row["classes"][0]["label"] for row in rows] == ["green", "red", "blue"]
    assert [row["classes"][0]["index"] for row in rows] == [1, 0, 2]
    for row, path in zip(rows, paths, strict=True):
        first, second = (entry["probability"] for entry in row["classes"])
        assert 1 > first > second > 0
        expected = softmax(channel_means(load_image(path, info.preprocessing)[None])["logits"])
        assert first == expected.max()


def two_logits(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": np.array([[0.0, -800.0]] * len(images), np.float32)}


@pytest.mark.parametrize(
    ("task", "shares"),
    [
        ("single_label", [1.0, 0.0]),
        ("multi_label", [0.5, 0.0]),
        ("regression", [0.0, -800.0]),
    ],
)
def test_answers_are_what_the_task_says(task: str, shares: list[float], colours: Path) -> None:
    info = dataclasses.replace(info_of(2), task=task)
    said: list[str] = []
    (row,) = predict(Opened(two_logits, info, {}), [colours / "red" / "0.png"], 1, 2, said.append)
    key = "value" if task == "regression" else "probability"
    assert [entry[key] for entry in row["classes"]] == shares
    assert (len(said) == 1 and task in said[0]) == (task != "single_label")


def test_the_numbers_of_a_regression_are_shown_whole_and_in_order(colours: Path) -> None:
    def three(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.array([[1.0, 3.0, 2.0]] * len(images), np.float32)}

    info = dataclasses.replace(info_of(3), task="regression")
    (row,) = predict(Opened(three, info, {}), [colours / "red" / "0.png"], 1, 2)
    found = [(entry["index"], entry["value"]) for entry in row["classes"]]
    assert found == [(0, 1.0), (1, 3.0), (2, 2.0)]


def test_one_logit_is_a_probability_of_its_own(colours: Path) -> None:
    def one(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.full((len(images), 1), np.log(3), np.float32)}

    said: list[str] = []
    (row,) = predict(
        Opened(one, info_of(1, "defect"), {}), [colours / "red" / "0.png"], 1, 5, said.append
    )
    (found,) = row["classes"]
    assert found["label"] == "defect" and found["probability"] == pytest.approx(0.75)
    assert tells(said[0], "binary", "sigmoid")


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_class_folders_do_not_score_other_tasks(task: str, colours: Path) -> None:
    info = dataclasses.replace(info_of(3, "red", "green", "blue"), task=task)
    with pytest.raises(ConfigError, match=naming(task, "--task")):
        validate([candidate(channel_means, info)], colours)
    with pytest.raises(ConfigError, match=naming("binary")):
        validate([candidate(channel_means, info_of(1))], colours)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(bad: float, colours: Path) -> None:
    def broken(images: np.ndarray) -> dict[str, np.ndarray]:
        logits = images.mean(axis=(2, 3))
        logits[logits[:, 1] > 0, 2] = bad
        return {"logits": logits}

    info, paths = info_of(3, "red", "green", "blue"), list_images([colours])
    with pytest.raises(PvtError, match=naming(str(colours / "green" / "0.png"), "1", "3")):
        list(predict(Opened(broken, info, {}), paths, 2, 3))
    with pytest.raises(PvtError, match=naming(str(colours / "green" / "0.png"))):
        validate([candidate(broken, info)], colours, Options(2))


def test_photos_are_turned_where_it_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in "ab":
        (tmp_path / name).mkdir()
        image = Image.new("RGB", (40, 40))
        image.paste((0, 0, 255), (0, 0, 40, 20))
        image.save(tmp_path / name / "0.png", exif=exif)
        image.save(tmp_path / name / "1.png")

    def upper(images: np.ndarray) -> dict[str, np.ndarray]:
        blue = images[:, 2, :16].mean(axis=(1, 2))
        return {"logits": np.stack([np.zeros_like(blue), blue], axis=1)}

    info = info_of(2, "a", "b")
    for orientation, first in (("exif", ["a", "b"]), ("stored", ["b", "b"])):
        said: list[str] = []
        paths = list_images([tmp_path / "a"])
        rows = [*predict(Opened(upper, info.turned(orientation), {}), paths, 2, 1, said.append)]
        assert [row["classes"][0]["label"] for row in rows] == first
        assert len(said) == 1 and tells(said[0], f"orientation {orientation}", "1 of 2")
        said.clear()
        options = Options(2, orientation)
        (hit,) = validate([candidate(upper, info)], tmp_path, options, tell=said.append)
        assert hit.standing.tally.first == 2
        assert len(said) == 1 and tells(said[0], f"orientation {orientation}", "2 of 4")
    said.clear()
    validate([candidate(upper, info)], tmp_path, tell=said.append)
    assert tells(said[0], "orientation stored")


def test_columns_line_up_whatever_the_script() -> None:
    found = [{"label": "猫咪", "probability": 0.9}, {"label": "a", "probability": 0.05}]
    rows = [
        {"image": "图片.png", "classes": found},
        {"image": "e\u0301.png", "classes": found[::-1]},
    ]
    # As a terminal of fixed pitch shows them: 图片.png takes 8 columns, é.png 5.
    assert "".join(write_table(Head("m", {}, 2, "probability"), rows)).splitlines() == [
        "图片.png  猫咪 90.00%  a     5.00%",
        "e\u0301.png     a     5.00%  猫咪 90.00%",
    ]
    assert display_width("图片.png") == 8


def test_predict_and_validate_need_a_head(colours: Path) -> None:
    with pytest.raises(PvtError, match=naming("head")):
        predict(Opened(channel_means, info_of(0), {}), [colours / "red" / "0.png"], 1, 1)
    maps = dataclasses.replace(info_of(0).config, features_only=True)
    info = dataclasses.replace(info_of(0), config=maps)
    with pytest.raises(PvtError, match=naming("stage1", "stage2", "stage3", "stage4")):
        validate([candidate(channel_means, info)], colours)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_validate_matches_names_whatever_the_order(batch_size: int, colours: Path) -> None:
    seen: list[tuple[int, int]] = []
    named = candidate(channel_means, info_of(3, "red", "green", "blue"))
    options = Options(batch_size)
    (result,) = validate([named], colours, options, lambda done, total: seen.append((done, total)))
    assert result.standing.tally.by_class.tolist() == [[3, 3, 3]] * 4
    assert seen[-1] == (9, 9) and len(seen) == -(-9 // batch_size)
    # Without names the folders are classes in alphabetical order: blue and red change places.
    (result,) = validate([candidate(channel_means, info_of(3))], colours, options)
    assert (result.standing.tally.first, result.standing.tally.count) == (3, 9)


def test_pixels_are_normalised_as_rescaling_and_switches_say() -> None:
    plain = Preprocessing(mean=(0.25,), std=(0.5,))
    assert (pixel_mean(plain), pixel_std(plain)) == (63.75, 127.5)
    raw = dataclasses.replace(plain, mean=(120.0,), std=(60.0,), rescale=1.0)
    assert (pixel_mean(raw), pixel_std(raw)) == (120, 60)
    off = dataclasses.replace(raw, rescale=1 / 128, normalise=False)
    assert (pixel_mean(off), pixel_std(off)) == (0, 128)
    assert off.resized == (248, 248)


def test_a_border_of_a_mean_beyond_pixels_has_the_nearest():
    far = Preprocessing((32, 32), mean=(-1.0, 2.0**40, 0.5), std=(1.0, 1.0, 1.0))
    far = dataclasses.replace(far, resize="inside", crop_mode="border")
    image = Image.fromarray(np.full((8, 32, 3), 7, np.uint8))
    assert fit(image, far).getpixel((0, 0)) == (0, 255, 128)
