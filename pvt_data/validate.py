"""Accuracy over a labelled folder, in any runtime."""

from collections.abc import Callable
from pathlib import Path

from pvt_data.accuracy import Accuracy, Forward, Tally
from pvt_data.labels import check_classes, open_labelled
from pvt_spec.model_info import ModelInfo


def validate(
    forward: Forward,
    info: ModelInfo,
    folder: Path,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accuracy:
    """Returns the top-1 and top-5 accuracy of a runtime over a labelled folder.

    Args:
        forward: The runtime.
        info: What travels with the weights that it runs.
        folder: ``CLASS/*.png``, or tar files; see :func:`pvt_data.folders.open_source`.
        batch_size: Images per call; the last batch may hold fewer.
        progress: The function that is told (images done, images in all) after every batch.

    Raises:
        ConfigError: The model has no classes.
        ImageError: The folder or an image in it cannot be used.
    """
    check_classes(info)
    labelled, tally = open_labelled(info, folder), Tally()
    total = len(labelled.labels)
    for images, labels in labelled.batches(range(total), batch_size):
        tally.add(forward(images)["logits"], labels)
        progress(tally.count, total)
    return Accuracy(100 * (tally.first / total), 100 * (tally.among_five / total), total)
