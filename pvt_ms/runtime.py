"""Running any model file in MindSpore, which is imported when a model is opened."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from convert import read_model
from pvt_data.answers.accuracy import Forward, Opened, taking_images
from pvt_data.sources.labels import Tell
from pvt_ms.engines import DEVICES, ENGINES, OPTIONS
from pvt_ms.environment import prepare_environment
from pvt_onnx.engines.options import EngineOptions
from pvt_spec import ModelInfo, output_names
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.files.replacing import AnyPath
from pvt_spec.runtime import OpenModel, Task, Weighted

if TYPE_CHECKING:
    from pvt_ms.model import PyramidVisionTransformer


_ALONE = Lock()
"""What a thread holds while MindSpore works for it: two at once end the process."""


class _Started(NamedTuple):
    model: "PyramidVisionTransformer"
    taps: Forward
    facts: dict[str, str]


@dataclass(frozen=True)
class MindSporeRuntime:
    """MindSpore on its current device.

    Attributes:
        name: What users call it.
        compiled: Whether the model runs as a graph, or op by op (pynative).
        precision: ``"fp32"``, ``"hf32-conv"`` (Ascend's default for convolutions) or ``"fp16"``
            (AMP O2).
    """

    kind: ClassVar[str] = "mindspore"
    library: ClassVar[str] = "mindspore"
    name: str
    compiled: bool = False
    precision: str = "fp32"

    def obstacle(self) -> str | None:
        """Returns None: whether there is HF32 shows when a model is opened."""
        return None

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`.

        Raises:
            RuntimeUnusable: HF32 is asked for where there is none, or set otherwise in this
                process.
        """
        prepare_environment()
        from pvt_ms.attributes import read_attributes
        from pvt_ms.weights import get_weights

        # Before AMP wraps the cells, which then are of other kinds and hold rounded weights.
        held: list[Any] = []

        def look(model: "PyramidVisionTransformer") -> None:
            held.extend((read_attributes(model), get_weights(model)))

        _, taps, facts = self.start(task.model, task.names, look)
        attributes, weights = held
        return OpenModel(taps, attributes, weights, facts)

    def start(
        self,
        held: Weighted,
        names: Sequence[str],
        look: "Callable[[PyramidVisionTransformer], None]" = lambda model: None,
    ) -> _Started:
        """Returns a model in MindSpore, its pass to these taps, and what runs it.

        Args:
            held: The model.
            names: The taps.
            look: The function that is shown the model before its precision is changed.
        """
        import mindspore

        from pvt_ms.taps import compiled_taps, run_taps
        from pvt_ms.weights import model_from_weights

        # Without its asynchronous queue, which on a CPU waits several times as long as it computes.
        mindspore.runtime.launch_blocking()
        info = held.info
        model = model_from_weights(info.config, info.numerics, held.weights)
        look(model)
        half = self.precision == "fp16"
        facts = {
            "framework": f"mindspore {mindspore.__version__}",
            "device": mindspore.get_context("device_target"),
            "mode": "graph" if self.compiled else "pynative",
            "amp": "O2, float16" if half else "O0",
            "hf32": self._set_hf32(),
            # Under O2 norms compute differently in the two modes: see pvt_spec.precisions.
            "precision": "fp16-graph" if half and self.compiled else self.precision,
        }
        if half:
            # What it returns only casts the answer to float32; the model itself is changed.
            mindspore.amp.auto_mixed_precision(model, "O2", mindspore.float16)
        compiled = compiled_taps(model, names) if self.compiled else None
        return _Started(model, compiled or partial(run_taps, model, names=names), facts)

    def _set_hf32(self) -> str:
        """Tells an Ascend whether convolutions may be HF32 (its default) and products (not)."""
        import mindspore

        wanted, device = self.precision == "hf32-conv", mindspore.get_context("device_target")
        if device != "Ascend":
            if wanted:
                raise RuntimeUnusable(
                    f"{self.name} needs an Ascend, and MindSpore runs on {device} here: run it "
                    "without HF32, or see what HF32 would do with --emulate hf32-conv"
                )
            return "none on this device"
        switches = mindspore.device_context.ascend.op_precision
        try:
            switches.conv_allow_hf32(wanted)
            switches.matmul_allow_hf32(False)
        except RuntimeError as error:
            raise RuntimeUnusable(
                f"{self.name}: HF32 was set otherwise before, and MindSpore sets it once in a "
                "process: run runtimes with and without HF32 apart"
            ) from error
        return "convolutions" if wanted else "off"


@checked
def load_forward(
    path: AnyPath, tell: Tell | None = None, options: EngineOptions = OPTIONS
) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: Any format and dialect that ``convert`` reads.
        tell: A function that is told what is waited for, and of the file what was changed since
            it was written, and guessed.
        options: One of :data:`pvt_ms.engines.ENGINES`, and how it runs; its threads are the
            process's.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`, which threads may share and wait for; the model's
        description.

    Raises:
        ConvertError: The file cannot be used.
        LibraryMissing: MindSpore is not installed.
        RuntimeUnusable: MindSpore cannot run it as asked, here or at all.
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
    prepare_environment()
    if tell:
        tell("starting MindSpore, which takes some seconds")
    import mindspore

    read = read_model(path)
    if tell:
        for remark in read.remarks():
            tell(remark)
    choose_device(DEVICES[options.provider], f"--provider {options.provider}")
    threads = {"threads": str(options.threads)} if options.threads else {}
    if options.threads:
        mindspore.runtime.dispatch_threads_num(options.threads)
    compiled = options.engine == "mindspore-graph"
    runtime = MindSporeRuntime(options.engine, compiled, options.computes)
    with _ALONE:
        _, forward, facts = runtime.start(read, output_names(read.info.config))
    read.check_unchanged()

    def one_at_a_time(images: Array) -> dict[str, Array]:
        with _ALONE:
            return forward(images)

    return Opened(taking_images(one_at_a_time, read.info), read.info.sized(size), facts | threads)


def choose_device(target: str | None, option: str) -> None:
    """Has MindSpore run on a device, for the process.

    Args:
        target: MindSpore's name of it; None for what it finds by itself.
        option: What asked for it.

    Raises:
        RuntimeUnusable: It cannot.
    """
    import mindspore

    if target:
        # Under msrun workers share out the devices; under mpirun each would take the first.
        local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
        if target == "CPU" == mindspore.get_context("device_target"):
            return  # which could not be said once more, after a model has run
        try:
            mindspore.set_device(target, *([int(local)] if local and target != "CPU" else []))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0].split(". Please")[0]
            raise RuntimeUnusable(f"{option}: {first}") from error
