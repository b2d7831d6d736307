"""The three twins against the peers' own answers, against float64, and against each other."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from convert.formats import ckpt
from convert.names.dialects import find_dialect
from parity.measure.structure import Difference, attribute_differences
from pvt_onnx.reading.held import read_held
from pvt_spec import (
    EPSILONS,
    PROFILES,
    VARIANTS,
    ConfigError,
    Numerics,
    PVTConfig,
    PvtError,
    stage_grids,
    tap_names,
    tensor_specs,
)
from pvt_spec.attributes import expected_attributes
from pvt_torch.attributes import read_attributes as torch_attributes
from tests.support.messages import naming
from tests.support.models import (
    GOLDEN_SMALL,
    MAPS,
    SMALL,
    Weights,
    enlarge,
    golden_arrays,
    golden_config,
    golden_file,
    golden_numerics,
    golden_sizes,
    golden_weights,
    random_images,
    random_weights,
    weights_for,
)
from tests.support.results import assert_same, judged
from tests.support.runtimes import RUNTIMES, import_mindspore, run_mindspore

Size = tuple[int, int]

PEER_TOLERANCE = 2e-5
"""Largest distance from a peer's logits and features; seen: 3e-6."""

OFFICIAL, MINDCV = PROFILES["official"], PROFILES["mindcv"]
TORCH_AND_MINDSPORE = ("torch", "mindspore")


# --- the peers' own answers


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("case", "size"), [(case, size) for case in GOLDEN_SMALL for size in golden_sizes(case)]
)
def test_answers_are_the_peers(case: str, size: str, runtime: str) -> None:
    peer, config = golden_arrays(case), golden_config(case)
    images = peer[f"input{size}"]
    taps = RUNTIMES[runtime](config, golden_numerics(case), golden_weights(case), images)
    assert np.abs(taps["logits"] - peer[f"logits{size}"]).max() < PEER_TOLERANCE
    if f"features{size}" in peer:
        assert np.abs(taps["features"] - peer[f"features{size}"]).max() < PEER_TOLERANCE


@pytest.mark.parametrize("case", GOLDEN_SMALL)
def test_the_peers_answer_sees_the_mapping(case: str) -> None:
    """Two tensors of one shape exchanged, and the answer is another: the golden cases can fail."""
    peer, config = golden_arrays(case), golden_config(case)
    weights = dict(golden_weights(case))
    names = ("block2.0.attn.q.weight", "block2.0.attn.proj.weight")
    weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]
    taps = RUNTIMES["torch"](config, golden_numerics(case), weights, peer["input"])
    assert np.abs(taps["logits"] - peer["logits"]).max() > 100 * PEER_TOLERANCE


@pytest.mark.parametrize(("prefix", "answer"), [("", "logits"), ("ema.", "logits_ema")])
def test_a_training_checkpoint_answers_as_mindcv(prefix: str, answer: str, runtime: str) -> None:
    case = "mindcv_v1_training_ema"
    peer, config = golden_arrays(case), golden_config(case)
    tensors, mindcv = ckpt.read(golden_file(case)).tensors, find_dialect("mindcv", 1)
    weights = {
        spec.name: tensors[prefix + mindcv.from_canonical(spec.name)[0]]
        for spec in tensor_specs(config)
    }
    taps = RUNTIMES[runtime](config, golden_numerics(case), weights, peer["input"])
    assert np.abs(taps["logits"] - peer[answer]).max() < PEER_TOLERANCE


def test_averaged_weights_are_another_model() -> None:
    peer = golden_arrays("mindcv_v1_training_ema")
    assert np.abs(peer["logits"] - peer["logits_ema"]).max() > 10 * PEER_TOLERANCE


# --- names and shapes


@pytest.mark.parametrize(
    "answer",
    [{"num_classes": 7}, {"num_classes": 0}, {"num_classes": 0, "features_only": True}],
    ids=["logits", "features", "maps"],
)
def test_taps_have_the_specs_names_and_shapes(
    small: PVTConfig, answer: dict[str, Any], runtime: str
) -> None:
    config = dataclasses.replace(small, **answer)
    numerics, size = MINDCV[config.version], (72, 40)
    weights = weights_for(config, numerics)
    taps = RUNTIMES[runtime](config, numerics, weights, random_images(config, size))
    assert list(taps) == tap_names(config)
    assert {tap: array.shape for tap, array in taps.items()} == tap_shapes(config, numerics, size)
    assert {array.dtype for array in taps.values()} == {np.dtype(np.float32)}


def tap_shapes(config: PVTConfig, numerics: Numerics, size: Size) -> dict[str, tuple[int, ...]]:
    """The shape of every tap for a batch of two, by the documentation of ``tap_names``."""
    grids = stage_grids(config, numerics, size)
    shapes: dict[str, tuple[int, ...]] = {}
    for tap in tap_names(config):
        if tap in ("features", "logits"):
            shapes[tap] = (2, config.embed_dims[3] if tap == "features" else config.num_classes)
            continue
        digits = [c for c in tap.partition(".")[0] if c.isdigit()]
        stage = int(digits[0]) - 1 if digits else 3
        if tap.startswith("stage"):
            shapes[tap] = (2, config.embed_dims[stage], *grids[stage])
            continue
        tokens = grids[stage][0] * grids[stage][1]
        with_class = config.version == 1 and stage == 3 and not tap.startswith("patch_embed")
        with_class &= not config.features_only
        shapes[tap] = (2, tokens + with_class, config.embed_dims[stage])
    return shapes


@pytest.mark.parametrize("variant", VARIANTS)
def test_torch_has_the_specs_parameters(variant: str) -> None:
    import torch

    from pvt_torch.model import PyramidVisionTransformer

    config = VARIANTS[variant]
    with torch.device("meta"):
        model = PyramidVisionTransformer(config, OFFICIAL[config.version])
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {spec.name: spec.shape for spec in tensor_specs(config)}
    assert list(model.buffers()) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_mindspore_has_the_specs_parameters(variant: str) -> None:
    from mindspore.nn.utils import no_init_parameters

    from pvt_ms.model import PyramidVisionTransformer
    from pvt_ms.weights import canonical_parameters

    config = VARIANTS[variant]
    with no_init_parameters():
        model = PyramidVisionTransformer(config, OFFICIAL[config.version])
    shapes = {name: tuple(p.shape) for name, p in canonical_parameters(model).items()}
    assert shapes == {spec.name: spec.shape for spec in tensor_specs(config)}


def test_mindspore_parameters_are_named_in_the_pvt_ms_dialect(small_or_maps: PVTConfig) -> None:
    from pvt_ms.model import PyramidVisionTransformer

    config = small_or_maps
    model = PyramidVisionTransformer(config, OFFICIAL[config.version])
    names = {parameter.name for parameter in model.get_parameters()}
    dialect = find_dialect("pvt_ms", config.version)
    assert names == {dialect.from_canonical(spec.name)[0] for spec in tensor_specs(config)}


@pytest.mark.parametrize("package", ["pvt_torch", "pvt_ms"])
def test_weights_come_back_as_they_went_in(package: str, small_or_maps: PVTConfig) -> None:
    twin = __import__(package)
    numerics = MINDCV[small_or_maps.version]
    weights = weights_for(small_or_maps, numerics)
    back = twin.get_weights(twin.model_from_weights(small_or_maps, numerics, weights))
    assert back.keys() == weights.keys()
    assert all(back[n].tobytes() == array.tobytes() for n, array in weights.items())
    assert all(back[n].dtype == array.dtype for n, array in weights.items())


@pytest.mark.parametrize("package", ["pvt_torch", "pvt_ms"])
def test_other_weights_are_refused_by_name(package: str, small: PVTConfig) -> None:
    twin = __import__(package)
    numerics = OFFICIAL[small.version]
    weights = weights_for(small, numerics)
    weights["surprise"] = weights.pop("head.bias")
    weights["head.weight"] = weights["head.weight"].T
    with pytest.raises(PvtError, match=naming("head.bias")):
        twin.model_from_weights(small, numerics, weights)


# --- against float64

V1, V2, LINEAR = SMALL["v1"], SMALL["v2"], SMALL["linear"]

SITUATIONS: dict[str, tuple[PVTConfig, Numerics, Size]] = {
    "v1 official": (V1, OFFICIAL[1], (64, 64)),
    "v1 official wide": (V1, OFFICIAL[1], (72, 104)),
    "v1 official odd": (V1, OFFICIAL[1], (33, 65)),
    "v1 official tall": (V1, OFFICIAL[1], (100, 60)),
    "v1 hf wide": (V1, PROFILES["hf"][1], (72, 104)),
    "v1 mindcv": (V1, MINDCV[1], (64, 64)),
    "v1 mindcv odd": (V1, MINDCV[1], (33, 65)),
    "v1 mindcv tall": (V1, MINDCV[1], (100, 60)),
    "v2 official wide": (V2, OFFICIAL[2], (72, 104)),
    "v2 official odd": (V2, OFFICIAL[2], (33, 65)),
    "v2 hf tall": (V2, PROFILES["hf"][2], (100, 60)),
    "v2 mindcv odd": (V2, MINDCV[2], (33, 65)),
    "v2 mindcv tall": (V2, MINDCV[2], (100, 60)),
    "linear official": (LINEAR, OFFICIAL[2], (64, 64)),
    "linear official wide": (LINEAR, OFFICIAL[2], (72, 104)),
    "linear official odd": (LINEAR, OFFICIAL[2], (33, 65)),
    "linear official at multiples of 7": (LINEAR, OFFICIAL[2], (112, 224)),
    "linear mindcv tall": (LINEAR, MINDCV[2], (100, 60)),
    "v1 grey": (dataclasses.replace(V1, in_chans=1), OFFICIAL[1], (64, 64)),
    "v1 four channels": (dataclasses.replace(V1, in_chans=4), MINDCV[1], (64, 64)),
    "v2 grey": (dataclasses.replace(V2, in_chans=1), MINDCV[2], (64, 64)),
    "v2 four channels": (dataclasses.replace(V2, in_chans=4), OFFICIAL[2], (64, 64)),
    "v1 without a head": (dataclasses.replace(V1, num_classes=0), OFFICIAL[1], (64, 64)),
    "v2 without a head": (dataclasses.replace(V2, num_classes=0), OFFICIAL[2], (64, 64)),
    "v1 maps official": (MAPS["v1 maps"], OFFICIAL[1], (64, 64)),
    "v1 maps official tall": (MAPS["v1 maps"], OFFICIAL[1], (100, 60)),
    "v1 maps mindcv odd": (MAPS["v1 maps"], MINDCV[1], (33, 65)),
    "v2 maps official wide": (MAPS["v2 maps"], OFFICIAL[2], (72, 104)),
    "v2 maps mindcv odd": (MAPS["v2 maps"], MINDCV[2], (33, 65)),
    "linear maps official tall": (MAPS["linear maps"], OFFICIAL[2], (100, 60)),
    "v1 made for a wide image": (
        dataclasses.replace(V1, image_size=(64, 128)),
        OFFICIAL[1],
        (128, 64),
    ),
    "v1 aligned corners": (
        V1,
        dataclasses.replace(OFFICIAL[1], pos_embed_resize="align_corners"),
        (72, 104),
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("situation", SITUATIONS)
def test_answers_are_those_of_float64(situation: str, runtime: str) -> None:
    config, numerics, size = SITUATIONS[situation]
    weights, images = weights_for(config, numerics), random_images(config, size)
    actual = RUNTIMES[runtime](config, numerics, weights, images)
    assert_same(judged((config, numerics, weights), images, actual))


# --- against numpy, for what float64 PyTorch computes with operators of its own


def resized(grid: np.ndarray, size: Size, rule: str) -> np.ndarray:
    """Bilinear resizing of (H, W, C) in float64, one axis after the other."""
    for axis, length in enumerate(size):
        before = grid.shape[axis]
        if rule == "half_pixel":
            at = (np.arange(length) + 0.5) * before / length - 0.5
        else:
            at = np.arange(length) * (before - 1) / max(length - 1, 1)
        at = np.clip(at, 0, before - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, before - 1)
        share = np.expand_dims(at - low, tuple(range(1, grid.ndim)))
        grid = np.swapaxes(grid, 0, axis)
        grid = grid[low] * (1 - share) + grid[high] * share
        grid = np.swapaxes(grid, 0, axis)
    return grid


@pytest.mark.parametrize("rule", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("size", [(72, 104), (33, 65), (100, 60), (32, 256), (64, 64)])
def test_position_embeddings_are_resized_per_stage(size: Size, rule: str, runtime: str) -> None:
    numerics = dataclasses.replace(OFFICIAL[1], pos_embed_resize=rule)
    weights, images = weights_for(V1, numerics), random_images(V1, size)
    taps = RUNTIMES[runtime](V1, numerics, weights, images)
    for stage in range(4):
        H, W = (side // (4 * 2**stage) for side in size)
        pos_embed = weights[f"pos_embed{stage + 1}"][0].astype(np.float64)
        first, pos_embed = np.split(pos_embed, [1 if stage == 3 else 0])
        side = 16 // 2**stage
        grid = resized(pos_embed.reshape(side, side, -1), (H, W), rule).reshape(H * W, -1)
        tokens = taps[f"patch_embed{stage + 1}"].astype(np.float64)
        expected = tokens + grid
        if stage == 3:
            token = np.broadcast_to(weights["cls_token"][0] + first, (2, *first.shape))
            expected = np.concatenate([token, expected], axis=1)
        # Coordinates are float32 inside a runtime: some 1e-6 of a pixel.
        assert np.abs(taps[f"embed{stage + 1}"] - expected).max() < 1e-5


def pooled(grid: np.ndarray, out: int = 7) -> np.ndarray:
    """Adaptive average pooling of (B, H, W, C) to (B, out, out, C), by its definition."""
    H, W = grid.shape[1:3]

    def cells(size: int) -> list[slice]:
        return [slice(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]

    rows = [[grid[:, r, c].mean(axis=(1, 2)) for c in cells(W)] for r in cells(H)]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def normalised(x: np.ndarray, weights: Weights, layer: str, eps: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return scaled * weights[f"{layer}.weight"] + weights[f"{layer}.bias"]


def projected(x: np.ndarray, weights: Weights, layer: str) -> np.ndarray:
    weight = weights[f"{layer}.weight"].astype(np.float64)
    return x @ weight.reshape(len(weight), -1).T + weights[f"{layer}.bias"]


def linear_attention(
    x: np.ndarray, size: Size, weights: Weights, numerics: Numerics, heads: int
) -> np.ndarray:
    """``block1.0.attn`` of linear PVT v2 in numpy float64: PVT v2 paper, section 3.2, and erf."""
    from math import erf

    name = "block1.0.attn"
    B, N, C = x.shape
    x = normalised(x, weights, "block1.0.norm1", numerics.norm1_eps)
    small = pooled(x.reshape(B, *size, C)).reshape(B, 49, C)
    small = projected(small, weights, f"{name}.sr")
    small = normalised(small, weights, f"{name}.norm", numerics.attn_norm_eps)
    small = small * 0.5 * (1 + np.vectorize(erf)(small / np.sqrt(2)))
    q = projected(x, weights, f"{name}.q").reshape(B, N, heads, C // heads)
    kv = projected(small, weights, f"{name}.kv").reshape(B, 49, 2, heads, C // heads)
    scores = np.einsum("bnhc,bmhc->bhnm", q, kv[:, :, 0]) / np.sqrt(C // heads)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    answer = np.einsum("bhnm,bmhc->bnhc", scores, kv[:, :, 1]).reshape(B, N, C)
    return projected(answer, weights, f"{name}.proj")


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(72, 104), (33, 65), (100, 60), (84, 56), (32, 44)])
def test_linear_attention_pools_exactly(size: Size, runtime: str) -> None:
    config = dataclasses.replace(LINEAR, num_heads=(2, 2, 3, 4))
    numerics = OFFICIAL[2]
    weights, images = weights_for(config, numerics), random_images(config, size)
    taps = RUNTIMES[runtime](config, numerics, weights, images)
    grid = stage_grids(config, numerics, size)[0]
    tokens = taps["patch_embed1"].astype(np.float64)
    expected = linear_attention(tokens, grid, weights, numerics, heads=2)
    assert np.abs(taps["block1.0.attn"] - expected).max() < 1e-5


# --- ways to run a twin


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "size"), [("v1", (72, 104)), ("v2", (64, 64)), ("linear", (33, 65))]
)
def test_mindspore_answers_the_same_as_a_graph(kind: str, size: Size) -> None:
    ms = import_mindspore()
    import pvt_ms

    config = SMALL[kind]
    numerics = MINDCV[config.version]
    images = random_images(config, size)
    twin = pvt_ms.model_from_weights(config, numerics, weights_for(config, numerics))
    graph = ms.jit(twin)(ms.Tensor(images)).asnumpy()
    assert np.abs(graph - pvt_ms.run_taps(twin, images)["logits"]).max() < 5e-6


def answer(runtime: str, config: PVTConfig, weights: Weights, drop_path: np.ndarray | None) -> Any:
    """Logits of a twin, with the branches scaled where ``drop_path`` is given."""
    numerics, images = OFFICIAL[config.version], random_images(config)
    if runtime == "torch":
        import torch

        import pvt_torch

        twin = pvt_torch.model_from_weights(config, numerics, weights)
        scales = None if drop_path is None else torch.from_numpy(drop_path)
        with torch.inference_mode():
            return twin(torch.from_numpy(images), scales).numpy()
    ms = import_mindspore()
    import pvt_ms

    cell = pvt_ms.model_from_weights(config, numerics, weights)
    scales = None if drop_path is None else ms.Tensor(drop_path)
    return cell(ms.Tensor(images), scales).asnumpy()


def scaled_branches(weights: Weights, scales: np.ndarray, config: PVTConfig) -> Weights:
    """Weights with the last layer of every branch scaled: ``scales`` (blocks, 2)."""
    weights, block = dict(weights), 0
    for stage, depth in enumerate(config.depths, start=1):
        for index in range(depth):
            for branch, layer in enumerate(("attn.proj", "mlp.fc2")):
                for part in ("weight", "bias"):
                    name = f"block{stage}.{index}.{layer}.{part}"
                    weights[name] = weights[name] * scales[block, branch]
            block += 1
    return weights


@pytest.mark.sampled
@pytest.mark.parametrize("twin", TORCH_AND_MINDSPORE)
def test_drop_path_scales_each_branch_of_each_sample(twin: str, small: PVTConfig) -> None:
    weights = weights_for(small, OFFICIAL[small.version])
    plain = answer(twin, small, weights, None)
    shape = (sum(small.depths), 2, 2)
    assert np.array_equal(answer(twin, small, weights, np.ones(shape, np.float32)), plain)
    scales = np.random.default_rng(2).choice([0.0, 1.25, 2.0], shape).astype(np.float32)
    dropped = answer(twin, small, weights, scales)
    for sample in range(2):
        same = answer(twin, small, scaled_branches(weights, scales[:, :, sample], small), None)
        assert np.abs(dropped[sample] - same[sample]).max() < 1e-5
    assert np.abs(dropped - plain).max() > 0.1


@pytest.mark.parametrize("twin", TORCH_AND_MINDSPORE)
def test_dropping_every_branch_leaves_the_embeddings(twin: str, small: PVTConfig) -> None:
    weights = weights_for(small, OFFICIAL[small.version])
    shape = (sum(small.depths), 2, 2)
    dropped = answer(twin, small, weights, np.zeros(shape, np.float32))
    identity = scaled_branches(weights, np.zeros(shape[:2], np.float32), small)
    assert np.array_equal(dropped, answer(twin, small, identity, None))


def sampled_drop_path(twin: str, config: PVTConfig, batch: int) -> np.ndarray:
    """What a twin draws by itself, float32 (blocks, 2, batch)."""
    weights = weights_for(config, OFFICIAL[config.version])
    if twin == "torch":
        import torch

        import pvt_torch

        torch.manual_seed(0)
        model = pvt_torch.model_from_weights(config, OFFICIAL[config.version], weights)
        return model.sample_drop_path(batch).numpy()
    ms = import_mindspore()
    import pvt_ms

    ms.set_seed(0)
    cell = pvt_ms.model_from_weights(config, OFFICIAL[config.version], weights)
    return cell.sample_drop_path(batch).asnumpy()


@pytest.mark.parametrize("twin", TORCH_AND_MINDSPORE)
def test_drop_path_is_drawn_at_each_blocks_rate(twin: str) -> None:
    config = dataclasses.replace(V1, drop_path_rate=0.4)
    count, rates = 4000, [0.0, 0.1, 0.2, 0.3, 0.4]
    scales = sampled_drop_path(twin, config, count)
    assert scales.dtype == np.float32 and scales.shape == (5, 2, count)
    for block, rate in zip(scales, rates, strict=True):
        kept = np.unique(block[block > 0])
        assert kept == pytest.approx([1 / (1 - rate)], rel=1e-6)
        # Four standard deviations of a mean of `count` draws, for each of the two branches.
        assert (block == 0).mean(axis=1) == pytest.approx(rate, abs=4 * 0.5 / np.sqrt(count))
    assert not np.array_equal(scales[4, 0], scales[4, 1])


@pytest.mark.parametrize("twin", TORCH_AND_MINDSPORE)
def test_branches_are_dropped_in_training_only(twin: str) -> None:
    config = dataclasses.replace(V1, drop_path_rate=0.9)
    weights, images = weights_for(config, OFFICIAL[1]), random_images(config)
    if twin == "torch":
        import torch

        import pvt_torch

        torch.manual_seed(0)
        model = pvt_torch.model_from_weights(config, OFFICIAL[1], weights)
        x, switch = torch.from_numpy(images), model.train
        answers = [switch(mode)(x).detach().numpy() for mode in (False, False, True)]
    else:
        ms = import_mindspore()
        import pvt_ms

        ms.set_seed(0)
        cell = pvt_ms.model_from_weights(config, OFFICIAL[1], weights)
        answers = [
            cell.set_train(mode)(ms.Tensor(images)).asnumpy() for mode in (False, False, True)
        ]
    first, second, training = answers
    assert np.array_equal(first, second)
    assert np.abs(training - first).max() > 0.1


# --- mutations: what the checks must see

OTHER = {
    "gelu": ("tanh", (64, 64)),
    "conv_padding": ("same", (64, 64)),
    "pos_embed_resize": ("align_corners", (72, 104)),
    "pos_embed_dtype": ("float16", (64, 64)),
}
"""Another value for each choice of the official numerics, and a size at which it shows."""

# v1's grids are those of "same" only where all whole tiles are; then it shows in reduction by 3.
REDUCED_BY_3 = dataclasses.replace(V1, sr_ratios=(3, 3, 3, 1))

SHOWS_IN = [
    ("gelu", "v1", "block1.0.mlp"),
    ("gelu", "v2", "block1.0.mlp"),
    ("gelu", "linear", "block1.0.attn"),
    ("conv_padding", "v1", "block1.0.attn"),
    ("conv_padding", "v2", "patch_embed1"),
    ("conv_padding", "linear", "patch_embed1"),
    ("pos_embed_resize", "v1", "embed1"),
    ("pos_embed_dtype", "v1", "embed1"),
]
"""Field, kind of PVT, and the first tap that is out of bounds."""


@pytest.mark.sampled
@pytest.mark.parametrize(("field", "kind", "first"), SHOWS_IN)
def test_a_choice_changed_in_one_twin_shows(
    field: str, kind: str, first: str, runtime: str
) -> None:
    config = REDUCED_BY_3 if (field, kind) == ("conv_padding", "v1") else SMALL[kind]
    value, size = OTHER[field]
    numerics = OFFICIAL[config.version]
    mutant = dataclasses.replace(numerics, **{field: value})
    weights, images = weights_for(config, numerics), random_images(config, size)
    mutated = dict(weights)
    if field == "pos_embed_dtype":
        mutated |= {n: w.astype(np.float16) for n, w in weights.items() if n[:9] == "pos_embed"}
    actual = RUNTIMES[runtime](config, mutant, mutated, images)
    comparison = judged((config, numerics, weights), images, actual)
    assert comparison.first_out_of_bounds == first
    assert comparison.total("logits").max_abs > PEER_TOLERANCE


def test_a_tap_of_another_shape_is_out_of_bounds() -> None:
    numerics, images = OFFICIAL[1], random_images(V1, (100, 60))
    weights = weights_for(V1, numerics)
    mutant = dataclasses.replace(numerics, conv_padding="same")
    actual = RUNTIMES["torch"](V1, mutant, weights, images)
    comparison = judged((V1, numerics, weights), images, actual)
    assert comparison.first_out_of_bounds == "block1.0.attn"
    assert comparison.total("patch_embed2").max_abs == np.inf


def test_every_choice_is_mutated() -> None:
    from pvt_spec import CHOICES

    assert {field for field, _, _ in SHOWS_IN} == set(CHOICES) == set(OTHER)


def attributes(runtime: str, config: PVTConfig, numerics: Numerics) -> dict[str, Any]:
    """Read from a runtime's own objects."""
    weights = weights_for(config, numerics)
    if runtime == "torch":
        import pvt_torch

        return torch_attributes(pvt_torch.model_from_weights(config, numerics, weights))
    if runtime == "mindspore":
        import pvt_ms
        from pvt_ms.attributes import read_attributes as mindspore_attributes

        return mindspore_attributes(pvt_ms.model_from_weights(config, numerics, weights))
    import pvt_onnx

    dynamic, opset = runtime == "onnx_dynamic", 20 if runtime == "onnx_dynamic" else 17
    model = pvt_onnx.build(config, numerics, weights, dynamic_size=dynamic, opset=opset)
    return read_held(model, config).attributes


def wrong_attributes(
    runtime: str, config: PVTConfig, numerics: Numerics, mutant: Numerics
) -> list[Difference]:
    """What is not as ``numerics`` say in a runtime's model of a mutant."""
    kind = runtime.split("_")[0]
    expected = expected_attributes(config, numerics)
    return attribute_differences(expected, attributes(runtime, config, mutant), kind, config)


@pytest.mark.parametrize("profile", ["official", "mindcv", "hf"])
def test_attributes_are_the_specs(small_or_maps: PVTConfig, profile: str, runtime: str) -> None:
    numerics = PROFILES[profile][small_or_maps.version]
    assert wrong_attributes(runtime, small_or_maps, numerics, numerics) == []


EPSILON_LAYERS = {
    "patch_norm_eps": ["patch_embed1.norm", "patch_embed2.norm", "patch_embed3.norm"],
    "attn_norm_eps": ["block1.0.attn.norm", "block2.0.attn.norm", "block2.1.attn.norm"],
    "norm1_eps": ["block1.0.norm1", "block2.0.norm1", "block2.1.norm1"],
    "norm2_eps": ["block1.0.norm2", "block2.0.norm2", "block2.1.norm2"],
}
"""Some of the layers of each role, in order; the final norm's are ``norm`` or ``norm1`` …."""


@pytest.mark.parametrize("profile", ["official", "mindcv"])
@pytest.mark.parametrize("field", EPSILONS)
def test_an_epsilon_changed_in_one_twin_shows_in_its_attributes(
    field: str, profile: str, small: PVTConfig, runtime: str
) -> None:
    numerics = PROFILES[profile][small.version]
    mutant = dataclasses.replace(numerics, **{field: getattr(numerics, field) * 1.01})
    found = wrong_attributes(runtime, small, numerics, mutant)
    layers = [difference.subject.removesuffix(".epsilon") for difference in found]
    if field == "final_norm_eps":
        assert layers == (["norm"] if small.version == 1 else [f"norm{i}" for i in (1, 2, 3, 4)])
    else:
        assert layers[:3] == EPSILON_LAYERS[field]
        suffix = "." + layers[0].split(".", 2 if field != "patch_norm_eps" else 1)[-1]
        assert all(layer.endswith(suffix) for layer in layers)
        blocks = sum(small.depths) if field != "patch_norm_eps" else 4
        reducing = blocks - (field == "attn_norm_eps" and not small.linear)
        assert len(layers) == reducing


@pytest.mark.parametrize("field", ["gelu", "conv_padding", "pos_embed_dtype"])
def test_a_choice_changed_in_one_twin_shows_in_its_attributes(
    field: str, small: PVTConfig, runtime: str
) -> None:
    if field == "pos_embed_dtype" and small.version == 2:
        field = "gelu"
    numerics = OFFICIAL[small.version]
    mutant = dataclasses.replace(numerics, **{field: OTHER[field][0]})
    assert wrong_attributes(runtime, small, numerics, mutant)


LOW_VARIANCE = Numerics("erf", "symmetric", 1e-5, 2e-5, 5e-6, 1e-6, 3e-6)
"""A different epsilon in each role."""


FAINT = ("pos_embed", "cls_token", "patch_embed", "attn.proj", "attn.sr", "fc2")


def faint_weights(config: PVTConfig) -> Weights:
    """Weights that leave at the input of every norm a variance of about its epsilon."""
    weights = weights_for(config, OFFICIAL[config.version])
    scale = np.float32(1e-3)
    return {n: w * scale if any(p in n for p in FAINT) else w for n, w in weights.items()}


@pytest.mark.sampled
def test_answers_are_those_of_float64_where_variance_is_low(small: PVTConfig, runtime: str) -> None:
    weights, images = faint_weights(small), random_images(small)
    actual = RUNTIMES[runtime](small, LOW_VARIANCE, weights, images)
    assert_same(judged((small, LOW_VARIANCE, weights), images, actual))


@pytest.mark.sampled
@pytest.mark.parametrize("field", EPSILONS)
def test_an_epsilon_changed_in_one_twin_shows_where_variance_is_low(
    field: str, runtime: str
) -> None:
    weights, images = faint_weights(LINEAR), random_images(LINEAR)
    mutant = dataclasses.replace(LOW_VARIANCE, **{field: getattr(LOW_VARIANCE, field) * 10})
    actual = RUNTIMES[runtime](LINEAR, mutant, weights, images)
    assert not judged((LINEAR, LOW_VARIANCE, weights), images, actual).same


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("tensor", "first"),
    [
        ("patch_embed1.proj.weight", "patch_embed1"),
        ("pos_embed2", "embed2"),
        ("cls_token", "embed4"),
        ("block2.0.attn.q.weight", "block2.0.attn"),
        ("block2.1.attn.norm.bias", "block2.1.attn"),
        ("block3.0.mlp.fc2.weight", "block3.0.mlp"),
        ("norm.weight", "norm"),
        ("head.weight", "logits"),
    ],
)
def test_a_weight_changed_by_one_percent_is_found_where_it_acts(
    tensor: str, first: str, runtime: str
) -> None:
    numerics = OFFICIAL[1]
    weights, images = weights_for(V1, numerics), random_images(V1)
    actual = RUNTIMES[runtime](V1, numerics, enlarge(weights, tensor), images)
    comparison = judged((V1, numerics, weights), images, actual)
    assert comparison.first_out_of_bounds == first


@pytest.mark.long
def test_a_compiled_mindspore_model_takes_other_weights():
    """Weights that were set by name only, in memory that what is compiled knows nothing of."""
    ms = import_mindspore()
    import pvt_ms

    config = SMALL["v1"]
    numerics = PROFILES["official"][1]
    images = random_images(config)
    model = pvt_ms.model_from_weights(config, numerics, random_weights(config))
    compiled = ms.jit(model)
    compiled(ms.Tensor(images))
    pvt_ms.set_weights(model, random_weights(config, seed=5))
    expected = run_mindspore(config, numerics, random_weights(config, seed=5), images)["logits"]
    assert np.allclose(compiled(ms.Tensor(images)).asnumpy(), expected, atol=1e-5)


def test_weights_are_of_any_order_of_bytes_and_of_real_numbers():
    import_mindspore()
    import pvt_ms
    import pvt_onnx
    import pvt_torch

    config, numerics = SMALL["v2"], PROFILES["official"][2]
    weights = random_weights(config)
    turned = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in weights.items()}
    strange = {**weights, "norm1.bias": weights["norm1.bias"].astype(complex)}
    for twin in (pvt_ms, pvt_torch):
        model = twin.model_from_weights(config, numerics, turned)
        kept = twin.get_weights(model)
        assert all(np.array_equal(kept[name], array) for name, array in weights.items())
        with pytest.raises(ConfigError, match=r"norm1.bias is of complex"):
            twin.set_weights(model, strange)
    with pytest.raises(ConfigError, match=r"norm1.bias is of complex"):
        pvt_onnx.build(config, numerics, strange)
