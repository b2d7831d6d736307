"""What a PVT is, as data: :class:`PVTConfig` and the named variants.

Sources: PVT (Wang et al., ICCV 2021, table 1), PVT v2 (Wang et al., 2022, table 1), and
whai362/PVT ``classification/pvt.py`` and ``pvt_v2.py``.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from pvt_spec.arguments import check_fields, checked
from pvt_spec.errors import ConfigError
from pvt_spec.files.limits import (
    MAX_CHANNELS,
    MAX_CLASSES,
    MAX_DEPTH,
    MAX_IMAGE_SIDE,
    MAX_RATIO,
    MAX_WIDTH,
)
from pvt_spec.words import nearest, show

NUM_STAGES = 4
PATCH_STRIDES = (4, 2, 2, 2)
"""Downsampling of each stage's patch embedding; the same in v1 and v2."""

MIN_IMAGE_SIDE = 32
"""Pixels that four stages need: the last one's grid has one cell."""

POOL_SIZE = 7
"""Side of the grid that linear attention (PVT v2, "Li") pools its keys and values to."""


@dataclass(frozen=True)
class PVTConfig:
    """The architecture: everything that decides which tensors exist and their shapes.

    Attributes:
        version: 1 (PVT) or 2 (PVT v2).
        embed_dims: Channels of each of the four stages.
        depths: Blocks in each stage.
        num_heads: Attention heads in each stage.
        mlp_ratios: Hidden width of the MLP over ``embed_dims``, per stage.
        sr_ratios: Spatial reduction of keys and values, per stage.
        linear: v2 only: pooled attention instead of strided reduction ("Li").
        image_size: (H, W) in pixels. v1's position embeddings have this image's grid.
        in_chans: Channels of the input image.
        num_classes: Outputs of the head; 0 means no head: the model answers features.
        features_only: Whether the model answers the maps of its four stages (B, C, H, W), as
            detection and segmentation use them, and has nothing else: no head, and in v1 no
            class token and no final norm. v1's maps are those of whai362/PVT
            ``detection/pvt.py`` and of mmdet; v2's come after the norm of their stage.
        drop_path_rate: Stochastic depth of the last block, growing linearly from 0 at the
            first. Training only: it changes no tensor and no evaluated answer.
    """

    version: int
    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratios: tuple[int, ...]
    sr_ratios: tuple[int, ...]
    linear: bool = False
    image_size: tuple[int, int] = (224, 224)
    in_chans: int = 3
    num_classes: int = 1000
    features_only: bool = False
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        problems = list(_problems(self))
        if problems:
            raise ConfigError("not a PVT configuration: " + "; ".join(problems))

    def patch_kernel(self, stage: int) -> int:
        """Returns the kernel side of ``stage``'s (0…3) patch embedding: v1 tiles, v2 overlaps."""
        stride = PATCH_STRIDES[stage]
        return stride if self.version == 1 else 2 * stride - 1

    def reduces(self, stage: int) -> bool:
        """Returns whether attention of ``stage`` (0…3) has an ``sr`` convolution and its norm."""
        return self.linear or self.sr_ratios[stage] > 1

    def has_class_token(self, stage: int) -> bool:
        """Returns whether the class token stands before the tokens of stage ``stage`` (0…3)."""
        return self.version == 1 and not self.features_only and stage == NUM_STAGES - 1

    def pos_embed_grid(self, stage: int) -> tuple[int, int]:
        """Returns (H, W) of the grid that v1's ``pos_embed`` of ``stage`` (0…3) is laid out on."""
        H, W = self.image_size
        for stride in PATCH_STRIDES[: stage + 1]:
            H, W = H // stride, W // stride
        return H, W

    def drop_path_rates(self) -> list[float]:
        """Returns every block's rate of stochastic depth: linear from 0 (official code)."""
        total = sum(self.depths)
        return [self.drop_path_rate * block / max(total - 1, 1) for block in range(total)]


_MOST = {
    "embed_dims": MAX_WIDTH,
    "depths": MAX_DEPTH,
    "num_heads": MAX_WIDTH,
    "mlp_ratios": MAX_RATIO,
    "sr_ratios": MAX_RATIO,
}
"""The most that a stage has, by the fields of :class:`PVTConfig` that hold a number for each."""


def _problems(config: PVTConfig) -> Iterator[str]:
    if config.version not in (1, 2):
        yield f"version is {show(config.version)}, expected 1 or 2"
    for field, most in _MOST.items():
        values = getattr(config, field)
        if len(values) != NUM_STAGES or not all(v > 0 for v in values):
            yield f"{field} is {show(values)}, expected {NUM_STAGES} positive integers"
            return
        if max(values) > most:
            yield f"{field} is {show(values)}, expected at most {most} in a stage"
            return
    for dim, heads in zip(config.embed_dims, config.num_heads, strict=True):
        if dim % heads:
            yield f"embed_dims {dim} is not divisible by num_heads {heads}"
    if config.version == 1 and config.sr_ratios[-1] != 1:
        yield f"sr_ratios[3] is {config.sr_ratios[-1]}, expected 1 (v1's class token joins there)"
    if config.version == 1 and config.linear:
        yield "linear attention exists in version 2 only"
    yield from image_size_problems(config.image_size)
    side, whole = min(config.image_size), 1
    for stage, (stride, ratio) in enumerate(zip(PATCH_STRIDES, config.sr_ratios, strict=True)):
        whole *= stride
        if not config.linear and (tokens := -(-side // whole)) < ratio:
            yield (
                f"sr_ratios[{stage}] is {ratio}, more than the {tokens} tokens of a side that "
                f"images of {side} pixels have there"
            )
    if not 1 <= config.in_chans <= MAX_CHANNELS:
        yield f"in_chans is {show(config.in_chans)}, expected 1 to {MAX_CHANNELS}"
    if not 0 <= config.num_classes <= MAX_CLASSES:
        yield (f"num_classes is {show(config.num_classes)}, expected 0 (features) to {MAX_CLASSES}")
    if config.features_only and config.num_classes > 0:
        remedy = "make num_classes 0, or features_only False"
        yield f"num_classes is {config.num_classes}, but features_only has no head: {remedy}"
    if not 0.0 <= config.drop_path_rate < 1.0:
        yield f"drop_path_rate is {config.drop_path_rate}, expected 0 <= rate < 1"


def image_size_problems(size: Sequence[int]) -> Iterator[str]:
    """Yields what is wrong with (H, W) of a model's images, if it is."""
    if len(size) != 2 or not MIN_IMAGE_SIDE <= min(size) <= max(size) <= MAX_IMAGE_SIDE:
        sides = f"each of at least {MIN_IMAGE_SIDE} pixels and at most {MAX_IMAGE_SIDE}"
        yield f"image_size is {show(size)}, expected (H, W), {sides}"


def _v1(*depths: int) -> PVTConfig:
    return PVTConfig(1, (64, 128, 320, 512), depths, (1, 2, 5, 8), (8, 8, 4, 4), (8, 4, 2, 1))


def _v2(*depths: int, base: int = 64, mlp: int = 8, linear: bool = False) -> PVTConfig:
    embed_dims = (32, 64, 160, 256) if base == 32 else (64, 128, 320, 512)
    return PVTConfig(
        2, embed_dims, depths, (1, 2, 5, 8), (mlp, mlp, 4, 4), (8, 4, 2, 1), linear=linear
    )


VARIANTS: dict[str, PVTConfig] = {
    "pvt_tiny": _v1(2, 2, 2, 2),
    "pvt_small": _v1(3, 4, 6, 3),
    "pvt_medium": _v1(3, 4, 18, 3),
    "pvt_large": _v1(3, 8, 27, 3),
    "pvt_v2_b0": _v2(2, 2, 2, 2, base=32),
    "pvt_v2_b1": _v2(2, 2, 2, 2),
    "pvt_v2_b2": _v2(3, 4, 6, 3),
    "pvt_v2_b2_li": _v2(3, 4, 6, 3, linear=True),
    "pvt_v2_b3": _v2(3, 4, 18, 3),
    "pvt_v2_b4": _v2(3, 8, 27, 3),
    "pvt_v2_b5": _v2(3, 6, 40, 3, mlp=4),
    # Ours, not the paper's: a PVT v1 that a CPU trains on 32x32 images in a minute or two.
    "pvt_nano": PVTConfig(
        1,
        (32, 64, 96, 128),
        (1, 1, 1, 1),
        (1, 2, 3, 4),
        (4, 4, 4, 4),
        (4, 2, 1, 1),
        image_size=(32, 32),
        num_classes=10,
    ),
}
"""The named variants, at the sizes they were published with (1000 classes, 224x224)."""


@checked
def list_models(pattern: str = "*") -> list[str]:
    """Returns the variants that match a shell-style pattern (``"pvt_v2*"``), in order of size."""
    return [name for name in VARIANTS if fnmatch(name, pattern)]


@checked
def make_config(
    name: str,
    *,
    num_classes: int | None = None,
    features_only: bool = False,
    in_chans: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    drop_path_rate: float | None = None,
) -> PVTConfig:
    """Returns the configuration of variant ``name`` with what is given in place of its own values.

    Args:
        name: A key of :data:`VARIANTS`.
        num_classes: Outputs of the head; 0 for features.
        features_only: Whether it answers the maps of the four stages; ``num_classes`` is then 0 by
            itself.
        in_chans: Channels of the input image.
        image_size: Pixels, a square's side or (H, W).
        drop_path_rate: Stochastic depth of the last block.

    Raises:
        ConfigError: ``name`` is no variant, or a value cannot be.
    """
    if name not in VARIANTS:
        near = nearest(name, VARIANTS)
        hint = f"did you mean {near}? " if near else ""
        raise ConfigError(
            f"no variant is named {show(name)}: {hint}there are {', '.join(VARIANTS)}"
        )
    if image_size is not None and not isinstance(image_size, tuple | list):
        image_size = (image_size, image_size)
    if features_only and num_classes is None:
        num_classes = 0
    given = {
        "num_classes": num_classes,
        "features_only": features_only,
        "in_chans": in_chans,
        "image_size": image_size,
        "drop_path_rate": drop_path_rate,
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    return dataclasses.replace(VARIANTS[name], **changes)


_ARCHITECTURE = (
    "version",
    "embed_dims",
    "depths",
    "num_heads",
    "mlp_ratios",
    "sr_ratios",
    "linear",
)


def variant_name(config: PVTConfig) -> str | None:
    """Returns the variant of this architecture, whatever its image size and head, or None."""
    for name, variant in VARIANTS.items():
        if all(getattr(variant, field) == getattr(config, field) for field in _ARCHITECTURE):
            return name
    return None
