"""The twins' ``train`` on a few digits."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tests.support.processes import Ended, run_python
from tests.support.runtimes import import_mindspore

RECIPE = (
    "--config", "configs/demo/pvt_nano_digits.yaml", "--epoch-size", "2", "--batch-size", "20",
    "--warmup-epochs", "0", "--num-parallel-workers", "0",
)  # fmt: skip

OP_BY_OP = ("--mode", "1")
"""Without compiling, which in MindSpore takes longer than such a run."""


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    return ["train", *RECIPE, "--data-dir", str(data), "--output", str(output), *more]


@dataclass(frozen=True)
class Trainer:
    """The command of a framework.

    Attributes:
        package: The package that has it.
        framework: What its first line begins with.
        ending: The ending of the files that it leaves.
    """

    package: str
    framework: str
    ending: str

    @property
    def main(self) -> Any:
        return import_module(f"{self.package}.command_line").main

    def run(self, data: Path, output: Path, *more: str) -> Ended:
        """The command in a process of its own, as a user starts it."""
        return run_python("-m", self.package, *arguments(data, output, *more), check=False)

    def run_here(self, data: Path, output: Path, *more: str) -> Result:
        """The command in this process, op by op."""
        if self.package == "pvt_ms":
            import_mindspore()
        return CliRunner().invoke(self.main, arguments(data, output, *OP_BY_OP, *more))

    def file(self, folder: Path, name: str) -> Path:
        return folder / f"{name}{self.ending}"


MINDSPORE = Trainer("pvt_ms", "mindspore 2.", ".ckpt")
TORCH = Trainer("pvt_torch", "torch 2.", ".pth")
TRAINERS = {"mindspore": MINDSPORE, "torch": TORCH}
