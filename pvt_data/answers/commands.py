"""What ``predict`` and ``validate`` share: which model, and what runs it.

Everything heavier than click is imported inside the functions, so that ``--help`` stays quick.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pvt_data.command_line import PATH, say
from pvt_data.description import Description, check_variant
from pvt_data.images.ahead import BATCHES, MOST_IMAGES, MOST_THREADS
from pvt_data.options import as_option
from pvt_spec.errors import ImageError
from pvt_spec.files.models import find_model
from pvt_spec.files.replacing import AnyPath
from pvt_spec.model_info import ORIENTATIONS
from pvt_spec.words import counted

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened

Size = tuple[int, int] | None
"""The (H, W) in pixels of images; None for a model's own."""

Find = Callable[[AnyPath], tuple[Path, str]]
"""A function that returns the file that a path to a model stands for, and how it was chosen."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Engines:
    """What runs models in one of the packages.

    Attributes:
        choices: Engine -> what it can run on -> in which precisions; of each the first is the
            default.
        open: The function that opens a model file, given something to tell, what was chosen of
            ``engine``, ``provider``, ``threads`` and ``precision``, and the (H, W) in pixels of
            images that are of another size than the model's own.
        describes: Whether files may have to be described by the user; what is chosen then has
            the fields of :class:`pvt_data.description.Description` too.
        find: The function that returns the file that a path to a model stands for, and how it was
            chosen.
    """

    choices: Mapping[str, Mapping[str, Collection[str]]]
    open: "Callable[[Path, Callable[[str], None], Mapping[str, Any], Size], Opened]"
    describes: bool = False
    find: Find = find_model


def model_options(command: _Command) -> _Command:
    """Adds MindCV's way of naming the model."""
    for option in (
        click.option(
            "--model", "variant", help="The variant that the file must hold, as pvt_tiny."
        ),
        click.option(
            "--ckpt-path",
            type=PATH,
            metavar="FILE",
            help="The model file, in place of MODEL.",
        ),
    ):
        command = option(command)
    return command


def orientation_option(default: str | None) -> Callable[[_Command], _Command]:
    """Returns an option that says what is done with photos that a camera kept sideways.

    Args:
        default: What is done without it; None for what MODEL says.
    """
    shown = "MODEL's own, usually exif" if default is None else default
    return click.option(
        "--orientation",
        type=click.Choice([*ORIENTATIONS]),
        default=default,
        help="Turn photos as their EXIF orientation says, or take pixels as they are stored; "
        f"default: {shown}.",
    )


def batch_options(command_name: str) -> Callable[[_Command], _Command]:
    """Returns the options that say how many images are answered and decoded at once.

    Args:
        command_name: A key of :data:`pvt_data.images.ahead.BATCHES`.
    """

    def add(command: _Command) -> _Command:
        command = click.option(
            "--workers",
            type=click.IntRange(1, MOST_THREADS),
            help="Threads that decode images while the model runs; default: one for each core.",
        )(command)
        return click.option(
            "--batch-size",
            type=click.IntRange(1, MOST_IMAGES),
            help=f"Images in a call of the model; default: {BATCHES[command_name]}, or 1 where "
            "calls are made side by side.",
        )(command)

    return add


def output_options(forms: Mapping[str, str]) -> Callable[[_Command], _Command]:
    """Returns the options that say in what form answers are written, and where to.

    Args:
        forms: Form -> what the help says of it; see :func:`choose_form`.
    """

    def add(command: _Command) -> _Command:
        command = click.option("--force", is_flag=True, help="Replace the FILE of --output.")(
            command
        )
        command = click.option(
            *("--output", "-o"),
            type=PATH,
            metavar="FILE",
            help="Write to FILE, in the form that its ending says if none is asked for.",
        )(command)
        for form, about in reversed([*forms.items()]):
            command = click.option(f"--{form}", form, is_flag=True, help=about)(command)
        return command

    return add


def choose_form(given: dict[str, Any], output: Path | None, endings: Mapping[str, str]) -> str:
    """Takes the flags of :func:`output_options` out of what was given, and returns what they ask.

    Args:
        given: The values of a command's options.
        output: The file that answers go to; None for stdout.
        endings: Form -> the ending of its files; the first is the default, which has no flag.

    Raises:
        click.UsageError: Several forms are asked for, or none can be told.
    """
    default, *forms = endings
    asked = [form for form in forms if given.pop(form)]
    if len(asked) > 1:
        raise click.UsageError(f"--{' and --'.join(asked)}: expected one form")
    if asked or output is None:
        return asked[0] if asked else default
    for form, ending in endings.items():
        if output.suffix.lower() == ending:
            return form
    raise click.UsageError(
        f"--output {output}: in which form? Give --{' or --'.join(forms)}, or a FILE that ends in "
        f"{', '.join(endings.values())}"
    )


def engine_options(engines: Engines) -> Callable[[_Command], _Command]:
    """Returns the options that say what runs a model, as far as there is a choice.

    Where models may have to be described, those for that come after them.
    """
    providers = [name for engine in engines.choices.values() for name in engine]
    precisions = [
        name for engine in engines.choices.values() for row in engine.values() for name in row
    ]

    def add(command: _Command) -> _Command:
        described = [row for row in fields(Description) if engines.describes]
        for row in reversed(described):
            if row.name != "model":  # which model_options has
                command = as_option(row, row.name, "Of a MODEL that does not say it: ")(command)
        command = click.option(
            "--threads",
            type=click.IntRange(1, MOST_THREADS),
            help="Threads that share the work of one operator; default: the engine's own choice.",
        )(command)
        for name, given, about in (
            ("precision", precisions, "What floats are computed in"),
            ("provider", providers, "What the engine runs on"),
            ("engine", [*engines.choices], "What runs the model"),
        ):
            known = [*dict.fromkeys(given)]
            if len(known) > 1:
                text = f"{about}; default: {known[0]}."
                command = click.option(f"--{name}", type=click.Choice(known), help=text)(command)
        return command

    return add


def open_model(
    engines: Engines,
    path: Path,
    variant: str | None,
    chosen: Mapping[str, Any],
    size: Size = None,
) -> "Opened":
    """Opens a model file, which must hold this variant, and says what runs it.

    Args:
        engines: What opens it.
        path: The file, or the folder of a run.
        variant: The variant's name; None for any.
        chosen: The values of :func:`engine_options`; None for what was not chosen.
        size: The (H, W) in pixels of what it will be given, in place of its own.

    Raises:
        PvtError: It holds another, or cannot be opened.
    """
    path, taken = engines.find(path)
    if taken:
        say(taken)
    given = {name: value for name, value in chosen.items() if value is not None}
    if engines.describes:
        given["model"] = variant
    opened = engines.open(path, say, given, size)
    check_variant(str(path), opened.info.variant, variant)
    say(f"{path}: runs in {describe(opened.facts)}")
    return opened


def describe(facts: Mapping[str, str]) -> str:
    """Returns what really runs a model in a line."""
    own = ("framework", "mode")
    others = (f"{name} {value}" for name, value in facts.items() if name not in own)
    return f"{facts['framework']}: {', '.join((*others, facts['mode']))}"


def refuse_unreadable(unreadable: Mapping[str, str], total: int) -> None:
    """Names the images that could not be read, once the others are answered.

    Raises:
        ImageError: There are some, of so many in all.
    """
    for name, why in unreadable.items():
        say(f"left out: {name}: {why}")
    if unreadable:
        raise ImageError(f"{len(unreadable)} of {counted(total, 'image')} could not be read")
