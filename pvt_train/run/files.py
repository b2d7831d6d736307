"""The files of a training run, as ``pvt_train`` asks for them (``pvt_train.run.launch.Files``).

Both twins' commands hand this over, as pvt_train knows no format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.model.read import Model, read_model
from convert.model.training_checkpoint import load_training, save_training
from convert.model.write import save_model
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array
from pvt_train.run.fine_tuning import fit_weights


class TrainingFiles:
    """Models in any format, states in ours."""

    def save_model(self, path: Path, weights: dict[str, Array], info: ModelInfo) -> None:
        """Writes a model file whole or not at all; one that is there is replaced.

        Raises:
            ConvertError: It cannot be written.
        """
        save_model(path, weights, info, force=True)

    def save_state(
        self, path: Path, state: dict[str, Array], info: ModelInfo, facts: Mapping[str, Any]
    ) -> None:
        """See :func:`convert.model.training_checkpoint.save_training`."""
        save_training(path, state, info, facts)

    def load_state(self, path: Path) -> tuple[dict[str, Array], ModelInfo, dict[str, Any]]:
        """See :func:`convert.model.training_checkpoint.load_training`."""
        return load_training(path)

    def read_model(self, path: Path) -> Model:
        """See :func:`convert.read_model`."""
        return read_model(path)

    def fit_weights(
        self, model: Model, info: ModelInfo, fresh: Mapping[str, Array]
    ) -> tuple[dict[str, Array], list[str]]:
        """See :func:`pvt_train.run.fine_tuning.fit_weights`."""
        return fit_weights(model, info, fresh)
