"""Error maps of the page: where in an image the worst tap errs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.measure.compare import Comparison
from parity.report.html.images import Thumbnail, data_uri, thumbnail_of
from parity.result import Result
from pvt_data.images.preprocessing import encode_png
from pvt_spec import Preprocessing, stage_grids
from pvt_spec.arrays import Array
from pvt_spec.taps import tap_specs
from pvt_spec.words import counted

Picture = tuple[str, str]
"""PNG files as data URIs: for the light colour scheme, and for the dark one."""

_VECTORS = ("features", "logits")
"""Taps without places in the image."""

_BLUE, _RED = np.radians((260, 27))
"""Hues of errors, and of what is not finite."""

_RAMPS = {
    "light": ((0.975, 0.008), (0.30, 0.13), (0.55, 0.19)),
    "dark": ((0.25, 0.03), (0.87, 0.075), (0.70, 0.17)),
}
"""By colour scheme: lightness and chroma of no error, of the largest, and of what is not finite."""

_STEPS = 256

_LAB_TO_CONES = (
    (1, 0.3963377774, 0.2158037573),
    (1, -0.1055613458, -0.0638541728),
    (1, -0.0894841775, -1.2914855480),
)
_CONES_TO_RGB = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
"""Ottosson, A perceptual color space for image processing (2020)."""


def _srgb(lightness: Array, chroma: Array, hue: float) -> Array:
    """Returns uint8 (N, 3) of OKLCH."""
    lab = np.stack((lightness, chroma * np.cos(hue), chroma * np.sin(hue)), axis=-1)
    linear = ((lab @ np.transpose(_LAB_TO_CONES)) ** 3 @ np.transpose(_CONES_TO_RGB)).clip(0, 1)
    curved = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, curved)
    pixels: Array = np.rint(255 * encoded).astype(np.uint8)
    return pixels


def ramp(scheme: str) -> Array:
    """Returns uint8 (257, 3): equal steps of one hue from no error to the largest; not finite."""
    least, most, broken = (np.array(pair) for pair in _RAMPS[scheme])
    share = np.linspace(0, 1, _STEPS)[:, None]
    lightness, chroma = (least * (1 - share) + most * share).T
    return np.concatenate([_srgb(lightness, chroma, _BLUE), _srgb(broken[:1], broken[1:], _RED)])


def _picture(values: Array, largest: float) -> Picture:
    """Returns float64 (H, W) in the colours of each scheme."""
    finite = np.isfinite(values)
    shares = np.where(finite, values, 0) / (largest or 1.0)
    index = np.where(finite, np.rint(shares * (_STEPS - 1)), _STEPS).astype(int)
    light, dark = (
        data_uri(encode_png(ramp(scheme)[index], max(values.shape))) for scheme in _RAMPS
    )
    return light, dark


def scale_pictures() -> dict[str, Picture]:
    """Returns what every scale shows: the colours in order, and that of what is not finite."""
    gradient, red = np.linspace(0, 1, 64)[None], np.array([[np.inf]])
    return {"gradient": _picture(gradient, 1.0), "red": _picture(red, 1.0)}


@dataclass(frozen=True)
class TapMap:
    """Where one tap of a runtime errs.

    Attributes:
        name: The tap's.
        layout: How its errors are laid out, in words.
        picture: The errors; None where there is nothing to show.
        largest: The largest of them.
        finite: Whether all are.
        thumbnail: The image that it lies in; None where it has no places.
        token: The class token's error and its picture; None where there is no such token.
    """

    name: str
    layout: str = ""
    picture: Picture | None = None
    largest: float = 0.0
    finite: bool = True
    thumbnail: Thumbnail | None = None
    token: tuple[float, Picture] | None = None


def error_maps(
    result: Result, comparison: Comparison, preprocessing: Preprocessing
) -> Iterator[TapMap]:
    """Yields a runtime's worst tap, and where that has no places the worst one that has, too."""
    placed = [name for name in comparison.names if name not in _VECTORS]
    chosen = [comparison.worst_of(names) for names in (comparison.names, placed) if names]
    for name in dict.fromkeys(chosen):
        kept = comparison.maps.get(name, {}).get(comparison.judge(name).group)
        if kept is None:
            yield TapMap(name)
            continue
        largest = float(np.max(kept.error, where=np.isfinite(kept.error), initial=0.0))
        finite = bool(np.isfinite(kept.error).all())
        if name in _VECTORS:
            values = _in_rows(kept.error)
            layout = f"its {counted(values.size, 'value')} of one image, row by row"
            yield TapMap(name, layout, _picture(values, largest), largest, finite)
            continue
        grid = _grid_of(result, name)
        values, token = on_grid(kept.error, grid)
        H, W = values.shape
        lies = f"{H} × {W} places" if values.shape == grid else f"{values.size} tokens in one row"
        yield TapMap(
            name,
            f"{lies}, the largest error of all channels at each",
            _picture(values, largest),
            largest,
            finite,
            thumbnail_of(result.samples[kept.place.image], preprocessing),
            None if token is None else (float(token[0, 0]), _picture(token, largest)),
        )


def _in_rows(error: Array) -> Array:
    """Returns a vector as a wide (H, W) without a remainder."""
    most = max(1, int(error.size**0.5 / 2))
    return error.reshape(max(n for n in range(1, most + 1) if error.size % n == 0), -1)


def _grid_of(result: Result, tap: str) -> tuple[int, int]:
    grids = stage_grids(result.info.config, result.info.numerics, result.image_size)
    (stage,) = (spec.stage for spec in tap_specs(result.info.config) if spec.name == tap)
    return grids[-1 if stage is None else stage]  # v1's norm is of the last stage


def on_grid(error: Array, grid: tuple[int, int]) -> tuple[Array, Array | None]:
    """Lays an error map out as it lies in the image, and the class token's apart from it.

    Args:
        error: float64 (N,) of tokens, with or without a class token before them, or (H, W).
        grid: (H, W) of the stage's tokens.

    Returns:
        float64 (H, W), or (1, N) where N is of no such grid; and (1, 1) or None.
    """
    H, W = grid
    if error.ndim == 2:
        return error, None
    if error.size == H * W:
        return error.reshape(H, W), None
    if error.size == H * W + 1:
        return error[1:].reshape(H, W), error[:1].reshape(1, 1)
    return error.reshape(1, -1), None
