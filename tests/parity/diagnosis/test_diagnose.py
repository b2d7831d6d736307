"""``diagnose`` names what is different, all of it and nothing else, and says what it cannot tell.

What is right is known without it: faults are made here, golden answers are the peers' own, and
which of the differing numerics show is decided by running each in float64.
"""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest

from convert import read_model
from convert.model.read import Given, Model
from parity.diagnosis.diagnose import diagnose
from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.trials import Observed
from parity.errors import ParityError
from parity.inputs.samples import default_samples, load_batch
from pvt_data.images.pixels import to_pixels
from pvt_spec import EPSILONS, PROFILES, Numerics, tap_names
from tests.support.messages import Facts, tells
from tests.support.models import (
    GOLDEN,
    KINDS,
    SMALL,
    Taps,
    Weights,
    golden_arrays,
    golden_file,
    info_of,
    weights_for,
)
from tests.support.runtimes import Run, run_float64, run_mindspore, run_onnx_static, run_torch

TRAINING = "mindcv_v1_training_ema"
AVERAGED = "averaged weights (ema)"

THREE: dict[str, Run] = {
    "torch": run_torch,
    "mindspore": run_mindspore,
    "onnxruntime": run_onnx_static,
}


# --- what the tests share


def with_numerics(model: Model, numerics: Numerics) -> Model:
    return dataclasses.replace(model, info=dataclasses.replace(model.info, numerics=numerics))


def random_model(kind: str, profile: str = "official", seed: int = 0) -> Model:
    info = info_of(KINDS[kind], profile)
    return Model(weights_for(info.config, info.numerics, seed), info, "pvt_ms", {}, (), {}, ())


def images_of(
    model: Model, size: tuple[int, int] | None = None, seed: int = 0
) -> tuple[np.ndarray, list[str]]:
    """The images that parity makes where none are given, and their groups."""
    pre = model.info.preprocessing
    pre = dataclasses.replace(pre, image_size=size or model.info.config.image_size)
    samples = default_samples(pre, seed)
    return load_batch(samples, pre), [sample.group for sample in samples]


def run(
    model: Model,
    images: np.ndarray,
    run: Run = run_torch,
    numerics: Numerics | None = None,
    weights: Weights | None = None,
) -> Taps:
    info = model.info
    return run(info.config, numerics or info.numerics, weights or model.weights, images)


def last(taps: Taps) -> Taps:
    """What the model answers, alone."""
    name = [*taps][-1]
    return {name: taps[name]}


def named(diagnosis: Diagnosis) -> set[str]:
    assert diagnosis.closed, diagnosis.describe()
    return {cause.hypothesis.name for cause in diagnosis.causes}


def right_set(model: Model, theirs: Numerics, images: np.ndarray, names: Sequence[str]) -> set[str]:
    """What to name of two maths: the fields that differ and show in an observed tap at this size.

    A field shows if with it alone as the model has it, and all else as the other side has it,
    float64 answers otherwise by more than some float32 roundings, or answers another shape.
    """
    info = model.info
    images = images[:2]
    exact = run_float64(info.config, theirs, model.weights, images)
    right = set()
    for field in dataclasses.fields(Numerics):
        own, other = getattr(info.numerics, field.name), getattr(theirs, field.name)
        if own == other:
            continue
        numerics = dataclasses.replace(theirs, **{field.name: own})
        without = run_float64(info.config, numerics, model.weights, images)
        if any(shows(exact[name], without[name]) for name in names):
            right.add(f"{field.name}={other}")
    return right


def shows(array: np.ndarray, other: np.ndarray) -> bool:
    if array.shape != other.shape:
        return True
    return float(np.square(array - other).mean() / np.square(array).mean()) ** 0.5 > 1e-6


# --- the golden cases of MindCV run as official


def golden_answers() -> list[tuple[str, str, str]]:
    """Case, suffix of the size, and which of its answers."""
    found = []
    for case in ("mindcv_v1_small", "mindcv_v2_small"):
        for name in golden_arrays(case):
            tap, _, size = name.partition("_")
            if tap in ("logits", "features"):
                found.append((case, size and f"_{size}", tap))
    return found


def assert_official_is_told_from_mindcv(
    model: Model, images: np.ndarray, taps: Taps, others: dict[str, Model]
) -> Diagnosis:
    version = model.info.config.version
    wrong = with_numerics(model, PROFILES["official"][version])
    found = diagnose(wrong, Observed(taps, images, ["images"] * len(images)), others=others)
    right = right_set(wrong, PROFILES["mindcv"][version], images, [*taps])
    assert right >= {"gelu=tanh", "attn_norm_eps=1e-07"}
    assert named(found) == right | {f"weights={name}" for name in others}
    return found


@pytest.mark.sampled
@pytest.mark.parametrize(("case", "size", "tap"), golden_answers())
def test_answers_of_mindcv_tell_its_maths_from_the_official(case: str, size: str, tap: str) -> None:
    arrays = golden_arrays(case)
    model = read_model(golden_file(case))
    taps = {tap: arrays[f"{tap}{size}"]}
    found = assert_official_is_told_from_mindcv(model, arrays[f"input{size}"], taps, {})
    assert ("conv_padding=same" in named(found)) == (case == "mindcv_v2_small")


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["raw", "ema"])
def test_a_training_checkpoint_of_mindcv_run_as_official(kind: str) -> None:
    """What its averaged weights answer is told from what the raw ones do, and so is the maths."""
    arrays = golden_arrays(TRAINING)
    raw = read_model(golden_file(TRAINING))
    averaged = read_model(golden_file(TRAINING), Given(weights="ema"))
    taps = {"logits": arrays["logits" if kind == "raw" else "logits_ema"]}
    found = diagnose(raw, Observed(taps, arrays["input"], ["a", "a"]), others={AVERAGED: averaged})
    assert named(found) == ({f"weights={AVERAGED}"} if kind == "ema" else set())
    others = {AVERAGED: averaged} if kind == "ema" else {}
    assert_official_is_told_from_mindcv(raw, arrays["input"], taps, others)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("size", "runtime"), [*(((64, 64), name) for name in THREE), ((80, 56), "torch")], ids=str
)
@pytest.mark.parametrize("case", ["mindcv_v1_small", "mindcv_v2_small"])
def test_mindcvs_weights_run_as_official(case: str, size: tuple[int, int], runtime: str) -> None:
    """Of all taps every difference is told, of the logits alone those that show in them."""
    model = read_model(GOLDEN / case / "weights.ckpt")
    version = model.info.config.version
    official = PROFILES["official"][version]
    images, groups = (every[::2] for every in images_of(model, size))
    taps = run(model, images, THREE[runtime], official)
    padded = version == 2 or size == (80, 56)
    for observed in (taps, last(taps)) if runtime == "torch" else (taps,):
        right = right_set(model, official, images, [*observed])
        assert ("conv_padding=symmetric" in right) == padded
        assert named(diagnose(model, Observed(observed, images, groups))) == right


# --- clean runs


@pytest.mark.sampled
@pytest.mark.parametrize("runtime", THREE)
@pytest.mark.parametrize("kind", [*SMALL, "v2 maps"])
def test_of_clean_runs_nothing_is_named(kind: str, runtime: str) -> None:
    seed = len(kind + runtime)
    profile = ("official", "mindcv")[seed % 2]
    model = random_model(kind, profile, seed)
    images, groups = (every[::2] for every in images_of(model, seed=seed))
    taps = run(model, images, THREE[runtime])
    for observed in (taps, last(taps)):
        found = diagnose(model, Observed(observed, images, groups))
        assert found.same and not found.causes, found.describe()
        assert found.describe()[-1].startswith("no difference beyond fp32 rounding: ")


# --- one difference

FLIPPED = {
    **{field: 1e-5 for field in EPSILONS},
    "patch_norm_eps": 1e-6,
    "attn_norm_eps": 1e-7,
    "gelu": "tanh",
    "conv_padding": "same",
}


@pytest.mark.sampled
@pytest.mark.parametrize("field", FLIPPED)
@pytest.mark.parametrize("kind", SMALL)
def test_one_field_of_the_maths(kind: str, field: str) -> None:
    """At a size at which padding shows in every kind."""
    model = random_model(kind)
    images, groups = (every[::2] for every in images_of(model, (80, 56)))
    theirs = dataclasses.replace(model.info.numerics, **{field: FLIPPED[field]})
    taps = run(model, images, numerics=theirs)
    found = diagnose(model, Observed(taps, images, groups))
    assert named(found) == {f"{field}={FLIPPED[field]}"}
    assert not found.causes[0].alternatives


def test_resized_position_embeddings() -> None:
    model = random_model("v1")
    theirs = dataclasses.replace(model.info.numerics, pos_embed_resize="align_corners")
    for size, right in (((64, 64), set()), ((80, 64), {"pos_embed_resize=align_corners"})):
        images, groups = images_of(model, size)
        taps = run(model, images, numerics=theirs)
        assert named(diagnose(model, Observed(taps, images, groups))) == right


def swap_keys_and_values(weights: Weights) -> Weights:
    def swapped(array: np.ndarray) -> np.ndarray:
        keys, values = np.split(array, 2)
        return np.concatenate([values, keys])

    return {n: swapped(a) if ".attn.kv." in n else a for n, a in weights.items()}


def transpose(*layers: str):
    def change(weights: Weights) -> Weights:
        return {n: a.T.copy() if n.endswith(layers) else a for n, a in weights.items()}

    return change


def shift_blocks(step: int, wrap: bool = False):
    """Of the only stage with two blocks, the second: each has the other's weights, or one both."""

    def change(weights: Weights) -> Weights:
        changed = dict(weights)
        for name in weights:
            if name.startswith("block2."):
                block, layer = int(name[7]), name[9:]
                source = (block + step) % 2 if wrap else min(max(block + step, 0), 1)
                changed[name] = weights[f"block2.{source}.{layer}"]
        return changed

    return change


def store_as(dtype: str, only: str = ""):
    import ml_dtypes

    kept = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)

    def change(weights: Weights) -> Weights:
        return {
            name: array.astype(kept).astype(np.float32) if name.startswith(only) else array
            for name, array in weights.items()
        }

    return change


WEIGHTS = {
    "kv=swapped": swap_keys_and_values,
    "transposed=attn.q.weight": transpose("attn.q.weight"),
    "transposed=attn.proj.weight": transpose("attn.proj.weight"),
    "transposed=square weights": transpose("attn.q.weight", "attn.proj.weight"),
    "blocks=previous": shift_blocks(-1),
    "blocks=next": shift_blocks(1),
    "blocks=previous or last": shift_blocks(1, wrap=True),
    "storage=float16": store_as("float16"),
    "storage=bfloat16": store_as("bfloat16"),
    "storage=pos_embed float16": store_as("float16", only="pos_embed"),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", WEIGHTS)
def test_one_difference_in_the_weights(name: str) -> None:
    model = random_model("v1" if "pos_embed" in name else "v2", seed=3)
    images, groups = (every[::2] for every in images_of(model))
    taps = run(model, images, weights=WEIGHTS[name](model.weights))
    for observed in (taps, last(taps)):
        found = diagnose(model, Observed(observed, images, groups))
        assert named(found) == {name}


def feed_pixels(scale: float):
    def change(images: np.ndarray, model: Model) -> np.ndarray:
        pixels = [to_pixels(image, model.info.preprocessing) for image in images]
        return np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) * np.float32(scale)

    return change


IMAGES = {
    "channels=reversed": lambda images, model: np.flip(images, 1).copy(),
    "geometry=mirrored": lambda images, model: np.flip(images, 3).copy(),
    "geometry=transposed": lambda images, model: images.transpose(0, 1, 3, 2).copy(),
    "scale=0 to 255": feed_pixels(1),
    "scale=0 to 1": feed_pixels(1 / 255),
    "scale=0.5": lambda images, model: feed_pixels(2 / 255)(images, model) - np.float32(1),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", IMAGES)
def test_one_difference_in_the_images(name: str) -> None:
    model = random_model("v1", seed=4)
    images, groups = images_of(model)
    taps = run(model, IMAGES[name](images, model))
    found = diagnose(model, Observed(taps, images, groups))
    assert named(found) == {name}
    assert found.causes[0].tap == "patch_embed1"


# --- several


@pytest.mark.sampled
@pytest.mark.parametrize("alone", [False, True], ids=["all taps", "logits alone"])
def test_several_at_once(alone: bool) -> None:
    """Images, weights and maths; each hides the others in the logits."""
    model = random_model("v2", "mindcv", seed=5)
    images, groups = images_of(model)
    theirs = dataclasses.replace(model.info.numerics, gelu="erf", norm2_eps=1e-5)
    fed, weights = np.flip(images, 1).copy(), swap_keys_and_values(model.weights)
    taps = run(model, fed, run_onnx_static, theirs, weights)
    found = diagnose(model, Observed(last(taps) if alone else taps, images, groups))
    right = {"channels=reversed", "kv=swapped", "gelu=erf", "norm2_eps=1e-05"}
    assert named(found) == right
    assert found.gap[0] > 0.1 and found.gap[1] < 1e-5
    if not alone:
        order = [cause.tap for cause in found.causes]
        assert order == ["patch_embed1", "block1.0.attn", "block1.0.mlp", "block1.0.mlp"]


@pytest.mark.long
def test_what_cannot_be_told_apart_is_said() -> None:
    """Logits of two images do not tell 1e-6 from 1e-7; all taps do."""
    golden = read_model(golden_file("mindcv_v1_small"))
    model = with_numerics(golden, PROFILES["official"][1])
    images, groups = golden_arrays("mindcv_v1_small")["input"], ["noise"] * 2
    theirs = dataclasses.replace(model.info.numerics, attn_norm_eps=1e-6)
    taps = run(model, images, numerics=theirs)
    whole = diagnose(model, Observed(taps, images, groups))
    assert named(whole) == {"attn_norm_eps=1e-06"} and not whole.causes[0].alternatives
    found = diagnose(model, Observed(last(taps), images, groups))
    (cause,) = found.causes
    explained = {cause.hypothesis.name, *(other.name for other in cause.alternatives)}
    assert explained == {"attn_norm_eps=1e-06", "attn_norm_eps=1e-07"}
    assert any("explains as much" in line for line in found.describe())
    assert {"norm2_eps=1e-07"} <= {hypothesis.name for hypothesis in found.undecided}


# --- precision


def emulated(model: Model, images: np.ndarray, precision: str) -> Taps:
    import pvt_torch
    from pvt_torch.emulation import emulated_taps, find_rounding

    info = model.info
    twin = pvt_torch.model_from_weights(info.config, info.numerics, model.weights)
    return emulated_taps(twin, images, find_rounding(precision))


@pytest.mark.sampled
@pytest.mark.parametrize("precision", ["hf32-conv", "tf32", "fp16", "bf16"])
def test_a_run_in_a_coarser_precision(precision: str) -> None:
    model = random_model("v1", seed=7)
    images, groups = images_of(model)
    found = diagnose(model, Observed(emulated(model, images, precision), images, groups))
    assert named(found) == set() and found.coarser and not found.same
    assert precision in (found.precision, *found.alike)
    assert found.precision.removesuffix("-graph") == precision
    given = diagnose(model, Observed(emulated(model, images, precision), images, groups), precision)
    assert given.same and given.precision == precision


@pytest.mark.long
def test_float16_beside_another_padding() -> None:
    model = random_model("v2", seed=8)
    images, groups = images_of(model)
    theirs = dataclasses.replace(model.info.numerics, conv_padding="same")
    taps = emulated(with_numerics(model, theirs), images, "fp16")
    found = diagnose(model, Observed(taps, images, groups))
    assert named(found) == {"conv_padding=same"} and found.precision.startswith("fp16")


@pytest.mark.long
def test_of_logits_alone_no_precision_is_named() -> None:
    """They are as far off as HF32 would be, but so they are for other reasons."""
    model = random_model("v2", seed=9)
    images, groups = images_of(model)
    taps = last(emulated(model, images, "hf32"))
    found = diagnose(model, Observed(taps, images, groups))
    assert not found.closed and not found.coarser and "hf32" in found.alike
    assert tells(found.describe()[-1], "large")


# --- what no hypothesis explains


@pytest.mark.long
def test_a_fault_of_no_known_kind_is_not_explained() -> None:
    model = random_model("v2", seed=10)
    images, groups = images_of(model)
    weights = {name: array.copy() for name, array in model.weights.items()}
    weights["block2.1.attn.proj.weight"][0] *= np.float32(1.05)
    theirs = dataclasses.replace(model.info.numerics, gelu="tanh")
    taps = run(model, images, run_mindspore, theirs, weights)
    found = diagnose(model, Observed(taps, images, groups))
    assert [cause.hypothesis.name for cause in found.causes] == ["gelu=tanh"]
    assert [left.tap for left in found.remainders] == ["block2.1.attn"]
    lines = found.describe()
    assert lines[0] == "1. nearer if GELU is tanh instead of erf"
    assert lines[-1].startswith("not explained: block2.1.attn, ") and tells(lines[-1], "fp32")


def test_values_that_are_not_finite_end_what_can_be_explained() -> None:
    model = random_model("v1")
    images, groups = images_of(model)
    taps = run(model, images, numerics=dataclasses.replace(model.info.numerics, gelu="tanh"))
    taps["block3.0"] = taps["block3.0"].copy()
    taps["block3.0"][1, 2] = np.nan
    found = diagnose(model, Observed(taps, images, groups))
    assert [cause.hypothesis.name for cause in found.causes] == ["gelu=tanh"]
    assert found.describe()[-1].startswith("not explained: block3.0, 24 NaN and 0 infinite values")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["closed"] is False


@pytest.mark.long
def test_another_shape_is_said() -> None:
    model = random_model("v1")
    images, groups = images_of(model)
    taps = run(model, images)
    taps["block4.0"] = taps["block4.0"][:, 1:]
    found = diagnose(model, Observed(taps, images, groups))
    assert not found.causes
    assert tells(found.describe()[-1], "block4.0", "8", "4", "32", "5")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda o: dataclasses.replace(o, taps={}), ("taps",)),
        (
            lambda o: dataclasses.replace(o, taps={"norm9": o.images}),
            ("taps",),
        ),
        (
            lambda o: dataclasses.replace(o, taps={"logits": o.taps["logits"] * np.nan}),
            ("already",),
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(change, facts: Facts) -> None:
    model = random_model("v1")
    images, groups = images_of(model)
    observed = Observed({"logits": np.zeros((8, 7), np.float32)}, images, groups)
    with pytest.raises(ParityError) as error:
        diagnose(model, change(observed))
    assert tells(error.value, *facts)


# --- how it is told


def test_it_is_told_in_words_and_in_data() -> None:
    model = random_model("v2")
    images, groups = images_of(model)
    theirs = dataclasses.replace(model.info.numerics, gelu="tanh")
    passes: list[int] = []
    observed = Observed(run(model, images, numerics=theirs), images, groups)
    found = diagnose(model, observed, progress=passes.append)
    assert passes == [*range(1, found.passes + 1)]
    first, where, gap, *_, end = found.describe()
    assert first == "1. GELU is tanh instead of erf"
    assert where.startswith("   first at block1.0.mlp: ")
    assert gap.startswith("   logits gap ")
    assert (
        end
        == f"closed: {len(tap_names(model.info.config))} taps of 8 images are within fp32 rounding"
    )
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    (finding,) = data["findings"]
    assert (finding["name"], finding["tap"]) == ("gelu=tanh", "block1.0.mlp")
    before, after = finding["times_rounding"]
    assert before > 100 and after < 4
    assert data["gap"] == finding["gap"] and data["gap"][0] > 100 * data["gap"][1]
