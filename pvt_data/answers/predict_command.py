"""``predict``, the same command in every runtime."""

from pathlib import Path
from typing import Any

import click

from pvt_data.answers.commands import (
    Engines,
    engine_options,
    model_options,
    open_model,
    orientation_option,
    refuse_unreadable,
)
from pvt_data.command_line import say
from pvt_spec.files.json_text import encode_json


def add_predict(group: click.Group, engines: Engines) -> None:
    """Adds ``predict MODEL IMAGES…`` to a runtime's command line."""

    @group.command()
    @click.argument("paths", nargs=-1, metavar="MODEL IMAGES...")
    @model_options
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
    @engine_options(engines)
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
        **engine: Any,
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
        forward, info, _ = open_model(engines, ckpt_path or Path(paths[0]), variant, engine)
        if orientation:
            info = info.turned(orientation)
        with progress_bar("images") as show:
            rows = predict_images(forward, info, files, batch_size, top_k, say, show)
        for line in [encode_json(rows, indent=1)] if as_json else table(rows):
            click.echo(line)
        refuse_unreadable(unreadable(rows), len(rows))
