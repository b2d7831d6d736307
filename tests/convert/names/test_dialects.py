"""Names: every dialect is a bijection, training state is no weight, and shapes tell the model."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from convert import ConvertError
from convert.formats.table import read_file
from convert.names.detect import canonical_shapes, detect_dialect, infer_config
from convert.names.dialects import DIALECTS, NAMES, Dialect, find_dialect
from convert.names.prefixes import group_by_prefix
from convert.names.training_state import LEADING, OPTIMIZER, WHOLE, is_training_state
from convert.names.translation import from_canonical, to_canonical
from pvt_spec import VARIANTS, PVTConfig, TensorSpec, make_config, tensor_specs
from tests.support.messages import naming, tells
from tests.support.models import KINDS, SMALL, golden_config, golden_file
from tests.support.runtimes import import_mindspore

Shapes = dict[str, tuple[int, ...]]

MAPS = {f"{name} maps": make_config(name, features_only=True) for name in VARIANTS}
MODELS = {**VARIANTS, **MAPS}
PAIRS = [
    (dialect, model)
    for dialect in DIALECTS
    for model, config in MODELS.items()
    if config.version in dialect.versions and config.features_only >= dialect.features_only
]
IDS = [f"{dialect.name}-{model}" for dialect, model in PAIRS]

ALL_NAMES = sorted({spec.name for config in VARIANTS.values() for spec in tensor_specs(config)})

KEYS_OF_SIZE = ("patch_embed3.proj.weight", "block2.0.mlp.fc1.weight")
"""Tensors whose shapes decide the configuration."""


def canonical_names(config: PVTConfig) -> list[str]:
    return [spec.name for spec in tensor_specs(config)]


@cache
def their_specs(config: PVTConfig, dialect: Dialect) -> list[TensorSpec]:
    pairings = dialect.pairings(config, bare=not config.num_classes)
    return [spec for pairing in pairings for spec in pairing.theirs]


def named_shapes(config: PVTConfig, dialect: Dialect) -> Shapes:
    return {spec.name: spec.shape for spec in their_specs(config, dialect)}


# --- dialects


@pytest.mark.parametrize(("dialect", "model"), PAIRS, ids=IDS)
def test_dialects_are_bijections(dialect: Dialect, model: str) -> None:
    """Every canonical tensor is in one pairing, every name of theirs too, with as many numbers."""
    specs = tensor_specs(MODELS[model])
    pairings = list(dialect.pairings(MODELS[model], bare=False))
    ours = [spec for pairing in pairings for spec in pairing.ours]
    assert sorted(ours) == sorted(specs)
    theirs = [spec.name for pairing in pairings for spec in pairing.theirs]
    assert len(set(theirs)) == len(theirs)
    for pairing in pairings:
        assert sum(s.size for s in pairing.ours) == sum(s.size for s in pairing.theirs)
        for spec in pairing.theirs:
            bare = spec.name.removeprefix(dialect.base)
            assert dialect.to_canonical(spec.name) == pairing.ours[0].name
            assert all(bare in dialect.from_canonical(our.name) for our in pairing.ours)


@pytest.mark.parametrize(
    ("dialect", "name"),
    [(d, n) for d in DIALECTS for n, c in KINDS.items() if c.version in d.versions],
)
def test_values_come_back_bit_for_bit(dialect: Dialect, name: str) -> None:
    """Each element is followed, by its place in the model."""
    config, at = KINDS[name], 0
    if dialect.features_only and not config.features_only:
        with pytest.raises(ConvertError, match=naming(dialect.name)):
            list(dialect.pairings(config, bare=False))
        return
    weights = {}
    for spec in tensor_specs(config):
        weights[spec.name] = np.arange(at, at + spec.size, dtype=np.uint32).reshape(spec.shape)
        at += spec.size
    pairings = list(dialect.pairings(config, bare=False))
    theirs = from_canonical(weights, pairings)
    assert {name: array.shape for name, array in theirs.items()} == {
        spec.name: spec.shape for pairing in pairings for spec in pairing.theirs
    }
    back = to_canonical(theirs, pairings)
    assert back.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(back[name], array)
    joined = np.concatenate([array.reshape(-1) for array in theirs.values()])
    assert len(np.unique(joined)) == at == len(joined)


@pytest.mark.parametrize(("dialect", "model"), PAIRS, ids=IDS)
def test_a_dialect_knows_no_name_of_another(dialect: Dialect, model: str) -> None:
    names = set(canonical_names(MODELS[model]))
    theirs = named_shapes(MODELS[model], dialect).keys()
    for name in names - theirs:
        assert dialect.to_canonical(name) is None
    for other, same in PAIRS:
        if same == model:
            for name in named_shapes(MODELS[model], other).keys() - theirs:
                assert dialect.to_canonical(name) not in names


def test_dialects_are_named_once_per_version() -> None:
    pairs = Counter((d.name, version) for d in DIALECTS for version in d.versions)
    assert set(pairs.values()) == {1}
    both = ("official", "pvt_ms", "mindcv", "hf", "mmdet")
    assert set(pairs) == {("timm", 2), *((name, v) for name in both for v in (1, 2))}
    assert NAMES == ("official", "pvt_ms", "mindcv", "timm", "hf", "mmdet")
    assert {d.name: d.profile for d in DIALECTS} == {
        "official": "official",
        "pvt_ms": "official",
        "mindcv": "mindcv",
        "timm": "official",
        "hf": "hf",
        "mmdet": "hf",
    }


def test_unknown_dialects_are_refused() -> None:
    assert find_dialect("mindcv", 1) is not find_dialect("mindcv", 2)
    with pytest.raises(ConvertError, match=naming("'caffe'", "official", "pvt_ms")):
        find_dialect("caffe", 1)
    with pytest.raises(ConvertError, match=naming("timm", "PVT", "v1")):
        find_dialect("timm", 1)


@pytest.mark.parametrize(
    ("dialect", "version", "canonical", "theirs"),
    [
        ("pvt_ms", 1, "block1.1.norm1.weight", "block1.1.norm1.gamma"),
        ("pvt_ms", 2, "norm4.bias", "norm4.beta"),
        ("pvt_ms", 2, "block1.1.attn.norm.bias", "block1.1.attn.norm.beta"),
        ("mindcv", 1, "block1.1.norm1.weight", "Blocks.0.1.norm1.gamma"),
        ("mindcv", 1, "patch_embed4.norm.bias", "patch_embed4.norm.beta"),
        ("mindcv", 1, "norm.weight", "norm.gamma"),
        ("mindcv", 1, "pos_embed3", "pos_embed3"),
        ("mindcv", 2, "patch_embed1.proj.weight", "patch_embed_list.0.proj.weight"),
        ("mindcv", 2, "block4.2.mlp.dwconv.dwconv.bias", "block_list.3.2.mlp.dwconv.dwconv.bias"),
        ("mindcv", 2, "norm3.bias", "norm_list.2.beta"),
        ("mindcv", 2, "block2.0.attn.norm.weight", "block_list.1.0.attn.norm.gamma"),
        ("official", 1, "head.bias", "head.bias"),
        ("timm", 2, "patch_embed1.norm.bias", "patch_embed.norm.bias"),
        ("timm", 2, "patch_embed2.proj.bias", "stages.1.downsample.proj.bias"),
        ("timm", 2, "block3.1.mlp.dwconv.dwconv.bias", "stages.2.blocks.1.mlp.dwconv.bias"),
        ("hf", 1, "cls_token", "encoder.patch_embeddings.3.cls_token"),
        ("hf", 1, "block1.0.attn.proj.bias", "encoder.block.0.0.attention.output.dense.bias"),
        ("hf", 2, "head.weight", "classifier.weight"),
        ("mmdet", 1, "block2.0.attn.sr.bias", "layers.1.1.1.attn.sr.bias"),
        ("mmdet", 2, "block2.0.mlp.fc2.bias", "layers.1.1.0.ffn.layers.4.bias"),
    ],
)
def test_names_are_those_of_the_table(
    dialect: str, version: int, canonical: str, theirs: str
) -> None:
    assert find_dialect(dialect, version).from_canonical(canonical) == (theirs,)
    assert find_dialect(dialect, version).to_canonical(theirs) == canonical


@pytest.mark.parametrize(
    ("dialect", "version", "canonical", "theirs"),
    [
        ("hf", 1, "block4.0.attn.kv.bias", "encoder.block.3.0.attention.self.{}.bias"),
        ("hf", 2, "block4.0.attn.kv.weight", "encoder.layers.3.blocks.0.attention.{}.weight"),
    ],
)
def test_hf_keeps_keys_and_values_apart(
    dialect: str, version: int, canonical: str, theirs: str
) -> None:
    parts = tuple(theirs.format(part) for part in ("key", "value"))
    assert find_dialect(dialect, version).from_canonical(canonical) == parts
    base = find_dialect(dialect, version).base
    for part in parts:
        assert find_dialect(dialect, version).to_canonical(part) == canonical
        assert find_dialect(dialect, version).to_canonical(base + part) == canonical


THEIR_NAMES = sorted({n for d, model in PAIRS for n in named_shapes(MODELS[model], d)})


@given(
    name=st.sampled_from(THEIR_NAMES), cut=st.integers(0, 60), more=st.text("sx.0123", max_size=3)
)
def test_a_name_in_a_dialect_comes_back_as_it_was(name: str, cut: int, more: str) -> None:
    name = name[:cut] + more + name[cut:]
    for dialect in DIALECTS:
        canonical = dialect.to_canonical(name)
        bare = name.removeprefix(dialect.base)
        assert canonical is None or bare in dialect.from_canonical(canonical)


MINDCV_CASES = ["mindcv_v1_small", "mindcv_v2_small", "mindcv_v1_training_ema"]
OFFICIAL_CASES = ["official_v1_small", "official_v2_small", "official_v2_linear_small"]


def shapes_in(case: str) -> Shapes:
    """Of all that the peer's file holds, by its own names."""
    file = read_file(golden_file(case))
    return {name: array.shape for name, array in file.tensors.items()}


@pytest.mark.parametrize("case", [*MINDCV_CASES, *OFFICIAL_CASES])
def test_the_peers_files_hold_exactly_the_specs_tensors(case: str) -> None:
    config = golden_config(case)
    dialect = find_dialect(case.partition("_")[0], config.version)
    weights = {n: shape for n, shape in shapes_in(case).items() if not is_training_state(n)}
    assert canonical_shapes(weights, dialect) == {s.name: s.shape for s in tensor_specs(config)}
    assert weights == named_shapes(config, dialect)


# --- training state


def test_a_training_checkpoint_holds_state_that_is_told_apart() -> None:
    case = "mindcv_v1_training_ema"
    shapes = shapes_in(case)
    weights = set(named_shapes(golden_config(case), find_dialect("mindcv", 1)))
    state = {name for name in shapes if is_training_state(name)}
    assert state == shapes.keys() - weights
    prefixes = ("adam_m", "adam_v", "ema")
    counters = {name for name in shapes if "." not in name} - weights
    assert counters == {
        *("beta1_power", "beta2_power", "epoch_num", "global_step", "learning_rate"),
        *("scale_sense", "step_num", "updates"),
    }
    assert state == {f"{prefix}.{name}" for prefix in prefixes for name in weights} | counters


@pytest.mark.parametrize(("dialect", "variant"), PAIRS, ids=IDS)
def test_no_weight_is_training_state(dialect: Dialect, variant: str) -> None:
    names = named_shapes(MODELS[variant], dialect)
    assert not [name for name in names if is_training_state(name)]


@pytest.mark.parametrize("name", sorted(WHOLE) + [f"{prefix}head.weight" for prefix in LEADING])
def test_state_is_also_known_under_gradient_accumulation(name: str) -> None:
    assert is_training_state(name)
    assert is_training_state(OPTIMIZER + name)


@given(
    weight=st.sampled_from(ALL_NAMES),
    prefix=st.text(alphabet="xyz_.0123456789", min_size=1, max_size=12),
)
def test_a_weights_name_at_the_end_of_another_decides_nothing(weight: str, prefix: str) -> None:
    assert not is_training_state(prefix + weight)
    for dialect in DIALECTS:
        for name in dialect.from_canonical(weight):
            if prefix != dialect.base:
                assert dialect.to_canonical(prefix + name) not in ALL_NAMES


@pytest.mark.parametrize(
    "name",
    ["backbone.ema.head.weight", "head.adam_m.weight", "momentum.weight", "learning_rate_2", "ema"],
)
def test_state_is_told_by_whole_names_and_leading_parts_alone(name: str) -> None:
    assert not is_training_state(name)


@given(weight=st.sampled_from(ALL_NAMES), prefix=st.sampled_from(LEADING))
def test_moments_are_never_the_weight(weight: str, prefix: str) -> None:
    for dialect in DIALECTS:
        for theirs in dialect.from_canonical(weight):
            assert is_training_state(prefix + theirs)
            assert dialect.to_canonical(prefix + theirs) not in ALL_NAMES


OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "SGD": lambda nn, p: nn.SGD(p, momentum=0.9),
    "Momentum": lambda nn, p: nn.Momentum(p, 0.1, 0.9),
    "Adam": lambda nn, p: nn.Adam(p, use_amsgrad=True),
    "AdamWeightDecay": lambda nn, p: nn.AdamWeightDecay(p),
    "RMSProp": lambda nn, p: nn.RMSProp(p, centered=True),
    "Adagrad": lambda nn, p: nn.Adagrad(p),
    "Lamb": lambda nn, p: nn.Lamb(p, 0.1),
    "Adadelta": lambda nn, p: nn.Adadelta(p),
    "AdaMax": lambda nn, p: nn.AdaMax(p),
}
"""MindSpore's optimizers, those of MindCV's ``--opt`` among them."""


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_mindspores_optimizers_add_is_training_state(optimizer: str) -> None:
    nn = import_mindspore().nn
    layer = nn.Dense(3, 4)
    weights = {parameter.name for parameter in layer.get_parameters()}
    made = OPTIMIZERS[optimizer](nn, layer.trainable_params())
    state = {parameter.name for parameter in made.get_parameters()} - weights
    assert state
    assert not [name for name in sorted(state) if not is_training_state(name)]


@pytest.mark.parametrize(
    "name",
    [
        "lion_m.head.weight",  # mindcv/optim/lion.py
        "nadam_m.head.weight",  # mindcv/optim/nadam.py
        "nadam_v.head.weight",
        "mu_schedule",
        "moment3.head.weight",  # mindcv/optim/adan.py
        "prev_gradient.head.weight",
    ],
)
def test_what_mindcvs_own_optimizers_add_is_training_state(name: str) -> None:
    assert is_training_state(name)


# --- detection


@pytest.mark.parametrize(("dialect", "variant"), PAIRS, ids=IDS)
def test_every_variant_is_recognised_in_every_dialect(dialect: Dialect, variant: str) -> None:
    config = MODELS[variant]
    shapes = named_shapes(config, dialect)
    found = detect_dialect(shapes)
    assert found == dialect
    inferred, guesses = infer_config(
        canonical_shapes(shapes, found), None, features_only=dialect.features_only
    )
    # A v2 without a head can answer features or maps: only the user knows.
    same = dataclasses.replace(config, features_only=inferred.features_only)
    assert inferred == same
    assert inferred.features_only == (
        config.features_only and (config.version == 1 or dialect.features_only)
    )
    unsure = config.version == 2 and not config.num_classes and not inferred.features_only
    answer = {"features_only"} if unsure else set()
    assert guesses.keys() == {"image_size", "num_heads", *answer}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: f"{d.name}{d.versions}")
def test_heads_channels_and_classes_are_read_from_shapes(dialect: Dialect) -> None:
    version = dialect.versions[0]
    small = SMALL["v1" if version == 1 else "linear"]
    maps = dialect.features_only
    config = dataclasses.replace(
        small, in_chans=4, num_classes=0, image_size=(96, 96), features_only=maps
    )
    shapes = named_shapes(config, dialect)
    assert detect_dialect(shapes) == dialect
    named = canonical_shapes(shapes, dialect)
    inferred, guesses = infer_config(named, (96, 96), features_only=maps)
    assert inferred == config
    assert tells(guesses["num_heads"], "num_heads", "1", "2", "3", "4", "--num-heads")
    told, more = infer_config(named, (96, 96), features_only=maps, num_heads=(2, 4, 6, 8))
    assert told == dataclasses.replace(config, num_heads=(2, 4, 6, 8))
    assert more.keys() == guesses.keys() - {"num_heads"}


@pytest.mark.parametrize("case", [*MINDCV_CASES, *OFFICIAL_CASES])
def test_the_peers_configurations_are_inferred(case: str) -> None:
    shapes = {n: shape for n, shape in shapes_in(case).items() if not is_training_state(n)}
    dialect = detect_dialect(shapes)
    assert dialect.name == case.partition("_")[0]
    inferred, _ = infer_config(canonical_shapes(shapes, dialect), (64, 64))
    assert inferred == golden_config(case)


def test_position_embeddings_tell_a_square_image() -> None:
    config = make_config("pvt_small", image_size=384)
    shapes = named_shapes(config, find_dialect("official", 1))
    inferred, guesses = infer_config(shapes, None)
    assert inferred == config
    guess = "image size 384x384, if square: pos_embed1 has 9216 rows (--from-image-size)"
    assert guesses["image_size"] == guess


def test_a_wide_image_is_taken_where_it_is_given() -> None:
    config = make_config("pvt_small", image_size=(96, 160))
    shapes = named_shapes(config, find_dialect("official", 1))
    inferred, guesses = infer_config(shapes, (96, 160))
    assert inferred == config and guesses.keys() == {"num_heads"}
    with pytest.raises(ConvertError, match=naming("960", "--from-image-size", "HxW")):
        infer_config(shapes, None)


def test_what_v2_does_not_show_is_said_to_be_a_guess() -> None:
    shapes = named_shapes(VARIANTS["pvt_v2_b0"], find_dialect("official", 2))
    inferred, guesses = infer_config(shapes, None)
    assert inferred.image_size == (224, 224)
    guess = "image size 224x224: PVT v2's tensors do not show it (--image-size)"
    assert guesses["image_size"] == guess
    assert infer_config(shapes, (64, 96))[0].image_size == (64, 96)
    assert infer_config(shapes, (64, 96))[1].keys() == {"num_heads"}
    assert tells(guesses["num_heads"], "pvt_v2_b0", "1", "2", "5", "8", "--num-heads")
    assert infer_config(shapes, (64, 96), num_heads=(1, 2, 5, 8))[1] == {}


@pytest.mark.parametrize("missing", KEYS_OF_SIZE)
def test_a_missing_tensor_that_decides_something_is_named(missing: str) -> None:
    shapes = named_shapes(VARIANTS["pvt_v2_b0"], find_dialect("official", 2))
    del shapes[missing]
    with pytest.raises(ConvertError, match=naming(missing, "--model")):
        infer_config(shapes, None)


def damaged_shapes() -> Iterator[tuple[str, Shapes]]:
    whole = named_shapes(VARIANTS["pvt_tiny"], find_dialect("official", 1))
    yield "a vector", {**whole, "patch_embed1.proj.weight": (64,)}
    yield "a scalar", {**whole, "patch_embed2.proj.weight": ()}
    yield "no channels", {**whole, "patch_embed1.proj.weight": (0, 3, 4, 4)}
    yield "narrow first stage", {**whole, "patch_embed1.proj.weight": (1, 3, 4, 4)}
    yield "odd width", {**whole, "patch_embed3.proj.weight": (321, 128, 2, 2)}
    yield "narrow mlp", {**whole, "block1.0.mlp.fc1.weight": (3, 64)}
    yield "flat reduction", {**whole, "block1.0.attn.sr.weight": (64, 64)}
    yield "scalar head", {**whole, "head.weight": ()}
    yield "no positions", {n: s for n, s in whole.items() if n != "pos_embed1"}
    yield "flat positions", {**whole, "pos_embed1": (3136,)}
    yield "too few positions", {**whole, "pos_embed1": (1, 4, 64)}


DAMAGED = dict(damaged_shapes())


@pytest.mark.parametrize("damage", DAMAGED)
def test_shapes_of_no_pvt_never_raise_anything_else(damage: str) -> None:
    """They are refused here, or give a configuration that the completeness check then refuses."""
    try:
        inferred, _ = infer_config(DAMAGED[damage], None)
    except ConvertError:
        return
    assert {s.name: s.shape for s in tensor_specs(inferred)} != DAMAGED[damage]


@pytest.mark.parametrize(
    "shapes",
    [{}, {"conv1.weight": (64, 3, 7, 7), "fc.bias": (10,)}],
    ids=["nothing", "another network"],
)
def test_other_networks_are_refused(shapes: Shapes) -> None:
    with pytest.raises(ConvertError) as refusal:
        detect_dialect(shapes)
    message = str(refusal.value)
    assert tells(message, "PVT", "official", "pvt_ms", "mindcv", "timm", "hf")
    assert all(name in message for name in shapes)


# --- prefixes


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: f"{d.name}{d.versions}")
def test_names_are_grouped_by_any_prefix(dialect: Dialect) -> None:
    kind = f"v{dialect.versions[0]}"
    config = dataclasses.replace(KINDS[f"{kind} maps" if dialect.features_only else kind])
    names = [*named_shapes(dataclasses.replace(config, num_classes=0), dialect)]
    beside = ["step", "decoder.weight", "other.proj.weight"]
    for prefix in ("", "model.", "a.b.", "x_y.stages.0.", "block1.0."):
        groups = group_by_prefix([*(prefix + name for name in names), *beside])
        assert groups == {prefix: names if prefix else names + beside}


def test_names_go_to_the_longest_prefix() -> None:
    names = canonical_names(VARIANTS["pvt_v2_b0"])
    both = [prefix + name for prefix in ("", "net.", "net.net.") for name in names]
    assert group_by_prefix(both) == {"": names, "net.": names, "net.net.": names}
    assert group_by_prefix(["conv.weight"]) == group_by_prefix([]) == {}


def test_prefixes_are_found_in_time_that_grows_with_the_names() -> None:
    """However many prefixes there are, and however long they are."""
    name = "patch_embed1.proj.weight"
    hostile = [*("a." * i + name for i in range(200)), *(f"{i}.{name}" for i in range(9_000))]
    hostile.append("." * 1_000_000 + name)
    started = time.perf_counter()
    assert len(group_by_prefix(hostile)) == 9_200
    assert time.perf_counter() - started < 5
