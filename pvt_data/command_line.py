"""What all command lines share: errors told to the user, ``predict`` and ``validate``.

Everything heavier than click is imported inside the commands, so that ``--help`` stays quick.
"""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pvt_data.edge import edge
from pvt_spec.errors import ImageError, PvtError
from pvt_spec.files.json_text import encode_json
from pvt_spec.files.models import find_model
from pvt_spec.model_info import ORIENTATIONS
from pvt_spec.words import counted, presentable, shortened

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Forward
    from pvt_spec.model_info import ModelInfo

_Command = TypeVar("_Command", bound=Callable[..., Any])


TARGETS = ("dst", "html", "junit", "output", "report")
"""The names of options and arguments, or their last words, for files that a command writes."""


READ = "pvt_data.files that were read"
"""The key in a context's ``meta`` under which an option's callback keeps files that it has read."""


class Command(click.Command):
    """A command whose options are also taken in MindCV's spelling: ``--data_dir``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options, with ``_`` in their names as ``-``.

        Raises:
            click.UsageError: An argument is empty, as an unset variable makes it: that would be the
                folder that one is in.
        """
        for before, argument in zip(["", *args], args, strict=False):
            if not argument and not before.startswith("-"):
                raise click.UsageError("an argument is empty, expected a name", ctx)
        return super().parse_args(ctx, [_dashed(argument) for argument in args])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command, unless it would write over something else that it is given."""
        targets: list[Path] = []
        others: list[Path] = ctx.meta.get(READ, [])
        for name, value in ctx.params.items():
            values = value if isinstance(value, (tuple, list)) else [value]
            if name == "images":
                values = [Path(each) for each in values]
            paths = [each for each in values if isinstance(each, Path)]
            (targets if name.rpartition("_")[2] in TARGETS else others).extend(paths)
        if targets:
            from pvt_spec.files.replacing import check_not_read

            check_not_read(targets, others)
            for number, target in enumerate(targets):
                check_not_read([target], targets[:number])
        return super().invoke(ctx)


def _dashed(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


class Commands(click.Group):
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


def hush_pillow() -> None:
    """Has Pillow say nothing of large images and damaged data; what it refuses is an error."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


def say(message: str) -> None:
    """Writes a line on stderr, where everything goes that is not the result."""
    click.echo(presentable(message), err=True)


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


def _model_options(command: _Command) -> _Command:
    """Adds MindCV's way of naming the model."""
    for option in (
        click.option(
            "--model", "variant", help="The variant that the file must hold, as pvt_tiny."
        ),
        click.option(
            "--ckpt-path",
            type=click.Path(path_type=Path),
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


def _open(package: str, path: Path, variant: str | None) -> "tuple[Forward, ModelInfo]":
    """Opens a model file, which must hold this variant, by a package's ``load_forward``.

    Raises:
        PvtError: It does not, or cannot be opened.
    """
    path, taken = find_model(path)
    if taken:
        say(taken)
    load: Callable[..., tuple[Forward, ModelInfo]] = import_module(package).load_forward
    forward, info = load(path, say)
    if variant and info.variant != variant:
        hint = f"--model {info.variant} or " if info.variant else ""
        raise PvtError(
            f"{path} holds {info.variant or 'no named variant'}, expected {variant}: give {hint}"
            "another file"
        )
    return forward, info


def _refuse_unreadable(unreadable: Mapping[str, str], total: int) -> None:
    """Names the images that could not be read, once the others are answered.

    Raises:
        ImageError: There are some, of so many in all.
    """
    for name, why in unreadable.items():
        say(f"left out: {name}: {why}")
    if unreadable:
        raise ImageError(f"{len(unreadable)} of {counted(total, 'image')} could not be read")


def add_predict(group: click.Group, package: str) -> None:
    """Adds ``predict MODEL IMAGES…`` to a runtime's command line."""

    @group.command()
    @click.argument("paths", nargs=-1, metavar="MODEL IMAGES...")
    @_model_options
    @click.option("--image-path", multiple=True, metavar="IMAGE", help="One more of IMAGES.")
    @click.option(
        "--top-k",
        default=5,
        show_default=True,
        type=click.IntRange(1),
        help="Classes to show per image.",
    )
    @orientation_option(None)
    @click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    def predict(
        paths: tuple[str, ...],
        ckpt_path: Path | None,
        variant: str | None,
        image_path: tuple[str, ...],
        top_k: int,
        orientation: str | None,
        batch_size: int,
        as_json: bool,
    ) -> None:
        """Most probable classes of IMAGES: files, folders or glob patterns.

        Preprocessing, class names and what the answers mean come from MODEL itself.
        """
        from pvt_data.answers.predict import predict as predict_images, table, unreadable
        from pvt_data.progress import progress_bar
        from pvt_data.sources.listing import LeftOut, list_images

        images = [*paths[ckpt_path is None :], *image_path]
        if not images:
            raise click.UsageError("Missing argument 'MODEL IMAGES...'.")
        left_out = LeftOut()
        files = list_images(images, left_out)
        if left_out:
            say(str(left_out))
        forward, info = _open(package, ckpt_path or Path(paths[0]), variant)
        if orientation:
            info = info.turned(orientation)
        with progress_bar("images") as show:
            rows = predict_images(forward, info, files, batch_size, top_k, say, show)
        for line in [encode_json(rows, indent=1)] if as_json else table(rows):
            click.echo(line)
        _refuse_unreadable(unreadable(rows), len(rows))


def add_validate(group: click.Group, package: str) -> None:
    """Adds ``validate MODEL --data-dir DIR`` to a runtime's command line."""

    @group.command()
    @click.argument("model", required=False, type=click.Path(path_type=Path))
    @_model_options
    @click.option("--data-dir", required=True, type=click.Path(path_type=Path), metavar="DIR")
    @orientation_option("stored")
    @click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1))
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    def validate(
        model: Path | None,
        ckpt_path: Path | None,
        variant: str | None,
        data_dir: Path,
        orientation: str,
        batch_size: int,
        as_json: bool,
    ) -> None:
        """Top-1 and top-5 accuracy over the images of DIR/CLASS/*, or of tar files in DIR.

        Where DIR holds the folders train and val, its val is meant. Preprocessing and the order of
        classes come from MODEL itself.
        """
        import dataclasses

        from pvt_data.answers.validate import validate as validate_folder
        from pvt_data.progress import progress_bar

        path = ckpt_path or model
        if path is None:
            raise click.UsageError("Missing argument 'MODEL'.")
        forward, info = _open(package, path, variant)
        if all(os.path.isdir(data_dir / split) for split in ("train", "val")):
            data_dir = data_dir / "val"
            say(f"images of {data_dir}")
        with progress_bar("images") as show:
            accuracy = validate_folder(forward, info, data_dir, batch_size, show, say, orientation)
        if as_json:
            click.echo(encode_json(dataclasses.asdict(accuracy)))
        else:
            click.echo(
                f"Top-1 {accuracy.top1:.2f} %  Top-5 {accuracy.top5:.2f} %  "
                f"over {accuracy.count} images"
            )
        _refuse_unreadable(accuracy.unreadable, accuracy.count + len(accuracy.unreadable))
