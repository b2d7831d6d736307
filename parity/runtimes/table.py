"""One small object per runtime: the same weights, the wanted taps, and the model's own attributes.

Each framework is imported only when its runner is opened.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convert.formats.table import find_format
from convert.model.read import Model
from parity.errors import ParityError
from parity.measure.structure import hash_weights
from parity.runtimes.attributes import (
    Attributes,
    mindspore_attributes,
    onnx_attributes,
    torch_attributes,
)
from pvt_spec.arrays import Array

Taps = Mapping[str, Array]

SWITCHES = (
    "MS_ASCEND_CHECK_OVERFLOW_MODE",
    "MS_DEV_FORCE_ACL",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables that change numbers or how they are computed."""


@dataclass(frozen=True)
class Task:
    """What is to be opened.

    Attributes:
        model: The file's.
        path: The file.
        names: Taps wanted, in forward order.
        image_size: (H, W) in pixels of the images.
    """

    model: Model
    path: Path
    names: Sequence[str]
    image_size: tuple[int, int]


@dataclass(frozen=True)
class Runner:
    """An open model in one runtime.

    Attributes:
        runtime: Its name.
        kind: What its objects are: ``"torch"``, ``"mindspore"`` or ``"onnx"``.
        taps: From float32 (B, in_chans, H, W), normalised, to the wanted taps in forward order.
        attributes: Read from the runtime's own objects; see :mod:`parity.runtimes.attributes`.
        hashes: Of every weight in them; see :func:`parity.measure.structure.hash_weights`.
        facts: What ran: ``framework``, ``device``, ``mode``, ``precision`` (a tolerance class),
            ``platform``, and the switches of :data:`SWITCHES` that are set.
    """

    runtime: str
    kind: str
    taps: Callable[[Array], Taps]
    attributes: Attributes
    hashes: Mapping[str, str]
    facts: dict[str, str]


@dataclass(frozen=True)
class Reference:
    """The PyTorch twin in float64.

    Attributes:
        model: The ``pvt_torch`` model.
        taps: From float32 images to the wanted taps, float64.
        facts: What computes it.
    """

    model: Any
    taps: Callable[[Array], Taps]
    facts: dict[str, str]


def machine_facts() -> dict[str, str]:
    """The machine, and the switches that are set on it."""
    facts = {"platform": platform.platform(), "python": platform.python_version()}
    return facts | {name: os.environ[name] for name in SWITCHES if name in os.environ}


def open_mindspore(task: Task, name: str, compiled: bool, precision: str) -> Runner:
    """MindSpore on its current device, op by op or as a graph.

    Args:
        task: What to open.
        name: The runtime's.
        compiled: Whether as a graph.
        precision: ``"fp32"``, ``"hf32-conv"`` (Ascend's default for convolutions) or ``"fp16"``
            (AMP O2).

    Raises:
        ParityError: HF32 is asked for where there is none, or set otherwise in this process.
    """
    from pvt_ms.environment import prepare_environment

    prepare_environment()
    import mindspore

    import pvt_ms
    from pvt_ms.taps import compiled_taps

    # Without its asynchronous queue, which on a CPU waits several times as long as it computes.
    mindspore.runtime.launch_blocking()
    info = task.model.info
    twin = pvt_ms.model_from_weights(info.config, info.numerics, task.model.weights)
    attributes, hashes = mindspore_attributes(twin), hash_weights(pvt_ms.get_weights(twin))
    half = precision == "fp16"
    facts = {
        "framework": f"mindspore {mindspore.__version__}",
        "device": mindspore.get_context("device_target"),
        "mode": "graph" if compiled else "pynative",
        "amp": "O2, float16" if half else "O0",
        "hf32": _set_hf32(mindspore, name, precision == "hf32-conv"),
        # Under O2 norms compute differently in the two modes: see pvt_torch.emulation.
        "precision": "fp16-graph" if half and compiled else precision,
    }
    if half:
        # What it returns only casts the answer to float32; the model itself is changed.
        mindspore.amp.auto_mixed_precision(twin, "O2", mindspore.float16)
    run = compiled_taps(twin, task.names) if compiled else partial(_run_ms, twin, task.names)
    return Runner(name, "mindspore", run, attributes, hashes, facts | machine_facts())


def _run_ms(twin: Any, names: Sequence[str], images: Array) -> Taps:
    import pvt_ms

    taps: Taps = pvt_ms.run_taps(twin, images, names)
    return taps


def _set_hf32(mindspore: Any, name: str, wanted: bool) -> str:
    """Tells an Ascend whether convolutions may be HF32 (its default) and matrix products (not)."""
    if mindspore.get_context("device_target") != "Ascend":
        if wanted:
            raise ParityError(
                f"{name} needs an Ascend, and MindSpore runs on "
                f"{mindspore.get_context('device_target')} here: run it without HF32, or see what "
                "HF32 would do with --emulate hf32-conv"
            )
        return "none on this device"
    switches = mindspore.device_context.ascend.op_precision
    try:
        switches.conv_allow_hf32(wanted)
        switches.matmul_allow_hf32(False)
    except RuntimeError as error:
        raise ParityError(
            f"{name}: HF32 was set otherwise before, and MindSpore sets it once in a process: run "
            "runtimes with and without HF32 apart"
        ) from error
    return "convolutions" if wanted else "off"


def open_torch(task: Task, device: str, compiled: bool) -> Runner:
    """PyTorch in float32, eager or compiled."""
    import torch

    import pvt_torch
    from pvt_torch.taps import compiled_taps

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    info = task.model.info
    twin = pvt_torch.model_from_weights(info.config, info.numerics, task.model.weights).to(device)
    facts = {
        "framework": f"torch {torch.__version__}",
        "device": "CPU" if device == "cpu" else f"{device} {torch.cuda.get_device_name(device)}",
        "mode": "compiled by inductor" if compiled else "eager",
        "threads": str(torch.get_num_threads()),
        "precision": "fp32",
    }
    return Runner(
        "torch-compile" if compiled else "torch" if device == "cpu" else "cuda",
        "torch",
        compiled_taps(twin, task.names)
        if compiled
        else partial(pvt_torch.run_taps, twin, names=task.names),
        torch_attributes(twin),
        hash_weights(pvt_torch.get_weights(twin)),
        facts | machine_facts(),
    )


def load_graph(task: Task) -> Any:
    """The file's own graph if it is ONNX, else the one that convert writes of it.

    Raises:
        ParityError: The file's graph is for images of another size.
    """
    import pvt_onnx

    if find_format(task.path).name != "onnx":
        info = task.model.info
        return pvt_onnx.build(
            info.config,
            info.numerics,
            task.model.weights,
            info=info,
            image_size=task.image_size,
        )
    proto = pvt_onnx.load_proto(task.path)
    sizes = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim[2:]]
    if any(sizes) and tuple(sizes) != task.image_size:
        raise ParityError(
            f"{task.path}: its graph is for images of {sizes[0]}x{sizes[1]}, asked for "
            f"{task.image_size[0]}x{task.image_size[1]}: write one for any size with "
            "convert … --dynamic-size, or run the file that it was made from"
        )
    return proto


def open_onnxruntime(task: Task, name: str, optimization: str, cuda: bool = False) -> Runner:
    """onnxruntime at one level of graph optimisation, on one execution provider."""
    import onnxruntime

    import pvt_onnx
    from pvt_onnx.session import CPU, CUDA

    proto, provider = load_graph(task), CUDA if cuda else CPU
    taps = pvt_onnx.open_taps(proto, str(task.path), task.names, optimization, provider)
    facts = {
        "framework": f"onnxruntime {onnxruntime.__version__}",
        "device": onnxruntime.get_device() if cuda else "CPU",
        "mode": f"optimisation: {optimization}",
        "provider": provider,
        "precision": "fp32",
    }
    return _onnx_runner(name, proto, taps, facts)


def open_onnx_reference(task: Task) -> Runner:
    """ONNX's own evaluator in numpy: slow, and nobody's optimisations."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from pvt_onnx.graph.model import INPUT
    from pvt_onnx.session import with_outputs

    proto = load_graph(task)
    evaluator = ReferenceEvaluator(with_outputs(proto, str(task.path), _inner(proto, task.names)))
    names = list(task.names)

    def run(images: Array) -> Taps:
        return dict(zip(names, evaluator.run(names, {INPUT: images}), strict=True))

    facts = {"framework": f"onnx {onnx.__version__}", "device": "CPU", "mode": "numpy"}
    return _onnx_runner("onnx-reference", proto, run, facts | {"precision": "fp32"})


def _inner(proto: Any, names: Sequence[str]) -> list[str]:
    outputs = {output.name for output in proto.graph.output}
    return [name for name in names if name not in outputs]


def _onnx_runner(
    name: str, proto: Any, taps: Callable[[Array], Taps], facts: dict[str, str]
) -> Runner:
    from onnx.numpy_helper import to_array

    # Weights have their canonical names; other constants' names have a slash.
    weights = {t.name: to_array(t) for t in proto.graph.initializer if "/" not in t.name}
    return Runner(
        name, "onnx", taps, onnx_attributes(proto), hash_weights(weights), facts | machine_facts()
    )


def open_reference(model: Model, names: Sequence[str]) -> Reference:
    """What every runtime is measured against: the PyTorch twin in float64."""
    import torch

    import pvt_torch
    from pvt_torch.reference import QuickDepthwise

    info = model.info
    twin = pvt_torch.model_from_weights(info.config, info.numerics, model.weights).double()

    def run(images: Array) -> Taps:
        with QuickDepthwise():
            taps: Taps = pvt_torch.run_taps(twin, images, names)
        return taps

    facts = {"framework": f"torch {torch.__version__}", "device": "CPU", "mode": "float64"}
    return Reference(twin, run, facts | machine_facts())


RUNTIMES: Mapping[str, Callable[[Task], Runner]] = {
    **{
        f"mindspore{mode}{suffix}": partial(
            open_mindspore,
            name=f"mindspore{mode}{suffix}",
            compiled=mode == "-graph",
            precision=precision,
        )
        for suffix, precision in (("", "fp32"), ("-o2", "fp16"), ("-hf32", "hf32-conv"))
        for mode in ("", "-graph")
    },
    "torch": partial(open_torch, device="cpu", compiled=False),
    "torch-compile": partial(open_torch, device="cpu", compiled=True),
    "cuda": partial(open_torch, device="cuda", compiled=False),
    "onnxruntime": partial(open_onnxruntime, name="onnxruntime", optimization="all"),
    **{
        f"onnxruntime-{level}": partial(
            open_onnxruntime, name=f"onnxruntime-{level}", optimization=level
        )
        for level in ("extended", "basic", "disabled")
    },
    "onnxruntime-cuda": partial(
        open_onnxruntime, name="onnxruntime-cuda", optimization="all", cuda=True
    ),
    "onnx-reference": open_onnx_reference,
}
"""What opens each runtime, in the order that they are listed."""


def open_runner(runtime: str, task: Task) -> Runner:
    """A model in one runtime.

    Raises:
        PvtError: The runtime cannot be used, or the model in it.
    """
    try:
        return RUNTIMES[runtime](task)
    except ImportError as error:
        raise broken_import(runtime, error) from error


def broken_import(runtime: str, error: ImportError) -> ParityError:
    """What to tell of a framework that is installed and cannot be imported."""
    return ParityError(
        f"{runtime}: what it needs is installed but cannot be imported ({error}): repair that, or "
        "name the other runtimes with --runtime"
    )


DEFAULT_RUNTIMES = ("mindspore", "torch", "onnxruntime")

_NEEDS = {"mindspore": "mindspore", "torch": "torch", "cuda": "torch", "onnx": "onnx"}


def missing_for(runtime: str) -> str | None:
    """Why a runtime cannot be run here and what to do, or None where it can."""
    package = "onnxruntime" if runtime.startswith("onnxruntime") else _NEEDS[runtime.split("-")[0]]
    if find_spec(package) is None:
        needs = f"{runtime} needs {package}, which" if runtime != package else package
        return f"{needs} is not installed: pip install {package}"
    if runtime == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "cuda: torch sees no CUDA device here; leave the runtime out"
    if runtime == "onnxruntime-cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return (
                "onnxruntime-cuda: this build of onnxruntime has no CUDAExecutionProvider "
                f"({', '.join(onnxruntime.get_available_providers())}): install onnxruntime-gpu"
            )
    return None
