"""Running any model file in PyTorch, which is imported when a model is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from convert import read_model
from pvt_data.answers.accuracy import Forward
from pvt_packages import require
from pvt_spec import ModelInfo, output_names
from pvt_spec.files.replacing import AnyPath
from pvt_spec.runtime import OpenModel, Task


@dataclass(frozen=True)
class TorchRuntime:
    """PyTorch in float32.

    Attributes:
        name: What users call it.
        device: A device of torch: ``"cpu"`` or ``"cuda"``.
        compiled: Whether the model is compiled by inductor, or run op by op (eager).
    """

    kind: ClassVar[str] = "torch"
    library: ClassVar[str] = "torch"
    name: str
    device: str = "cpu"
    compiled: bool = False

    def obstacle(self) -> str | None:
        """Says why it cannot run here; see :class:`pvt_spec.runtime.Runtime`."""
        # Asking torch costs its import, which is the judge's to make: in a thread of its own.
        if self.device == "cpu":
            return None
        import torch

        if not torch.cuda.is_available():
            return f"{self.name}: torch sees no CUDA device here; leave the runtime out"
        return None

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`. TF32 is switched off."""
        import torch

        from pvt_torch.attributes import read_attributes
        from pvt_torch.taps import compiled_taps, run_taps
        from pvt_torch.weights import get_weights, model_from_weights

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        info = task.model.info
        model = model_from_weights(info.config, info.numerics, task.model.weights).to(self.device)
        facts = {
            "framework": f"torch {torch.__version__}",
            "device": "CPU"
            if self.device == "cpu"
            else f"{self.device} {torch.cuda.get_device_name(self.device)}",
            "mode": "compiled by inductor" if self.compiled else "eager",
            "threads": str(torch.get_num_threads()),
            "precision": "fp32",
        }
        compiled = compiled_taps(model, task.names) if self.compiled else None
        taps = compiled or partial(run_taps, model, names=task.names)
        return OpenModel(taps, read_attributes(model), get_weights(model), facts)


def load_forward(
    path: AnyPath, tell: Callable[[str], None] | None = None
) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: Any format and dialect that ``convert`` reads.
        tell: A function that is told what was changed since the file was written, and guessed.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`; the model's description.

    Raises:
        ConvertError: The file cannot be used.
        LibraryMissing: PyTorch is not installed.
    """
    require("torch")
    from pvt_torch.taps import run_taps
    from pvt_torch.weights import model_from_weights

    read = read_model(path)
    if tell:
        for remark in read.remarks():
            tell(remark)
    info = read.info
    model = model_from_weights(info.config, info.numerics, read.weights)
    return partial(run_taps, model, names=output_names(info.config)), info
