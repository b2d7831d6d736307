"""What a user can ask of a conversion, as frozen dataclasses; each field is an option of convert.

A field's metadata is what click is told of its option, so that the command, its help and the
library's arguments are one row. May import click and tables.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from convert.names.dialects import NAMES
from pvt_data.command_line import parse_image_size
from pvt_spec import PROFILES
from pvt_spec.errors import ConvertError


def option(flag: str, help: str, default: Any = None, **settings: Any) -> Any:
    """A field and its option.

    Args:
        flag: The word that a user types.
        help: The text for it in the help.
        default: The field's value where it is not given; False makes a flag without a value.
        settings: Other arguments of ``click.option``.
    """
    if default is False:
        settings["is_flag"] = True
    elif isinstance(default, str):
        settings |= {"default": default, "show_default": True}
    return field(default=default, metadata={"flag": flag, "help": help, **settings})


def _read_image_size(_: Any, __: Any, text: str | None) -> tuple[int, int] | None:
    return parse_image_size(text) if text else None


def _read_labels(_: Any, __: Any, path: Path | None) -> tuple[str, ...]:
    """The class names in a file, one on each line."""
    if path is None:
        return ()
    try:
        names = tuple(path.read_text("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: is not UTF-8 text: save it as such") from error
    if not names:
        raise ConvertError(f"{path}: is empty, expected a class name on each line")
    return names


_SIZE = {"metavar": "S|HxW", "callback": _read_image_size}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Given:
    """What the user says about a source, in place of what the file shows.

    Attributes:
        model: A variant's name.
        dialect: A dialect's name.
        profile: A numerics profile's name.
        image_size: The (H, W) in pixels of the images that the model was made for: what v1's
            position embeddings are laid out for.
        labels: Class names, in the order of the logits.
        weights: The kind of weights: ``"raw"``, or ``"ema"`` for the averaged ones of a training
            checkpoint.
    """

    model: str | None = option("--model", "The variant, where it is not to be detected.")
    dialect: str | None = option(
        "--from-dialect", "The names used in SRC.", type=click.Choice(NAMES)
    )
    profile: str | None = option(
        "--profile", "The maths of SRC.", type=click.Choice(list(PROFILES))
    )
    image_size: tuple[int, int] | None = option(
        "--from-image-size",
        "Image that SRC was made for: what v1's position embeddings are laid out for.",
        **_SIZE,
    )
    labels: tuple[str, ...] = option(
        "--labels",
        "Class names, one per line in the order of the logits.",
        (),
        type=_FILE,
        callback=_read_labels,
    )
    weights: str = option(
        "--weights",
        "Which weights of a training checkpoint: as trained, or averaged.",
        "raw",
        type=click.Choice(("raw", "ema")),
    )


@dataclass(frozen=True)
class Changes:
    """What to change in a model on the way; by default nothing.

    Attributes:
        image_size: The (H, W) in pixels of the images that the model is to take.
        num_classes: The number of classes, which can only become 0: no head.
        features_only: Whether to keep the backbone alone, which answers four feature maps.
        dtype: One of :data:`convert.model.read.WEIGHT_DTYPES` for all weights.
    """

    image_size: tuple[int, int] | None = option(
        "--image-size", "Image that DST is to take; v1's position embeddings are resized.", **_SIZE
    )
    num_classes: int | None = option("--num-classes", "0 drops the head.", type=int)
    features_only: bool = option(
        "--features", "Keep the backbone alone: four maps at strides 4, 8, 16, 32.", False
    )
    dtype: str | None = option(
        "--dtype",
        "Store all weights so; otherwise each stays as it is.",
        type=click.Choice(_DTYPES),
    )


@dataclass(frozen=True)
class OnnxOptions:
    """How an ``.onnx`` is written.

    Attributes:
        opset: The opset; None for :data:`pvt_onnx.graph.build.DEFAULT_OPSET`.
        dynamic_size: Whether the image's height and width are left open.
        external_data: Whether the weights go to ``NAME.onnx.data`` beside it, as they do in any
            case where the file would pass protobuf's 2 GiB.
    """

    opset: int | None = option("--opset", "Of 17 to 23; 20 by default.", type=int)
    dynamic_size: bool = option("--dynamic-size", "Leave height and width open.", False)
    external_data: bool = option("--external-data", "Weights go to DST.data.", False)


@dataclass(frozen=True)
class Options:
    """How to write the target.

    Attributes:
        dialect: The target's names; None for the format's own, with which any maths travels.
        allow_different_maths: Whether the code behind the dialect may compute other maths than
            the source's.
        onnx: How an ``.onnx`` is written; other formats take no notice of it.
        allow_nonfinite: Whether weights may be NaN or infinite.
        report: A JSON file to write about the conversion.
        force: Whether existing files are replaced.
    """

    dialect: str | None = option(
        "--to-dialect",
        "Names to write, for the code that uses them. Without, those of our own twins, which "
        "compute any maths.",
        type=click.Choice(NAMES),
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
    report: Path | None = option(
        "--report", "Write what was done as JSON.", type=click.Path(path_type=Path)
    )
    force: bool = option("--force", "Replace DST if it exists.", False)
