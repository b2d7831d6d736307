"""The tensors of a PVT, by name, in order.

Canonical names are the state-dict names of whai362/PVT.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from pvt_spec.config import NUM_STAGES, PVTConfig
from pvt_spec.errors import ConfigError

if TYPE_CHECKING:
    from pvt_spec.arrays import Array

DEPTHWISE = "mlp.dwconv.dwconv"
"""The layer that is v2's depthwise convolution: the one with a group for each channel."""


class TensorSpec(NamedTuple):
    """One tensor of a model.

    Attributes:
        name: Canonical name, ``block1.0.norm1.weight``.
        shape: Its dimensions, in PyTorch's layout: linear (out, in), convolution
            (out, in / groups, kernel, kernel).
        kind: ``"pos_embed"``, ``"cls_token"``, ``"conv"``, ``"norm"`` or ``"linear"``: the layer
            it belongs to.
        layer: The name of that layer within its block, stage or model, without their numbers:
            ``norm1``, ``attn.q``, ``patch_embed.proj``, ``pos_embed``, ``norm``, ``head``.
        part: ``"weight"``, ``"bias"``, or empty where the layer is this tensor alone.
        stage: The number (0…3) of its stage; None for the head and v1's final norm.
        block: The number of its block in the stage; None outside blocks.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    layer: str
    part: str = ""
    stage: int | None = None
    block: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def module(self) -> str:
        """Canonical name of the layer, ``block1.0.norm1``."""
        return self.name.removesuffix(f".{self.part}")


def tensor_specs(config: PVTConfig) -> list[TensorSpec]:
    """Returns every tensor of the model, in the order of whai362/PVT's state dict.

    With ``features_only`` v1's ``pos_embed4`` has the rows of its grid alone; whai362/PVT
    ``detection/pvt.py`` keeps the class token's row before them and never uses it.
    """
    return list(_tensors(config))


def _tensors(config: PVTConfig) -> Iterator[TensorSpec]:
    dim, last = config.embed_dims[-1], NUM_STAGES - 1
    whole = config.version == 1 and not config.features_only
    if config.version == 1:
        yield from _pos_embeds(config)
    if whole:
        yield TensorSpec("cls_token", (1, 1, dim), "cls_token", "cls_token", stage=last)
    for stage in range(NUM_STAGES):
        yield from _patch_embed(config, stage)
        yield from _blocks(config, stage)
        if config.version == 2:
            shape = (config.embed_dims[stage],)
            yield from _layer(f"norm{stage + 1}", "norm", shape, "norm", stage)
    if whole:
        yield from _layer("norm", "norm", (dim,), "norm")
    if config.num_classes:
        yield from _layer("head", "linear", (config.num_classes, dim), "head")


def _layer(
    module: str,
    kind: str,
    shape: tuple[int, ...],
    layer: str,
    stage: int | None = None,
    block: int | None = None,
) -> Iterator[TensorSpec]:
    """Returns the weight, of that shape, and the bias of a layer."""
    yield TensorSpec(f"{module}.weight", shape, kind, layer, "weight", stage, block)
    yield TensorSpec(f"{module}.bias", shape[:1], kind, layer, "bias", stage, block)


def _pos_embeds(config: PVTConfig) -> Iterator[TensorSpec]:
    for stage, dim in enumerate(config.embed_dims):
        H, W = config.pos_embed_grid(stage)
        shape = (1, H * W + config.has_class_token(stage), dim)
        yield TensorSpec(f"pos_embed{stage + 1}", shape, "pos_embed", "pos_embed", stage=stage)


def _patch_embed(config: PVTConfig, stage: int) -> Iterator[TensorSpec]:
    module, dim = f"patch_embed{stage + 1}", config.embed_dims[stage]
    in_chans = config.embed_dims[stage - 1] if stage else config.in_chans
    shape = (dim, in_chans, *[config.patch_kernel(stage)] * 2)
    yield from _layer(f"{module}.proj", "conv", shape, "patch_embed.proj", stage)
    yield from _layer(f"{module}.norm", "norm", (dim,), "patch_embed.norm", stage)


def _blocks(config: PVTConfig, stage: int) -> Iterator[TensorSpec]:
    for block in range(config.depths[stage]):
        for layer, kind, shape in _block_layers(config, stage):
            module = f"block{stage + 1}.{block}.{layer}"
            yield from _layer(module, kind, shape, layer, stage, block)


def _block_layers(config: PVTConfig, stage: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Returns the name, kind and shape of every layer of a block."""
    dim = config.embed_dims[stage]
    hidden = dim * config.mlp_ratios[stage]
    kernel = 1 if config.linear else config.sr_ratios[stage]
    yield "norm1", "norm", (dim,)
    yield "attn.q", "linear", (dim, dim)
    yield "attn.kv", "linear", (2 * dim, dim)
    yield "attn.proj", "linear", (dim, dim)
    if config.reduces(stage):
        yield "attn.sr", "conv", (dim, dim, kernel, kernel)
        yield "attn.norm", "norm", (dim,)
    yield "norm2", "norm", (dim,)
    yield "mlp.fc1", "linear", (hidden, dim)
    if config.version == 2:
        yield DEPTHWISE, "conv", (hidden, 1, 3, 3)
    yield "mlp.fc2", "linear", (dim, hidden)


def without_kernel_axes(
    weights: "Mapping[str, Array]", specs: Iterable[TensorSpec]
) -> "dict[str, Array]":
    """Returns the weights, those of linear layers that are written as 1x1 convolutions as matrices.

    Args:
        weights: Tensors by name.
        specs: What they are to be; others stay as they are.
    """
    matrices = {
        spec.name: weights[spec.name].reshape(spec.shape)
        for spec in specs
        if spec.name in weights and weights[spec.name].shape == (*spec.shape, 1, 1)
    }
    return {name: matrices.get(name, array) for name, array in weights.items()}


def check_shapes(config: PVTConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses tensors that are not exactly the configuration's.

    Args:
        config: The architecture.
        shapes: The tensors' shapes by canonical name.

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
        raise ConfigError("\n  ".join(["weights do not fit:", *sorted(wrong)]))


def check_weights(config: PVTConfig, weights: "Mapping[str, Array]") -> None:
    """Refuses arrays that are not exactly the configuration's, or hold no real numbers.

    Args:
        config: The architecture.
        weights: The arrays by canonical name.

    Raises:
        ConfigError: They are not; all that differ are named.
    """
    check_shapes(config, {name: array.shape for name, array in weights.items()})
    wrong = [
        f"{name} is of {array.dtype}, expected real numbers"
        for name, array in weights.items()
        if getattr(array.dtype, "kind", "f") not in "fiu" and array.dtype.name != "bfloat16"
    ]
    if wrong:
        raise ConfigError("\n  ".join(["weights do not fit:", *sorted(wrong)]))
