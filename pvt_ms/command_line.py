"""``pvt-ms``: training, answers and accuracy of any model file in MindSpore.

MindSpore is imported inside the commands, so that ``--help`` is quick and works without it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_data.command_line import Commands, add_predict, add_validate, say
from pvt_ms.environment import prepare_environment
from pvt_spec import PvtError
from pvt_train.command_line import train_command, train_options
from pvt_train.recipe.options import RecipeCommand

if TYPE_CHECKING:
    from pvt_spec.arrays import Array
    from pvt_spec.model_info import ModelInfo
    from pvt_train.recipe.keys import Recipe
    from pvt_train.twin import Twin


@click.group(cls=Commands)
def main() -> None:
    """Train and run a PVT in MindSpore."""


@main.command(cls=RecipeCommand)
@train_options
def train(config: Path | None, force: bool, plot: bool, keys: dict[str, Any]) -> None:
    """Train a PVT on the images of DATA_DIR/train/CLASS, or of tar files there.

    Weights, classes, preprocessing and maths go into the checkpoints together. A run that was
    stopped or killed goes on where its last.ckpt was written: --resume DIR.
    """
    prepare_environment()
    train_command(config, keys, force=force, plot=plot, open_twin=_open_twin)


def _open_twin(info: "ModelInfo", recipe: "Recipe", weights: "Mapping[str, Array]") -> "Twin":
    prepare_environment()
    from pvt_ms.train.twin import MindSporeTwin

    _choose_device(recipe.device_target)
    twin = MindSporeTwin(info, recipe, weights)
    if not twin.rank:
        compiled = "the first step and the first validation wait up to minutes for its compiler"
        say(f"{twin.framework}: {'op by op' if recipe.mode else compiled}")
    return twin


def _choose_device(target: str | None) -> None:
    import mindspore

    if target:
        # Under msrun workers share out the devices; under mpirun each would take the first.
        local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
        try:
            mindspore.set_device(target, *([int(local)] if local and target != "CPU" else []))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0].split(". Please")[0]
            raise PvtError(f"--device-target {target}: {first}") from error


add_predict(main, "pvt_ms")
add_validate(main, "pvt_ms")
