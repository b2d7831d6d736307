"""What the loss is multiplied by, so that float16 gradients do not vanish: fixed or dynamic."""

from dataclasses import dataclass

from pvt_train.recipe.keys import Recipe

AUTO = 2.0**24
"""What ``loss_scale_type: auto`` begins with at O2 (MindSpore ``train/amp.py``, where the level has
a ``DynamicLossScaleManager`` with its default)."""

LEAST = 1.0
"""A dynamic loss scale falls no further (MindSpore ``DynamicLossScaleUpdateCell``)."""


@dataclass(frozen=True)
class LossScale:
    """The loss scale of the next update, and how it goes on.

    Attributes:
        value: What the loss is multiplied by.
        good_steps: Finite updates in a row since it last changed.
        factor: A dynamic one is multiplied or divided by it; 1 for a fixed one.
        window: Finite updates in a row after which a dynamic one rises.
    """

    value: float
    good_steps: int = 0
    factor: float = 1.0
    window: int = 1

    @property
    def dynamic(self) -> bool:
        """Whether it changes."""
        return self.factor > 1

    def after(self, finite: bool) -> "LossScale":
        """Returns the loss scale after an update whose gradient was finite, or not.

        Source: MindSpore ``nn/wrap/loss_scale.py``, ``DynamicLossScaleUpdateCell``.
        """
        if not self.dynamic:
            return self
        if not finite:
            return self._with(max(self.value / self.factor, LEAST), 0)
        if self.good_steps + 1 < self.window:
            return self._with(self.value, self.good_steps + 1)
        return self._with(self.value * self.factor, 0)

    def _with(self, value: float, good_steps: int) -> "LossScale":
        return LossScale(value, good_steps, self.factor, self.window)


def first_loss_scale(recipe: Recipe) -> LossScale:
    """Returns the loss scale that a recipe's training begins with.

    ``auto`` is what MindCV leaves to MindSpore: at O2 a dynamic one that begins with
    :data:`AUTO`, at the other levels none.
    """
    kind = recipe.loss_scale_type
    if kind == "fixed" or (kind == "auto" and recipe.amp_level != "O2"):
        return LossScale(recipe.loss_scale if kind == "fixed" else 1.0)
    first = AUTO if kind == "auto" else recipe.loss_scale
    return LossScale(first, 0, recipe.loss_scale_factor, recipe.scale_window)
