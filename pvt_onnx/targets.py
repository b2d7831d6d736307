"""What graphs are written for: the engines, as rows of a table. Nothing heavy is imported."""

from dataclasses import dataclass

from pvt_spec import ConfigError
from pvt_spec.precisions import FLOAT16, FLOAT32

ASCEND = "ascend"
"""The target beside whose graphs a configuration is written; see :mod:`pvt_onnx.ascend`."""

TARGET_KEY = "pvt_target"
"""The key under which an ``.onnx`` carries what it was written for, one of :data:`TARGETS`."""

EMBEDS = 18
"""The opset from which an image can be resized as Pillow does it."""

EMBEDDED_KEY = "pvt_embedded"
"""The key under which an ``.onnx`` says that it resizes, crops and normalises images itself."""

_DOCUMENTED = """
    Abs Add AveragePool Cast Concat Constant Conv Div Erf Expand Gather Gemm
    GlobalAveragePool Greater GreaterOrEqual Identity Less MatMul Max Min Mul Not Pad Pow
    Range ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Split Sqrt
    Squeeze Sub Tanh Transpose Unsqueeze Where
"""

ASCEND_OPERATORS = frozenset(_DOCUMENTED.split())
"""Operators that Ascend's converter documents, as far as they are of any use to a PVT.

CANN 5.0.4 to 8.0, "ONNX operators supported" (hiascend.com, operatorlist_0071): opsets 9 to 13,
since 7.0 to 18. Neither LayerNormalization nor Gelu is among them.
"""


FEED_FORWARD = ("mlp.fc1", "mlp.fc2")
"""The linear layers of feed-forwards."""

LINEAR = ("attn.q", "attn.kv", "attn.proj", *FEED_FORWARD)
"""The linear layers over tokens."""


@dataclass(frozen=True)
class Target:
    """A kind of engines that a graph is written for.

    Attributes:
        name: The word for it in ``convert --target``.
        about: What it is, for the help.
        opset: The opset that is written where none is asked for.
        opsets: The opsets that can be asked for.
        kernels: Those of :data:`LINEAR` that are 1x1 convolutions over maps; the others are
            products of matrices. onnxruntime is quickest with :data:`FEED_FORWARD` so, and where
            they are quantised with all of them.
        written_out: Operators that are written as smaller ones even where the opset has them.
        dynamic_size: Whether the image's height and width can be left open, and position
            embeddings resized in the graph.
        operators: All that it documents; () where that is every one of the opset.
        precisions: What its graphs can be written to compute in.
        embeds: Whether its graphs can resize and crop images: TensorRT has no Resize that averages,
            and OpenVINO leaves the averaging out without a word.
    """

    name: str
    about: str
    opset: int
    opsets: range
    kernels: tuple[str, ...] = ()
    written_out: frozenset[str] = frozenset()
    dynamic_size: bool = True
    operators: frozenset[str] = frozenset()
    precisions: tuple[str, ...] = (FLOAT32, FLOAT16)
    embeds: bool = True


_WRITTEN_OUT = frozenset({"Gelu", "LayerNormalization"})

TARGETS = {
    target.name: target
    for target in (
        Target("onnxruntime", "onnxruntime", 20, range(9, 24), kernels=FEED_FORWARD),
        Target("portable", "any engine", 15, range(9, 24), written_out=_WRITTEN_OUT),
        Target(
            ASCEND,
            "Ascend's converter, atc",
            13,
            range(9, 18),
            written_out=_WRITTEN_OUT,
            dynamic_size=False,
            operators=ASCEND_OPERATORS,
            precisions=(FLOAT32,),  # atc's --precision_mode is for that
            embeds=False,
        ),
        Target("tensorrt", "TensorRT 8.6 or later", 17, range(13, 21), embeds=False),
        Target("openvino", "OpenVINO", 20, range(13, 21), kernels=FEED_FORWARD, embeds=False),
    )
}
"""Every target, the default first."""

DEFAULT_TARGET = next(iter(TARGETS))


def find_target(name: str | Target | None) -> Target:
    """Returns the target of a name, the first for None; one itself as it is.

    Raises:
        ConfigError: There is none.
    """
    if isinstance(name, Target):
        return name
    name = name or DEFAULT_TARGET
    if name not in TARGETS:
        raise ConfigError(f"no target {name!r:.60}: choose {', '.join(TARGETS)}")
    return TARGETS[name]


def choose_opset(
    target: Target,
    opset: int | None,
    dynamic_size: bool = False,
    uint8: bool = False,
    precision: str = FLOAT32,
    embed: bool = False,
) -> int:
    """Returns the opset that a graph is written in: the one that is asked for, or the target's.

    Raises:
        ConfigError: The target's graphs are not written so.
    """
    if opset is not None and opset not in target.opsets:
        raise ConfigError(
            f"opset {opset} cannot be written for {target.name}: choose {target.opsets.start} to "
            f"{target.opsets.stop - 1}"
        )
    if dynamic_size and not target.dynamic_size:
        raise ConfigError(
            f"a graph for {target.name} has one size of image: leave --dynamic-size out, and "
            "choose the size with --image-size"
        )
    if uint8 and target.name == ASCEND:
        raise ConfigError(
            "a graph for ascend takes normalised images: leave --uint8 out, AIPP normalises pixels "
            "as the file beside the graph says"
        )
    if precision not in target.precisions:
        raise ConfigError(
            f"a graph for {target.name} is not written to compute in {precision}, expected "
            f"{' or '.join(target.precisions)}: its own tools make it so"
        )
    if not embed:
        return opset or target.opset
    if not target.embeds or dynamic_size:
        what = "of any size of model input" if target.embeds else f"for {target.name}"
        raise ConfigError(
            f"a graph {what} does not resize and crop images: leave --embed-preprocess out"
        )
    if opset is not None and opset < EMBEDS:
        raise ConfigError(
            f"opset {opset} has no Resize that averages, as Pillow's does: choose {EMBEDS} or "
            "later, or leave --embed-preprocess out"
        )
    return opset or max(target.opset, EMBEDS)
