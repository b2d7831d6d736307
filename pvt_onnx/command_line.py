"""``pvt-onnx``: answers and accuracy of an ONNX model in onnxruntime."""

import click

from pvt_data.command_line import Commands, add_predict, add_validate


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in onnxruntime, with the preprocessing and classes that the file carries."""


add_predict(main, "pvt_onnx")
add_validate(main, "pvt_onnx")
