"""What the kernels of runtimes err by here is what the rows of ``pvt_spec.kernels`` say."""

import numpy as np
import pytest
import torch

from benchmarks.kernels import FUNCTIONS, exp_errors, largest, measure
from pvt_spec.kernels import UNIT, find_kernels
from pvt_torch.emulation import softmax

ROWS = {
    "mindspore": ("mindspore", "CPU"),
    "torch": ("torch", "CPU"),
    "onnxruntime": ("onnx", "CPU"),
    "openvino": ("onnx", "CPU by OpenVINO"),
}


@pytest.mark.parametrize("runtime", FUNCTIONS)
def test_kernels_err_here_as_their_row_says(runtime: str) -> None:
    """Half as much again is left for other versions, machines and instruction sets."""
    row, found = find_kernels(*ROWS[runtime]), largest(measure(FUNCTIONS[runtime]()))
    assert row.known and found.keys() == row.measured.keys()
    for function, error in found.items():
        assert error < 1.5 * row.measured[function], function
    if not row.exp:  # nothing but what rounding in random orders covers
        assert max(e for name, e in row.measured.items() if name != "loss") < 10


def test_mindspores_exp_is_emulated_argument_by_argument() -> None:
    kernel = find_kernels("mindspore", "CPU").exp
    assert kernel

    def emulated(x: np.ndarray) -> np.ndarray:
        return softmax(kernel, torch.from_numpy(x), -1).numpy()

    x, theirs = exp_errors(FUNCTIONS["mindspore"]()["softmax"])
    _, ours = exp_errors(emulated)
    _, exact = exp_errors(FUNCTIONS["torch"]()["softmax"])
    assert np.abs(theirs - ours).max() < 4 * UNIT
    assert np.abs(theirs - exact).max() > 200 * UNIT
    assert np.abs(theirs[x > -1]).max() > 40 * UNIT  # near 0, where a softmax has its weight, too
