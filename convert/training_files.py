"""The files of a training run, as ``pvt_train`` asks for them (``pvt_train.launch.Files``).

Both twins' commands hand this over, as pvt_train knows no format. May import numpy.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.fine_tuning import fit_weights
from convert.model_file import Model, read_model
from convert.saving import save_model
from convert.training_checkpoint import load_training, save_training
from pvt_spec import ModelInfo
from pvt_spec.arrays import Array


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
        """See :func:`convert.training_checkpoint.save_training`."""
        save_training(path, state, info, facts)

    def load_state(self, path: Path) -> tuple[dict[str, Array], ModelInfo, dict[str, Any]]:
        """See :func:`convert.training_checkpoint.load_training`."""
        return load_training(path)

    def read_model(self, path: Path) -> Model:
        """See :func:`convert.read_model`."""
        return read_model(path)

    def fit_weights(
        self, model: Model, info: ModelInfo, fresh: Mapping[str, Array]
    ) -> tuple[dict[str, Array], list[str]]:
        """See :func:`convert.fine_tuning.fit_weights`."""
        return fit_weights(model, info, fresh)
