"""What Hugging Face's ``config.json`` says of a model's classes, in both directions."""

from collections.abc import Mapping
from typing import Any

from convert.formats.huggingface.images import unfit
from pvt_spec import ModelInfo
from pvt_spec.errors import ConvertError
from pvt_spec.files.models import CONFIG
from pvt_spec.files.records import read_value

_PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}
"""What logits mean -> transformers' ``problem_type``; that of one logit has none."""


def parse_classes(
    config: Mapping[str, Any], version: int, usual: int
) -> tuple[int, tuple[str, ...]]:
    """Returns the number of classes and their names, () where they are transformers' placeholders.

    Without ``num_labels`` the names are counted: v1 of transformers 4 wrote only them.

    Args:
        config: The content of ``config.json``.
        version: The PVT version.
        usual: The number of classes where nothing is said of them.

    Raises:
        ConvertError: The number or the names cannot be, or do not fit each other.
    """
    names, count = config.get("id2label"), config.get("num_labels")
    if count is not None and (count := read_value(int, count, "num_labels")) < 0:
        raise unfit(CONFIG, "num_labels", count, "a whole number from 0")
    if not names:
        if count is None:
            # An empty id2label is how v2 writes that there is no head.
            none = version == 2 and names is not None
            count = 0 if none else usual
        return count, ()
    if not isinstance(names, dict) or {*names} != {str(i) for i in range(len(names))}:
        raise unfit(CONFIG, "id2label", names, "a name for each class from 0")
    names = read_value(dict[str, str], names, "id2label")
    labels = tuple(names[str(index)] for index in range(len(names)))
    if count is not None and count != len(labels):
        raise ConvertError(
            f"config.json: num_labels is {count}, but id2label names {len(labels)} classes: "
            "correct the wrong one of the two"
        )
    return len(labels), () if labels == _placeholders(len(labels)) else labels


def _placeholders(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(count))


def parse_task(config: Mapping[str, Any]) -> str:
    """Returns what transformers' pipeline takes the logits for; "" if it goes by their number.

    Raises:
        ConvertError: ``problem_type`` has another value than transformers knows.
    """
    named = config.get("problem_type")
    if named is None:
        return ""
    task = next((task for task, problem in _PROBLEM_TYPES.items() if problem == named), None)
    if task is None:
        known = ", ".join(_PROBLEM_TYPES.values())
        raise unfit(CONFIG, "problem_type", named, f"one of {known}, or null")
    # Of one logit it takes a sigmoid, whatever the name is.
    return "" if task == "single_label" else task


def make_classes(info: ModelInfo) -> dict[str, Any]:
    """Returns the keys of ``config.json`` that say what the logits are."""
    count = info.config.num_classes
    if not count:
        return {}
    labels = info.labels or _placeholders(count)
    made: dict[str, Any] = {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    if info.task in ("multi_label", "regression"):
        made["problem_type"] = _PROBLEM_TYPES[info.task]
    return made
