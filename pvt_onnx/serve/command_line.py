"""``pvt-onnx serve``. Everything heavier than click is imported inside the command."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from pvt_data.answers.commands import Engines, describe, engine_options
from pvt_data.command_line import say
from pvt_data.description import Description, apart
from pvt_data.options import as_option
from pvt_onnx.serve.options import LOGS, ServeOptions

_OWN = ServeOptions()
_MODEL = next(row for row in fields(Description) if row.name == "model")


def add_serve(group: click.Group, engines: Engines) -> None:
    """Adds ``serve MODEL…`` to a command line."""
    path = click.Path(path_type=Path)

    @group.command()
    @click.argument("models", nargs=-1, type=path, metavar="[MODEL]...")
    @click.option(
        "--repository",
        type=path,
        metavar="DIR",
        help="Serve DIR/NAME/VERSION/model.onnx, in place of MODEL.",
    )
    @click.option("--host", default=_OWN.host, show_default=True, help="Listen on this address.")
    @click.option(
        "--port",
        default=_OWN.port,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="Listen on this port; 0: on any that is free.",
    )
    @click.option(
        "--max-batch",
        default=_OWN.max_batch,
        show_default=True,
        type=click.IntRange(1, 4096),
        help="Answer so many images that wait in one call of a model.",
    )
    @click.option(
        "--max-delay",
        default=_OWN.max_delay,
        show_default=True,
        type=click.FloatRange(0, 10_000),
        metavar="MS",
        help="Have a call wait for more images.",
    )
    @click.option(
        "--queue",
        default=_OWN.queue,
        show_default=True,
        type=click.IntRange(1, 1 << 20),
        metavar="N",
        help="Refuse requests beyond N images that a model has to answer.",
    )
    @click.option(
        "--timeout",
        default=_OWN.timeout,
        show_default=True,
        type=click.FloatRange(0.001, 86_400),
        metavar="SECONDS",
        help="Give a request up that was not answered by then.",
    )
    @click.option(
        "--max-body",
        default=_OWN.max_body,
        show_default=True,
        type=click.IntRange(1, 1 << 31),
        metavar="BYTES",
        help="Refuse longer requests.",
    )
    @click.option(
        "--max-pixels",
        default=_OWN.max_pixels,
        show_default=True,
        type=click.IntRange(1),
        metavar="N",
        help="Refuse larger images.",
    )
    @click.option(
        "--drain",
        default=_OWN.drain,
        show_default=True,
        type=click.FloatRange(1, 86_400),
        metavar="SECONDS",
        help="Let requests end on SIGTERM.",
    )
    @click.option(
        "--log",
        default=_OWN.log,
        show_default=True,
        type=click.Choice(LOGS),
        help="Write each request on stderr.",
    )
    @as_option(_MODEL, "model", "Of a MODEL that does not say it: ")
    @engine_options(engines)
    @click.pass_context
    def serve(
        ctx: click.Context, /, models: tuple[Path, ...], repository: Path | None, **given: Any
    ) -> None:
        """Serve models over HTTP, by the Open Inference Protocol, version 2."""
        own = {name: given.pop(name) for name in vars(_OWN)}
        if bool(models) == bool(repository):
            raise click.UsageError("expected either MODEL or --repository", ctx)
        stopped = _serve(models, repository, ServeOptions(**own), given)
        if stopped:
            say("stopped")
            ctx.exit(128 + stopped)


def _serve(
    models: tuple[Path, ...], repository: Path | None, options: ServeOptions, chosen: dict[str, Any]
) -> int | None:
    from pvt_onnx.engines.options import EngineOptions
    from pvt_onnx.engines.table import find_engine
    from pvt_onnx.serve.models import ServedModel, open_served
    from pvt_onnx.serve.repository import ModelFile, list_repository, name_files
    from pvt_packages import require

    require("starlette", "uvicorn", "prometheus_client")
    from pvt_onnx.serve.web.server import serve

    said, engine = apart({name: value for name, value in chosen.items() if value is not None})
    engine_options_ = EngineOptions(**engine, spin=False)
    find_engine(engine_options_)
    files = list_repository(repository, say) if repository else name_files(models, say)

    def open_(file: ModelFile) -> ServedModel:
        found = open_served(
            *(file.path, file.name, file.version, engine_options_, said, options.max_pixels, say)
        )
        say(f"{file.path}: runs in {describe(found.file.engine.facts)}")
        return found

    return serve(files, open_, options, say)
