"""v1's position embeddings on other grids than their own."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from convert.model.describe import pos_embeds
from pvt_spec import NUM_STAGES, Numerics, PVTConfig, stage_grids
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError


def resized_positions(
    weights: Mapping[str, Array],
    config: PVTConfig,
    numerics: Numerics,
    image_size: tuple[int, int],
) -> tuple[PVTConfig, Numerics, dict[str, Array]]:
    """Resizes v1's position embeddings for images of another size, bilinearly.

    Args:
        weights: Those of the position embeddings that are there, and others.
        config: The architecture before.
        numerics: The maths before.
        image_size: The size after, (H, W).

    Returns:
        Architecture and maths after; the position embeddings, float32, where any grid changes.

    Raises:
        ConfigError: The size is too small for four stages.
        ConvertError: v1's stages have other grids at this size than its position embeddings can.
    """
    after = dataclasses.replace(config, image_size=image_size)
    _check_grids(after, numerics)
    moved = {name: (old, new) for name, old, new in moved_grids(config, after)}
    if not moved:
        return after, numerics, {}
    align = numerics.pos_embed_resize == "align_corners"
    # All four become float32, as a model's maths has one dtype for them.
    resized = {
        name: _resize_stage(weights[name].astype(np.float32), *moved[name], align)
        if name in moved
        else weights[name].astype(np.float32)
        for name in pos_embeds(config)
        if name in weights
    }
    return after, dataclasses.replace(numerics, pos_embed_dtype="float32"), resized


def moved_grids(
    before: PVTConfig, after: PVTConfig
) -> list[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Returns v1's position embeddings whose grid changes, with both grids."""
    grids = [
        (name, before.pos_embed_grid(stage), after.pos_embed_grid(stage))
        for stage, name in enumerate(pos_embeds(before))
    ]
    return [(name, old, new) for name, old, new in grids if old != new]


def _check_grids(config: PVTConfig, numerics: Numerics) -> None:
    """Refuses a size at which v1's position embeddings need resizing while the model runs."""
    laid_out = [config.pos_embed_grid(stage) for stage in range(NUM_STAGES)]
    grids = stage_grids(config, numerics, config.image_size)
    if config.version == 1 and laid_out != grids:
        H, W = config.image_size
        raise ConvertError(
            f'image size {H}x{W}: "same" padding makes grids {grids} of it, but the position '
            f"embeddings of such a model have {laid_out}: give multiples of 32"
        )


def _resize_stage(
    positions: Array, old: tuple[int, int], new: tuple[int, int], align: bool
) -> Array:
    """Returns a position embedding (1, N, C) on another grid; a class token's row stays first."""
    (_, N, C), tokens = positions.shape, old[0] * old[1]
    grid = positions[0, N - tokens :].reshape(*old, C)
    grid = resize_grid(grid, new, align_corners=align)
    rows: Array = np.concatenate([positions[:, : N - tokens], grid.reshape(1, -1, C)], axis=1)
    return rows.astype(np.float32)


def resize_grid(grid: Array, size: tuple[int, int], *, align_corners: bool = False) -> Array:
    """Interpolates bilinearly, as PyTorch, onnxruntime and MindSpore resize in float32.

    Args:
        grid: float32 (H, W, C).
        size: The new (H, W).
        align_corners: Whether corners lie on corners; otherwise pixels are sampled at their
            centres ("half pixel"), and the edge repeats.

    Returns:
        float32 (*size, C).
    """
    top, bottom, down = _sample(grid.shape[0], size[0], align_corners)
    left, right, across = _sample(grid.shape[1], size[1], align_corners)
    down, across = down[:, None, None], across[:, None]
    rows = [
        grid[row][:, left] * (1 - across) + grid[row][:, right] * across for row in (top, bottom)
    ]
    resized: Array = rows[0] * (1 - down) + rows[1] * down
    return resized


def _sample(old: int, new: int, align_corners: bool) -> tuple[Array, Array, Array]:
    """Returns each new cell's neighbours among the old ones, and how far the second counts."""
    cell = np.arange(new, dtype=np.float32)
    if align_corners:
        place = cell * np.float32((old - 1) / max(new - 1, 1))
    else:
        place = np.maximum((cell + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5), 0)
    first = np.minimum(place.astype(np.int64), old - 1)
    return first, np.minimum(first + 1, old - 1), place - first
