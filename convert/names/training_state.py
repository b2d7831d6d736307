"""What a training checkpoint holds beside the weights, told by name.

Only whole names and leading parts count: a suffix would take ``adam_m.head.weight`` for
``head.weight``, as MindSpore's own loader has done. Facts: MindSpore 2.10's optimizers and
MindCV's trainer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import nan

from pvt_spec.arrays import Array

_LEADING = """
    accum accum_update accumulated_grads adam_m adam_v ema exp_avg exp_avg_sq exp_inf
    grad_accumulation lamb_m lamb_v lion_m max_exp_avg_sq mean_grad mean_square moment
    moment1 moment2 moment3 moments nadam_m nadam_v prev_gradient stat vhat
"""
LEADING = tuple(f"{name}." for name in _LEADING.split())
"""Leading parts of per-tensor state: moments, averaged weights, accumulated gradients."""

_WHOLE = """
    beta1_power beta2_power current_iterator_step epoch_num global_step good_steps
    growth_tracker last_overflow_iterator_step learning_rate loss_scale momentum mu_schedule
    scale_sense state_step step_num step_t updates weight_decay
"""
WHOLE = frozenset(_WHOLE.split())
"""Whole names of counters, tables and loss-scale state."""

AVERAGED = "ema."
"""Leading part of averaged weights (MindCV's EMA)."""

OPTIMIZER = "optimizer."
"""What MindCV's gradient accumulation puts before the optimizer's own names."""

ADAM = {"adam_m.": "moment1.", "adam_v.": "moment2."}
"""Leading parts of MindCV's AdamW's moments -> those that our own states have for them."""


def is_training_state(name: str) -> bool:
    """Returns whether a checkpoint's entry is training state, not a weight."""
    name = name.removeprefix(OPTIMIZER)
    return name in WHOLE or name.startswith(LEADING)


def adam_moments(tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Returns the moments of MindCV's AdamW: our leading part -> the weight's name -> moment."""
    found: dict[str, dict[str, Array]] = {}
    for name, array in tensors.items():
        bare = name.removeprefix(OPTIMIZER)
        for theirs, ours in ADAM.items():
            if bare.startswith(theirs):
                found.setdefault(ours, {})[bare.removeprefix(theirs)] = array
    return found


def counters(tensors: Mapping[str, Array]) -> dict[str, float]:
    """Returns the single numbers among the training state, NaN for a complex one, by name."""
    bare = {name.removeprefix(OPTIMIZER): array for name, array in tensors.items()}
    single = {name: a for name, a in bare.items() if name in WHOLE and a.size == 1}
    return {n: nan if a.dtype.kind == "c" else float(a.reshape(())) for n, a in single.items()}


def averaged_name(name: str) -> str | None:
    """Returns the weight that an entry is the average of; None if it is none."""
    name = name.removeprefix(OPTIMIZER)
    return name.removeprefix(AVERAGED) if name.startswith(AVERAGED) else None


def count_leading_parts(names: Iterable[str]) -> dict[str, int]:
    """Names with the tensor's part left out, counted: ``adam_m.*`` 131, ``global_step`` 1."""
    return dict(Counter(f"{n.partition('.')[0]}.*" if "." in n else n for n in names))
