"""Between the PyTorch twin and ``dict[str, Array]`` under canonical names."""

from collections.abc import Mapping

import numpy as np
import torch

from convert.model.fit import load_fitting
from convert.names.wrappers import remedy
from convert.options import Given
from pvt_spec import Numerics, PVTConfig
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, as_arrays
from pvt_spec.errors import ConvertError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.initial import model_creator
from pvt_spec.tensors import check_weights
from pvt_torch.model import PyramidVisionTransformer


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
    return build_model(config, numerics, weights).eval()


@checked
def set_weights(model: PyramidVisionTransformer, weights: Mapping[str, Array]) -> None:
    """Fills every parameter of ``model`` from canonical weights.

    A parameter keeps its dtype; float16 and bfloat16 weights are widened, which is exact.

    Raises:
        ConfigError: The names, shapes or numbers are not the model's; all that differ are named.
    """
    parameters = dict(model.named_parameters())
    weights = as_arrays(weights)
    check_weights(model.config, weights)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(_native(weights[name])))


def _native(array: Array) -> Array:
    """Returns an array that torch takes: writable, contiguous, not numpy's add-on bfloat16."""
    dtype = np.float32 if array.dtype.name == "bfloat16" else array.dtype
    return np.array(array, dtype=dtype, order="C")


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
    """Returns copies of every parameter under canonical names, in their own dtypes.

    Of bfloat16, which is an add-on to numpy, they are float32, which is exact.

    Raises:
        ConvertError: Something of torch's makes the weights of others: pruning, parametrisations.
    """
    names = [name for name, _ in model.named_parameters()]
    if words := remedy(names):
        raise ConvertError(f"the model's weights are computed of others{words}")
    return {name: _array(parameter).copy() for name, parameter in model.named_parameters()}


def _array(parameter: torch.Tensor) -> Array:
    held = parameter.detach().cpu()
    return (held.float() if held.dtype == torch.bfloat16 else held).numpy()
