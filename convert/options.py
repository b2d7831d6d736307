"""What a user can ask of a conversion, as frozen dataclasses. May import the standard library."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Given:
    """What the user says about a source, in place of what the file shows.

    Attributes:
        model: A variant's name.
        dialect: A dialect's name.
        profile: A numerics profile's name.
        image_size: (H, W) in pixels of the images that the model was made for: what v1's position
            embeddings are laid out for.
        labels: Class names, in the order of the logits.
        weights: ``"raw"``, or ``"ema"`` for the averaged weights of a training checkpoint.
    """

    model: str | None = None
    dialect: str | None = None
    profile: str | None = None
    image_size: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()
    weights: str = "raw"


@dataclass(frozen=True)
class Changes:
    """What to change in a model on the way; by default nothing.

    Attributes:
        num_classes: 0 drops the head.
        image_size: (H, W) in pixels of the images that the model is to take.
        features_only: Whether to keep the backbone alone, which answers four feature maps.
        dtype: One of :data:`convert.model.read.WEIGHT_DTYPES` for all weights.
    """

    num_classes: int | None = None
    image_size: tuple[int, int] | None = None
    features_only: bool = False
    dtype: str | None = None


@dataclass(frozen=True)
class OnnxOptions:
    """How an ``.onnx`` is written.

    Attributes:
        opset: The opset; None for :data:`pvt_onnx.graph.build.DEFAULT_OPSET`.
        dynamic_size: Whether the image's height and width are left open.
        external_data: Whether the weights go to ``NAME.onnx.data`` beside it, as they do in any
            case where the file would pass protobuf's 2 GiB.
    """

    opset: int | None = None
    dynamic_size: bool = False
    external_data: bool = False


@dataclass(frozen=True)
class Options:
    """How to write the target.

    Attributes:
        dialect: The target's names; None for the format's own, with which any maths travels.
        onnx: How an ``.onnx`` is written; other formats take no notice of it.
        force: Whether existing files are replaced.
        allow_different_maths: Whether the code behind the dialect may compute other maths than
            the source's.
        allow_nonfinite: Whether weights may be NaN or infinite.
        report: A JSON file to write about the conversion.
    """

    dialect: str | None = None
    onnx: OnnxOptions = OnnxOptions()
    force: bool = False
    allow_different_maths: bool = False
    allow_nonfinite: bool = False
    report: Path | None = None
