"""Error maps of the HTML page: where in an image the worst tap errs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.measure.compare import Comparison
from parity.report.html.images import Thumbnail, data_uri, thumbnail_of
from parity.report.numbers import count
from parity.report.text import shown
from parity.run import Result
from pvt_data.preprocessing import encode_png
from pvt_spec import Preprocessing, stage_grids
from pvt_spec.arrays import Array
from pvt_spec.taps import tap_specs

_VECTORS = ("features", "logits")
"""Taps without places in the image."""

_HUE = np.radians(260)

_RAMPS = {
    "light": ((0.975, 0.008), (0.30, 0.13), (0.55, 0.19)),
    "dark": ((0.25, 0.03), (0.87, 0.075), (0.70, 0.17)),
}
"""By colour scheme: lightness and chroma of no error, of the largest, and of what is not finite."""

_STEPS = 256


def _srgb(lightness: Array, chroma: Array, hue: float) -> Array:
    """Returns uint8 (…, 3) of OKLCH.

    Ottosson, A perceptual color space for image processing (2020).
    """
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        (
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ),
        axis=-1,
    )
    to_linear = np.array(
        [
            (4.0767416621, -3.3077115913, 0.2309699292),
            (-1.2684380046, 2.6097574011, -0.3413193965),
            (-0.0041960863, -0.7034186147, 1.7076147010),
        ]
    )
    linear = (cones**3 @ to_linear.T).clip(0, 1)
    encoded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    found: Array = np.rint(255 * encoded).astype(np.uint8)
    return found


def ramp(scheme: str) -> Array:
    """Returns uint8 (257, 3): equal steps of one hue from no error to the largest; not finite."""
    least, most, broken = (np.array(pair) for pair in _RAMPS[scheme])
    share = np.linspace(0, 1, _STEPS)[:, None]
    lightness, chroma = (least * (1 - share) + most * share).T
    red = _srgb(broken[:1], broken[1:], np.radians(27))
    return np.concatenate([_srgb(lightness, chroma, float(_HUE)), red])


@dataclass(frozen=True)
class Picture:
    """Errors as colours.

    Attributes:
        light: A PNG for the light scheme, as a data URI.
        dark: The same for the dark one.
        meaning: What it shows, for those who do not see it.
    """

    light: str
    dark: str
    meaning: str


def _picture(values: Array, largest: float, meaning: str) -> Picture:
    """Returns float64 (H, W) in the colours of each scheme."""
    finite = np.isfinite(values)
    shares = np.where(finite, values, 0) / (largest or 1.0)
    index = np.where(finite, np.rint(shares * (_STEPS - 1)), _STEPS).astype(int)
    light, dark = (
        data_uri(encode_png(ramp(scheme)[index], max(values.shape))) for scheme in _RAMPS
    )
    return Picture(light, dark, meaning)


def scale_pictures() -> dict[str, Picture]:
    """Returns what every scale shows: the colours in order, and that of what is not finite."""
    return {
        "gradient": _picture(np.linspace(0, 1, 64)[None], 1.0, ""),
        "red": _picture(np.array([[np.inf]]), 1.0, "red"),
    }


@dataclass(frozen=True)
class TapMap:
    """Where one tap of a runtime errs.

    Attributes:
        tap: Its name.
        text: Its error, and how it is laid out.
        picture: The errors; None where there is nothing to show.
        largest: The largest of them.
        finite: Whether all are.
        thumbnail: The image that it lies in; None where it has no places.
        token: The class token's error and its picture; None where there is no such token.
    """

    tap: str
    text: str
    picture: Picture | None = None
    largest: float = 0.0
    finite: bool = True
    thumbnail: Thumbnail | None = None
    token: tuple[float, Picture] | None = None


def error_maps(
    result: Result, comparison: Comparison, preprocessing: Preprocessing
) -> Iterator[TapMap]:
    """Returns a runtime's worst tap, and where it has no places the worst one that has, too."""
    worst = comparison.worst_of(comparison.names)
    if worst in _VECTORS:
        yield _map(result, comparison, worst, preprocessing)
    placed = [name for name in comparison.names if name not in _VECTORS]
    if placed:
        yield _map(result, comparison, comparison.worst_of(placed), preprocessing)


def _map(result: Result, comparison: Comparison, tap: str, preprocessing: Preprocessing) -> TapMap:
    found = shown(comparison, tap)
    unit = " the tolerance" if comparison.fixed else " rounding"
    bad = "" if comparison.judge(tap).within else ", out of bounds"
    text = f": {found}{unit if found.endswith('×') else ''}{bad}; "
    kept = comparison.maps.get(tap)
    if kept is None:
        mismatch = comparison.total(tap).mismatch
        return TapMap(
            tap, text + ("there is nothing to show" if mismatch else "no error in any image")
        )
    thumbnail, token = None, None
    if tap in _VECTORS:
        size = kept.error.size
        rows = max(n for n in range(1, max(2, int(size**0.5 / 2) + 1)) if size % n == 0)
        values = kept.error.reshape(rows, -1)
        text += f"its {count(size, 'value')} of one image, row by row"
    else:
        grids = stage_grids(result.info.config, result.info.numerics, result.image_size)
        (stage,) = (spec.stage for spec in tap_specs(result.info.config) if spec.name == tap)
        grid = grids[-1 if stage is None else stage]  # v1's norm is of the last stage
        values, token = on_grid(kept.error, grid)
        H, W = values.shape
        lies = f"{H} × {W} places" if values.shape == grid else f"{values.size} tokens in one row"
        text += f"{lies}, the largest error of all channels at each"
        thumbnail = thumbnail_of(result.samples[kept.image], preprocessing)
    largest = float(np.max(kept.error, where=np.isfinite(kept.error), initial=0.0))
    return TapMap(
        tap,
        text,
        _picture(values, largest, f"errors of {tap}"),
        largest,
        bool(np.isfinite(kept.error).all()),
        thumbnail,
        None if token is None else (float(token[0, 0]), _picture(token, largest, "its colour")),
    )


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
