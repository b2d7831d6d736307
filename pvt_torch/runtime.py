"""Running any model file in PyTorch."""

from pathlib import Path

import numpy as np
import torch

from convert import load_model
from pvt_data.accuracy import Forward
from pvt_spec import ModelInfo, output_names
from pvt_torch.weights import model_from_weights


def load_forward(path: Path) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: Any format and dialect that ``convert`` reads.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.output_names`; the model's description.

    Raises:
        ConvertError: The file cannot be used.
    """
    weights, info = load_model(path)
    model = model_from_weights(info.config, info.numerics, weights)
    names = output_names(info.config)

    def forward(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return forward, info
