"""The runtimes that run any model file as an ONNX graph, which each imports when it opens one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import obstacle
from pvt_spec import PVTConfig, output_names
from pvt_spec.arrays import Array
from pvt_spec.precisions import INT8, coarser
from pvt_spec.runtime import COARSE, FUSED, SATURATES, OpenModel, Taps, Task
from pvt_spec.words import show

if TYPE_CHECKING:
    import onnx

_CPU = ("onnxruntime", "cpu")


@dataclass(frozen=True)
class OnnxEngine:
    """One of :data:`pvt_onnx.engines.table.ENGINES`, in one of its ways.

    Attributes:
        name: What users call it.
        options: Which engine, and how.
    """

    kind: ClassVar[str] = "onnx"
    name: str
    options: EngineOptions = EngineOptions()

    @property
    def library(self) -> str:
        """The package that must be installed."""
        return self.options.engine

    def obstacle(self) -> str | None:
        """Says why it cannot run here; see :class:`pvt_spec.runtime.Runtime`."""
        problem = obstacle(self.options)
        return problem and f"{self.name}: {problem}"

    def open(self, task: Task) -> OpenModel:
        """Opens a model; see :class:`pvt_spec.runtime.Runtime`."""
        from pvt_onnx.engines.tapped import open_tapped
        from pvt_onnx.reading.precision import read_precision

        graph, name = load_graph(task), str(task.path)
        names = shown_taps(graph, task)
        if self.options.engine == "openvino" and read_precision(graph) == INT8:
            # What it shows between of such a graph are the integers.
            names = [name for name in names if name in output_names(task.model.info.config)]
        opened = open_tapped(graph, name, names, self.options, task.image_size)
        facts = {**opened.facts}
        found = open_graph(graph, task.model.info.config, opened.forward, facts, names)
        if facts["precision"] == INT8 and (self.options.engine, self.options.provider) == _CPU:
            from pvt_onnx.engines.integers import sums_saturate

            facts |= {SATURATES: "sums keep 16 bits: no VNNI"} if sums_saturate() else {}
        return found


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

        from pvt_onnx.engines.tapped import with_outputs
        from pvt_onnx.reading.files import reporting
        from pvt_onnx.reading.interface import check_graph, checked_answers

        graph, name = load_graph(task), str(task.path)
        names = shown_taps(graph, task)
        interface = check_graph(graph, task.model.info, name, task.image_size)
        inner = [name for name in names if name not in interface.outputs]
        with reporting(name, "onnx cannot load it"):
            evaluator = ReferenceEvaluator(with_outputs(graph, name, inner))

        def run(inputs: dict[str, Array], values: Sequence[str]) -> list[Array]:
            return [*evaluator.run(list(values), inputs)]

        taps = checked_answers(run, names, interface, task.model.info)
        facts = {"framework": f"onnx {onnx.__version__}", "device": "CPU", "mode": "numpy"}
        facts |= {"precision": "fp32"}
        return open_graph(graph, task.model.info.config, taps, facts, names)


def shown_taps(graph: "onnx.ModelProto", task: Task) -> list[str]:
    """Returns the wanted taps that a graph has: other tools remove or rename values.

    What the model answers with is among them in any case, by whatever name.
    """
    there = {output for node in graph.graph.node for output in node.output}
    answers = output_names(task.model.info.config)
    return [name for name in task.names if name in there or name in answers]


def load_graph(task: Task) -> "onnx.ModelProto":
    """Returns the file's own graph if it is ONNX, else the one that convert writes of it.

    Raises:
        RuntimeUnusable: The file's graph is for images of another size.
    """
    from pvt_onnx.graph.build import build
    from pvt_onnx.reading.bounds import check_size
    from pvt_onnx.reading.files import embedded, load_proto
    from pvt_onnx.reading.interface import image_sides

    info = task.model.info
    if task.path.is_dir() or task.path.suffix.lower() != ".onnx":
        return build(
            info.config, info.numerics, task.model.weights, info=info, image_size=task.image_size
        )
    proto = load_proto(task.path)
    if embedded(proto):
        from pvt_onnx.embedded import without_preprocessing

        # What its images are is not the model's: how far from Pillow's, convert says.
        proto = without_preprocessing(proto)
    check_size(task.image_size, image_sides(proto, info.config), str(task.path))
    return proto


def open_graph(
    graph: "onnx.ModelProto",
    config: PVTConfig,
    taps: Callable[[Array], Taps],
    facts: dict[str, str],
    names: Sequence[str],
) -> OpenModel:
    """Returns a model whose attributes and weights are a graph's, whatever engine runs it.

    Args:
        graph: What :func:`load_graph` returned.
        config: The model's architecture.
        taps: What runs it, as in :class:`OpenModel`.
        facts: What that is.
        names: The taps that it answers.
    """
    from pvt_onnx.reading.files import embedded, reporting
    from pvt_onnx.reading.held import read_held
    from pvt_onnx.reading.precision import read_precision

    domains = sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx"})
    if embedded(graph):
        facts["images"] = "prepared as for other models: what its graph does of that is left out"
    facts |= {FUSED: ", ".join(map(show, domains))} if domains else {}
    with reporting(graph.graph.name or "the graph", "what its nodes hold cannot be read"):
        held = read_held(graph, config)
        facts["precision"] = coarser(facts["precision"], read_precision(graph))
    if coarse := held.steps.keys() & held.weights.keys():
        facts[COARSE] = f"{len(coarse)} of {len(held.weights)}"
    return OpenModel(taps, held.attributes, held.weights, facts, held.steps, names)
