"""The batches of every update of training, from any step on.

A batch is a function of the recipe, the images and the step. How many processes make it, and how
many workers share an update, change nothing.
"""

from collections.abc import Iterator

import numpy as np

from pvt_data.sources.source import Source
from pvt_spec import ImageError, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.words import counted
from pvt_train.input.augmentation import Augmentation
from pvt_train.input.mixing import apply, draw_mix, smooth_labels
from pvt_train.input.processes import ImageProcesses, Made, make_here, process_count
from pvt_train.input.randomness import RandomUse, drop_path_scales, epoch_order, generator
from pvt_train.input.training_image import NONE, ImageMaker
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch

ITEM = 3
"""Numbers that say which image is meant: epoch, number in the source, repetition."""


class TrainingBatches:
    """The training images of a run as batches, for one of the workers that share each update.

    A context manager that ends the processes that read images.

    Attributes:
        images: Images that an epoch is made of.
        batch_size: Images of this worker per batch, B: the recipe's; all there are where one
            worker has fewer.
        global_batch: Images of all workers per update.
        steps_per_epoch: Updates per epoch; images that are left over are left out.
        unreadable: (name, reason) of the images that could not be read in the latest epoch.
        processes: The processes that read images, or None where this one does.
    """

    def __init__(
        self, source: Source, recipe: Recipe, info: ModelInfo, rank: int = 0, ranks: int = 1
    ):
        """Reads the recipe; no image yet.

        Args:
            source: The images; its labels are the model's.
            recipe: How they are augmented, mixed and shared out.
            info: The model they are for.
            rank: This worker's number, from 0.
            ranks: Number of workers.

        Raises:
            ConfigError: The augmentation cannot be.
            ImageError: There are too few images for one update, or the model takes other than
                1 or 3 channels.
        """
        self._source, self._recipe, self._info = source, recipe, info
        self._rank, self._ranks = rank, ranks
        self._accumulated = recipe.gradient_accumulation_steps
        self.images = min(len(source), recipe.num_samples or len(source))
        self.batch_size = self._choose_batch_size()
        self.global_batch = self.batch_size * ranks * self._accumulated
        self.steps_per_epoch = self.images // self.global_batch
        self.unreadable: list[tuple[str, str]] = []
        H, W = info.preprocessing.image_size
        self._shape = (H, W, info.config.in_chans)
        if info.config.in_chans not in (1, 3):
            raise ImageError(
                f"the model takes {info.config.in_chans} channels, but image files give 1 or 3"
            )
        self._make = ImageMaker(source, Augmentation(recipe, info.preprocessing))
        count = process_count(recipe.num_parallel_workers)
        items = (self.batch_size, ITEM)
        self.processes = ImageProcesses(self._make, count, items, self._shape) if count else None

    def __enter__(self) -> "TrainingBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes that read images; they are started again if need be."""
        if self.processes:
            self.processes.close()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Returns the batches of an epoch's updates, ``gradient_accumulation_steps`` for each.

        Args:
            epoch: The epoch's number, from 0.
            start: Updates of the epoch that are done; their images are not read.

        Raises:
            ImageError: More images cannot be read than the recipe's ``max_unreadable``.
            TrainingError: A process that reads images was killed.
        """
        self.unreadable = []
        first = epoch * self.steps_per_epoch * self._accumulated
        done = start * self._accumulated
        mine = slice(self._rank * self.batch_size, (self._rank + 1) * self.batch_size)
        return self._groups(first + done, self._items(epoch)[done:, mine], epoch)

    def _groups(self, number: int, items: Array, epoch: int) -> Iterator[list[Batch]]:
        """Yields updates' batches, of which the first is the ``number``-th of the run."""
        made = self._made(items)
        seen: dict[int, str] = {}
        for _ in range(len(items) // self._accumulated):
            group = []
            for _ in range(self._accumulated):
                one = next(made)
                self._count_unreadable(one, seen, epoch)
                group.append(self._batch(one, number))
                number += 1
            yield group

    def _made(self, items: Array) -> Iterator[Made]:
        if self.processes:
            return self.processes.make(items)
        return make_here(self._make, self._shape, items)

    def _items(self, epoch: int) -> Array:
        """Returns the epoch's images: int64 (batches, B * ranks, ITEM)."""
        order = image_order(self._recipe, epoch, len(self._source))
        size = self.batch_size * self._ranks
        repeats = max(self._recipe.aug_repeats, 1)
        count = self.steps_per_epoch * self._accumulated
        batches = order[: count * size].reshape(count, size, 2)[:, spread(size, repeats)]
        items: Array = np.insert(batches, 0, epoch, axis=2)
        return items

    def _batch(self, made: Made, number: int) -> Batch:
        """Returns the ``number``-th batch of the run, mixed."""
        start, stop = self._rank * self.batch_size, (self._rank + 1) * self.batch_size
        labels, size = self._source.labels[made.used], self.batch_size * self._ranks
        scales = drop_path_scales(self._info.config, self._recipe.seed, number, size)
        own = scales[:, :, start:stop]
        return mixed_batch(self._recipe, self._info, made.pixels, labels, own, number)

    def _count_unreadable(self, made: Made, seen: dict[int, str], epoch: int) -> None:
        seen.update(made.unreadable)
        self.unreadable = [(self._source.name(index), why) for index, why in seen.items()]
        most = self._recipe.max_unreadable
        if len(seen) > most or NONE in made.used:
            named = "; ".join(f"{name}: {reason}" for name, reason in self.unreadable)
            raise ImageError(
                f"{len(seen)} of the training images cannot be read in epoch {epoch + 1}, more "
                f"than the {most} of --max-unreadable: {named}"
            )

    def _choose_batch_size(self) -> int:
        recipe, accumulated = self._recipe, self._accumulated
        needed = recipe.batch_size * self._ranks * accumulated
        if self.images >= needed:
            return recipe.batch_size
        if self._ranks == 1 and self.images >= accumulated:
            return self.images // accumulated
        raise ImageError(
            f"{counted(self.images, 'training image')}, too few for one update of "
            f"{counted(self._ranks, 'worker')} x {counted(accumulated, 'batch')} x "
            f"{counted(recipe.batch_size, 'image')}: give a lower --batch-size"
        )


def mixed_batch(
    recipe: Recipe, info: ModelInfo, pixels: Array, labels: Array, drop_path: Array, number: int
) -> Batch:
    """Returns the ``number``-th batch of a run, mixed.

    Args:
        recipe: How images are mixed and labels smoothed.
        info: The model.
        pixels: uint8 (B, H, W, C), augmented; changed in place.
        labels: int64 (B,).
        drop_path: float32 (blocks, 2, B).
        number: The batch's number, from 0.
    """
    size = info.preprocessing.image_size
    mix = draw_mix(recipe, size, generator(recipe.seed, RandomUse.MIXING, number))
    targets = smooth_labels(labels, info.config.num_classes, recipe.label_smoothing)
    return Batch(*apply(mix, pixels, targets), drop_path)


def image_order(recipe: Recipe, epoch: int, count: int) -> Array:
    """Returns the images of an epoch, and for the how-manieth time each is used.

    With ``aug_repeats`` of n, an epoch has as many images as without, but each n times, as in
    repeated augmentation (Hoffer et al., 2019) in DeiT's ``samplers.py``.

    Args:
        recipe: ``seed``, ``shuffle`` and ``aug_repeats``.
        epoch: The epoch's number, from 0.
        count: Number of images there are.

    Returns:
        int64 (count, 2): number of the image, repetition from 0.
    """
    order = epoch_order(recipe.seed, epoch, count) if recipe.shuffle else np.arange(count)
    repeats = max(recipe.aug_repeats, 1)
    places = np.arange(len(order))
    items: Array = np.stack([order[places // repeats], places % repeats], axis=1)
    return items


def spread(size: int, repeats: int) -> Array:
    """Returns an order of a batch that puts an image's repetitions, side by side before, apart.

    They would be mixed with each other, and be on the same worker, which DeiT avoids too.

    Returns:
        int64 (size,): a permutation.
    """
    return np.concatenate([np.arange(first, size, repeats) for first in range(min(repeats, size))])
