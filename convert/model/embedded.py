"""How far a graph that resizes and crops images is from Pillow, on two photos."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convert.findings import Finding
from pvt_packages import is_installed
from pvt_spec import ModelInfo


def measure_preprocessing(path: Path, info: ModelInfo) -> Iterator[Finding]:
    """Yields how far a written graph's images and answers are from those that Pillow prepares.

    Args:
        path: The file.
        info: What it says.
    """
    if not is_installed("sklearn"):
        yield Finding("preprocessing_gap", None, text="not measured: scikit-learn has the photos")
        return
    from pvt_data.sources.digits import load_photos
    from pvt_onnx.embedded import compare_with_pillow

    channels = np.arange(info.config.in_chans) % 3
    photos = [photo[:, :, channels] for photo in load_photos()]
    gap = compare_with_pillow(path, photos)
    text = (
        f"pixels at most {gap['largest_pixel']:.3g} of 255 from Pillow's, {gap['mean_pixel']:.2g} "
        f"on average; of these answers are at most {gap['largest_answer']:.2g} apart"
    )
    yield Finding("preprocessing_gap", gap, "two photos, in onnxruntime", text)
