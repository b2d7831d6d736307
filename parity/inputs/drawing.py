"""Generated images that make small errors visible.

They are drawn with integers from the raw output of PCG64 and nothing else, so that their pixels are
the same in every release of numpy and on every machine; what the preprocessing makes of them is as
reproducible as Pillow's bicubic filter.
"""

from math import isqrt

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.model_info import Preprocessing


class Stream:
    """Integers of a seed: raw 64 bits of PCG64, whose stream numpy promises never to change."""

    def __init__(self, seed: int, index: int):
        self._bits = np.random.PCG64(np.random.SeedSequence((seed, index)))

    def draw(self, low: int, high: int) -> int:
        """Returns one integer in low…high - 1."""
        return low + int(self._bits.random_raw()) % (high - low)

    def noise(self, bits: int, *shape: int) -> Array:
        """Returns int32 of a shape, in -2**(bits - 1) to 2**(bits - 1) - 1; bits <= 16."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(-(-count // 4)).astype("<u8").view("<i2")[:count]
        return (raw >> (16 - bits)).reshape(shape).astype(np.int32)


def cloud(stream: Stream, planes: int, height: int, width: int) -> Array:
    """Returns noise with detail at every scale, int32 (planes, height, width), mostly within ±4096.

    Octaves of noise, each twice as fine: its amplitude spectrum falls about as 1/f, as natural
    images' does.
    """
    sizes = [(height, width)]
    while max(sizes[-1]) > 4:
        sizes.append((-(-sizes[-1][0] // 2) + 1, -(-sizes[-1][1] // 2) + 1))
    field = stream.noise(13, planes, *sizes.pop())
    for h, w in reversed(sizes):
        for _ in range(2):  # rows, then columns
            field = _doubled(field).transpose(0, 2, 1)
        field = field[:, :h, :w] + stream.noise(12 if h < height else 10, planes, h, w)
    return field


def _doubled(field: Array) -> Array:
    """Returns twice as many rows less two, between the given ones by a quadratic spline."""
    above, below = field[:, :-1], field[:, 1:]
    finer = np.stack(((3 * above + below) >> 2, (above + 3 * below) >> 2), axis=2)
    return np.asarray(finer.reshape(field.shape[0], -1, field.shape[2]))


SCENES = ((4, 0, 1), (0, 120, 24), (0, 14, 7), (3, 50, 16))
"""Ridges of hills, objects, and the share of the height that the smallest object's radius is."""

_COLOURS = np.array(
    [
        *((196, 120, 60), (150, 60, 40), (92, 110, 44), (60, 84, 52), (228, 196, 140)),
        *((70, 50, 40), (206, 160, 50), (90, 104, 130), (170, 150, 120), (214, 92, 62)),
    ]
)
"""RGB of objects: more red than blue, so that exchanged channels show in the mean."""


def scene(
    stream: Stream, height: int, width: int, ridges: int, objects: int, smallest: int
) -> Array:
    """Returns a sky or a wall, hills before it, objects before those: int32 (height, width, 3)."""
    light, warm, green = cloud(stream, 3, height, width)
    # Channels of natural images vary together more than apart.
    texture = np.stack((light + (warm >> 2), light + (green >> 3), light - (warm >> 2)), axis=2)
    y, x = np.ogrid[:height, :width]
    if ridges:
        haze = (y * 110 // height)[:, :, None]
        scene = np.array((110, 150, 205)) + haze * np.array((10, 4, -2)) // 10
        scene = scene + np.maximum(texture + 300, 0) * 3 // 80
    else:
        scene = np.array((140, 118, 92)) + texture // 48
    for i in range(ridges):
        profile = cloud(stream, 1, 2, width)[0, 0] * (i + 2) * height >> 16
        top = height * (2 * i + 4) // (2 * ridges + 4) + profile
        colour = np.array((150 - 20 * i, 150 - 16 * i, 150 - 38 * i))
        near = colour + texture * (i + 1) // 128
        scene = np.where((y > top)[:, :, None], near, scene)
    for _ in range(objects * min(height, 240) // 240):
        _add_object(stream, scene, texture, height // smallest)
    # Lit from the left and above, and unevenly so.
    lit = 310 - 90 * x // width - 50 * y // height
    return np.asarray(scene * lit[:, :, None] >> 8)


def _add_object(stream: Stream, scene: Array, texture: Array, smallest: int) -> None:
    """Paints an ellipse or a box with its shadow; radii follow the power law of dead leaves."""
    height, width, _ = scene.shape
    radius = isqrt((max(smallest, 2) << 8) ** 2 // stream.draw(1, 1 << 16))
    radius = min(radius, height // 4)
    cy, cx = stream.draw(0, height), stream.draw(0, width)
    top, left = max(cy - 2 * radius, 0), max(cx - 2 * radius, 0)
    part = np.s_[top : cy + 2 * radius, left : cx + 2 * radius]
    view = scene[part]
    dy = np.arange(top - cy, top - cy + view.shape[0])[:, None]
    dx = np.arange(left - cx, left - cx + view.shape[1])
    turn_x, turn_y, thin = stream.draw(1, 8), stream.draw(-7, 8), stream.draw(4, 9)
    limit = 16 * (turn_x**2 + turn_y**2) * radius**2
    boxed = stream.draw(0, 3) == 0

    def extent(dy: Array, dx: Array) -> Array:
        along = 16 * (turn_x * dx + turn_y * dy) ** 2
        across = (thin * (turn_x * dy - turn_y * dx)) ** 2
        return np.maximum(2 * along, 2 * across) if boxed else along + across

    shadow = extent(dy - radius // 6, dx - radius // 4) <= limit
    view[shadow] = view[shadow] * 5 >> 3
    inside = extent(dy, dx) <= limit
    shade = -(40 * dx + 25 * dy) // radius
    colour = _COLOURS[stream.draw(0, len(_COLOURS))] + stream.draw(-20, 21)
    painted = colour + shade[:, :, None] + texture[part] // stream.draw(40, 200)
    view[inside] = painted[inside]


def edges(height: int, width: int) -> Array:
    """Returns black, white and saturated boxes of several sizes, int32 (height, width, 3)."""
    y, x = np.ogrid[:height, :width]
    tall, wide = max(height // 9, 2), max(width // 14, 2)
    box = y // tall * 5 + x // wide * 3 + (y * width > x * height) * 2
    bright = [(1, 1, 1), (0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0)]
    found: Array = (255 * np.array(bright, np.int32))[box % len(bright)]
    # Stripes two pixels wide in one corner: the finest contrast that resizing leaves something of.
    corner = np.s_[: height // 3, : width // 3]
    found[corner] = ((x + y) // 2 % 2 * 255)[corner][:, :, None]
    return found


LEAST_SHOWN = 0.25
"""The least share of their side that is cropped from dots: a file's own may be a thousandth."""


def dots(preprocessing: Preprocessing) -> Array:
    """Returns single bright pixels on dark ones, int32, of a size that is cropped and not resized.

    Where the crop is less than :data:`LEAST_SHOWN` of each side they are enlarged, as few are then.

    Each row is unlike those around it, and the outermost pixels are bright on the left and the top
    alone: what pads or samples a pixel to the side gives other numbers.
    """
    H, W = preprocessing.image_size
    share = max(preprocessing.crop_pct, LEAST_SHOWN)
    height, width = int(H / share), int(W / share)
    y, x = np.ogrid[:height, :width]
    bright = (x * 3 + y * 5 + (x * y) // 7) % 11 == 0
    top, left = round((height - H) / 2), round((width - W) / 2)
    bright = bright | (y == top) & (x % 2 == 0) | (x == left) & (y % 3 == 0)
    return np.where(bright[:, :, None], (250, 235, 215), (20, 35, 60)).astype(np.int32)


def with_channels(pixels: Array, channels: int) -> Array:
    """Returns uint8 (height, width, channels): one is grey, more than three repeat colours."""
    clipped: Array = pixels.clip(0, 255).astype(np.uint8)
    if pixels.shape[2] == channels:
        return clipped
    if channels == 1:
        grey = clipped.astype(np.int32) @ np.array([77, 150, 29])
        return np.asarray(grey[:, :, None] >> 8, np.uint8)
    # Each repetition is moved, so that channels that are exchanged show.
    planes = [np.roll(clipped[:, :, i % 3], i, axis=1) for i in range(channels)]
    return np.stack(planes, axis=2)
