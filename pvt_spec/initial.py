"""New models, the same for every framework: initial weights of a configuration and a seed.

The distributions are the official code's: linear layers, position embeddings and class token
normal with deviation 0.02 (its truncation at ±2 lies 100 deviations out), v2's convolutions
normal with variance 2 / fan-out, v1's convolutions PyTorch's default (uniform with bound
1 / sqrt(fan-in)), norms 1 and 0. Sources: whai362/PVT ``pvt.py``, ``pvt_v2.py``.
"""

from collections.abc import Callable, Iterator
from math import prod, sqrt
from typing import Any, Protocol, TypeVar

import numpy as np

from pvt_spec import (
    ConfigError,
    Numerics,
    PVTConfig,
    TensorSpec,
    make_config,
    profile_numerics,
    tensor_specs,
)
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.habits import Indices
from pvt_spec.tensors import DEPTHWISE
from pvt_spec.words import show

_DEVIATION = 0.02


class Prunable(Protocol):
    """A model that can be cut to the maps of some stages."""

    def prune_intermediate_layers(self, indices: Indices) -> Any:
        """Takes out what the maps of these stages do not need."""


Built = TypeVar("Built", bound=Prunable)


def model_creator(
    build: Callable[[PVTConfig, Numerics, dict[str, Array]], Built],
) -> Callable[..., Built]:
    """Returns a framework's ``create_model``, made of what builds a model with given weights."""

    def create_model(
        name: str,
        *,
        num_classes: int | None = None,
        features_only: bool = False,
        out_indices: Indices = None,
        in_chans: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        drop_path_rate: float | None = None,
        numerics: Numerics | str = "official",
        seed: int = 0,
    ) -> Built:
        """Returns a freshly initialised model of a named variant.

        Args:
            name: A variant; see :func:`pvt_spec.list_models`.
            num_classes: Outputs of the head; 0 for features.
            features_only: Whether it answers the maps of the four stages; ``num_classes`` is
                then 0 by itself.
            out_indices: The stages whose maps it answers, with ``features_only``; all by default.
                It has no stages after them. See :data:`pvt_spec.habits.Indices`.
            in_chans: Channels of the input image.
            image_size: Pixels, a square's side or (H, W).
            drop_path_rate: Stochastic depth of the last block.
            numerics: The maths, or a profile's name.
            seed: The seed of the initial weights, which are the same bits in every framework.

        Raises:
            ConfigError: The variant, profile or a value cannot be.
        """
        config = make_config(
            name,
            num_classes=num_classes,
            features_only=features_only,
            in_chans=in_chans,
            image_size=image_size,
            drop_path_rate=drop_path_rate,
        )
        if isinstance(numerics, str):
            numerics = profile_numerics(numerics, config.version)
        if out_indices is not None and not config.features_only:
            raise ConfigError(f"out_indices is {show(out_indices)}: give features_only=True too")
        model = build(config, numerics, initial_weights(config, seed))
        if out_indices is not None:
            model.prune_intermediate_layers(out_indices)
        return model

    # What it says of wrong arguments names it as its callers do.
    create_model.__qualname__ = create_model.__name__
    return checked(create_model)


def initial_weights(config: PVTConfig, seed: int) -> dict[str, Array]:
    """Returns freshly initialised tensors, float32, under canonical names.

    The same ``seed`` gives the same bits whatever framework trains them.
    """
    return dict(_initials(config, seed))


def initial_head(config: PVTConfig, seed: int) -> dict[str, Array]:
    """Returns the head's part of :func:`initial_weights`; nothing where there is no head."""
    return {name: array for name, array in _initials(config, seed) if name.startswith("head.")}


def _initials(config: PVTConfig, seed: int) -> Iterator[tuple[str, Array]]:
    rng = np.random.default_rng(seed)
    kernels = {s.module: s.shape for s in tensor_specs(config) if s.part == "weight"}
    for spec in tensor_specs(config):
        yield spec.name, _initial(spec, kernels.get(spec.module, ()), config.version, rng)


def _initial(
    spec: TensorSpec, kernel: tuple[int, ...], version: int, rng: np.random.Generator
) -> Array:
    """Returns one tensor, of a layer whose weight has the shape ``kernel``."""
    if spec.kind == "norm":
        return np.full(spec.shape, spec.part == "weight", np.float32)
    if spec.kind == "conv":
        return _initial_conv(spec, kernel, version, rng)
    if spec.part == "bias":
        return np.zeros(spec.shape, np.float32)
    return rng.standard_normal(spec.shape, np.float32) * np.float32(_DEVIATION)


def _initial_conv(
    spec: TensorSpec, kernel: tuple[int, ...], version: int, rng: np.random.Generator
) -> Array:
    if version == 1:
        bound = 1 / sqrt(prod(kernel[1:]))
        return rng.uniform(-bound, bound, spec.shape).astype(np.float32)
    if len(spec.shape) == 1:
        return np.zeros(spec.shape, np.float32)
    depthwise = spec.layer == DEPTHWISE
    fan_out = prod(kernel[2:]) * (1 if depthwise else kernel[0])
    return rng.standard_normal(spec.shape, np.float32) * np.float32(sqrt(2 / fan_out))
