"""Accuracy over a labelled folder, in any runtime."""

from collections.abc import Callable
from pathlib import Path

from pvt_data.answers.accuracy import Accuracy, Forward, Tally, check_answers
from pvt_data.images.preprocessing import say_sideways
from pvt_data.sources.labels import Tell, check_some_readable, ignore, open_labelled
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import ModelInfo


def validate(
    forward: Forward,
    info: ModelInfo,
    folder: AnyPath,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Tell = ignore,
    orientation: str = "stored",
) -> Accuracy:
    """Returns the top-1 and top-5 accuracy of a runtime over a labelled folder.

    Images that cannot be read are left out, and named in the result.

    Args:
        forward: The runtime.
        info: What travels with the weights that it runs.
        folder: ``CLASS/*.png``, or tar files; see :func:`pvt_data.sources.folders.open_source`.
        batch_size: Images per call; the last batch may hold fewer.
        progress: The function that is told (images done, images in all) after every batch.
        tell: The function that is told what was left out, guessed or not turned.
        orientation: What is done with a photo's EXIF orientation.

    Raises:
        ConfigError: The model has no classes of which one is right.
        ImageError: The folder, or none of the images in it, can be used.
        PvtError: An answer is not finite.
    """
    labelled, tally = open_labelled(info, Path(folder), tell, orientation), Tally()
    unreadable: dict[str, str] = {}
    total = len(labelled.labels)
    for names, images, labels in labelled.batches(range(total), batch_size, unreadable):
        logits = forward(images)["logits"]
        check_answers(logits, names)
        tally.add(logits, labels)
        progress(tally.count + len(unreadable), total)
    check_some_readable(tally.count, unreadable, str(folder))
    if labelled.sideways:
        tell(say_sideways(labelled.sideways, total, orientation))
    count = tally.count
    return Accuracy(
        100 * (tally.first / count), 100 * (tally.among_five / count), count, unreadable
    )
