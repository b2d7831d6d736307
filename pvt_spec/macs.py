"""How much a model computes: its matrix products, of which convolutions are some."""

from collections.abc import Iterator
from typing import NamedTuple

from pvt_spec.config import NUM_STAGES, PVTConfig
from pvt_spec.numerics import Numerics, reduced_tokens, stage_grids
from pvt_spec.tensors import DEPTHWISE, TensorSpec, tensor_specs


class Product(NamedTuple):
    """Products of a (rows, inner) and an (inner, columns) matrix, for one image.

    Attributes:
        layer: Canonical name of the layer, or of the attention with ``.qk`` or ``.heads``.
        kind: ``"linear"``, ``"conv"``, ``"depthwise"``, or ``"attention"``, where both matrices are
            results.
        times: How many there are: the heads of attention, the groups of a convolution.
        rows: Tokens, or the pixels of a convolution's answer.
        inner: The sum's length; of a convolution the input channels times the kernel's area.
        columns: Output channels, or tokens that are attended to.
    """

    layer: str
    kind: str
    times: int
    rows: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiplications with their additions."""
        return self.times * self.rows * self.inner * self.columns


def list_products(
    config: PVTConfig, numerics: Numerics, image_size: tuple[int, int]
) -> list[Product]:
    """Returns every matrix product and convolution of one image's forward pass, in forward order.

    Pooling, norms, activations, softmax and sums are not among them, as is usual.

    Args:
        config: The architecture.
        numerics: The maths, whose padding decides how large maps are.
        image_size: (H, W) in pixels.
    """
    grids = stage_grids(config, numerics, image_size)
    layers = [spec for spec in tensor_specs(config) if spec.part == "weight"]
    products: list[Product] = []
    for stage in range(NUM_STAGES):
        tokens = grids[stage][0] * grids[stage][1] + config.has_class_token(stage)
        reduced = tokens
        if config.reduces(stage):
            reduced = reduced_tokens(config, numerics, stage, grids[stage])
        rows = {"patch_embed.proj": grids[stage][0] * grids[stage][1]}
        rows |= {"attn.sr": reduced, "attn.kv": reduced}
        for spec in (spec for spec in layers if spec.stage == stage and spec.kind != "norm"):
            products.append(_of_layer(spec, rows.get(spec.layer, tokens)))
            if spec.layer == "attn.kv":
                products += _attention(config, spec, tokens, reduced)
    return [*products, *(_of_layer(spec, 1) for spec in layers if spec.layer == "head")]


def count_macs(config: PVTConfig, numerics: Numerics, image_size: tuple[int, int]) -> int:
    """Returns the multiply-accumulates of one image: those of :func:`list_products` together."""
    return sum(product.macs for product in list_products(config, numerics, image_size))


def largest_result(config: PVTConfig, numerics: Numerics, image_size: tuple[int, int]) -> int:
    """Returns how many numbers the largest of the products' results has, for one image."""
    products = list_products(config, numerics, image_size)
    return max(product.times * product.rows * product.columns for product in products)


def _of_layer(spec: TensorSpec, rows: int) -> Product:
    columns, inner = spec.shape[0], spec.size // spec.shape[0]
    if spec.layer == DEPTHWISE:
        return Product(spec.module, "depthwise", columns, rows, inner, 1)
    return Product(spec.module, spec.kind, 1, rows, inner, columns)


def _attention(config: PVTConfig, kv: TensorSpec, tokens: int, attended: int) -> Iterator[Product]:
    """Yields queries times keys, and what softmax makes of it times values."""
    assert kv.stage is not None
    heads = config.num_heads[kv.stage]
    head_dim = config.embed_dims[kv.stage] // heads
    attention = kv.module.removesuffix(".kv")
    yield Product(f"{attention}.qk", "attention", heads, tokens, head_dim, attended)
    yield Product(f"{attention}.heads", "attention", heads, tokens, attended, head_dim)
