"""Single faults of one twin's training step, and whether ``parity train-step`` sees them.

    python -m benchmarks.train_mutations [--model v1] [--twin torch] [--json FILE]

Small models of each kind of attention are trained for three updates with a recipe that has
everything, by a twin with each fault of ``benchmarks.train_faults``. Whether one is *caught* is
what ``parity train-step`` answers; *first tensor* is right where it names that at which the fault
begins: the first, in the order in which the step comes to them, that the twin with the fault has
otherwise than the twin without.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.models import SMALL, random_weights
from benchmarks.processes import add_json_option, report
from benchmarks.train_faults import Faulty, faults
from parity.training.batches import read_batches
from parity.training.figures import ELEMENTWISE, Name, figures_of
from parity.training.run import Trial, TwinFound, compare_training
from parity.training.twins import TWINS
from pvt_spec import ModelInfo, default_preprocessing, profile_numerics
from pvt_train.optim.schedule import learning_rate
from pvt_train.recipe.keys import Recipe

STEPS = 3
RECIPE = Recipe(
    "pvt_nano",
    mode=1,
    batch_size=4,
    gradient_accumulation_steps=2,
    epoch_size=20,
    warmup_epochs=2,
    lr=1e-3,
    weight_decay_filter="vectors_and_cls_token",
    layer_decay=0.8,
    freeze=("patch_embed1.*",),
    clip_grad=True,
    clip_value=0.3,
    ema=True,
    cutmix=0.0,
    loss_scale=1024.0,
)
"""A recipe in which everything is at work."""

BEGINS, BEGINS_OF_ONE = 1e-4, 1e-6
"""The share of a tensor's size, of weights the size of their update, that a fault moves it by where
it begins, and of one number, as the loss: rounding moves it by less."""

UPDATES = 500
"""Updates that count as made: of the first ones an average keeps next to nothing."""


@dataclass
class Recorded:
    """A twin whose steps are kept.

    Attributes:
        twin: The twin.
        steps: What is judged of each step, and where its weights and averages began.
    """

    twin: Any
    steps: list[tuple[dict[Name, np.ndarray], dict[Name, np.ndarray]]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.twin, name)

    def watched_step(self, batches: Any, rate: float) -> Any:
        before = self.twin.state()
        result, gradients = self.twin.watched_step(batches, rate)
        info = self.twin._info
        begun = figures_of(info, result, gradients, before)
        self.steps.append((figures_of(info, result, gradients, self.twin.state()), begun))
        return result, gradients


def begins(right: Recorded, wrong: Recorded) -> tuple[int, str, str] | None:
    """Returns the first tensor that differs: step, kind and name."""
    pairs = zip(right.steps, wrong.steps, strict=True)
    for step, ((expected, begun), (actual, _)) in enumerate(pairs, 1):
        for name, array in expected.items():
            if name[1].endswith("(keys)"):
                continue
            size = array - begun[name] if name[0] in ELEMENTWISE else array
            off = np.abs(actual[name] - array).max(initial=0)
            share = BEGINS if name[1] else BEGINS_OF_ONE
            if not off <= share * np.abs(size).max(initial=0):
                return (step, *name)
    return None


def trial_of(kind: str, recipe: Recipe, seed: int = 0, steps: int = STEPS) -> tuple[Trial, Any]:
    """Returns a trial of a small model, and its weights."""
    config = dataclasses.replace(SMALL[kind], drop_path_rate=0.3)
    numerics = profile_numerics("official", config.version)
    info = ModelInfo(config, numerics, default_preprocessing(config, "official"))
    info = dataclasses.replace(info, labels=tuple(map(str, range(config.num_classes))))
    weights = random_weights(config, seed=seed)
    batches, length = read_batches(None, recipe, info, 0, steps)
    rates = [learning_rate(step, length, recipe) for step in range(steps)]
    state = TWINS["torch"].open(info, recipe, weights).state()
    state["updates"] = np.array(UPDATES, np.int64)
    return Trial(info, recipe, state, batches, rates), weights


@dataclass
class Case:
    """A fault in a twin.

    Attributes:
        fault: What is wrong.
        model: The kind of model.
        library: The twin's framework.
        begins: Where the fault begins; None where it changes nothing.
        found: What ``parity train-step`` found.
    """

    fault: str
    model: str
    library: str
    begins: tuple[int, str, str] | None
    found: TwinFound

    @property
    def named(self) -> tuple[int, str, str] | None:
        """The first tensor that is out of bounds."""
        first = self.found.first_outside
        return first and (first.step, first.kind, first.tensor)


def cases_of(model: str, library: str, only: str = "") -> list[Case]:
    """Returns every fault in one twin of one model; None of them is the twin without."""
    trial, weights = trial_of(model, RECIPE)
    rates = [*trial.rates, learning_rate(len(trial.rates), 1, RECIPE)]

    def opened() -> Faulty:
        return Faulty(TWINS[library].open(trial.info, RECIPE, weights), library)

    twins = {"": Recorded(opened(), [])}
    for fault, plant in faults(rates):
        if only in fault:
            faulty = opened()
            plant(faulty, RECIPE)
            twins[fault] = Recorded(faulty, [])
    found = compare_training(trial, twins, lambda done, total: None)
    return [
        Case(each.name, model, library, begins(twins[""], twins[each.name]), each) for each in found
    ]


def rows(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Returns a row per fault, and one of all."""
    real = [case for case in cases if case.begins]
    kinds = dict.fromkeys(case.fault for case in real)
    groups = {kind: [case for case in real if case.fault == kind] for kind in kinds}
    return [
        {
            "fault": kind,
            "cases": len(group),
            "caught": sum(not case.found.same for case in group),
            "first tensor": sum(case.named == case.begins for case in group),
        }
        for kind, group in [*groups.items(), ("all", real)]
    ]


def mistakes(cases: Sequence[Case]) -> list[str]:
    """Returns what was not found, or named wrongly, or alarmed without a fault."""
    return [
        f"{case.model} {case.library} {case.fault or 'no fault'}: begins at {case.begins}, "
        f"named {case.named}, adrift {case.found.first_adrift}"
        for case in cases
        if (case.begins is None) != case.found.same or case.named != case.begins
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*SMALL], action="append")
    parser.add_argument("--twin", choices=[*TWINS], action="append")
    parser.add_argument("--only", default="", help="faults with this in their name")
    add_json_option(parser)
    options = parser.parse_args()
    cases = [
        case
        for model in options.model or SMALL
        for library in options.twin or TWINS
        for case in cases_of(model, library, options.only)
    ]
    report(rows(cases), options.json)
    print(*mistakes(cases), sep="\n")


if __name__ == "__main__":
    main()
