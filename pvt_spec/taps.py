"""The intermediate results of a PVT that every twin exposes, by name, in forward order."""

from collections.abc import Iterator
from typing import NamedTuple

from pvt_spec.config import NUM_STAGES, PVTConfig


class TapSpec(NamedTuple):
    """One intermediate result.

    Attributes:
        name: What every twin calls it, ``block1.0.attn``.
        layer: What computes it, without numbers: ``patch_embed``, ``embed``, ``attn``, ``mlp``,
            ``block``, ``norm``, ``stage``, ``features`` or ``logits``.
        stage: The number (0…3) of its stage; None for v1's ``norm``, ``features`` and ``logits``.
        block: The number of its block in the stage; None outside blocks.
    """

    name: str
    layer: str
    stage: int | None = None
    block: int | None = None

    @property
    def module(self) -> str:
        """Canonical name of the layer that has it: as its input the head ``features``."""
        return "head" if self.layer in ("features", "logits") else self.name

    @property
    def rank(self) -> int:
        """How many dimensions it has, that of the images too."""
        return {"features": 2, "logits": 2, "stage": 4}.get(self.layer, 3)


def tap_specs(config: PVTConfig) -> list[TapSpec]:
    """Returns the intermediate results of a model, in forward order.

    With N = H * W the tokens of the stage (one more where the class token stands before them, see
    :meth:`PVTConfig.has_class_token`) and C its channels:

    - ``patch_embed{i}`` (B, N, C): after the patch embedding's norm.
    - ``embed{i}`` (B, N, C), v1: with the position embedding (and class token) added.
    - ``block{i}.{j}.attn``, ``block{i}.{j}.mlp`` (B, N, C): the branch, before it is added.
    - ``block{i}.{j}`` (B, N, C): the block's output.
    - ``norm`` (v1, not with ``features_only``), ``norm{i}`` (v2) (B, N, C).
    - ``stage{i}`` (B, C, H, W), with ``features_only``: the stage's map, in v2 after its norm.
    - ``features`` (B, C), without ``features_only``: v1's class token, v2's mean over tokens.
    - ``logits`` (B, num_classes), if there is a head.
    """
    return list(_taps(config))


def _taps(config: PVTConfig) -> Iterator[TapSpec]:
    for stage in range(NUM_STAGES):
        yield from _stage_taps(config, stage)
    if config.version == 1 and not config.features_only:
        yield TapSpec("norm", "norm")
    if not config.features_only:
        yield TapSpec("features", "features")
    if config.num_classes:
        yield TapSpec("logits", "logits")


def _stage_taps(config: PVTConfig, stage: int) -> Iterator[TapSpec]:
    number = stage + 1
    yield TapSpec(f"patch_embed{number}", "patch_embed", stage)
    if config.version == 1:
        yield TapSpec(f"embed{number}", "embed", stage)
    for block in range(config.depths[stage]):
        name = f"block{number}.{block}"
        yield TapSpec(f"{name}.attn", "attn", stage, block)
        yield TapSpec(f"{name}.mlp", "mlp", stage, block)
        yield TapSpec(name, "block", stage, block)
    if config.version == 2:
        yield TapSpec(f"norm{number}", "norm", stage)
    if config.features_only:
        yield TapSpec(f"stage{number}", "stage", stage)


def tap_names(config: PVTConfig) -> list[str]:
    """Returns the names of :func:`tap_specs`, in forward order."""
    return [tap.name for tap in tap_specs(config)]


def output_names(config: PVTConfig) -> tuple[str, ...]:
    """Returns the taps that the model answers with, in this order.

    ``logits``, without a head ``features``, with ``features_only`` ``stage1`` to ``stage4``.
    """
    if config.features_only:
        return tuple(tap.name for tap in tap_specs(config) if tap.layer == "stage")
    return ("logits",) if config.num_classes else ("features",)
