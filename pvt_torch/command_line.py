"""``pvt-torch``: answers and accuracy of any model file in PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pvt_data.command_line import Commands, add_predict, add_validate

if TYPE_CHECKING:
    from pvt_data.accuracy import Forward
    from pvt_spec.model_info import ModelInfo


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in PyTorch, with the preprocessing and classes that the file carries."""


def _load(path: Path) -> "tuple[Forward, ModelInfo]":
    from pvt_torch.runtime import load_forward

    return load_forward(path)


add_predict(main, _load)
add_validate(main, _load)
