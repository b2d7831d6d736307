"""``pvt-ms``: training, answers and accuracy of any model file in MindSpore.

MindSpore is imported inside the commands, so that ``--help`` is quick and works without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_ms.environment import prepare_environment
from pvt_spec import PvtError
from pvt_spec.command_line import Commands, add_predict, add_validate, say
from pvt_train.command_line import read_recipe, train_folder, train_options

if TYPE_CHECKING:
    from pvt_spec.evaluation import Forward
    from pvt_spec.model_info import ModelInfo
    from pvt_train.loop import Twin


@click.group(cls=Commands)
def main() -> None:
    """Train and run a PVT in MindSpore."""


@main.command()
@train_options
@click.option(
    "--mode",
    type=click.Choice(["graph", "pynative", "0", "1"]),
    default="graph",
    show_default=True,
    help="Compile the whole step, or run it op by op; 0 and 1 are MindCV's names.",
)
@click.option(
    "--device-target",
    type=click.Choice(["Ascend", "GPU", "CPU"]),
    help="Where to train; by default what MindSpore was built for.",
)
def train(
    config: Path | None,
    data_dir: Path,
    output: Path,
    force: bool,
    mode: str,
    device_target: str | None,
    **options: Any,
) -> None:
    """Train a PVT from scratch on a folder of images.

    Weights, classes, preprocessing and maths go into the checkpoints together.
    """
    recipe = read_recipe(config, options)
    compiled = mode in ("graph", "0")

    def open_twin(info: "ModelInfo") -> "Twin":
        prepare_environment()
        import mindspore

        from pvt_ms.train import MindSporeTwin

        _choose_device(device_target)
        twin = MindSporeTwin(info, recipe, compiled)
        where = f"{twin.framework} on {mindspore.get_context('device_target')}"
        say(f"{where}, compiling the step" if compiled else f"{where}, op by op")
        return twin

    train_folder(recipe, data_dir, output, force, open_twin, _save)


def _choose_device(target: str | None) -> None:
    import mindspore

    if target:
        try:
            mindspore.set_device(target)
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0].split(". Please")[0]
            raise PvtError(f"--device-target {target}: {first}") from error


def _save(path: Path, weights: dict[str, Any], info: "ModelInfo") -> None:
    from convert import save_model

    save_model(path, weights, info, force=True)


def _load(path: Path) -> "tuple[Forward, ModelInfo]":
    prepare_environment()
    from pvt_ms.runner import load_forward

    return load_forward(path)


add_predict(main, _load)
add_validate(main, _load)
