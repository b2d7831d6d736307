"""Training images per second of one core: ours, the usual pipeline on Pillow, and MindSpore's.

    python -m benchmarks.input_speed --json input_speed.json

All three crop, resize to 224 × 224 with a bicubic filter, mirror and, where asked, augment with
RandAugment (m9-mstd0.5-inc1). Ours hands over uint8, as its device normalises; the usual pipeline
decodes whole images and normalises to float32 (C, H, W) on the host; MindSpore's does both in C++,
with its own RandAugment, of one operation per image as ours applies on average. Ours and the usual
one erase boxes as well. Times are of the processor, all threads together, per image. Targets: at
least 1.3 (500 × 375) and 2.5 (2000 × 1500) times the usual pipeline's speed, and half of
MindSpore's.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.processes import add_json_option, in_turn, quartiles, report
from pvt_data.images.pixels import normalise
from pvt_data.sources.folders import ClassFolders
from pvt_spec import default_preprocessing, make_config
from pvt_train.input.augmentation import Augmentation
from pvt_train.input.randomness import RandomUse, generator
from pvt_train.input.training_image import ImageMaker
from pvt_train.recipe.keys import Recipe

FILES = 12
"""Images of each size."""

SIZES = ((500, 375), (2000, 1500))
AUGMENTS = ("randaug-m9-mstd0.5-inc1", None)

Take = Callable[[int], None]
"""Makes that many training images."""


def write_photos(folder: Path, size: tuple[int, int]) -> None:
    """Writes parts of scikit-learn's two photographs as baseline JPEGs, quality 90, 4:2:0."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(FILES):
        photo = photos[number % 2]
        if number % 4 > 1:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        left, top = 6 * number, 4 * number
        part = photo.crop((left, top, left + 560, top + 380))
        target = folder / f"{number % 2}" / f"{number}.jpg"
        target.parent.mkdir(exist_ok=True)
        resized = part.resize(size, Image.Resampling.LANCZOS)
        resized.save(target, "JPEG", quality=90, subsampling="4:2:0")


def ours(folder: Path, recipe: Recipe) -> Take:
    """Returns what a worker process does for each image."""
    source = ClassFolders(folder)
    make = ImageMaker(source, Augmentation(recipe, _preprocessing()))
    out = np.empty((224, 224, 3), np.uint8)
    places = _places(len(source))

    def take(count: int) -> None:
        for _ in range(count):
            _, unreadable = make(np.array(next(places)), out)
            assert not unreadable

    return take


def usual(folder: Path, recipe: Recipe) -> Take:
    """Returns the same for images that are decoded whole, then normalised on the host."""
    source, preprocessing = ClassFolders(folder), _preprocessing()
    augmentation = Augmentation(recipe, preprocessing)
    places = _places(len(source))

    def take(count: int) -> None:
        for _ in range(count):
            place = next(places)
            rng = generator(recipe.seed, RandomUse.AUGMENTATION, *place)
            with Image.open(source.name(place[1])) as file:
                image = file.convert("RGB")
            box = augmentation.crop(image.width, image.height, rng)
            crop = image.crop(box).resize((224, 224), Image.Resampling.BICUBIC)
            normalise(augmentation.finish(crop, rng), preprocessing)

    return take


def mindspore(folder: Path, recipe: Recipe) -> Take:
    """MindSpore's own pipeline with one worker; never further ahead than one image per stage."""
    from mindspore import dataset
    from mindspore.dataset import vision

    dataset.config.set_prefetch_size(1)
    preprocessing = _preprocessing()
    steps = [
        vision.RandomCropDecodeResize(
            224, recipe.scale, recipe.ratio, interpolation=vision.Inter.BICUBIC
        ),
        vision.RandomHorizontalFlip(recipe.hflip),
        *([vision.RandAugment(1, 9)] if recipe.auto_augment else []),
        vision.Normalize(
            [255 * mean for mean in preprocessing.mean], [255 * std for std in preprocessing.std]
        ),
        vision.HWC2CHW(),
    ]
    images = dataset.ImageFolderDataset(str(folder), num_parallel_workers=1, shuffle=False)
    images = images.map(steps, "image", num_parallel_workers=1).repeat(1 << 20)
    rows = images.create_tuple_iterator(num_epochs=1, output_numpy=True)

    def take(count: int) -> None:
        for _ in range(count):
            next(rows)

    return take


CONTESTANTS = {"ours": ours, "usual": usual, "mindspore": mindspore}


def _preprocessing() -> Any:
    return default_preprocessing(make_config("pvt_tiny"), "mindcv")


def _places(count: int) -> Iterator[tuple[int, int, int]]:
    """Yields epoch, image and repetition, one epoch after another."""
    epoch = 0
    while True:
        yield from ((epoch, index, 0) for index in range(count))
        epoch += 1


def measure(size: tuple[int, int], auto_augment: str | None, options: Any) -> dict[str, Any]:
    """Returns the figures of one size of images."""
    recipe = Recipe("pvt_tiny", auto_augment=auto_augment, color_jitter=None)
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), size)
        takes = {name: open_one(Path(folder), recipe) for name, open_one in CONTESTANTS.items()}
        for name in takes:
            takes[name](FILES)
        for name in in_turn(takes, options.rounds):
            start = time.process_time()
            takes[name](options.images)
            seconds[name].append((time.process_time() - start) / options.images)
        takes.clear()  # or MindSpore would miss the folder
    return {
        "size": f"{size[0]} x {size[1]}",
        "RandAugment": "on" if auto_augment else "off",
        **{f"{name} ms": 1e3 * median(times) for name, times in seconds.items()},
        **_speed(seconds, "usual"),
        **_speed(seconds, "mindspore"),
    }


def _speed(seconds: dict[str, list[float]], other: str) -> dict[str, Any]:
    middle, spread = quartiles(seconds[other], seconds["ours"])
    return {f"times {other}'s speed": middle, f"{other} quartiles": spread}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--images", type=int, default=60, help="per turn")
    parser.add_argument("--core", type=int, help="to run on; by default the last one")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    os.sched_setaffinity(0, {core})
    print(f"core {core}, {options.rounds} rounds of {options.images} images\n")
    report([measure(size, each, options) for size in SIZES for each in AUGMENTS], options.json)


if __name__ == "__main__":
    main()
