"""Files of class names: text, or JSON in the forms that are in use."""

from pathlib import Path
from typing import Any

from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import parse_json
from pvt_spec.files.limits import MAX_CLASSES
from pvt_spec.files.models import read_text
from pvt_spec.files.replacing import AnyPath
from pvt_spec.words import listed

_FORMS = (
    "a list of names; an object of numbers to names, or to [number in ImageNet, name]; or one of "
    "names to numbers"
)


_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What ends a line."""


def read_labels(path: AnyPath) -> tuple[str, ...]:
    """Reads class names in the order of the logits.

    A text has one on each line; empty lines at its end do not count. JSON is a list of them, or
    numbers from 0 beside them, as in transformers' ``id2label``, ImageNet's
    ``imagenet_class_index.json`` or torchvision's ``class_to_idx``.

    Raises:
        ConvertError: It is no such file.
    """
    path = Path(path)
    text = read_text(path)
    value = _parsed(path, text)
    if value is not None:
        return _names_in_json(path, value)
    if (count := sum(map(text.count, _ENDS))) > MAX_CLASSES:
        raise ConvertError(f"{path}: has {count} lines, expected at most {MAX_CLASSES} classes")
    lines = text.rstrip().splitlines()
    if not lines:
        raise ConvertError(f"{path}: is empty, expected a class name on each line")
    empty = [str(number) for number, line in enumerate(lines, 1) if not line.strip()]
    if empty:
        raise ConvertError(
            f"{path}: lines {listed(empty, 10)} are empty, expected a class name on each: name "
            "these classes, or take the lines out"
        )
    return tuple(line.strip() for line in lines)


def _parsed(path: Path, text: str) -> Any:
    """Returns the JSON in a file, or None where it is a text."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return parse_json(text)
    except ValueError as error:
        if path.suffix.lower() != ".json":
            return None
        raise ConvertError(f"{path}: is not whole JSON ({error}): correct it") from None


def _names_in_json(path: Path, value: Any) -> tuple[str, ...]:
    if isinstance(value, dict) and value and all(map(_is_number, value.values())):
        by_number = {str(number): name for name, number in value.items()}
        value = by_number if len(by_number) == len(value) else {}
    if isinstance(value, dict) and {*value} == {str(number) for number in range(len(value))}:
        value = [value[str(number)] for number in range(len(value))]
        if all(isinstance(pair, list) and len(pair) == 2 for pair in value):
            value = [name for _, name in value]
    names = value if isinstance(value, list) else []
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ConvertError(f"{path}: is JSON of another form, expected {_FORMS}")
    return tuple(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
