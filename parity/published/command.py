"""``parity published``. No logic lives here."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.errors import ParityError
from parity.options import Chosen, choose_inputs, takes
from pvt_data.command_line import PATH, Command, say, show_result
from pvt_packages import require
from pvt_spec.files.json_text import encode_json

if TYPE_CHECKING:
    from parity.published.entry import Entry

PAGE, TABLE = "index.html", "published.json"
"""The files of the table."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--output",
    "folder",
    required=True,
    type=PATH,
    help="A folder for the table, and a folder of results for each of the weights.",
)
@click.option("--keep", is_flag=True, help="Keep what was downloaded and written.")
@takes("runtime", "images", "orientation", "limit", "random", "seed", "batch_size", "detail")
@click.option("--again", is_flag=True, help="Do again what was done.")
def published(
    names: tuple[str, ...], folder: Path, keep: bool, again: bool, chosen: Chosen
) -> None:
    """Port and prove published weights: all that convert hub lists, or those with a NAME.

    Each is downloaded, converted to every format, run in every runtime that is installed, certified
    and removed again; what was on the disk before stays. The table, index.html and published.json,
    is written after each. What an earlier run into the same folder did is not done again.

    Exit code 0 if all weights could be had and all runtimes are the same, 1 if not.
    """
    from parity.published.entry import is_ours
    from parity.published.page import to_dict, to_html, to_line
    from parity.published.work import Plan, work_through
    from pvt_spec.files.replacing import replacing

    require("jinja2", "rfc8785")
    images = ", ".join(chosen.images) or chosen.random or "generated"
    plan = Plan(
        folder,
        lambda info: choose_inputs(chosen, info),
        chosen.terms,
        chosen.runtime,
        keep,
        f"images {images}, seed {chosen.seed}",
    )
    if folder.exists() and not folder.is_dir():
        raise ParityError(f"{folder}: a file or a device, expected a folder for the table")
    folder.mkdir(parents=True, exist_ok=True)
    if not is_ours(folder / TABLE, "weights"):
        for path in (folder / TABLE, folder / PAGE):
            if os.path.lexists(path):
                raise ParityError(
                    f"{path}: no table of an earlier run, or a damaged one: take it away, or name "
                    "another --output"
                )
    entries: list[Entry] = []

    def tell(entry: "Entry", kept: bool) -> None:
        say(to_line(entry, kept))

    for entries in work_through(plan, names, again, tell, say):
        page = to_html(entries).encode()
        table = encode_json(to_dict(entries), indent=1).encode() + b"\n"
        for name, data in ((PAGE, page), (TABLE, table)):
            with replacing(folder / name, force=True) as stream:
                stream.write(data)
    good = sum(each.good for each in entries)
    show_result(f"{good} of {len(entries)} are the same everywhere: {folder / PAGE}")
    if good < len(entries):
        raise click.exceptions.Exit(1)
