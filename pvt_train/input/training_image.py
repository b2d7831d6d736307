"""One training image from its source, as a function of (seed, epoch, its number, repetition)."""

import numpy as np

from pvt_data.sources.source import Source
from pvt_spec import ImageError
from pvt_spec.arrays import Array
from pvt_train.input.augmentation import RESAMPLING, Augmentation
from pvt_train.input.decoding import decode_crop
from pvt_train.input.processes import Unreadable
from pvt_train.input.randomness import RandomUse, generator

NONE = -1
"""The number of an image where none could be read."""


class ImageMaker:
    """Makes training images; what :class:`pvt_train.input.processes.Make` asks for."""

    def __init__(self, source: Source, augmentation: Augmentation):
        """Keeps both.

        Args:
            source: The source of images.
            augmentation: What is done to them; its recipe's ``max_unreadable`` limits how many
                others are tried for one that cannot be read.
        """
        self.source = source
        self.augmentation = augmentation

    def __call__(self, item: Array, out: Array) -> tuple[int, list[Unreadable]]:
        """Fills ``out`` with an image, or with another where it cannot be read.

        Args:
            item: int64 (3,): epoch, number of the image, repetition within the epoch.
            out: uint8 (H, W, C).

        Returns:
            Number of the image that it is, or :data:`NONE`; what could not be read, and why.
        """
        recipe = self.augmentation.recipe
        epoch, index, repetition = map(int, item)
        place = (epoch, index, repetition)
        failed: dict[int, str] = {}
        others: np.random.Generator | None = None
        while True:
            try:
                rng = generator(recipe.seed, RandomUse.AUGMENTATION, *place)
                out[...] = self._augmented(index, rng)
                return index, list(failed.items())
            except ImageError as error:
                failed[index] = str(error).removeprefix(f"{self.source.name(index)}: ")
            if len(failed) > recipe.max_unreadable or len(failed) == len(self.source):
                return NONE, list(failed.items())
            others = others or generator(recipe.seed, RandomUse.REPLACEMENT, *place)
            while index in failed:
                index = int(others.integers(len(self.source)))

    def _augmented(self, index: int, rng: np.random.Generator) -> Array:
        augmentation = self.augmentation
        preprocessing = augmentation.preprocessing
        crop = decode_crop(
            self.source.read(index),
            self.source.name(index),
            lambda width, height: augmentation.crop(width, height, rng),
            preprocessing.image_size,
            len(preprocessing.mean),
            RESAMPLING[augmentation.recipe.interpolation],
        )
        return augmentation.finish(crop, rng)
