"""What runs a graph: what can be asked for, what is refused, and what is said to have run."""

import dataclasses
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convert import load_model
from convert.options import OnnxOptions
from pvt_onnx import EngineOptions, build, load_forward, load_proto
from pvt_onnx.engines.openvino import open_core
from pvt_onnx.engines.session import open_file, open_model
from pvt_onnx.engines.table import ENGINES, open_engine
from pvt_packages import LibraryMissing
from pvt_spec import output_names
from pvt_spec.errors import PvtError, RuntimeUnusable
from tests.support.messages import naming, tells
from tests.support.models import SMALL, assert_same, info_of, random_images, weights_for
from tests.support.processes import ROOT, run_python
from tests.support.quantised import quantise_dynamically
from tests.support.serving.models import save

EACH = [EngineOptions(engine) for engine in ENGINES]


@pytest.fixture(scope="module")
def graph() -> bytes:
    info = info_of(SMALL["v2"], "official")
    weights = weights_for(info.config, info.numerics)
    return build(info.config, info.numerics, weights, info=info).SerializeToString()


@pytest.fixture(scope="module")
def path(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "a.onnx"
    path.write_bytes(graph)
    return path


@pytest.mark.parametrize("options", EACH, ids=ENGINES)
def test_every_engine_answers_the_same_and_says_what_ran(options, path):
    images = random_images(SMALL["v2"], count=3)
    expected = load_forward(path)[0](images)["logits"]
    opened = open_model(path, options=dataclasses.replace(options, threads=1))
    answer = opened.forward(images)["logits"]
    assert np.abs(answer - expected).max() < 1e-5
    facts = opened.facts
    assert facts["framework"].startswith(f"{options.engine} ")
    assert (facts["precision"], facts["threads"]) == ("fp32", "1") and "CPU" in facts["device"]


@pytest.mark.parametrize("options", EACH, ids=ENGINES)
def test_threads_share_an_engine(options, graph):
    engine = open_engine(graph, "a model", dataclasses.replace(options, threads=1))
    several = [images[None] for images in random_images(SMALL["v2"], count=8)]
    names = output_names(SMALL["v2"])

    def run(images: np.ndarray) -> list[Any]:
        return [engine.run({"images": images}, names)[0] for _ in range(5)]

    expected = [engine.run({"images": images}, names)[0] for images in several]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(run, several), expected, strict=True):
            assert all(np.array_equal(each, right) for each in found)


def test_threads_are_what_was_asked_for(graph, monkeypatch):
    asked, session = [], onnxruntime.InferenceSession

    def record(source: Any, options: Any, providers: Any, **more: Any) -> Any:
        asked.append(options.intra_op_num_threads)
        return session(source, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    for threads in (None, 1, 3):
        open_engine(graph, "a model", EngineOptions(threads=threads))
    assert asked == [0, 1, 3]
    monkeypatch.setattr("pvt_onnx.engines.options.usable_cores", lambda: 5)
    for threads, calls in ((None, 5), (2, 2), (3, 1), (9, 1)):
        options = EngineOptions(threads=threads).beside_decoding()
        said = f"{threads or 1}" + (f" for each of {calls} calls" if calls > 1 else "")
        assert options.calls == calls and asked == asked[:3]
        assert open_engine(graph, "a model", options).facts["threads"] == said
        assert asked.pop() == (threads or 1)
    assert EngineOptions(provider="cuda").beside_decoding().calls == 1
    options = EngineOptions("openvino").beside_decoding()
    assert open_engine(graph, "a model", options).facts["threads"] == "1 for each of 5 calls"
    assert (
        open_engine(graph, "a model", EngineOptions("openvino", threads=1)).facts["threads"] == "1"
    )


LIMITED = """
import os, sys
import numpy as np
from pvt_onnx import EngineOptions, load_forward
answers = load_forward(sys.argv[1], options=EngineOptions("openvino"))[0](np.load(sys.argv[2]))
print(os.environ["ONEDNN_MAX_CPU_ISA"], answers["logits"].tolist())
"""


@pytest.mark.parametrize("instructions", ["SSE41", "AVX2"])
def test_openvino_has_the_whole_cpu_whatever_other_frameworks_are_left(
    instructions, path, tmp_path
):
    """MindSpore is left AVX2: where there is AVX-512, OpenVINO ended by SIGSEGV, or answered 0."""
    images = random_images(SMALL["v2"])
    np.save(tmp_path / "images.npy", images)
    ended = run_python(
        *("-c", LIMITED, path, tmp_path / "images.npy"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "ONEDNN_MAX_CPU_ISA": instructions},
    )
    said, _, answer = ended.stdout.partition(" ")
    assert said == instructions
    expected = load_forward(path)[0](images)["logits"]
    assert np.abs(json.loads(answer) - expected).max() < 1e-5


SIGNALLED = """
import os, signal, sys
from pvt_onnx import EngineOptions, load_forward
opened = [load_forward(sys.argv[1], options=EngineOptions("openvino")) for _ in range(2)]
while opened:
    del opened[0]
signal.signal(signal.SIGINT, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_signals_are_handled_when_models_in_openvino_were_closed_in_turn(path):
    """Each core has a stack for signals: the first one's, unmapped, was the process's then."""
    assert run_python("-c", SIGNALLED, path).stdout == "handled\n"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"engine": "onnxrt"}, ["onnxrt", "onnxruntime", "openvino"]),
        ({"provider": "rocm"}, ["rocm", "cpu", "cuda", "cann", "tensorrt"]),
        ({"engine": "openvino", "provider": "cuda"}, ["cuda", "openvino", "cpu"]),
        ({"precision": "bf16"}, ["bf16", "onnxruntime", "cpu", "fp32"]),
        ({"precision": "fp16"}, ["fp16", "fp32", "leave it out"]),
        ({"engine": "openvino", "precision": "int8"}, ["int8", "openvino", "bf16"]),
        ({"threads": 0}, ["threads 0", "1"]),
        ({"threads": -2}, ["threads -2", "1"]),
        ({"calls": 0}, ["calls 0", "1"]),
        ({"optimization": "most"}, ["most", "all", "disabled"]),
        ({"engine": "openvino", "optimization": "basic"}, ["basic", "OpenVINO"]),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(changes, words, graph):
    with pytest.raises(RuntimeUnusable) as refused:
        open_engine(graph, "a model", EngineOptions(**changes))
    assert tells(str(refused.value), *words)


@pytest.mark.parametrize("provider", ["cuda", "cann", "tensorrt"])
def test_a_provider_that_is_not_there_is_refused_with_what_has_it(provider, graph):
    with pytest.raises(RuntimeUnusable) as refused:
        open_engine(graph, "a model", EngineOptions(provider=provider))
    package = {"cann": "onnxruntime-cann"}.get(provider, "onnxruntime-gpu")
    assert tells(str(refused.value), provider, "CPUExecutionProvider", f"pip install {package}")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_the_cpu_has_not_is_refused(precision, graph):
    there = open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = EngineOptions("openvino", precision=precision)
    if precision.upper() in there:
        assert open_engine(graph, "a model", options).facts["precision"] == precision
        return
    with pytest.raises(RuntimeUnusable, match=naming(precision, "FP32", "fp32")):
        open_engine(graph, "a model", options)


@pytest.mark.parametrize("options", EACH, ids=ENGINES)
def test_a_quantised_graph_is_said_to_be_int8(options, graph, tmp_path):
    images = random_images(SMALL["v2"])
    quantised = quantise_dynamically(onnx.load_model_from_string(graph), images)
    onnx.save(quantised, tmp_path / "q.onnx")
    for open_ in (open_model, open_file):  # the second is what serve opens
        engine = open_(tmp_path / "q.onnx", options=options)
        assert getattr(engine, "engine", engine).facts["precision"] == "int8"


def test_an_engine_that_is_not_installed_is_one_line(graph, monkeypatch):
    monkeypatch.setattr("pvt_packages.is_installed", lambda name: name != "openvino")
    with pytest.raises(LibraryMissing, match=naming("pip install 'pvt-twins[openvino]'")):
        open_engine(graph, "a model", EngineOptions("openvino"))


def test_a_path_that_is_no_unicode_is_one_error(graph, tmp_path):
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(RuntimeUnusable) as caught:
            open_engine(tmp_path / os.fsdecode(b"\xff.onnx"), "m", EngineOptions(engine))
        assert tells(caught.value, "m", "Unicode")


@pytest.mark.parametrize("options", EACH, ids=ENGINES)
def test_who_writes_over_weights_changes_no_open_model(options, tmp_path):
    path = save(tmp_path / "m.onnx", onnx=OnnxOptions(external_data=True))
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    model = open_model(path, options=dataclasses.replace(options, threads=1))
    before = model.forward(images)["logits"]
    for data in (bytes(os.path.getsize(f"{path}.data")), b""):
        with open(f"{path}.data", "rb+") as stream:
            stream.write(data)
            stream.truncate(len(data) or 1)
        assert np.array_equal(model.forward(images)["logits"], before)


@pytest.mark.parametrize("inside", ["", "onnx"])
def test_a_pair_in_huggingface_hubs_cache_is_read(inside, tmp_path):
    model = save(tmp_path / "m.onnx", onnx=OnnxOptions(external_data=True))
    weights, _ = load_model(model)
    cache = tmp_path / "models--me--pvt"
    snapshot = cache / "snapshots" / "0123abc" / inside
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for number, name in enumerate(("m.onnx", "m.onnx.data")):
        kept = cache / "blobs" / str(number)
        (tmp_path / name).rename(kept)
        (snapshot / name).symlink_to(os.path.relpath(kept, snapshot))
    path = snapshot / "m.onnx"
    assert_same(load_model(path)[0], weights)
    forward, _ = load_forward(path, print)
    assert np.isfinite(forward(np.zeros((1, 3, 32, 32), np.float32))["logits"]).all()

    (cache / "blobs" / "1").rename(tmp_path / "elsewhere")
    (cache / "blobs" / "1").symlink_to(tmp_path / "elsewhere")
    for opens in (load_model, load_forward, load_proto):
        with pytest.raises(PvtError, match=naming("m.onnx", "m.onnx.data")):
            opens(path)


@pytest.mark.long
def test_opening_takes_as_long_as_a_graph_is():
    took = {}
    for depth in (20, 60):
        sizes = {"embed_dims": (8,) * 4, "num_heads": (1,) * 4, "mlp_ratios": (1,) * 4}
        config = dataclasses.replace(SMALL["v2"], image_size=(32, 32), depths=(depth,) * 4, **sizes)
        info = info_of(config)
        weights = weights_for(config, info.numerics)
        graph = build(config, info.numerics, weights, info=info).SerializeToString()
        began = time.perf_counter()
        open_engine(graph, "a model", EngineOptions(threads=1))
        took[depth] = time.perf_counter() - began
    assert took[60] < 6 * took[20], took  # 9 times where each result is compared with all before
