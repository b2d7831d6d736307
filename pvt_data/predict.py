"""The most probable classes of image files, in any runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pvt_data.accuracy import Forward, batched, softmax, top_k
from pvt_data.labels import check_classes
from pvt_data.preprocessing import load_image
from pvt_spec.model_info import ModelInfo


def predict(
    forward: Forward, info: ModelInfo, paths: Sequence[Path], batch_size: int, k: int
) -> list[dict[str, Any]]:
    """Returns the ``k`` most probable classes of every image, most probable first.

    Returns:
        One record per image: ``{"image", "classes": [{"index", "label", "probability"}, …]}``,
        probabilities in [0, 1].

    Raises:
        ConfigError: The model has no classes.
        ImageError: An image cannot be used.
    """
    check_classes(info)
    rows = []
    for batch in batched(paths, batch_size):
        images = np.stack([load_image(path, info.preprocessing) for path in batch])
        logits = forward(images)["logits"]
        for path, best, row in zip(batch, top_k(logits, k), softmax(logits), strict=True):
            classes = [
                {"index": int(i), "label": info.label(i), "probability": float(row[i])}
                for i in best
            ]
            rows.append({"image": str(path), "classes": classes})
    return rows
