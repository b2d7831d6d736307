"""What a PVT is, as data.

``config`` (variants), ``numerics`` (profiles), ``tensors``, ``taps``, ``model_info`` and ``errors``
are exported here; import the other modules by name.
"""

from pvt_spec.config import (
    MIN_IMAGE_SIDE,
    NUM_STAGES,
    PATCH_STRIDES,
    POOL_SIZE,
    VARIANTS,
    PVTConfig,
    list_models,
    make_config,
    variant_name,
)
from pvt_spec.errors import ConfigError, FileExists, ImageError, PvtError
from pvt_spec.model_info import (
    CROP_PCT,
    IMAGENET_MEAN,
    IMAGENET_STD,
    METADATA_KEY,
    ModelInfo,
    Preprocessing,
    default_preprocessing,
)
from pvt_spec.numerics import (
    CHOICES,
    EPSILONS,
    PROFILES,
    Numerics,
    describe_numerics,
    profile_numerics,
    same_padding,
    stage_grids,
    symmetric_padding,
)
from pvt_spec.taps import TapSpec, output_names, tap_names, tap_specs
from pvt_spec.tensors import TensorSpec, check_shapes, tensor_specs

__all__ = [
    "CHOICES",
    "CROP_PCT",
    "EPSILONS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "METADATA_KEY",
    "MIN_IMAGE_SIDE",
    "NUM_STAGES",
    "PATCH_STRIDES",
    "POOL_SIZE",
    "PROFILES",
    "VARIANTS",
    "ConfigError",
    "FileExists",
    "ImageError",
    "ModelInfo",
    "Numerics",
    "PVTConfig",
    "Preprocessing",
    "PvtError",
    "TapSpec",
    "TensorSpec",
    "check_shapes",
    "default_preprocessing",
    "describe_numerics",
    "list_models",
    "make_config",
    "output_names",
    "profile_numerics",
    "same_padding",
    "stage_grids",
    "symmetric_padding",
    "tap_names",
    "tap_specs",
    "tensor_specs",
    "variant_name",
]
