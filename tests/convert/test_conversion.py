"""The maths behind the dialects, and the command line as people use it."""

import dataclasses
import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import conversion, read_model, save_model
from convert.formats import safetensors as safetensors_file
from convert.formats.table import read_file
from convert.names.dialects import find_dialect
from pvt_spec import PROFILES, Numerics, PVTConfig, output_names, profile_numerics
from tests.support.converting import (
    assert_holds,
    convert,
    describe,
    dialects_of,
    refused,
    report_of,
    same_bits,
    save,
    succeed,
    tree,
)
from tests.support.messages import Facts, tells
from tests.support.models import GOLDEN, SMALL, golden_file, info_of, random_weights
from tests.support.runtimes import run_torch

ALLOWED = "--allow-different-maths"

# --- maths


def computed_by(dialect: str, numerics: Numerics, config: PVTConfig) -> Numerics:
    """What the code behind a dialect computes: transformers takes the GELU of its MLP too."""
    theirs = profile_numerics(find_dialect(dialect, config.version).profile, config.version)
    if dialect == "hf" and not config.linear:
        return dataclasses.replace(theirs, gelu=numerics.gelu)
    return theirs


def differing(ours: Numerics, theirs: Numerics) -> list[str]:
    """The fields that change an answer. To keep positions wider changes none."""
    fields = [field.name for field in dataclasses.fields(Numerics)]
    found = [name for name in fields if getattr(ours, name) != getattr(theirs, name)]
    wider = theirs.pos_embed_dtype == "float32"
    return [name for name in found if not (name == "pos_embed_dtype" and wider)]


def gap_in_torch(source: Path, target: Path) -> float:
    """How far apart both files' maths are, on the two images that the estimate takes."""
    written = read_model(target)
    info = written.info
    shape = (2, 3, *info.preprocessing.image_size)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    # The target's weights may be rounded, so the source's are taken for its own answer.
    weights = read_model(source).weights
    if info.config.features_only and info.config.version == 1:
        weights = {**weights, "pos_embed4": weights["pos_embed4"][:, 1:]}
    weights = {name: weights[name] for name in written.weights}
    ours = run_torch(info.config, read_model(source).info.numerics, weights, images)
    theirs = run_torch(info.config, info.numerics, written.weights, images)
    gaps = [np.abs(ours[name] - theirs[name]).max() for name in output_names(info.config)]
    return float(max(gaps))


MINDCV_TO = [
    (name, dialect) for name in SMALL for dialect in ("official", "timm", "hf", "mmdet")
    if (name, dialect) != ("v1", "timm")
]  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize(("name", "dialect"), MINDCV_TO)
def test_mindcv_models_are_not_written_for_other_maths_unasked(
    name: str, dialect: str, tmp_path: Path
) -> None:
    config = SMALL[name]
    source, target = save(tmp_path / "a.ckpt", config, "mindcv"), tmp_path / "b.pth"
    numerics = profile_numerics("mindcv", config.version)
    theirs = computed_by(dialect, numerics, config)
    fields = differing(numerics, theirs)
    assert len(fields) > 2
    said = refused(tmp_path, source, target, "--to-dialect", dialect)
    error = said.partition("Error: ")[2]
    assert tells(error, ", ".join(fields)) and ALLOWED in error
    for field in fields:
        ours, other = getattr(numerics, field), getattr(theirs, field)
        assert f"maths differ  {field}: {ours} here, {other} in {dialect}\n" in said
    facts = report_of(source, target, "--to-dialect", dialect, ALLOWED)
    assert [each["field"] for each in facts["maths_differ"]] == fields
    estimate = facts["estimated_gap"]["max_abs"]
    assert tells(error, f"{estimate:.2g}")
    # Of MindCV's v1, what transformers computes otherwise is as small as rounding.
    assert estimate == pytest.approx(gap_in_torch(source, target), rel=0.03, abs=2e-6)
    info = read_model(target).info
    kept = "float16" if config.version == 1 else "float32"
    assert info.numerics == dataclasses.replace(theirs, pos_embed_dtype=kept)
    assert info.provenance["profile before conversion"] == "mindcv"


@pytest.mark.parametrize("case", ["mindcv_v1_small", "mindcv_v2_small"])
def test_the_peers_mindcv_models_too(case: str, tmp_path: Path) -> None:
    source, target = golden_file(case), tmp_path / "a.pth"
    refused(tmp_path, source, target, "--to-dialect", "official")
    facts = report_of(source, target, "--to-dialect", "official", ALLOWED)
    estimate = facts["estimated_gap"]["max_abs"]
    assert estimate == pytest.approx(gap_in_torch(source, target), rel=0.03)
    assert estimate > 1e-4


@pytest.mark.sampled
@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_dialect_computes_needs_no_leave(
    profile: str, small_or_maps: PVTConfig, tmp_path: Path
) -> None:
    """Every dialect is written without leave exactly from its own maths."""
    source = save(tmp_path / "a.onnx", small_or_maps, profile)
    numerics = profile_numerics(profile, small_or_maps.version)
    for dialect in dialects_of(small_or_maps):
        target, asked = tmp_path / f"{dialect.name}.ckpt", ("--to-dialect", dialect.name)
        theirs = numerics
        if dialect.name != "pvt_ms":
            theirs = computed_by(dialect.name, numerics, small_or_maps)
        if differing(numerics, theirs):
            refused(tmp_path, source, target, *asked)
        else:
            said = succeed(source, target, *asked)
            assert "maths differ" not in said and "estimated gap" not in said
            assert read_model(target).info.profile == profile


def test_without_a_dialect_the_maths_travels(small_or_maps: PVTConfig, tmp_path: Path) -> None:
    numerics = Numerics("tanh", "same", 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, "float32", "align_corners")
    source = save(tmp_path / "0.ckpt", small_or_maps, numerics)
    for number, ending in enumerate((".pth", ".onnx", ".safetensors", ".ckpt")):
        target = tmp_path / f"{number + 1}{ending}"
        assert "maths differ" not in succeed(source, target)
        assert read_model(target).info.numerics == numerics
        source = target
    assert source.read_bytes() == (tmp_path / "0.ckpt").read_bytes()


def test_positions_that_float16_cannot_hold_are_said(tmp_path: Path) -> None:
    numerics = dataclasses.replace(PROFILES["mindcv"][1], pos_embed_dtype="float32")
    source, target = save(tmp_path / "a.pth", SMALL["v1"], numerics), tmp_path / "b.ckpt"
    asked = (source, target, "--to-dialect", "mindcv")
    said = refused(tmp_path, *asked)
    assert "maths differ  pos_embed_dtype: float32 here, float16 in mindcv\n" in said
    facts = report_of(*asked, ALLOWED)
    assert [each["field"] for each in facts["maths_differ"]] == ["pos_embed_dtype"]
    measured = gap_in_torch(source, target)
    assert facts["estimated_gap"]["max_abs"] == pytest.approx(measured, rel=0.03, abs=2e-6)
    before, after = read_model(source).weights, read_model(target).weights
    names = [f"pos_embed{stage}" for stage in range(1, 5)]
    rounded = {name: before[name].astype(np.float16) for name in names}
    assert same_bits({name: after[name] for name in names}, rounded)
    largest = max(float(np.abs(rounded[n].astype(np.float32) - before[n]).max()) for n in names)
    assert facts["cast"] == {"dtype": "float16", "tensors": 4, "largest_change": largest}


def test_positions_that_float16_can_hold_need_no_leave(tmp_path: Path) -> None:
    numerics = dataclasses.replace(PROFILES["mindcv"][1], pos_embed_dtype="float32")
    info = describe(SMALL["v1"], numerics)
    halves = random_weights(info.config, "float16")
    wide = {name: array.astype(np.float32) for name, array in halves.items()}
    save_model(tmp_path / "a.pth", wide, info)
    said = succeed(tmp_path / "a.pth", tmp_path / "b.ckpt", "--to-dialect", "mindcv")
    assert tells(said, "4", "float16")
    assert_holds(tmp_path / "b.ckpt", halves, describe(SMALL["v1"], "mindcv"))


def test_positions_that_were_resized_are_no_longer_mindcvs(tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v1"], "mindcv")
    asked = ("--to-dialect", "mindcv", "--image-size", 96)
    said = refused(tmp_path, source, tmp_path / "b.ckpt", *asked)
    assert tells(said, "pos_embed_dtype")
    succeed(source, tmp_path / "b.ckpt", *asked, ALLOWED)
    assert read_model(tmp_path / "b.ckpt").info.profile == "mindcv"


# --- files and folders by their names


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("b.ckpt", "ckpt"),
        ("b.pth", "pth"),
        ("b.pt", "pth"),
        ("b.bin", "pth"),
        ("b.PTH", "pth"),
        ("b.v2.safetensors", "safetensors"),
        ("b.onnx", "onnx"),
    ],
)
def test_endings_say_the_format(name: str, kind: str, tmp_path: Path) -> None:
    """Options may stand before the names, between and after them, in MindCV's spelling too."""
    source, target = save(tmp_path / "a.ckpt", SMALL["v2"], "hf"), tmp_path / name
    expected = tmp_path / f"expected.{kind}"
    succeed(f"ckpt-to-{kind}" if kind != "ckpt" else "any-to-any", source, expected)
    succeed("--num_classes=0", source, "--force", target, "--dtype", "float16")
    succeed("--force", source, target)
    assert target.read_bytes() == expected.read_bytes()


def test_relative_names_need_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.ckpt"), SMALL["v1"], "hf")
    succeed("a.ckpt", "folder")
    succeed("folder", "b.ckpt")
    assert Path("a.ckpt").read_bytes() == Path("b.ckpt").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["a.ckpt", "b.ckpt", "folder"]


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (("a.ckpt", "b.tar"), 1, ("b.tar",)),
        (("b.tar", "a.ckpt"), 1, ("a.ckpt",)),
        (("b.tar", "c.ckpt"), 1, ("b.tar",)),
        (("nowhere", "c.ckpt"), 1, ("nowhere",)),
        (("nowhere", "elsewhere"), 1, ("nowhere", "no such file")),
        (("inspct", "elsewhere"), 2, ("'inspct'",)),
        (("a.ckpt", "c.pth", "--external-data"), 2, ("c.pth", ".onnx")),
        (("./nowhere", "c.ckpt"), 1, ("nowhere",)),
        (("ckpt-to-onxx", "a.ckpt", "c.onnx"), 2, ("'ckpt-to-onxx'",)),
        (("a.ckpt",), 2, ("'DST'",)),
        (("a.ckpt", "c.onnx", "d.onnx"), 2, ("unexpected",)),
        (("a.ckpt", "c.onnx", "--to-dialect", "timm"), 1, ("official",)),
        (("a.ckpt", "c", "--to-dialect", "timm"), 1, ("hf",)),
        (("a.ckpt", "c.pth", "--to-dialect", "timm"), 1, ("timm", "PVT", "v1")),
        (("onnx-to-ckpt", "a.ckpt", "c.ckpt"), 1, (".onnx",)),
        (("ckpt-to-pth", "a.ckpt", "c"), 1, (".pth", ".pt", ".bin")),
        (("a.ckpt", "file"), 1, ("format",)),
        (("a.ckpt", "c.ckpt", "--labels", "latin.txt"), 1, ("latin.txt", "UTF-8")),
        (("a.ckpt", "c.ckpt", "--labels", "three.txt"), 1, ("3", "7")),
        (("a.ckpt", "nowhere/c.onnx"), 1, ("folder", "first")),
        (("file.pth", "nowhere/c.onnx"), 1, ("folder", "first")),
        (("file.pth", "c.onnx", "--report", "nowhere/c.json"), 1, ("folder", "first")),
        (("file.pth", "c.onnx", "--opset", "8"), 1, ("9", "23")),
        (("a.ckpt", "c.onnx", "--model", "pvt_tinny"), 1, ("pvt_tiny",)),
        (("a.ckpt", "c.onnx", "--image-size", "3f"), 1, ("HxW",)),
        (("a.ckpt", "c.onnx", "--opset", "8"), 1, ("9", "23")),
        (("a.ckpt", "c.onnx", "--target", "ascend", "--dynamic-size"), 1, ("--image-size",)),
        (("a.ckpt", "c.onnx", "--target", "trt"), 2, ("'trt'",)),
        (("a.ckpt", "c.onnx", "--target", "ascend", "--uint8"), 1, ("AIPP", "--uint8")),
        (("a.ckpt", "c.onnx", "--profile", "foo"), 2, ("'foo'",)),
        (("a.ckpt", "c.onnx", "--from-dialect", "foo"), 2, ("'foo'",)),
    ],
)
def test_names_that_cannot_be(
    arguments: tuple[str, ...],
    code: int,
    facts: Facts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.ckpt"), SMALL["v1"], "hf")
    for name in ("file", "file.pth"):
        Path(name).write_text("no model")
    Path("latin.txt").write_bytes("Käfer\n".encode("latin-1"))
    Path("three.txt").write_text("a\nb\nc\n")
    before = tree(tmp_path)
    done: Any = convert(*arguments)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    assert isinstance(done.exception, SystemExit)
    assert tells(" ".join(done.stderr.split()), *facts)
    assert tree(tmp_path) == before


def test_a_folder_keeps_what_else_is_in_it(tmp_path: Path) -> None:
    source, folder = save(tmp_path / "a.ckpt", SMALL["v2"], "hf"), tmp_path / "hf"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    succeed(source, folder)
    first = tree(folder)
    assert len(first) == 5
    assert tells(refused(tmp_path, source, folder), "config.json")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").unlink()
    assert tells(refused(tmp_path, source, folder), "config.json")
    succeed(source, folder, "--force")
    assert tree(folder) == first


@pytest.mark.parametrize(
    ("name", "profile", "facts"),
    [
        ("v1", "mindcv", ("instead",)),
        ("v1 maps", "hf", ("PVT", "v1")),
        ("wide", "hf", ("PVT", "v1", "64x96")),
    ],
)
def test_a_conversion_that_fails_leaves_no_folder(
    name: str, profile: str, facts: Facts, tmp_path: Path
) -> None:
    changes = {
        "v1": {},
        "v1 maps": {"num_classes": 0, "features_only": True},
        "wide": {"image_size": (64, 96)},
    }
    config = dataclasses.replace(SMALL["v1"], **changes[name])
    source = save(tmp_path / "a.ckpt", config, profile)
    assert tells(refused(tmp_path, source, tmp_path / "hf"), *facts)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "notes.txt").write_text("mine")
    refused(tmp_path, source, tmp_path / "hf")
    refused(tmp_path, source, tmp_path / "no" / "hf")


def test_a_folder_that_another_process_replaces_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(path: Path, *arguments: Any, **options: Any) -> list[Path]:
        written = save_model(path, *arguments, **options)
        (path / "config.json").unlink()  # first of all: it comes last
        return written

    source = save(tmp_path / "a.ckpt", SMALL["v2"], "hf")
    monkeypatch.setattr(conversion, "save_model", replaced)
    assert "another process" in succeed(source, tmp_path / "hf")


def test_a_disk_that_fills_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    source = save(tmp_path / "a.ckpt", SMALL["v2"], "hf")
    monkeypatch.setattr(safetensors_file, "write", fail)
    assert tells(refused(tmp_path, source, tmp_path / "hf"), "space")


def test_weights_beside_a_model_are_read_back(small_or_maps: PVTConfig, tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.pth", small_or_maps, "mindcv"), tmp_path / "b.onnx"
    succeed("pth-to-onnx", source, target, "--external-data")
    assert {path.name for path in tmp_path.iterdir()} == {"a.pth", "b.onnx", "b.onnx.data"}
    assert target.stat().st_size < source.stat().st_size
    assert tells(refused(tmp_path, source, target, "--external-data"), "b.onnx")
    target.rename(tmp_path / "c.onnx")
    assert tells(refused(tmp_path, source, target, "--external-data"), "b.onnx.data")
    (tmp_path / "c.onnx").rename(target)
    succeed(target, tmp_path / "c.pth")
    assert source.read_bytes() == (tmp_path / "c.pth").read_bytes()
    (tmp_path / "b.onnx.data").unlink()
    assert "b.onnx.data" in refused(tmp_path, target, tmp_path / "d.pth")


def test_a_file_is_not_converted_in_its_place(tmp_path: Path) -> None:
    """Of a training checkpoint only the weights would be left."""
    path = save(tmp_path / "a.pth", SMALL["v2"], "official")
    (tmp_path / "link.pth").symlink_to(path)
    for target in (path, tmp_path / "link.pth"):
        for force in ((), ("--force",)):
            said = refused(tmp_path, path, target, "--to-dialect", "timm", *force)
            assert tells(said, "source")


# --- what is in a source beside the weights


def test_training_state_is_listed_and_never_converted(tmp_path: Path) -> None:
    source = GOLDEN / "mindcv_v1_training_ema" / "weights.ckpt"
    said = succeed(source, tmp_path / "a.ckpt", "--to-dialect", "mindcv")
    (line,) = [line for line in said.splitlines() if "training state  " in line]
    weights = {name for (name,) in read_model(source).names.values()}
    others = read_file(source).tensors.keys() - weights
    for part in {f"{n.partition('.')[0]}.* x129" if "." in n else n for n in others}:
        assert part in line
    assert line.endswith("(left behind; --training-state moves it too)")
    assert "averaged weights  129 (not taken: give --weights ema)\n" in said
    assert read_file(tmp_path / "a.ckpt").tensors.keys() == weights


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.model.", "backbone."])
@pytest.mark.parametrize("container", ["", "state_dict", "model", "net"])
def test_prefixes_and_containers_are_said(prefix: str, container: str, tmp_path: Path) -> None:
    import torch

    weights = random_weights(SMALL["linear"])
    named = {f"{prefix}{name}": torch.from_numpy(array) for name, array in weights.items()}
    torch.save({container: named, "epoch": 3} if container else named, tmp_path / "a.pth")
    said = succeed(tmp_path / "a.pth", tmp_path / "b.onnx")
    assert f"prefix removed  {prefix}\n" in said
    assert ("container  " in said) == bool(container)
    assert not container or f"container  {container}\n" in said
    model = read_model(tmp_path / "b.onnx")
    assert same_bits(model.weights, weights)
    usual = info_of(model.info.config)
    assert (model.info.numerics, model.info.preprocessing) == (usual.numerics, usual.preprocessing)
