"""How much is left in float, until a model keeps what it has to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from pvt_onnx.quantize.measuring.agreement import Agreement
from pvt_onnx.quantize.options import QuantizeOptions


@dataclass(frozen=True)
class Attempt:
    """A model of which some modules were left in float, and what it keeps.

    Attributes:
        kept: The modules, the dearest first.
        model: The model.
        agreement: What it keeps; None where nothing tells.
    """

    kept: tuple[str, ...]
    model: onnx.ModelProto
    agreement: Agreement | None


def shortfall(agreement: Agreement | None, options: QuantizeOptions) -> str:
    """Returns what a model does not keep of what it has to, in words; "" where it does."""
    problems = []
    if not agreement:
        return ""
    same = agreement.classes
    if options.min_agreement is not None and same and same.value < options.min_agreement:
        problems.append(f"agreement {same}, expected {100 * options.min_agreement:g} %")
    if options.max_drop is not None and agreement.drop > options.max_drop:
        problems.append(
            f"Top-1 {agreement.top1}, {agreement.drop:.2f} points below the float model's, "
            f"expected {options.max_drop:g} at most"
        )
    return "; ".join(problems)


def keep_enough(
    first: Attempt,
    order: Sequence[str],
    attempt: Callable[[Sequence[str]], Attempt],
    options: QuantizeOptions,
) -> Attempt:
    """Returns a model that keeps what it has to, with few modules in float.

    The dearest 1, 2, 4 … modules are left in float until it holds, then fewer are tried by halves,
    all within :attr:`QuantizeOptions.rounds`.

    Args:
        first: The model with nothing left in float, but what was asked for.
        order: The other modules, the dearest first.
        attempt: The function that leaves some modules in float too, and measures.
        options: What has to be kept.

    Returns:
        The one that holds with the fewest modules in float; where none does, the last one.
    """
    found, rounds = first, options.rounds
    most = len(order) - 1  # with all of them in float it is not quantised
    too_few, enough, count = 0, None, min(1, most)
    while shortfall(found.agreement, options) and too_few < most and rounds:
        found, rounds = attempt(order[:count]), rounds - 1
        if shortfall(found.agreement, options):
            too_few, count = count, min(2 * count, most)
        else:
            enough = count
    best = found
    while enough is not None and enough - too_few > 1 and rounds:
        middle = (too_few + enough) // 2
        found, rounds = attempt(order[:middle]), rounds - 1
        if shortfall(found.agreement, options):
            too_few = middle
        else:
            best, enough = found, middle
    return best
