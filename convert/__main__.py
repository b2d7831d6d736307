"""``python -m convert``."""

from convert.command_line import main

main(prog_name="convert")
