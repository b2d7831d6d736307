"""Bundles: what one machine answered, judged on another, and refused where it cannot be."""

import dataclasses
import json
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from convert import load_model, save_model
from parity.bundles.bundle import Bundle
from parity.bundles.capture import Shot, capture
from parity.bundles.record import REFERENCE, Record
from parity.command_line import main
from parity.errors import ParityError
from parity.inputs.samples import (
    Inputs,
    default_samples,
    file_samples,
    hash_input,
    load_batch,
    noise_samples,
)
from parity.measure.envelope import MOST_ORDERS
from parity.options import Chosen, choose_inputs
from parity.selection import read_models
from pvt_spec import tap_names
from pvt_spec.precisions import PRECISIONS
from tests.support.commands import invoke, refusal
from tests.support.messages import naming, tells
from tests.support.models import GOLDEN, SMALL, enlarge, golden_arrays, info_of, random_weights
from tests.support.processes import run_blocked

MINDCV_V1 = GOLDEN / "mindcv_v1_small" / "weights.ckpt"
OFFICIAL_V2 = GOLDEN / "official_v2_small" / "weights.pth"
CASE = golden_arrays("official_v2_small")


command, refused = partial(invoke, main), partial(refusal, main)


def good(*arguments: object) -> Result:
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    return done


def shot(path: Path = OFFICIAL_V2, count: int = 3, seed: int = 0) -> Shot:
    (model,) = read_models([path]).values()
    names = tuple(tap_names(model.info.config))
    inputs = Inputs(noise_samples(count, seed), model.info.preprocessing.image_size, batch_size=2)
    return Shot(path, model, names, inputs, "onnxruntime")


def write(target: Path, runtime: str = "onnxruntime", what: Shot | None = None) -> Bundle:
    precisions = ["fp32", "fp16"] if runtime == REFERENCE else []
    with target.open("wb") as stream:
        capture(replace(what or shot(), runtime=runtime, precisions=precisions), stream)
    return Bundle(target)


def in_one_batch(what: Shot) -> Shot:
    return replace(what, inputs=replace(what.inputs, batch_size=4))


def with_weight_changed(path: Path, target: Path, tensor: str) -> Path:
    weights, info = load_model(path)
    save_model(target, enlarge(weights, tensor), info)
    return target


def check_plain(target: Path, **arrays: np.ndarray) -> tuple[object, ...]:
    """Writes the peer's input and logits but for these arrays; the command that checks them."""
    np.savez(target, **{"input": CASE["input"], "logits": CASE["logits"], **arrays})
    return ("check", target, OFFICIAL_V2, "--runtime", "torch")


def with_record(path: Path, target: Path, **changes: object) -> Path:
    """A bundle with another description."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as out:
        for entry in source.namelist():
            data = source.read(entry)
            if entry == "bundle.json":
                data = json.dumps({**json.loads(data), **changes}).encode()
            out.writestr(entry, data)
    return target


class TestFile:
    def test_everything_comes_back(self, tmp_path):
        what = shot()
        bundle = write(tmp_path / "a.npz", "onnxruntime", what)
        record, info = bundle.record, what.model.info
        assert (record.runtime, record.kind, record.file) == ("onnxruntime", "onnx", "weights.pth")
        assert record.info == info and record.image_size == info.preprocessing.image_size
        assert record.names == what.names and record.batches == (2, 1)
        assert record.precision == "fp32" and record.facts["provider"] == "CPUExecutionProvider"
        assert record.attributes["block1.0.norm1.epsilon"] == np.float32(1e-6)
        assert list(record.hashes) == list(what.model.weights)
        images = load_batch(what.inputs.samples, info.preprocessing)
        assert [s.hash for s in record.seen] == [hash_input(image) for image in images]
        assert [s.load(info.preprocessing).tobytes() for s in bundle.samples()] == [
            image.tobytes() for image in images
        ]
        assert [(s.name, s.group) for s in bundle.samples()] == [
            (s.name, s.group) for s in what.inputs.samples
        ]

    def test_rows_do_not_depend_on_batches(self, tmp_path):
        whole = write(tmp_path / "a.npz").rows(("block2.0.attn", "logits"), 0, 3)
        bundle = Bundle(tmp_path / "a.npz")
        for start, count in [(0, 1), (1, 1), (1, 2), (2, 1), (0, 2)]:
            for name, array in bundle.rows(tuple(whole), start, count).items():
                assert array.tobytes() == whole[name][start : start + count].tobytes()
        with pytest.raises(ParityError, match=naming("3", "4")):
            bundle.rows(("logits",), 1, 3)

    def test_a_clock_before_zip_files_is_none_of_its_business(self, tmp_path, monkeypatch):
        monkeypatch.setattr("time.localtime", lambda *_: time.gmtime(0))
        write(tmp_path / "a.npz", what=replace(shot(count=1), names=("logits",)))
        with zipfile.ZipFile(tmp_path / "a.npz") as file:
            assert {info.date_time[0] for info in file.infolist()} == {1980}

    def test_numpy_reads_it(self, tmp_path):
        bundle = write(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
            logits = np.concatenate([arrays["0/logits"], arrays["1/logits"]])
        assert logits.tobytes() == bundle.rows(("logits",), 0, 3)["logits"].tobytes()
        assert logits.dtype == np.float32

    def test_reference_is_float64_with_what_rounding_does(self, tmp_path):
        bundle = write(tmp_path / "a.npz", REFERENCE)
        assert bundle.rows(("logits",), 0, 3)["logits"].dtype == np.float64
        assert set(bundle.record.envelopes) == {*PRECISIONS["fp32"].emulations, "fp16"}
        spread = bundle.record.envelopes["fp16"].spreads["logits"]["noise"]
        assert spread.count == MOST_ORDERS * 3 * 10 and 1e-4 < spread.rms / spread.signal_rms < 1e-2

    @pytest.mark.parametrize("count", [0, 40, 2000])
    def test_truncated_files_are_refused(self, count, tmp_path):
        write(tmp_path / "a.npz")
        data = (tmp_path / "a.npz").read_bytes()
        (tmp_path / "b.npz").write_bytes(data[: len(data) - count] if count else b"")
        with pytest.raises(ParityError, match=naming("b.npz")):
            Bundle(tmp_path / "b.npz")

    def test_changed_bytes_are_noticed(self, tmp_path):
        write(tmp_path / "a.npz")
        data = bytearray((tmp_path / "a.npz").read_bytes())
        where = data.index(b"0/logits.npy") + 150
        data[where] ^= 1
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(ParityError, match=naming("0/logits.npy")):
            Bundle(tmp_path / "a.npz").rows(("features", "logits"), 0, 3)

    def test_zips_that_python_cannot_read_are_refused(self, tmp_path):
        np.savez(tmp_path / "a.npz", input=CASE["input"], logits=CASE["logits"])
        data = bytearray((tmp_path / "a.npz").read_bytes())
        data[data.index(b"PK\x01\x02") + 6] = 97  # the zip version that its reader needs
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(ParityError, match=naming("a.npz", "version")):
            Bundle(tmp_path / "a.npz")

    @pytest.mark.parametrize("version", [99, True, 1.0, "1"])
    def test_other_formats_are_refused(self, version, tmp_path):
        write(tmp_path / "a.npz")
        later = with_record(tmp_path / "a.npz", tmp_path / "b.npz", format=version)
        with pytest.raises(ParityError, match=naming("version")):
            Bundle(later)

    @pytest.mark.parametrize(
        "arrays",
        [
            {},
            {"logits": np.ones((1, 2))},
            {"input": np.ones(3)},
            {"input": np.array([{}], object), "logits": np.ones(1)},
            {"input": np.ones((0, 3, 32, 32)), "logits": np.ones((0, 3))},
        ],
        ids=["nothing", "no input", "no logits", "pickles", "no images"],
    )
    def test_plain_files_of_something_else_are_refused(self, arrays, tmp_path):
        np.savez(tmp_path / "a.npz", other=np.ones(2), **arrays)
        with pytest.raises(ParityError, match=naming("a.npz")):
            Bundle(tmp_path / "a.npz")

    def test_missing_file(self, tmp_path):
        with pytest.raises(ParityError, match=naming("such")):
            Bundle(tmp_path / "a.npz")

    def test_an_interrupted_capture_leaves_nothing(self, tmp_path, monkeypatch):
        def fail(*_: object, **__: object) -> None:
            raise ParityError("no more")

        monkeypatch.setattr(Record, "to_json", fail)
        target = tmp_path / "a.npz"
        message = refused("capture", OFFICIAL_V2, "--runtime", "torch", "-o", target, "--random", 1)
        assert "no more" in message and list(tmp_path.iterdir()) == []

    def test_existing_files_are_kept(self, tmp_path):
        (tmp_path / "a.npz").write_text("mine")
        arguments = ("capture", OFFICIAL_V2, "--runtime", "torch", "-o", tmp_path / "a.npz")
        assert "--force" in refused(*arguments, "--random", 1)
        assert (tmp_path / "a.npz").read_text() == "mine"
        good(*arguments, "--random", 1, "--force")
        assert Bundle(tmp_path / "a.npz").record.runtime == "torch"


class TestCheck:
    """A bundle against the model's file, with torch here."""

    @pytest.mark.long
    def test_same(self, tmp_path):
        """MindSpore in AMP O2 as an NPU would be: judged as float16 without being told."""
        target = tmp_path / "npu.npz"
        good("capture", MINDCV_V1, "--runtime", "mindspore-graph-o2", "-o", target)
        done = good("check", target, MINDCV_V1, "--runtime", "onnxruntime")
        here, there = done.stdout.splitlines()[-2:]
        assert here.startswith("onnxruntime: same. ") and tells(here, "fp32")
        assert there.startswith("mindspore-graph-o2 npu.npz: same. ")
        assert tells(there, "fp16") and tells(there, "8/8")
        # In float32's units it is far away.
        done = command("check", target, MINDCV_V1, "--runtime", "torch", "--precision", "fp32")
        assert done.exit_code == 1
        assert tells(done.stdout.splitlines()[-1], "npu.npz", "DIFFERENT", "patch_embed1")

    @pytest.mark.long
    def test_another_weight_is_named_by_output_and_by_hash(self, tmp_path):
        other = with_weight_changed(OFFICIAL_V2, tmp_path / "b.onnx", "block2.0.mlp.fc1.weight")
        good("capture", other, "--runtime", "onnxruntime", "-o", tmp_path / "b.npz")
        done = command("check", tmp_path / "b.npz", OFFICIAL_V2, "--runtime", "torch", "--json")
        assert done.exit_code == 1
        torch, bundle = json.loads(done.stdout)["runtimes"]
        assert torch["same"] and not bundle["same"]
        assert bundle["first_out_of_bounds"] == bundle["first_different"] == "block2.0.mlp"
        assert [d["subject"] for d in bundle["structure"]] == ["block2.0.mlp.fc1.weight"]

    def test_another_epsilon_is_named_by_structure(self, tmp_path):
        weights, info = load_model(OFFICIAL_V2)
        numerics = dataclasses.replace(info.numerics, norm2_eps=1e-5)
        save_model(tmp_path / "b.pth", weights, dataclasses.replace(info, numerics=numerics))
        good("capture", tmp_path / "b.pth", "--runtime", "torch", "-o", tmp_path / "b.npz")
        done = command("check", tmp_path / "b.npz", OFFICIAL_V2, "--runtime", "torch", "--json")
        assert done.exit_code == 1
        subjects = [d["subject"] for d in json.loads(done.stdout)["runtimes"][1]["structure"]]
        assert {"numerics.norm2_eps", "block1.0.norm2.epsilon"} <= set(subjects)
        assert "block1.0.norm1.epsilon" not in subjects

    def test_the_peers_own_answers_are_enough(self):
        for case in ("mindcv_v1_small", "official_v2_small"):
            folder = GOLDEN / case
            file = next(folder.glob("weights.*"))
            done = good("check", folder / "case.npz", file, "--runtime", "onnxruntime")
            verdict = done.stdout.splitlines()[-1]
            assert verdict.startswith("plain arrays case.npz: same in its logits. ")

    def test_wrong_answers_of_a_plain_file(self, tmp_path):
        check = check_plain(tmp_path / "a.npz", logits=CASE["logits"] * 1.001)
        done = command(*check)
        assert done.exit_code == 1
        assert tells(done.stdout.splitlines()[-1], "a.npz", "DIFFERENT")

    def test_hashes_alone_need_the_images_again(self, tmp_path):
        arguments = ("--runtime", "torch", "-o", tmp_path / "a.npz", "--without-inputs")
        good("capture", OFFICIAL_V2, *arguments, "--random", 2, "--seed", 5)
        assert "0/input.npy" not in zipfile.ZipFile(tmp_path / "a.npz").namelist()
        run = ("run", OFFICIAL_V2, tmp_path / "a.npz", "--runtime", "torch", "--random", 2)
        good(*run, "--seed", 5)
        message = refused(*run, "--seed", 6)
        assert tells(message, "'noise 1'")
        message = refused("check", tmp_path / "a.npz", OFFICIAL_V2, "--runtime", "torch")
        assert tells(message, "images")  # the generated ones, not noise

    def test_default_images_match_a_bundle_of_hashes(self, tmp_path):
        good(
            *("capture", OFFICIAL_V2, "--runtime", "torch", "-o", tmp_path / "a.npz"),
            "--without-inputs",
        )
        good("check", tmp_path / "a.npz", OFFICIAL_V2, "--runtime", "torch")

    def test_a_bundle_of_another_model_is_refused(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        message = refused("check", tmp_path / "a.npz", MINDCV_V1, "--runtime", "torch")
        assert tells(message, "layers") and "version" in message

    def test_inputs_of_another_size_are_refused(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        message = refused(
            *("run", OFFICIAL_V2, tmp_path / "a.npz", "--runtime", "torch"),
            *("--image-size", 96),
        )
        assert tells(message, "--image-size")

    @pytest.mark.parametrize(
        ("arrays", "facts"),
        [
            ({"input": np.ones((2, 1, 64, 64), np.float32)}, ("1", "64", "3")),
            ({"input": np.ones((2, 64, 64, 3), np.float32)}, ("a.npz", "float32", "64", "3")),
            ({"logits": CASE["logits"][:1]}, ("1", "10", "2")),
        ],
        ids=["channels", "layout", "a row too few"],
    )
    def test_plain_arrays_that_do_not_fit_are_refused(self, arrays, facts, tmp_path):
        assert tells(refused(*check_plain(tmp_path / "a.npz", **arrays)), *facts)

    def test_other_classes_are_another_shape(self, tmp_path):
        done = command(*check_plain(tmp_path / "a.npz", logits=CASE["logits"][:, :7]))
        assert done.exit_code == 1 and tells(done.stdout, "shape")
        assert tells(done.stdout, "2", "7", "10")

    def test_arrays_that_are_no_taps_are_named(self, tmp_path):
        done = good(*check_plain(tmp_path / "a.npz", logit=CASE["logits"]))
        assert tells(done.stderr, "a.npz")

    def test_bundles_without_a_model_are_refused(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        assert tells(refused("run", tmp_path / "a.npz"), "compare")

    def test_nan_is_said(self, tmp_path):
        weights, info = load_model(OFFICIAL_V2)
        broken = {name: array.copy() for name, array in weights.items()}
        broken["block3.0.norm1.bias"][0] = np.nan
        save_model(tmp_path / "b.onnx", broken, info)
        good("capture", tmp_path / "b.onnx", "--runtime", "onnxruntime", "-o", tmp_path / "b.npz")
        done = command("check", tmp_path / "b.npz", OFFICIAL_V2, "--runtime", "torch")
        assert done.exit_code == 1
        line = done.stdout.splitlines()[-1]
        assert tells(line, "block3.0.attn") and "NaN" in line


class TestCompare:
    """Without a framework."""

    @pytest.mark.long
    def test_a_reference_judges_in_measured_units(self, tmp_path):
        write(tmp_path / "ref.npz", REFERENCE)
        write(tmp_path / "ort.npz", "onnxruntime")
        write(tmp_path / "ms.npz", "mindspore-o2")
        # Wherever the reference stands.
        done = good("compare", tmp_path / "ort.npz", tmp_path / "ref.npz", tmp_path / "ms.npz")
        ort, ms = done.stdout.splitlines()[-2:]
        assert ort.startswith("onnxruntime ort.npz: same. ") and tells(ort, "float64")
        assert ms.startswith("mindspore-o2 ms.npz: same. ") and tells(ms, "fp16")

    def test_a_reference_is_the_same_as_itself_and_its_model(self, tmp_path):
        """Of v1 its position embeddings were float64, where float32 was expected."""
        what = replace(shot(MINDCV_V1, 1), names=("embed1", "logits"))
        write(tmp_path / "ref.npz", REFERENCE, what)
        good("compare", tmp_path / "ref.npz", tmp_path / "ref.npz")

    def test_the_same_verdict_as_with_torch(self, tmp_path):
        other = with_weight_changed(OFFICIAL_V2, tmp_path / "b.pth", "block3.0.attn.q.weight")
        # In batches as check runs them: what rounding does is measured over random orders of sums,
        # which others would make others.
        whole = in_one_batch(shot())
        reference = write(tmp_path / "ref.npz", REFERENCE, whole)
        write(tmp_path / "b.npz", "torch", in_one_batch(shot(other)))
        compared = command("compare", reference.path, tmp_path / "b.npz", "--json")
        checked = command(
            *("check", tmp_path / "b.npz", OFFICIAL_V2, "--runtime", "onnxruntime", "--json")
        )
        assert compared.exit_code == checked.exit_code == 1
        (ours,), theirs = (
            json.loads(compared.stdout)["runtimes"],
            json.loads(checked.stdout)["runtimes"][1],
        )
        assert ours["first_different"] == theirs["first_different"] == "block3.0.attn"
        assert ours["structure"] == theirs["structure"]
        for tap, found in ours["taps"].items():
            assert found["times_rounding"] == pytest.approx(
                theirs["taps"][tap]["times_rounding"], rel=0.05
            ), tap

    def test_without_a_reference_the_first_judges(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        write(tmp_path / "b.npz", "mindspore-o2")
        done = good("compare", tmp_path / "a.npz", tmp_path / "b.npz")
        assert tells(done.stderr, "float64")
        assert tells(done.stdout, "fp16") and tells(done.stdout, "a.npz")
        other = with_weight_changed(OFFICIAL_V2, tmp_path / "c.pth", "block2.0.attn.proj.weight")
        write(tmp_path / "c.npz", "torch", shot(other))
        done = command("compare", tmp_path / "a.npz", tmp_path / "c.npz")
        assert done.exit_code == 1
        assert tells(done.stdout, "block2.0.attn")

    def test_fixed_tolerance(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        write(tmp_path / "b.npz", "onnxruntime")
        pair = ("compare", tmp_path / "a.npz", tmp_path / "b.npz")
        good(*pair, "--atol", 1e-4)
        assert command(*pair, "--atol", 1e-9).exit_code == 1

    def test_other_inputs_are_refused(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        write(tmp_path / "b.npz", "torch", shot(seed=1))
        message = refused("compare", tmp_path / "a.npz", tmp_path / "b.npz")
        assert tells(message, "different") and tells(message, "0", "alike")

    def test_other_layers_are_refused(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        write(tmp_path / "b.npz", "torch", shot(MINDCV_V1))
        assert tells(refused("compare", tmp_path / "a.npz", tmp_path / "b.npz"), "layers")

    def test_an_unmeasured_precision_is_refused(self, tmp_path):
        write(tmp_path / "ref.npz", REFERENCE)
        write(tmp_path / "a.npz", "torch")
        message = refused(
            "compare", tmp_path / "ref.npz", tmp_path / "a.npz", "--precision", "bf16"
        )
        assert tells(message, "fp16", "fp32")

    def test_plain_arrays_cannot_judge(self, tmp_path):
        write(tmp_path / "a.npz", "torch")
        case = GOLDEN / "official_v2_small" / "case.npz"
        assert tells(refused("compare", case, tmp_path / "a.npz"), "judge")

    def test_some_taps_of_each_are_compared(self, tmp_path):
        noise = ("--random", 2)
        good("capture", OFFICIAL_V2, "--runtime", "torch", "-o", tmp_path / "a.npz", *noise)
        good(
            *("capture", OFFICIAL_V2, "--runtime", "onnxruntime", "-o", tmp_path / "b.npz", *noise),
            *("--taps", "logits"),
        )
        done = good("compare", tmp_path / "a.npz", tmp_path / "b.npz", "--json")
        assert list(json.loads(done.stdout)["runtimes"][0]["taps"]) == ["logits"]

    @pytest.mark.long
    def test_needs_no_framework(self, tmp_path):
        write(tmp_path / "ref.npz", REFERENCE)
        write(tmp_path / "a.npz", "torch")
        arguments = ["parity", "compare", str(tmp_path / "ref.npz"), str(tmp_path / "a.npz")]
        _, said = run_blocked(["mindspore", "torch", "onnxruntime"], commands=[arguments])
        assert tells(said, "torch", "a.npz", "same")


class TestCapture:
    @pytest.mark.parametrize("kind", SMALL)
    def test_inputs_of_another_bundle(self, kind, tmp_path):
        """The generated images, once as they are and once out of a bundle: the same answers."""
        info = info_of(SMALL[kind])
        save_model(tmp_path / "m.pth", random_weights(info.config), info)
        ours = ("capture", tmp_path / "m.pth", "--runtime", "onnxruntime")
        good(*ours, "-o", tmp_path / "a.npz")
        good(*ours, "-o", tmp_path / "b.npz", "--images", tmp_path / "a.npz")
        first, second = Bundle(tmp_path / "a.npz"), Bundle(tmp_path / "b.npz")
        assert first.record.seen == second.record.seen
        assert [s.name for s in first.record.seen] == [
            s.name for s in default_samples(info.preprocessing)
        ]
        for name, array in first.rows(first.record.names, 0, 8).items():
            assert array.tobytes() == second.rows((name,), 0, 8)[name].tobytes()

    def test_image_files_are_named(self, tmp_path):
        from PIL import Image

        for name in ("x", "y"):
            pixels = np.random.default_rng(len(name)).integers(0, 256, (70, 90, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        target = tmp_path / "a.npz"
        good("capture", OFFICIAL_V2, "--runtime", "torch", "-o", target, "--images", tmp_path)
        seen = Bundle(target).record.seen
        assert [s.name for s in seen] == [str(tmp_path / "x.png"), str(tmp_path / "y.png")]
        assert [s.name for s in seen] == [
            s.name for s in file_samples(sorted(tmp_path.glob("*.png")))
        ]

    def test_unknown_runtime(self, tmp_path):
        done = command("capture", OFFICIAL_V2, "--runtime", "tf", "-o", tmp_path / "a.npz")
        assert done.exit_code == 2 and tells(done.stderr, "'tf'", "mindspore")

    def test_hf32_needs_an_ascend(self, tmp_path):
        message = refused(
            *("capture", OFFICIAL_V2, "--runtime", "mindspore-hf32", "-o", tmp_path / "a.npz"),
            *("--random", 1),
        )
        assert tells(message, "mindspore", "hf32", "MindSpore", "CPU")
        assert not (tmp_path / "a.npz").exists()

    def test_precision_is_for_references(self, tmp_path):
        done = command(
            *("capture", OFFICIAL_V2, "--runtime", "torch", "-o", tmp_path / "a.npz"),
            *("--precision", "fp16"),
        )
        assert done.exit_code == 2 and tells(done.stderr, "--runtime")

    def test_facts_that_matter_are_recorded(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MS_ASCEND_CHECK_OVERFLOW_MODE", "SATURATION_MODE")
        facts = write(tmp_path / "a.npz", "mindspore-o2").record.facts
        assert facts["MS_ASCEND_CHECK_OVERFLOW_MODE"] == "SATURATION_MODE"
        assert facts["amp"] == "O2, float16" and facts["hf32"] == "none on this device"
        assert facts["framework"].startswith("mindspore 2") and facts["device"] == "CPU"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("generated", 7)),
        ({"random": 3}, ("noise", 7)),
        ({"images": "x.png"}, ("files", 0)),
        ({"images": "a.npz"}, ("bundle", 0)),
    ],
)
def test_where_inputs_come_from(options, expected, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    write(tmp_path / "a.npz", what=shot(seed=3))
    if "images" in options:
        options = {"images": (str(tmp_path / options["images"]),)}
    _, info = load_model(OFFICIAL_V2)
    inputs = choose_inputs(Chosen(**options, seed=7), info)
    assert (inputs.source, inputs.seed) == expected


def test_inputs_of_a_bundle_that_is_compared_are_its_own(tmp_path):
    """Noise that was kept with another seed is not what ``--seed`` would make again."""
    bundle = write(tmp_path / "a.npz", what=shot(seed=3))
    _, info = load_model(OFFICIAL_V2)
    inputs = choose_inputs(Chosen(), info, [bundle])
    assert (inputs.source, inputs.seed) == ("bundle", 0)
