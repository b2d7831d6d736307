"""``python -m pvt_onnx``."""

from pvt_onnx.command_line import main

main(prog_name="pvt-onnx")
