"""What a conversion can change in a model on the way: head, channels, image size, features, dtype.

Every function answers the changed weights and ModelInfo; what was lost is said in findings.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from convert.findings import Finding
from convert.model.describe import pos_embeds, stored_numerics
from convert.model.positions import moved_grids, resized_positions
from convert.model.read import Model
from convert.options import WEIGHT_DTYPES, Changes
from pvt_spec import ModelInfo, Numerics, PVTConfig, tensor_specs
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_CHANNELS
from pvt_spec.words import counted

CHANGED = "profile before conversion"
"""The key of a provenance that says that the maths was another one."""


def apply(model: Model, changes: Changes) -> Model:
    """Returns the model with all changes made, their findings added.

    Raises:
        ConvertError: A change is not one of those above.
        ConfigError: The image size is too small.
    """
    if changes.num_classes is not None:
        model = drop_head(model, changes.num_classes)
    if changes.features_only:
        model = keep_features(model)
    if changes.in_chans is not None:
        model = adapt_channels(model, changes.in_chans)
    if changes.image_size:
        model = resize(model, changes.image_size)
    if changes.dtype:
        model = cast(model, changes.dtype)
    return model


def drop_head(model: Model, num_classes: int) -> Model:
    """Returns the model without its head: it answers features (B, C).

    Raises:
        ConvertError: ``num_classes`` is not 0: other classes take other weights.
    """
    if num_classes == model.info.config.num_classes:
        return model
    if num_classes != 0:
        raise ConvertError(
            f"{num_classes} classes: the model has {model.info.config.num_classes}, and a "
            "conversion makes no new weights, so only 0 (no head) can be given"
        )
    return _reduced(model, dataclasses.replace(model.info.config, num_classes=0))


def keep_features(model: Model) -> Model:
    """Returns the backbone alone, as detectors use it: v1 loses class token and last norm."""
    config = dataclasses.replace(model.info.config, num_classes=0, features_only=True)
    if config.version == 1 and not model.info.config.features_only:
        last = pos_embeds(config)[-1]
        weights = {**model.weights, last: model.weights[last][:, 1:]}
        lost = Finding("lost", f"{last}: the class token's row")
        model = _changed(model, weights, model.info, lost)
    return _reduced(model, config)


def _reduced(model: Model, config: PVTConfig) -> Model:
    """Returns the model with this configuration's tensors alone."""
    weights = {spec.name: model.weights[spec.name] for spec in tensor_specs(config)}
    dropped = [name for name in model.weights if name not in weights]
    info = dataclasses.replace(model.info, config=config, labels=())
    if count := len(model.info.labels):
        dropped.append(f"the names of {counted(count, 'class')}")
    return _changed(model, weights, info, *(Finding("lost", name) for name in dropped))


def adapt_channels(model: Model, in_chans: int) -> Model:
    """Returns the model for images of other channels, as timm's ``adapt_input_conv`` makes it.

    One channel takes the sum of all filters: a grey image has the answer that it has as RGB,
    normalised alike. More take RGB's in turn, scaled by 3 / ``in_chans``. The means and deviations
    of images are theirs in turn.

    Raises:
        ConvertError: There is no such rule: the model has neither 3 channels, nor fewer to be 1.
    """
    name = "patch_embed1.proj.weight"
    before = model.info.config.in_chans
    if in_chans == before:
        return model
    if not 1 <= in_chans <= MAX_CHANNELS or (before != 3 and not (in_chans == 1 and before < 3)):
        raise ConvertError(
            f"{in_chans} channels: the model has {before}; 3 become any number up to "
            f"{MAX_CHANNELS}, and 2 become 1"
        )
    held = model.weights[name]
    filters = held.astype(np.float32)
    if in_chans == 1:
        made, how = filters.sum(axis=1, keepdims=True), "summed"
    else:
        turns = np.arange(in_chans) % before
        made = filters[:, turns] * np.float32(before / in_chans)
        how = f"taken in turn, times {before}/{in_chans}"
    weights = {**model.weights, name: made.astype(held.dtype)}
    prepared = model.info.preprocessing
    mean, std = (
        tuple(values[at % before] for at in range(in_chans))
        for values in (prepared.mean, prepared.std)
    )
    info = dataclasses.replace(
        model.info,
        config=dataclasses.replace(model.info.config, in_chans=in_chans),
        preprocessing=dataclasses.replace(prepared, mean=mean, std=std),
    )
    text = f"{before} to {in_chans}: the filters of {name} are {how}, as timm does it; images have "
    text += f"mean {'/'.join(map(str, mean))}, std {'/'.join(map(str, std))}"
    return _changed(model, weights, info, Finding("channels", [before, in_chans], text=text))


def resize(model: Model, image_size: tuple[int, int]) -> Model:
    """Returns the model for images of another size; v1's position embeddings are interpolated.

    They become float32 then, as they do where a model resizes them while it runs.

    Raises:
        ConfigError: The size is too small for four stages.
        ConvertError: v1's stages have other grids at this size than its position embeddings can.
    """
    info = model.info
    config, numerics, changed = resized_positions(
        model.weights, info.config, info.numerics, image_size
    )
    grids = {
        name: "{}x{} to {}x{}".format(*old, *new)
        for name, old, new in moved_grids(info.config, config)
    }
    findings = [Finding("resized", grids, "bilinear, now float32")] if grids else []
    preprocessing = dataclasses.replace(info.preprocessing, image_size=image_size)
    info = dataclasses.replace(info, config=config, numerics=numerics, preprocessing=preprocessing)
    return _changed(model, {**model.weights, **changed}, info, *findings)


def cast(model: Model, dtype: str, names: Iterable[str] | None = None) -> Model:
    """Returns the model with weights in one dtype; the largest change is said.

    Args:
        model: The model.
        dtype: One of :data:`convert.options.WEIGHT_DTYPES`.
        names: The weights to cast; None for all.

    Raises:
        ConvertError: Weights cannot be of this dtype.
    """
    if dtype not in WEIGHT_DTYPES:
        raise ConvertError(f"dtype {dtype}: expected one of {', '.join(WEIGHT_DTYPES)}")
    target = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    weights = dict(model.weights)
    worst, where = 0.0, ""
    others = [n for n in (weights if names is None else names) if weights[n].dtype != target]
    for name in others:
        weights[name], change = cast_array(weights[name], target)
        if not change <= worst:
            worst, where = change, name
    if not others:
        return model
    facts = {"dtype": dtype, "tensors": len(others), "largest_change": worst}
    lossy = f"largest change {worst:.3g}, in {where}" if where else "without a change"
    finding = Finding("cast", facts, text=f"{counted(len(others), 'tensor')} to {dtype}, {lossy}")
    return _changed(model, weights, model.info, finding)


def halve(model: Model) -> Model:
    """Returns the model for a graph that computes in float16: all but norms' weights are so.

    Its maths is what it was: the graph's precision, not the weights, rounds position embeddings.

    Raises:
        ConvertError: Weights cannot be of this dtype.
    """
    specs = tensor_specs(model.info.config)
    halved = cast(model, "float16", [spec.name for spec in specs if spec.kind != "norm"])
    numerics = model.info.numerics
    return dataclasses.replace(halved, info=dataclasses.replace(halved.info, numerics=numerics))


def cast_array(array: Array, dtype: np.dtype[Any]) -> tuple[Array, float]:
    """Returns an array in another dtype, and the largest absolute change; NaN where it made one."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(np.float32).astype(dtype)
        difference = np.abs(result.astype(np.float32) - array.astype(np.float32))
        # A weight that was not finite before is none that the cast changed.
        changed = difference[np.isfinite(array.astype(np.float32))]
    return result, float(changed.max(initial=0))


def with_numerics(model: Model, numerics: Numerics, *, changed: bool) -> Model:
    """Returns the model with the maths of the code that it is for.

    Args:
        model: The model.
        numerics: The maths. Position embeddings are rounded where it keeps them in float16.
        changed: Whether the model answers otherwise with them, which its provenance then says.
    """
    info = model.info
    provenance = dict(info.provenance)
    if changed:
        provenance[CHANGED] = info.profile
    info = dataclasses.replace(info, numerics=numerics, provenance=provenance)
    model = dataclasses.replace(model, info=info)
    if numerics.pos_embed_dtype == "float16":
        model = cast(model, "float16", pos_embeds(info.config))
    return _changed(model, model.weights, model.info)


def _changed(model: Model, weights: dict[str, Array], info: ModelInfo, *findings: Finding) -> Model:
    """Returns the model with these, and with the maths that its weights are then kept for."""
    info = dataclasses.replace(info, numerics=stored_numerics(info, weights))
    hashes = {n: h for n, h in model.hashes.items() if weights.get(n) is model.weights[n]}
    findings = (*model.findings, *findings)
    return dataclasses.replace(model, weights=weights, info=info, findings=findings, hashes=hashes)
