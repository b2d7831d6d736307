"""How much stays in float: as little as holds, in a bounded number of rounds."""

import pytest

from pvt_onnx.quantize.keeping import Attempt, keep_enough, shortfall
from pvt_onnx.quantize.measuring.agreement import Agreement, Share
from pvt_onnx.quantize.options import QuantizeOptions
from pvt_spec import ConfigError

ORDER = [f"block{i}" for i in range(20)]


def _search(needed: int, rounds: int = 10) -> tuple[Attempt, int]:
    """The search where answers agree once so many of the dearest modules are in float."""
    tried = []

    def attempt(kept: list[str]) -> Attempt:  # type: ignore[misc]
        assert kept == ORDER[: len(kept)]
        tried.append(len(kept))
        same = 100 if len(kept) >= needed else 90
        return Attempt(tuple(kept), None, Agreement(Share(same, 100), None, None, 0.01))  # type: ignore[arg-type]

    options = QuantizeOptions(min_agreement=0.99, rounds=rounds)
    best = keep_enough(attempt([]), ORDER, attempt, options)  # type: ignore[arg-type]
    return best, len(tried) - 1


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 7, 8, 11, 19])
def test_as_few_modules_as_hold_are_left_in_float(needed: int) -> None:
    best, rounds = _search(needed)
    assert len(best.kept) == needed
    assert rounds <= 9


def test_rounds_are_bounded_and_what_holds_is_taken() -> None:
    best, rounds = _search(5, rounds=4)
    assert rounds == 4 and len(best.kept) == 8


@pytest.mark.parametrize(("needed", "rounds"), [(20, 10), (19, 3)])
def test_what_cannot_be_kept_is_what_comes_back(needed: int, rounds: int) -> None:
    best, _ = _search(needed, rounds)
    options = QuantizeOptions(min_agreement=0.99)
    assert "90.00 %" in shortfall(best.agreement, options)
    assert len(best.kept) < 20  # or nothing would be quantised


def test_a_drop_is_of_the_accuracy() -> None:
    found = Agreement(Share(99, 100), Share(90, 100), Share(88, 100), 0.0)
    assert found.drop == pytest.approx(2)
    assert not shortfall(found, QuantizeOptions(max_drop=2.01))
    assert "2.00 points" in shortfall(found, QuantizeOptions(max_drop=1.9))
    assert not shortfall(None, QuantizeOptions(max_drop=0.0))


@pytest.mark.parametrize(
    "options",
    [
        QuantizeOptions(smooth=1.5),
        QuantizeOptions(min_agreement=99.0),
        QuantizeOptions(max_drop=-1.0),
        QuantizeOptions(method="dynamic", smooth=0.5),
        QuantizeOptions(method="dynamic", activations="uint16"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: QuantizeOptions) -> None:
    with pytest.raises(ConfigError):
        options.check(labelled=True)


def test_a_drop_needs_labels() -> None:
    with pytest.raises(ConfigError, match="--data-dir"):
        QuantizeOptions(max_drop=0.2).check(labelled=False)
