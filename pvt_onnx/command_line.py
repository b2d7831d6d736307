"""``pvt-onnx``: answers and accuracy of an ONNX model in onnxruntime."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pvt_data.command_line import Commands, add_predict, add_validate

if TYPE_CHECKING:
    from pvt_data.accuracy import Forward
    from pvt_spec.model_info import ModelInfo


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in onnxruntime, with the preprocessing and classes that the file carries."""


def _load(path: Path) -> "tuple[Forward, ModelInfo]":
    from pvt_onnx.session import load_forward

    return load_forward(path)


add_predict(main, _load)
add_validate(main, _load)
