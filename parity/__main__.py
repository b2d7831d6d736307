"""``python -m parity``."""

from parity.command_line import main

main(prog_name="parity")
