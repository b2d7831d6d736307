"""``convert hub``. Everything heavier than click is imported inside the command."""

from collections.abc import Callable
from pathlib import Path

import click

from pvt_data.command_line import say
from pvt_spec.files.json_text import encode_json


def add_hub(group: click.Group, variant_of: Callable[[Path], str | None]) -> None:
    """Adds ``hub [NAME]…`` to a command line.

    Args:
        group: The command line.
        variant_of: A function that returns the variant of a model's file, None of one without name.
    """

    @group.command()
    @click.argument("names", nargs=-1, metavar="[NAME]...")
    @click.option(
        "--record",
        is_flag=True,
        help="Download each NAME (without, take what is cached), and write its size, hash and "
        "commit into your own registry, by which it is verified from then on.",
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    def hub(names: tuple[str, ...], record: bool, as_json: bool) -> None:
        """Published weights: all, or those with a NAME, of a variant or of a source.

        Every command that takes a model file takes hub:NAME too, as convert hub:pvt_tiny t.onnx,
        and downloads it then. Of a repository of Hugging Face, hub:NAME@REVISION is a branch, tag
        or commit.
        """
        from convert.hub.listing import cached_names, list_rows, record_row, show_rows
        from convert.hub.places import find_places

        if record:
            for name in names or cached_names():
                say(record_row(name, variant_of))
        found = list_rows(names)
        if as_json:
            click.echo(encode_json([each.to_dict() for each in found], indent=1))
            return
        for line in show_rows(found):
            click.echo(line)
        places = find_places()
        say(
            "a name without its source stands for the first of these; "
            f"files are kept in {places.cache}, what is recorded in {places.registry}"
        )
