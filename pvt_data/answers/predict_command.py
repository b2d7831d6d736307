"""``predict``, the same command in every runtime."""

from pathlib import Path
from typing import Any

import click

from pvt_data.answers.commands import (
    Engines,
    batch_options,
    choose_form,
    engine_options,
    model_options,
    open_model,
    orientation_option,
    output_options,
)
from pvt_data.answers.requests import STDIN, Request, count_images, run
from pvt_data.command_line import parse_image_size


def add_predict(group: click.Group, engines: Engines) -> None:
    """Adds ``predict MODEL IMAGES…`` to a runtime's command line."""

    @group.command()
    @click.argument("paths", nargs=-1, metavar="MODEL IMAGES...")
    @model_options
    @click.option("--image-path", multiple=True, metavar="IMAGE", help="One more of IMAGES.")
    @click.option("--null", "-0", is_flag=True, help="Names on stdin end in zero bytes, not lines.")
    @click.option(
        "--top-k",
        default=5,
        show_default=True,
        type=click.IntRange(1),
        help="Classes to show per image; of a regression all are shown.",
    )
    @orientation_option(None)
    @click.option("--image-size", help="Pixels, S or HxW, in place of MODEL's own.")
    @batch_options("predict")
    @engine_options(engines)
    @output_options(
        {
            "json": "One JSON document.",
            "jsonl": "A JSON object in a line for each image.",
            "csv": "Comma-separated values.",
        }
    )
    @click.option(
        "--resume",
        is_flag=True,
        help="Go on with FILE, .jsonl or .csv: images that are in it are not answered again.",
    )
    def predict(
        paths: tuple[str, ...],
        ckpt_path: Path | None,
        variant: str | None,
        image_path: tuple[str, ...],
        orientation: str | None,
        image_size: str | None,
        output: Path | None,
        **given: Any,
    ) -> None:
        """Most probable classes of IMAGES: files, folders, glob patterns, or - for a list on stdin.

        Preprocessing, class names and what the answers mean come from MODEL itself.
        """
        sources = (*paths[ckpt_path is None :], *image_path)
        if not sources:
            raise click.UsageError("Missing argument 'MODEL IMAGES...'.")
        from pvt_data.answers.rows import FORMATS

        form = choose_form(given, output, {name: row.ending for name, row in FORMATS.items()})
        names = ("null", "top_k", "batch_size", "workers", "force", "resume")
        kept = {name: given.pop(name) for name in names}
        request = Request(sources=sources, form=form, output=output, **kept)
        check_request(request)
        total = count_images(request)
        size = None if image_size is None else parse_image_size(image_size)
        opened = open_model(engines, ckpt_path or Path(paths[0]), variant, given, size)
        if orientation:
            opened = opened._replace(info=opened.info.turned(orientation))
        run(request, opened, str(ckpt_path or paths[0]), total)


def check_request(request: Request) -> None:
    """Refuses, before any work, options that do not go together, and a file that is there.

    Raises:
        click.UsageError: They do not.
        PvtError: The file exists, or cannot be written.
    """
    from pvt_data.answers.rows import FORMATS
    from pvt_spec.files.replacing import check_targets

    if request.resume and request.output is None:
        raise click.UsageError("--resume goes on with a file: give --output FILE")
    if request.resume and request.force:
        raise click.UsageError("--resume goes on with what --force would replace: give one of them")
    if request.resume and not FORMATS[request.form].read:
        raise click.UsageError(f"--resume: {request.form} cannot be gone on with, take --jsonl")
    if request.null and STDIN not in request.sources:
        raise click.UsageError(f"--null is about a list on stdin, which is {STDIN} among IMAGES")
    if request.output:
        check_targets([request.output], request.force or request.resume)
