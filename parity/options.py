"""The options that commands of ``parity`` share: a field each of one dataclass.

Everything heavier than click is imported inside functions, so that ``--help`` stays quick.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.hub import find_model
from pvt_data.command_line import PATH, READ, parse_image_size, say
from pvt_data.options import Finite
from pvt_packages import explain_import, require
from pvt_spec.files.json_text import encode_json
from pvt_spec.model_info import ORIENTATIONS

if TYPE_CHECKING:
    from parity.bundles.bundle import Bundle
    from parity.inputs.samples import Inputs
    from parity.result import Result
    from parity.selection import Terms
    from pvt_spec import ModelInfo


def option(*names: str, default: Any = None, **settings: Any) -> Any:
    """Returns a field of :class:`Chosen`; without names the option is called as the field is."""
    metadata = {"names": names, "settings": settings}
    return dataclasses.field(default=default, metadata=metadata)


def takes(*names: str) -> Callable[[Any], Any]:
    """Returns a decorator: a command has these options, and is given them as ``chosen``."""
    fields = [field for field in dataclasses.fields(Chosen) if field.name in names]

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def gathering(chosen: Chosen = Chosen(), **given: Any) -> Any:
            said = {field.name: given.pop(field.name) for field in fields}
            return command(chosen=dataclasses.replace(chosen, **said), **given)

        for field in reversed(fields):
            called = field.metadata["names"] or [f"--{field.name.replace('_', '-')}"]
            settings = {"default": field.default, **field.metadata["settings"]}
            gathering = click.option(field.name, *called, **settings)(gathering)
        return gathering

    return decorate


class NameIn(click.ParamType):  # type: ignore[type-arg]
    """One of a table's keys, which is imported when it is needed.

    Args:
        name: What the help calls it.
        table: Where the table is, ``"module:attribute"``.
        also: Further names.
    """

    def __init__(self, name: str, table: str, also: tuple[str, ...] = ()):
        self.name, self.table, self.also = name, table, also

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Returns the name, if there is one like it."""
        module, _, attribute = self.table.partition(":")
        try:
            names = [*getattr(importlib.import_module(module), attribute), *self.also]
        except ImportError as error:
            raise click.ClickException(f"{value}: {explain_import(error) or error}") from error
        if value not in names:
            self.fail(f"{value!r} is none: there are {', '.join(names)}", param, ctx)
        return str(value)


runtime_name = NameIn("RUNTIME", "parity.runtimes.table:RUNTIMES")
precision_name = NameIn("PRECISION", "pvt_spec.precisions:PRECISIONS")


class _ModelPath(click.ParamType):  # type: ignore[type-arg]
    """A model, or a folder that stands for one; a bundle is taken as it is."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns the path of the model, and says how it was chosen."""
        path, taken = find_model(Path(value))
        if taken:
            say(taken)
            ctx.meta.setdefault(READ, []).append(Path(value, "refs", "main"))
        return path


model_argument = _ModelPath()


MAX_NOISE = 100_000
"""Images of noise that can be asked for."""

MAX_SEED = (1 << 53) - 1
"""The largest seed: certificates hold no larger integer, as not every reader of JSON has them."""


INPUTS = ("images", "orientation", "limit", "random", "seed", "image_size", "batch_size")
JUDGING = ("precision", "atol", "rtol")
REPORT = ("verbose", "as_json", "junit", "html", "force")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What the user chose: an option for each field, of which a command has some."""

    runtime: tuple[str, ...] = option(
        default=(),
        multiple=True,
        type=runtime_name,
        help="Repeatable; default: mindspore, torch and onnxruntime, as far as they are installed. "
        "Also mindspore-graph, -o2, -graph-o2, -hf32, -graph-hf32; torch-compile, cuda; "
        "onnxruntime-extended, -basic, -disabled, -cuda; onnx-reference; openvino, openvino-bf16.",
    )
    images: tuple[str, ...] = option(
        default=(),
        multiple=True,
        help="Files, folders or glob patterns, repeatable; or a bundle, for its inputs.",
    )
    orientation: str = option(
        type=click.Choice([*ORIENTATIONS]),
        default="stored",
        show_default=True,
        help="Turn photos as their EXIF orientation says, or take pixels as they are stored.",
    )
    limit: int = option(
        default=32,
        show_default=True,
        type=click.IntRange(0),
        help="Of --images at most, evenly spaced over those found; 0 for all.",
    )
    random: int | None = option(
        type=click.IntRange(1, MAX_NOISE), help="So many images of noise instead."
    )
    seed: int = option(
        default=0, show_default=True, type=click.IntRange(0, MAX_SEED), help="Of generated images."
    )
    image_size: str | None = option(help="Pixels, S or HxW, in place of the model's own.")
    batch_size: int = option(
        *("--batch-size", "--batch"), default=4, show_default=True, type=click.IntRange(1)
    )
    detail: str = option(
        "--taps",
        type=click.Choice(["all", "stages", "logits"]),
        default="all",
        show_default=True,
        help="Which intermediate results are compared.",
    )
    precision: str | None = option(
        type=precision_name,
        help="Tolerance class (fp32, tf32, hf32, hf32-conv, fp16, fp16-graph, fp16-saturating, "
        "bf16, bf16-graph, int8); default: that of what ran.",
    )
    atol: float | None = option(type=Finite(0), help="Judge by |difference| instead, …")
    rtol: float | None = option(type=Finite(0), help="… at most atol + rtol |reference|.")
    verbose: bool = option(
        *("-v", "--verbose"), default=False, is_flag=True, help="A line per tap, with every metric."
    )
    as_json: bool = option(
        "--json", default=False, is_flag=True, help="One JSON document on stdout."
    )
    junit: Path | None = option(type=PATH, help="Write JUnit XML.")
    html: Path | None = option(type=PATH, help="Write a page to look at.")
    force: bool = option(default=False, is_flag=True, help="Replace files that exist.")

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) in pixels, or None for the model's own.

        Raises:
            PvtError: The text is no size.
        """
        return None if self.image_size is None else parse_image_size(self.image_size)

    @property
    def terms(self) -> "Terms":
        """What is compared, and by what."""
        from parity.measure.tolerance import FixedTolerance
        from parity.selection import Terms

        fixed = None if self.atol is self.rtol is None else (self.atol or 0.0, self.rtol or 0.0)
        return Terms(self.detail, self.precision, fixed and FixedTolerance(*fixed))

    def check_files(self) -> None:
        """Refuses, before any work, a report's file that exists and may not be replaced.

        Raises:
            FileExists: One does.
            LibraryMissing: What writes pages is not installed.
        """
        from pvt_spec.files.replacing import check_target

        for target in filter(None, (self.junit, self.html)):
            check_target(target, self.force)
        if self.html:
            require("jinja2")

    def write(self, target: Path, report: str) -> None:
        """Writes a report, and says so."""
        from pvt_spec.files.replacing import replacing

        with replacing(target, self.force) as stream:
            # A file's name that is not UTF-8 is in a str, too.
            stream.write(report.encode(errors="replace"))
        say(f"wrote {target}")

    def write_reports(self, result: "Result") -> None:
        """Writes the files that were asked for."""
        from parity.report import data
        from parity.report.html import page

        for target, make in ((self.junit, data.to_junit), (self.html, page.to_html)):
            if target:
                self.write(target, make(result))

    def tell(self, result: "Result") -> None:
        """Prints and writes a result, and ends with exit code 1 where it is *different*."""

        from parity.report import data, text

        self.write_reports(result)
        if self.as_json:
            click.echo(encode_json(data.to_dict(result), indent=1))
        else:
            click.echo("\n".join(text.table(result, self.verbose)))
        if not result.same:
            raise click.exceptions.Exit(1)


def introduce(path: Path, info: "ModelInfo", bundles: Sequence["Bundle"] = ()) -> None:
    """Says on stderr what a model's file is, and which arrays of bundles are not compared."""
    say(f"{info.variant or 'PVT'}, profile {info.profile}, from {path}")
    for bundle in bundles:
        unknown = bundle.unknown_to(info.config)
        if unknown:
            say(f"{bundle.path}: not compared, as no tap has that name: {unknown}")


def choose_inputs(
    chosen: Chosen,
    info: "ModelInfo",
    bundles: Sequence["Bundle"] = (),
) -> "Inputs":
    """Returns what is run: a bundle's inputs, files, noise or the generated images.

    Args:
        chosen: What the user chose.
        info: The model's.
        bundles: Bundles that are compared: without a choice, their own inputs.

    Raises:
        PvtError: They cannot be used, or would be written over.
    """
    from parity.bundles.bundle import SUFFIX, Bundle
    from parity.inputs.samples import (
        Inputs,
        default_samples,
        file_samples,
        noise_samples,
    )
    from pvt_data.sources.listing import LeftOut, evenly_spaced, list_images

    size = chosen.size or info.preprocessing.image_size
    sideways: set[str] = set()
    seed = 0
    if chosen.images and chosen.random:
        raise click.UsageError("--images and --random exclude each other")
    sources = [Bundle(Path(name)) for name in chosen.images if name.lower().endswith(SUFFIX)]
    if sources and len(chosen.images) > 1:
        raise click.UsageError("--images takes one bundle, or files and folders, not both")
    if not chosen.images and not chosen.random:
        sources = [bundle for bundle in bundles if bundle.record.inputs_kept][:1]
    if sources:
        source = "bundle"
        samples, size = sources[0].samples(), sources[0].check_size(chosen.size)
    elif chosen.images:
        source = "files"
        left_out = LeftOut()
        paths = list_images(chosen.images, left_out)
        if left_out:
            say(str(left_out))
        shown = evenly_spaced(paths, chosen.limit or len(paths))
        samples = file_samples(shown, sideways=sideways)
    elif chosen.random:
        source, seed = "noise", chosen.seed
        samples = noise_samples(chosen.random, seed)
    else:
        source, seed = "generated", chosen.seed
        preprocessing = dataclasses.replace(info.preprocessing, image_size=size)
        samples = default_samples(preprocessing, seed)
    return Inputs(samples, size, chosen.batch_size, chosen.orientation, sideways, source, seed)


def tell_sideways(inputs: "Inputs") -> None:
    """Says on stderr what became of photos with an EXIF orientation, once they are loaded."""
    from pvt_data.images.preprocessing import say_sideways

    if inputs.sideways:
        say(say_sideways(len(inputs.sideways), len(inputs.samples), inputs.orientation))
