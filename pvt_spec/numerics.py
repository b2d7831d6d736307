"""What changes the answer but not the shapes: :class:`Numerics` and the profiles of the peers.

Each value was read from the peer's own code and confirmed against its outputs; MindCV's come
from MindSpore's defaults (``nn.GELU`` is tanh, ``nn.LayerNorm`` has epsilon 1e-7, ``nn.Conv2d``
pads "same").
"""

import dataclasses
from dataclasses import dataclass

from pvt_spec.arguments import check_fields
from pvt_spec.config import PATCH_STRIDES, POOL_SIZE, PVTConfig
from pvt_spec.errors import ConfigError
from pvt_spec.words import show


@dataclass(frozen=True)
class Numerics:
    """The maths of a model, where implementations of the same PVT differ.

    Attributes:
        gelu: ``"erf"`` (exact) or ``"tanh"`` (the approximation).
        conv_padding: How strided convolutions (patch embeddings and spatial reduction) pad:
            ``"symmetric"`` (v2's patch embedding kernel // 2 on each side, the others none) or
            ``"same"`` (output is ceil(input / stride), the odd pixel goes right and below).
        patch_norm_eps: Epsilon of the norm after each patch embedding.
        attn_norm_eps: Epsilon of the norm after each spatial reduction.
        norm1_eps: Epsilon of the norm before attention.
        norm2_eps: Epsilon of the norm before the MLP.
        final_norm_eps: Epsilon of v1's ``norm`` and v2's ``norm{i}``.
        pos_embed_dtype: ``"float32"`` or ``"float16"``: how v1's position embeddings are kept.
        pos_embed_resize: Where v1's bilinear resizing samples: ``"half_pixel"`` centres or
            ``"align_corners"``.
    """

    gelu: str = "erf"
    conv_padding: str = "symmetric"
    patch_norm_eps: float = 1e-5
    attn_norm_eps: float = 1e-5
    norm1_eps: float = 1e-6
    norm2_eps: float = 1e-6
    final_norm_eps: float = 1e-6
    pos_embed_dtype: str = "float32"
    pos_embed_resize: str = "half_pixel"

    def __post_init__(self) -> None:
        check_fields(self)
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ConfigError(
                    f"numerics: {field} is {show(getattr(self, field))}, expected one of {choices}"
                )
        for field in EPSILONS:
            if not 0.0 < getattr(self, field) < 1.0:
                raise ConfigError(
                    f"numerics: {field} is {show(getattr(self, field))}, expected 0 < epsilon < 1"
                )


CHOICES: dict[str, tuple[str, str]] = {
    "gelu": ("erf", "tanh"),
    "conv_padding": ("symmetric", "same"),
    "pos_embed_dtype": ("float32", "float16"),
    "pos_embed_resize": ("half_pixel", "align_corners"),
}
"""The values that each choice among the fields of :class:`Numerics` can take."""

EPSILONS: dict[str, str] = {
    "patch_norm_eps": "patch_embed.norm",
    "attn_norm_eps": "attn.norm",
    "norm1_eps": "norm1",
    "norm2_eps": "norm2",
    "final_norm_eps": "norm",
}
"""The fields of :class:`Numerics` that are epsilons -> the layer norms that have it.

Layers are named as in :class:`pvt_spec.TensorSpec`.
"""

_OFFICIAL = Numerics()
_MINDCV = dataclasses.replace(_OFFICIAL, gelu="tanh", conv_padding="same", attn_norm_eps=1e-7)
_HF = dataclasses.replace(_OFFICIAL, patch_norm_eps=1e-6, attn_norm_eps=1e-6)

PROFILES: dict[str, dict[int, Numerics]] = {
    "official": {1: _OFFICIAL, 2: _OFFICIAL},
    "mindcv": {
        1: dataclasses.replace(_MINDCV, norm1_eps=1e-5, pos_embed_dtype="float16"),
        2: dataclasses.replace(_MINDCV, patch_norm_eps=1e-7),
    },
    # transformers takes one layer_norm_eps for every norm; this is its default.
    "hf": {1: _HF, 2: _HF},
}
"""Profile name -> PVT version -> its maths. ``official`` is also timm's."""


def profile_numerics(profile: str, version: int) -> Numerics:
    """Returns the maths of a named profile for PVT ``version``.

    Raises:
        ConfigError: There is no such profile.
    """
    if profile not in PROFILES:
        raise ConfigError(f"no profile is named {show(profile)}: there are {', '.join(PROFILES)}")
    return PROFILES[profile][version]


def describe_numerics(numerics: Numerics, version: int) -> str:
    """Returns the nearest profile's name, and the fields that differ from it where any do."""

    def differences(profile: str) -> list[str]:
        other = PROFILES[profile][version]
        return [
            f"{field.name}={getattr(numerics, field.name)}"
            for field in dataclasses.fields(Numerics)
            if getattr(numerics, field.name) != getattr(other, field.name)
        ]

    nearest = min(PROFILES, key=lambda profile: len(differences(profile)))
    changed = differences(nearest)
    return f"{nearest} with {', '.join(changed)}" if changed else nearest


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the pixels that "same" padding adds before and after one axis of ``size`` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def symmetric_padding(config: PVTConfig, stage: int) -> int:
    """Returns the pixels that "symmetric" adds on each side before ``stage`` (0…3) embeds."""
    return config.patch_kernel(stage) // 2 if config.version == 2 else 0


def stage_grids(
    config: PVTConfig, numerics: Numerics, image_size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Returns (H, W) of each stage's token grid, for an image of (H, W) pixels."""

    def length(size: int, stage: int) -> int:
        stride = PATCH_STRIDES[stage]
        if numerics.conv_padding == "same":
            return -(-size // stride)
        kernel, pad = config.patch_kernel(stage), symmetric_padding(config, stage)
        return (size + 2 * pad - kernel) // stride + 1

    grids = []
    H, W = image_size
    for stage in range(len(PATCH_STRIDES)):
        H, W = length(H, stage), length(W, stage)
        grids.append((H, W))
    return grids


def reduced_tokens(config: PVTConfig, numerics: Numerics, stage: int, grid: tuple[int, int]) -> int:
    """Returns how many tokens keys and values of ``stage`` (0…3), which reduces, are made of.

    Args:
        config: The architecture.
        numerics: The maths.
        stage: The stage.
        grid: (H, W) of its tokens.
    """
    if config.linear:
        return POOL_SIZE**2
    ratio = config.sr_ratios[stage]
    up = ratio - 1 if numerics.conv_padding == "same" else 0
    return ((grid[0] + up) // ratio) * ((grid[1] + up) // ratio)
