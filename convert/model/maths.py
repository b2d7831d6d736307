"""Which maths the code behind a dialect computes, and by how much another one would answer.

Translating names does not change what a model computes; running it in another code base does.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from convert.model.describe import pos_embeds
from convert.model.read import Model
from pvt_spec import MIN_IMAGE_SIDE, Numerics, output_names
from pvt_spec.arrays import Array
from pvt_spec.files.limits import MAX_TRIED
from pvt_spec.macs import largest_result

Differences = dict[str, tuple[object, object]]
"""Field of :class:`pvt_spec.Numerics` -> what it is, and what it would be."""


def computes(target: Numerics, numerics: Numerics) -> bool:
    """Returns whether ``target`` answers as ``numerics``, with embeddings kept as they are."""
    dtype = numerics.pos_embed_dtype
    if target.pos_embed_dtype == "float16" != dtype:
        return False
    return dataclasses.replace(target, pos_embed_dtype=dtype) == numerics


def differences(model: Model, target: Numerics) -> Differences:
    """Returns what of the maths changes the model's answers, if ``target`` computes them."""
    numerics, version = model.info.numerics, model.info.config.version
    found: Differences = {
        field.name: (getattr(numerics, field.name), getattr(target, field.name))
        for field in dataclasses.fields(Numerics)
        if getattr(numerics, field.name) != getattr(target, field.name)
    }
    if version == 2:
        found.pop("pos_embed_resize", None)
    # Widening changes no value, nor does rounding what float16 can hold.
    if target.pos_embed_dtype == "float32" or _fits_half(model):
        found.pop("pos_embed_dtype", None)
    return found


def _fits_half(model: Model) -> bool:
    def fits(array: Array) -> bool:
        with np.errstate(over="ignore"):
            return bool((array.astype(np.float16).astype(array.dtype) == array).all())

    return all(fits(model.weights[name]) for name in pos_embeds(model.info.config))


@dataclass(frozen=True)
class Gap:
    """How far apart two answers to the same images are.

    Attributes:
        answer: The word for the model's answer: ``"logit"``, or ``"feature"`` without a head.
        max_abs: Largest absolute difference.
        scale: Largest absolute value of the first answer.
        cosine: The cosine of the two answers, each taken as one vector.
    """

    answer: str
    max_abs: float
    scale: float
    cosine: float

    def __str__(self) -> str:
        near = f"1 - {1 - self.cosine:.1e}" if self.cosine > 0.9999 else f"{self.cosine:.4f}"
        return (
            f"max {self.answer} gap {self.max_abs:.2g} (largest {self.answer} {self.scale:.2g}), "
            f"cosine {near}"
        )


def noise_size(model: Model) -> tuple[int, int]:
    """Returns (H, W) of the images that maths is estimated on: the model's, or smaller ones.

    A file asks for any size, and attention takes the square of its pixels.
    """
    info = model.info
    H, W = info.preprocessing.image_size
    while largest_result(info.config, info.numerics, (H, W)) > MAX_TRIED and (H, W) != _SMALLEST:
        H, W = (max(MIN_IMAGE_SIDE, side // 64 * 32) for side in (H, W))
    return H, W


_SMALLEST = (MIN_IMAGE_SIDE, MIN_IMAGE_SIDE)


def estimate_gap(model: Model, target: Numerics) -> Gap:
    """Runs both maths with the same weights in onnxruntime, on two seeded images of noise."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, model.info.config.in_chans, *noise_size(model)), np.float32)
    ours, theirs = (_answer(model, numerics, images) for numerics in (model.info.numerics, target))
    norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return Gap(
        "logit" if model.info.config.num_classes else "feature",
        float(np.abs(ours - theirs).max()),
        float(np.abs(ours).max()),
        float(ours @ theirs) / norms if norms else 1.0,
    )


def _answer(model: Model, numerics: Numerics, images: Array) -> Array:
    """Returns everything that the model answers, as one float64 vector."""
    from pvt_onnx.engines.table import open_engine
    from pvt_onnx.graph.build import build
    from pvt_onnx.graph.layers import INPUT

    info, size = model.info, (images.shape[2], images.shape[3])
    graph = build(info.config, numerics, model.weights, info=info, image_size=size)
    engine = open_engine(graph.SerializeToString(), "estimate")
    outputs = engine.run({INPUT: images}, output_names(info.config))
    return np.concatenate([output.reshape(-1).astype(np.float64) for output in outputs])
