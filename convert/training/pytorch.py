"""What scripts with torch's AdamW leave: ``{"model", "optimizer", "epoch", "scaler", …}``.

An optimizer's state is by the place of each parameter among those of all its groups. The groups are
those of timm's ``create_optimizer``, which the official code calls: what does not decay, then the
rest, each in the order of the model. Sources: torch 2.13 (``optim/optimizer.py``, ``amp``), timm
0.3.2 and 1.0 (``optim``), whai362/PVT (``classification/main.py``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from convert.formats.weight_file import WeightFile
from convert.names.training_state import is_training_state
from convert.training.theirs import BETAS, MOST, Found, dynamic
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.words import show

_MOMENTS = {"exp_avg": "moment1.", "exp_avg_sq": "moment2."}
_FLAGS = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
_SCALERS = ("scaler", "amp_scaler")
_ALONE = "take weights alone with --pretrained"

_EXEMPT: dict[str | None, Callable[[Array], bool]] = {
    "vectors_and_cls_token": lambda array: array.ndim <= 1 or array.shape[:-1] == (1, 1),
    "norm_and_bias": lambda array: array.ndim <= 1,
    None: lambda array: array.ndim <= 1 or array.ndim == 3,
}
"""What does not decay, by the recipe's word for it; a run here has none for the last.

Of a PVT's tensors class token (1, 1, C) and position embeddings (1, N, C) alone have three axes.
"""


def find_in_torch(file: WeightFile, container: str) -> Found | None:
    """Returns what is found of a training with torch's AdamW; None where there is no optimizer.

    Args:
        file: The file.
        container: The keys that lead to the model's dict.

    Raises:
        ConvertError: Its optimizer is another, or is not of the model's tensors.
    """
    optimizer = file.extras.get("optimizer")
    if not isinstance(optimizer, Mapping):
        return None
    groups, states = _groups(optimizer), _states(optimizer)
    held = file.places[container]
    weights = {name: array for name, array in held.items() if not is_training_state(name)}
    names, exempt = _names(groups, weights, states)
    _check_script(file)
    updates = {_number(state.get("step"), "step") for state in states.values()}
    if len(updates) != 1:
        raise ConvertError(
            f"its optimizer has made {', '.join(f'{n:g}' for n in sorted(updates))} updates of "
            f"different tensors, expected as many of each: {_ALONE}"
        )
    moments: dict[str, dict[str, Array]] = {ours: {} for ours in _MOMENTS.values()}
    for place, name in names.items():
        for theirs, ours in _MOMENTS.items():
            if place in states:
                moments[ours][name] = states[place][theirs]
    counts = {"updates": np.array(int(updates.pop()), np.int64)}
    decay = max(_number(group.get("weight_decay"), "weight_decay") for group in groups)
    known: dict[str, Any] = {
        "opt": "adamw",
        "weight_decay": decay,
        "eps": _number(groups[0].get("eps"), "eps"),
    }
    known |= {"weight_decay_filter": exempt} if exempt else {}
    scaler = next((file.extras[key] for key in _SCALERS if file.extras.get(key)), None)
    if isinstance(scaler, Mapping):
        scale, shown = _scaler(scaler)
        counts |= scale
        known |= shown
    left = [key for key in ("lr_scheduler", "args") if key in file.extras]
    said = "torch's AdamW", "epoch, which counts from 0"
    return Found(moments, weights, counts, _epochs(file), known, *said, (*left, "learning rate"))


def _groups(optimizer: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """Returns the groups of an AdamW.

    Raises:
        ConvertError: They are none, or those of another optimizer.
    """
    groups = optimizer.get("param_groups")
    fine = isinstance(groups, list) and groups and all(isinstance(g, Mapping) for g in groups)
    if not isinstance(groups, list) or not fine:
        raise ConvertError("its optimizer has no param_groups, expected an optimizer's state_dict")
    for group in groups:
        betas = group.get("betas")
        plain = isinstance(betas, list | tuple) and {type(beta) for beta in betas} <= {float, int}
        if not plain or tuple(betas) != BETAS:
            raise ConvertError(
                f"its optimizer has betas {show(betas)}, expected an AdamW with {BETAS}: {_ALONE}"
            )
        for flag, usual in _FLAGS.items():
            found = group.get(flag, usual)
            if not isinstance(found, bool | None) or bool(found) != usual:
                raise ConvertError(
                    f"its optimizer has {flag} {show(group[flag])}: no AdamW as here: {_ALONE}"
                )
    return groups


def _states(optimizer: Mapping[Any, Any]) -> dict[int, Mapping[Any, Any]]:
    """Returns what the optimizer keeps of each parameter, by its place.

    Raises:
        ConvertError: It is not what an AdamW keeps.
    """
    states = optimizer.get("state")
    if not isinstance(states, Mapping) or not states:
        raise ConvertError(f"its optimizer has no state, as before its first update: {_ALONE}")
    for place, state in states.items():
        moments = [state.get(n) for n in _MOMENTS] if isinstance(state, Mapping) else [None]
        if not isinstance(place, int) or not all(isinstance(m, np.ndarray) for m in moments):
            keys = show([*state]) if isinstance(state, Mapping) else show(state)
            raise ConvertError(
                f"its optimizer keeps {keys} of {show(place)}, expected an AdamW's step, exp_avg "
                f"and exp_avg_sq of a parameter by number: {_ALONE}"
            )
    return dict(states)


def _names(
    groups: Sequence[Mapping[Any, Any]],
    weights: Mapping[str, Array],
    states: Mapping[int, Mapping[Any, Any]],
) -> tuple[dict[int, str], str | None]:
    """Returns the name of each parameter by its place, and the recipe's word for what decays not.

    Raises:
        ConvertError: It cannot be told which parameter is which.
    """
    places = [_places(group) for group in groups]
    numbers = [*chain(*places)]
    strangers = states.keys() - set(numbers)
    if strangers or len({*numbers}) < len(numbers):
        wrong = f"keeps a state of {show(min(strangers))}" if strangers else "has a parameter twice"
        raise ConvertError(
            f"its optimizer {wrong}, expected the parameters of its groups, each once: {_ALONE}"
        )
    fitting: dict[tuple[str, ...], str | None] = {}
    for order, word in _orders(groups, weights):
        if len(order) == len(numbers) and all(
            place not in states or states[place]["exp_avg"].shape == weights[name].shape
            for place, name in zip(numbers, order, strict=True)
        ):
            fitting.setdefault(tuple(order), word)
    if len(fitting) != 1:
        sizes = " and ".join(str(len(each)) for each in places[:4])
        raise ConvertError(
            f"its optimizer has groups of {sizes} parameters, the model {len(weights)} tensors: "
            "which is which cannot be told; expected one group of all in the model's order, or "
            f"first what does not decay (vectors, the class token), then the rest: {_ALONE}"
        )
    ((names, word),) = fitting.items()
    return dict(zip(numbers, names, strict=True)), word


def _places(group: Mapping[Any, Any]) -> list[int]:
    places = group.get("params")
    if not isinstance(places, list) or not all(type(place) is int for place in places):
        raise ConvertError("its optimizer's param_groups have no numbers of parameters")
    return places


def _orders(
    groups: Sequence[Mapping[Any, Any]], weights: Mapping[str, Array]
) -> Iterator[tuple[list[str], str | None]]:
    """Yields the orders in which the optimizer may have the model's tensors, with the recipe's
    word for what does not decay."""
    if len(groups) == 1:
        yield [*weights], "disable"
    if len(groups) != 2:
        return
    decays = [_number(group.get("weight_decay"), "weight_decay") > 0 for group in groups]
    for word, exempt in _EXEMPT.items():
        parts: dict[bool, list[str]] = {True: [], False: []}
        for name, array in weights.items():
            parts[not exempt(array)].append(name)
        if decays[0] != decays[1]:
            yield [*parts[decays[0]], *parts[decays[1]]], word


def _number(value: Any, what: str) -> float:
    """Returns a number, or that of an array of one.

    Raises:
        ConvertError: It is none.
    """
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu":
        value = value.reshape(()).item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConvertError(f"its optimizer's {what} is {show(value)}, expected a number")
    if not 0 <= value <= MOST:  # NaN is not, either
        raise ConvertError(f"its optimizer's {what} is {show(value)}, expected 0 to {MOST}")
    return float(value)


def _scaler(scaler: Mapping[Any, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Returns the counters of a GradScaler, and what it shows of the recipe.

    Raises:
        ConvertError: No loss scale here rises and falls so.
    """
    names = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
    scale, factor, back, window, good = (_number(scaler.get(name), name) for name in names)
    if not scale >= 1 or factor * back != 1 or factor <= 1 or window < 1:
        raise ConvertError(
            f"its scaler has scale {scale:g}, growth {factor:g}, backoff {back:g} and interval "
            f"{window:g}, expected a scale from 1 on that rises and falls by one factor: {_ALONE}"
        )
    known = {"loss_scale_type": "dynamic", "loss_scale_factor": factor, "scale_window": int(window)}
    return dynamic(scale, int(good)), known


def _epochs(file: WeightFile) -> int:
    epoch = file.extras.get("epoch")
    if type(epoch) is not int or not 0 <= epoch < 10**6:
        raise ConvertError(
            f"its epoch is {show(epoch)}, expected the number of the one that has ended, from 0: "
            f"{_ALONE}"
        )
    return epoch + 1


def _check_script(file: WeightFile) -> None:
    """Refuses what the script's own arguments say is another optimizer.

    Raises:
        ConvertError: They do.
    """
    arguments = file.extras.get("args")
    opt = arguments.get("opt") if isinstance(arguments, Mapping) else None
    if isinstance(opt, str) and "adamw" not in opt.lower():
        raise ConvertError(f"its script was given --opt {show(opt)}, expected adamw: {_ALONE}")
