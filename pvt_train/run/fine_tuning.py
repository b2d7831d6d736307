"""Weights to start training from: a model file of any format and dialect, fitted to a new task."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.model.fit import fit
from convert.model.read import Model, read_model
from convert.options import Given
from pvt_spec import VARIANTS, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError


def read_pretrained(path: Path, weights: str) -> Model:
    """Reads a model file to start from; a head that is no PVT's is left out.

    Args:
        path: The file.
        weights: The kind of weights, ``"raw"`` or ``"ema"``.

    Raises:
        ConvertError: It cannot be read, or is not a whole PVT.
    """
    try:
        return read_model(path, Given(weights=weights), keep_head=False)
    except ConvertError as error:
        raise ConvertError(_as_here(str(error))) from error


def _as_here(text: str) -> str:
    """Returns what convert says with the name that its option for weights has in a recipe."""
    return text.replace("--weights", "--pretrained-weights")


def read_variant(path: Path) -> str:
    """Returns the variant that a model file holds.

    Raises:
        ConvertError: It cannot be read, or holds none with a name.
    """
    info = read_model(path, keep_head=False).info
    if info.variant is None:
        widths = ", ".join(map(str, info.config.embed_dims))
        raise ConvertError(
            f"{path} holds a PVT of its own sizes (embed_dims {widths}), and only models with a "
            f"name are trained ({', '.join(VARIANTS)}): give a file of one of them"
        )
    return info.variant


def fit_weights(
    model: Model, info: ModelInfo, fresh: Mapping[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """Fits the weights of a file to a model to be trained; see :func:`convert.model.fit.fit`.

    Args:
        model: The file's; see :func:`convert.read_model`.
        info: What travels with the weights of the model to be trained.
        fresh: The freshly initialised weights of the model to be trained.

    Returns:
        float32 weights under canonical names; what was done, a line each.

    Raises:
        ConvertError: The file holds a model of another architecture.
    """
    weights, notes = fit(model, info.config, info.numerics, fresh)
    notes = [_as_here(note) for note in notes]
    theirs = model.info
    alike = theirs.config.num_classes == info.config.num_classes
    if alike and theirs.labels and theirs.labels != info.labels:
        notes.append("head taken over, though its classes have other names")
    return {name: np.asarray(array, np.float32) for name, array in weights.items()}, notes
