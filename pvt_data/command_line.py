"""What all command lines share: errors told to the user, and how options are written.

Everything heavier than click is imported inside the commands, so that ``--help`` stays quick.
"""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from pvt_data.edge import edge
from pvt_packages import DISTRIBUTION, installed_version
from pvt_spec.errors import PvtError
from pvt_spec.files.limits import MAX_LINE
from pvt_spec.words import presentable, printable, shortened

PATH = click.Path(path_type=Path, readable=False)
"""The type of paths: what cannot be read is told by who reads it, in our words."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


TARGETS = ("dst", "html", "junit", "output", "report", "resume")
"""The names of options and arguments, or their last words, for files that a command writes."""


PATTERNS = ("images", "image_path", "paths")
"""The names of those for files that it reads, which may be patterns and so are texts."""

READ = "pvt_data.files that were read"
"""The key in a context's ``meta`` under which an option's callback keeps files that it has read."""


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        version = installed_version(DISTRIBUTION) or "(not installed)"
        click.echo(f"{ctx.find_root().info_name}, of {DISTRIBUTION} {version}")
        ctx.exit()


VERSION = click.Option(
    ["--version"],
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_version,
    help="Show the version and exit.",
)


class Versioned(click.Command):
    """A command with ``--version``."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Returns the command's parameters, with the version's before the help's."""
        own = super().get_params(ctx)
        place = -1 if self.get_help_option(ctx) in own else len(own)
        return [*own[:place], VERSION, *own[place:]]


class Command(Versioned):
    """A command whose options are also taken in MindCV's spelling: ``--data_dir``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options, with ``_`` in their names as ``-``.

        Raises:
            click.UsageError: An argument is empty, as an unset variable makes it: that would be the
                folder that one is in.
        """
        options = [each for each in self.params if isinstance(each, click.Option)]
        texts = {name for each in options if _may_be_empty(each) for name in each.opts}
        names = {name for each in options for name in each.opts}
        for before, argument in zip(["", *args], args, strict=False):
            name = _dashed(argument).removesuffix("=")
            unset = argument.endswith("=") and name in names - texts
            if unset or (not argument and _dashed(before) not in texts):
                raise click.UsageError("an argument is empty, expected a name", ctx)
        return super().parse_args(ctx, [_dashed(argument) for argument in args])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, unless it cannot write, or would write over what it reads."""
        targets: list[Path] = []
        others: list[Path] = ctx.meta.get(READ, [])
        for name, value in ctx.params.items():
            values = value if isinstance(value, (tuple, list)) else [value]
            if name in PATTERNS:
                values = [Path(each) for each in values]
            paths = [each for each in values if isinstance(each, Path)]
            (targets if name.rpartition("_")[2] in TARGETS else others).extend(paths)
        if not targets:
            return super().invoke(ctx)
        from pvt_spec.files.growing import part_of
        from pvt_spec.files.reading import to_be_written
        from pvt_spec.files.replacing import check_distinct, check_folder, check_not_read

        parts = [part_of(target) for target in targets]
        check_not_read([*targets, *parts], others)
        check_distinct(targets)
        for target in targets:
            if target.parent not in targets:
                check_folder(target)
        # What a run goes on with is read first.
        resumed = ctx.params.get("resume")
        with to_be_written(target for target in (*targets, *parts) if target != resumed):
            return super().invoke(ctx)


def _may_be_empty(option: click.Option) -> bool:
    return not option.is_flag and not isinstance(option.type, click.Path)


def _dashed(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


class Commands(Versioned, click.Group):
    """A group whose commands end in one message, whatever happens; see :func:`edge`."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(
            *args, **{"context_settings": {"help_option_names": ["-h", "--help"]}, **kwargs}
        )

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Reads the arguments."""
        with _told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with _told(), warnings.catch_warnings():
            hush_pillow()
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    """Tells a :class:`PvtError` by its message, with exit code 1, and all else at the edge."""
    with edge(click.ClickException, click.exceptions.Exit, click.Abort):
        try:
            yield
        except PvtError as error:
            raise click.ClickException(str(error)) from error
        except click.UsageError as error:  # it has whatever was given
            error.message = shortened(error.message, MAX_LINE)  # type: ignore[misc]
            raise


def hush_pillow() -> None:
    """Has Pillow say nothing of large images and damaged data; what it refuses is an error."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def say(message: str) -> None:
    """Writes a line on stderr, where everything goes that is not the result."""
    click.echo(presentable(message), err=True)


def show_result(text: str, end: str = "\n") -> None:
    """Writes a result on stdout: as it is for programs, on a terminal fit for one."""
    shown = printable(text, keep="\n") if sys.stdout.isatty() else text
    click.echo(f"{shown}{end}", nl=False)


def parse_image_size(text: str) -> tuple[int, int]:
    """Reads ``"224"`` or ``"224x192"`` (H x W) as (H, W).

    Raises:
        PvtError: The text is neither.
    """
    match = re.fullmatch("([0-9]{1,9})(?:x([0-9]{1,9}))?", text)
    if not match:
        raise PvtError(
            f"image size {shortened(text)!r}: expected pixels, S or HxW, as in 224 or 192x256"
        )
    return int(match[1]), int(match[2] or match[1])
