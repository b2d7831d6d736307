"""Running any model file in OpenVINO; it is imported when a model is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pvt_onnx.engines.runtime import load_graph, open_graph
from pvt_spec.arrays import Array
from pvt_spec.runtime import OpenModel, RuntimeUnusable, Task

DEVICE = "CPU by OpenVINO"
"""What its kernels are called; see :mod:`pvt_spec.kernels`."""

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16"}


@dataclass(frozen=True)
class OpenVino:
    """OpenVINO's CPU plugin, in one precision: by itself it takes bfloat16 where the CPU has it.

    Attributes:
        name: What users call it.
        precision: ``"fp32"`` or ``"bf16"``.
    """

    kind: ClassVar[str] = "onnx"
    library: ClassVar[str] = "openvino"
    name: str
    precision: str = "fp32"

    def obstacle(self) -> str | None:
        """Says why it cannot run here; see :class:`pvt_spec.runtime.Runtime`."""
        import openvino

        there = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if _CAPABILITIES[self.precision] in there:
            return None
        return (
            f"{self.name}: this CPU computes no {self.precision} ({', '.join(there)}), where "
            "OpenVINO would go on in float32 without a word: take openvino"
        )

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`."""
        import openvino

        from pvt_onnx.engines.session import with_outputs
        from pvt_onnx.interface import check_graph, checked_answers, reporting

        graph, names, name = load_graph(task), list(task.names), str(task.path)
        interface = check_graph(graph, task.model.info, name, task.image_size)
        inner = [name for name in names if name not in interface.outputs]
        core, asked = openvino.Core(), _HINTS[self.precision]
        tapped = with_outputs(graph, name, inner)
        with reporting(name, "OpenVINO cannot load it"):
            read = core.read_model(tapped.SerializeToString())
            compiled = core.compile_model(read, "CPU", options(asked))
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != asked:
            raise RuntimeUnusable(f"{self.name}: asked for {asked}, OpenVINO computes in {found}")

        def run(inputs: dict[str, Array], values: Sequence[str]) -> list[Array]:
            answer = compiled(inputs)
            return [np.array(answer[value]) for value in values]  # whose memory is used again

        taps = checked_answers(run, names, interface, task.model.info)
        facts = {
            "framework": f"openvino {openvino.__version__}",
            "device": DEVICE,
            "mode": f"inference precision {found}",
            "precision": self.precision,
        }
        return open_graph(graph, task.model.info.config, taps, facts)


def options(precision: str) -> dict[str, Any]:
    """Returns the options that change numbers, each explicitly."""
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
