"""What both twins train on: the batches of some updates, from a folder or generated."""

from itertools import islice
from pathlib import Path

import numpy as np

from parity.inputs.drawing import SCENES, Stream, scene, with_channels
from pvt_data.sources.folders import open_source
from pvt_data.sources.source import Source
from pvt_spec import ModelInfo
from pvt_train.input.loader import TrainingBatches, mixed_batch
from pvt_train.input.randomness import drop_path_scales
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Batch


def open_images(recipe: Recipe) -> Source | None:
    """Returns the images of the recipe's folder, None where it names none."""
    return open_source(Path(recipe.data_dir) / recipe.train_split) if recipe.data_dir else None


def read_batches(
    source: Source | None, recipe: Recipe, info: ModelInfo, first: int, steps: int
) -> tuple[list[list[Batch]], int]:
    """Returns the batches of some updates of a run.

    Args:
        source: The images; None for generated ones, of which every update is an epoch, so that
            the learning rate moves.
        recipe: How they are augmented, mixed and dropped.
        info: The model.
        first: The number of the first update, from 0.
        steps: The number of updates.

    Returns:
        The batches of each update; how many updates an epoch has.

    Raises:
        ImageError: An image cannot be read, or there are too few.
    """
    if source is None:
        return [_drawn(recipe, info, first + step) for step in range(steps)], 1
    groups: list[list[Batch]] = []
    with TrainingBatches(source, recipe, info) as batches:
        length = batches.steps_per_epoch
        while len(groups) < steps:
            epoch, done = divmod(first + len(groups), length)
            groups += islice(batches.epoch(epoch, done), steps - len(groups))
    return groups, length


def _drawn(recipe: Recipe, info: ModelInfo, step: int) -> list[Batch]:
    """Returns the batches of one update, of images that look natural."""
    config, size, count = info.config, recipe.batch_size, recipe.gradient_accumulation_steps
    batches = []
    for number in range(step * count, (step + 1) * count):
        drawn = [
            scene(Stream(recipe.seed, i), *info.preprocessing.image_size, *SCENES[i % len(SCENES)])
            for i in range(number * size, (number + 1) * size)
        ]
        images = [with_channels(pixels.clip(0, 255), config.in_chans) for pixels in drawn]
        pixels = np.stack(images).astype(np.uint8)
        labels = np.arange(number * size, (number + 1) * size) % config.num_classes
        drop_path = drop_path_scales(config, recipe.seed, number, size)
        batches.append(mixed_batch(recipe, info, pixels, labels, drop_path, number))
    return batches
