"""What the kernels of runtimes err by is data, and is part of the unit."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from parity import run as parity
from parity.command_line import main
from parity.inputs.samples import Inputs, default_samples
from parity.measure.compare import Comparison
from parity.measure.envelope import ORDERS
from parity.measure.tolerance import FACTOR
from parity.report.data import to_dict
from parity.report.text import verdict
from parity.selection import read_models
from pvt_spec.kernels import KERNELS, STRICTEST, find_kernels
from pvt_spec.precisions import EMULATIONS, PRECISIONS
from pvt_torch.emulation import ROUNDINGS
from tests.support.messages import tells
from tests.support.models import GOLDEN
from tests.support.results import compared, result_of

TRAINED = GOLDEN / "trained_v1_small.safetensors"
"""``torch-v1-0-e10`` of ``benchmarks.trained``: a model whose attention is not flat."""


def test_emulations_are_named_once_and_coarser_precisions_know_no_kernels() -> None:
    assert set(EMULATIONS) == {*ROUNDINGS, *(row.emulation for row in KERNELS.values())}
    mindspore = find_kernels("mindspore", "CPU")
    for name, precision in PRECISIONS.items():
        assert (precision.emulation(mindspore) == precision.emulation(STRICTEST)) == (
            name != "fp32"
        )
    assert PRECISIONS["fp32"].emulations == ("fp32", mindspore.emulation)
    assert PRECISIONS["int8"].emulations == ("int8",)


def run(path: Path, *runtimes: str) -> list[Comparison]:
    models = read_models([path])
    preprocessing = models[path].info.preprocessing
    inputs = Inputs(default_samples(preprocessing), preprocessing.image_size)
    return parity.run([(path, name) for name in runtimes], models, inputs).comparisons


def largest_ratio(comparison: Comparison) -> float:
    judged = [comparison.judge(name) for name in comparison.names]
    return max(each.times / each.allowed for each in judged)


def test_a_trained_model_is_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MindSpore's own exp in the unit, and of two orders alone, it is one."""
    mindspore, torch, onnxruntime = run(TRAINED, "mindspore", "torch", "onnxruntime")
    for comparison in (mindspore, torch, onnxruntime):
        assert comparison.same and largest_ratio(comparison) < 0.7, comparison.name
    assert torch.envelope is onnxruntime.envelope is not mindspore.envelope
    monkeypatch.setattr("parity.run.find_kernels", lambda kind, device: STRICTEST)
    (steady,) = run(TRAINED, "mindspore")
    assert largest_ratio(steady) > 1.2 * largest_ratio(mindspore)
    monkeypatch.setattr("parity.measure.envelope.MOST_ORDERS", ORDERS)
    (strict,) = run(TRAINED, "mindspore")
    assert not strict.same and str(strict.first_out_of_bounds).endswith(".attn")


def test_kernels_that_nothing_is_known_of_are_judged_by_the_strictest_and_that_is_said() -> None:
    ascend = find_kernels("mindspore", "Ascend")
    assert not ascend.known and ascend.emulation == STRICTEST.emulation == "fp32"
    for times in (1, 2 * FACTOR):  # same, and not
        far = {"block1.0.attn": lambda x, times=times: x * (1 + times * 2.0**-23)}
        found = compared(changes=far, kernels=ascend)
        assert tells(verdict(found), "mindspore on Ascend", "not known", "strictest")
        (told,) = to_dict(result_of(found))["runtimes"]
        assert told["kernels"] == {"of": "mindspore on Ascend", "known": False}
    known = compared(kernels=find_kernels("mindspore", "CPU"))
    assert "not known" not in verdict(known)
    assert "not known" not in verdict(compared(kernels=ascend, precision="hf32-conv"))


def test_logits_alone_are_said_to_show_little(tmp_path: Path) -> None:
    """A bundle of nothing but answers: neither taps nor weights nor attributes."""
    case = GOLDEN / "mindcv_v1_small"
    command = ["check", str(case / "case.npz"), str(case / "weights.ckpt"), "--runtime", "torch"]
    done = CliRunner().invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    ours, bundle = json.loads(done.stdout)["runtimes"]
    assert bundle["answers_alone"] and not ours["answers_alone"]
    assert tells(bundle["verdict"], "same in its logits", "epsilon", "not ruled out")
    assert "ruled out" not in ours["verdict"]
