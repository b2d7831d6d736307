"""What a state that is moved as it is leaves no room for, and what is left to do for it."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from convert.findings import Finding
from convert.formats.table import FORMATS, STATE, find_format
from convert.options import Changes, Given, OnnxOptions, Options
from convert.training.state import TrainingState
from pvt_spec.errors import ConvertError

_MEANT = {"training_state", "report", "force"}


def check_alone(given: Given, changes: Changes, options: Options) -> None:
    """Refuses options that would change what is moved as it is.

    Raises:
        ConvertError: Some are given; all are named.
    """
    rows: list[Any] = [given, changes, options, options.onnx]
    asked = [
        row.metadata["flag"]
        for record in rows
        for row in fields(record)
        if row.name not in _MEANT
        and not isinstance(value := getattr(record, row.name), OnnxOptions)
        and value != row.default
    ]
    if asked:
        raise ConvertError(
            f"--training-state moves a state as it is: {', '.join(asked)} would change it; convert "
            "the weights alone so, without --training-state"
        )


def check_holds_state(path: Path) -> None:
    """Refuses a target whose format holds no training state.

    Raises:
        ConvertError: It is such a one.
    """
    if STATE not in find_format(path).options:
        able = " or ".join(row.suffixes[0] for row in FORMATS if STATE in row.options)
        raise ConvertError(f"{path}: holds no training state: name a {able}")


def next_to_do(state: TrainingState, source: Path, target: Path) -> Iterator[Finding]:
    """Yields how to go on from a state that was moved."""
    with_recipe = " --config YAML --output RUN" if state.handed_over else " --output RUN"
    how = f"pvt-torch train --resume {target}{with_recipe}, or pvt-ms"
    yield Finding("next_step", how)
