"""``python -m pvt_train``."""

from pvt_train.command_line import main

main(prog_name="pvt-train")
