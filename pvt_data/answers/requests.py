"""What ``predict`` does: images from anywhere to records, and on to where they go.

Everything heavy is imported inside the functions, so that ``--help`` stays quick.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvt_data.command_line import say
from pvt_spec.errors import ImageError, PvtError
from pvt_spec.precisions import FLOAT32
from pvt_spec.words import counted

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened
    from pvt_data.answers.outputs import Output
    from pvt_data.answers.predict import Record

STDIN = "-"
"""What stands for a list on stdin among the images."""

_CLOSE, _COARSE = 1e-4, 1e-3
"""How far answers in float32, and in anything coarser, may be apart, as probabilities, that are
taken for the same model's: engines and batches differ in the last digits, two models in the first.
"""


@dataclass(frozen=True)
class Request:
    """What is to be answered, and where answers go.

    Attributes:
        sources: Files, folders, patterns, and :data:`STDIN`.
        null: Whether names on stdin end in zero bytes instead of lines.
        top_k: Classes of an image.
        batch_size: Images per call; None for what suits the model.
        workers: Threads that decode; None for one for each core.
        form: The name of a format; see :data:`pvt_data.answers.rows.FORMATS`.
        output: The file that answers go to; None for stdout.
        force: Whether it may exist.
        resume: Whether to go on with it.
    """

    sources: tuple[str, ...]
    null: bool
    top_k: int
    batch_size: int | None
    workers: int | None
    form: str
    output: Path | None
    force: bool
    resume: bool


def count_images(request: Request) -> int | None:
    """Returns how many images there are, and says what is left out; None where a list has some.

    Raises:
        ImageError: A source names none.
    """
    from pvt_data.sources.listing import LeftOut, find_images

    left_out = LeftOut()
    files = (source for source in request.sources if source != STDIN)
    count = sum(1 for _ in find_images(files, left_out, whole=False))
    if left_out:
        say(str(left_out))
    return None if STDIN in request.sources else count


def check_list(request: Request) -> None:
    """Refuses to write over the list on stdin, where that is a file.

    Raises:
        ConvertError: The output, or the part of it that is written first, is that file.
    """
    from pvt_spec.files.reading import check_source

    if STDIN in request.sources and sys.stdin:
        with suppress(OSError, ValueError):  # no stream of the system's
            check_source(sys.stdin.fileno(), "the list on stdin")


def images_of(request: Request) -> Iterator[str]:
    """Yields the names of all images; what is listed on stdin is taken as it stands."""
    from pvt_data.sources.listing import find_images
    from pvt_data.sources.names import read_names

    for source in request.sources:
        if source == STDIN:
            if not sys.stdin:
                raise ImageError("stdin is closed: there is no list on it")
            yield from read_names(sys.stdin.buffer, request.null)
        else:
            yield from map(str, find_images([source], whole=False))


def run(request: Request, opened: "Opened", model: str, total: int | None) -> None:
    """Answers a request.

    Args:
        request: What is asked for.
        opened: The model.
        model: What it is called.
        total: How many images there are; None where that is not known.

    Raises:
        ImageError: Some images could not be read; the others are answered.
        PvtError: An answer is not finite, or the output cannot be written.
    """
    from pvt_data.answers.outputs import open_output
    from pvt_data.answers.predict import predict, shown_classes, value_name
    from pvt_data.answers.rows import FORMATS, Head
    from pvt_data.progress import progress_bar

    check_list(request)
    info, form = opened.info, FORMATS[request.form]
    classes = shown_classes(info, request.top_k)
    head = Head(model, opened.facts, classes, value_name(info))
    counts = {"images": 0, "errors": 0}
    with (
        open_output(request.output, form, head, request.force, request.resume) as output,
        progress_bar("images") as show,
    ):
        before = _check_same_model(request, opened, output)
        names = (name for name in images_of(request) if not before or name not in output.names)
        records = predict(
            opened, names, request.batch_size, request.top_k, say,
            lambda done: show(before + done, total), request.workers,
        )  # fmt: skip
        for text in form.write(replace(head, begun=output.begun), _told(records, counts)):
            output.write(text)
        counts["images"] += before
        counts["errors"] += output.errors
    if output.errors:
        say(
            f"{output.errors} of the earlier run's could not be read, and are not tried again: "
            f"each has an error in its row of {request.output}"
        )
    if not counts["images"]:
        say("the list on stdin names no image")
    if counts["errors"]:
        images = counted(counts["images"], "image")
        raise ImageError(f"{counts['errors']} of {images} could not be read")


def _told(records: "Iterable[Record]", counts: dict[str, int]) -> "Iterator[Record]":
    """Yields records, counts them, and names the images that could not be read."""
    for record in records:
        counts["images"] += 1
        if "error" in record:
            counts["errors"] += 1
            say(f"left out: {record['image']}: {record['error']}")
        yield record


def _check_same_model(request: Request, opened: "Opened", output: "Output") -> int:
    """Returns how many images an output has; refuses one that has another model's answers.

    The first of its images are answered again and compared: of one alone, most options make no
    difference that shows.

    Raises:
        PvtError: It has another model's, or those of other options.
    """
    from pvt_data.answers.predict import predict, value_name

    compared, close = 0, _CLOSE if opened.facts.get("precision") == FLOAT32 else _COARSE
    for kept in output.first:
        again = next(predict(opened, [kept["image"]], 1, request.top_k))
        if "error" in again:
            continue
        compared += 1
        if not _is_same(kept, again, value_name(opened.info), close):
            raise PvtError(
                f"{request.output}: what it has of {kept['image']} is not what this model answers "
                "with these options: take those that it was begun with, or --force to begin again"
            )
    if output.first and not compared:
        say(
            f"{request.output}: of its first {len(output.first)} images none is readable now, "
            "so nothing shows whether its answers are this model's"
        )
    if count := len(output.names):
        same = f", the first {compared} of them answered alike" if compared else ""
        images = counted(count, "image")
        say(f"{request.output}: {images} of an earlier run{same}, goes on from there")
    return len(output.names)


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any], key: str, close: float) -> bool:
    """Returns whether two records can be the same model's of the same image."""
    try:
        ours, theirs = ({each["index"]: each for each in row["classes"]} for row in (one, other))
        shared = [(ours[index], theirs[index]) for index in ours.keys() & theirs.keys()]
        ranked = zip(one["classes"], other["classes"], strict=True)
        return all(a["label"] == b["label"] for a, b in shared) and all(
            abs(a[key] - b[key]) <= close * max(1, abs(b[key])) for a, b in (*shared, *ranked)
        )
    except (KeyError, TypeError, ValueError):  # somebody else's classes
        return False
