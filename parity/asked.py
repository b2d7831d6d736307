"""What ``parity run`` and ``parity certify`` do alike: run what was asked for, and tell of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.options import Chosen, NameIn, choose_inputs, introduce, tell_sideways
from pvt_data.command_line import say
from pvt_data.progress import progress_bar

if TYPE_CHECKING:
    from convert.model.read import Model
    from parity.bundles.bundle import Bundle
    from parity.inputs.samples import Inputs
    from parity.result import Result

emulate_option = click.option(
    "--emulate",
    multiple=True,
    type=NameIn("PRECISION", "pvt_torch.emulation:ROUNDINGS"),
    help="Also run the reference with this precision's rounding at every operation; repeatable.",
)
"""The option for what the reference is run with, too."""


def run_asked(
    pairs: "Sequence[tuple[Path, str]]",
    models: "Mapping[Path, Model]",
    bundles: "Sequence[Bundle]",
    emulate: Sequence[str],
    chosen: Chosen,
) -> "tuple[Result, Inputs]":
    """Runs models, and says on stderr what they are and what is to be known of them.

    Args:
        pairs: Files, and the runtimes that they run in.
        models: The models, by file; the first is what others are compared with.
        bundles: What was recorded elsewhere, and is judged too.
        emulate: Precisions with whose rounding the reference is run, too.
        chosen: What the user chose.

    Returns:
        The result, and what was run.

    Raises:
        PvtError: An image or a runtime cannot be used.
    """
    from parity.run import EMULATED, run

    tell_remarks(models)
    first = next(iter(models))
    info = models[first].info
    inputs = choose_inputs(chosen, info, bundles)
    introduce(first, info, bundles)
    asked = [*pairs, *((first, f"{EMULATED}{name}") for name in emulate)]
    with progress_bar("images") as show:
        result = run(asked, models, inputs, chosen.terms, show, bundles)
    tell_sideways(inputs)
    return result, inputs


def tell_remarks(models: "Mapping[Path, Model]") -> None:
    """Says on stderr what is to be known of models."""
    for model in models.values():
        for remark in model.remarks():
            say(remark)
