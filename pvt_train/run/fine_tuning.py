"""Weights to start training from: a model file of any format and dialect, fitted to a new task."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.model.changes import resize
from convert.model.read import Model
from pvt_spec import ModelInfo, PVTConfig, tensor_specs, variant_name
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.words import counted


def fit_weights(
    model: Model, info: ModelInfo, fresh: Mapping[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """Fits the weights of a file to a model to be trained.

    Where the number of classes differs, the head is the fresh one; where the image size differs,
    v1's position embeddings are resized.

    Args:
        model: The file's; see :func:`convert.read_model`.
        info: What travels with the weights of the model to be trained.
        fresh: The freshly initialised weights of the model to be trained.

    Returns:
        float32 weights under canonical names; what was done, a line each.

    Raises:
        ConvertError: The file holds a model of another architecture.
    """
    path, found, wanted = model.files[0], model.info.config, info.config
    _check_architecture(path, found, wanted)
    notes = [f"pretrained: {path} ({model.dialect}, {model.info.profile})"]
    if wanted.version == 1 and found.image_size != wanted.image_size:
        sizes = "{}x{} to {}x{}".format(*found.image_size, *wanted.image_size)
        notes.append(f"position embeddings resized from {sizes}")
        model = resize(model, wanted.image_size)
    weights = {name: np.asarray(array, np.float32) for name, array in model.weights.items()}
    if found.num_classes != wanted.num_classes:
        head = [spec.name for spec in tensor_specs(wanted) if spec.layer == "head"]
        weights.update({name: fresh[name] for name in head})
        notes.append(
            f"head freshly initialised: {counted(found.num_classes, 'class')} there, "
            f"{wanted.num_classes} here"
        )
    elif model.info.labels and model.info.labels != info.labels:
        notes.append("head taken over, though its classes have other names")
    return {s.name: weights[s.name] for s in tensor_specs(wanted)}, notes + _maths(model, info)


def _maths(model: Model, info: ModelInfo) -> list[str]:
    theirs = dataclasses.replace(model.info.numerics, pos_embed_dtype="float32")
    if theirs == info.numerics:
        return []
    return [
        f"warning: the weights were trained with the maths {model.info.profile} and go on with "
        f"{info.profile}; without --profile they keep theirs"
    ]


def _check_architecture(path: Path, found: PVTConfig, wanted: PVTConfig) -> None:
    """Refuses models that differ in more than head, image size and drop path.

    Raises:
        ConvertError: They differ in more.
    """
    alike = dataclasses.replace(
        found,
        num_classes=wanted.num_classes,
        image_size=wanted.image_size,
        drop_path_rate=wanted.drop_path_rate,
    )
    if alike == wanted:
        return
    theirs, ours = variant_name(found), variant_name(wanted)
    differing = [
        f"{field.name} {getattr(found, field.name)} there, {getattr(wanted, field.name)} here"
        for field in dataclasses.fields(PVTConfig)
        if getattr(alike, field.name) != getattr(wanted, field.name)
    ]
    hint = f"give --model {theirs}" if theirs and theirs != ours else "give another file"
    raise ConvertError(
        f"{path} holds {theirs or 'no named variant'}, expected {ours or 'this architecture'} "
        f"({'; '.join(differing)}): {hint}"
    )
