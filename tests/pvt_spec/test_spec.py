"""The spec against figures and files of the peers' own code, and the official state dicts."""

import dataclasses
import json

import pytest
from hypothesis import given, strategies as st

from convert.formats.pth import file as pth
from pvt_spec import (
    CHOICES,
    CROP_MODES,
    CROP_PCT,
    EPSILONS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    NUM_STAGES,
    ORIENTATIONS,
    PROFILES,
    RESIZES,
    VARIANTS,
    ConfigError,
    ModelInfo,
    Numerics,
    Preprocessing,
    PVTConfig,
    default_preprocessing,
    describe_numerics,
    list_models,
    make_config,
    output_names,
    profile_numerics,
    same_padding,
    stage_grids,
    tap_names,
    tensor_specs,
    variant_name,
)
from pvt_spec.words import counted, listed, shortened
from tests.support.messages import Facts, naming, tells
from tests.support.models import GOLDEN_SMALL, golden_config, golden_file, golden_weights

# Counted in whai362/PVT's own models: tensors, and parameters in millions for 1000 classes.
COUNTS = {
    "pvt_tiny": (161, "13.229"),
    "pvt_small": (301, "24.486"),
    "pvt_medium": (517, "44.208"),
    "pvt_large": (751, "61.369"),
    "pvt_v2_b0": (178, "3.67"),
    "pvt_v2_b1": (178, "14.01"),
    "pvt_v2_b2": (334, "25.36"),
    "pvt_v2_b2_li": (346, "22.55"),
    "pvt_v2_b3": (574, "45.24"),
    "pvt_v2_b4": (834, "62.56"),
    "pvt_v2_b5": (1054, "81.96"),
}

# Read in the peers' own code: patch_embed, attn, norm1, norm2 and final epsilon.
PROFILE_TABLE = {
    ("official", 1): ("erf", "symmetric", (1e-5, 1e-5, 1e-6, 1e-6, 1e-6), "float32"),
    ("official", 2): ("erf", "symmetric", (1e-5, 1e-5, 1e-6, 1e-6, 1e-6), "float32"),
    ("mindcv", 1): ("tanh", "same", (1e-5, 1e-7, 1e-5, 1e-6, 1e-6), "float16"),
    ("mindcv", 2): ("tanh", "same", (1e-7, 1e-7, 1e-6, 1e-6, 1e-6), "float32"),
    ("hf", 1): ("erf", "symmetric", (1e-6, 1e-6, 1e-6, 1e-6, 1e-6), "float32"),
    ("hf", 2): ("erf", "symmetric", (1e-6, 1e-6, 1e-6, 1e-6, 1e-6), "float32"),
}

V1 = VARIANTS["pvt_tiny"]
V2 = VARIANTS["pvt_v2_b2_li"]
OFFICIAL_CASES = ("official_v1_small", "official_v2_small", "official_v2_linear_small")


@pytest.mark.parametrize("name", COUNTS)
def test_tensors_and_parameters_are_as_many_as_published(name: str) -> None:
    tensors, millions = COUNTS[name]
    specs = tensor_specs(VARIANTS[name])
    assert len(specs) == tensors
    decimals = len(millions.partition(".")[2])
    assert f"{sum(spec.size for spec in specs) / 1e6:.{decimals}f}" == millions


def test_every_variant_but_our_own_has_published_counts() -> None:
    assert set(VARIANTS) - set(COUNTS) == {"pvt_nano"}


@pytest.mark.parametrize("case", OFFICIAL_CASES)
def test_tensor_specs_are_the_official_state_dict(case: str) -> None:
    official = pth.read(golden_file(case)).tensors
    specs = tensor_specs(golden_config(case))
    assert [(spec.name, spec.shape) for spec in specs] == [
        (n, t.shape) for n, t in official.items()
    ]


@pytest.mark.parametrize("case", GOLDEN_SMALL)
def test_every_peers_tensors_have_the_same_shapes(case: str) -> None:
    shapes = {name: array.shape for name, array in golden_weights(case).items()}
    assert shapes == {spec.name: spec.shape for spec in tensor_specs(golden_config(case))}


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensor_names_are_unique_and_kinds_known(variant: str) -> None:
    specs = tensor_specs(VARIANTS[variant])
    assert len({spec.name for spec in specs}) == len(specs)
    assert {spec.kind for spec in specs} <= {"pos_embed", "cls_token", "conv", "norm", "linear"}


def test_heads_channels_and_image_size_show_in_the_shapes() -> None:
    config = make_config("pvt_small", num_classes=0, in_chans=4, image_size=(96, 160))
    shapes = {spec.name: spec.shape for spec in tensor_specs(config)}
    assert "head.weight" not in shapes and "head.bias" not in shapes
    assert shapes["patch_embed1.proj.weight"] == (64, 4, 4, 4)
    positions = [shapes[f"pos_embed{stage}"] for stage in (1, 2, 3, 4)]
    assert positions == [(1, 960, 64), (1, 240, 128), (1, 60, 320), (1, 15 + 1, 512)]


@pytest.mark.parametrize("variant", COUNTS)
def test_backbones_lack_what_comes_after_the_last_map(variant: str) -> None:
    """v1: what whai362/PVT ``detection/pvt.py`` computes with; v2: all but the head."""
    whole = {spec.name: spec.shape for spec in tensor_specs(VARIANTS[variant])}
    config = make_config(variant, features_only=True)
    shapes = {spec.name: spec.shape for spec in tensor_specs(config)}
    gone = {"head.weight", "head.bias"}
    if config.version == 1:
        gone |= {"cls_token", "norm.weight", "norm.bias"}
        assert whole.pop("pos_embed4") == (1, 50, 512) and shapes.pop("pos_embed4") == (1, 49, 512)
    assert whole.keys() - shapes.keys() == gone
    assert shapes.items() <= whole.items()


@pytest.mark.parametrize(("profile", "version"), PROFILE_TABLE)
def test_profiles_are_the_peers(profile: str, version: int) -> None:
    gelu, padding, epsilons, pos_embed_dtype = PROFILE_TABLE[profile, version]
    assert dataclasses.astuple(PROFILES[profile][version]) == (
        gelu,
        padding,
        *epsilons,
        pos_embed_dtype,
        "half_pixel",
    )


def test_profiles_are_all_in_the_table() -> None:
    assert {(name, v) for name, by_version in PROFILES.items() for v in by_version} == set(
        PROFILE_TABLE
    )


def test_crop_and_normalisation_are_the_peers() -> None:
    assert CROP_PCT == {"official": 0.875, "mindcv": 0.9, "hf": 0.875}
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_default_preprocessing_has_a_mean_per_channel(in_chans: int) -> None:
    preprocessing = default_preprocessing(make_config("pvt_tiny", in_chans=in_chans), "mindcv")
    assert len(preprocessing.mean) == len(preprocessing.std) == in_chans
    assert preprocessing.mean[0] == 0.485 and preprocessing.crop_pct == 0.9


@given(size=st.integers(32, 700), wide=st.integers(32, 700))
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_grids_follow_closed_forms(version: int, padding: str, size: int, wide: int) -> None:
    config = V1 if version == 1 else V2
    numerics = Numerics(conv_padding=padding)
    # v1 cuts whole tiles; v2's overlapping patches and "same" round up. Nested floors and
    # ceilings are those of the product of the strides.
    down = version == 1 and padding == "symmetric"
    grids = [
        tuple(pixels // stride if down else -(-pixels // stride) for pixels in (size, wide))
        for stride in (4, 8, 16, 32)
    ]
    assert stage_grids(config, numerics, (size, wide)) == grids


@given(size=st.integers(1, 500), kernel=st.integers(1, 8), stride=st.integers(1, 8))
def test_same_padding_gives_the_ceiling(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert after - before in (0, 1)
    if kernel >= stride or size % stride:
        assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(7, 4, (1, 2)), (3, 2, (0, 1)), (8, 8, (0, 0))]
)
def test_same_padding_is_mindcvs_at_224(kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(224, kernel, stride) == padding


@pytest.mark.parametrize("variant", VARIANTS)
def test_taps_follow_the_depths(variant: str) -> None:
    config = VARIANTS[variant]
    names = tap_names(config)
    # patch_embed and embed of each stage, then norm, features, logits; in v2 a norm of each stage.
    others = 4 * 2 + 3 if config.version == 1 else 4 * 2 + 2
    assert len(names) == len(set(names)) == 3 * sum(config.depths) + others
    assert names[0] == "patch_embed1" and names[-1] == "logits"
    assert output_names(config) == ("logits",)
    headless = dataclasses.replace(config, num_classes=0)
    assert tap_names(headless) == names[:-1] and output_names(headless) == ("features",)
    maps = dataclasses.replace(headless, features_only=True)
    others = ("stage1", "stage2", "stage3", "stage4")
    assert output_names(maps) == others
    assert [n for n in tap_names(maps) if n not in others] == [
        name for name in names if name not in ("norm", "features", "logits")
    ]


def test_taps_come_in_forward_order() -> None:
    assert tap_names(VARIANTS["pvt_tiny"])[:10] == [
        "patch_embed1",
        "embed1",
        "block1.0.attn",
        "block1.0.mlp",
        "block1.0",
        "block1.1.attn",
        "block1.1.mlp",
        "block1.1",
        "patch_embed2",
        "embed2",
    ]
    assert tap_names(VARIANTS["pvt_v2_b0"])[-6:] == [
        "block4.1.attn",
        "block4.1.mlp",
        "block4.1",
        "norm4",
        "features",
        "logits",
    ]
    maps = tap_names(make_config("pvt_v2_b0", features_only=True))
    assert maps[-3:] == ["block4.1", "norm4", "stage4"]
    assert maps[maps.index("stage1") - 1 :][:3] == ["norm1", "stage1", "patch_embed2"]
    maps = tap_names(make_config("pvt_tiny", features_only=True))
    assert maps[-2:] == ["block4.1", "stage4"]
    assert maps[maps.index("stage2") - 1 :][:3] == ["block2.1", "stage2", "patch_embed3"]


def test_list_models_matches_patterns_in_order_of_size() -> None:
    assert list_models("pvt_v2*") == [
        "pvt_v2_b0",
        "pvt_v2_b1",
        "pvt_v2_b2",
        "pvt_v2_b2_li",
        "pvt_v2_b3",
        "pvt_v2_b4",
        "pvt_v2_b5",
    ]
    assert list_models() == list(VARIANTS)
    assert list_models("*_li") == ["pvt_v2_b2_li"]
    assert list_models("resnet*") == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_drop_path_grows_linearly_over_all_blocks(variant: str) -> None:
    config = make_config(variant, drop_path_rate=0.3)
    rates = config.drop_path_rates()
    last = sum(config.depths) - 1
    assert len(rates) == last + 1
    assert rates == pytest.approx([0.3 * block / last for block in range(last + 1)], abs=1e-15)
    assert rates[0] == 0.0 and rates[-1] == pytest.approx(0.3, abs=1e-15)


def test_drop_path_changes_no_tensor_and_no_name() -> None:
    config = make_config("pvt_tiny", drop_path_rate=0.1)
    assert tensor_specs(config) == tensor_specs(VARIANTS["pvt_tiny"])
    assert variant_name(config) == "pvt_tiny"


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_name_sees_the_architecture_alone(variant: str) -> None:
    config = make_config(variant, num_classes=3, in_chans=1, image_size=(64, 96))
    assert variant_name(config) == variant
    assert variant_name(make_config(variant, features_only=True)) == variant
    deeper = dataclasses.replace(config, depths=(*config.depths[:3], config.depths[3] + 1))
    assert variant_name(deeper) is None


@pytest.mark.parametrize(
    "record",
    [V1, Numerics(), Preprocessing(), ModelInfo(V1, Numerics(), Preprocessing())],
    ids=lambda record: type(record).__name__,
)
def test_records_are_frozen(record: object) -> None:
    field = dataclasses.fields(record)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, getattr(record, field))


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"version": 3}, ("3", "1", "2")),
        ({"depths": (2, 2, 2)}, ("2", "4")),
        ({"depths": (2, 2, 2, 201)}, ("depths", "200")),
        ({"embed_dims": (64, 128, 320, 0)}, ("embed_dims", "4")),
        ({"num_heads": (1, 2, 3, 8)}, ("embed_dims", "320", "num_heads", "3")),
        ({"sr_ratios": (8, 4, 2, 2)}, ("sr_ratios", "3", "2", "1")),
        ({"sr_ratios": (8, 8, 2, 1), "image_size": (32, 64)}, ("sr_ratios[1]", "8", "4")),
        ({"linear": True}, ("2", "attention")),
        ({"image_size": (31, 224)}, ("image_size", "31", "224", "32")),
        ({"image_size": (224,)}, ("image_size", "224")),
        ({"in_chans": 0}, ("in_chans", "0", "1")),
        ({"num_classes": -1}, ("num_classes", "-1", "0")),
        ({"features_only": True}, ("num_classes", "1000", "features_only", "0")),
        ({"drop_path_rate": 1.0}, ("drop_path_rate", "1.0")),
        ({"drop_path_rate": -0.1}, ("drop_path_rate", "-0.1")),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, object], facts: Facts) -> None:
    with pytest.raises(ConfigError, match=naming(*facts)):
        dataclasses.replace(V1, **changes)  # type: ignore[arg-type]


def test_all_problems_of_a_configuration_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=naming("in_chans", "0", "num_classes", "-1")):
        dataclasses.replace(V1, in_chans=0, num_classes=-1)


@pytest.mark.parametrize(
    ("field", "value"), [*((field, "nothing") for field in CHOICES), *((e, 0.0) for e in EPSILONS)]
)
def test_impossible_numerics_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=naming(field, f"{value!r}")):
        Numerics(**{field: value})  # type: ignore[arg-type]


def test_choices_and_epsilons_are_all_the_fields() -> None:
    assert {f.name for f in dataclasses.fields(Numerics)} == {*CHOICES, *EPSILONS}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("pvt_tiny_224", ("'pvt_tiny_224'", "pvt_tiny")),
        ("pvt_v2_b6", ("'pvt_v2_b6'", "pvt_v2_b5")),
        ("xyz", ("'xyz'", "pvt_tiny", "pvt_small")),
    ],
)
def test_unknown_variants_are_refused_with_a_hint(name: str, facts: Facts) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_config(name)
    assert tells(refusal.value, *facts)


def test_make_config_replaces_what_is_given() -> None:
    assert make_config("pvt_tiny") == V1
    config = make_config("pvt_tiny", num_classes=0, in_chans=1, image_size=96, drop_path_rate=0.5)
    assert config == dataclasses.replace(
        V1, num_classes=0, in_chans=1, image_size=(96, 96), drop_path_rate=0.5
    )
    with pytest.raises(ConfigError, match="image_size"):
        make_config("pvt_tiny", image_size=16)


def test_make_config_leaves_a_backbone_no_classes() -> None:
    expected = dataclasses.replace(V1, num_classes=0, features_only=True)
    assert make_config("pvt_tiny", features_only=True) == expected
    assert make_config("pvt_tiny", features_only=True, num_classes=0) == expected
    with pytest.raises(ConfigError, match=naming("num_classes", "10", "features_only")):
        make_config("pvt_tiny", features_only=True, num_classes=10)


def test_unknown_profiles_are_refused() -> None:
    with pytest.raises(ConfigError, match=naming("'timm'", "official", "mindcv")):
        profile_numerics("timm", 1)


def test_numerics_are_described_by_the_nearest_profile() -> None:
    for (profile, version), _ in PROFILE_TABLE.items():
        assert describe_numerics(PROFILES[profile][version], version) == profile
    changed = dataclasses.replace(PROFILES["mindcv"][1], pos_embed_dtype="float32")
    assert describe_numerics(changed, 1) == "mindcv with pos_embed_dtype=float32"


def _infos() -> st.SearchStrategy[ModelInfo]:
    positive = st.tuples(*[st.integers(1, 40)] * NUM_STAGES)
    sizes = st.tuples(st.integers(32, 1000), st.integers(32, 1000))
    reductions = st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(1, 2))
    epsilon = st.floats(1e-12, 0.5)
    heads = st.tuples(*[st.integers(1, 8)] * NUM_STAGES)

    @st.composite
    def info(draw: st.DrawFn) -> ModelInfo:
        num_heads, classes = draw(heads), draw(st.integers(0, 5))
        version = draw(st.sampled_from([1, 2]))
        config = PVTConfig(
            version,
            tuple(h * w for h, w in zip(num_heads, draw(positive), strict=True)),
            draw(positive),
            num_heads,
            draw(positive),
            (*draw(reductions), 1),
            linear=version == 2 and draw(st.booleans()),
            image_size=draw(sizes),
            in_chans=draw(st.integers(1, 12)),
            num_classes=classes,
            features_only=not classes and draw(st.booleans()),
            drop_path_rate=draw(st.floats(0, 0.99)),
        )
        choices = {field: draw(st.sampled_from(values)) for field, values in CHOICES.items()}
        numerics = Numerics(**choices, **{field: draw(epsilon) for field in EPSILONS})
        shares = st.lists(st.floats(0.01, 1), min_size=config.in_chans, max_size=config.in_chans)
        mean, std = tuple(draw(shares)), tuple(draw(shares))
        preprocessing = Preprocessing(
            draw(sizes),
            draw(st.floats(0.1, 2)),
            mean,
            std,
            draw(st.sampled_from([*RESIZES])),
            draw(st.sampled_from(INTERPOLATIONS)),
            draw(st.sampled_from([*CROP_MODES])),
            draw(st.floats(1e-3, 1)),
            draw(st.booleans()),
            draw(st.sampled_from([*ORIENTATIONS])),
        )
        labels = draw(
            st.one_of(st.just([]), st.lists(st.text(), min_size=classes, max_size=classes))
        )
        provenance = draw(st.dictionaries(st.text(), st.text(), max_size=3))
        task = draw(st.sampled_from(["", "multi_label", "regression"]))
        return ModelInfo(config, numerics, preprocessing, tuple(labels), provenance, task)

    return info()


@given(_infos())
def test_model_info_survives_json(info: ModelInfo) -> None:
    text = info.to_json()
    assert "\n" not in text
    assert ModelInfo.from_json(text) == info


def test_model_info_without_a_word_of_maps_is_a_whole_model() -> None:
    whole = json.loads(ModelInfo(V1, Numerics(), Preprocessing()).to_json())
    assert whole["config"].pop("features_only") is False
    assert ModelInfo.from_json(json.dumps(whole)).config == V1


def _damaged() -> dict[str, str]:
    whole = json.loads(ModelInfo(V1, Numerics(), Preprocessing()).to_json())
    config = whole["config"]
    damaged = {
        "text": "not JSON",
        "empty": "",
        "cut": json.dumps(whole)[:-20],
        "list": "[1, 2]",
        "null": "null",
        "later format": json.dumps({**whole, "format": 3}),
        "format of text": json.dumps({**whole, "format": "2"}),
        "no format": json.dumps({k: v for k, v in whole.items() if k != "format"}),
        "unknown field": json.dumps({**whole, "surprise": 1}),
        "unknown config field": json.dumps({**whole, "config": {**config, "surprise": 1}}),
        "impossible config": json.dumps({**whole, "config": {**config, "version": 7}}),
        "config of text": json.dumps({**whole, "config": {**config, "depths": "2222"}}),
        "config without depths": json.dumps(
            {**whole, "config": {k: v for k, v in config.items() if k != "depths"}}
        ),
        "numerics of text": json.dumps({**whole, "numerics": "official"}),
        "epsilon of text": json.dumps(
            {**whole, "numerics": {**whole["numerics"], "norm1_eps": "1e-6"}}
        ),
        "too few labels": json.dumps({**whole, "labels": ["cat"]}),
    }
    for field, value in (
        ("crop_pct", 0),
        ("crop_pct", "0.9"),
        ("crop_pct", 1e-9),
        ("crop_pct", 300),
        ("crop_pct", float("nan")),
        ("resize", "fill"),
        ("resize", ["squash"]),
        ("interpolation", 3),
        ("crop_mode", None),
        ("orientation", ""),
        ("rescale", 0),
        ("rescale", "on"),
        ("normalise", 1),
        ("mean", [0.5, 0.5, float("inf")]),
        ("image_size", [224]),
        ("image_size", [16, 224]),
        ("mean", [0.5]),
        ("std", [0.2, 0.2]),
        ("std", [0.2, 0.2, 0]),
    ):
        preprocessing = {**whole["preprocessing"], field: value}
        damaged[f"{field} {value}"] = json.dumps({**whole, "preprocessing": preprocessing})
    for name in ("config", "numerics", "preprocessing", "labels", "provenance", "task"):
        damaged[f"without {name}"] = json.dumps({k: v for k, v in whole.items() if k != name})
    for part in ("config", "numerics", "preprocessing"):
        for name in sorted(whole[part].keys() - {"features_only"}):
            less = {k: v for k, v in whole[part].items() if k != name}
            damaged[f"{part} without {name}"] = json.dumps({**whole, part: less})
    for task in ("softmax", "binary", 1, None):
        damaged[f"task {task}"] = json.dumps({**whole, "task": task})
    return damaged


@pytest.mark.parametrize("text", _damaged().values(), ids=_damaged().keys())
def test_damaged_model_info_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ModelInfo.from_json(text)


def test_labels_fit_the_head_and_name_the_classes() -> None:
    config = make_config("pvt_nano", num_classes=2)
    info = ModelInfo(config, Numerics(), Preprocessing(), ("cat", "dog"))
    assert info.label(1) == "dog"
    assert dataclasses.replace(info, labels=()).label(1) == "1"
    assert dataclasses.replace(info, labels=("cat", " ")).label(1) == "1"
    with pytest.raises(ConfigError, match=naming("1", "2")):
        dataclasses.replace(info, labels=("cat",))


def test_model_info_names_variant_and_profile() -> None:
    info = ModelInfo(V1, PROFILES["mindcv"][1], Preprocessing())
    assert (info.variant, info.profile) == ("pvt_tiny", "mindcv")


@pytest.mark.parametrize(
    ("classes", "task", "expected"),
    [
        (1000, "", "single_label"),
        (1, "", "binary"),
        (0, "", "single_label"),
        (1, "multi_label", "multi_label"),
        (4, "multi_label", "multi_label"),
        (0, "binary", "binary"),
        (1, "single_label", None),
        (2, "binary", None),
        (2, "softmax", None),
    ],
)
def test_what_logits_mean_goes_with_their_number(
    classes: int, task: str, expected: str | None
) -> None:
    config = make_config("pvt_nano", num_classes=classes)
    if expected is None:
        with pytest.raises(ConfigError, match=naming("task", task)):
            ModelInfo(config, Numerics(), Preprocessing(), task=task)
    else:
        assert ModelInfo(config, Numerics(), Preprocessing(), task=task).task == expected


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (1, "tensor", "1 tensor"),
        (0, "image", "0 images"),
        (2000, "class", "2,000 classes"),
        (2, "epoch", "2 epochs"),
        (2, "batch", "2 batches"),
    ],
)
def test_numbers_of_things_are_said_as_one_says_them(number: int, noun: str, expected: str) -> None:
    assert counted(number, noun) == expected


def test_long_lists_and_texts_are_cut_and_say_so() -> None:
    asked: list[int] = []

    def show(item: int) -> str:
        asked.append(item)
        return f"<{item}>"

    assert (listed([], 3), listed(["a", "b"], 2)) == ("", "a, b")
    assert listed(range(2000), 2, show) == "<0>, <1> and 1998 more"
    assert asked == [0, 1]
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 61) == "a" * 57 + "…"
