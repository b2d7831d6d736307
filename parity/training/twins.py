"""The twins under training: a row each, which imports its framework when it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import Twin

OpenTwin = Callable[[ModelInfo, Recipe, Mapping[str, Array]], Twin]


def _open_mindspore(info: ModelInfo, recipe: Recipe, weights: Mapping[str, Array]) -> Twin:
    from pvt_ms.environment import prepare_environment

    prepare_environment()
    from pvt_ms.runtime import choose_device
    from pvt_ms.train.twin import MindSporeTwin

    choose_device(recipe.device_target, f"--device-target {recipe.device_target}")
    return MindSporeTwin(info, recipe, weights)


def _open_torch(info: ModelInfo, recipe: Recipe, weights: Mapping[str, Array]) -> Twin:
    from pvt_torch.train.twin import TorchTwin

    return TorchTwin(info, recipe, weights)


@dataclass(frozen=True)
class TwinRow:
    """A framework that trains.

    Attributes:
        name: What reports call it.
        framework: What recipes call it.
        open: The function that starts it.
    """

    name: str
    framework: str
    open: OpenTwin


TWINS = {
    row.name: row
    for row in (
        TwinRow("mindspore", "MindSpore", _open_mindspore),
        TwinRow("torch", "PyTorch", _open_torch),
    )
}
