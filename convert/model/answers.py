"""What a file says of images and of its answers: what is guessed, given, or done otherwise."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from convert.findings import Finding
from convert.formats.huggingface.config import MAPS
from convert.formats.huggingface.images import GUESSED, REPLACED, make_preprocessor, otherwise
from convert.options import Given
from pvt_spec import TASKS, ModelInfo
from pvt_spec.errors import ConvertError

_WAY_OUT = "--preprocessing KEY=VALUE"


def agree(info: ModelInfo, described: ModelInfo) -> bool:
    """Returns whether our description in a folder says what its own JSON files say."""
    numerics = dataclasses.replace(info.numerics, pos_embed_dtype="float32")
    ours = info.config, numerics, info.labels
    if ours != (described.config, described.numerics, described.labels):
        return False
    # What no logits mean is said by none of its files.
    if info.config.num_classes and info.task != described.task:
        return False
    prepared = (make_preprocessor(each.preprocessing) for each in (info, described))
    return GUESSED in described.provenance or len({*map(str, prepared)}) == 1


def guess_of_images(info: ModelInfo, given: Given) -> str:
    """Returns what is guessed of how images are prepared, "" where all of it is known or given."""
    if {"crop_pct", "mean", "std"} <= {*dict(given.preprocessing)}:
        return ""
    if reason := info.provenance.get(GUESSED):
        return f"{reason} ({_WAY_OUT})"
    shown = info.preprocessing
    mean, std = ("/".join(f"{value:g}" for value in each) for each in (shown.mean, shown.std))
    return (
        f"images are resized {shown.interpolation}, crop_pct {shown.crop_pct:g}, mean {mean}, std "
        f"{std}: as is usual for profile {info.profile}; weights do not show it ({_WAY_OUT})"
    )


def with_given(info: ModelInfo, given: Given) -> ModelInfo:
    """Returns a model's description with what the user says of images and answers.

    Raises:
        ConfigError: It cannot be.
        ConvertError: A value is of another kind than its field.
    """
    changes: dict[str, Any] = dict(given.preprocessing)
    try:
        preprocessing = dataclasses.replace(info.preprocessing, **changes)
    except TypeError as error:
        raise ConvertError(
            f"--preprocessing {changes}: expected numbers, lists of numbers for mean and std, and "
            "words for what has names"
        ) from error
    return dataclasses.replace(info, preprocessing=preprocessing, task=given.task or info.task)


def describe_answers(info: ModelInfo, given: Given, configured: bool) -> Iterator[Finding]:
    """Yields what answers mean, and what is not as a reader may think.

    Args:
        info: The model's.
        given: What the user says.
        configured: Whether it is from the JSON files of a folder.
    """
    if info.config.num_classes and (given.task or info.task != "single_label"):
        how = "given" if given.task else TASKS[info.task]
        yield Finding("task", info.task, how)
    if configured and not given.preprocessing and (notes := info.provenance.get(REPLACED)):
        yield Finding("replaced", notes, _WAY_OUT, f"preprocessing: {notes}")
    if configured and (maps := info.provenance.get(MAPS)):
        yield Finding("replaced", maps)
    yield from _label_warnings(info)


def replaced_in_transformers(info: ModelInfo) -> Iterator[Finding]:
    """Yields what becomes otherwise in a folder that transformers loads."""
    for difference in otherwise(info.preprocessing):
        yield Finding("replaced", difference, text=f"{difference} in transformers")


def _label_warnings(info: ModelInfo) -> Iterator[Finding]:
    twice = {name: times for name, times in Counter(info.labels).items() if times > 1}
    if twice:
        named = ", ".join(f"{name} ({times} times)" for name, times in twice.items())
        yield Finding(
            "warning",
            f"several classes have the same name: {named}: folders of these names cannot be "
            "validated (--labels FILE)",
        )
    blank = [str(index) for index, name in enumerate(info.labels) if not name.strip()]
    if blank:
        yield Finding("warning", f"classes without a name: {', '.join(blank)} (--labels FILE)")
