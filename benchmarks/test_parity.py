"""What judges ``parity run`` in ``benchmarks`` can itself be relied on."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from benchmarks.clean_runs import Job, rows as clean_rows, run_all, run_job
from benchmarks.mutations import (
    MODELS,
    Bench,
    all_faults,
    cases_of,
    figures,
    mistakes,
    real_faults,
    rows,
)
from benchmarks.records import read_records
from benchmarks.trained import derive, recipes, train
from convert import load_model
from pvt_spec import CHOICES, EPSILONS, tensor_specs


@pytest.mark.long
def test_every_fault_of_the_maths_is_caught_and_named():
    name = "v1 at 72x90"
    cases = cases_of(name, ["torch"])
    assert mistakes({name: cases}) == []
    assert all(figures(case)["caught"] for case in cases)
    kinds = {row["fault"].removeprefix("numerics: ") for row in rows({name: cases})}
    assert kinds > {*CHOICES, *EPSILONS, "resize rule: nearest"}


def test_what_changes_no_answer_is_no_fault(tmp_path):
    """v1's convolutions have nothing to pad where strides divide the image."""
    bench = Bench("v1", tmp_path)
    padding, gelu = (
        next(f for f in all_faults(bench.model.info, bench.size) if f.kind == f"numerics: {field}")
        for field in ("conv_padding", "gelu")
    )
    assert bench.float64_begins(padding) is None
    assert bench.float64_begins(gelu) == "block1.0.mlp"


@pytest.mark.long
def test_every_tensor_has_faults_that_change_an_answer(tmp_path):
    """Another place is tried in a key's bias, which a softmax takes out, and behind a dead ReLU."""
    bench = Bench("linear", tmp_path)
    found = {(fault.kind, fault.subject) for fault, tap in real_faults(bench) if tap}
    tensors = {spec.name for spec in tensor_specs(bench.model.info.config)}
    for kind in ("one element +1 %", "two rows swapped"):
        assert {subject for k, subject in found if k == kind} == tensors


def test_faulty_graphs_are_graphs(tmp_path):
    """Every change of an ONNX graph leaves one that ONNX's own checker accepts."""
    from pvt_onnx.engines.runtime import load_graph

    changed = 0
    for name in MODELS:
        folder = tmp_path / name
        folder.mkdir()
        bench = Bench(name, folder)
        for fault in all_faults(bench.model.info, bench.size):
            if fault.graph:
                proto = load_graph(bench.task(bench.model))
                before = proto.SerializeToString()
                fault.graph(proto.graph)
                onnx.checker.check_model(proto, full_check=True)
                changed += proto.SerializeToString() != before
    assert changed >= 3 * 7


def test_a_clean_run_is_no_alarm(tmp_path):
    job = Job("v2", "mindcv", "random", "noise", 3, (72, 90), ("torch", "onnxruntime-basic"))
    records = run_job(job, tmp_path)
    assert [each["runtime"] for each in records] == list(job.runtimes)
    for each in records:
        assert each["alarm"] == "" and 0 < each["worst"] < 1 and each["taps"] > 20
    json.dumps(records)


@pytest.mark.long
def test_trained_models_are_made_and_run_once(tmp_path):
    """What stands in the records is not run again, and a job goes on with what is left of it."""
    recipe = dataclasses.replace(next(recipes()), images=64, epochs=(1,))
    train(recipe, tmp_path)
    path = tmp_path / f"torch-{recipe.name}-e1.safetensors"
    derive(path, "q4")
    (before, _), (after, _) = load_model(path), load_model(tmp_path / f"{path.stem}-q4.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if ".attn.q." in name}
    file = tmp_path / "records.jsonl"
    for runtimes in (("torch",), ("torch",), ("torch", "onnxruntime-basic")):
        job = Job(path.stem, "its own", "trained", "noise", 0, None, runtimes)
        run_all([job], file, tmp_path, 1, 1e9)
        assert [each["runtime"] for each in read_records(file)] == list(runtimes)
    last = clean_rows(read_records(file))[-1]
    assert (last["of"], last["runs"], last["false alarms"]) == ("all", 2, 0)
