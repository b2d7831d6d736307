"""Resizing and cropping as Pillow does them, as nodes: pixels of any size become the model's."""

from onnx import TensorProto

from pvt_onnx.graph.writer import GraphWriter, Size
from pvt_spec import ConfigError, Preprocessing

CROPPED, NORMALISED = "pixel/cropped", "pixel/map"
"""The values that pixels are when they are cropped, and when they are normalised."""

FILTERS = {
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    "bilinear": {"mode": "linear", "exclude_outside": 1},
}
"""Pillow's filters that ONNX has too: what a ``Resize`` is told."""


def check_embeddable(kept: Preprocessing) -> None:
    """Refuses what cannot be done by nodes.

    Raises:
        ConfigError: Another filter, or images that are not covered by what is resized.
    """
    (H, W), (rows, columns) = kept.image_size, kept.resized
    if kept.resize == "shortest":
        rows = columns = min(rows, columns)
    problems = []
    if kept.interpolation not in FILTERS:
        problems.append(f"interpolation {kept.interpolation}")
    if kept.resize not in ("cover", "shortest", "squash"):
        problems.append(f"resize {kept.resize}")
    if rows < H or columns < W:
        problems.append(f"crop_pct {kept.crop_pct:g}, {H}x{W} pixels of images of {rows}x{columns}")
    if kept.crop_mode == "none" and (kept.resize != "squash" or (rows, columns) != (H, W)):
        problems.append(f"crop_mode {kept.crop_mode}")
    if problems:
        raise ConfigError(
            f"a graph does not do this preprocessing: {', '.join(problems)}; leave "
            "--embed-preprocess out, or give --uint8, which normalises pixels of the right size"
        )


def resize_and_crop(g: GraphWriter, x: str, kept: Preprocessing) -> str:
    """Maps pixels uint8 (B, height, width, C) to those that Pillow makes, float32 (B, C, H, W).

    Rows, then columns, each rounded to whole numbers of 0 to 255 as Pillow's are.
    """
    new = _resized(g, x, kept)
    x = g.add("Cast", x, name="pixel/float32", to=TensorProto.FLOAT)
    x = g.transpose(x, 0, 3, 1, 2, name="pixel/planes")
    for axis in (3, 2):
        name = f"pixel/resized{axis}"
        given = {"axes": [axis], "antialias": 1, "coordinate_transformation_mode": "half_pixel"}
        given |= FILTERS[kept.interpolation]
        x = g.add("Resize", x, "", "", g.shape(new[axis - 2]), name=name, **given)
        x = g.add("Round", x, name=f"{name}/whole")
        x = g.add("Clip", x, g.number(0.0), g.number(255.0), name=f"{name}/clipped")
    starts, stops = [], []
    for axis, size in zip((2, 3), kept.image_size, strict=True):
        start = _margin(g, new[axis - 2], size, axis, floor=kept.crop_mode == "center_floor")
        starts.append(start)
        stops.append(g.add("Add", start, g.ints(size), name=f"pixel/stop{axis}"))
    bounds = [g.shape(*starts), g.shape(*stops)]
    return g.add("Slice", x, *bounds, g.ints(2, 3), name=CROPPED)


def _resized(g: GraphWriter, x: str, kept: Preprocessing) -> tuple[Size, Size]:
    """Returns the (H, W) that images are resized to, of one aspect unless they are squashed."""
    H, W = kept.resized
    if kept.resize == "squash":
        return H, W
    if kept.resize == "shortest":
        H = W = min(H, W)
    height, width = g.size_of(x, 1), g.size_of(x, 2)
    # The smallest that covers: one side is what is asked for, the other at least.
    rows = g.add("Div", g.add("Mul", height, g.ints(W), name="pixel/rows*"), width, name="pixel/r")
    columns = g.add(
        "Div", g.add("Mul", width, g.ints(H), name="pixel/columns*"), height, name="pixel/c"
    )
    return (
        g.add("Max", rows, g.ints(H), name="pixel/rows"),
        g.add("Max", columns, g.ints(W), name="pixel/columns"),
    )


def _margin(g: GraphWriter, resized: Size, size: int, axis: int, *, floor: bool) -> str:
    """Returns half of what is cut off, rounded down or half to even, an int64 (1,) value."""
    name, two = f"pixel/margin{axis}", g.ints(2)
    whole = g.add("Sub", g.shape(resized), g.ints(size), name=name)
    half = g.add("Div", whole, two, name=f"{name}/half")
    if floor:
        return half
    # 1.5 and 2.5 are 2: one more where the whole is odd and its half is.
    rests = []
    for value in (whole, half):
        twice = g.add("Mul", g.add("Div", value, two, name=f"{value}/2"), two, name=f"{value}/even")
        rests.append(g.add("Sub", value, twice, name=f"{value}/odd"))
    more = g.add("Mul", *rests, name=f"{name}/more")
    return g.add("Add", half, more, name=f"{name}/start")
