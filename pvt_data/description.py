"""What a user says of a model file, in place of what the file says or does not.

A field's metadata says how the option is typed and what the help says of it, so that commands,
their help and the library's arguments are one row. Nothing heavy is imported here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pvt_spec import PROFILES, TASKS
from pvt_spec.arguments import CheckedFields
from pvt_spec.errors import PvtError


def option(
    flag: str,
    help: str,
    default: Any = None,
    *,
    choices: Sequence[str] = (),
    kind: str = "",
    within: tuple[float, float | None] | None = None,
    unit: str | None = None,
) -> Any:
    """Returns a field, with its option in the metadata.

    Args:
        flag: The word that a user types.
        help: The text for it in the help.
        default: The field's value where it is not given; False makes a flag without a value.
        choices: The values that it can have; () for any.
        kind: The kind of value, a key of :data:`pvt_data.options.KINDS`; "" for a text.
        within: The least and the most of a number, as its type has them; None as most for any.
        unit: What the help has in its place.
    """
    row: dict[str, Any] = {"flag": flag, "help": help, "choices": choices, "kind": kind}
    row |= {"within": within, "unit": unit}
    return field(default=default, metadata=row)


@dataclass(frozen=True, kw_only=True)
class Description(CheckedFields):
    """What the user says of a model.

    Attributes:
        model: A variant's name.
        profile: A numerics profile's name.
        labels: Class names, in the order of the logits.
        task: What the logits mean, one of :data:`pvt_spec.TASKS`.
        preprocessing: Names and values of fields of :class:`pvt_spec.Preprocessing`, but not
            of the image's size.
    """

    model: str | None = option("--model", "The variant, where it is not to be detected.")
    profile: str | None = option(
        "--profile", "The maths of the model's code.", choices=tuple(PROFILES)
    )
    labels: tuple[str, ...] = option(
        "--labels",
        "Class names in the order of the logits: a text, one on each line, or JSON.",
        (),
        kind="labels",
    )
    task: str | None = option(
        "--task",
        "What the logits mean: a softmax or a sigmoid of them, or they themselves.",
        choices=tuple(TASKS),
    )
    preprocessing: tuple[tuple[str, Any], ...] = option(
        "--preprocessing",
        "How images are prepared, repeatable: crop_pct=0.9, resize=squash, mean=[0.5,0.5,0.5], …",
        (),
        kind="preprocessing",
    )


def check_variant(name: str, found: str | None, said: str | None) -> None:
    """Refuses a file that holds another variant than the user says.

    Args:
        name: The file's.
        found: The variant that it holds; None for none with a name.
        said: What the user says; None for nothing.

    Raises:
        PvtError: They differ.
    """
    if said and found != said:
        hint = f"--model {found} or " if found else ""
        raise PvtError(
            f"{name} holds {found or 'no named variant'}, expected {said}: give {hint}another file"
        )


def apart(chosen: Mapping[str, Any]) -> tuple[Description, dict[str, Any]]:
    """Returns what was said of a model, and what else was chosen: what runs it, say."""
    names = {row.name for row in fields(Description)}
    said = Description(**{name: value for name, value in chosen.items() if name in names})
    return said, {name: value for name, value in chosen.items() if name not in names}
