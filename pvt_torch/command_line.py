"""``pvt-torch``: training, answers and accuracy of any model file in PyTorch.

PyTorch is imported inside the commands, so that ``--help`` is quick and works without it.
"""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.hub import find_model
from pvt_data.answers.commands import Engines, Size
from pvt_data.answers.predict_command import add_predict
from pvt_data.answers.validate_command import add_validate
from pvt_data.benchmark.command import add_benchmark
from pvt_data.command_line import Commands, say
from pvt_packages import require
from pvt_torch.engines import ENGINES, OPTIONS
from pvt_train.command_line import train_command, train_options
from pvt_train.recipe.options import RecipeCommand

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened
    from pvt_spec.arrays import Array
    from pvt_spec.model_info import ModelInfo
    from pvt_train.recipe.keys import Recipe
    from pvt_train.twin import Twin


@click.group(cls=Commands)
def main() -> None:
    """Train and run a PVT in PyTorch."""


@main.command(cls=RecipeCommand)
@train_options
def train(config: Path | None, force: bool, plot: bool, keys: dict[str, Any]) -> None:
    """Train a PVT on the images of DATA_DIR/train/CLASS, or of tar files there.

    Weights, classes, preprocessing and maths go into the checkpoints together. A run that was
    stopped or killed goes on where its last.pth was written: --resume DIR.
    """
    require("torch")
    train_command(config, keys, "PyTorch", force=force, plot=plot, open_twin=_open_twin)


def _open_twin(info: "ModelInfo", recipe: "Recipe", weights: "Mapping[str, Array]") -> "Twin":
    # Compiled gradients of depthwise convolutions have their own stride for a size of 1.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    if recipe.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from pvt_torch.train.twin import TorchTwin

    twin = TorchTwin(info, recipe, weights)
    if not twin.rank:
        compiled = "the first step and the first validation wait up to minutes for its compiler"
        say(f"{twin.framework}: {compiled if recipe.compile else 'op by op'}")
    return twin


def _open(
    path: Path, tell: Callable[[str], None], chosen: Mapping[str, Any], size: Size = None
) -> "Opened":
    from pvt_torch.runtime import open_model

    return open_model(path, tell, dataclasses.replace(OPTIONS, **chosen), size)


RUNS = Engines(ENGINES, _open, find=find_model)
add_predict(main, RUNS)
add_validate(main, RUNS)
add_benchmark(main, "pvt_torch", _open, find_model)
