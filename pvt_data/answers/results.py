"""What ``validate`` shows: lines and tables for people, JSON and timm's CSV for programs."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from math import prod
from typing import Any

from pvt_data.answers.accuracy import Tally, wilson_interval
from pvt_data.answers.standings import Standing
from pvt_data.answers.validate import Validation
from pvt_spec.files.json_text import encode_json
from pvt_spec.model_info import ModelInfo
from pvt_spec.tensors import tensor_specs
from pvt_spec.words import columns, counted, printable, shortened

CSV_COLUMNS = (
    *("model", "top1", "top1_err", "top5", "top5_err"),
    *("param_count", "img_size", "crop_pct", "interpolation"),
)
"""The columns of timm's files of results, in their order."""

ENDINGS = {"table": ".txt", "json": ".json", "csv": ".csv"}
"""Form of the results -> the ending of files of it."""

_LONGEST = 60
"""Characters of a class's name that are shown."""


def write(runs: Sequence[Validation], form: str, per_class: bool) -> str:
    """Returns the results in one of :data:`ENDINGS`, with those of each class if asked for."""
    if form == "csv":
        return to_csv(runs)
    if form == "json":
        records = [to_dict(run, per_class) for run in runs]
        return encode_json(records if len(runs) > 1 else records[0]) + "\n"
    return "".join(f"{line}\n" for line in text(runs, per_class))


def shares(tally: Tally) -> dict[str, Any]:
    """Returns the accuracy in percent, the intervals that it is in with 95 %, and the loss.

    Args:
        tally: The counts of at least one image.
    """
    found: dict[str, Any] = {}
    for name, hits in (("top1", tally.first), ("top5", tally.among_five)):
        found[name] = 100 * (hits / tally.count)
        found[f"{name}_interval"] = [100 * end for end in wilson_interval(hits, tally.count)]
    return {**found, "loss": tally.loss / tally.count}


def class_shares(tally: Tally, info: ModelInfo) -> Iterator[dict[str, Any]]:
    """Yields the accuracy of each class, in percent; None where it is of no image.

    ``precision`` is the share of the images that were answered with the class which are of it.
    """
    for index, (images, first, five, answers) in enumerate(tally.by_class.T.tolist()):
        yield {
            "index": index,
            "label": info.label(index),
            "count": images,
            "top1": 100 * first / images if images else None,
            "top5": 100 * five / images if images else None,
            "precision": 100 * first / answers if answers else None,
        }


def to_dict(run: Validation, per_class: bool) -> dict[str, Any]:
    """Returns what JSON has of a model."""
    opened, standing = run.candidate.opened, run.standing
    if run.error:
        return {"model": run.candidate.name, "error": str(run.error)}
    whole, alone = rates(standing)
    return {
        "model": run.candidate.name,
        **shares(standing.tally),
        "count": standing.tally.count,
        "unreadable": dict(standing.unreadable),
        "images_per_second": whole,
        "model_images_per_second": alone,
        "engine": dict(opened.facts),
        **({"classes": [*class_shares(standing.tally, opened.info)]} if per_class else {}),
    }


def rates(standing: Standing) -> tuple[float, float]:
    """Returns images per second, all in all, and of the model alone."""
    count = standing.tally.count
    return count / max(standing.seconds, 1e-9), count / max(standing.model_seconds, 1e-9)


def speed(run: Validation) -> str:
    """Returns a line that says how long a model took."""
    standing, (whole, alone) = run.standing, rates(run.standing)
    return (
        f"{run.candidate.name}: {counted(standing.tally.count, 'image')} in "
        f"{standing.seconds:.1f} s, {whole:.1f} images/s; the model alone {alone:.1f}"
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2f} %"


def _between(ends: Sequence[float]) -> str:
    return f"({ends[0]:.2f} to {ends[1]:.2f})"


def table(runs: Sequence[Validation]) -> list[str]:
    """Returns the lines that people read: a sentence for one model, a table for several."""
    good = [run for run in runs if not run.error]
    if len(runs) == 1:
        (found,) = (shares(run.standing.tally) for run in good)
        return [
            f"Top-1 {_percent(found['top1'])} {_between(found['top1_interval'])}  "
            f"Top-5 {_percent(found['top5'])} {_between(found['top5_interval'])}  "
            f"loss {found['loss']:.4f}  over {counted(good[0].standing.tally.count, 'image')}"
        ]
    rows = [["model", "Top-1", "95 %", "Top-5", "95 %", "loss", "images"]]
    for run in good:
        found = shares(run.standing.tally)
        accuracy = (
            text
            for name in ("top1", "top5")
            for text in (_percent(found[name]), _between(found[f"{name}_interval"]))
        )
        count = f"{run.standing.tally.count:,}"
        rows.append([printable(run.candidate.name), *accuracy, f"{found['loss']:.4f}", count])
    return columns(rows)


def text(runs: Sequence[Validation], per_class: bool) -> Iterator[str]:
    """Yields the lines of :func:`table`, and of :func:`class_table` for each model if asked for."""
    yield from table(runs)
    for run in runs if per_class else ():
        if not run.error:
            yield ""
            if len(runs) > 1:
                yield printable(run.candidate.name)
            yield from class_table(run)


def class_table(run: Validation) -> list[str]:
    """Returns a line for each class that an image or an answer is of."""
    rows = [["class", "images", "Top-1", "95 %", "Top-5", "precision"]]
    for each, (images, first, _, answers) in zip(
        class_shares(run.standing.tally, run.candidate.opened.info),
        run.standing.tally.by_class.T.tolist(),
        strict=True,
    ):
        if images or answers:
            ends = [100 * end for end in wilson_interval(first, images)] if images else None
            label = shortened(printable(each["label"]), _LONGEST)
            rows.append(
                [
                    *(label, f"{images:,}", _percent(each["top1"]), _between(ends) if ends else ""),
                    *(_percent(each["top5"]), _percent(each["precision"])),
                ]
            )
    return columns(rows)


def to_csv(runs: Iterable[Validation]) -> str:
    """Returns a table of :data:`CSV_COLUMNS` as timm's ``validate.py`` writes it.

    The shares are percent to four digits, the parameters are millions, the size is the width of the
    crop in pixels. A model is called what it was called on the command line.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for run in runs:
        if run.error:
            continue
        found, info = shares(run.standing.tally), run.candidate.opened.info
        accuracy = (
            round(share, 4)
            for name in ("top1", "top5")
            for share in (found[name], 100 - found[name])
        )
        parameters = sum(prod(spec.shape) for spec in tensor_specs(info.config))
        preprocessing = info.preprocessing
        writer.writerow(
            [
                *(run.candidate.name, *accuracy, round(parameters / 1e6, 2)),
                *(preprocessing.image_size[1], preprocessing.crop_pct, preprocessing.interpolation),
            ]
        )
    return text.getvalue()
