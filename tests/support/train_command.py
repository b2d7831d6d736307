"""``pvt-ms train`` on a few digits."""

from pathlib import Path

from click.testing import CliRunner, Result

from pvt_ms.command_line import main
from tests.support.runtimes import import_mindspore

RECIPE = (
    "--config", "configs/demo/pvt_nano_digits.yaml", "--epoch-size", "2", "--batch-size", "20",
    "--warmup-epochs", "0", "--num-parallel-workers", "0",
)  # fmt: skip

OP_BY_OP = ("--mode", "1")
"""Without compiling, which takes longer than such a run."""


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    return ["train", *RECIPE, "--data-dir", str(data), "--output", str(output), *more]


def run_here(data: Path, output: Path, *more: str) -> Result:
    """The command in this process, op by op."""
    import_mindspore()
    return CliRunner().invoke(main, arguments(data, output, *OP_BY_OP, *more))
