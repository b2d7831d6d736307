"""What ``inspect`` and ``--report`` say, counted and hashed here once more."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import read_model, save_model
from convert.command_line import main
from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.pth import file as pth
from convert.formats.table import read_file
from convert.names.dialects import find_dialect
from pvt_spec import ModelInfo, tensor_specs
from pvt_spec.files import replacing
from tests.support.commands import refusal
from tests.support.converting import (
    convert,
    describe,
    refused,
    report_of,
    save,
    sha256,
    strict_json,
    succeed,
)
from tests.support.huggingface import save_random_model
from tests.support.messages import tells
from tests.support.models import GOLDEN, KINDS, MAPS, SMALL, golden_file, random_weights

OTHER = GOLDEN / "ckpt_format"
"""Files with the same tensors that are of no PVT."""


def inspect(*arguments: object) -> tuple[int, dict[str, Any]]:
    """The exit code of ``inspect --json``, and what it says."""
    done: Any = convert("inspect", *arguments, "--json")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.stderr == ""
    return done.exit_code, strict_json(done.stdout)


OTHER_MATHS = ("--allow-different-maths",)


# --- reports


def described(*paths: Path) -> list[dict[str, Any]]:
    return [{"file": str(p), "bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths]


@pytest.mark.parametrize("target", ["b.ckpt", "b.pth", "b.safetensors", "b.onnx", "b"])
def test_reports_have_the_hashes_of_all_files(target: str, tmp_path: Path) -> None:
    save_random_model(tmp_path / "a", SMALL["v2"], shard_size="20KB")
    facts = report_of(tmp_path / "a", tmp_path / target)
    shards = sorted((tmp_path / "a").glob("model-*.safetensors"))
    index = tmp_path / "a" / "model.safetensors.index.json"
    assert facts["source"] == described(index, *shards, tmp_path / "a" / "config.json")
    written = [tmp_path / target]
    if target == "b":
        names = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
        written = [tmp_path / target / name for name in names]
        assert sorted((tmp_path / target).iterdir()) == sorted(written)
    assert facts["target"] == described(*written)
    assert facts["wrote"] == [str(path) for path in written]


def test_reports_have_the_hashes_of_weights_beside_a_model(tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.ckpt", SMALL["v2"], "official"), tmp_path / "b.onnx"
    facts = report_of(source, target, "--external-data")
    assert facts["source"] == described(source)
    assert facts["target"] == described(target, tmp_path / "b.onnx.data")
    back = report_of(target, tmp_path / "c.ckpt")
    assert back["source"] == described(target, tmp_path / "b.onnx.data")
    assert source.read_bytes() == (tmp_path / "c.ckpt").read_bytes()


COUNTED = [
    ("v1", "mindcv", "official"),
    ("v1", "official", "hf"),
    ("v2", "hf", "pvt_ms"),
    ("linear", "timm", "official"),
    ("v1 maps", "hf", "mmdet"),
    ("v2 maps", "mmdet", "hf"),
    ("linear maps", "official", "mmdet"),
]


@pytest.mark.parametrize(("name", "before", "after"), COUNTED)
def test_reports_count_what_became_of_the_names(
    name: str, before: str, after: str, tmp_path: Path
) -> None:
    """A tensor that is cut or joined is told by its name; another is renamed if it is new."""
    config = KINDS[name]
    profile = find_dialect(before, config.version).profile
    source, target = save(tmp_path / "a.pth", config, profile, dialect=before), tmp_path / "b.pth"
    facts = report_of(source, target, "--to-dialect", after, *OTHER_MATHS)
    names, theirs = ({*read_file(path).tensors} for path in (source, target))
    parts = (".key.", ".value.", ".query.") if before == "mmdet" else (".key.", ".value.")
    split = {name for name in theirs if any(part in name for part in parts)}
    whole = (".in_proj_", ".kv.") if before == "hf" else (".in_proj_",)
    joined = {name for name in theirs if any(part in name for part in whole)}
    counts = {"split": len(split), "joined": len(joined)}
    counts["renamed"] = len(theirs - names - split - joined)
    assert {what: facts.get(what, 0) for what in counts} == counts
    assert (facts["dialect"], facts["names"]) == (before, after)


def test_reports_are_of_what_was_written_not_of_what_is_there(tmp_path: Path, monkeypatch) -> None:
    """Another process may have replaced it by then."""
    source, target = save(tmp_path / "a.ckpt", SMALL["v2"], "official"), tmp_path / "b.pth"
    expected = report_of(source, target)["target"]
    put = replacing.put_in_place

    def put_and_lose(*given: Any) -> None:
        put(*given)
        target.write_bytes(b"another's")

    monkeypatch.setattr(replacing, "put_in_place", put_and_lose)
    assert report_of(source, target, "--force")["target"] == expected


def test_a_source_that_changes_before_it_is_reported_is_noticed(
    tmp_path: Path, monkeypatch
) -> None:
    source, target = save(tmp_path / "a.ckpt", SMALL["v2"], "official"), tmp_path / "b.pth"
    put = replacing.put_in_place

    def put_and_change(*given: Any) -> None:
        put(*given)
        with source.open("ab") as stream:
            stream.write(b"more")

    monkeypatch.setattr(replacing, "put_in_place", put_and_change)
    said = refusal(main, source, target, "--report", tmp_path / "r.json", "--force")
    assert tells(said, "a.ckpt", "was written to") and not (tmp_path / "r.json").exists()


def test_reports_do_no_harm(tmp_path: Path) -> None:
    source, report = save(tmp_path / "a.ckpt", SMALL["v2"], "official"), tmp_path / "r.json"
    report.write_text("precious")
    arguments = (source, tmp_path / "b.onnx", "--report")
    assert tells(refused(tmp_path, *arguments, report), "r.json")
    succeed(*arguments, report, "--force")
    assert strict_json(report.read_text())["variant"] is None
    for path in (source, tmp_path / "b.onnx"):
        said = refused(tmp_path, *arguments, path, "--force")
        assert tells(said, path) and "another target" in said
    said = refused(tmp_path, source, tmp_path / "c.onnx", "--report", tmp_path / "no" / "r.json")
    assert tells(said, "folder")
    succeed(source, tmp_path / "d", "--report", tmp_path / "d" / "r.json", *OTHER_MATHS)
    assert (tmp_path / "d" / "r.json").exists()


# --- inspect

TYPES: dict[str, type | tuple[type, ...]] = {
    "file": list,
    "format": str,
    "dialect": str,
    "variant": (str, type(None)),
    "classes": int,
    "profile": str,
    "image_size": list,
    "config": dict,
    "numerics": dict,
    "tensors": int,
    "parameters": int,
    "dtypes": dict,
    "labels": list,
    "preprocessing": dict,
    "task": str,
    "provenance": dict,
    "other_entries": dict,
    "notes": dict,
}
SOMETIMES = {
    "certificate": str,
    "container": str,
    "training_state": dict,
    "averaged_weights": int,
    "prefix_removed": str,
    "left_out": dict,
    "answers": list,
    "guess": list,
}

GOLDEN_FILES = sorted(
    path for path in GOLDEN.glob("*/*") if path.suffix in (".ckpt", ".pth", ".safetensors")
)
MODELS = [path for path in GOLDEN_FILES if (path.parent / "case.json").exists()]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_inspect_says_the_facts_of_a_model(path: Path) -> None:
    code, facts = inspect(path)
    assert code == 0
    assert facts.keys() >= TYPES.keys() and facts.keys() <= TYPES.keys() | SOMETIMES.keys()
    for what, value in facts.items():
        assert isinstance(value, {**TYPES, **SOMETIMES}[what]), (what, value)
    model, case = read_model(path), json.loads((path.parent / "case.json").read_text())
    specs = tensor_specs(model.info.config)
    assert facts["file"] == described(path)
    assert (facts["dialect"], facts["profile"]) == (case["dialect"], case["profile"])
    assert facts["tensors"] == sum(facts["dtypes"].values()) == len(specs)
    assert facts["parameters"] == sum(int(np.prod(spec.shape)) for spec in specs)
    assert facts["config"] == json.loads(json.dumps(dataclasses.asdict(model.info.config)))
    table: Any = convert("inspect", path)
    assert table.exit_code == 0 and sha256(path) in table.stdout


@pytest.mark.parametrize("name", ["plain.ckpt", "crc.ckpt", "plain.safetensors"])
def test_inspect_says_what_it_can_of_other_files(name: str) -> None:
    code, facts = inspect(OTHER / name)
    tensors = read_file(OTHER / name).tensors
    assert code == 1
    assert facts["format"] == Path(name).suffix.removeprefix(".")
    assert facts["tensors"] == sum(facts["dtypes"].values()) == len(tensors)
    assert facts["dtypes"]["float16"] == sum(a.dtype == np.float16 for a in tensors.values())
    assert tells(facts["problem"], "PVT")
    assert facts["file"] == described(OTHER / name)


def test_inspect_says_what_is_missing_from_a_model(tmp_path: Path) -> None:
    tensors = dict(read_file(golden_file("mindcv_v1_training_ema")).tensors)
    del tensors["head.weight"]
    with (tmp_path / "a.ckpt").open("wb") as stream:
        ckpt.write(stream, tensors, {"note": "hello"})
    code, facts = inspect(tmp_path / "a.ckpt")
    assert code == 1
    assert tells(facts["problem"], "head.weight")
    assert facts["training_state"]["adam_m.*"] == 129
    assert facts["other_entries"]["note"] == "'hello'"


def test_inspect_reads_a_folder_and_its_shards(tmp_path: Path) -> None:
    save_random_model(tmp_path / "a", SMALL["linear"], shard_size="20KB")
    code, facts = inspect(tmp_path / "a")
    assert code == 0
    assert len(facts["file"]) == 2 + len([*(tmp_path / "a").glob("*-of-*")])
    assert facts["notes"]["profile"] == "config.json"


@pytest.mark.parametrize("path", [OTHER / "encrypted.ckpt", Path("nowhere.onnx"), Path("README")])
def test_files_that_cannot_be_read_are_errors(path: Path) -> None:
    done: Any = convert("inspect", path, "--json")
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.startswith("Error: ")


# --- differences


def test_a_model_is_the_same_in_every_format_and_dialect(tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v1"], "hf")
    paths = [source, *(tmp_path / name for name in ("b.pth", "c.safetensors", "d.onnx", "e"))]
    for path in paths[1:]:
        succeed(source, path)
    succeed(source, tmp_path / "f.bin", "--to-dialect", "hf")
    for first in paths:
        for second in (*paths, tmp_path / "f.bin"):
            same = len(tensor_specs(SMALL["v1"]))
            assert inspect(first, "--diff", second) == (
                0,
                {"same": same, "notes": {"same": "tensors, to the bit"}},
            ), (first, second)


def test_differences_are_told(tmp_path: Path) -> None:
    """Tensors that are missing, too much, of other shapes and bytes: of any two files."""
    first = random_weights(SMALL["v2"])
    second = {name: array.copy() for name, array in first.items() if name != "norm2.bias"}
    second["block1.0.attn.q.bias"][[1, 4]] += np.float32(0.25), np.float32(-0.5)
    largest = np.abs(second["block1.0.attn.q.bias"] - first["block1.0.attn.q.bias"]).max()
    second["norm1.weight"] = second["norm1.weight"].astype(np.float16)
    second["norm3.bias"] = second["norm3.bias"][:5]
    second["norm4.bias"][0], first["norm4.bias"][0] = 0.0, -0.0
    second["norm4.weight"][0] = np.nan
    second["more"] = np.zeros(3, np.int64)
    for name, tensors in (("a.pth", first), ("b.safetensors", second)):
        with (tmp_path / name).open("wb") as stream:
            (pth if name == "a.pth" else safetensors_file).write(stream, tensors, {})
    code, facts = inspect(tmp_path / "a.pth", "--diff", tmp_path / "b.safetensors")
    assert code == 1
    assert (facts["missing"], facts["extra"]) == (["norm2.bias"], ["more"])
    assert facts["other_shape"] == [{"tensor": "norm3.bias", "shapes": [[24], [5]]}]
    changed = {entry.pop("tensor"): entry for entry in facts["other_bytes"]}
    assert changed["block1.0.attn.q.bias"] == {"values": 2, "of": 8, "max_abs": float(largest)}
    assert changed["norm4.bias"] == {"values": 0, "of": 32, "max_abs": 0.0}
    assert changed["norm4.weight"] == {"values": 1, "of": 32, "max_abs": "nan"}
    rounded = first["norm1.weight"].astype(np.float16).astype(np.float64)
    gap = np.abs(rounded - first["norm1.weight"]).max()
    assert changed["norm1.weight"]["dtypes"] == ["float32", "float16"]
    assert changed["norm1.weight"]["max_abs"] == gap
    assert facts["same"] == len(first) - 6
    table: Any = convert("inspect", tmp_path / "a.pth", "--diff", tmp_path / "b.safetensors")
    assert table.exit_code == 1
    assert tells(table.stdout, "block1.0.attn.q.bias", "2", "8", "0.5")


def test_one_value_of_a_model_is_found_across_formats(tmp_path: Path) -> None:
    config = SMALL["v1"]
    info = describe(config, "official")
    weights = random_weights(info.config)
    save_model(tmp_path / "a.ckpt", weights, info)
    changed = weights["block4.0.mlp.fc2.weight"].copy()
    changed[3, 5] = np.nextafter(changed[3, 5], np.float32(9))
    gap = float(changed[3, 5]) - float(weights["block4.0.mlp.fc2.weight"][3, 5])
    save_model(tmp_path / "b.onnx", {**weights, "block4.0.mlp.fc2.weight": changed}, info)
    code, facts = inspect(tmp_path / "a.ckpt", "--diff", tmp_path / "b.onnx")
    assert code == 1
    (entry,) = facts["other_bytes"]
    assert (entry["tensor"], entry["values"]) == ("block4.0.mlp.fc2.weight", 1)
    assert entry["max_abs"] == gap > 0


def changed_info(info: ModelInfo, what: str) -> ModelInfo:
    """The description of another model with the same tensors."""
    prepared, config = info.preprocessing, info.config
    changes: dict[str, Any] = {
        "profile": {"numerics": dataclasses.replace(info.numerics, norm2_eps=1e-7)},
        "labels": {"labels": (*info.labels[:-1], "other")},
        "num_heads": {"config": dataclasses.replace(config, num_heads=(1, 2, 3, 8))},
        "crop_pct": {"preprocessing": dataclasses.replace(prepared, crop_pct=0.9)},
        "std": {"preprocessing": dataclasses.replace(prepared, std=(1.0, 1.0, 1.0))},
        "image_size": {"preprocessing": dataclasses.replace(prepared, image_size=(96, 64))},
        "resize": {"preprocessing": dataclasses.replace(prepared, resize="inside")},
        "interpolation": {"preprocessing": dataclasses.replace(prepared, interpolation="hamming")},
        "crop_mode": {"preprocessing": dataclasses.replace(prepared, crop_mode="border")},
        "rescale": {"preprocessing": dataclasses.replace(prepared, rescale=1.0)},
        "normalise": {"preprocessing": dataclasses.replace(prepared, normalise=False)},
        "orientation": {"preprocessing": dataclasses.replace(prepared, orientation="exif")},
        "task": {"task": "single_label"},
    }
    return dataclasses.replace(info, **changes[what])


@pytest.mark.parametrize(
    "what",
    [
        *("profile", "labels", "num_heads", "crop_pct", "std", "image_size", "resize"),
        *("interpolation", "crop_mode", "rescale", "normalise", "orientation", "task"),
    ],
)
def test_models_with_the_same_weights_may_differ(what: str, tmp_path: Path) -> None:
    info = describe(SMALL["v2"], "official")
    weights = random_weights(info.config)
    save_model(tmp_path / "a.pth", weights, info)
    save_model(tmp_path / "b.ckpt", weights, changed_info(info, what))
    code, facts = inspect(tmp_path / "a.pth", "--diff", tmp_path / "b.ckpt")
    assert code == 1
    assert facts.keys() == {what, "same", "notes"}
    assert facts["notes"][what] == "differs" and facts["same"] == len(weights)


def test_features_and_maps_of_the_same_weights_differ(tmp_path: Path) -> None:
    maps = MAPS["v2 maps"]
    save(tmp_path / "a.pth", maps, "hf")
    save(tmp_path / "b.pth", dataclasses.replace(maps, features_only=False), "hf")
    code, facts = inspect(tmp_path / "a.pth", "--diff", tmp_path / "b.pth")
    assert code == 1 and facts.keys() == {"answers", "same", "notes"}


def test_files_of_other_models_are_compared_by_their_names() -> None:
    code, facts = inspect(OTHER / "plain.ckpt", "--diff", OTHER / "plain.safetensors")
    count = len(read_file(OTHER / "plain.ckpt").tensors)
    assert (code, facts["same"]) == (0, count)
    assert inspect(OTHER / "plain.ckpt", "--diff", OTHER / "plain.ckpt")[0] == 0
    code, facts = inspect(OTHER / "plain.ckpt", "--diff", golden_file("official_v2_small"))
    assert code == 1 and len(facts["missing"]) == count and facts["same"] == 0


def test_a_changed_folder_differs(tmp_path: Path) -> None:
    """``config.json`` is what transformers goes by."""
    source = save(tmp_path / "a", SMALL["v1"], "hf")
    shutil.copytree(source, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    config["layer_norm_eps"] = 1e-5
    config["id2label"]["0"] = "other"
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    code, facts = inspect(source, "--diff", tmp_path / "b")
    assert code == 1 and facts.keys() >= {"profile", "labels"}
    config["layer_norm_eps"] = 1e-6
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    code, facts = inspect(source, "--diff", tmp_path / "b")
    assert code == 1 and "labels" in facts and "profile" not in facts
    assert read_model(tmp_path / "b").info.labels[0] == "other"


@pytest.mark.parametrize(
    ("one", "other", "gap"),
    [
        (np.array([1 + 1j]), np.array([1 + 3j]), 2.0),
        (np.array([1 << 62]), np.array([(1 << 62) + 1]), 0.0),  # which float64 has not
        (np.array([np.nan, 1.0]), np.array([np.nan, 2.0]), 1.0),
        (np.array([np.nan]), np.array([1.0]), np.nan),
    ],
)
def test_values_that_differ_are_counted_in_every_dtype(
    one: np.ndarray, other: np.ndarray, gap: float, tmp_path: Path
) -> None:
    for name, array in (("a", one), ("b", other)):
        with (tmp_path / f"{name}.pth").open("wb") as stream:
            pth.write(stream, {"x": array}, {})
    code, facts = inspect(tmp_path / "a.pth", "--diff", tmp_path / "b.pth")
    assert code == 1
    (found,) = facts["other_bytes"]
    assert (found["values"], str(found["max_abs"])) == (1, str(gap))
