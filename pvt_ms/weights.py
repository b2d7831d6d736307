"""Between the MindSpore twin and ``dict[str, Array]`` under canonical names."""

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor, ops

from convert.model.fit import load_fitting
from convert.options import Given
from pvt_ms.model import PyramidVisionTransformer
from pvt_spec import Numerics, PVTConfig
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, as_arrays
from pvt_spec.files.replacing import AnyPath
from pvt_spec.initial import model_creator
from pvt_spec.tensors import check_weights


def build_model(
    config: PVTConfig, numerics: Numerics, weights: Mapping[str, Array]
) -> PyramidVisionTransformer:
    """Returns a model with the given weights, in the framework's own initial mode.

    Raises:
        ConfigError: The names, shapes or numbers are not the model's; all that differ are named.
    """
    model = PyramidVisionTransformer(config, numerics)
    set_weights(model, weights)
    return model


create_model = model_creator(build_model)


@checked
def model_from_weights(
    config: PVTConfig, numerics: Numerics, weights: Mapping[str, Array]
) -> PyramidVisionTransformer:
    """Returns a model with the given weights, in evaluation mode.

    Raises:
        ConfigError: The names, shapes or numbers are not the model's; all that differ are named.
    """
    return build_model(config, numerics, weights).set_train(False)


def canonical_parameters(model: PyramidVisionTransformer) -> dict[str, Parameter]:
    """Returns the parameters under canonical names: a norm's gamma is its weight, beta its bias."""
    renamed = {"gamma": "weight", "beta": "bias"}
    parameters = {}
    for name, parameter in model.parameters_and_names():
        layer, dot, part = name.rpartition(".")
        parameters[layer + dot + renamed.get(part, part)] = parameter
    return parameters


@checked
def set_weights(model: PyramidVisionTransformer, weights: Mapping[str, Array]) -> None:
    """Fills every parameter of ``model`` from canonical weights.

    A parameter keeps its dtype; float16 and bfloat16 weights are widened, which is exact.

    Raises:
        ConfigError: The names, shapes or numbers are not the model's; all that differ are named.
    """
    parameters = canonical_parameters(model)
    weights = as_arrays(weights)
    check_weights(model.config, weights)
    for name, parameter in parameters.items():
        dtype = "float16" if parameter.dtype.__str__() == "Float16" else "float32"
        # Not by set_data: it gives the parameter other memory, and what is compiled keeps the old.
        ops.assign(parameter, Tensor(np.array(weights[name], dtype=dtype, order="C")))


@checked
def load_weights(
    model: PyramidVisionTransformer, path: AnyPath, given: Given = Given()
) -> list[str]:
    """Fills ``model`` from a file of any format and dialect, of the same architecture.

    The model may have another head (which stays as it is), other channels (the first filters are
    adapted as timm does it), another image size, and may answer feature maps.

    Args:
        model: The model.
        path: The file.
        given: What is to be said about the file, as to ``convert``: its prefix, averaged weights.

    Returns:
        What was done, a line each.

    Raises:
        ConvertError: The file cannot be read, or holds a model of another architecture.
    """
    weights, notes = load_fitting(path, model.config, model.numerics, get_weights(model), given)
    set_weights(model, weights)
    return notes


@checked
def get_weights(model: PyramidVisionTransformer) -> dict[str, Array]:
    """Returns copies of every parameter under canonical names, in their own dtypes."""
    return {name: p.asnumpy().copy() for name, p in canonical_parameters(model).items()}
