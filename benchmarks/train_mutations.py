"""Single faults of one twin's training step, and whether ``parity train-step`` sees them.

    python -m benchmarks.train_mutations RECORDS [--model v1] [--twin torch] [--seconds 300]
    python -m benchmarks.train_mutations RECORDS --table [--json FILE]

Small models of each kind of attention are trained for three updates with a recipe that has
everything, by a twin with each fault of ``benchmarks.train_faults``. Whether one is *caught* is
what ``parity train-step`` answers; *first tensor* is right where it names that at which the fault
begins: the first, in the order in which the step comes to them, that the twin with the fault has
otherwise than the twin without.

RECORDS has a line of JSON for each fault of each twin and model. What is there is not run again;
``--table`` sums it up.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from benchmarks.models import SMALL, random_weights
from benchmarks.processes import add_json_option, report
from benchmarks.records import Record, add_record_options, read_records, run_left
from benchmarks.train_faults import Faulty, Plant, faults
from parity.training.batches import read_batches
from parity.training.figures import ELEMENTWISE, Name, figures_of
from parity.training.run import Trial, TwinFound, compare_training
from parity.training.twins import TWINS
from pvt_spec import ModelInfo, default_preprocessing, profile_numerics
from pvt_train.optim.schedule import learning_rate
from pvt_train.recipe.keys import Recipe

Weights = dict[str, np.ndarray]

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


def random_model(kind: str, seed: int = 0) -> tuple[ModelInfo, Weights]:
    """Returns a small model of random weights."""
    config = SMALL[kind]
    numerics = profile_numerics("official", config.version)
    info = ModelInfo(config, numerics, default_preprocessing(config, "official"))
    return info, random_weights(config, seed=seed)


def trial_of(info: ModelInfo, weights: Weights, recipe: Recipe) -> Trial:
    """Returns what is trained: a model with stochastic depth, on generated images."""
    config = dataclasses.replace(info.config, drop_path_rate=0.3)
    labels = tuple(map(str, range(config.num_classes)))
    info = dataclasses.replace(info, config=config, labels=labels)
    batches, length = read_batches(None, recipe, info, 0, STEPS)
    rates = [learning_rate(step, length, recipe) for step in range(STEPS)]
    state = TWINS["torch"].open(info, recipe, weights).state()
    state["updates"] = np.array(UPDATES, np.int64)
    return Trial(info, recipe, state, batches, rates)


AT_ONCE = 6
"""Faulty twins that are compared together, with one reference for all."""


def faults_of() -> dict[str, Plant]:
    """Returns what plants each fault; nothing is planted by that of no name."""
    rates = [learning_rate(step, 1, RECIPE) for step in range(STEPS + 1)]
    return {"": lambda faulty, recipe: None, **dict(faults(rates))}


def run_faults(model: str, library: str, names: Sequence[str]) -> list[Record]:
    """Returns what ``parity train-step`` finds of one twin of one model with each fault."""
    info, weights = random_model(model)
    trial, plants = trial_of(info, weights, RECIPE), faults_of()
    twins = {}
    for name in dict.fromkeys(["", *names]):
        faulty = Faulty(TWINS[library].open(trial.info, RECIPE, weights), library)
        plants[name](faulty, RECIPE)
        twins[name] = Recorded(faulty, [])
    found = compare_training(trial, twins, lambda done, total: None)
    return [
        {
            **{"model": model, "twin": library, "fault": each.name, "caught": not each.same},
            "begins": begins(twins[""], twins[each.name]),
            "named": named(each),
            "adrift": each.first_adrift,
        }
        for each in found
        if each.name in names
    ]


def named(found: TwinFound) -> tuple[int, str, str] | None:
    """Returns the step, kind and tensor that is first out of bounds."""
    first = found.first_outside
    return first and (first.step, first.kind, first.tensor)


def rows(records: Sequence[Record]) -> list[Record]:
    """Returns a row per fault, and one per twin and of all."""
    real = [each for each in records if each["begins"]]
    kinds: dict[str, list[Record]] = {}
    for each in real:
        for kind in (each["fault"], f"all of {each['twin']}", "all"):
            kinds.setdefault(kind, []).append(each)
    return [
        {
            "fault": kind,
            "cases": len(kinds[kind]),
            "caught": sum(each["caught"] for each in kinds[kind]),
            "first tensor": sum(each["named"] == each["begins"] for each in kinds[kind]),
        }
        for kind in sorted(kinds, key=lambda kind: (kind.startswith("all"), kind == "all"))
    ]


def mistakes(records: Sequence[Record]) -> list[str]:
    """Returns what was not found, or named wrongly, or alarmed without a fault."""
    return [
        f"{each['model']} {each['twin']} {each['fault'] or 'no fault'}: begins at "
        f"{each['begins']}, named {each['named']}, adrift {each['adrift']}"
        for each in records
        if (each["begins"] is not None) != each["caught"] or each["named"] != each["begins"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_record_options(parser)
    parser.add_argument("--model", choices=[*SMALL], action="append")
    parser.add_argument("--twin", choices=[*TWINS], action="append")
    add_json_option(parser)
    options = parser.parse_args()
    records = read_records(options.records)
    if options.table:
        report(rows(records), options.json)
        print(*mistakes(records), sep="\n")
        return
    done = {(each["model"], each["twin"], each["fault"]) for each in records}
    names = [*faults_of()]
    jobs = []
    for model, twin in product(options.model or SMALL, options.twin or TWINS):
        left = [name for name in names if (model, twin, name) not in done]
        jobs += [(model, twin, left[i : i + AT_ONCE]) for i in range(0, len(left), AT_ONCE)]
    run_left(jobs, options.records, options.seconds, run_faults)


if __name__ == "__main__":
    main()
