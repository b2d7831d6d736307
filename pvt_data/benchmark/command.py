"""``benchmark MODEL`` of every runtime's command line."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pvt_data.answers.commands import Find
from pvt_data.benchmark.contestants import CONTESTANTS, GEMM, GRAPHS, Setting, own
from pvt_data.command_line import PATH, parse_image_size, say
from pvt_data.description import Description
from pvt_data.images.ahead import MOST_IMAGES, MOST_THREADS, usable_cores
from pvt_data.options import Finite, as_option
from pvt_spec.errors import PvtError
from pvt_spec.files.json_text import encode_json
from pvt_spec.files.models import find_model
from pvt_spec.words import show

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened
    from pvt_data.benchmark.report import Benchmark

INSTALLED = "installed"
"""The word for everything of a list whose library is there."""

_Callback = Callable[[click.Context, click.Parameter, Any], Any]
_Command = TypeVar("_Command", bound=Callable[..., Any])
Open = Callable[[Path, Callable[[str], None], Mapping[str, Any]], "Opened"]


def _numbers(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Reads whole numbers of 1 or more with commas between them, each once."""
    parts = [] if text is None else text.split(",")
    most = MOST_THREADS if param.name == "threads" else MOST_IMAGES
    for part in parts:
        if not (part.isascii() and part.isdigit() and 0 < int(part[:7]) <= most):
            raise click.BadParameter(f"{show(part)}: expected numbers of 1 to {most}, as in 1,8")
    return tuple(dict.fromkeys(map(int, parts)))


def _names_of(known: list[str]) -> _Callback:
    """Returns what reads some of these names with commas between them, each once."""

    def read(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
        names = [] if text is None else text.split(",")
        if INSTALLED in names:
            names += [name for name in known if CONTESTANTS[name].is_installed]
        for name in names:
            if name not in (*known, INSTALLED):
                raise click.BadParameter(f"{show(name)}: expected any of {', '.join(known)}")
        return tuple(dict.fromkeys(name for name in names if name != INSTALLED))

    return read


def _description(package: str) -> Callable[[_Command], _Command]:
    """Returns the options for a graph that says nothing of itself, where graphs are timed."""

    def add(command: _Command) -> _Command:
        for row in fields(Description):
            if package == GRAPHS and row.name in ("model", "profile"):
                name, about = f"said_{row.name}", "Of a MODEL that does not say it: "
                command = as_option(row, name, about)(command)
        return command

    return add


def add_benchmark(group: click.Group, package: str, open_: Open, find: Find = find_model) -> None:
    """Adds ``benchmark MODEL`` to a runtime's command line.

    Args:
        group: The command line.
        package: Its package.
        open_: The function that opens a model file, given something to tell, and ``engine``,
            ``threads`` and what else a contestant's row says.
        find: The function that returns the file that a path to a model stands for.
    """
    ours = own(package)
    others = [name for name in CONTESTANTS if name not in ours]

    @group.command()
    @click.argument("model", type=PATH)
    @click.option(
        "--engine",
        "engines",
        callback=_names_of(ours),
        default=ours[0],
        show_default=True,
        help=f"What runs it: {', '.join(ours)}.",
    )
    @click.option(
        "--against",
        callback=_names_of(others),
        help=f"What else runs it: {', '.join(others)}; or {INSTALLED}.",
    )
    @click.option(
        "--batch-size", callback=_numbers, default="1", show_default=True, help="Images in a call."
    )
    @click.option(
        "--threads", callback=_numbers, help="Threads of each; default: one for each core."
    )
    @click.option("--image-size", metavar="S|HxW", help="Pixels; default: the model's own.")
    @click.option(
        "--rounds",
        type=click.IntRange(1, 1000),
        default=7,
        show_default=True,
        help="Turns of each.",
    )
    @click.option(
        "--seconds",
        type=Finite(0, 600),
        default=0.3,
        show_default=True,
        help="Of calls in a turn, three at least.",
    )
    @click.option(
        "--pause",
        type=Finite(0, 600),
        default=0.2,
        show_default=True,
        help="Seconds before a turn, until the threads of the one before are asleep.",
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    @click.option(
        "--plot",
        "plot_output",
        type=PATH,
        metavar="FILE",
        help="Draw it: .svg, .png or .pdf.",
    )
    @click.option("--force", is_flag=True, help="Replace FILE.")
    @_description(package)
    @click.option("--contestant", type=click.Choice(ours), hidden=True)
    def benchmark(
        model: Path,
        engines: tuple[str, ...],
        against: tuple[str, ...],
        batch_size: tuple[int, ...],
        threads: tuple[int, ...],
        image_size: str | None,
        as_json: bool,
        plot_output: Path | None,
        force: bool,
        contestant: str | None,
        **timing: Any,
    ) -> None:
        """Latency and throughput of MODEL, beside other runtimes on the same weights.

        Each has a process of its own, and they take turns; the ratio to the first is the median of
        the rounds' own ratios. "gemm" is the model's matrix products alone, in onnxruntime: what
        the machine can do at these sizes.
        """
        size = None if image_size is None else parse_image_size(image_size)
        path, taken = find(model)
        names = [name for name in timing if name.startswith("said_")]
        given = {name.removeprefix("said_"): timing.pop(name) for name in names}
        said = tuple((name, word) for name, word in given.items() if word)
        settings = [
            Setting(count, batch, size, said)
            for count in threads or (usable_cores(),)
            for batch in batch_size
        ]
        if contestant:
            _be(contestant, path, settings[0], open_)
            return
        if taken:
            say(taken)
        if plot_output:
            _check_plot(plot_output, force)
        found = _measured(path, [*engines, *against], settings, timing)
        for line in [encode_json(found.to_dict(), indent=1)] if as_json else found.lines():
            click.echo(line)
        if plot_output:
            from pvt_data.benchmark.picture import draw_benchmark

            draw_benchmark(found, plot_output, force)
        if found.failed:
            raise PvtError(f"not timed: {', '.join(found.failed)}")


def _be(name: str, path: Path, setting: Setting, open_: Open) -> None:
    """Is the process of a contestant, for whoever is at the other end of stdin and stdout."""
    from pvt_data.benchmark.turns import answer_turns

    chosen = {**CONTESTANTS[name].chosen, "threads": setting.threads, **dict(setting.said)}
    answer_turns(name, lambda: open_(path, say, chosen), setting)


def _check_plot(target: Path, force: bool) -> None:
    from pvt_data.pictures import check_picture
    from pvt_spec.files.replacing import check_target

    check_target(target, force)
    check_picture(target)


def _measured(
    path: Path, names: list[str], settings: list[Setting], timing: dict[str, Any]
) -> "Benchmark":
    from pvt_data.benchmark.measure import Plan
    from pvt_data.benchmark.run import run_benchmark
    from pvt_data.progress import progress_bar

    names = [*dict.fromkeys([*names, GEMM])]
    with progress_bar("rounds") as show:
        return run_benchmark(path, names, settings, Plan(**timing), say, show)
