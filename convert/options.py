"""What a user can ask of a conversion, as frozen dataclasses; each field is an option of convert.

Each is a row of :func:`pvt_data.description.option`. Nothing heavy is imported here.
"""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from convert.names.dialects import NAMES
from pvt_data.description import Description, option
from pvt_onnx.targets import TARGETS
from pvt_spec.arguments import CheckedFields, check_fields
from pvt_spec.errors import ConvertError
from pvt_spec.precisions import FLOAT16, FLOAT32

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
"""What weights may be stored as; all widen to float32 without loss."""


@dataclass(frozen=True, kw_only=True)
class Given(Description):
    """What the user says about a source, in place of what the file shows.

    Attributes:
        dialect: A dialect's name.
        image_size: The (H, W) in pixels of the images that the model was made for: what v1's
            position embeddings are laid out for.
        num_heads: The attention heads of each stage, which no tensor shows.
        weights: The kind of weights: ``"raw"``, or ``"ema"`` for the averaged ones of a training
            checkpoint.
        container: The keys that lead to the dict of the model's tensors, joined by dots; ""
            for the top level.
        prefix: What stands before the names of the model's tensors; "" for nothing.
        ignore: Patterns of names that are no part of the model.
    """

    dialect: str | None = option("--from-dialect", "The names used in SRC.", choices=NAMES)
    image_size: tuple[int, int] | None = option(
        "--from-image-size",
        "Image that SRC was made for: what v1's position embeddings are laid out for.",
        kind="size",
    )
    num_heads: tuple[int, ...] = option(
        "--num-heads",
        "Attention heads of each stage of SRC: no tensor shows them.",
        (),
        kind="heads",
    )
    weights: str = option(
        "--weights",
        "Which weights of a training checkpoint: as trained, or averaged.",
        "raw",
        choices=("raw", "ema"),
    )
    container: str | None = option(
        "--container", "Keys of the dict in SRC that the model is in, as state.model, if several."
    )
    prefix: str | None = option(
        "--prefix", "What is before the model's names in SRC, as encoder., if several models are."
    )
    ignore: tuple[str, ...] = option(
        "--ignore",
        "Pattern of names in SRC to leave out, as 'aux.*'; may be given several times.",
        (),
        kind="patterns",
    )


@dataclass(frozen=True, kw_only=True)
class Changes(CheckedFields):
    """What to change in a model on the way; by default nothing.

    Attributes:
        image_size: The (H, W) in pixels of the images that the model is to take.
        num_classes: The number of classes, which can only become 0: no head.
        features_only: Whether to keep the backbone alone, which answers four feature maps.
        in_chans: The channels of the images that the model is to take.
        dtype: One of :data:`WEIGHT_DTYPES` for all weights.
    """

    image_size: tuple[int, int] | None = option(
        "--image-size",
        "Image that DST is to take; v1's position embeddings are resized.",
        kind="size",
    )
    num_classes: int | None = option("--num-classes", "0 drops the head.", kind="number")
    features_only: bool = option(
        "--features", "Keep the backbone alone: four maps at strides 4, 8, 16, 32.", False
    )
    in_chans: int | None = option(
        "--in-chans",
        "Channels that DST is to take; the first filters are adapted as timm does it.",
        kind="number",
    )
    dtype: str | None = option(
        "--dtype",
        "Store all weights so; otherwise each stays as it is. A graph computes in float32 all the "
        "same: see --precision.",
        choices=WEIGHT_DTYPES,
    )


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """How an ``.onnx`` is written.

    Attributes:
        target: The name of what the graph is for, one of
            :data:`pvt_onnx.targets.TARGETS`; None for the first.
        opset: The opset; None for the target's own.
        dynamic_size: Whether the image's height and width are left open.
        uint8: Whether the graph takes pixels and normalises them itself.
        precision: What it computes in: ``"fp16"`` is float16 but for norms, softmax and their like.
        half_ends: Whether what goes in and comes out of a graph in float16 is so too.
        embed: Whether the graph takes pixels of any size, and resizes and crops them too.
        external_data: Whether the weights go to ``NAME.onnx.data`` beside it, as they do in any
            case where the file would pass protobuf's 2 GiB.
    """

    target: str | None = option(
        "--target",
        f"What the graph is for: {', '.join(target.about for target in TARGETS.values())}; the "
        "first by default.",
        choices=tuple(TARGETS),
    )
    opset: int | None = option(
        "--opset", "Of 9 to 23, as far as the target has them; its own by default.", kind="number"
    )
    dynamic_size: bool = option("--dynamic-size", "Leave height and width open.", False)
    uint8: bool = option(
        "--uint8", "Take pixels uint8 (B, H, W, C) and normalise them in the graph.", False
    )
    precision: str = option(
        "--precision",
        "What the graph computes in; fp16 keeps norms and softmax in float32, and stores the "
        "weights of all other layers in float16.",
        FLOAT32,
        choices=(FLOAT32, FLOAT16),
    )
    half_ends: bool = option(
        "--float16-ends", "With --precision fp16: images and answers are float16 too.", False
    )
    embed: bool = option(
        "--embed-preprocess",
        "Take pixels uint8 (B, H, W, C) of any size; resize, crop and normalise them in the graph.",
        False,
    )
    external_data: bool = option("--external-data", "Weights go to DST.data.", False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.half_ends and self.precision != FLOAT16:
            raise ConvertError("--float16-ends is of a graph with --precision fp16: give both")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to write the target.

    Attributes:
        dialect: The target's names; None for the format's own, with which any maths travels.
        allow_different_maths: Whether the code behind the dialect may compute other maths than
            the source's.
        onnx: How an ``.onnx`` is written; other formats take no notice of it.
        allow_nonfinite: Whether weights may be NaN or infinite.
        allow_changed: Whether weights or a graph may be others than the file was written with.
        training_state: Whether the whole state of a training is moved, not the weights alone.
        certificate: The certificate whose hash the target is to carry.
        report: A JSON file to write about the conversion.
        force: Whether existing files are replaced.
    """

    dialect: str | None = option(
        "--to-dialect",
        "Names to write, for the code that uses them. Without, those of our own twins, which "
        "compute any maths.",
        choices=NAMES,
    )
    allow_different_maths: bool = option(
        "--allow-different-maths",
        "Write although the code behind --to-dialect would answer otherwise.",
        False,
    )
    onnx: OnnxOptions = OnnxOptions()
    allow_nonfinite: bool = option(
        "--allow-nonfinite", "Convert NaN and infinite weights too.", False
    )
    allow_changed: bool = option(
        "--allow-changed", "Convert a file that was changed since it was written.", False
    )
    training_state: bool = option(
        "--training-state",
        "Move the whole state of a training (moments, averages, counters, recipe), as it is, to go "
        "on from with --resume.",
        False,
    )
    certificate: Path | None = option(
        "--certificate",
        "A certificate of this model, by parity certify: DST carries its hash.",
        kind="file",
    )
    report: Path | None = option("--report", "Write what was done as JSON.", kind="file")
    force: bool = option("--force", "Replace DST if it exists.", False)

    def __post_init__(self) -> None:
        # A program may say it as any path.
        for name in ("certificate", "report"):
            said = getattr(self, name)
            if isinstance(said, str | PathLike):
                object.__setattr__(self, name, Path(said))
        check_fields(self)
