"""``pvt-torch``: answers and accuracy of any model file in PyTorch."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_data.answers.commands import Engines
from pvt_data.answers.predict_command import add_predict
from pvt_data.answers.validate_command import add_validate
from pvt_data.benchmark.command import add_benchmark
from pvt_data.command_line import Commands
from pvt_torch.engines import ENGINES, OPTIONS

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in PyTorch, with the preprocessing and classes that the file carries."""


def _open(path: Path, tell: Callable[[str], None], chosen: Mapping[str, Any]) -> "Opened":
    from pvt_torch.runtime import open_model

    return open_model(path, tell, dataclasses.replace(OPTIONS, **chosen))


RUNS = Engines(ENGINES, _open)
add_predict(main, RUNS)
add_validate(main, RUNS)
add_benchmark(main, "pvt_torch", _open)
