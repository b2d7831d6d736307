"""Every format, dialect and kind of model, there and back from the command line, to the bit."""

from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from convert import read_model, save_model
from convert.names.dialects import find_dialect
from pvt_spec import PROFILES, ModelInfo, PVTConfig
from tests.support.converting import (
    CONFIGS,
    FILES,
    assert_holds,
    describe,
    dialects_of,
    save,
    succeed,
)
from tests.support.models import GOLDEN, KINDS, SMALL, Weights, random_weights, weights_for
from tests.support.processes import run_python
from tests.support.runtimes import import_mindspore

SOURCES = ("a.ckpt", "a.pth", "a.safetensors", "a.onnx", "a")
"""One of each format; without an ending, a folder."""


def targets(config: PVTConfig) -> list[tuple[str, str]]:
    """The endings and dialects that a model can be written in."""
    named = [(f".{kind}", d.name) for kind, d in product(FILES, dialects_of(config))]
    return [*named, (".onnx", "official"), *([("", "hf")] if has_folder(config) else [])]


def has_folder(config: PVTConfig) -> bool:
    """Whether transformers has such a model."""
    return config.version == 2 or not config.features_only


def profile_of(dialect: str, version: int) -> str:
    """The maths behind a dialect; of our own, others than its default."""
    table = find_dialect(dialect, version)
    return "mindcv" if table.name == "pvt_ms" else table.profile


def command_for(source: Path, target: Path) -> tuple[str, ...]:
    """``A-to-B``; nothing within one format, for which there is only ``convert SRC DST``."""
    kinds = [path.suffix.removeprefix(".") or "safetensors" for path in (source, target)]
    return () if kinds[0] == kinds[1] else ("{}-to-{}".format(*kinds),)


def contents(path: Path) -> list[bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.read_bytes() for file in files]


def save_sources(folder: Path, weights: Weights, info: ModelInfo) -> list[Path]:
    """One file of each format that takes the maths, in the dialect that is its own."""
    folder.mkdir()
    paths = [folder / name for name in SOURCES]
    if not has_folder(info.config) or info.profile != "hf":
        paths.pop()
    for path in paths:
        save_model(path, weights, info)
    return paths


@pytest.mark.sampled
@pytest.mark.parametrize("name", CONFIGS)
def test_every_pair_keeps_every_bit(name: str, tmp_path: Path) -> None:
    """From each format to each format and dialect; from there to the first, byte for byte."""
    config = CONFIGS[name]
    for profile in PROFILES:
        info = describe(config, profile)
        weights = weights_for(info.config, info.numerics)
        paths = save_sources(tmp_path / profile, weights, info)
        named = [each for each in targets(config) if profile_of(each[1], config.version) == profile]
        for number, (ending, dialect) in enumerate(named):
            asked = () if ending in ("", ".onnx") else ("--to-dialect", dialect)
            for index, source in enumerate(paths):
                case = f"{source.name} to {ending or 'a folder'} in {dialect}"
                target = tmp_path / profile / f"{index} {dialect}{ending}"
                said = succeed(*command_for(source, target), source, target, *asked)
                assert f"names  {dialect}\n" in said, case
                assert_holds(target, weights, info, case, dialect)
                if (number - index) % len(paths) == 0:
                    back = target.with_name(f"{number} back{source.suffix}")
                    succeed(target, back)
                    assert contents(back) == contents(source), f"{case} and back"


@pytest.mark.long
def test_dtypes_stay_as_they_are_in_every_format(tmp_path: Path) -> None:
    """float16 position embeddings, a bfloat16 layer, and the rest float32."""
    for name, config in KINDS.items():
        info = describe(config, "mindcv")
        weights = weights_for(info.config, info.numerics)
        for number, layer in enumerate(("block1.0.attn.q", "block1.0.attn.kv", "block2.0.norm1")):
            dtype = (ml_dtypes.bfloat16, ml_dtypes.bfloat16, np.float16)[number]
            for part in (f"{layer}.weight", f"{layer}.bias"):
                weights[part] = weights[part].astype(dtype)
        folder = tmp_path / name
        folder.mkdir()
        first = folder / "0.ckpt"
        save_model(first, weights, info)
        for number, ending in enumerate((".pth", ".safetensors", ".onnx", ".pth", ".ckpt")):
            source, target = first, folder / f"{number + 1}{ending}"
            succeed(source, target)
            assert_holds(target, weights, info, f"{name} in {target.name}")
            first = target
        assert first.read_bytes() == (folder / "0.ckpt").read_bytes(), name


def test_any_bits_of_a_weight_stay_as_they_are(tmp_path: Path) -> None:
    """The sign of zero, the smallest numbers, infinities, and what NaN says."""
    config, rng = SMALL["v2"], np.random.default_rng(0)
    for ending, dialect in targets(config):
        info = describe(config, profile_of(dialect, 2))
        weights = random_weights(info.config)
        for name in ("block3.0.attn.kv.weight", "block1.0.attn.sr.weight", "norm1.weight"):
            bits = rng.integers(0, 2**32, weights[name].shape, np.uint32)
            bits.flat[:5] = 0x80000000, 0x00000001, 0x7F812345, 0xFFC12345, 0xFF800000
            weights[name] = bits.view(np.float32)
        target = tmp_path / f"{dialect}{ending}"
        source = target.with_name(f"to {target.name}.ckpt")
        save_model(source, weights, info)
        asked = () if ending in ("", ".onnx") else ("--to-dialect", dialect)
        succeed(source, target, *asked, "--allow-nonfinite")
        assert_holds(target, weights, info, target.name)


# --- MindSpore's own loader


@pytest.mark.parametrize("dialect", ["pvt_ms", "mindcv"])
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_mindspore_loads_its_dialects(
    ending: str, dialect: str, small_or_maps: PVTConfig, tmp_path: Path
) -> None:
    import_mindspore()
    from mindspore import load_checkpoint

    source = save(tmp_path / "a.onnx", small_or_maps, "mindcv")
    target = tmp_path / f"a{ending}"
    succeed(source, target, "--to-dialect", dialect)
    loaded = load_checkpoint(str(target), format=ending.removeprefix("."))
    model = read_model(target)
    theirs = {name: loaded[name].asnumpy() for (name,) in model.names.values()}
    assert loaded.keys() - theirs.keys() <= {"pvt_model_info"}
    for name, array in model.weights.items():
        found = theirs[model.names[name][0]]
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert found.tobytes() == array.tobytes(), name


# --- without frameworks

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "mindspore", "transformers", "safetensors"}:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Block())
from convert.command_line import main

for line in sys.stdin.read().splitlines():
    code = main(line.split(), standalone_mode=False)
    assert not code, f"{line}: {code}"
"""


@pytest.mark.long
def test_nothing_imports_a_framework(tmp_path: Path) -> None:
    """Over all pairs of formats, with other maths, changes, reports and inspect."""
    lines = []
    for source, target in product(SOURCES, SOURCES):
        if not (tmp_path / source).exists():
            save(tmp_path / source, SMALL["v1"], "hf")
        made = f"from-{source.replace('.', '-')}-{target}"
        lines.append(f"{source} {made} --report {made}.json")
        lines.append(f"inspect {source} --diff {made}")
        lines.append(f"inspect {made} --json")
    changes = "--image-size 96 --dtype bfloat16 --num-classes 0 --allow-different-maths"
    lines.append(f"a.onnx b.ckpt --to-dialect mindcv {changes}")
    lines.append("a.ckpt b.onnx --features --external-data")
    for case in ("official_v1_small/training_checkpoint.pth", "mmdet_v2_small/weights.pth"):
        lines.append(f"{GOLDEN / case} {Path(case).parent}.onnx")
    run_python("-c", BLOCKED, input="\n".join(lines), cwd=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == len(SOURCES) ** 2
