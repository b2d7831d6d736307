"""What is compiled: a state that it takes up, averages, and batches that are smaller."""

from functools import partial, partialmethod

import numpy as np
import pytest

from tests.support import training
from tests.support.training import assert_same_state, described, recipe, run_steps

COMPILED = {"mode": 0, "compile": True}
"""What has either framework compile the step."""


@pytest.fixture(params=["mindspore", pytest.param("torch", marks=pytest.mark.long)])
def open_twin(request):
    """A function that opens a twin of each framework in turn."""
    return partial(training.open_twin, framework=request.param)


@pytest.fixture
def one_graph(monkeypatch):
    """Has torch make one graph of what it compiles, or fail, and run it without a C++ compiler."""
    import torch

    given = {"fullgraph": True, "backend": "aot_eager"}
    compiled = partialmethod(torch.nn.Module.compile, **given)
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param("v1", {}, marks=pytest.mark.long),
        ("v2", {"amp_level": "O2", "fused_attention": True}),
        pytest.param(
            "linear", {"amp_level": "bf16", "checkpoint_blocks": True}, marks=pytest.mark.long
        ),
    ],
)
def test_torch_makes_one_graph_of_the_step(one_graph, kind, changes):
    info = described(kind)
    plain, compiled = (
        training.open_twin(info, recipe(compile=c, **changes), framework="torch")
        for c in (False, True)
    )
    for one, two in zip(*(run_steps(t, range(2)) for t in (plain, compiled)), strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-3)
        assert two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-2)
    images = np.ones((2, 3, 64, 64), np.float32)
    assert np.allclose(plain.forward(images), compiled.forward(images), rtol=0, atol=1e-2)


@pytest.mark.long
def test_what_is_compiled_takes_up_a_state(open_twin):
    """With the answers of before: nothing that is compiled keeps what was there."""
    info = described("v2")
    how = recipe(**COMPILED, ema=True, amp_level="O2", loss_scale_type="dynamic", loss_scale=8.0)
    twin, images = open_twin(info, how), np.ones((2, 3, 64, 64), np.float32)
    run_steps(twin, range(2))
    between, answer = twin.state(), twin.forward(images)
    with twin.averaged():
        averaged = twin.forward(images)
    results = run_steps(twin, range(2, 5))
    after = twin.state()
    assert not np.array_equal(twin.forward(images), answer)
    twin.load_state(between)
    assert np.array_equal(twin.forward(images), answer)
    with twin.averaged():
        assert np.array_equal(twin.forward(images), averaged)
    assert run_steps(twin, range(2, 5)) == results
    assert_same_state(twin, after)
    peer = open_twin(info, recipe())
    for result, other in zip(results, run_steps(peer, range(5))[2:], strict=True):
        assert result.loss == pytest.approx(other.loss, rel=2e-2)


@pytest.mark.long
def test_what_is_compiled_answers_with_the_average_and_then_again_without(open_twin):
    info, images = described("v1"), np.ones((2, 3, 64, 64), np.float32)
    answers = []
    for how in (COMPILED, {}):
        twin = open_twin(info, recipe(**{**how, "ema": True}))
        found = [twin.forward(images)]
        run_steps(twin, range(2))
        found.append(twin.forward(images))
        with twin.averaged():
            found.append(twin.forward(images))
        found.append(twin.forward(images))
        answers.append(np.array(found))
    compiled, plain = answers
    assert np.allclose(compiled, plain, atol=1e-5)
    assert np.abs(plain[1] - plain[2]).max() > 1e-4
    assert np.array_equal(compiled[1], compiled[3])


def test_a_smaller_last_batch_is_filled_up_and_not_compiled_anew(open_twin):
    twin, sizes = open_twin(described("v2"), recipe(**{"mode": 1, "compile": True})), []
    inner = twin._forward
    twin._forward = lambda images: sizes.append(images.shape[0]) or inner(images)
    for count in (4, 3, 1):
        assert twin.forward(np.zeros((count, 3, 64, 64), np.float32)).shape == (count, 7)
    assert sizes == [4, 4, 4]
