"""What Ascend's converter is given beside a graph: the preprocessing that it does, and its line.

AIPP takes uint8 images of the model's own size and computes (pixel - mean_chn - min_chn) *
var_reci_chn for each channel, with an integer mean_chn and float16 for the others (CANN's guide of
atc, "Normalization Configuration" and "Configuration File Template").
"""

import math
from pathlib import Path

from pvt_spec import ModelInfo

_FORMATS = {1: "YUV400_U8", 3: "RGB888_U8"}
"""The format of AIPP's images, by their channels."""

_TEMPLATE = """\
# Static AIPP for {model}, made from its description: atc --insert_op_conf={name}
# The images are to be {format}, {height} rows of {width} pixels, resized and cropped before:
# {resizing}
aipp_op {{
  aipp_mode: static
  related_input_rank: 0
  input_format: {format}
  src_image_size_w: {width}
  src_image_size_h: {height}
  crop: false
  csc_switch: false
  rbuv_swap_switch: false
{channels}}}
"""

_CHANNEL = """\
  mean_chn_{channel}: {whole}
  min_chn_{channel}: {rest:.7g}
  var_reci_chn_{channel}: {factor:.9g}
"""


def aipp_file(model: Path) -> Path:
    """Returns the file of a model's AIPP configuration, ``NAME.aipp.cfg`` beside it."""
    return model.with_suffix(".aipp.cfg")


def aipp_config(model: Path, info: ModelInfo) -> str | None:
    """Returns the configuration by which AIPP normalises what a model takes.

    None where it cannot: images of other than one or three channels.
    """
    kept = info.preprocessing
    if info.config.in_chans not in _FORMATS:
        return None
    height, width = kept.image_size
    channels = ""
    for channel, (mean, std) in enumerate(zip(kept.mean, kept.std, strict=True)):
        # float16 keeps three digits of a mean of 123.675, but more of its fraction.
        whole, rest, factor = 0, 0.0, kept.rescale
        if kept.normalise:
            shift = mean / kept.rescale
            whole = min(max(math.floor(shift), 0), 255)
            rest, factor = shift - whole, kept.rescale / std
        channels += _CHANNEL.format(channel=channel, whole=whole, rest=rest, factor=factor)
    return _TEMPLATE.format(
        model=model.name,
        name=aipp_file(model).name,
        format=_FORMATS[info.config.in_chans],
        height=height,
        width=width,
        resizing=f"resize {kept.resize}, {kept.interpolation}, crop {kept.crop_mode} of "
        f"{kept.crop_pct:g}",
        channels=channels,
    )


def atc_commands(model: Path, info: ModelInfo) -> list[str]:
    """Returns lines that make an offline model: of one image at a time, and of several.

    What they name as ``SOC`` is the processor, which ``npu-smi info`` says.
    """
    size = "{},{},{}".format(info.config.in_chans, *info.preprocessing.image_size)
    line = (
        f"atc --framework=5 --model={model.name} --output={model.stem} --input_format=NCHW "
        # Otherwise everything is computed in float16, norms and softmax too.
        "--precision_mode=allow_fp32_to_fp16 --soc_version=SOC"
    )
    if aipp_config(model, info):
        line += f" --insert_op_conf={aipp_file(model).name}"
    several = f'{line} --input_shape="images:-1,{size}" --dynamic_batch_size="1,2,4,8"'
    return [f'{line} --input_shape="images:1,{size}"', several]
