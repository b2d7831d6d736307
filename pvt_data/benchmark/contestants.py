"""What can be timed side by side: a table of names, and the process that each is."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pvt_packages import is_installed

GEMM = "gemm"
"""The contestant that is the machine's own speed; see :mod:`pvt_onnx.products`."""

GRAPHS = "pvt_onnx"
"""The package whose contestants take ``.onnx`` files only."""


_LIBRARIES = {"pvt_torch": "torch", "pvt_ms": "mindspore"}
"""The library of a package, where it is the same for each of its engines."""


@dataclass(frozen=True)
class Contestant:
    """Something that runs a model, in a process of its own.

    Attributes:
        name: What users call it: the name of ``parity``'s runtime, where that has it.
        package: The package whose command line opens it.
        chosen: What that is told: ``engine``, and ``provider`` and ``precision`` where they are
            not the first that it has.
    """

    name: str
    package: str
    chosen: dict[str, str]

    @property
    def is_installed(self) -> bool:
        """Whether its library is there, and it needs nothing else: a device, a kind of CPU."""
        library = _LIBRARIES.get(self.package, self.chosen["engine"])
        return len(self.chosen) == 1 and is_installed(library)


def _row(name: str, package: str, engine: str = "", **chosen: str) -> Contestant:
    return Contestant(name, package, {"engine": engine or name, **chosen})


CONTESTANTS = {
    row.name: row
    for row in (
        _row("onnxruntime", GRAPHS),
        _row("onnxruntime-cuda", GRAPHS, "onnxruntime", provider="cuda"),
        _row("onnxruntime-tensorrt", GRAPHS, "onnxruntime", provider="tensorrt"),
        _row("onnxruntime-cann", GRAPHS, "onnxruntime", provider="cann"),
        _row("openvino", GRAPHS),
        _row("openvino-bf16", GRAPHS, "openvino", precision="bf16"),
        _row(GEMM, GRAPHS),
        _row("torch", "pvt_torch"),
        _row("torch-compile", "pvt_torch"),
        _row("cuda", "pvt_torch", "torch", provider="cuda"),
        _row("mindspore", "pvt_ms"),
        _row("mindspore-graph", "pvt_ms"),
    )
}
"""Every contestant; of a package the first is what it times by itself."""


@dataclass(frozen=True)
class Setting:
    """How contestants run, all alike.

    Attributes:
        threads: Threads of each.
        batch: Images in a call.
        image_size: (H, W) of the images; the model's own where it is None.
        said: What the user says of a graph that says nothing of itself, by the names of
            :class:`pvt_data.description.Description`.
    """

    threads: int
    batch: int
    image_size: tuple[int, int] | None = None
    said: tuple[tuple[str, str], ...] = ()


def own(package: str) -> list[str]:
    """Returns the names of a package's contestants, its default first."""
    return [row.name for row in CONTESTANTS.values() if row.package == package]


def command(name: str, model: Path, setting: Setting) -> list[str]:
    """Returns the command of the process that runs a model as one of :data:`CONTESTANTS`."""
    row = CONTESTANTS[name]
    options: dict[str, object] = {"batch-size": setting.batch, "threads": setting.threads}
    options["contestant"] = name
    if setting.image_size:
        options["image-size"] = "x".join(map(str, setting.image_size))
    options |= dict(setting.said) if row.package == GRAPHS else {}
    given = [f"--{option}={value}" for option, value in options.items()]
    return [sys.executable, "-m", row.package, "benchmark", str(model.absolute()), *given]


def environment(threads: int) -> dict[str, str]:
    """Returns this process's environment for one whose libraries start so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}
