"""Single faults of a PVT's layers, in open models and in ONNX graphs; see :mod:`benchmarks.faults`.

PyTorch modules, MindSpore cells and ONNX graphs are only changed here, never made.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.faults import Edit, Fault, of_info
from convert.model.read import Model
from pvt_spec import POOL_SIZE, ModelInfo, PVTConfig, stage_grids


def layer_faults(info: ModelInfo) -> Iterator[Fault]:
    """Yields all faults of layers, but for how position embeddings are resized."""
    for name in attentions(info.config):
        yield from attention_faults(name)
    yield from block_orders(info.config)
    yield from poolings(info)


def attentions(config: PVTConfig) -> list[str]:
    """Returns the attention layers."""
    return [
        f"block{stage}.{block}.attn"
        for stage, depth in enumerate(config.depths, start=1)
        for block in range(depth)
    ]


def layer(model: Any, name: str) -> Any:
    """Returns a layer of an open PyTorch or MindSpore model, by its canonical name."""
    named = model.named_modules if hasattr(model, "named_modules") else model.cells_and_names
    return dict(named())[name]


def attention_faults(name: str) -> Iterator[Fault]:
    """Yields an attention without its scale, and one with heads of half the size."""

    def unscale(graph: onnx.GraphProto) -> None:
        (node,) = (node for node in graph.node if node.output[0] == f"{name}.scaled")
        node.input[1] = "one"
        graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "one"))

    yield Fault(
        *("missing scale", name),
        layers=lambda model: setattr(layer(model, name), "scale", 1.0),
        graph=unscale,
    )
    stage = int(name[len("block")]) - 1

    def more_heads(model: Model) -> Model:
        heads = list(model.info.config.num_heads)
        heads[stage] *= 2
        config = dataclasses.replace(model.info.config, num_heads=tuple(heads))
        return of_info(config=config)(model)

    if name.endswith(".0.attn"):
        yield Fault("twice the heads", f"stage {stage + 1}", more_heads)


def block_orders(config: PVTConfig) -> Iterator[Fault]:
    """Weights one block too far, and blocks that run in the other order."""
    for stage, depth in enumerate(config.depths, start=1):
        if depth > 1:
            first, second = f"block{stage}.0.", f"block{stage}.1."
            yield Fault("block order: weights", f"block{stage}", exchanged(first, second))
            yield Fault(
                *("block order: execution", f"block{stage}"),
                layers=lambda model, stage=stage: reverse_layers(layer(model, f"block{stage}")),
                graph=lambda graph, stage=stage: reverse_nodes(graph, f"block{stage}"),
            )


def exchanged(first: str, second: str) -> Edit:
    """Returns the weights of two blocks under each other's names."""

    def edit(model: Model) -> Model:
        other = {first: second, second: first}
        weights = {
            name: model.weights[other.get(name[:9], name[:9]) + name[9:]] for name in model.weights
        }
        return dataclasses.replace(model, weights=weights)

    return edit


def reverse_layers(blocks: Any) -> None:
    """Lets the last block run first; each keeps its name."""
    attribute = "_modules" if hasattr(blocks, "_modules") else "_cells"
    named = getattr(blocks, attribute)
    setattr(blocks, attribute, type(named)(reversed(named.items())))


def reverse_nodes(graph: onnx.GraphProto, stage: str) -> None:
    """Lets the second of two blocks run first; values keep their names."""
    first, second = f"{stage}.0", f"{stage}.1"
    before = next(node.input[0] for node in graph.node if node.name == f"{first}.norm1")
    others: dict[str, dict[str, str]] = {first: {before: second}, second: {first: before}}
    parts: dict[str, list[onnx.NodeProto]] = {"": [], second: [], first: [], "after": []}
    for node in graph.node:
        place = next((name for name in others if node.name.startswith(name)), None)
        mapping = others[place] if place else {second: first}
        node.input[:] = [mapping.get(name, name) for name in node.input]
        later = parts[second] and not node.name.startswith("pool/")
        parts[place or ("after" if later else "")].append(node)
    ordered = [node for part in parts.values() for node in part]
    del graph.node[:]
    graph.node.extend(ordered)


def poolings(info: ModelInfo) -> Iterator[Fault]:
    """Features of the other kind, and linear attention's grid from single pixels."""
    config = info.config

    def pool_layers(model: Any) -> None:
        kept: dict[str, Any] = {}
        norm = layer(model, "norm" if config.version == 1 else "norm4")
        norm.register_forward_hook(lambda _, inputs, output: kept.update(x=output))
        v1 = config.version == 1
        pool = (lambda x: x.mean(1)) if v1 else (lambda x: x[:, 0])
        model.head.register_forward_pre_hook(lambda _, inputs: (pool(kept["x"]),))

    def pool_nodes(graph: onnx.GraphProto) -> None:
        (node,) = (node for node in graph.node if node.output[0] == "features")
        value = np.array([1]) if config.version == 1 else np.array(0)
        graph.initializer.append(numpy_helper.from_array(value, "pooled"))
        given = [node.input[0], "pooled"], ["features"]
        other = (
            onnx.helper.make_node("ReduceMean", *given, keepdims=0)
            if config.version == 1
            else onnx.helper.make_node("Gather", *given, axis=1)
        )
        node.CopyFrom(other)

    yield Fault("wrong pooling", "features", layers=pool_layers, graph=pool_nodes)
    if not config.linear:
        return
    grids = stage_grids(config, info.numerics, config.image_size)
    for stage, (H, W) in enumerate(grids, start=1):
        for block in range(config.depths[stage - 1]):
            yield sampled_keys(f"block{stage}.{block}.attn", H, W)


def sampled_keys(name: str, H: int, W: int) -> Fault:
    """Yields linear attention whose keys are of each cell's first pixel, not of its mean."""
    rows, columns = (np.arange(POOL_SIZE) * size // POOL_SIZE for size in (H, W))

    def sample_tokens(model: Any) -> None:
        attention = layer(model, name)
        reduce, tokens = attention.reduce, (rows[:, None] * W + columns).reshape(-1).tolist()
        attention.reduce = lambda x, H, W: reduce(x[:, tokens], POOL_SIZE, POOL_SIZE)

    def sample_nodes(graph: onnx.GraphProto) -> None:
        by_output = {node.output[0]: node for node in graph.node}
        for pooled, operand, picked, size in (
            (f"{name}.pool/columns", 1, columns, W),
            (f"{name}.pool", 0, rows, H),
        ):
            matrix = (np.arange(size) == picked[:, None]).astype(np.float32)
            matrix = np.ascontiguousarray(matrix.T if operand else matrix)
            by_output[pooled].input[operand] = f"{pooled}/picked"
            graph.initializer.append(numpy_helper.from_array(matrix, f"{pooled}/picked"))

    return Fault("wrong pooling", name, layers=sample_tokens, graph=sample_nodes)


def nearest_positions() -> Fault:
    """Yields position embeddings resized to the nearest one, not between them."""

    def layers(model: Any) -> None:
        def resized(pos_embed: Any, stage: int, H: int, W: int) -> Any:
            rows, columns = model.config.pos_embed_grid(stage)
            picked = (np.arange(H) * rows // H)[:, None] * columns + np.arange(W) * columns // W
            return pos_embed[:, picked.reshape(-1).tolist()]

        model.resized_pos_embed = resized

    def graph(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Resize" and attribute.name == "mode":
                    attribute.s = b"nearest"

    return Fault("resize rule: nearest", "pos_embed", layers=layers, graph=graph)
