"""Running any model file as an ONNX graph; its engine is imported when a model is opened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pvt_spec import PVTConfig
from pvt_spec.arrays import Array
from pvt_spec.runtime import FUSED, OpenModel, RuntimeUnusable, Taps, Task
from pvt_spec.words import show

if TYPE_CHECKING:
    import onnx

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxRuntime:
    """onnxruntime, at one level of optimisation and on one execution provider.

    Attributes:
        name: What users call it.
        optimization: The level, how much of the graph it may change; see
            :data:`pvt_onnx.engines.session.OPTIMIZATIONS`.
        provider: The execution provider.
    """

    kind: ClassVar[str] = "onnx"
    library: ClassVar[str] = "onnxruntime"
    name: str
    optimization: str = "all"
    provider: str = CPU

    def obstacle(self) -> str | None:
        """Says why it cannot run here; see :class:`pvt_spec.runtime.Runtime`."""
        if self.provider == CPU:
            return None
        import onnxruntime

        there = onnxruntime.get_available_providers()
        if self.provider in there:
            return None
        return (
            f"{self.name}: this build of onnxruntime has no {self.provider} ({', '.join(there)}): "
            "install onnxruntime-gpu"
        )

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`."""
        import onnxruntime

        from pvt_onnx.engines.session import open_taps

        graph = load_graph(task)
        taps = open_taps(graph, str(task.path), task.names, self.optimization, self.provider)
        facts = {
            "framework": f"onnxruntime {onnxruntime.__version__}",
            "device": "CPU" if self.provider == CPU else onnxruntime.get_device(),
            "mode": f"optimisation: {self.optimization}",
            "provider": self.provider,
            "precision": "fp32",
        }
        return open_graph(graph, task.model.info.config, taps, facts)


@dataclass(frozen=True)
class OnnxReference:
    """ONNX's own evaluator in numpy: slow, and nobody's optimisations.

    Attributes:
        name: What users call it.
    """

    kind: ClassVar[str] = "onnx"
    library: ClassVar[str] = "onnx"
    name: str

    def obstacle(self) -> str | None:
        """Returns None, as it is numpy."""
        return None

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        from pvt_onnx.engines.session import with_outputs
        from pvt_onnx.interface import check_graph, checked_answers, reporting

        graph, names, name = load_graph(task), list(task.names), str(task.path)
        interface = check_graph(graph, task.model.info, name, task.image_size)
        inner = [name for name in names if name not in interface.outputs]
        with reporting(name, "onnx cannot load it"):
            evaluator = ReferenceEvaluator(with_outputs(graph, name, inner))

        def run(inputs: dict[str, Array], values: Sequence[str]) -> list[Array]:
            return [*evaluator.run(list(values), inputs)]

        taps = checked_answers(run, names, interface, task.model.info)
        facts = {"framework": f"onnx {onnx.__version__}", "device": "CPU", "mode": "numpy"}
        return open_graph(graph, task.model.info.config, taps, facts | {"precision": "fp32"})


def load_graph(task: Task) -> "onnx.ModelProto":
    """Returns the file's own graph if it is ONNX, else the one that convert writes of it.

    Raises:
        RuntimeUnusable: The file's graph is for images of another size.
    """
    from pvt_onnx.files import load_proto
    from pvt_onnx.graph.build import build

    info = task.model.info
    if task.path.is_dir() or task.path.suffix.lower() != ".onnx":
        return build(
            info.config, info.numerics, task.model.weights, info=info, image_size=task.image_size
        )
    proto = load_proto(task.path)
    dims = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input]
    sizes = [side for shape in dims if shape[1:2] == [info.config.in_chans] for side in shape[2:]]
    if len(sizes) == 2 and all(sizes) and tuple(sizes) != task.image_size:
        raise RuntimeUnusable(
            f"{task.path}: its graph is for images of {sizes[0]}x{sizes[1]}, asked for "
            f"{task.image_size[0]}x{task.image_size[1]}: write one for any size with "
            "convert … --dynamic-size, or run the file that it was made from"
        )
    return proto


def open_graph(
    graph: "onnx.ModelProto",
    config: PVTConfig,
    taps: Callable[[Array], Taps],
    facts: dict[str, str],
) -> OpenModel:
    """Returns a model whose attributes and weights are a graph's, whatever engine runs it.

    Args:
        graph: What :func:`load_graph` returned.
        config: The model's architecture.
        taps: What runs it, as in :class:`OpenModel`.
        facts: What that is.
    """
    from pvt_onnx.attributes import read_attributes
    from pvt_onnx.graph.build import read_weights
    from pvt_onnx.interface import reporting

    domains = sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx"})
    facts |= {FUSED: ", ".join(map(show, domains))} if domains else {}
    with reporting(graph.graph.name or "the graph", "what its nodes hold cannot be read"):
        return OpenModel(taps, read_attributes(graph), read_weights(graph, config), facts)
