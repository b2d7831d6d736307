"""How far a graph that resizes and crops images is from Pillow, on photos and pieces of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convert.findings import Finding
from pvt_packages import is_installed
from pvt_spec import ModelInfo
from pvt_spec.files.limits import MAX_TRIED
from pvt_spec.macs import largest_result


def measure_preprocessing(path: Path, info: ModelInfo) -> Iterator[Finding]:
    """Yields how far a written graph's images and answers are from those that Pillow prepares.

    Args:
        path: The file.
        info: What it says.
    """
    if not is_installed("sklearn"):
        yield Finding("preprocessing_gap", None, text="not measured: scikit-learn has the photos")
        return
    if largest_result(info.config, info.numerics, info.preprocessing.image_size) > MAX_TRIED:
        yield Finding("preprocessing_gap", None, text="not measured: its images are very large")
        return
    from pvt_data.sources.digits import load_photos
    from pvt_onnx.embedded import compare_with_pillow

    channels = np.arange(info.config.in_chans) % 3
    photos = [photo[:, :, channels] for photo in load_photos()]
    pieces = [photo[i : i + 8, 300:308] for photo in photos for i in (100, 200)]  # enlarged
    gap = compare_with_pillow(path, photos + pieces)
    text = (
        f"pixels at most {gap['largest_pixel']:.3g} of 255 from Pillow's, {gap['mean_pixel']:.2g} "
        f"on average; of these answers are at most {gap['largest_answer']:.2g} apart"
    )
    how = "two photos and pieces of 8 x 8 pixels, in onnxruntime"
    yield Finding("preprocessing_gap", gap, how, text)
