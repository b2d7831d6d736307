"""Weights of a file in a model that is not quite the file's: another head, channels, size, maps."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.model.changes import adapt_channels, keep_features, resize
from convert.model.read import Model, read_model
from convert.options import Given
from pvt_spec import Numerics, PVTConfig, tensor_specs, variant_name
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.numerics import describe_numerics
from pvt_spec.words import counted

_SAID = ("averaged_weights", "head", "lost", "left_out", "ignored", "set_aside", "filled")
"""Findings that say what of a file was not taken as it is."""


def load_fitting(
    path: AnyPath,
    config: PVTConfig,
    numerics: Numerics,
    fresh: Mapping[str, Array],
    given: Given = Given(),
) -> tuple[dict[str, Array], list[str]]:
    """Reads a model file of any format and dialect and fits its weights to a model.

    Args:
        path: The file.
        config: The model's architecture.
        numerics: The model's maths.
        fresh: The model's weights so far, which stay where the file has none that fit.
        given: What the user says about the file.

    Returns:
        Every tensor of ``config`` under its canonical name; what was done, a line each.

    Raises:
        ConvertError: The file cannot be read, or holds a model of another architecture.
    """
    model = read_model(path, given, keep_head=False)
    fitted = fit(model, config, numerics, fresh)
    model.check_unchanged()
    return fitted


def fit(
    model: Model, config: PVTConfig, numerics: Numerics, fresh: Mapping[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """Fits the weights of a file to a model, as :func:`load_fitting` does.

    Where the number of classes differs, the head is the fresh one; where the channels differ, the
    first filters are adapted; where the image size differs, v1's position embeddings are resized;
    and feature maps need neither head nor class token. Heads that the file does not show are the
    model's.

    Raises:
        ConvertError: The file holds a model of another architecture.
    """
    path, found = model.files[0], model.info.config
    # A model that was cut after a stage takes nothing of the later ones.
    fresh = {s.name: np.zeros(s.shape, np.float32) for s in tensor_specs(config)} | dict(fresh)
    if "num_heads" in model.guesses:
        found = dataclasses.replace(found, num_heads=config.num_heads)
    _check_architecture(path, found, config)
    notes = [f"pretrained: {path} ({model.dialect}, {model.info.profile})"]
    notes += [str(finding).strip() for finding in model.findings if finding.what in _SAID]
    if config.features_only and not found.features_only:
        notes.append("feature maps alone: without class token, last norm and head")
        model = keep_features(model)
    if found.in_chans != config.in_chans:
        model = adapt_channels(model, config.in_chans)
        notes.append(f"channels {model.findings[-1].text}")
    if config.version == 1 and found.image_size != config.image_size:
        sizes = "{}x{} to {}x{}".format(*found.image_size, *config.image_size)
        notes.append(f"position embeddings resized from {sizes}")
        model = resize(model, config.image_size)
    weights, of_head = _with_head(model.weights, found, config)
    if config.version == 1 and found.features_only and not config.features_only:
        notes.append("class token and last norm freshly initialised: feature maps have none")
        rows = fresh["pos_embed4"][:, :1], weights["pos_embed4"]
        weights["pos_embed4"] = np.concatenate(rows, axis=1)
    fitted = {spec.name: weights.get(spec.name, fresh[spec.name]) for spec in tensor_specs(config)}
    return fitted, [*notes, *of_head, *_maths(model, numerics)]


def _with_head(
    weights: Mapping[str, Array], found: PVTConfig, wanted: PVTConfig
) -> tuple[dict[str, Array], list[str]]:
    """Returns the weights with a head that fits or none, and what is to be said of that."""
    if found.num_classes == wanted.num_classes or wanted.features_only:
        return dict(weights), []
    there = counted(found.num_classes, "class")
    how = f"freshly initialised: {there} there, {wanted.num_classes} here"
    if not wanted.num_classes:
        how = f"left out: {there} there, none here"
    bare = {name: array for name, array in weights.items() if not name.startswith("head.")}
    return bare, [f"head {how}"]


def _maths(model: Model, numerics: Numerics) -> list[str]:
    ours, theirs = (
        dataclasses.replace(each, pos_embed_dtype="float32")
        for each in (numerics, model.info.numerics)
    )
    if theirs == ours:
        return []
    return [
        f"warning: the weights were trained with the maths {model.info.profile} and go on with "
        f"{describe_numerics(numerics, model.info.config.version)}; a model made with their "
        "numerics, or trained without --profile, keeps theirs"
    ]


def _check_architecture(path: Path, found: PVTConfig, wanted: PVTConfig) -> None:
    """Refuses models that differ in more than head, channels, image size, maps and drop path.

    Raises:
        ConvertError: They differ in more.
    """
    free = ("num_classes", "in_chans", "image_size", "features_only", "drop_path_rate")
    alike = dataclasses.replace(found, **{name: getattr(wanted, name) for name in free})
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
