"""``pvt-torch``: answers and accuracy of any model file in PyTorch."""

import click

from pvt_data.command_line import Commands, add_predict, add_validate


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in PyTorch, with the preprocessing and classes that the file carries."""


add_predict(main, "pvt_torch")
add_validate(main, "pvt_torch")
