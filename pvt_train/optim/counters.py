"""What an update counts beside tensors: the updates made, and the loss scale."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.files.limits import MAX_INTEGER
from pvt_spec.words import show
from pvt_train.optim.loss_scale import LossScale, first_loss_scale
from pvt_train.recipe.keys import Recipe
from pvt_train.twin import TrainingError


@dataclass(frozen=True)
class Counters:
    """The updates that were made, and the loss scale of the next one.

    Attributes:
        updates: Updates that were made; those left out are not counted.
        scale: The loss scale of the next one.
    """

    updates: int
    scale: LossScale

    def after(self, finite: bool) -> "Counters":
        """Returns what is counted after an update whose gradient was finite, or not."""
        return Counters(self.updates + finite, self.scale.after(finite))

    def to_arrays(self) -> dict[str, Array]:
        """Returns what a state has of them; a fixed loss scale is the recipe's."""
        counted = {"updates": np.array(self.updates, np.int64)}
        if self.scale.dynamic:
            counted["loss_scale"] = np.array(self.scale.value, np.float64)
            counted["good_steps"] = np.array(self.scale.good_steps, np.int64)
        return counted

    def from_arrays(self, state: Mapping[str, Array]) -> "Counters":
        """Returns what :meth:`to_arrays` gave, with this recipe's factor and window.

        Raises:
            TrainingError: Its numbers are none that updates come to.
        """
        for name in self.to_arrays():
            least, most = (1, inf) if name == "loss_scale" else (0, MAX_INTEGER - 1)
            if not least <= (value := state[name].item()) < most:
                raise TrainingError(
                    f"not the state of a run: {name} is {show(value)}, expected {least} or more"
                )
        if not self.scale.dynamic:
            return dataclasses.replace(self, updates=int(state["updates"]))
        value, good_steps = float(state["loss_scale"]), int(state["good_steps"])
        scale = dataclasses.replace(self.scale, value=value, good_steps=good_steps)
        return Counters(int(state["updates"]), scale)


def with_loss_scale(state: Mapping[str, Array], recipe: Recipe) -> dict[str, Array]:
    """Returns a state whose loss scale is of the kind that a recipe trains with.

    Where it is fixed, the recipe has it; a dynamic one begins where there was none. So a run may
    go on at another level of precision.
    """
    first = Counters(0, first_loss_scale(recipe)).to_arrays()
    of_scale = Counters(0, LossScale(1.0, 0, 2.0)).to_arrays().keys() - {"updates"}
    kept = {name: a for name, a in state.items() if name in first or name not in of_scale}
    return {**{name: first[name] for name in of_scale & first.keys()}, **kept}
