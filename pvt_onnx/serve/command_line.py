"""``pvt-onnx serve``. Everything heavier than click is imported inside the command."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from pvt_data.answers.commands import Engines, describe, engine_options
from pvt_data.command_line import PATH, say
from pvt_data.description import Description, apart
from pvt_data.edge import leave
from pvt_data.options import as_option
from pvt_onnx.serve.options import ServeOptions

_OWN = fields(ServeOptions)
_MODEL = next(row for row in fields(Description) if row.name == "model")


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for row in reversed(_OWN):
        command = as_option(row, row.name)(command)
    return command


def add_serve(group: click.Group, engines: Engines) -> None:
    """Adds ``serve MODEL…`` to a command line."""

    @group.command()
    @click.argument("models", nargs=-1, type=PATH, metavar="[MODEL]...")
    @click.option(
        "--repository",
        type=PATH,
        metavar="DIR",
        help="Serve DIR/NAME/VERSION/model.onnx, in place of MODEL.",
    )
    @_with_options
    @as_option(_MODEL, "model", "Of a MODEL that does not say it: ")
    @engine_options(engines)
    @click.pass_context
    def serve(
        ctx: click.Context, /, models: tuple[Path, ...], repository: Path | None, **given: Any
    ) -> None:
        """Serve models over HTTP, by the Open Inference Protocol, version 2."""
        options = ServeOptions(**{row.name: given.pop(row.name) for row in _OWN})
        if bool(models) == bool(repository):
            got = "both MODEL and --repository" if models else "neither MODEL nor --repository"
            raise click.UsageError(f"{got}, expected one of them", ctx)
        stopped = _serve(models, repository, options, given)
        if stopped:
            leave("stopped", 128 + stopped)


def _serve(
    models: tuple[Path, ...], repository: Path | None, options: ServeOptions, chosen: dict[str, Any]
) -> int | None:
    from pvt_onnx.engines.options import EngineOptions
    from pvt_onnx.engines.table import find_engine
    from pvt_onnx.serve.models import ServedModel, open_served
    from pvt_onnx.serve.repository import ModelFile, list_repository, name_files
    from pvt_packages import require

    require("starlette", "uvicorn", "httptools", "prometheus_client")
    from pvt_onnx.serve.web.server import serve

    said, engine = apart({name: value for name, value in chosen.items() if value is not None})
    engine_options_ = EngineOptions(**engine, calls=1)
    find_engine(engine_options_)
    files = list_repository(repository, say) if repository else name_files(models, say)

    def open_(file: ModelFile) -> ServedModel:
        found = open_served(
            *(file.path, file.name, file.version, engine_options_, said, options.max_pixels, say)
        )
        say(f"{file.path}: runs in {describe(found.file.engine.facts)}")
        return found

    return serve(files, open_, options, say)
