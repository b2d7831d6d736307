"""The tensors of a PVT and its intermediate results, by name, in order.

Canonical names are the state-dict names of whai362/PVT.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from pvt_spec.config import NUM_STAGES, PVTConfig
from pvt_spec.errors import ConfigError


class TensorSpec(NamedTuple):
    """One tensor of a model.

    Attributes:
        name: Canonical name, ``block1.0.norm1.weight``.
        shape: Its dimensions, in PyTorch's layout: linear (out, in), convolution
            (out, in / groups, kernel, kernel).
        kind: ``"pos_embed"``, ``"cls_token"``, ``"conv"``, ``"norm"`` or ``"linear"``: the layer
            it belongs to.
    """

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def tensor_specs(config: PVTConfig) -> list[TensorSpec]:
    """Every tensor of the model, in the order of whai362/PVT's state dict.

    With ``features_only`` v1's ``pos_embed4`` has the rows of its grid alone; whai362/PVT
    ``detection/pvt.py`` keeps the class token's row before them and never uses it.
    """
    return list(_v1(config) if config.version == 1 else _v2(config))


def _layer(name: str, kind: str, *weight_shape: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", weight_shape, kind)
    yield TensorSpec(f"{name}.bias", weight_shape[:1], kind)


def _v1(config: PVTConfig) -> Iterator[TensorSpec]:
    for stage, dim in enumerate(config.embed_dims):
        H, W = config.pos_embed_grid(stage)
        tokens = H * W + config.has_class_token(stage)
        yield TensorSpec(f"pos_embed{stage + 1}", (1, tokens, dim), "pos_embed")
    if not config.features_only:
        yield TensorSpec("cls_token", (1, 1, config.embed_dims[-1]), "cls_token")
    for stage in range(len(config.embed_dims)):
        yield from _patch_embed(config, stage)
        yield from _blocks(config, stage)
    if not config.features_only:
        yield from _layer("norm", "norm", config.embed_dims[-1])
    yield from _head(config)


def _v2(config: PVTConfig) -> Iterator[TensorSpec]:
    for stage, dim in enumerate(config.embed_dims):
        yield from _patch_embed(config, stage)
        yield from _blocks(config, stage)
        yield from _layer(f"norm{stage + 1}", "norm", dim)
    yield from _head(config)


def _patch_embed(config: PVTConfig, stage: int) -> Iterator[TensorSpec]:
    name, dim, kernel = (
        f"patch_embed{stage + 1}",
        config.embed_dims[stage],
        config.patch_kernel(stage),
    )
    in_chans = config.embed_dims[stage - 1] if stage else config.in_chans
    yield from _layer(f"{name}.proj", "conv", dim, in_chans, kernel, kernel)
    yield from _layer(f"{name}.norm", "norm", dim)


def _blocks(config: PVTConfig, stage: int) -> Iterator[TensorSpec]:
    dim = config.embed_dims[stage]
    hidden = dim * config.mlp_ratios[stage]
    kernel = 1 if config.linear else config.sr_ratios[stage]
    for block in range(config.depths[stage]):
        name = f"block{stage + 1}.{block}"
        yield from _layer(f"{name}.norm1", "norm", dim)
        yield from _layer(f"{name}.attn.q", "linear", dim, dim)
        yield from _layer(f"{name}.attn.kv", "linear", 2 * dim, dim)
        yield from _layer(f"{name}.attn.proj", "linear", dim, dim)
        if config.reduces(stage):
            yield from _layer(f"{name}.attn.sr", "conv", dim, dim, kernel, kernel)
            yield from _layer(f"{name}.attn.norm", "norm", dim)
        yield from _layer(f"{name}.norm2", "norm", dim)
        yield from _layer(f"{name}.mlp.fc1", "linear", hidden, dim)
        if config.version == 2:
            yield from _layer(f"{name}.mlp.dwconv.dwconv", "conv", hidden, 1, 3, 3)
        yield from _layer(f"{name}.mlp.fc2", "linear", dim, hidden)


def _head(config: PVTConfig) -> Iterator[TensorSpec]:
    if config.num_classes:
        yield from _layer("head", "linear", config.num_classes, config.embed_dims[-1])


def check_shapes(config: PVTConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Holds if these are exactly the configuration's tensors.

    Args:
        config: The architecture.
        shapes: By canonical name.

    Raises:
        ConfigError: They are not; all that differ are named.
    """
    expected = {spec.name: spec.shape for spec in tensor_specs(config)}
    wrong = [f"{name} is missing" for name in expected.keys() - shapes.keys()]
    wrong += [f"{name} is unknown" for name in shapes.keys() - expected.keys()]
    wrong += [
        f"{name} is {shapes[name]}, expected {expected[name]}"
        for name in expected.keys() & shapes.keys()
        if shapes[name] != expected[name]
    ]
    if wrong:
        raise ConfigError("weights do not fit: " + "; ".join(sorted(wrong)))


def tap_names(config: PVTConfig) -> list[str]:
    """The intermediate results that every twin exposes, in forward order.

    With N = H * W the tokens of the stage (one more where the class token stands before them, see
    :meth:`PVTConfig.has_class_token`) and C its channels:

    - ``patch_embed{i}`` (B, N, C): after the patch embedding's norm.
    - ``embed{i}`` (B, N, C), v1: with the position embedding (and class token) added.
    - ``block{i}.{j}.attn``, ``block{i}.{j}.mlp`` (B, N, C): the branch, before it is added.
    - ``block{i}.{j}`` (B, N, C): the block's output.
    - ``norm`` (v1, not with ``features_only``), ``norm{i}`` (v2) (B, N, C).
    - ``stage{i}`` (B, C, H, W), with ``features_only``: the stage's map, in v2 after its norm.
    - ``features`` (B, C), without ``features_only``: v1's class token, v2's mean over tokens.
    - ``logits`` (B, num_classes), if there is a head.
    """
    names = []
    for stage, depth in enumerate(config.depths, start=1):
        names.append(f"patch_embed{stage}")
        if config.version == 1:
            names.append(f"embed{stage}")
        for block in range(depth):
            name = f"block{stage}.{block}"
            names += [f"{name}.attn", f"{name}.mlp", name]
        if config.version == 2:
            names.append(f"norm{stage}")
        if config.features_only:
            names.append(f"stage{stage}")
    if config.features_only:
        return names
    if config.version == 1:
        names.append("norm")
    names.append("features")
    if config.num_classes:
        names.append("logits")
    return names


def output_names(config: PVTConfig) -> tuple[str, ...]:
    """The taps that the model answers with, in this order.

    ``logits``, without a head ``features``, with ``features_only`` ``stage1`` to ``stage4``.
    """
    if config.features_only:
        return tuple(f"stage{stage}" for stage in range(1, NUM_STAGES + 1))
    return ("logits",) if config.num_classes else ("features",)
