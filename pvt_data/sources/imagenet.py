"""The names of ImageNet's 1,000 classes, for models that have none of their own."""

import dataclasses
from functools import cache
from pathlib import Path

from pvt_data.sources.labels import Tell
from pvt_spec.model_info import ModelInfo


@cache
def imagenet_names() -> tuple[str, ...]:
    """Returns the names of the classes, in the order of the logits."""
    text = Path(__file__).with_name("imagenet.txt").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(line.partition("\t")[2] for line in lines)


def named(info: ModelInfo, tell: Tell) -> ModelInfo:
    """Returns a model's description with ImageNet's names, where it has as many and no names."""
    names = imagenet_names() if info.config.num_classes == 1000 else ()
    if info.labels or not names or info.task != "single_label":
        return info
    tell(
        "1,000 classes without names: taken for ImageNet's, in its order (convert MODEL DST "
        "--labels FILE names others)"
    )
    return dataclasses.replace(info, labels=names)
