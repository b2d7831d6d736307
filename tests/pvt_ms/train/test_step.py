"""What only MindSpore's training step does: pixels in its graph, and what it compiles."""

import numpy as np
import pytest

from pvt_data.images.pixels import normalise
from tests.support.training import assert_same_state, described, open_twin, recipe, run_steps


def test_pixels_are_normalised_to_the_bit():
    from mindspore import Tensor

    from pvt_ms.train.step import preparation

    info = described("v2")
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = preparation(info.preprocessing)(Tensor(every), Tensor(np.ones(1, np.float32)))
    assert np.array_equal(images.asnumpy()[0], normalise(every[0], info.preprocessing))


class TestCompiled:
    def test_what_is_compiled_takes_up_a_state(self):
        """With the answers of before: nothing that is compiled keeps what was there."""
        info = described("v2")
        how = recipe(mode=0, ema=True, amp_level="O2", loss_scale_type="dynamic", loss_scale=8.0)
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

    def test_what_is_compiled_answers_with_the_average_and_then_again_without(self):
        info, images = described("v1"), np.ones((2, 3, 64, 64), np.float32)
        answers = []
        for mode in (0, 1):
            twin = open_twin(info, recipe(mode=mode, ema=True))
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


def test_a_smaller_last_batch_is_filled_up_and_not_compiled_anew():
    twin, sizes = open_twin(described("v2"), recipe()), []
    inner = twin._forward
    twin._forward = lambda images: sizes.append(images.shape[0]) or inner(images)
    for count in (4, 3, 1):
        assert twin.forward(np.zeros((count, 3, 64, 64), np.float32)).shape == (count, 7)
    assert sizes == [4, 4, 4]
