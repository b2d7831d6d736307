"""``pvt-onnx quantize``. Everything heavier than click is imported inside the command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pvt_data.answers.commands import refuse_unreadable
from pvt_data.command_line import PATH, say
from pvt_data.images.ahead import MOST_THREADS
from pvt_onnx.quantize.options import ACTIVATIONS, CALIBRATIONS, METHODS, QuantizeOptions
from pvt_spec.files.json_text import encode_json

_OPTIONS = (
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="static",
        show_default=True,
        help="Ranges of activations from calibration, or found anew in every run (linear layers "
        "alone; slower).",
    ),
    click.option(
        "--calibration",
        type=PATH,
        metavar="DIR",
        help="Images as the model will see them, in folders of classes or in none.",
    ),
    click.option("--unlabelled", is_flag=True, help="The folders in there are none of classes."),
    click.option(
        "--calibration-images",
        default=64,
        show_default=True,
        type=click.IntRange(1),
        help="How many of them calibrate, evenly spaced; answers are compared on the others.",
    ),
    click.option(
        "--calibrate", type=click.Choice(CALIBRATIONS), default="minmax", show_default=True
    ),
    click.option(
        "--activations",
        type=click.Choice([*ACTIVATIONS]),
        help="What activations become; default: uint8, and for TensorRT int8 (symmetric).",
    ),
    click.option(
        "--full-range/--reduce-range",
        default=None,
        help="8 or 7 bits for weights; default: 8 if this CPU adds up products of 8 bits exactly.",
    ),
    click.option(
        "--smooth",
        type=float,
        metavar="ALPHA",
        help="SmoothQuant: norms hand on what their channels differ in, 0 to 1; try 0.5.",
    ),
    click.option(
        "--keep",
        multiple=True,
        metavar="MODULE",
        help="Leave this in float, as block1.0.attn or 'patch_embed*'; may be given again.",
    ),
    click.option(
        "--data-dir", type=PATH, metavar="DIR", help="Labelled images to measure accuracy on."
    ),
    click.option(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="Leave the modules in float that cost most, until Top-1 on --data-dir drops by no "
        "more.",
    ),
    click.option(
        "--min-agreement",
        type=float,
        metavar="SHARE",
        help="The same, until the first class is the float model's on so many images: 0.99.",
    ),
    click.option(
        "--rounds",
        default=8,
        show_default=True,
        type=click.IntRange(1),
        help="How many times more or fewer modules are tried.",
    ),
    click.option(
        "--limit", type=click.IntRange(1), metavar="N", help="Compare answers on N images at most."
    ),
    click.option(
        "--ranking",
        default=8,
        show_default=True,
        type=click.IntRange(0),
        metavar="N",
        help="Rank the modules by what each costs on N images; 0: only if it is needed.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, MOST_THREADS),
        metavar="N",
        help="Threads of the engine.",
    ),
    click.option("--latency/--no-latency", default=True, help="Time both models."),
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    click.option("--report", type=PATH, metavar="FILE", help="Write that JSON to a file."),
    click.option("--html", type=PATH, metavar="PAGE", help="Write a page."),
    click.option("--force", is_flag=True, help="Replace what is there."),
)
"""The options of the command, in the order of its help."""


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def add_quantize(group: click.Group) -> None:
    """Adds ``quantize SRC DST`` to a command line."""

    @group.command()
    @click.argument("src", type=PATH)
    @click.argument("dst", type=PATH)
    @_with_options
    def quantize(
        src: Path,
        dst: Path,
        calibration: Path | None,
        unlabelled: bool,
        data_dir: Path | None,
        latency: bool,
        as_json: bool,
        report: Path | None,
        html: Path | None,
        force: bool,
        **chosen: Any,
    ) -> None:
        """Write the float model SRC, an .onnx file of convert's, as int8 to DST.

        Which modules cost most of what the answers bear is measured and shown, tap by tap.
        """
        from pvt_data.progress import progress_bar
        from pvt_onnx.quantize.preparing import Images
        from pvt_onnx.quantize.quantization import quantize as quantise_file
        from pvt_onnx.quantize.report import render_page
        from pvt_spec.files.replacing import check_folder, check_target

        for path in filter(None, (report, html)):
            check_target(path, force)
            check_folder(path)
        with progress_bar("quantising") as show:
            found = quantise_file(
                src,
                dst,
                QuantizeOptions(**chosen),
                Images(calibration, data_dir, unlabelled),
                latency=latency,
                force=force,
                tell=say,
                show=show,
            )
        text = encode_json(found.to_dict(), indent=1)
        if report:
            _write(report, f"{text}\n", force)
        if html:
            _write(html, render_page(found), force)
        for line in [text] if as_json else found.texts():
            click.echo(line)
        refuse_unreadable(found.unreadable, found.images)


def _write(path: Path, text: str, force: bool) -> None:
    from pvt_spec.files.replacing import replacing

    with replacing(path, force) as stream:
        stream.write(text.encode())
