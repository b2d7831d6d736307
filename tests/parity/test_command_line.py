"""``parity run`` says *same* of the same model, and names the first tap of a different one."""

import dataclasses
import json
import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from convert import convert_file, load_model, save_model
from parity.command_line import main
from parity.measure.compare import Comparison
from parity.measure.structure import Difference
from parity.report.text import verdict
from parity.runtimes import table as runners
from parity.runtimes.table import DEFAULT_RUNTIMES
from pvt_ms.runtime import MindSporeRuntime
from pvt_spec import METADATA_KEY, tap_names
from pvt_spec.runtime import OpenModel, Task
from tests.support.commands import refusal
from tests.support.messages import tells
from tests.support.models import GOLDEN, MAPS, enlarge, info_of, weights_for

MINDCV_V1 = GOLDEN / "mindcv_v1_small" / "weights.ckpt"
OFFICIAL_V2 = GOLDEN / "official_v2_small" / "weights.pth"
FAST = ("--runtime", "torch", "--runtime", "onnxruntime", "--random", "2")


def parity_run(*arguments: object):
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def test_three_runtimes_are_the_same_and_exit_code_is_0():
    done = parity_run(MINDCV_V1, "--random", 2, "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["same"] and [r["runtime"] for r in data["runtimes"]] == list(DEFAULT_RUNTIMES)
    _, info = load_model(MINDCV_V1)
    for runtime in data["runtimes"]:
        assert list(runtime["taps"]) == tap_names(info.config)
        assert runtime["structure"] == [] and runtime["decisions"]["top1_agreement"] == 1.0
        assert 0 < runtime["taps"]["logits"]["max_abs"] < 2e-5


def test_several_files_each_run_in_their_own_runtime(tmp_path):
    weights, info = load_model(MINDCV_V1)
    for name in ("a.pth", "a.onnx"):
        save_model(tmp_path / name, weights, info)
    done = parity_run(MINDCV_V1, tmp_path / "a.pth", tmp_path / "a.onnx", "--random", 2)
    assert done.exit_code == 0, done.output
    last = done.stdout.splitlines()[-3:]
    homes = ["mindspore weights.ckpt", "torch a.pth", "onnxruntime a.onnx"]
    for line, home in zip(last, homes, strict=True):
        assert line.startswith(f"{home}: same.")


def test_table_has_a_line_for_every_stage_and_with_v_for_every_tap():
    done = parity_run(OFFICIAL_V2, *FAST)
    assert done.exit_code == 0, done.output
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()[1:-2]]
    assert rows == ["stage 1", "stage 2", "stage 3", "stage 4", "features", "logits"]
    done = parity_run(OFFICIAL_V2, *FAST, "-v")
    rows = [line.split()[0] for line in done.stdout.splitlines() if line]
    names = tap_names(load_model(OFFICIAL_V2)[1].config)
    assert rows == ["torch", *names, "onnxruntime", *names, "torch:", "onnxruntime:"]


def test_images_are_preprocessed_as_the_file_says(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (70, 90, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    from convert.command_line import main as convert

    target = tmp_path / "a.onnx"
    options = ["--image-size", "64"]
    CliRunner().invoke(convert, ["pth-to-onnx", str(OFFICIAL_V2), str(target), *options])
    runtimes = FAST[:4]
    done = parity_run(target, *runtimes, "--images", tmp_path, "--limit", 2, "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert [image["name"] for image in data["images"]] == [
        str(tmp_path / name) for name in ("0.png", "1.png")
    ]
    assert data["runtimes"][0]["images"] == 2


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("tensor", "tap"),
    [
        ("patch_embed1.proj.weight", "patch_embed1"),
        ("block1.0.attn.kv.weight", "block1.0.attn"),
        ("block2.0.mlp.fc2.weight", "block2.0.mlp"),
        ("block4.1.norm2.weight", "block4.1.mlp"),
        ("norm3.bias", "norm3"),
        ("head.weight", "logits"),
    ],
)
def test_one_weight_changed_by_one_percent_is_named(tensor, tap, tmp_path):
    """The largest weight of a tensor, 1 % larger, in the ONNX file alone."""
    weights, info = load_model(OFFICIAL_V2)
    save_model(tmp_path / "a.onnx", enlarge(weights, tensor), info)
    done = parity_run(OFFICIAL_V2, tmp_path / "a.onnx", "--random", 2, "--json")
    assert done.exit_code == 1, done.output
    torch, onnxruntime = json.loads(done.stdout)["runtimes"]
    assert torch["same"] and not onnxruntime["same"]
    assert onnxruntime["first_out_of_bounds"] == tap


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patch_norm_eps", 1e-6),
        ("attn_norm_eps", 1e-6),
        ("norm1_eps", 1e-5),
        ("norm2_eps", 1e-5),
        ("final_norm_eps", 1e-5),
        ("gelu", "erf"),
        ("conv_padding", "symmetric"),
    ],
)
def test_every_numerics_field_flipped_in_one_file_is_noticed(field, value, tmp_path):
    """Epsilons by structure: no tolerance on outputs could."""
    source = GOLDEN / "mindcv_v2_small" / "weights.ckpt"
    weights, info = load_model(source)
    flipped = dataclasses.replace(info.numerics, **{field: value})
    save_model(tmp_path / "a.onnx", weights, dataclasses.replace(info, numerics=flipped))
    save_model(tmp_path / "a.pth", weights, info)
    done = parity_run(tmp_path / "a.pth", tmp_path / "a.onnx", "--random", 1, "--json")
    assert done.exit_code == 1, done.output
    same, different = json.loads(done.stdout)["runtimes"]
    assert same["same"] and not different["same"]
    assert different["structure"]
    if field in ("gelu", "conv_padding"):
        assert different["first_out_of_bounds"]


def test_a_weight_that_rounding_would_hide_is_named(tmp_path):
    weights, info = load_model(OFFICIAL_V2)
    changed = {name: array.copy() for name, array in weights.items()}
    changed["head.bias"][0] += np.float32(1e-6)
    save_model(tmp_path / "a.pth", weights, info)
    save_model(tmp_path / "b.onnx", changed, info)
    done = parity_run(tmp_path / "a.pth", tmp_path / "b.onnx", "--random", 1, "--json")
    assert done.exit_code == 1
    same, different = json.loads(done.stdout)["runtimes"]
    assert same["same"]
    (difference,) = different["structure"]
    assert (difference["subject"], difference["tap"]) == ("head.bias", "logits")
    assert different["first_out_of_bounds"] is None and different["first_different"] == "logits"
    assert tells(different["verdict"], "rounding")


def comparison_of(*names: str, answers: tuple[str, ...], **given: object) -> Comparison:
    return Comparison("torch", "torch", "a.pth", "fp32", names, answers, **given)


def test_verdict_says_what_differs():
    differences = [Difference("x.epsilon", "1", "2", "logits")]
    comparison = comparison_of("a", "logits", answers=("logits",), differences=differences)
    comparison.add(
        ["images"] * 2,
        {"a": np.ones((2, 3)), "logits": np.array([[1.0, 0.0], [0.0, 1.0]])},
        {"a": np.ones((2, 3)), "logits": np.array([[1.0, 0.0], [1.0, 0.0]])},
    )
    line = verdict(comparison)
    assert line.startswith("torch: DIFFERENT. differs from logits on: ")
    assert tells(line, "fp32") and tells(line, "x.epsilon", "1", "2")
    assert tells(line, "1/2")


def test_verdict_names_the_worst_map():
    """By distance in units of the map itself: the larger one is nearer here."""
    comparison = comparison_of("a", "stage1", "stage2", answers=("stage1", "stage2"))
    reference = {"a": np.ones((2, 3)), "stage1": np.full((2, 3), 1e3), "stage2": np.ones((2, 3))}
    groups = ["images"] * 2
    comparison.add(groups, {**reference, "stage1": reference["stage1"] + 1e-4}, reference)
    assert comparison.worst_of(comparison.answers) == "stage1"
    comparison.add(groups, {**reference, "stage2": reference["stage2"] + 1e-6}, reference)
    assert verdict(comparison).startswith("torch: same.")
    assert tells(verdict(comparison), "stage2", "2", "1.0e-06", "float64", "4")


def test_values_that_are_not_finite_are_counted():
    comparison = comparison_of("a", "logits", answers=("logits",))
    reference = {"a": np.ones((2, 3)), "logits": np.ones((2, 3))}
    broken = {"a": np.ones((2, 3)), "logits": np.array([[1, np.nan, 1], [np.inf, 1, np.nan]])}
    comparison.add(["images"] * 2, broken, reference)
    line = verdict(comparison)
    assert tells(line, "2", "NaN", "1", "6", "float64")


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["v1 maps", "linear maps"])
def test_models_that_answer_maps_are_compared_map_by_map(kind, tmp_path):
    info = info_of(MAPS[kind], "mindcv")
    weights = weights_for(info.config, info.numerics)
    save_model(tmp_path / "a.onnx", weights, info)
    done = parity_run(tmp_path / "a.onnx", "--random", 2)
    assert done.exit_code == 0, done.output
    for line, runtime in zip(done.stdout.splitlines()[-3:], DEFAULT_RUNTIMES, strict=True):
        assert re.fullmatch(
            rf"{runtime}: same\. .*; stage[1-4], the worst of 4 maps, within .* on 2 images", line
        )
    save_model(tmp_path / "b.onnx", enlarge(weights, "block3.0.mlp.fc2.weight"), info)
    done = parity_run(tmp_path / "a.onnx", tmp_path / "b.onnx", "--random", 2)
    assert done.exit_code == 1, done.output
    verdict = done.stdout.splitlines()[-1]
    assert tells(verdict, "DIFFERENT", "block3.0.mlp")
    assert "stage3, the worst of 4 maps" in verdict or "stage4, the worst of 4 maps" in verdict


def test_features_have_no_top1(tmp_path):
    weights, info = load_model(OFFICIAL_V2)
    headless = dataclasses.replace(info.config, num_classes=0)
    del weights["head.weight"], weights["head.bias"]
    save_model(tmp_path / "a.pth", weights, dataclasses.replace(info, config=headless, labels=()))
    done = parity_run(tmp_path / "a.pth", *FAST)
    assert done.exit_code == 0, done.output
    verdict = done.stdout.splitlines()[-1]
    assert tells(verdict, "features") and tells(verdict, "2", "images") and "top-1" not in verdict


class TestErrors:
    """One clear message, exit code 1."""

    def test_a_seed_that_no_certificate_holds(self, tmp_path):
        given = ["certify", str(GOLDEN / "v2.pth"), "-o", str(tmp_path / "c"), "--seed", 1 << 53]
        done = CliRunner().invoke(main, [*map(str, given)])
        assert done.exit_code == 2 and "--seed" in done.stderr
        assert not [*tmp_path.iterdir()]

    def test_unknown_runtime(self):
        done = parity_run(OFFICIAL_V2, "--runtime", "tensorflow")
        assert done.exit_code == 2
        assert tells(done.stderr, "'tensorflow'", "mindspore")

    def test_runtime_that_is_not_installed(self, monkeypatch):
        monkeypatch.setattr(runners, "is_installed", lambda name: name != "mindspore")
        message = refusal(main, "run", OFFICIAL_V2, "--runtime", "mindspore")
        assert tells(message, "mindspore")

    def test_runtime_that_is_installed_and_broken(self, monkeypatch):
        def broken(runtime: MindSporeRuntime, task: Task) -> OpenModel:
            raise ImportError("libascendcl.so: cannot open shared object file")

        monkeypatch.setattr(MindSporeRuntime, "open", broken)
        message = refusal(main, "run", OFFICIAL_V2, "--runtime", "mindspore", "--random", 1)
        assert tells(message, "mindspore")

    @pytest.mark.parametrize("option", ["--precision", "--emulate"])
    def test_unknown_precision(self, option):
        done = parity_run(OFFICIAL_V2, option, "fp8")
        assert done.exit_code == 2 and tells(done.stderr, "'fp8'")

    def test_weights_that_are_not_finite(self, tmp_path):
        weights, info = load_model(OFFICIAL_V2)
        weights = {name: array.copy() for name, array in weights.items()}
        weights["block1.0.norm1.weight"][1] = np.nan
        save_model(tmp_path / "a.pth", weights, info)
        message = refusal(main, "run", tmp_path / "a.pth", "--runtime", "torch")
        assert tells(message, "block1.0.norm1.weight", "1", "NaN")

    def test_different_architectures(self):
        assert tells(refusal(main, "run", OFFICIAL_V2, MINDCV_V1), "layers")

    @pytest.mark.parametrize("name", ["a.onnx", "a.bin"])
    def test_file_that_is_no_model(self, name, tmp_path):
        (tmp_path / name).write_text("text")
        assert name in refusal(main, "run", tmp_path / name)

    def test_no_images(self, tmp_path):
        assert tells(refusal(main, "run", OFFICIAL_V2, "--images", tmp_path), "image")

    def test_onnx_whose_taps_were_optimised_away(self, tmp_path):
        weights, info = load_model(OFFICIAL_V2)
        save_model(tmp_path / "a.onnx", weights, info)
        model = onnx.load(tmp_path / "a.onnx")
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = {"block1.0.attn": "renamed"}.get(name, name)
        onnx.save(model, tmp_path / "a.onnx")
        done = parity_run(tmp_path / "a.onnx", "--random", 1)
        assert tells(done.output, "changed", "block1.0.attn")  # and that tap is not shown


@pytest.mark.long
def test_emulated_runs_leave_the_units_alone():
    """They record taps of the model that the units are measured with."""
    options = (OFFICIAL_V2, "--runtime", "torch", "--json")
    emulated = [word for name in ("bf16", "tf32", "fp16") for word in ("--emulate", name)]
    alone, beside = parity_run(*options), parity_run(*options, *emulated)
    assert alone.exit_code == beside.exit_code == 0, beside.output
    (torch,), (same, *others) = (json.loads(run.stdout)["runtimes"] for run in (alone, beside))
    assert torch["taps"] == same["taps"]
    assert [each["runtime"] for each in others] == [
        "emulated-bf16",
        "emulated-tf32",
        "emulated-fp16",
    ]
    for each in others:
        assert 0.3 < each["taps"]["logits"]["times_rounding"] < 3


def test_what_is_not_finite_is_never_within_a_bound_from_the_table():
    """Without a measured unit, and where another group of images is fine."""
    reference = {"a": np.ones((2, 3)), "logits": np.ones((2, 3))}
    broken = {"a": np.array([[1, 1, 1], [1, np.nan, 1]]), "logits": np.ones((2, 3))}
    for precision in ("int8", "fp32"):
        comparison = comparison_of("a", "logits", answers=("logits",))
        comparison.precision = precision
        comparison.add(["one", "two"], broken, reference)
        assert comparison.first_out_of_bounds == "a" and not comparison.same
        assert comparison.worst_of(("logits", "a")) == "a"


@pytest.mark.long
def test_every_emulated_precision_is_judged():
    from pvt_torch.emulation import ROUNDINGS

    words = [word for name in ROUNDINGS for word in ("--emulate", name)]
    done = parity_run(OFFICIAL_V2, "--runtime", "torch", *words, "--json")
    assert done.exit_code == 0, done.output
    found = [each["precision"] for each in json.loads(done.stdout)["runtimes"]]
    assert found == ["fp32", *ROUNDINGS]


def test_the_most_is_the_most_and_few_values_are_said_to_be_few():
    done = parity_run(OFFICIAL_V2, *FAST, "--json")
    for each in json.loads(done.stdout)["runtimes"]:
        most = max(tap["times_rounding"] for tap in each["taps"].values())
        assert tells(each["verdict"], f"{most:.2f}", "fp32")
        assert "more images or taps" not in each["verdict"]
    done = parity_run(OFFICIAL_V2, *FAST, "--taps", "logits")
    assert tells(done.stdout, "20", "12")


def test_a_graph_for_other_images_than_its_file_says_is_refused_before_any_is_computed(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.onnx"
    convert_file(OFFICIAL_V2, path)
    model = onnx.load(path)
    entry = next(each for each in model.metadata_props if each.key == METADATA_KEY)
    said = json.loads(entry.value)
    said["preprocessing"]["image_size"] = [4096, 4096]
    entry.value = json.dumps(said)
    path.write_bytes(model.SerializeToString())
    monkeypatch.setattr("parity.judge.Judge.expect", None)
    told = refusal(main, "run", path, "--random", 1, "--runtime", "onnxruntime")
    assert tells(told, "4096x4096", "images of")
