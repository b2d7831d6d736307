"""Every weight and attribute of a runtime's own model: changed in the real object, it is named.

What is changed here are modules, cells and nodes that compute, not descriptions of them; which tap
a change enters first is taken from the model that runs, or from the graph that would.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import pvt_onnx
from parity.measure.structure import (
    INPUT,
    Difference,
    attribute_differences,
    first_tap,
    info_differences,
    weight_differences,
)
from pvt_ms.attributes import read_attributes as mindspore_attributes
from pvt_onnx.reading.attributes import read_attributes
from pvt_onnx.reading.floats import in_floats
from pvt_onnx.reading.held import read_held
from pvt_onnx.targets import LINEAR, TARGETS
from pvt_spec import CHOICES, EPSILONS, PROFILES, Preprocessing, tap_names, tensor_specs
from pvt_spec.attributes import UNSEEN, Attributes, expected_attributes
from pvt_spec.hashes import hash_weights
from pvt_torch.attributes import read_attributes as torch_attributes
from tests.support.models import KINDS, SMALL, info_of, random_images, weights_for
from tests.support.runtimes import import_mindspore

PROFILE = {"v1": "mindcv", "v2": "mindcv", "linear": "official"}
"""Of each kind of model here: both forms of padding and of GELU are in one of them."""


def numerics_of(kind: str) -> Any:
    return PROFILES[PROFILE[kind.split()[0]]][KINDS[kind].version]


@cache
def weights_of(kind: str) -> dict[str, np.ndarray]:
    return weights_for(KINDS[kind], numerics_of(kind))


def torch_model(kind: str) -> Any:
    import pvt_torch

    return pvt_torch.model_from_weights(KINDS[kind], numerics_of(kind), weights_of(kind))


def mindspore_model(kind: str) -> Any:
    import_mindspore()
    import pvt_ms

    return pvt_ms.model_from_weights(KINDS[kind], numerics_of(kind), weights_of(kind))


def graph(kind: str, **options: Any) -> onnx.ModelProto:
    return pvt_onnx.build(KINDS[kind], numerics_of(kind), weights_of(kind), **options)


GRAPHS: Mapping[str, dict[str, Any]] = {
    "static": {},
    "other size": {"image_size": (72, 104)},
    "dynamic": {"dynamic_size": True},
    "opset 17": {"dynamic_size": True, "opset": 17},
    "opset 11": {"dynamic_size": True, "opset": 11},
    "opset 9": {"opset": 9},
    **{f"for {name}": {"target": name} for name in TARGETS},
}


def wrong(kind: str, framework: str, actual: Mapping[str, Any]) -> list[Difference]:
    expected = expected_attributes(KINDS[kind], numerics_of(kind))
    return attribute_differences(expected, dict(actual), framework, KINDS[kind])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- what may not be seen


def onnx_attributes(model: onnx.ModelProto) -> Attributes:
    return read_attributes(in_floats(model, ()))[0]


def test_torch_and_mindspore_show_everything(kind):
    expected = expected_attributes(KINDS[kind], numerics_of(kind))
    assert torch_attributes(torch_model(kind)) == expected
    assert mindspore_attributes(mindspore_model(kind)) == expected
    assert not UNSEEN["torch"] and not UNSEEN["mindspore"]


@pytest.mark.parametrize("options", GRAPHS)
def test_onnx_leaves_out_only_what_its_graph_does_not_have(kind, options):
    model = graph(kind, **GRAPHS[options])
    expected = expected_attributes(KINDS[kind], numerics_of(kind))
    actual = onnx_attributes(model)
    hidden = {key for key in expected if key not in actual}
    assert {key: actual[key] for key in actual} == {k: expected[k] for k in actual}
    resizes = any(node.op_type == "Resize" for node in model.graph.node)
    assert bool(hidden) == (KINDS[kind].version == 1 and not resizes)
    assert all(key.endswith(".resize") for key in hidden)
    assert wrong(kind, "onnx", actual) == []


def test_what_is_unseen_has_a_reason():
    for framework, unseen in UNSEEN.items():
        assert all(len(reason) > 20 for reason in unseen.values()), framework


# --- modules and cells: each attribute of each one


class Mutation(NamedTuple):
    """One attribute of one object of a model, and what it is reported as then.

    Attributes:
        key: The attribute's name in the report.
        shown: What it is there; None where that has no short name.
        owner: The object.
        name: Of the attribute in the object.
        value: That it is given.
    """

    key: str
    shown: str | None
    owner: Any
    name: str
    value: Any


@contextlib.contextmanager
def changed(mutation: Mutation) -> Iterator[None]:
    """Within it, the object is another one."""
    kept = getattr(mutation.owner, mutation.name)
    setattr(mutation.owner, mutation.name, mutation.value)
    yield
    setattr(mutation.owner, mutation.name, kept)


def torch_mutations(model: Any) -> Iterator[Mutation]:
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind == "LayerNorm":
            yield Mutation(f"{name}.epsilon", "0.5", module, "eps", 0.5)
        elif "Conv2d" in kind:
            yield from torch_conv_mutations(name, module)
        else:
            yield from activation_and_attention_mutations(name, module, kind)


def activation_and_attention_mutations(name: str, layer: Any, kind: str) -> Iterator[Mutation]:
    """In which the two twins' objects are alike."""
    if kind == "GELU":
        other, form = ("tanh", "tanh") if layer.approximate == "none" else ("none", "erf")
        yield Mutation(f"{name}.gelu", form, layer, "approximate", other)
    elif kind == "Attention":
        heads = layer.num_heads + 1
        yield Mutation(f"{name}.heads", str(heads), layer, "num_heads", heads)
        yield Mutation(f"{name}.scale", "0.125", layer, "scale", 0.125)


def torch_conv_mutations(name: str, conv: Any) -> Iterator[Mutation]:
    stride = conv.stride[0]
    yield Mutation(f"{name}.stride", str(stride + 1), conv, "stride", (stride + 1, stride + 1))
    yield Mutation(f"{name}.stride", f"[{stride}, 7]", conv, "stride", (stride, 7))
    yield Mutation(f"{name}.dilation", "2", conv, "dilation", (2, 2))
    yield Mutation(f"{name}.groups", "5", conv, "groups", 5)
    if conv.kernel_size[0] == 1:
        return
    padding, pad = f"{name}.padding", conv.padding[0]
    yield Mutation(padding, None, conv, "padding_mode", "reflect")
    if getattr(conv, "conv_padding", "symmetric") == "same":
        yield Mutation(padding, "0", conv, "conv_padding", "symmetric")
        yield Mutation(padding, None, conv, "padding", (1, 1))
    else:
        yield Mutation(padding, str(pad + 1), conv, "padding", (pad + 1, pad + 1))
        yield Mutation(padding, f"[{pad}, {pad + 1}]", conv, "padding", (pad, pad + 1))
    if hasattr(conv, "conv_padding") and not pad and conv.conv_padding == "symmetric":
        yield Mutation(padding, "same", conv, "conv_padding", "same")


def mindspore_mutations(model: Any) -> Iterator[Mutation]:
    """Of the primitives that compute, where a cell has one."""
    ops = import_mindspore().ops
    for name, cell in model.cells_and_names():
        kind = type(cell).__name__
        if kind == "LayerNorm":
            norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=0.5)
            yield Mutation(f"{name}.epsilon", "0.5", cell, "layer_norm", norm)
        elif "Conv2d" in kind:
            yield from mindspore_conv_mutations(name, cell)
        else:
            yield from activation_and_attention_mutations(name, cell, kind)


def mindspore_conv_mutations(name: str, cell: Any) -> Iterator[Mutation]:
    ops = import_mindspore().ops
    names = {"pad_mode": "pad_mode", "pad": "padding", "stride": "stride", "group": "group"}
    given = {key: getattr(cell, attribute) for key, attribute in names.items()}

    def mutation(key: str, shown: str, **values: Any) -> Mutation:
        arguments = {"dilation": cell.dilation, **given, **values}
        conv = ops.Conv2D(cell.out_channels, cell.kernel_size, **arguments)
        return Mutation(f"{name}.{key}", shown, cell, "conv2d", conv)

    stride = cell.stride[0]
    yield mutation("stride", str(stride + 1), stride=stride + 1)
    yield mutation("stride", f"[{stride}, 7]", stride=(stride, 7))
    yield mutation("dilation", "2", dilation=2)
    yield mutation("groups", "5", group=5)
    if cell.kernel_size[0] == 1:
        return
    pad = given["pad"] if isinstance(given["pad"], int) else given["pad"][0]
    yield mutation("padding", str(pad + 1), pad_mode="pad", pad=pad + 1)
    if cell.pad_mode == "same":
        yield mutation("padding", "0", pad_mode="pad", pad=0)
        yield mutation("padding", "0", pad_mode="valid", pad=0)
    else:
        yield mutation("padding", "same", pad_mode="same", pad=0)


@cache
def first_taps(kind: str) -> dict[str, str]:
    """The first tap that every attribute changes, by running the PyTorch twin with each changed."""
    from pvt_torch.taps import add_hooks

    model, images = torch_model(kind), random_images(KINDS[kind])
    names = tap_names(KINDS[kind])

    def run() -> dict[str, np.ndarray]:
        import torch

        taps: dict[str, np.ndarray] = {}
        handles = add_hooks(model, names, lambda name, tap: taps.setdefault(name, tap))
        # What does not fit together ends the pass at the layer that was changed.
        with torch.inference_mode(), contextlib.suppress(RuntimeError):
            model(torch.from_numpy(images))
        for handle in handles:
            handle.remove()
        return {name: tap.numpy() for name, tap in taps.items()}

    plain, found = run(), {}
    for mutation in torch_mutations(model):
        with changed(mutation):
            taps = run()
        differing = (n for n in names if n not in taps or not np.array_equal(taps[n], plain[n]))
        first = next(differing, None)
        if first:
            known = found.setdefault(mutation.key, first)
            assert known == first, mutation.key
    return found


MODELS: Mapping[str, tuple[Any, Any, Any]] = {
    "torch": (torch_model, torch_mutations, torch_attributes),
    "mindspore": (mindspore_model, mindspore_mutations, mindspore_attributes),
}


@pytest.mark.sampled
@pytest.mark.parametrize("framework", MODELS)
def test_every_attribute_of_every_module_is_reported_where_it_acts(framework, kind):
    make, mutations, read = MODELS[framework]
    model = make(kind)
    unchanged, reported = read(model), set()
    for mutation in mutations(model):
        with changed(mutation):
            found = wrong(kind, framework, read(model))
        assert [d.subject for d in found] == [mutation.key], mutation
        (difference,) = found
        assert difference.found == (mutation.shown or difference.found) != difference.expected
        assert difference.expected == str(unchanged[mutation.key])
        # A dilation of one point is the only one that changes nothing.
        inert = mutation.key not in first_taps(kind)
        assert not inert or mutation.key.endswith(".sr.dilation")
        assert inert or difference.tap == first_taps(kind)[mutation.key], mutation
        reported.add(mutation.key)
    assert read(model) == unchanged
    assert {key[:9] for key in unchanged if key not in reported} <= {"pos_embed"}


@pytest.mark.parametrize("framework", MODELS)
def test_how_positions_are_kept_and_resized_is_reported(framework):
    make, _, read = MODELS[framework]
    model = make("v1")
    model.numerics = dataclasses.replace(model.numerics, pos_embed_resize="align_corners")
    found = wrong("v1", framework, read(model))
    assert found[0].tap == "embed1"
    assert {d.subject.split(".")[-1] for d in found} == {"resize"}
    assert {d.found for d in found} == {"align_corners"}
    model = make("v1")
    widen(framework, model)
    (difference,) = wrong("v1", framework, read(model))
    assert (difference.subject, difference.found) == ("pos_embed3.dtype", "float32")
    assert difference.tap == "embed3"


def widen(framework: str, model: Any) -> None:
    """Keeps one position embedding as float32."""
    if framework == "torch":
        model.pos_embed3.data = model.pos_embed3.data.float()
    else:
        ms = import_mindspore()
        model.pos_embed3 = ms.Parameter(model.pos_embed3.astype(ms.float32), name="pos_embed3")


@pytest.mark.parametrize("framework", MODELS)
def test_a_layer_that_is_missing_and_one_too_many_are_reported(framework):
    make, _, read = MODELS[framework]
    model = make("v2")
    nn = importlib.import_module({"torch": "torch.nn", "mindspore": "mindspore.nn"}[framework])
    model.block2[1].mlp.act = nn.Identity()
    model.block3[0].extra = nn.LayerNorm((8,))
    missing, unknown = wrong("v2", framework, read(model))
    assert (missing.subject, missing.found) == ("block2.1.mlp.act.gelu", "missing")
    assert missing.tap == "block2.1.mlp"
    assert (unknown.subject, unknown.expected) == ("block3.0.extra.epsilon", "absent")


# --- nodes: each attribute of each one


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Gives a node's attribute a value; None takes it away."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


COARSE = {
    "Cast.to": "another type is refused by the next node, or rounds what the taps show",
    "Concat.axis": "another axis does not fit",
    "Conv.kernel_shape": "another one than the weight's is refused",
    "Gather.axis": "another axis is another shape",
    "Gemm.alpha": "scales a whole layer, which its tap shows",
    "Gemm.beta": "scales a whole bias, which its tap shows",
    "Gemm.transA": "does not fit",
    "Gemm.transB": "does not fit, or takes every weight's mirror image",
    "LayerNormalization.axis": "normalises other values, which its tap shows",
    "LayerNormalization.stash_type": "float32 is the only type that runtimes have",
    "ReduceMean.axes": "another axis is another shape",
    "ReduceMean.keepdims": "another shape",
    "ReduceSum.axes": "another axis is another shape",
    "ReduceSum.keepdims": "another shape",
    "Reshape.allowzero": "says how a 0 is read, and refuses it",
    "Resize.antialias": "blurs only what shrinks, which its tap shows",
    "Resize.mode": "interpolates otherwise, which its tap shows",
    "Shape.end": "another axis is another shape",
    "Shape.start": "another axis is another shape",
    "Slice.axes": "another axis is another shape",
    "Slice.ends": "another part is another shape",
    "Slice.starts": "another part is another shape",
    "Softmax.axis": "sums over other values, which its tap shows",
    "Split.axis": "another axis is another shape",
    "Split.split": "other parts do not fit",
    "Transpose.perm": "puts values elsewhere, which its tap shows",
}
"""Attributes of nodes that are not compared, and why no small error can hide in them."""

OTHERS = {
    b"none": "tanh",
    b"tanh": "none",
    b"SAME_UPPER": "SAME_LOWER",
    b"half_pixel": "align_corners",
    b"linear": "nearest",
}


def is_coarse(node: onnx.NodeProto, name: str, given: Mapping[str, Any]) -> bool:
    """Whether another value of a node's attribute cannot make a small error."""
    if node.op_type == "Conv" and given["kernel_shape"] == [1, 1]:
        # An MLP's linear layer does not fit then; a reduction's padding is tokens more.
        linear = node.input[1].removesuffix(".weight").endswith(LINEAR)
        return linear or name in ("pads", "kernel_shape")
    # Other windows of a pooling are another size.
    return node.op_type == "AveragePool" or f"{node.op_type}.{name}" in COARSE


def another(value: Any) -> Any:
    """Another value of an attribute, as near as there is one."""
    if isinstance(value, bytes):
        return OTHERS[value]
    if isinstance(value, float):
        return value * 1.01
    return value + 1 if isinstance(value, int) else [*value[:-1], value[-1] + 1]


def downstream(model: onnx.ModelProto, kind: str, value: str) -> str | None:
    """The first tap that a value enters, by the graph's own edges."""
    reached = {value}
    for node in model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
    return next((name for name in tap_names(KINDS[kind]) if name in reached), None)


@pytest.mark.sampled
@pytest.mark.parametrize("options", GRAPHS)
@pytest.mark.parametrize("kind", SMALL)
def test_every_attribute_of_every_node_is_reported_or_coarse(kind, options):
    model = graph(kind, **GRAPHS[options])
    for node in model.graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        for name, value in given.items():
            if is_coarse(node, name, given):
                continue
            set_attribute(node, name, another(value))
            found = wrong(kind, "onnx", onnx_attributes(model))
            assert len(found) == 1, f"{node.name}: {name}"
            assert found[0].tap == downstream(model, kind, node.output[0]), node.name
            node.CopyFrom(kept)


def test_what_is_coarse_is_in_a_graph_and_nowhere_compared():
    """The table does not excuse what is compared, nor what does not exist."""
    expected: set[str] = set()
    for kind in SMALL:
        for options in GRAPHS.values():
            model = graph(kind, **options)
            for node in model.graph.node:
                expected |= {f"{node.op_type}.{attribute.name}" for attribute in node.attribute}
    assert expected >= set(COARSE)
    compared = ("epsilon", "approximate", "coordinate_transformation_mode", "auto_pad", "pads")
    assert not any(place.split(".")[1] in compared for place in COARSE)


@pytest.mark.parametrize("kind", SMALL)
def test_an_attribute_that_is_not_given_is_what_onnx_takes_it_for(kind):
    """Optimisers leave out what has its default value."""
    model, expected = graph(kind), {}
    for node in model.graph.node:
        given = {attribute.name for attribute in node.attribute}
        for name in given & {"epsilon", "approximate", "strides", "dilations", "group"}:
            set_attribute(node, name, None)
        if "auto_pad" not in given:
            set_attribute(node, "pads", None)
    for difference in wrong(kind, "onnx", onnx_attributes(model)):
        expected[difference.subject.rpartition(".")[2]] = difference.found
    numerics = numerics_of(kind)
    assert expected["stride"] == "1" and expected["epsilon"] == "1e-05"
    assert ("gelu" in expected) == (numerics.gelu == "tanh")
    assert expected.get("padding", "0") == "0"
    for node in model.graph.node:
        if node.op_type == "Conv":
            set_attribute(node, "auto_pad", None)
    onnx_attributes(model)


@pytest.mark.parametrize("rule", ["SAME_LOWER", "VALID"])
def test_other_automatic_padding_is_reported(rule):
    model = graph("v2")
    node = next(n for n in model.graph.node if n.name == "patch_embed2.proj/map")
    set_attribute(node, "auto_pad", rule)
    (difference,) = wrong("v2", "onnx", onnx_attributes(model))
    assert (difference.subject, difference.found) == ("patch_embed2.proj.padding", rule.lower())
    assert (difference.expected, difference.tap) == ("same", "patch_embed2")


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_every_stages_resizing_is_reported_by_itself(stage):
    """It is unseen in a graph of one size, and compared where it is seen."""
    model = graph("v1", dynamic_size=True)
    node = next(n for n in model.graph.node if n.name == f"embed{stage}/resized")
    set_attribute(node, "coordinate_transformation_mode", "align_corners")
    (difference,) = wrong("v1", "onnx", onnx_attributes(model))
    assert (difference.found, difference.expected) == ("align_corners", "half_pixel")
    assert difference.tap == f"embed{stage}"


@pytest.mark.parametrize("options", GRAPHS)
@pytest.mark.parametrize("kind", SMALL)
def test_every_scale_and_number_of_heads_in_a_graph_is_reported(kind, options):
    model = graph(kind, **GRAPHS[options])
    other = numpy_helper.from_array(np.array(0.3, np.float32), "other/scale")
    heads = numpy_helper.from_array(np.array([-1, 2, 9, 4], np.int64), "other/heads")
    model.graph.initializer.extend([other, heads])
    seen = set()
    for node in model.graph.node:
        name = node.output[0]
        scaled, split = name.endswith(".attn.scaled"), name.endswith((".attn.q", ".attn.q/heads"))
        if not scaled and not (split and node.op_type == "Reshape"):
            continue
        kept = node.input[1]
        node.input[1] = other.name if scaled else heads.name
        (difference,) = wrong(kind, "onnx", onnx_attributes(model))
        key, shown = ("scale", "0.3") if scaled else ("heads", "9" if "/" in name else "2")
        block = name.partition(".attn")[0]
        assert (difference.subject, difference.found) == (f"{block}.attn.{key}", shown)
        assert difference.tap == downstream(model, kind, name) == f"{block}.attn"
        node.input[1] = kept
        seen.add(difference.subject)
    assert len(seen) == 2 * sum(KINDS[kind].depths)


def test_a_node_that_is_gone_and_a_layer_that_is_used_twice_are_reported():
    model = graph("v1")
    (index,) = (i for i, n in enumerate(model.graph.node) if n.name == "block2.1.mlp.act")
    del model.graph.node[index]
    node = next(n for n in model.graph.node if n.name == "block2.1.norm2")
    node.input[1], node.input[2] = "block2.0.norm2.weight", "block2.0.norm2.bias"
    found = {d.subject: d for d in wrong("v1", "onnx", onnx_attributes(model))}
    assert set(found) == {"block2.1.mlp.act.gelu", "block2.1.norm2.epsilon"}
    assert {d.found for d in found.values()} == {"missing"}
    assert {d.tap for d in found.values()} == {"block2.1.mlp"}
    # Where an engine has fused nodes, what is missing may be in one of its own.
    expected = expected_attributes(KINDS["v1"], numerics_of("v1"))
    shown = onnx_attributes(model)
    assert attribute_differences(expected, shown, "onnx", KINDS["v1"], fused=True) == []


# --- the first tap


@pytest.mark.parametrize("kind", KINDS)
def test_first_tap_of_every_tensor_is_the_graphs(kind):
    model = graph(kind)
    for spec in tensor_specs(KINDS[kind]):
        assert first_tap(spec.name, KINDS[kind]) == downstream(model, kind, spec.name), spec.name


@pytest.mark.parametrize("field", [*EPSILONS, *CHOICES])
def test_first_tap_of_a_choice_is_the_first_of_its_layers(field, kind):
    config, numerics = KINDS[kind], PROFILES["official"][KINDS[kind].version]
    value = 0.5 if field in EPSILONS else CHOICES[field][1]
    mutant = dataclasses.replace(numerics, **{field: value})
    expected = expected_attributes(config, numerics)
    found = attribute_differences(expected, expected_attributes(config, mutant), "torch", config)
    names = tap_names(config)
    taps = sorted({d.tap for d in found}, key=names.index)
    assert first_tap(f"numerics.{field}", config) == (taps[0] if taps else None)


def test_what_is_before_the_first_tap_and_what_is_no_number():
    config = SMALL["v1"]
    assert first_tap("preprocessing.mean", config) == INPUT
    assert first_tap("labels", config) is None
    assert first_tap("block9.0.norm1.weight", config) is None


# --- weights


@cache
def hashes_of(kind: str) -> dict[str, str]:
    return hash_weights(weights_of(kind))


def next_value(array: np.ndarray) -> np.ndarray:
    """The same but for its last value, which is the next number up."""
    other = array.copy()
    other.flat[-1] = np.nextafter(other.flat[-1], np.array(np.inf, array.dtype))
    return other


def weights_in_torch(kind: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import torch

    import pvt_torch

    model = torch_model(kind)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    return pvt_torch.get_weights(model)


def weights_in_mindspore(kind: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    ms = import_mindspore()
    import pvt_ms

    model = mindspore_model(kind)
    ours = {"gamma": "weight", "beta": "bias"}
    for name, parameter in model.parameters_and_names():
        layer, dot, part = name.rpartition(".")
        parameter.set_data(ms.Tensor(weights[f"{layer}{dot}{ours.get(part, part)}"]))
    return pvt_ms.get_weights(model)


def weights_in_onnx(kind: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = pvt_onnx.build(KINDS[kind], numerics_of(kind), weights)
    return read_held(model, KINDS[kind]).weights


WEIGHTS = {
    "torch": weights_in_torch,
    "mindspore": weights_in_mindspore,
    "onnx": weights_in_onnx,
}


@pytest.mark.sampled
@pytest.mark.parametrize("framework", WEIGHTS)
def test_every_weight_that_is_changed_by_one_unit_is_reported_and_no_other(framework, kind):
    weights, config = weights_of(kind), KINDS[kind]
    for odd in (0, 1):
        names = list(weights)[odd::2]
        other = {n: next_value(w) if n in names else w for n, w in weights.items()}
        actual = hash_weights(WEIGHTS[framework](kind, other))
        found = weight_differences(hashes_of(kind), actual, config)
        assert [difference.subject for difference in found] == names
        model = graph(kind)
        for difference in found:
            assert difference.tap == downstream(model, kind, difference.subject)
            assert difference.found != difference.expected
            assert actual[difference.subject][:8] in difference.found


def test_missing_and_unknown_weights_are_reported():
    hashes = hashes_of("v2")
    actual = {n: h for n, h in hashes.items() if n != "norm3.bias"} | {"block1.0.extra": "0" * 32}
    missing, unknown = weight_differences(hashes, actual, SMALL["v2"])
    assert (missing.subject, missing.found, missing.tap) == ("norm3.bias", "missing", "norm3")
    assert (unknown.subject, unknown.expected) == ("block1.0.extra", "absent")
    assert str(missing).startswith("norm3.bias is missing, expected the reference's (hash ")


def test_hash_is_of_values_and_shape_not_of_how_they_are_kept():
    values = np.array([[1.5, -2.0, 0.0], [3.25, 2.0**-14, 7.0]], np.float32)
    same = [
        values,
        values.astype(np.float16),
        values.astype(ml_dtypes.bfloat16),
        values.astype(">f4"),
        np.asfortranarray(values),
        np.repeat(values, 2, axis=0)[::2],
    ]
    assert len({hash_weights({"a": array})["a"] for array in same}) == 1
    others = [
        values.T,
        values.reshape(3, 2),
        values.reshape(6),
        values[::-1],
        -values,
        values.astype(np.float64),
        next_value(values),
        np.where(values == 0, np.float32(-0.0), values),
    ]
    assert len({hash_weights({"a": array})["a"] for array in [values, *others]}) == 1 + len(others)


# --- what files say


def test_info_that_differs_is_reported_field_by_field():
    first = info_of(SMALL["v1"])
    preprocessing = dataclasses.replace(first.preprocessing, crop_pct=0.5, mean=(0.1, 0.2, 0.3))
    numerics = dataclasses.replace(first.numerics, norm2_eps=1e-3, pos_embed_resize="align_corners")
    other = dataclasses.replace(first, preprocessing=preprocessing, numerics=numerics)
    found = {d.subject: (d.found, d.expected, d.tap) for d in info_differences(first, other)}
    assert found == {
        "numerics.norm2_eps": ("0.001", "1e-06", "block1.0.mlp"),
        "numerics.pos_embed_resize": ("align_corners", "half_pixel", "embed1"),
        "preprocessing.crop_pct": ("0.5", "0.875", INPUT),
        "preprocessing.mean": ("(0.1, 0.2, 0.3)", "(0.485, 0.456, 0.406)", INPUT),
    }
    assert info_differences(first, first) == []


def test_every_field_of_preprocessing_is_compared():
    first = info_of(SMALL["v2"])
    others = {
        "image_size": (96, 96),
        "crop_pct": 1.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "resize": "squash",
        "interpolation": "bilinear",
        "crop_mode": "none",
        "rescale": 1.0,
        "normalise": False,
        "orientation": "stored",
    }
    assert set(others) == {field.name for field in dataclasses.fields(Preprocessing)}
    for field, value in others.items():
        changed = dataclasses.replace(first.preprocessing, **{field: value})
        (difference,) = info_differences(first, dataclasses.replace(first, preprocessing=changed))
        assert difference.subject == f"preprocessing.{field}" and difference.tap == INPUT


def test_labels_are_compared_where_both_have_some_and_shown_in_short():
    names = tuple(f"a long name of class {i}" for i in range(7))
    plain = info_of(SMALL["v2"])
    first = dataclasses.replace(plain, labels=names)
    other = dataclasses.replace(plain, labels=names[::-1])
    assert info_differences(first, plain) == info_differences(plain, first) == []
    (difference,) = info_differences(first, other)
    assert (difference.subject, difference.tap) == ("labels", None)
    assert len(difference.found) <= 60 and difference.found.endswith("…")
    assert difference.expected.startswith("('a long name of class 0', ")
