"""What a PVT is, as data.

``config`` (variants), ``numerics`` (profiles), ``tensors``, ``taps``, ``model_info`` and ``errors``
are exported here; import the other modules by name.
"""

from pvt_spec.config import (
    MIN_IMAGE_SIDE as MIN_IMAGE_SIDE,
    NUM_STAGES as NUM_STAGES,
    PATCH_STRIDES as PATCH_STRIDES,
    POOL_SIZE as POOL_SIZE,
    VARIANTS as VARIANTS,
    PVTConfig as PVTConfig,
    list_models as list_models,
    make_config as make_config,
    variant_name as variant_name,
)
from pvt_spec.errors import (
    ConfigError as ConfigError,
    FileExists as FileExists,
    ImageError as ImageError,
    PvtError as PvtError,
)
from pvt_spec.model_info import (
    CROP_MODES as CROP_MODES,
    CROP_PCT as CROP_PCT,
    IMAGENET_MEAN as IMAGENET_MEAN,
    IMAGENET_STD as IMAGENET_STD,
    INTERPOLATIONS as INTERPOLATIONS,
    METADATA_KEY as METADATA_KEY,
    ORIENTATIONS as ORIENTATIONS,
    RESIZES as RESIZES,
    TASKS as TASKS,
    ModelInfo as ModelInfo,
    Preprocessing as Preprocessing,
    default_preprocessing as default_preprocessing,
)
from pvt_spec.numerics import (
    CHOICES as CHOICES,
    EPSILONS as EPSILONS,
    PROFILES as PROFILES,
    Numerics as Numerics,
    describe_numerics as describe_numerics,
    profile_numerics as profile_numerics,
    reduced_tokens as reduced_tokens,
    same_padding as same_padding,
    stage_grids as stage_grids,
    symmetric_padding as symmetric_padding,
)
from pvt_spec.taps import (
    TapSpec as TapSpec,
    output_names as output_names,
    tap_names as tap_names,
    tap_specs as tap_specs,
)
from pvt_spec.tensors import (
    TensorSpec as TensorSpec,
    check_shapes as check_shapes,
    tensor_specs as tensor_specs,
    without_kernel_axes as without_kernel_axes,
)
