"""``python -m pvt_ms``."""

from pvt_ms.command_line import main

main(prog_name="pvt-ms")
