"""What the kernels of elementary functions err by, as a function of the argument.

    python -m benchmarks.kernels [--runtime mindspore] [--json FILE]

Each runtime computes softmax, both GELUs, a layer norm and a product of matrices as the twins call
them. A row is a function over a range of arguments: the largest error in units of 2**-24, relative
to the exact result (of GELU to the argument, at least 1). The largest of a function is what
:mod:`pvt_spec.kernels` has; instruction sets are chosen by the frameworks' own switches
(``ATEN_CPU_CAPABILITY=default|avx2|avx512``, ``ONEDNN_MAX_CPU_ISA=SSE41|AVX2|DEFAULT``).
"""

import argparse
import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.processes import add_json_option, report
from pvt_spec.kernels import UNIT

Array = np.ndarray
Functions = Mapping[str, Callable[..., Array]]
"""``softmax(x)``, ``erf(x)`` and ``tanh(x)`` (GELUs), ``norm(x, eps)``, ``matmul(x, y)``; of what
trains, ``log(x)``, a log-softmax, ``loss(x, targets)``, the gradient of its cross-entropy, and
``bias(y)``, that of a linear layer's bias when its answer's is ``y``."""

EXP_EDGES = (0, 1, 3, 5, 10, 20, 40, 64)
GELU_EDGES = (-8, -4, -2, -0.5, 0.5, 2, 4, 8)
MEANS = (0, 1, 10, 100)
"""Of a layer norm's input, in standard deviations."""

LENGTHS = (64, 1024)
"""Terms of a sum of products."""

CLASSES = (10, 100, 1000)
"""Of a loss."""

TOKENS = 12544
"""Terms of the gradient of a bias: those of stage 1 of four images."""


def mindspore_functions() -> Functions:
    """Returns MindSpore's, as ``pvt_ms.model`` calls them."""
    from pvt_ms import create_model as _  # noqa: F401  which prepares the environment

    # isort: split
    from mindspore import Tensor, grad, ops, value_and_grad

    from pvt_ms.layers import gelu, layer_norm, linear

    def norm(x: Array, eps: float) -> Array:
        return layer_norm(x.shape[-1], eps)(Tensor(x)).asnumpy()

    def loss(x: Array, targets: Array) -> Array:
        def of(x: Tensor) -> Tensor:
            return -(Tensor(targets) * ops.log_softmax(x, axis=-1)).sum()

        return grad(of)(Tensor(x)).asnumpy()

    def bias(y: Array) -> Array:
        layer, ones = linear(1, y.shape[1]), Tensor(np.ones((len(y), 1), np.float32))
        of = value_and_grad(lambda: (layer(ones) * Tensor(y)).sum(), None, [layer.bias])
        return of()[1][0].asnumpy()

    return {
        "softmax": lambda x: ops.softmax(Tensor(x), axis=-1).asnumpy(),
        "erf": lambda x: gelu("erf")(Tensor(x)).asnumpy(),
        "tanh": lambda x: gelu("tanh")(Tensor(x)).asnumpy(),
        "norm": norm,
        "matmul": lambda x, y: ops.matmul(Tensor(x), Tensor(y)).asnumpy(),
        "log": lambda x: ops.log_softmax(Tensor(x), axis=-1).asnumpy(),
        "loss": loss,
        "bias": bias,
    }


def torch_functions() -> Functions:
    """Returns PyTorch's, as ``pvt_torch.model`` calls them."""
    import torch
    from torch.nn import functional as F

    def of(function: Any, **options: Any) -> Callable[..., Array]:
        return lambda *x: function(*map(torch.from_numpy, x), **options).numpy()

    def loss(x: Array, targets: Array) -> Array:
        given = torch.from_numpy(x).requires_grad_()
        of = F.cross_entropy(given, torch.from_numpy(targets), reduction="sum")
        return torch.autograd.grad(of, given)[0].numpy()

    def bias(y: Array) -> Array:
        layer = torch.nn.Linear(1, y.shape[1])
        answer = layer(torch.ones(len(y), 1))
        return torch.autograd.grad(answer, layer.bias, torch.from_numpy(y))[0].numpy()

    return {
        "softmax": of(torch.softmax, dim=-1),
        "erf": of(F.gelu),
        "tanh": of(F.gelu, approximate="tanh"),
        "norm": lambda x, eps: of(F.layer_norm, normalized_shape=x.shape[-1:], eps=eps)(x),
        "matmul": of(torch.matmul),
        "log": of(torch.log_softmax, dim=-1),
        "loss": loss,
        "bias": bias,
    }


Run = Callable[[bytes, Mapping[str, Array]], Array]
"""Runs a serialized ONNX model of one output."""


def run_in_onnxruntime(model: bytes, inputs: Mapping[str, Array]) -> Array:
    """Returns onnxruntime's answer."""
    import onnxruntime

    return onnxruntime.InferenceSession(model).run(None, dict(inputs))[0]


def run_in_openvino(model: bytes, inputs: Mapping[str, Array]) -> Array:
    """Returns OpenVINO's answer, as ``pvt_onnx.engines.openvino`` sets it."""
    from pvt_onnx.engines.openvino import numbers, open_core

    core = open_core()
    (answer,) = core.compile_model(core.read_model(model), "CPU", numbers("f32"))(inputs).values()
    return answer


def onnx_functions(run: Run) -> Functions:
    """Returns an engine's, by graphs of one operator."""
    from onnx import TensorProto, helper

    def of(operator: str, **attributes: Any) -> Callable[..., Array]:
        def answer(*arrays: Array) -> Array:
            given = {f"x{number}": array for number, array in enumerate(arrays)}
            node = helper.make_node(operator, [*given], ["y"], **attributes)
            inputs = [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
                for name, array in given.items()
            ]
            output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
            graph = helper.make_graph([node], "one", inputs, [output])
            opsets = [helper.make_opsetid("", 20)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
            return run(model.SerializeToString(), given)

        return answer

    def norm(x: Array, eps: float) -> Array:
        ones = np.ones(x.shape[-1], np.float32)
        return of("LayerNormalization", axis=-1, epsilon=eps)(x, ones, 0 * ones)

    return {
        "softmax": of("Softmax", axis=-1),
        "erf": of("Gelu"),
        "tanh": of("Gelu", approximate="tanh"),
        "norm": norm,
        "matmul": of("MatMul"),
    }


FUNCTIONS: dict[str, Callable[[], Functions]] = {
    "mindspore": mindspore_functions,
    "torch": torch_functions,
    "onnxruntime": partial(onnx_functions, run_in_onnxruntime),
    "openvino": partial(onnx_functions, run_in_openvino),
}


def exp_errors(softmax: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Returns arguments from 0 to -64 and the relative errors of exp there.

    exp(x) is what x gets in a softmax beside what 0 gets.
    """
    x = -np.linspace(0, 64, 63 * 256 + 1)[1:].astype(np.float32).reshape(-1, 63)
    shares = softmax(np.pad(x, ((0, 0), (1, 0)))).astype(np.float64)
    return x.ravel(), (shares[:, 1:] / shares[:, :1] / np.exp(x.astype(np.float64)) - 1).ravel()


def gelu_errors(form: str, gelu: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Returns arguments from -8 to 8 and the errors there over max(1, |x|)."""
    x = np.linspace(-8, 8, 64 * 1024).astype(np.float32).reshape(-1, 64)
    exact = x.astype(np.float64)
    if form == "tanh":
        gate = 1 + np.tanh(math.sqrt(2 / math.pi) * (exact + 0.044715 * exact**3))
    else:
        gate = np.vectorize(math.erfc)(-exact / math.sqrt(2))
    errors = (gelu(x) - exact * gate / 2) / np.maximum(1, np.abs(exact))
    return x.ravel(), errors.ravel()


def norm_errors(norm: Callable[[Array, float], Array], mean: float) -> tuple[float, float]:
    """Returns what a layer norm errs by: in scale at most, and as a root mean square.

    The scale is its square root, reciprocal and division; the latter is of the input's rounding
    where the mean is large: over that mean.
    """
    x = (mean + np.random.default_rng(0).standard_normal((1024, 64))).astype(np.float32)
    exact = x.astype(np.float64)
    centred = exact - exact.mean(-1, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)
    error = norm(x, 1e-6) - expected
    scale = np.abs((error * expected).mean(-1)).max()
    return float(scale), float(np.sqrt(np.square(error).mean())) / max(1, mean)


def sum_error(matmul: Callable[[Array, Array], Array], length: int) -> float:
    """Returns the root mean square error of sums of products over that of the sums."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s).astype(np.float32) for s in ((64, length), (length, 64)))
    exact = x.astype(np.float64) @ y.astype(np.float64)
    return float(np.sqrt(np.square(matmul(x, y) - exact).mean() / np.square(exact).mean()))


def loss_errors(
    log: Callable[[Array], Array], loss: Callable[[Array, Array], Array], classes: int
) -> tuple[float, float]:
    """Returns what a log-softmax errs by at most, and its gradient relatively.

    The first at the largest logit, where it is the logarithm of a sum alone; the second where
    targets are equal, as smoothing makes them, and another class is right.
    """
    x = np.random.default_rng(0).standard_normal((64, classes)).astype(np.float32)
    places = np.arange(64) % classes
    targets = np.full(x.shape, 0.1 / classes, np.float32)
    targets[np.arange(64), places] += np.float32(0.9)
    top = (np.arange(64), x.argmax(1))
    exact = x.astype(np.float64)
    logarithms = exact - np.log(np.exp(exact).sum(1, keepdims=True))
    expected = np.exp(logarithms) * targets.astype(np.float64).sum(1, keepdims=True) - targets
    error = loss(x, targets) - expected
    others = np.arange(classes) != places[:, None]
    scale = np.abs(expected) + targets
    return np.abs(log(x) - logarithms)[top].max(), np.abs(error / scale)[others].max()


def bias_error(bias: Callable[[Array], Array]) -> float:
    """Returns the root mean square error of sums of many terms over that of the sums."""
    y = np.random.default_rng(0).standard_normal((TOKENS, 64)).astype(np.float32)
    exact = y.astype(np.float64).sum(0)
    return float(np.sqrt(np.square(bias(y) - exact).mean() / np.square(exact).mean()))


def measure(functions: Functions) -> list[tuple[str, str, float]]:
    """Returns (function, where, largest error in units of :data:`UNIT`) for every range."""
    found = []
    x, error = exp_errors(functions["softmax"])
    for low, high in pairwise(EXP_EDGES):
        within = (x <= -low) & (x >= -high)
        found.append(("exp", f"-{high} to -{low}", np.abs(error[within]).max()))
    for form in ("erf", "tanh"):
        x, error = gelu_errors(form, functions[form])
        for low, high in pairwise(GELU_EDGES):
            within = (x >= low) & (x <= high)
            found.append((form, f"{low} to {high}", np.abs(error[within]).max()))
    for mean in MEANS:
        scale, rms = norm_errors(functions["norm"], mean)
        found.append(("variance", f"mean {mean}", rms))
        # A mean of many deviations costs digits before the kernel sees them.
        found += [("norm", f"mean {mean}", scale)] if mean < 10 else []
    for length in LENGTHS:
        found.append(("sum", f"{length} terms", sum_error(functions["matmul"], length)))
    if "loss" in functions:
        for classes in CLASSES:
            log, loss = loss_errors(functions["log"], functions["loss"], classes)
            found += [("log", f"{classes} classes", log), ("loss", f"{classes} classes", loss)]
        found.append(("bias", f"{TOKENS} terms", bias_error(functions["bias"])))
    return [(function, where, float(error) / UNIT) for function, where, error in found]


def largest(measured: list[tuple[str, str, float]]) -> dict[str, float]:
    """Returns the largest error of each function, as :mod:`pvt_spec.kernels` has it."""
    return {name: max(e for n, _, e in measured if n == name) for name, _, _ in measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", action="append", choices=FUNCTIONS)
    add_json_option(parser)
    options = parser.parse_args()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for runtime in options.runtime or FUNCTIONS:
        for function, where, error in measure(FUNCTIONS[runtime]()):
            row = found.setdefault((function, where), {"function": function, "where": where})
            row[runtime] = error
    report(list(found.values()), options.json)


if __name__ == "__main__":
    main()
