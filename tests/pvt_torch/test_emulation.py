"""Emulated precisions against real casts, real kernels and real runs in those precisions."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import pvt_torch
from parity.measure.envelope import (
    MOST_ORDERS,
    ORDERS,
    Envelope,
    Spread,
    Unit,
    emulated_runs,
    orders_of,
)
from parity.measure.metrics import TapError
from parity.measure.tolerance import FACTOR, FEW, allowed_times
from pvt_spec import Numerics, PVTConfig, profile_numerics, tap_names
from pvt_spec.precisions import CONTRACTIONS, OPERATION_KINDS
from pvt_torch.emulation import (
    FORMATS,
    ROUNDINGS,
    Emulation,
    EmulationError,
    emulated_taps,
    find_rounding,
    round_mantissa,
)
from tests.support.messages import naming
from tests.support.models import KINDS, MAPS, SMALL, Taps, Weights, random_images, weights_for
from tests.support.runtimes import (
    import_mindspore,
    run_float64,
    run_mindspore,
    run_onnx_static,
    run_torch,
)

Case = tuple[PVTConfig, Numerics, Weights, np.ndarray]


def case(kind: str, profile: str = "official", size: tuple[int, int] | None = None) -> Case:
    """A small model, and images of its own or another size."""
    config, numerics = KINDS[kind], profile_numerics(profile, KINDS[kind].version)
    return config, numerics, weights_for(config, numerics), random_images(config, size)


def twin(kind: str, *given: Any, **options: Any) -> tuple[Any, np.ndarray]:
    """The PyTorch model of a case, and its images."""
    *model, images = case(kind, *given, **options)
    return pvt_torch.model_from_weights(*model), images


def bit_patterns() -> np.ndarray:
    """float32 of every exponent: hand-made ties and what is next to them, then random patterns."""
    exponents = np.arange(256, dtype=np.uint32)[:, None] << 23
    mantissas = [0, 1, 0x7FFFFF]
    for bits in (7, 10, 11):
        half = 1 << (22 - bits)
        for odd in (0, 2 * half, 0x7FFFFF & -(2 * half)):
            mantissas += [odd + half - 1, odd + half, odd + half + 1]
    crafted = (exponents | np.array(mantissas, np.uint32) & 0x7FFFFF).reshape(-1)
    random = np.random.default_rng(0).integers(0, 1 << 32, 200_000, np.uint32)
    patterns = np.concatenate([crafted, crafted | 0x80000000, random])
    return patterns.astype(np.uint32).view(np.float32)


def assert_same_numbers(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, apart from which NaN a NaN is."""
    both = np.isnan(actual) & np.isnan(expected)
    assert np.array_equal(actual.view(np.uint32)[~both], expected.view(np.uint32)[~both])
    assert np.array_equal(np.isnan(actual), np.isnan(expected))


class TestRounding:
    """Bit for bit, against casts made elsewhere."""

    def test_bfloat16_is_ml_dtypes_cast(self):
        x = bit_patterns()
        with np.errstate(invalid="ignore", over="ignore"):
            expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
        assert_same_numbers(round_mantissa(torch.from_numpy(x), 7).numpy(), expected)
        assert_same_numbers(FORMATS["bf16"](torch.from_numpy(x)).numpy(), expected)

    def test_float16_is_numpys_cast(self):
        x = bit_patterns()
        with np.errstate(invalid="ignore", over="ignore"):
            expected = x.astype(np.float16).astype(np.float32)
        assert_same_numbers(FORMATS["fp16"](torch.from_numpy(x)).numpy(), expected)
        normal = (np.abs(x) >= 2.0**-14) & (np.abs(x) < 65520)
        tf32 = FORMATS["tf32"](torch.from_numpy(x[normal])).numpy()
        assert_same_numbers(tf32, expected[normal])

    @pytest.mark.parametrize(("name", "bits"), [("tf32", 10), ("hf32", 11)])
    def test_mantissa_is_numpys_rounding_of_a_scaled_fraction(self, name, bits):
        x = bit_patterns()
        x = x[np.isfinite(x) & (np.abs(x) >= np.finfo(np.float32).tiny)]
        fraction, exponent = np.frexp(x.astype(np.float64))
        expected = np.ldexp(np.rint(fraction * 2.0 ** (bits + 1)), exponent - bits - 1)
        with np.errstate(over="ignore"):
            expected = expected.astype(np.float32)
        assert_same_numbers(FORMATS[name](torch.from_numpy(x)).numpy(), expected)

    @pytest.mark.parametrize(
        ("bits", "value", "rounded"),
        [
            (11, 1 + 2**-12, 1.0),  # halfway, and 1 is even
            (11, 1 + 3 * 2**-12, 1 + 2 * 2**-11),  # halfway, and the number above is even
            (11, 1 + 2**-12 + 2**-23, 1 + 2**-11),
            (11, -(1 + 3 * 2**-12), -(1 + 2 * 2**-11)),
            (10, 2 - 2**-11, 2.0),  # the carry reaches the exponent
            (10, 2.0**-137, 0.0),  # among subnormals: halfway to 2**-136, and 0 is even
            (10, 3 * 2.0**-137, 2.0**-135),
            (10, 3.4028235e38, np.inf),
        ],
    )
    def test_hand_made(self, bits, value, rounded):
        x = torch.tensor([value], dtype=torch.float32)
        assert round_mantissa(x, bits).item() == rounded

    @given(st.floats(width=32, allow_nan=False), st.integers(1, 22))
    def test_rounding_twice_is_rounding_once_and_keeps_order(self, value, bits):
        x = torch.tensor([value, np.nextafter(np.float32(value), np.float32(np.inf))])
        once = round_mantissa(x, bits)
        assert torch.equal(round_mantissa(once, bits), once)
        assert once[0] <= once[1]

    def test_what_is_not_contiguous_and_what_it_was_made_of_stay(self):
        x = torch.randn(4, 5)
        before = x.clone()
        assert torch.equal(round_mantissa(x.T, 7), round_mantissa(x, 7).T)
        assert torch.equal(x, before)

    def test_saturation_is_what_ascend_documents(self):
        """``torch.exp([12])`` is 65504 and ``torch.sqrt([-1])`` 0 under INF_NAN_MODE_ENABLE=0."""
        x = torch.tensor([np.e**12, -1e9, np.inf, -np.inf, np.nan, 1.0])
        saturated = FORMATS["fp16-saturating"](x).tolist()
        assert saturated == [65504, -65504, 65504, -65504, 0, 1]
        assert FORMATS["fp16"](x)[:2].tolist() == [np.inf, -np.inf]


def operations() -> dict[str, Callable[[], Callable[[torch.dtype], torch.Tensor]]]:
    """By kind: one operation of it, as a function of the dtype its operands are in."""
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    x, y, image = random(64, 48), random(64, 48), random(2, 8, 14, 14)
    weight, kernel, gain = random(32, 48), random(16, 8, 3, 3), random(48)
    return {
        "conv": lambda dtype: F.conv2d(image.to(dtype), kernel.to(dtype)),
        "matmul": lambda dtype: F.linear(x.to(dtype), weight.to(dtype)),
        "norm": lambda dtype: F.layer_norm(x.to(dtype), (48,), gain.to(dtype), gain.to(dtype)),
        "softmax": lambda dtype: torch.softmax(x.to(dtype), dim=-1),
        "gelu": lambda dtype: F.gelu(x.to(dtype), approximate="tanh"),
        "add": lambda dtype: x.to(dtype) + y.to(dtype),
        "mul": lambda dtype: x.to(dtype) * 0.34375,
        "mean": lambda dtype: x.to(dtype).mean(dim=1),
        "pool": lambda dtype: F.adaptive_avg_pool2d(image.to(dtype), (7, 7)),
        "resize": lambda dtype: F.interpolate(image.to(dtype), size=(9, 20), mode="bilinear"),
    }


@pytest.mark.parametrize("kind", sorted(OPERATION_KINDS))
@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
class TestOperations:
    """One at a time, against torch's own kernels of that dtype."""

    def test_bits_are_the_kernels(self, kind, precision, dtype):
        operation = operations()[kind]
        with Emulation(ROUNDINGS[precision]):
            actual = operation(torch.float32)
        assert (actual == operation(dtype).float()).double().mean() > 0.99

    def test_a_kind_that_is_not_rounded_shows(self, kind, precision, dtype):
        full = ROUNDINGS[precision]
        for dropped in (
            dataclasses.replace(full, operands=full.operands - {kind}),
            dataclasses.replace(full, results=full.results - {kind}),
        ):
            operation = operations()[kind]
            with Emulation(dropped):
                actual = operation(torch.float32)
            assert (actual == operation(dtype).float()).double().mean() < 0.9


@pytest.mark.parametrize("name", ["linear", "conv2d", "matmul"])
@pytest.mark.parametrize(("precision", "bits"), [("tf32", 10), ("hf32", 11)])
def test_hf32_and_tf32_round_operands_alone(name, precision, bits):
    """Against float64 products of operands that numpy rounded; the bias is not."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 40, 40)).astype(np.float32)
    bias = rng.standard_normal(40).astype(np.float32)

    def rounded(a: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(a.astype(np.float64))
        return np.ldexp(np.rint(fraction * 2.0 ** (bits + 1)), exponent - bits - 1)

    calls = {
        "linear": lambda a, w, b: F.linear(a, w, b),
        "conv2d": lambda a, w, b: F.conv2d(a[..., None, None], w[..., None, None], b)[..., 0, 0],
        "matmul": lambda a, w, b: torch.matmul(a, w.T) + b,
    }
    with Emulation(ROUNDINGS[precision]):
        actual = calls[name](*map(torch.from_numpy, (x, weight, bias))).numpy()
    np.testing.assert_allclose(actual, rounded(x) @ rounded(weight).T + bias, atol=2e-5)
    assert np.abs(actual - (x.astype(np.float64) @ weight.T + bias)).max() > 2e-4
    if name != "conv2d" and precision == "hf32":
        with Emulation(ROUNDINGS["hf32-conv"]):
            plain = calls[name](*map(torch.from_numpy, (x, weight, bias)))
        assert torch.equal(plain, calls[name](*map(torch.from_numpy, (x, weight, bias))))


@pytest.mark.parametrize("kind", [*SMALL, *MAPS])
@pytest.mark.parametrize("size", [None, (96, 64)])
def test_every_tap_of_every_model_is_emulated(kind, size):
    """fp32 is the float32 twin bit for bit; the others are not, and have the contract's taps."""
    config, numerics, weights, images = case(kind, "mindcv", size)
    model = pvt_torch.model_from_weights(config, numerics, weights)
    plain = pvt_torch.run_taps(model, images)
    for name in ROUNDINGS:
        taps = emulated_taps(model, images, find_rounding(name))
        assert list(taps) == tap_names(config)
        assert all(taps[tap].dtype == np.float32 for tap in taps)
        equal = [np.array_equal(taps[tap], plain[tap]) for tap in taps]
        assert all(equal) if name == "fp32" else not any(equal)
    wide = emulated_taps(model.double(), images, find_rounding("fp32"))
    assert all(np.array_equal(wide[tap], plain[tap]) for tap in plain)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_everything_that_flows_is_of_the_format(precision, small):
    numerics = profile_numerics("mindcv", small.version)
    model = pvt_torch.model_from_weights(small, numerics, weights_for(small, numerics))
    taps = emulated_taps(model, random_images(small, (96, 64)), ROUNDINGS[precision])
    for array in taps.values():
        tensor = torch.from_numpy(array)
        assert torch.equal(FORMATS[precision](tensor), tensor)


FIRST_TAP = {
    "conv": "patch_embed1",
    "norm": "patch_embed1",
    "resize": "embed1",
    "matmul": "block1.0.attn",
    "mul": "block1.0.attn",
    "add": "block1.0",
    "mean": "features",
}
"""The first tap after an operation of the kind. Softmax, GELU and pooling are not here: in a PVT a
product or a convolution takes what they answer, and rounds it again."""

ABSENT = {("v1", "mean"), ("v2", "resize"), ("linear", "resize")}


@pytest.mark.parametrize("kind", sorted(OPERATION_KINDS))
@pytest.mark.parametrize("model_kind", SMALL)
def test_dropping_one_kind_shows_first_where_it_is_used(model_kind, kind):
    model, images = twin(model_kind, size=(96, 64))
    full = ROUNDINGS["bf16"]
    dropped = dataclasses.replace(
        full, operands=full.operands - {kind}, results=full.results - {kind}
    )
    whole, part = (emulated_taps(model, images, p) for p in (full, dropped))
    first = next((tap for tap in whole if not np.array_equal(whole[tap], part[tap])), None)
    if (model_kind, kind) == ("v1", "add"):
        assert first == "embed1"
    else:
        assert first == (None if (model_kind, kind) in ABSENT else FIRST_TAP.get(kind))


def predict(
    model: Any, precision: str, images: Any, expected: Taps, seed: int = 0, group: str = "images"
) -> Envelope:
    """What a precision does to every tap, over one batch."""
    envelope = Envelope(list(expected))
    for actual in emulated_runs(model, images, precision, seed):
        envelope.add(group, actual, expected)
    return envelope


def measured(actual: np.ndarray, expected: np.ndarray) -> TapError:
    error = TapError()
    error.add(actual, expected)
    return error


def test_saturation_keeps_a_model_finite_that_overflows():
    config, numerics, weights, images = case("v2")
    weights["block2.0.mlp.fc1.weight"] *= np.float32(1e5)
    model = pvt_torch.model_from_weights(config, numerics, weights)
    exact = run_float64(config, numerics, weights, images)
    overflowed = predict(model, "fp16", images, exact)
    assert overflowed.unit("block2.0.mlp", "images").overflowed
    assert not overflowed.unit("block2.0.attn", "images").overflowed
    perfect = measured(exact["logits"], exact["logits"])
    assert overflowed.unit("logits", "images").times(perfect) == 0.0
    saturated = predict(model, "fp16-saturating", images, exact)
    assert not any(saturated.unit(tap, "images").overflowed for tap in exact)
    broken = emulated_taps(model, images, ROUNDINGS["fp16"])["logits"]
    times = saturated.unit("logits", "images").times(measured(broken, exact["logits"]))
    assert times == float("inf")


class Widened(TorchFunctionMode):
    """Within it, bfloat16 goes to numpy as float32, which has no bfloat16 of its own."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        if function.__name__ == "numpy":
            args = (args[0].float(),)
        return function(*args, **(kwargs or {}))


def run_cast(dtype: torch.dtype) -> Callable[..., Taps]:
    """All of the model in one dtype: ``model.half()``."""

    def run(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
        model = pvt_torch.model_from_weights(config, numerics, weights).to(dtype)
        with Widened():
            return pvt_torch.run_taps(model, images)

    return run


def run_autocast(dtype: torch.dtype) -> Callable[..., Taps]:
    """PyTorch's own mixed precision: norms, and where they lead, stay float32."""

    def run(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
        model = pvt_torch.model_from_weights(config, numerics, weights)
        with Widened(), torch.autocast("cpu", dtype=dtype):
            return pvt_torch.run_taps(model, images)

    return run


def run_mindspore_amp(config: PVTConfig, numerics: Numerics, weights: Weights, images: Any) -> Taps:
    """MindSpore at O2 in float16, op by op; its CPU kernels know no bfloat16."""
    mindspore = import_mindspore()
    import pvt_ms

    model = pvt_ms.model_from_weights(config, numerics, weights)
    # What it returns only casts the answer to float32; the model itself is changed.
    mindspore.amp.auto_mixed_precision(model, "O2", mindspore.float16)
    return pvt_ms.run_taps(model, images)


REAL_RUNS = {
    "torch": ("fp32", run_torch),
    "mindspore": ("fp32", run_mindspore),
    "onnxruntime": ("fp32", run_onnx_static),
    "mindspore O2": ("fp16", run_mindspore_amp),
    "torch float16": ("fp16", run_cast(torch.float16)),
    "autocast float16": ("fp16", run_autocast(torch.float16)),
    "torch bfloat16": ("bf16", run_cast(torch.bfloat16)),
    "autocast bfloat16": ("bf16", run_autocast(torch.bfloat16)),
}


@cache
def predicted(kind: str, profile: str, precision: str) -> Envelope:
    model, images = twin(kind, profile)
    return predict(model, precision, images, reference(kind, profile))


@cache
def reference(kind: str, profile: str) -> Taps:
    return run_float64(*case(kind, profile))


def margins(actual: Taps, kind: str, profile: str, precision: str) -> Iterator[tuple[str, float]]:
    """Every tap's error over what it may be."""
    for tap, expected in reference(kind, profile).items():
        if tap in actual:
            unit = predicted(kind, profile, precision).unit(tap, "images")
            times = unit.times(measured(actual[tap], expected))
            yield tap, times / allowed_times(expected.size)


@pytest.mark.sampled
@pytest.mark.parametrize(("precision", "run"), REAL_RUNS.values(), ids=REAL_RUNS)
@pytest.mark.parametrize("profile", ["official", "mindcv"])
@pytest.mark.parametrize("kind", SMALL)
def test_real_runs_are_in_the_envelope_and_40_times_their_error_is_not(
    kind, profile, precision, run
):
    actual = run(*case(kind, profile))
    exact = reference(kind, profile)
    for tap, margin in margins(actual, kind, profile, precision):
        assert margin <= 1, tap
    wrong = {t: exact[t] + 40 * (actual[t].astype(np.float64) - exact[t]) for t in exact}
    for tap, margin in margins(wrong, kind, profile, precision):
        assert margin > 1, tap


@pytest.fixture
def graph_mode() -> Iterator[None]:
    """MindSpore compiles what it runs, for the length of a test."""
    mindspore = import_mindspore()
    mode = mindspore.get_context("mode")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    yield
    mindspore.set_context(mode=mode)


@pytest.mark.long
def test_mindspore_o2_in_graph_mode_is_in_the_envelope(graph_mode):
    """Its logits: a compiled model shows no taps."""
    mindspore = import_mindspore()
    import pvt_ms

    config, numerics, weights, images = case("linear")
    model = pvt_ms.model_from_weights(config, numerics, weights)
    model = mindspore.amp.auto_mixed_precision(model, "O2", mindspore.float16)
    logits = model(mindspore.Tensor(images)).asnumpy()
    unit = predicted("linear", "official", "fp16-graph").unit("logits", "images")
    assert 0.2 < unit.times(measured(logits, reference("linear", "official")["logits"])) < FACTOR


def test_a_coarser_precision_is_outside_a_finer_ones_envelope():
    """At every tap of more than a few values."""
    model, images = twin("v2")
    for coarse, fine in (("bf16", "fp16"), ("hf32", "fp32"), ("tf32", "fp32"), ("fp16", "fp32")):
        taps = emulated_taps(model, images, ROUNDINGS[coarse])
        taps = {tap: values for tap, values in taps.items() if values.size >= FEW}
        found = dict(margins(taps, "v2", "official", fine))
        assert min(found.values()) > 1


def test_mindspore_o2_is_emulated_bit_for_bit_as_far_as_its_kernels_sum_in_float32():
    """The patch embedding: conv, bias and norm, whose gamma and beta O2 rounds op by op."""
    config, numerics, weights, images = case("v2")
    model = pvt_torch.model_from_weights(config, numerics, weights)
    real = run_mindspore_amp(config, numerics, weights, images)["patch_embed1"]
    same, graph = (
        (emulated_taps(model, images, ROUNDINGS[p])["patch_embed1"] == real).mean()
        for p in ("fp16", "fp16-graph")
    )
    assert same > 0.99 and graph < 0.9


def mindspore_o2_shares(layer: str) -> dict[str, float]:
    """How much of a linear layer or convolution and a norm is bit for bit each emulation's."""
    mindspore = import_mindspore()
    from mindspore import nn

    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal((n, 48, 1, 1), np.float32) for n in (64, 32))
    bias, gain = rng.uniform(0.3, 0.9, (2, 32)).astype(np.float32)
    if layer == "linear":
        x, weight = x[..., 0, 0], weight[..., 0, 0]

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            initial = {
                "has_bias": True,
                "weight_init": mindspore.Tensor(weight),
                "bias_init": mindspore.Tensor(bias),
            }
            dense = layer == "linear"
            self.first = nn.Dense(48, 32, **initial) if dense else nn.Conv2d(48, 32, 1, **initial)
            self.norm = nn.LayerNorm((32,), epsilon=1e-5)
            self.norm.gamma.set_data(mindspore.Tensor(gain))
            self.norm.beta.set_data(mindspore.Tensor(gain))

        def construct(self, x):
            return self.norm(self.first(x).reshape(-1, 32))

    real = mindspore.amp.auto_mixed_precision(Net(), "O2")(mindspore.Tensor(x)).asnumpy()
    first, g = F.linear if layer == "linear" else F.conv2d, torch.from_numpy(gain)
    shares = {}
    for name in ("fp16", "fp16-graph"):
        with Emulation(ROUNDINGS[name]):
            y = first(*map(torch.from_numpy, (x, weight, bias))).reshape(-1, 32)
            shares[name] = float((F.layer_norm(y, (32,), g, g, 1e-5).numpy() == real).mean())
    return shares


@pytest.mark.parametrize("layer", ["linear", "conv"])
class TestMindSporeO2:
    """Where a bias and a norm's gain are rounded, which is not the same in both modes."""

    def test_op_by_op(self, layer):
        shares = mindspore_o2_shares(layer)
        assert shares["fp16"] > 0.98 and shares["fp16-graph"] < 0.9

    def test_as_a_graph(self, layer, graph_mode):
        shares = mindspore_o2_shares(layer)
        assert shares["fp16-graph"] > 0.98 and shares["fp16"] < 0.9


class TestEnvelope:
    """What it is made of."""

    def test_the_same_seed_gives_the_same_envelope(self):
        model, images = twin("linear")
        exact = reference("linear", "official")
        first, again, other = (
            predict(model, "fp16", images, exact, seed).to_dict() for seed in (5, 5, 6)
        )
        assert first == again and first != other

    def test_batches_and_groups_add_up(self):
        config, numerics, weights, images = case("v1")
        model = pvt_torch.model_from_weights(config, numerics, weights)
        exact = reference("v1", "official")
        parts = Envelope(tap_names(config))
        for row, group in ((0, "one"), (1, "one"), (0, "other")):
            cut = {tap: values[row : row + 1] for tap, values in exact.items()}
            for actual in emulated_runs(model, images[row : row + 1], "hf32"):
                parts.add(group, actual, cut)
        whole = predict(model, "hf32", images, exact)
        for tap, groups in parts.spreads.items():
            assert groups["one"].count == MOST_ORDERS * exact[tap].size
            assert groups["one"].signal_rms == pytest.approx(
                whole.spreads[tap]["images"].signal_rms
            )
            assert groups["one"].rms == pytest.approx(whole.spreads[tap]["images"].rms, rel=0.4)

    def test_a_file_keeps_it(self):
        envelope = predicted("v2", "official", "fp32")
        again = Envelope.from_dict(envelope.to_dict())
        assert again.spreads == envelope.spreads

    def test_another_order_is_the_same_function(self):
        """In float64's place float32: orders differ by its rounding and no more."""
        model, images = twin("linear", "mindcv")
        plain, shuffled = (
            emulated_taps(model, images, ROUNDINGS["fp32"], seed)["logits"] for seed in (None, 3)
        )
        assert 0 < np.abs(plain - shuffled).max() < 1e-5 * np.abs(plain).max()

    def test_spread_against_closed_forms(self):
        spread = Spread()
        spread.add(np.array([1.0, 2.0], np.float32), np.array([1.0, 5.0]))
        spread.add(np.array([4.0], np.float32), np.array([0.0]))
        assert spread.max_abs == 4.0
        assert spread.rms == pytest.approx(np.sqrt((9 + 16) / 3))
        assert spread.signal_rms == pytest.approx(np.sqrt(26 / 3))

    def test_unit_is_the_groups_own_or_what_all_groups_had_at_its_scale(self):
        envelope = Envelope(["tap"])
        ones = np.ones(4)
        envelope.add(
            "large", {"tap": (100 * (ones + 1e-4)).astype(np.float32)}, {"tap": 100 * ones}
        )
        envelope.add("small", {"tap": ones.astype(np.float32)}, {"tap": ones})
        large, small = (envelope.unit("tap", group) for group in ("large", "small"))
        assert large.rms == pytest.approx(1e-2, rel=1e-3)
        assert small.rms == pytest.approx(1e-4, rel=1e-3)
        assert small.largest == pytest.approx(np.sqrt(2) * 1e-4, rel=1e-3)

    def test_unit_is_that_of_the_worst_run(self):
        """Runs whose errors are one number each: of many the mean says little."""
        envelope, ones = Envelope(["tap"]), np.ones(512)
        for error in (1e-3, 4e-3, 2e-3):
            envelope.add("images", {"tap": (ones + error).astype(np.float32)}, {"tap": ones})
        assert envelope.unit("tap", "images").rms == pytest.approx(4e-3, rel=1e-3)
        data = {"tap": {"images": envelope.to_dict()["tap"]["images"][:4]}}
        older = Envelope.from_dict(data)  # as bundles kept it that know no runs
        assert older.unit("tap", "images").rms == pytest.approx(np.sqrt(7) * 1e-3, rel=1e-3)

    @pytest.mark.parametrize(
        ("shape", "orders"),
        [
            ((8, 3, 224, 224), ORDERS),
            ((64, 3, 224, 224), ORDERS),
            ((8, 3, 32, 32), MOST_ORDERS),
            ((2, 3, 224, 224), 8),
        ],
    )
    def test_small_images_afford_more_orders(self, shape, orders):
        assert orders_of(np.zeros(shape, np.float32)) == orders

    def test_what_rounds_nothing_may_be_rounded_once(self):
        envelope = Envelope(["tap"])
        exact = np.random.default_rng(0).standard_normal((1, 512))
        envelope.add("images", {"tap": exact}, {"tap": exact})
        once = measured(exact.astype(np.float32), exact)
        assert 0 < envelope.unit("tap", "images").times(once) < FACTOR

    def test_times_is_the_larger_of_mean_and_half_of_the_largest(self):
        error = measured(np.array([[3.0, 0.0, 0.0, 0.0]]), np.zeros((1, 4)))
        assert Unit(rms=0.5, largest=10.0).times(error) == 3.0
        assert Unit(rms=1.5, largest=0.5).times(error) == 3.0
        assert Unit(rms=0.0, largest=0.0).times(error) == float("inf")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_not_finite_is_infinitely_far(self, value):
        error = measured(np.array([[0.0, value]]), np.zeros((1, 2)))
        assert Unit(1.0, 1.0).times(error) == float("inf")
        assert Unit(1.0, 1.0, overflowed=True).times(error) == 0.0

    def test_another_shape_is_infinitely_far(self):
        error = measured(np.zeros((1, 3)), np.zeros((2, 3)))
        assert Unit(1.0, 1.0, overflowed=True).times(error) == float("inf")


def test_an_unknown_precision_is_named():
    with pytest.raises(EmulationError, match=naming("'fp8'", "fp32", "tf32", "hf32")):
        find_rounding("fp8")


def test_an_operation_that_nothing_is_known_of_is_refused():
    """A new operation in the twin would otherwise go unrounded without a word."""
    x = torch.ones(3)
    with pytest.raises(EmulationError, match=naming("tanh")), Emulation(ROUNDINGS["fp16"]):
        torch.tanh(x)


def test_every_precision_is_well_formed():
    for rounding in ROUNDINGS.values():
        assert rounding.format in FORMATS
        assert rounding.operands <= OPERATION_KINDS and rounding.results <= OPERATION_KINDS
    assert CONTRACTIONS < OPERATION_KINDS
