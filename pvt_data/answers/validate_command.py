"""``validate``, the same command in every runtime."""

import os
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


def add_validate(group: click.Group, engines: Engines) -> None:
    """Adds ``validate MODEL --data-dir DIR`` to a runtime's command line."""

    @group.command()
    @click.argument("model", required=False, type=click.Path(path_type=Path))
    @model_options
    @click.option("--data-dir", required=True, type=click.Path(path_type=Path), metavar="DIR")
    @orientation_option("stored")
    @click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1))
    @engine_options(engines)
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    def validate(
        model: Path | None,
        ckpt_path: Path | None,
        variant: str | None,
        data_dir: Path,
        orientation: str,
        batch_size: int,
        as_json: bool,
        **engine: Any,
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
        forward, info, facts = open_model(engines, path, variant, engine)
        if all(os.path.isdir(data_dir / split) for split in ("train", "val")):
            data_dir = data_dir / "val"
            say(f"images of {data_dir}")
        with progress_bar("images") as show:
            accuracy = validate_folder(forward, info, data_dir, batch_size, show, say, orientation)
        if as_json:
            click.echo(encode_json({**dataclasses.asdict(accuracy), "engine": {**facts}}))
        else:
            click.echo(
                f"Top-1 {accuracy.top1:.2f} %  Top-5 {accuracy.top5:.2f} %  "
                f"over {accuracy.count} images"
            )
        refuse_unreadable(accuracy.unreadable, accuracy.count + len(accuracy.unreadable))
