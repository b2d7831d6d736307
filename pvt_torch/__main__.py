"""``python -m pvt_torch``."""

from pvt_torch.command_line import main

main(prog_name="pvt-torch")
