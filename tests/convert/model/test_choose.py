"""Files as people save them: whatever is around a PVT's tensors, they are found, and it is said."""

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import ConvertError, Given, read_model
from convert.findings import to_dict
from convert.formats import ckpt
from convert.formats.weight_file import WeightFile
from convert.model.read import understand
from convert.names.dialects import find_dialect
from convert.names.translation import from_canonical
from pvt_spec import PVTConfig, PvtError
from tests.support.converting import refused, same_bits, succeed
from tests.support.messages import naming, tells
from tests.support.models import SMALL, Weights, random_weights

V1, V2 = SMALL["v1"], SMALL["v2"]
WEIGHTS = {kind: random_weights(config) for kind, config in SMALL.items()}
HEAD = ("head.weight", "head.bias")


def put(path: Path, thing: Any) -> Path:
    """Saves arrays, in whatever they lie, as torch saves tensors."""
    import torch

    def tensors(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tensors(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(tensors, value))
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value

    torch.save(tensors(thing), path)
    return path


def prefixed(prefix: str, weights: Weights, **beside: np.ndarray) -> Weights:
    return {**{prefix + name: array for name, array in weights.items()}, **beside}


def headless(weights: Weights) -> Weights:
    return {name: array for name, array in weights.items() if name not in HEAD}


def facts_of(path: Path, given: Given = Given()) -> dict[str, Any]:
    return to_dict(read_model(path, given).findings)


def in_dialect(name: str, config: PVTConfig, weights: Weights, *, bare: bool) -> Weights:
    table = find_dialect(name, config.version)
    return from_canonical(weights, table.pairings(config, bare=bare))


ONE = np.ones((2, 3, 3, 3), np.float32)


# --- prefixes


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(
    "prefix", ["net.", "encoder.backbone.", "visual.", "a.b.c.d.", "model.student.0."]
)
def test_a_pvt_is_found_under_any_prefix(kind: str, prefix: str, tmp_path: Path) -> None:
    beside = {"decoder.conv.weight": ONE, "criterion.pos_weight": ONE[0, 0, 0]}
    path = put(tmp_path / "a.pth", prefixed(prefix, WEIGHTS[kind], **beside))
    assert same_bits(read_model(path).weights, WEIGHTS[kind])
    said = succeed(path, tmp_path / "b.ckpt")
    assert f"prefix removed  {prefix}\n" in said
    assert re.search(r"left out  decoder\.\*, criterion\.\* \(.*not converted\)", said)


@pytest.mark.parametrize(("dialect", "kind"), [("timm", "v2"), ("mindcv", "v1"), ("mindcv", "v2")])
@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_prefixes_are_found_in_every_dialect(
    dialect: str, kind: str, ending: str, tmp_path: Path
) -> None:
    from convert.formats import safetensors

    named = in_dialect(dialect, SMALL[kind], WEIGHTS[kind], bare=False)
    with (tmp_path / f"a.{ending}").open("wb") as stream:
        write = ckpt.write if ending == "ckpt" else safetensors.write
        write(stream, prefixed("net.pvt.", named), {})
    model = read_model(tmp_path / f"a.{ending}")
    assert model.dialect == dialect
    assert same_bits(model.weights, WEIGHTS[kind])


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("head", [True, False])
def test_transformers_names_keep_their_own_prefix(kind: str, head: bool, tmp_path: Path) -> None:
    config = SMALL[kind]
    weights = WEIGHTS[kind] if head else headless(WEIGHTS[kind])
    if not head:
        config = dataclasses.replace(config, num_classes=0)
    named = in_dialect("hf", config, weights, bare=False)
    path = put(tmp_path / "a.pth", prefixed("model.", named, **{"loss.weight": ONE}))
    model = read_model(path)
    assert model.dialect == "hf"
    assert same_bits(model.weights, weights)
    base = find_dialect("hf", config.version).base
    assert facts_of(path)["prefix_removed"] == ("model." if head else f"model.{base}")


def test_what_is_left_out_is_named_where_it_differs(tmp_path: Path) -> None:
    beside = {f"net.decoder.{i}.weight": ONE for i in range(3)} | {"loss.weight": ONE}
    path = put(tmp_path / "a.pth", prefixed("net.encoder.", WEIGHTS["v2"], **beside))
    assert facts_of(path)["left_out"] == {"net.decoder.*": 3, "loss.*": 1}


def test_of_several_pvts_one_is_to_be_chosen(tmp_path: Path) -> None:
    other = random_weights(V2, seed=1)
    path = put(tmp_path / "a.pth", prefixed("a.", WEIGHTS["v1"]) | prefixed("b.net.", other))
    said = refused(tmp_path, path, tmp_path / "b.ckpt")
    assert tells(said, "--prefix", "a.", "b.net.")
    for prefix in ("b.net.", "b.net"):
        assert same_bits(read_model(path, Given(prefix=prefix)).weights, other)
    assert same_bits(read_model(path, Given(prefix="a")).weights, WEIGHTS["v1"])
    with pytest.raises(ConvertError, match=naming("--prefix", "a.", "b.net.")):
        read_model(path, Given(prefix="c"))
    succeed(path, tmp_path / "b.ckpt", "--prefix", "a.")


def test_the_longest_prefix_is_a_models_own(tmp_path: Path) -> None:
    other = random_weights(V2, seed=1)
    path = put(tmp_path / "a.pth", WEIGHTS["v1"] | prefixed("teacher.", other))
    with pytest.raises(ConvertError, match=naming("--prefix", "''", "teacher.")):
        read_model(path)
    for prefix, weights in (("", WEIGHTS["v1"]), ("teacher.", other)):
        assert same_bits(read_model(path, Given(prefix=prefix)).weights, weights)


def test_a_broken_pvt_beside_a_whole_one_is_no_candidate(tmp_path: Path) -> None:
    broken = {n: a for n, a in WEIGHTS["v2"].items() if "block2" not in n}
    path = put(tmp_path / "a.pth", prefixed("a.", broken) | prefixed("b.", WEIGHTS["v1"]))
    assert same_bits(read_model(path).weights, WEIGHTS["v1"])


def test_one_model_under_two_names_is_one(tmp_path: Path) -> None:
    """A Lightning module may have its network twice: the tensors share their memory."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in WEIGHTS["v2"].items()}
    twice = {prefix + name: t for prefix in ("model.", "net.") for name, t in tensors.items()}
    torch.save(twice, tmp_path / "a.pth")
    assert same_bits(read_model(tmp_path / "a.pth").weights, WEIGHTS["v2"])


def test_names_of_a_file_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    hidden = "\x1b[2J."
    one = prefixed(hidden, WEIGHTS["v1"], **{f"{hidden}\r": ONE})
    several = prefixed("a" + hidden, WEIGHTS["v2"]) | prefixed("b" + hidden, WEIGHTS["v2"])
    path = put(tmp_path / "a.pth", prefixed(hidden, WEIGHTS["v1"], **{"\r.x": ONE}))
    said = [succeed(path, tmp_path / "b.ckpt")]
    for thing in (one, several):
        said.append(refused(tmp_path, put(tmp_path / "a.pth", thing), tmp_path / "c.ckpt"))
    for text in said:
        assert text.replace("\n", "").isprintable()
        assert "\\r" in text or "\\x1b[2J" in text


def test_a_missing_tensor_is_named_under_any_prefix(tmp_path: Path) -> None:
    weights = {n: a for n, a in WEIGHTS["v2"].items() if n != "block1.0.mlp.fc2.bias"}
    path = put(tmp_path / "a.pth", prefixed("net.", weights, **{"loss.weight": ONE}))
    said = refused(tmp_path, path, tmp_path / "b.ckpt")
    assert tells(said, "block1.0.mlp.fc2.bias", "missing") and "loss" not in said


# --- containers


@pytest.mark.parametrize(
    "keys", ["model_state_dict", "net", "state.model", "a.b.c", "checkpoint.0.weights", "1"]
)
def test_a_pvt_is_found_under_any_keys(keys: str, tmp_path: Path) -> None:
    thing: Any = WEIGHTS["v2"]
    for key in reversed(keys.split(".")):
        thing = ["text", thing][1 - int(key) :] if key.isdigit() else {"epoch": 3, key: thing}
    path = put(tmp_path / "a.pth", thing)
    assert same_bits(read_model(path).weights, WEIGHTS["v2"])
    assert f"container  {keys}\n" in succeed(path, tmp_path / "b.ckpt")


def test_of_several_containers_one_is_to_be_chosen(tmp_path: Path) -> None:
    held = {"state_dict": WEIGHTS["v1"], "best": {"model": WEIGHTS["v2"]}, "epoch": 3}
    path = put(tmp_path / "a.pth", held)
    said = refused(tmp_path, path, tmp_path / "b.ckpt")
    assert tells(said, "--container", "state_dict", "best.model")
    for keys, kind in (("state_dict", "v1"), ("best.model", "v2")):
        assert same_bits(read_model(path, Given(container=keys)).weights, WEIGHTS[kind])
    succeed(path, tmp_path / "b.ckpt", "--container", "best.model")
    assert facts_of(path, Given(container="state_dict"))["left_out"] == {
        "best.model.*": len(WEIGHTS["v2"])
    }


@pytest.mark.parametrize(
    "averaged",
    ["model_ema", "ema_state_dict", "state_dict_ema", "EMA.module", "averaged", "avg"],
)
def test_averaged_weights_are_told_by_their_keys(averaged: str, tmp_path: Path) -> None:
    other: Any = random_weights(V2, seed=1)
    for key in reversed(averaged.split(".")[1:]):
        other = {key: other}
    path = put(tmp_path / "a.pth", {"net": WEIGHTS["v2"], averaged.split(".")[0]: other})
    assert same_bits(read_model(path).weights, WEIGHTS["v2"])
    average = read_model(path, Given(weights="ema"))
    assert same_bits(average.weights, random_weights(V2, seed=1))
    assert average.info.provenance["weights"] == "averaged"


def test_averaged_weights_are_told_by_their_prefix(tmp_path: Path) -> None:
    other = random_weights(V2, seed=1)
    path = put(
        tmp_path / "a.pth", prefixed("model.", WEIGHTS["v2"]) | prefixed("model_ema.module.", other)
    )
    assert same_bits(read_model(path).weights, WEIGHTS["v2"])
    assert same_bits(read_model(path, Given(weights="ema")).weights, other)
    assert facts_of(path)["averaged_weights"] == len(other)
    assert "left_out" not in facts_of(path)


def test_averaged_weights_alone_are_taken(tmp_path: Path) -> None:
    """As torch's AveragedModel saves itself, and as a script saves its average alone."""
    swa = prefixed("module.", WEIGHTS["v2"], n_averaged=np.array(7))
    assert same_bits(read_model(put(tmp_path / "a.pth", swa)).weights, WEIGHTS["v2"])
    assert facts_of(tmp_path / "a.pth")["set_aside"] == ["n_averaged"]
    path = put(tmp_path / "b.pth", {"model_ema": WEIGHTS["v2"]})
    assert same_bits(read_model(path).weights, WEIGHTS["v2"])
    assert facts_of(path)["notes"]["averaged_weights"] == "taken"


# --- wrappers


@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize(
    "wrapper",
    [
        "_orig_mod",
        "_checkpoint_wrapped_module",
        "_fsdp_wrapped_module",
        "module",
        "_forward_module",
    ],
)
def test_wrappers_are_taken_out_wherever_they_stand(
    kind: str, wrapper: str, tmp_path: Path
) -> None:
    named = {
        f"net.{wrapper}." + re.sub(r"^(block\d\.\d+|head)\.", rf"\1.{wrapper}.", name): array
        for name, array in WEIGHTS[kind].items()
    }
    path = put(tmp_path / "a.pth", named)
    assert same_bits(read_model(path).weights, WEIGHTS[kind])
    said = succeed(path, tmp_path / "b.ckpt")
    assert f"prefix removed  net.{wrapper}.\n" in said
    assert f"wrappers removed  {wrapper} x" in said


@pytest.mark.parametrize("wrapped_first", [True, False])
def test_names_that_are_one_without_wrappers_are_two_models(
    tmp_path: Path, wrapped_first: bool
) -> None:
    """The wrapped ones were left out in silence where they came first; asked for, never taken."""
    plain, wrapped = WEIGHTS["v2"], prefixed("module.", random_weights(V2, seed=1))
    both = {**wrapped, **plain} if wrapped_first else {**plain, **wrapped}
    file = put(tmp_path / "a.pth", both)
    with pytest.raises(ConvertError, match=naming("--prefix module.")):
        read_model(file)
    for prefix, head in (("module.", wrapped["module.head.bias"]), ("", plain["head.bias"])):
        model = read_model(file, Given(prefix=prefix))
        np.testing.assert_array_equal(model.weights["head.bias"], head)


@pytest.mark.parametrize("prefix", ["", "encoder.model."])
@pytest.mark.parametrize("kind", ["v2", "linear"])
def test_timms_features_only_is_read(prefix: str, kind: str, tmp_path: Path) -> None:
    """FeatureListNet flattens the names of stages; a U-Net has it as its encoder's model."""
    weights = headless(WEIGHTS[kind])
    named = in_dialect("timm", SMALL[kind], WEIGHTS[kind], bare=True)
    flat = {
        re.sub(r"^stages\.", "stages_", name): array
        for name, array in named.items()
        if not name.startswith("head")
    }
    beside = {"decoder.blocks.0.conv1.0.weight": ONE} if prefix else {}
    path = put(tmp_path / "a.pth", prefixed(prefix, flat, **beside))
    model = read_model(path)
    assert (model.dialect, model.info.config.num_classes) == ("timm", 0)
    assert same_bits(model.weights, weights)


@pytest.mark.parametrize(
    ("made", "facts"),
    [
        ("head.parametrizations.weight.original0", ("remove_parametrizations",)),
        ("block1.0.attn.q.lora_A.weight", ("merge_and_unload",)),
        ("head.weight_g", ("remove_weight_norm",)),
    ],
)
def test_what_made_other_tensors_is_told(made: str, facts: Any, tmp_path: Path) -> None:
    path = put(tmp_path / "a.pth", headless(WEIGHTS["v2"]) | {made: np.ones((7, 1), np.float32)})
    with pytest.raises(ConvertError, match=naming(*facts)):
        read_model(path, Given())
    flat = put(tmp_path / "b.pth", {"_fsdp_wrapped_module._flat_param": np.ones(9, np.float32)})
    with pytest.raises(ConvertError, match=naming("FULL_STATE_DICT")):
        read_model(flat)


# --- heads


@pytest.mark.parametrize(
    ("before", "head"),
    [
        ("", "head.1"),
        ("", "head.fc"),
        ("", "head.drop.proj"),
        ("", "fc"),
        ("model.", "model.head.1"),
        ("backbone.", "head"),
        ("backbone.", "head.fc"),
        ("backbone.", "cls_head.fc"),
        ("net.encoder.", "net.classifier.1"),
        ("model.backbone.pvt.", "model.head"),
        ("0.", "1"),
        ("net.1.", "net.3.fc"),
    ],
)
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_one_linear_layer_is_the_head(before: str, head: str, kind: str, tmp_path: Path) -> None:
    weights = WEIGHTS[kind]
    named = prefixed(before, headless(weights))
    named |= {f"{head}.{part}": weights[f"head.{part}"] for part in ("weight", "bias")}
    path = put(tmp_path / "a.pth", named)
    assert same_bits(read_model(path).weights, weights)
    assert facts_of(path)["head"] == head


def test_dicts_of_a_backbone_and_its_head_belong_together(tmp_path: Path) -> None:
    parts = {name.partition(".")[2]: WEIGHTS["v2"][name] for name in HEAD}
    path = put(tmp_path / "a.pth", {"backbone": headless(WEIGHTS["v2"]), "head": parts})
    assert same_bits(read_model(path).weights, WEIGHTS["v2"])
    assert "left_out" not in facts_of(path)


def two_layers(*shapes: tuple[int, ...]) -> Weights:
    layers = {f"{3 * at}.weight": np.ones(shape, np.float32) for at, shape in enumerate(shapes)}
    return layers | {f"{3 * at}.bias": np.ones(s[0], np.float32) for at, s in enumerate(shapes)}


@pytest.mark.parametrize("before", ["", "backbone."])
@pytest.mark.parametrize(
    "shapes", [((32, 32), (7, 32)), ((16, 32), (7, 16)), ((32,), (7, 32)), ((7, 64),)]
)
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_another_head_is_no_pvts_and_can_be_left_out(
    before: str, shapes: Any, kind: str, tmp_path: Path
) -> None:
    named = prefixed(before, headless(WEIGHTS[kind])) | prefixed("head.", two_layers(*shapes))
    path = put(tmp_path / "a.pth", named)
    said = refused(tmp_path, path, tmp_path / "b.ckpt")
    assert tells(said, "head.0.weight", "--num-classes 0", "--features")
    for option in (("--num-classes", 0), ("--features",)):
        said = succeed(path, tmp_path / "b.ckpt", *option, "--force")
        assert "lost  head.0.weight" in said
    succeed(path, tmp_path / "b.pth", "--num-classes", 0)
    assert same_bits(read_model(tmp_path / "b.pth").weights, headless(WEIGHTS[kind]))


def test_two_layers_after_a_backbone_are_no_pvts_head(tmp_path: Path) -> None:
    named = prefixed("0.", headless(WEIGHTS["v2"])) | two_layers((1, 1), (32, 32), (7, 32))
    path = put(tmp_path / "a.pth", {n: a for n, a in named.items() if a.size > 1})
    with pytest.raises(ConvertError, match=naming("3.weight", "6.weight", "--num-classes 0")):
        read_model(path)


def test_a_detectors_head_is_left_out(tmp_path: Path) -> None:
    path = put(
        tmp_path / "a.pth",
        prefixed("backbone.", headless(WEIGHTS["v2"]), **{"head.cls_convs.0.weight": ONE}),
    )
    assert facts_of(path)["left_out"] == {"head.*": 1}


# --- what is beside the tensors


def test_single_values_are_set_aside_and_others_can_be(tmp_path: Path) -> None:
    extra = {
        "aux_bn.running_mean": np.zeros(3, np.float32),
        "aux_bn.num_batches_tracked": np.array(7),
        "step": np.array(3.0, np.float32),
    }
    path = put(tmp_path / "a.pth", WEIGHTS["v2"] | extra)
    said = refused(tmp_path, path, tmp_path / "b.ckpt")
    assert tells(said, "aux_bn.running_mean", "--ignore")
    said = succeed(path, tmp_path / "b.ckpt", "--ignore", "aux_bn.run*")
    assert "ignored  aux_bn.running_mean (" in said
    assert "set aside  aux_bn.num_batches_tracked, step (" in said
    assert same_bits(read_model(tmp_path / "b.ckpt").weights, WEIGHTS["v2"])
    given = Given(ignore=("aux_bn.*", "st?p"))
    assert same_bits(read_model(path, given).weights, WEIGHTS["v2"])
    with pytest.raises(ConvertError, match=naming("--ignore", "'nothing.*'")):
        read_model(path, Given(ignore=("nothing.*",)))


def test_what_mindspore_appends_is_set_aside(tmp_path: Path) -> None:
    names = in_dialect("pvt_ms", V2, WEIGHTS["v2"], bare=False)
    appended = {"lr": np.array(0.1, np.float32), "flag": np.array(True), "epoch": np.array([3])}
    with (tmp_path / "a.ckpt").open("wb") as stream:
        ckpt.write(stream, names | appended, {"note": "text"})
    assert same_bits(read_model(tmp_path / "a.ckpt").weights, WEIGHTS["v2"])
    assert facts_of(tmp_path / "a.ckpt")["set_aside"] == [*appended]


def test_a_number_within_a_layer_is_not_set_aside(tmp_path: Path) -> None:
    """A learned temperature changes the answers."""
    extra = {"block1.0.attn.temperature": np.array(2.0, np.float32)}
    with pytest.raises(ConvertError, match=naming("block1.0.attn.temperature", "--ignore")):
        read_model(put(tmp_path / "a.pth", WEIGHTS["v2"] | extra))


@pytest.mark.parametrize("dialect", ["official", "hf", "timm"])
def test_queries_and_keys_without_biases_have_zeros(dialect: str, tmp_path: Path) -> None:
    """As PVT's qkv_bias=False makes them."""
    biases = [n for n in WEIGHTS["v2"] if re.search(r"attn\.(q|kv)\.bias$", n)]
    expected = WEIGHTS["v2"] | {n: np.zeros_like(WEIGHTS["v2"][n]) for n in biases}
    named = in_dialect(dialect, V2, expected, bare=False)
    path = put(tmp_path / "a.pth", {n: a for n, a in named.items() if a.any()})
    assert same_bits(read_model(path).weights, expected)
    assert len(facts_of(path)["filled"]) == len(named) - sum(a.any() for a in named.values())
    one_less = {n: a for n, a in WEIGHTS["v2"].items() if n != biases[0]}
    with pytest.raises(ConvertError, match=naming(biases[0], "missing")):
        read_model(put(tmp_path / "b.pth", one_less))


PREFIXES = ("", "a.", "model.", "0.", "pvt.", "pvt_v2.", "model_ema.", "module.", "_orig_mod.")
EXTRA = ("head.1.weight", "fc.weight", "1.weight", "head.bias", "classifier.weight", "", ".")


def random_file(draw: random.Random) -> WeightFile:
    """Models, parts of models and damaged ones, under prefixes, in dicts, beside other tensors."""
    places: dict[str, Weights] = {}
    for _ in range(draw.randint(1, 2)):
        held = places.setdefault(draw.choice(["", "a", "model_ema", "a.b"]), {})
        for _ in range(draw.randint(1, 3)):
            prefix = draw.choice(PREFIXES) + draw.choice(PREFIXES)
            kind = draw.choice([*SMALL])
            bare, dialect = draw.random() < 0.5, draw.choice(["official", "hf", "pvt_ms"])
            named = [*in_dialect(dialect, SMALL[kind], WEIGHTS[kind], bare=bare).items()]
            whole = draw.random() < 0.5
            for name, array in named if whole else draw.sample(named, draw.randint(0, len(named))):
                if draw.random() < 0.005:
                    array = np.zeros(
                        [draw.choice([0, 1, 7, 32]) for _ in range(draw.randint(0, 4))]
                    )
                if draw.random() < 0.005:
                    name = name.replace(".", draw.choice([".module.", "._x.", "..", ""]), 1)
                held[prefix + name] = array
        for name in draw.sample(EXTRA, 2):
            held[draw.choice(PREFIXES) + name] = np.ones(draw.choice([(), (7,), (7, 32)]), "f4")
    return WeightFile(places)


def test_whatever_is_in_a_file_is_a_model_or_one_error() -> None:
    draw, models = random.Random(7), 0
    for _ in range(100):
        given = Given(
            weights=draw.choice(["raw", "raw", "ema"]),
            prefix=draw.choice([None, None, "a", ""]),
            container=draw.choice([None, None, "a", ""]),
            ignore=draw.choice([(), ("*head*",)]),
        )
        try:
            model = understand(Path("a.pth"), random_file(draw), given, keep_head=False)
        except PvtError as error:
            assert str(error).startswith("a.pth: ")
        else:
            models += 1
            assert any(same_bits(headless(model.weights), headless(w)) for w in WEIGHTS.values())
    assert models > 5
