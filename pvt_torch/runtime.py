"""Running any model file in PyTorch, which is imported when a model is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from convert import read_model
from pvt_data.answers.accuracy import Forward, Opened, taking_images
from pvt_data.sources.labels import Tell
from pvt_onnx.engines.options import EngineOptions
from pvt_packages import require
from pvt_spec import ModelInfo, output_names
from pvt_spec.arguments import checked
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.files.replacing import AnyPath
from pvt_spec.runtime import OpenModel, Task, Weighted
from pvt_torch.engines import ENGINES, OPTIONS

if TYPE_CHECKING:
    from pvt_torch.model import PyramidVisionTransformer


class _Started(NamedTuple):
    model: "PyramidVisionTransformer"
    taps: Forward
    facts: dict[str, str]


@dataclass(frozen=True)
class TorchRuntime:
    """PyTorch in float32.

    Attributes:
        name: What users call it.
        device: A device of torch: ``"cpu"`` or ``"cuda"``.
        compiled: Whether the model is compiled by inductor, or run op by op (eager).
        precision: ``"fp32"``, or ``"tf32"`` on CUDA.
    """

    kind: ClassVar[str] = "torch"
    library: ClassVar[str] = "torch"
    name: str
    device: str = "cpu"
    compiled: bool = False
    precision: str = "fp32"

    def obstacle(self) -> str | None:
        """Says why it cannot run here; see :class:`pvt_spec.runtime.Runtime`."""
        # Asking torch costs its import, which is the judge's to make: in a thread of its own.
        if self.device == "cpu":
            return None
        import torch

        if not torch.cuda.is_available():
            return f"{self.name}: torch sees no CUDA device here: take the CPU, or leave it out"
        return None

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`."""
        from pvt_torch.attributes import read_attributes
        from pvt_torch.weights import get_weights

        model, taps, facts = self.start(task.model, task.names)
        return OpenModel(taps, read_attributes(model), get_weights(model), facts)

    def start(self, held: Weighted, names: Sequence[str]) -> _Started:
        """Returns a model in PyTorch, its pass to these taps, and what runs it.

        TF32 is switched off or on, for the process.
        """
        import torch

        from pvt_torch.taps import compiled_taps, run_taps
        from pvt_torch.weights import model_from_weights

        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = self.precision == "tf32"
        info = held.info
        model = model_from_weights(info.config, info.numerics, held.weights).to(self.device)
        facts = {
            "framework": f"torch {torch.__version__}",
            "device": "CPU"
            if self.device == "cpu"
            else f"{self.device} {torch.cuda.get_device_name(self.device)}",
            "mode": "compiled by inductor" if self.compiled else "eager",
            "threads": str(torch.get_num_threads()),
            "precision": self.precision,
        }
        compiled = compiled_taps(model, names) if self.compiled else None
        return _Started(model, compiled or partial(run_taps, model, names=names), facts)


@checked
def load_forward(
    path: AnyPath, tell: Tell | None = None, options: EngineOptions = OPTIONS
) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: Any format and dialect that ``convert`` reads.
        tell: A function that is told what was changed since the file was written, and guessed.
        options: One of :data:`pvt_torch.engines.ENGINES`, and how it runs; its threads are the
            process's.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`; the model's description.

    Raises:
        ConvertError: The file cannot be used.
        LibraryMissing: PyTorch is not installed.
        RuntimeUnusable: PyTorch cannot run it as asked, here or at all.
    """
    opened = open_model(path, tell, options)
    return opened.forward, opened.info


def open_model(
    path: AnyPath,
    tell: Tell | None = None,
    options: EngineOptions = OPTIONS,
    size: tuple[int, int] | None = None,
) -> Opened:
    """Opens a model file as :func:`load_forward` does, and says what really runs it too.

    Images are of ``size``, (H, W) in pixels, in place of the model's own.
    """
    options.check(ENGINES)
    require("torch")
    runtime = TorchRuntime(
        options.engine, options.provider, options.engine == "torch-compile", options.computes
    )
    if problem := runtime.obstacle():
        raise RuntimeUnusable(problem)
    read = read_model(path)
    if tell:
        for remark in read.remarks():
            tell(remark)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    _, forward, facts = runtime.start(read, output_names(read.info.config))
    read.check_unchanged()
    return Opened(taking_images(forward, read.info), read.info.sized(size), facts)
