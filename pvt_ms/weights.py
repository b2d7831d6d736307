"""Between the MindSpore twin and ``dict[str, np.ndarray]`` under canonical names."""

import numpy as np
from mindspore import Parameter, Tensor, ops

from pvt_ms.model import PyramidVisionTransformer
from pvt_spec import (
    Numerics,
    PVTConfig,
    check_shapes,
    make_config,
    profile_numerics,
)
from pvt_spec.initial import initial_weights


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    features_only: bool = False,
    in_chans: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    drop_path_rate: float | None = None,
    numerics: Numerics | str = "official",
    seed: int = 0,
) -> PyramidVisionTransformer:
    """A freshly initialised model of a named variant.

    Args:
        name: A variant; see :func:`pvt_spec.list_models`.
        num_classes: Outputs of the head; 0 for features.
        features_only: Answer the maps of the four stages; ``num_classes`` is then 0 by itself.
        in_chans: Channels of the input image.
        image_size: Pixels, a square's side or (H, W).
        drop_path_rate: Stochastic depth of the last block.
        numerics: The maths, or a profile's name.
        seed: Of the initial weights, which ``pvt_torch.create_model`` shares bit for bit.

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
    model = PyramidVisionTransformer(config, numerics)
    set_weights(model, initial_weights(config, seed))
    return model


def model_from_weights(
    config: PVTConfig, numerics: Numerics, weights: dict[str, np.ndarray]
) -> PyramidVisionTransformer:
    """A model with the given weights, in evaluation mode.

    Raises:
        ConfigError: The names or shapes are not the model's; all that differ are named.
    """
    model = PyramidVisionTransformer(config, numerics)
    set_weights(model, weights)
    return model.set_train(False)


def canonical_parameters(model: PyramidVisionTransformer) -> dict[str, Parameter]:
    """The model's parameters under canonical names: a norm's gamma is its weight, beta its bias."""
    renamed = {"gamma": "weight", "beta": "bias"}
    parameters = {}
    for name, parameter in model.parameters_and_names():
        layer, dot, part = name.rpartition(".")
        parameters[layer + dot + renamed.get(part, part)] = parameter
    return parameters


def set_weights(model: PyramidVisionTransformer, weights: dict[str, np.ndarray]) -> None:
    """Fills every parameter of ``model`` from canonical weights.

    A parameter keeps its dtype; float16 and bfloat16 weights are widened, which is exact.

    Raises:
        ConfigError: The names or shapes are not the model's; all that differ are named.
    """
    parameters = canonical_parameters(model)
    check_shapes(model.config, {name: array.shape for name, array in weights.items()})
    for name, parameter in parameters.items():
        dtype = "float16" if parameter.dtype.__str__() == "Float16" else "float32"
        # Not by set_data: it gives the parameter other memory, and what is compiled keeps the old.
        ops.assign(parameter, Tensor(np.array(weights[name], dtype=dtype, order="C")))


def get_weights(model: PyramidVisionTransformer) -> dict[str, np.ndarray]:
    """Copies of every parameter under canonical names, in their own dtypes."""
    return {name: p.asnumpy().copy() for name, p in canonical_parameters(model).items()}
