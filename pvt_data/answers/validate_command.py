"""``validate``, the same command in every runtime."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    refuse_unreadable,
)
from pvt_data.command_line import PATH, say, show_result
from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json
from pvt_spec.files.replacing import check_target, replacing
from pvt_spec.files.stamps import check_unchanged, hash_files, stamp_files
from pvt_spec.words import counted

if TYPE_CHECKING:
    from pvt_data.answers.validate import Candidate, Validation


def add_validate(group: click.Group, engines: Engines) -> None:
    """Adds ``validate MODEL… --data-dir DIR`` to a runtime's command line."""

    @group.command()
    @click.argument("models", nargs=-1, type=PATH, metavar="MODEL...")
    @model_options
    @click.option(
        *("--data-dir", "data"),
        required=True,
        type=PATH,
        metavar="DIR",
        help="A folder of images per class or of tar files; or one tar file; or a list: an image "
        "and its class on each line.",
    )
    @orientation_option("stored")
    @batch_options("validate")
    @click.option(
        "--limit",
        default=0,
        type=click.IntRange(0),
        help="Of the images at most, evenly spaced over all of them; default: all.",
    )
    @engine_options(engines)
    @click.option("--per-class", is_flag=True, help="The accuracy of each class too.")
    @output_options({"json": "One JSON document.", "csv": "A table in the columns of timm's."})
    @click.option(
        "--resume",
        type=PATH,
        metavar="FILE",
        help="Go on from what FILE has of these models and images, and keep in it how far they "
        "come.",
    )
    def validate(
        models: tuple[Path, ...],
        ckpt_path: Path | None,
        variant: str | None,
        data: Path,
        orientation: str,
        batch_size: int | None,
        limit: int,
        workers: int | None,
        per_class: bool,
        output: Path | None,
        force: bool,
        resume: Path | None,
        **given: Any,
    ) -> None:
        """Top-1 and top-5 accuracy of each MODEL over labelled images, with 95 % intervals.

        Images are those of DIR/CLASS/*, of tar files, or of a list whose paths are relative to its
        folder. Where DIR holds the folders train and val, its val is meant. Preprocessing and the
        order of classes come from MODEL itself; models of the same preprocessing share the images
        that are decoded.
        """
        from pvt_data.answers import results
        from pvt_data.answers.standings import StandingsFile
        from pvt_data.answers.validate import Options, validate as validate_all
        from pvt_data.progress import progress_bar

        form = choose_form(given, output, results.ENDINGS)
        if per_class and form == "csv":
            raise click.UsageError("--per-class: timm's columns have no classes, take --json")
        if output:
            check_target(output, force)
        paths = [*([ckpt_path] if ckpt_path else []), *models]
        if not paths:
            raise click.UsageError("Missing argument 'MODEL...'.")
        kept = StandingsFile(resume) if resume else None
        candidates = [_open(engines, path, variant, given, bool(kept)) for path in paths]
        if all(os.path.isdir(data / split) for split in ("train", "val")):
            data = data / "val"
            say(f"images of {data}")
        options = Options(batch_size, orientation, limit, workers)
        with progress_bar("images") as show:
            runs = validate_all(candidates, data, options, show, say, kept)
        text = results.write(runs, form, per_class)
        if output:
            with replacing(output, force) as stream:
                stream.write(text.encode("utf-8", "surrogateescape"))
        else:
            show_result(text, end="")
        _say_the_rest(runs)


def _open(
    engines: Engines, path: Path, variant: str | None, engine: Mapping[str, Any], named: bool
) -> "Candidate":
    """Opens a model; where it is ``named``, it can be told from any other, and how it is run."""
    from pvt_data.answers.validate import Candidate

    if not named:
        return Candidate(str(path), open_model(engines, path, variant, engine), "")
    file = engines.find(path)[0]
    stamps = stamp_files(file)
    opened = open_model(engines, path, variant, engine)
    stamps = stamp_files(file, opened.beside) | stamps
    # However many threads share its work, it answers the same.
    chosen = {name: value for name, value in engine.items() if name != "threads" and value}
    identity = encode_json([hash_files(file, opened.beside), *engines.choices, chosen])
    check_unchanged(stamps)
    return Candidate(str(path), opened, identity)


def _say_the_rest(runs: Sequence["Validation"]) -> None:
    """Says how quick models were, and names what gave no answers and what could not be read.

    Raises:
        PvtError: Something is named.
    """
    from pvt_data.answers.results import speed

    unreadable: dict[str, str] = {}
    for run in runs:
        say(f"{run.candidate.name}: {run.error}" if run.error else speed(run))
        unreadable |= run.standing.unreadable
    refuse_unreadable(unreadable, max(run.standing.done for run in runs))
    if failed := sum(run.error is not None for run in runs):
        raise PvtError(f"{failed} of {counted(len(runs), 'model')} gave no answers")
