"""The operations that RandAugment chooses from, and how strong they are at each level, as tables.

There are two sets, because those of timm and of MindCV differ in more than their rounding:

* ``rand``: timm's (``timm/data/auto_augment.py``), which the official PVT was trained with.
* ``randaug``: MindCV's (``mindcv/data/auto_augment.py``), as its recipes compute it. It has no
  SolarizeAdd; its shears, up to 0.3, are slopes in timm but degrees in MindSpore, so that the
  strongest moves a pixel of a 224-pixel image by less than one; its posterize keeps 8 - k bits
  where timm's keeps k, and so weakens with ``inc``; its solarize counts to 255, not 256.

Pixels are Pillow's in both sets. MindSpore's own differ, on a photo and of 255: enhancements by at
most 1, equalize by 3.5 on average, and what moves pixels, along edges, by up to 2.9 on average;
the rest is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import radians, tan
from typing import NamedTuple

from PIL import Image, ImageEnhance, ImageOps

DENOMINATOR = 10.0
"""The level at which an operation is as strong as its authors meant it to be at most."""

TRANSLATION = 0.45
"""Share of the image's side that it moves by at level 10."""


class Canvas(NamedTuple):
    """How an operation that moves pixels fills what it uncovers and reads between pixels.

    Attributes:
        fill: A value for a grey image, one per channel for a coloured one.
        resample: Nearest, bilinear or bicubic.
    """

    fill: int | tuple[int, ...]
    resample: Image.Resampling


Apply = Callable[[Image.Image, float, Canvas], Image.Image]
"""From an image, the operation's argument and a canvas to a new image of the same mode and size."""


@dataclass(frozen=True)
class Operation:
    """One row of a table of operations.

    Attributes:
        apply: What it does to an image.
        argument: Level -> argument of ``apply``.
        signed: Whether half of the levels are negative.
    """

    apply: Apply
    argument: Callable[[float], float] = lambda level: level
    signed: bool = False


# --- what operations do


def _look_up(entry: Callable[[int, float], int]) -> Apply:
    """Returns what replaces each of the values 0 to 255, given the argument."""
    return lambda image, argument, _: image.point(
        [entry(value, argument) for value in range(256)] * len(image.getbands())
    )


_solarize = _look_up(lambda value, threshold: value if value < threshold else 255 - value)
_solarize_add = _look_up(
    lambda value, addend: min(value + int(addend), 255) if value < 128 else value
)
# Pillow's own refuses to keep no bits: black, which is what timm asks for at level 10.
_posterize = _look_up(lambda value, bits: value & 0xFF00 >> min(max(int(bits), 0), 8))


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Apply:
    return lambda image, factor, _: kind(image).enhance(factor)


def _rotate(image: Image.Image, degrees: float, canvas: Canvas) -> Image.Image:
    return image.rotate(degrees, resample=canvas.resample, fillcolor=canvas.fill)


def _affine(matrix: Callable[[Image.Image, float], tuple[float, ...]]) -> Apply:
    """Returns what reads each pixel (x, y) from (ax + by + c, dx + ey + f).

    Args:
        matrix: The function that gives (a, b, c, d, e, f) for an image and the argument.
    """
    return lambda image, argument, canvas: image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix(image, argument),
        resample=canvas.resample,
        fillcolor=canvas.fill,
    )


_translate_x = _affine(lambda image, share: (1, 0, share * image.width, 0, 1, 0))
_translate_y = _affine(lambda image, share: (1, 0, 0, 0, 1, share * image.height))
_shear_x = _affine(lambda _, slope: (1, slope, 0, 0, 1, 0))
_shear_y = _affine(lambda _, slope: (1, 0, 0, slope, 1, 0))
_shear_x_centred = _affine(
    lambda image, degrees: (1, _slope(degrees), -_slope(degrees) * image.height / 2, 0, 1, 0)
)
_shear_y_centred = _affine(
    lambda image, degrees: (1, 0, 0, _slope(degrees), 1, -_slope(degrees) * image.width / 2)
)


def _slope(degrees: float) -> float:
    return tan(radians(degrees))


# --- how strong they are


def _up_to(largest: float) -> Callable[[float], float]:
    """Returns a function that gives ``largest`` at level 10."""
    return lambda level: level / DENOMINATOR * largest


def _steps(largest: int, offset: int = 0) -> Callable[[float], float]:
    """Returns the same in whole steps, rounded down, from ``offset`` on."""
    return lambda level: offset + int(level / DENOMINATOR * largest)


def _steps_down(smallest: int, largest: int) -> Callable[[float], float]:
    """Returns a function from ``largest`` at level 0 down to ``smallest`` at 10, in whole steps."""
    return lambda level: largest - int(level / DENOMINATOR * (largest - smallest))


def _factor(level: float) -> float:
    """Returns 0.1 to 1.9; 1, at level 5, is no change."""
    return level / DENOMINATOR * 1.8 + 0.1


def _factor_around_one(level: float) -> float:
    """Returns 1 at level 0, no change; 0.1 at level -10, and no less; 1.9 at level 10."""
    return max(0.1, 1 + level / DENOMINATOR * 0.9)


_ENHANCEMENTS = {
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
}
_ALWAYS = {
    "AutoContrast": Operation(lambda image, _, __: ImageOps.autocontrast(image, cutoff=0)),
    "Equalize": Operation(lambda image, _, __: ImageOps.equalize(image)),
    "Invert": Operation(lambda image, _, __: ImageOps.invert(image)),
    "Rotate": Operation(_rotate, _up_to(30.0), signed=True),
    "TranslateX": Operation(_translate_x, _up_to(TRANSLATION), signed=True),
    "TranslateY": Operation(_translate_y, _up_to(TRANSLATION), signed=True),
}
_DECREASING = _ALWAYS | {name: Operation(apply, _factor) for name, apply in _ENHANCEMENTS.items()}
_INCREASING = _ALWAYS | {
    name: Operation(apply, _factor_around_one, signed=True) for name, apply in _ENHANCEMENTS.items()
}
_TIMM = {
    "SolarizeAdd": Operation(_solarize_add, _steps(110)),
    "ShearX": Operation(_shear_x, _up_to(0.3), signed=True),
    "ShearY": Operation(_shear_y, _up_to(0.3), signed=True),
}
_MINDCV = {
    "ShearX": Operation(_shear_x_centred, _up_to(0.3), signed=True),
    "ShearY": Operation(_shear_y_centred, _up_to(0.3), signed=True),
}
OPERATIONS: dict[tuple[str, bool], dict[str, Operation]] = {
    ("rand", False): {
        **_DECREASING,
        **_TIMM,
        "Posterize": Operation(_posterize, _steps(4)),
        "Solarize": Operation(_solarize, _steps(256)),
    },
    ("rand", True): {
        **_INCREASING,
        **_TIMM,
        "Posterize": Operation(_posterize, _steps_down(0, 4)),
        "Solarize": Operation(_solarize, _steps_down(0, 256)),
    },
    ("randaug", False): {
        **_DECREASING,
        **_MINDCV,
        "Posterize": Operation(_posterize, _steps_down(4, 8)),
        "Solarize": Operation(_solarize, _steps(255)),
    },
    ("randaug", True): {
        **_INCREASING,
        **_MINDCV,
        "Posterize": Operation(_posterize, _steps(4, offset=4)),
        "Solarize": Operation(_solarize, _steps_down(0, 255)),
    },
}
"""(first word of the policy, ``inc``) -> name -> operation, in the order they are numbered.

With ``inc`` an operation is the stronger the higher its level, but for MindCV's posterize. Without,
solarize and timm's posterize are the weaker, and an enhancement is none at level 5.
"""
