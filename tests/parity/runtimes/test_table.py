"""Every runtime that a CPU has: the same taps, its own objects, and what it says of itself."""

import dataclasses
import importlib
import importlib.metadata
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convert import save_model
from convert.model.read import Model, read_model
from convert.options import OnnxOptions
from parity.errors import ParityError
from parity.measure.structure import attribute_differences
from parity.runtimes import table as runners
from parity.runtimes.table import (
    DEFAULT_RUNTIMES,
    RUNTIMES,
    SWITCHES,
    Runner,
    machine_facts,
    missing_for,
    open_runner,
)
from parity.selection import choose_runtimes
from pvt_onnx.engines.openvino import open_core
from pvt_onnx.engines.options import OPTIMIZATIONS, EngineOptions
from pvt_onnx.engines.table import PROVIDERS, open_engine
from pvt_onnx.engines.tapped import open_taps
from pvt_onnx.reading.files import OnnxFileError
from pvt_packages import LIBRARIES
from pvt_spec import PVTConfig, tap_names
from pvt_spec.arrays import fill_up
from pvt_spec.attributes import expected_attributes
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.hashes import hash_weights
from pvt_spec.precisions import PRECISIONS
from pvt_spec.runtime import Task
from pvt_torch.reference import open_reference
from tests.support.messages import naming, tells
from tests.support.models import KINDS, SMALL, info_of, random_images, weights_for
from tests.support.processes import run_python
from tests.support.results import assert_same, judged
from tests.support.runtimes import run_float64

CPU, CUDA = PROVIDERS["cpu"].own, PROVIDERS["cuda"].own

ELSEWHERE = [n for n in RUNTIMES if "cuda" in n or "hf32" in n or n == "openvino-bf16"]
"""What needs other hardware."""

SLOW = "torch-compile"
"""What takes seconds to compile anything: see the test of its own."""

HERE = [name for name in RUNTIMES if name not in (*ELSEWHERE, SLOW)]

TINY = PVTConfig(
    1,
    embed_dims=(4, 8, 8, 8),
    depths=(1, 1, 1, 1),
    num_heads=(1, 2, 1, 2),
    mlp_ratios=(1, 1, 1, 1),
    sr_ratios=(1, 1, 1, 1),
    image_size=(32, 32),
    num_classes=3,
)

CONFIGS = KINDS | {"tiny": TINY}


def wanted(kind: str) -> list[str]:
    """All taps; of maps some, and not the last."""
    names = tap_names(CONFIGS[kind])
    return ["patch_embed1", "block2.1.attn", "stage2", "block3.0"] if "maps" in kind else names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def saved(folder: Path) -> Callable[..., Path]:
    """Writes a small model once."""

    @cache
    def save(kind: str, ending: str = "pth", dynamic_size: bool = False) -> Path:
        info = info_of(CONFIGS[kind], "official" if kind == "linear" else "mindcv")
        weights = weights_for(info.config, info.numerics)
        path = folder / f"{kind} {'dynamic' if dynamic_size else 'static'}.{ending}"
        save_model(path, weights, info, onnx=OnnxOptions(dynamic_size=dynamic_size))
        return path

    return save


def task_of(path: Path, names: list[str] | None = None, size: Any = None) -> Task:
    model = read_model(path)
    config = model.info.config
    return Task(model, path, names or tap_names(config), size or config.image_size)


def assert_right(runner: Runner, model: Model, images: Any, taps: Any) -> None:
    """The answers of a runtime are within its precision's rounding."""
    assert_same(judged(given(model), images, taps, runner.facts["precision"]))


def given(model: Model) -> Any:
    return model.info.config, model.info.numerics, model.weights


def assert_two_batches_are_right(runner: Runner, model: Model, names: list[str]) -> None:
    """The last one is smaller; the first one's answers are not touched by it."""
    images = random_images(model.info.config, count=3)
    first = dict(runner.taps(images[:2]))
    kept = {name: tap.copy() for name, tap in first.items()}
    last = dict(runner.taps(images[2:]))
    for taps, batch in ((first, images[:2]), (last, images[2:])):
        assert list(taps) == names
        assert {tap.dtype for tap in taps.values()} <= {np.dtype("f4"), np.dtype("f2")}
        assert {len(tap) for tap in taps.values()} == {len(batch)}
        assert_right(runner, model, batch, taps)
    for name, tap in first.items():
        assert np.array_equal(tap, kept[name]), f"{name} of the first batch became another"


# --- the same taps, whatever runs


RUNS = [
    (runtime, kind)
    for runtime in HERE
    # What O2 rounds is the same in every kind; see test_emulation.py.
    for kind in (["v2"] if "o2" in runtime else ["v1", "v2", "linear", "v2 maps"])
]


@pytest.mark.sampled
@pytest.mark.parametrize(("runtime", "kind"), RUNS)
def test_every_runtime_gives_the_taps_of_float64_within_its_rounding(runtime, kind, saved):
    names = wanted(kind)
    task = task_of(saved(kind), names)
    assert_two_batches_are_right(open_runner(runtime, task), task.model, names)


@pytest.mark.parametrize("runtime", HERE)
def test_every_runtime_shows_its_own_weights_and_attributes(runtime, saved):
    task = task_of(saved("v1"), ["logits"])
    runner = open_runner(runtime, task)
    info = task.model.info
    expected = expected_attributes(info.config, info.numerics)
    assert attribute_differences(expected, runner.attributes, runner.kind, info.config) == []
    assert len(runner.attributes) > 40
    assert runner.hashes == hash_weights(task.model.weights)
    assert runner.runtime == runtime


@pytest.mark.parametrize("runtime", HERE)
def test_every_runtime_says_what_ran(runtime, saved, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    runner = open_runner(runtime, task_of(saved("tiny"), ["logits"]))
    package = runtime.split("-")[0] if runtime != "onnx-reference" else "onnx"
    version = importlib.metadata.version(package).split("+")[0]
    assert runner.facts["framework"].startswith(f"{package} {version}")
    assert runner.facts["device"].split()[0] == "CPU"
    assert runner.facts["precision"] in PRECISIONS
    assert (runner.facts["precision"] == "fp32") is ("o2" not in runtime)
    assert runner.facts["platform"] == platform.platform()
    assert runner.facts["NVIDIA_TF32_OVERRIDE"] == "0"
    assert all(isinstance(value, str) for value in runner.facts.values())
    modes = {"mindspore": "pynative", "torch": "eager", "onnxruntime": "optimisation: all"}
    mode = {**modes, "onnxruntime-disabled": "optimisation: disabled", "onnx-reference": "numpy"}
    graph = "graph" if runtime.startswith("mindspore-graph") else runner.facts["mode"]
    assert runner.facts["mode"] == mode.get(runtime, graph)
    if runtime.startswith("onnxruntime"):
        assert runner.facts["provider"] == CPU


def test_switches_that_are_not_set_are_no_facts(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert not set(SWITCHES) & set(machine_facts())
    for name in SWITCHES:
        monkeypatch.setenv(name, f"value of {name}")
    assert {name: machine_facts()[name] for name in SWITCHES} == {
        name: f"value of {name}" for name in SWITCHES
    }


@pytest.mark.long
def test_a_compiled_torch_gives_the_same_taps_and_takes_a_smaller_last_batch(saved):
    names = tap_names(TINY)
    task = task_of(saved("tiny"), names)
    runner = open_runner(SLOW, task)
    assert_two_batches_are_right(runner, task.model, names)
    assert (runner.runtime, runner.kind) == (SLOW, "torch")
    assert runner.facts["mode"] == "compiled by inductor"
    assert runner.hashes == hash_weights(task.model.weights)


def test_batches_are_filled_up_with_their_last_image():
    images = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(fill_up(images, 5), images[[0, 1, 2, 2, 2]])
    assert np.array_equal(fill_up(images, 3), images)
    assert np.array_equal(fill_up(images, 2), images)


# --- the reference


@pytest.mark.parametrize("kind", SMALL)
def test_the_reference_is_float64(kind, saved):
    model, names = read_model(saved(kind)), tap_names(SMALL[kind])
    images = random_images(SMALL[kind], (72, 104))
    found = open_reference(model, names).taps(images)
    exact = run_float64(SMALL[kind], model.info.numerics, model.weights, images)
    assert list(found) == names
    for name in names:
        assert found[name].dtype == np.float64
        assert np.abs(found[name] - exact[name]).max() <= 1e-13 * np.abs(exact[name]).max(), name


class TestQuickDepthwise:
    """Depthwise 3x3 convolutions in float64; every other convolution is torch's own."""

    def convolve(self, quick: bool, x: Any, weight: Any, bias: Any, *given: Any) -> Any:
        import contextlib

        from torch.nn import functional as F

        from pvt_torch.reference import QuickDepthwise

        with QuickDepthwise() if quick else contextlib.nullcontext():
            return F.conv2d(x, weight, bias, *given)

    def draw(self, *shape: int) -> Any:
        import torch

        return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape))

    @pytest.mark.parametrize("channels", [1, 31, 32, 33, 70])
    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 2), (9, 14)])
    def test_is_torchs_answer(self, channels, size):
        x, weight, bias = (
            self.draw(2, channels, *size),
            self.draw(channels, 1, 3, 3),
            self.draw(channels),
        )
        given = (x, weight, bias, (1, 1), (1, 1), (1, 1), channels)
        quick, slow = self.convolve(True, *given), self.convolve(False, *given)
        assert quick.dtype == slow.dtype and quick.shape == slow.shape
        assert float((quick - slow).abs().max()) < 1e-14

    def test_takes_maps_that_are_not_contiguous(self):
        x = self.draw(2, 5, 6, 40).permute(0, 3, 1, 2)
        given = (x, self.draw(40, 1, 3, 3), self.draw(40), (1, 1), (1, 1), (1, 1), 40)
        quick = self.convolve(True, *given)
        assert float((quick - self.convolve(False, *given)).abs().max()) < 1e-14
        assert quick.is_contiguous()

    @pytest.mark.parametrize(
        ("kernel", "inside", "stride", "padding", "dilation", "groups"),
        [
            (3, 1, (2, 2), (1, 1), (1, 1), 4),
            (3, 1, (1, 1), (0, 0), (1, 1), 4),
            (3, 1, (1, 1), (2, 2), (2, 2), 4),
            (3, 1, (1, 1), (1, 1), (2, 2), 4),
            (5, 1, (1, 1), (1, 1), (1, 1), 4),
            (3, 2, (1, 1), (1, 1), (1, 1), 2),
            (3, 4, (1, 1), (1, 1), (1, 1), 1),
        ],
    )
    def test_leaves_others_to_torch(self, kernel, inside, stride, padding, dilation, groups):
        given = (self.draw(2, 4, 9, 9), self.draw(4, inside, kernel, kernel), self.draw(4))
        given = (*given, stride, padding, dilation, groups)
        quick, slow = self.convolve(True, *given), self.convolve(False, *given)
        assert quick.shape == slow.shape and bool((quick == slow).all())

    def test_runs_every_depthwise_convolution_of_the_reference(self, saved, monkeypatch):
        from pvt_torch import reference

        seen, quick = [], reference.depthwise
        monkeypatch.setattr(
            reference, "depthwise", lambda x, *rest: seen.append(x.shape[1]) or quick(x, *rest)
        )
        model = read_model(saved("v2"))
        open_reference(model, ["logits"]).taps(random_images(SMALL["v2"]))
        hidden = zip(
            SMALL["v2"].embed_dims, SMALL["v2"].mlp_ratios, SMALL["v2"].depths, strict=True
        )
        assert seen == [dim * ratio for dim, ratio, depth in hidden for _ in range(depth)]


# --- ONNX files


def test_a_file_of_one_size_is_refused_at_another_with_advice(saved):
    path = saved("v1", "onnx")
    with pytest.raises(RuntimeUnusable) as refused:
        open_runner("onnxruntime", task_of(path, size=(96, 64)))
    message = str(refused.value)
    assert message.startswith(f"{path}: its graph is for images of 64x64, asked for 96x64")
    assert tells(message, "--dynamic-size", "--image-size")


def test_a_file_of_any_size_is_run_at_any(saved):
    path = saved("v1", "onnx", dynamic_size=True)
    names, images = ["embed1", "logits"], random_images(SMALL["v1"], (96, 64))
    task = task_of(path, names, (96, 64))
    for runtime in ("onnxruntime", "onnx-reference"):
        runner = open_runner(runtime, task)
        taps = dict(runner.taps(images))
        assert taps["embed1"].shape == (2, 24 * 16, 8)
        assert_right(runner, task.model, images, taps)


def test_other_files_run_at_the_size_that_is_asked_for(saved):
    names, images = ["embed1", "logits"], random_images(SMALL["v1"], (96, 64))
    task = task_of(saved("v1"), names, (96, 64))
    for runtime in ("torch", "onnxruntime", "mindspore"):
        runner = open_runner(runtime, task)
        assert_right(runner, task.model, images, dict(runner.taps(images)))


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime-disabled", "onnx-reference"])
def test_a_file_is_run_as_it_is_and_not_written_anew(runtime, saved, folder):
    """A graph that was changed after it was written is the one that is judged."""
    model = onnx.load(saved("v2", "onnx"))
    node = next(n for n in model.graph.node if n.name == "block3.0.norm1")
    (epsilon,) = (a for a in node.attribute if a.name == "epsilon")
    epsilon.f = 0.5
    weight = next(t for t in model.graph.initializer if t.name == "head.bias")
    bias = onnx.numpy_helper.to_array(weight) + np.float32(1)
    weight.CopyFrom(onnx.numpy_helper.from_array(bias, "head.bias"))
    path = folder / f"changed {runtime}.onnx"
    onnx.save(model, path)
    task = dataclasses.replace(task_of(saved("v2")), path=path)
    runner = open_runner(runtime, task)
    assert runner.attributes["block3.0.norm1.epsilon"] == np.float32(0.5)
    known = hash_weights(task.model.weights)
    assert [name for name in known if runner.hashes[name] != known[name]] == ["head.bias"]
    images = random_images(SMALL["v2"])
    found = judged(given(task.model), images, dict(runner.taps(images)))
    assert found.first_out_of_bounds == "block3.0.attn"


def test_weights_in_a_file_beside_are_found(saved, folder):
    model = onnx.load(saved("v2", "onnx"))
    path = folder / "outside.onnx"
    options = {"save_as_external_data": True, "location": "outside.bin", "size_threshold": 0}
    onnx.save_model(model, path, **options)
    task = dataclasses.replace(task_of(saved("v2")), path=path)
    runner = open_runner("onnxruntime", task)
    assert runner.hashes == hash_weights(task.model.weights)
    images = random_images(SMALL["v2"])
    assert_right(runner, task.model, images, dict(runner.taps(images)))


# --- onnxruntime: what it may do, and where it runs


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """(level of optimisation, providers, outputs) of every session that is opened."""
    opened, session = [], onnxruntime.InferenceSession

    def record(source: Any, options: Any, providers: Any, **more: Any) -> Any:
        made = session(source, options, providers=providers, **more)
        outputs = [output.name for output in made.get_outputs()]
        opened.append((options.graph_optimization_level, providers, outputs))
        return made

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    return opened


@pytest.mark.parametrize("level", OPTIMIZATIONS)
def test_every_level_of_optimisation_is_asked_for(level, saved, sessions):
    runtime = "onnxruntime" if level == "all" else f"onnxruntime-{level}"
    open_runner(runtime, task_of(saved("tiny")))
    levels = onnxruntime.GraphOptimizationLevel
    wanted = {
        "all": levels.ORT_ENABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "basic": levels.ORT_ENABLE_BASIC,
        "disabled": levels.ORT_DISABLE_ALL,
    }
    assert {(found, *providers) for found, providers, _ in sessions} == {(wanted[level], CPU)}


def test_the_models_own_answer_comes_from_the_model_as_it_is(saved, sessions):
    """More outputs change what is fused; without any other tap there is no second session."""
    open_runner("onnxruntime", task_of(saved("tiny")))
    names = tap_names(TINY)
    assert [outputs for _, _, outputs in sessions] == [["logits"], ["logits", *names[:-1]]]
    sessions.clear()
    runner = open_runner("onnxruntime", task_of(saved("tiny"), ["logits"]))
    assert [outputs for _, _, outputs in sessions] == [["logits"]]
    assert list(runner.taps(random_images(TINY))) == ["logits"]


def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime behaves where CUDA does not start: it goes on without a word."""
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda source, options, providers, **more: session(source, options, [CPU], **more),
    )


@pytest.mark.parametrize("names", [["logits"], ["block1.0", "logits"]], ids=["logits", "taps"])
def test_a_silent_fallback_to_the_cpu_is_an_error(names, saved, monkeypatch):
    only_cpu(monkeypatch)
    path = saved("tiny", "onnx")
    with pytest.raises(RuntimeUnusable) as refused:
        open_runner("onnxruntime-cuda", task_of(path, names))
    message = str(refused.value)
    assert message.startswith(f"{path}: asked onnxruntime for {CUDA}, but it runs on {CPU}")
    assert "onnxruntime-gpu" in message
    with pytest.raises(RuntimeUnusable, match=naming("onnxruntime")):
        open_taps(onnx.load(path), "a.onnx", names, EngineOptions(provider="cuda"))


def test_a_provider_that_does_not_start_says_why(saved, monkeypatch):
    def session(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(RuntimeUnusable, match=naming(CUDA, "no CUDA-capable", "onnxruntime-gpu")):
        open_runner("onnxruntime-cuda", task_of(saved("tiny", "onnx"), ["logits"]))


def test_what_changes_numbers_is_said_to_each_provider_explicitly(saved, monkeypatch):
    asked = []
    names = [row.own for row in PROVIDERS.values()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")

    class Session:
        def __init__(self, source: Any, options: Any, providers: Any, enable_fallback: int):
            assert not enable_fallback
            asked.append(providers)

        def get_providers(self) -> list[str]:
            return [name if isinstance(name, str) else name[0] for name in asked[-1]]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    for provider, precision in (
        *(("cuda", "fp32"), ("cuda", "tf32"), ("cann", "fp32"), ("cann", "fp16")),
        *(("tensorrt", "fp32"), ("tensorrt", "fp16")),
    ):
        options = EngineOptions(provider=provider, precision=precision)
        open_engine(saved("tiny", "onnx"), "a.onnx", options)
    cann, tensorrt = PROVIDERS["cann"].own, PROVIDERS["tensorrt"].own
    assert asked[:2] == [[(CUDA, {"use_tf32": "0"}), CPU], [(CUDA, {"use_tf32": "1"}), CPU]]
    for options, mode in zip(asked[2:4], ("must_keep_origin_dtype", "force_fp16"), strict=True):
        [(name, given), cpu] = options
        assert (name, given["precision_mode"], cpu) == (cann, mode, CPU)
        assert given["op_select_impl_mode"] == "high_precision"
    for options, half in zip(asked[4:], ("0", "1"), strict=True):
        [(name, given), cuda, cpu] = options
        assert (name, cuda, cpu) == (tensorrt, (CUDA, {"use_tf32": "0"}), CPU)
        assert [given[f"trt_{each}_enable"] for each in ("fp16", "bf16", "int8")] == [
            half,
            "0",
            "0",
        ]


def test_tensorrt_computes_float32_only_where_tf32_is_off(saved, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [PROVIDERS["tensorrt"].own, CPU]
    )
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    for precision, value in (("fp32", "0"), ("tf32", "1")):
        options = EngineOptions(provider="tensorrt", precision=precision)
        with pytest.raises(RuntimeUnusable, match=naming(f"NVIDIA_TF32_OVERRIDE={value}")):
            open_engine(saved("tiny", "onnx"), "a.onnx", options)


def test_a_file_that_is_none_is_named():
    with pytest.raises(OnnxFileError, match=naming("no.onnx")):
        open_engine(Path("no.onnx"), "no.onnx")
    with pytest.raises(OnnxFileError, match=naming("onnxruntime")):
        open_engine(b"text", "a model")


# --- what can be run here


def test_runtimes_that_need_other_hardware_say_so(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert tells(str(missing_for("cuda")), "torch", "CUDA")
    message = str(missing_for("onnxruntime-cuda"))
    assert tells(message, CUDA, CPU) and "onnxruntime-gpu" in message
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert missing_for("cuda") is None and missing_for("onnxruntime-cuda") is None


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_framework_that_is_not_installed_is_named(runtime, monkeypatch):
    monkeypatch.setattr(runners, "is_installed", lambda name: False)
    package = {"cuda": "torch", "onnx": "onnx"}.get(runtime.split("-")[0], runtime.split("-")[0])
    install = f"pip install '{LIBRARIES[package]}'"
    message = f"{package} is not installed: {install}"
    if runtime != package:
        message = f"{runtime} needs {package}, which is not installed: {install}"
    assert missing_for(runtime) == message


def test_all_that_is_installed_of_the_usual_ones_runs_by_default(monkeypatch):
    assert choose_runtimes([]) == list(DEFAULT_RUNTIMES)
    gone = {"mindspore"}
    monkeypatch.setattr(runners, "is_installed", lambda name: name not in gone)
    assert choose_runtimes([]) == [n for n in DEFAULT_RUNTIMES if n != "mindspore"]
    gone.add("torch")
    with pytest.raises(ParityError, match=naming("torch")):
        choose_runtimes(["onnxruntime"])


def test_choosing_runtimes_imports_no_framework():
    """The judge's thread imports torch, beside all else, after it has said how its threads wait."""
    code = (
        "import sys; from parity.selection import choose_runtimes; choose_runtimes([]);"
        "print({'torch', 'onnxruntime', 'mindspore'} & {*sys.modules})"
    )
    assert run_python("-c", code).stdout.strip() == "set()"


def test_openvino_never_goes_on_in_another_precision(saved, monkeypatch):
    able = "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    message = missing_for("openvino-bf16")
    assert (message is None) == able and missing_for("openvino") is None
    if not able:
        assert tells(str(message), "openvino-bf16", "bf16", "FP32", "openvino")
        with pytest.raises(RuntimeUnusable, match=naming("bf16", "fp32")):
            open_runner("openvino-bf16", task_of(saved("tiny"), ["logits"]))
    monkeypatch.setattr("pvt_onnx.engines.openvino.OPENVINO_HINTS", {"fp32": "f16"})
    with pytest.raises(RuntimeUnusable, match=naming("f16", "bf16" if able else "f32")):
        open_runner("openvino", task_of(saved("tiny"), ["logits"]))
