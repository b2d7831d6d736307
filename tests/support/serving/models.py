"""Small models to be served, pictures for them, and the bytes of requests."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from convert import save_model
from convert.options import OnnxOptions
from pvt_spec import Preprocessing
from tests.support.models import SMALL, info_of, random_weights

LABELS = ("ant", "bee", "cat", "dog")


def save(path: Path, *, labels=LABELS, size=(32, 32), config=SMALL["v2"], onnx=None, **changes):
    """Writes a small model of four classes."""
    config = dataclasses.replace(config, **{"num_classes": 4, "image_size": size, **changes})
    preprocessing = Preprocessing(size, 0.9, (0.4,) * config.in_chans, (0.2,) * config.in_chans)
    info = dataclasses.replace(info_of(config, "official", *labels), preprocessing=preprocessing)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, random_weights(config), info, onnx=onnx or OnnxOptions())
    return path


def picture(seed: int = 0, size=(40, 50), form: str = "PNG") -> bytes:
    """The bytes of an image of noise."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()
