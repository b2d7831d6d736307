"""Error maps of the HTML page: where in an image the worst tap errs."""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from parity.measure.compare import Comparison, ErrorMap
from parity.report.html.elements import count, element, error_of, figure, mark
from parity.report.html.images import captioned, data_uri, picture_of
from parity.run import Result
from pvt_data.preprocessing import encode_png
from pvt_spec import Preprocessing, stage_grids
from pvt_spec.arrays import Array

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
    """uint8 (…, 3) of OKLCH: Ottosson, A perceptual color space for image processing (2020)."""
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
    """uint8 (257, 3): equal steps of one hue from no error to the largest, and not finite."""
    least, most, broken = (np.array(pair) for pair in _RAMPS[scheme])
    share = np.linspace(0, 1, _STEPS)[:, None]
    lightness, chroma = (least * (1 - share) + most * share).T
    red = _srgb(broken[:1], broken[1:], np.radians(27))
    return np.concatenate([_srgb(lightness, chroma, float(_HUE)), red])


def _picture(values: Array, largest: float, meaning: str) -> Element:
    """float64 (H, W) in the colours of each scheme."""
    finite = np.isfinite(values)
    shares = np.where(finite, values, 0) / (largest or 1.0)
    index = np.where(finite, np.rint(shares * (_STEPS - 1)), _STEPS).astype(int)
    light, dark = (
        data_uri(encode_png(ramp(scheme)[index], max(values.shape))) for scheme in _RAMPS
    )
    return element(
        "picture",
        element("source", media="(prefers-color-scheme: dark)", srcset=dark),
        element("img", src=light, alt=meaning),
    )


def error_maps(result: Result, preprocessing: Preprocessing) -> Iterator[Element]:
    """The worst tap of every runtime, and where it has no places the worst one that has."""
    grids = stage_grids(result.info.config, result.info.numerics, result.image_size)
    for comparison in result.comparisons:
        parts = [element("h3", mark(comparison.same, _word(comparison)), f" {comparison.name}")]
        worst = comparison.worst_of(comparison.names)
        if worst in _VECTORS:
            parts.append(_of_values(comparison, worst))
        placed = [name for name in comparison.names if name not in _VECTORS]
        if placed:
            tap = comparison.worst_of(placed)
            kept = comparison.maps.get(tap)
            if kept is None:
                parts.append(_nothing(comparison, tap))
            else:
                sample = result.samples[kept.image]
                picture = captioned(picture_of(sample, preprocessing), sample)
                parts += _of_places(comparison, tap, kept, grids[_stage(tap, grids)], picture)
        yield element("article", *parts)


def _word(comparison: Comparison) -> str:
    return "same" if comparison.same else "DIFFERENT"


def _stage(tap: str, grids: Sequence[object]) -> int:
    """Counted from 0; v1's ``norm`` is of the last stage."""
    number = tap.split(".")[0][-1]
    return int(number) - 1 if number.isdigit() else len(grids) - 1


def _described(comparison: Comparison, tap: str, what: str) -> Element:
    found = error_of(comparison, tap)
    unit = " the tolerance" if comparison.fixed else " rounding"
    bad = "" if comparison.judge(tap).within else ", out of bounds"
    text = f": {found}{unit if found.endswith('×') else ''}{bad}; {what}"
    return element("p", element("code", tap), text, class_="small")


def _nothing(comparison: Comparison, tap: str) -> Element:
    mismatch = comparison.total(tap).mismatch
    what = "there is nothing to show" if mismatch else "no error in any image"
    return _described(comparison, tap, what)


def _of_values(comparison: Comparison, tap: str) -> Element:
    """Of a tap (B, C): its values in order, row by row."""
    kept = comparison.maps.get(tap)
    if kept is None:
        return _nothing(comparison, tap)
    size = kept.error.size
    rows = max(n for n in range(1, max(2, int(size**0.5 / 2) + 1)) if size % n == 0)
    values = kept.error.reshape(rows, -1)
    largest = _largest(values)
    what = f"its {count(size, 'value')} of one image, row by row"
    picture = _picture(values, largest, f"errors of {tap}")
    return element(
        "div",
        _described(comparison, tap, what),
        element("div", element("figure", picture, class_="map flat"), class_="pair"),
        _scale(values, largest),
        class_="values",
    )


def _of_places(
    comparison: Comparison, tap: str, kept: ErrorMap, grid: tuple[int, int], picture: Element
) -> list[Element]:
    """Of a tap of tokens or a map: as it lies in the image, beside the image."""
    values, token = on_grid(kept.error, grid)
    largest = _largest(kept.error)
    H, W = values.shape
    lies = f"{H} × {W} places" if values.shape == grid else f"{values.size} tokens in one row"
    parts = [_picture(values, largest, f"errors of {tap}")]
    if token is not None:
        swatch = element("span", _picture(token, largest, "its colour"), class_="token")
        text = f" class token, {figure(float(token[0, 0]))}"
        parts.append(element("figcaption", swatch, text, class_="small"))
    return [
        _described(comparison, tap, f"{lies}, the largest error of all channels at each"),
        element("div", picture, element("figure", *parts, class_="map"), class_="pair"),
        _scale(kept.error, largest),
    ]


def on_grid(error: Array, grid: tuple[int, int]) -> tuple[Array, Array | None]:
    """An error map as it lies in the image, and apart from it the class token's.

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


def _largest(values: Array) -> float:
    return float(np.max(values, where=np.isfinite(values), initial=0.0))


def _scale(values: Array, largest: float) -> Element:
    """What the colours mean."""
    gradient = _picture(np.linspace(0, 1, 64)[None], 1.0, "")
    parts: list[Element | str] = ["0", gradient, f"{figure(largest)} absolute error"]
    if not np.isfinite(values).all():
        swatch = element("span", _picture(np.array([[np.inf]]), 1.0, "red"), class_="token")
        parts += [swatch, "not finite"]
    return element("div", *parts, class_="scale")
