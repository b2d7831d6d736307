"""Models to convert, conversions as a user gives them, and how their results are compared."""

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert import read_model, save_model
from convert.command_line import main
from convert.names.dialects import DIALECTS, Dialect
from pvt_spec import (
    ModelInfo,
    Numerics,
    Preprocessing,
    PVTConfig,
    make_config,
    output_names,
    profile_numerics,
)
from tests.support.commands import invoke, refusal
from tests.support.models import MAPS, SMALL, Weights, weights_for

CONFIGS = {"pvt_nano": make_config("pvt_nano"), **SMALL, **MAPS}
"""What is converted: a named variant, and one of each kind with a head and without."""

FILES = ("ckpt", "pth", "safetensors")
"""Formats that are written in any dialect."""

Answers = dict[str, np.ndarray]


def dialects_of(config: PVTConfig) -> list[Dialect]:
    """The dialects that name a model's tensors."""
    return [
        dialect
        for dialect in DIALECTS
        if config.version in dialect.versions and config.features_only >= dialect.features_only
    ]


def describe(config: PVTConfig, numerics: Numerics | str) -> ModelInfo:
    """A description in which nothing has a default value."""
    if isinstance(numerics, str):
        numerics = profile_numerics(numerics, config.version)
    config = dataclasses.replace(config, drop_path_rate=0.125)
    prepared = Preprocessing(
        config.image_size,
        0.75,
        (0.5, 0.4, 0.3),
        (0.3, 0.2, 0.1),
        resize="squash",
        interpolation="box",
        crop_mode="center_floor",
        rescale=1 / 128,
        orientation="stored",
    )
    labels = tuple(f"класс {index}" for index in range(config.num_classes))
    return ModelInfo(config, numerics, prepared, labels, {"trained": "by me"}, "multi_label")


def save(path: Path, config: PVTConfig, numerics: Numerics | str, **options: Any) -> Path:
    """A file of random weights, kept as the maths keep them."""
    info = describe(config, numerics)
    save_model(path, weights_for(config, info.numerics), info, **options)
    return path


def save_plain(path: Path, weights: Weights) -> Path:
    """A file that says nothing of itself, as the official code writes it."""
    import torch

    torch.save({name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, path)
    return path


def succeed(*arguments: object) -> str:
    """What a conversion says."""
    done: Any = convert(*arguments)
    assert done.exit_code == 0, f"{arguments}: {done.output} {done.exception!r}"
    assert done.stdout == ""
    return str(done.stderr)


def refused(folder: Path, *arguments: object) -> str:
    """What a conversion says that ends in one error and leaves the folder as it was."""
    before = tree(folder)
    said = refusal(main, *arguments)
    assert tree(folder) == before
    return said


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with the bytes of the files."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def report_of(*arguments: object) -> dict[str, Any]:
    """What a conversion's report holds."""
    path = Path(str(arguments[1])).with_name("report.json")
    succeed(*arguments, "--report", path, "--force")
    return strict_json(path.read_text())


def strict_json(text: str) -> Any:
    """JSON without NaN and infinities, which only some readers take."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def sha256(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_holds(
    path: Path, weights: Weights, info: ModelInfo, case: str = "", dialect: str = ""
) -> None:
    """A file is read as these weights, to the bit and in this order, and this description."""
    model = read_model(path)
    assert model.dialect == (dialect or model.dialect), f"{case}: it is in {model.dialect}"
    assert same_bits(model.weights, weights), f"{case}: the weights differ"
    assert model.info == info, f"{case}: {model.info} is not {info}"


def answer_torch(path: Path, images: np.ndarray) -> Answers:
    """What the PyTorch twin of a file answers."""
    import pvt_torch

    model = read_model(path)
    info = model.info
    twin = pvt_torch.model_from_weights(info.config, info.numerics, model.weights)
    taps = pvt_torch.run_taps(twin, images)
    return {name: taps[name] for name in output_names(info.config)}


def answer_onnx(path: Path, images: np.ndarray) -> Answers:
    """What onnxruntime answers, of an ``.onnx`` file."""
    import onnx

    from pvt_onnx.engines.table import open_engine
    from pvt_onnx.graph.layers import INPUT

    names = [output.name for output in onnx.load(path, load_external_data=False).graph.output]
    found = open_engine(path.read_bytes(), path.name).run({INPUT: images}, names)
    return dict(zip(names, found, strict=True))


def largest_gap(answers: Answers, expected: Answers) -> float:
    """The largest absolute difference of two answers to the same images."""
    assert list(answers) == list(expected)
    return max(float(np.abs(answers[name] - expected[name]).max()) for name in expected)


convert = partial(invoke, main)


def same_bits(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes()
        for n in a
    )
