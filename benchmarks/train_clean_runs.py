"""``parity train-step`` over twins that are right, to see that it says so.

    python -m benchmarks.train_clean_runs RECORDS [--models DIR] [--seconds 300]
    python -m benchmarks.train_clean_runs RECORDS --table [--json FILE]

Models, recipes and seeds, each trained for some updates by both twins: small models of random
weights, or with ``--models`` those that ``benchmarks.trained`` left in a folder. A *run* is one
twin in one of them; a *false alarm* one that ``parity train-step`` does not call the same. *Worst*
is the largest error in units of what is allowed for its tensor: 1 would be an alarm.

RECORDS has a line of JSON for each run. What is there is not run again, so it may be stopped and
started, or run in pieces of some seconds; ``--table`` sums it up.
"""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path

from benchmarks.models import SMALL
from benchmarks.processes import add_json_option, report
from benchmarks.records import Record, add_record_options, read_records, run_left
from benchmarks.train_mutations import RECIPE, random_model, trial_of
from convert import load_model
from parity.training.report import verdict, worst_of
from parity.training.run import compare_training
from parity.training.twins import TWINS
from pvt_train.recipe.keys import Recipe

RECIPES: dict[str, Recipe] = {
    name: dataclasses.replace(RECIPE, **changes)
    for name, changes in {
        "everything": {},
        "mindcv": {
            "weight_decay_filter": "disable",
            "layer_decay": None,
            "freeze": (),
            "clip_grad": False,
            "ema": False,
            "cutmix": 1.0,
            "gradient_accumulation_steps": 1,
        },
        "demo": {
            "layer_decay": None,
            "freeze": (),
            "clip_value": 5.0,
            "ema_decay": 0.99,
            "mixup": 0.1,
            "gradient_accumulation_steps": 1,
            "loss_scale": 1.0,
        },
        "momentum": {"opt": "momentum", "use_nesterov": True, "lr": 0.05, "loss_scale": 1.0},
        "sgd": {"opt": "sgd", "lr": 0.02, "gradient_accumulation_steps": 3, "mixup": 0.0},
        "lamb": {"opt": "lamb", "eps": 1e-6, "freeze": ("block1.*",)},
        "no warm-up": {"warmup_epochs": 0, "lr": 5e-3, "mixup": 0.0, "label_smoothing": 0.0},
    }.items()
}
"""What is trained with."""


def jobs(models: Path | None) -> Iterator[tuple[str, str, int]]:
    """Yields the model, the recipe's name and the seed of each job.

    Args:
        models: Where trained models are, each for the next recipe; else there are random ones.
    """
    if models is None:
        for seed, name, model in product(range(6), RECIPES, SMALL):
            yield model, name, seed
        return
    files = sorted(
        models.glob("*.safetensors"), key=lambda file: sha256(file.name.encode()).digest()
    )
    for number, file in enumerate(files):
        yield file.stem, [*RECIPES][number % len(RECIPES)], number


def run_job(model: str, name: str, seed: int, models: Path | None = None) -> list[Record]:
    """Returns what ``parity train-step`` finds, one record per twin."""
    recipe = dataclasses.replace(RECIPES[name], seed=seed)
    if models:
        weights, info = load_model(models / f"{model}.safetensors")
    else:
        info, weights = random_model(model, seed)
    trial = trial_of(info, weights, recipe)
    twins = {row.name: row.open(trial.info, recipe, weights) for row in TWINS.values()}
    found = compare_training(trial, twins, lambda done, total: None)
    records = []
    for each in found:
        worst = worst_of(each.figures)
        off = max(abs(a - b) / abs(b) for a, b in zip(each.losses, each.expected, strict=True))
        records.append(
            {
                **{"model": model, "recipe": name, "seed": seed, "twin": each.name},
                "weights": "trained" if models else "random",
                "figures": len(each.figures),
                "worst": worst.times / worst.allowed,
                "times": worst.times,
                "at": worst.name,
                "drift": max(each.drift.values()),
                "loss": off,
                "alarm": "" if each.same else verdict(each),
            }
        )
    return records


def rows(records: Sequence[Record]) -> list[Record]:
    """Returns a row per twin, kind of weights and recipe, and of all."""
    kinds: dict[str, list[Record]] = {}
    for each in records:
        for kind in (*(f"{key} {each[key]}" for key in ("twin", "weights", "recipe")), "all"):
            kinds.setdefault(kind, []).append(each)
    order = sorted(kinds, key=lambda kind: kind == "all")
    return [_row(kind, kinds[kind]) for kind in order]


def _row(kind: str, records: Sequence[Record]) -> Record:
    worst = max(records, key=lambda each: each["worst"])
    return {
        "of": kind,
        "runs": len(records),
        "tensors": sum(each["figures"] for each in records),
        "false alarms": sum(bool(each["alarm"]) for each in records),
        "worst": worst["worst"],
        "× rounding": worst["times"],
        "drift": max(each["drift"] for each in records),
        "loss": max(each["loss"] for each in records),
        "at": f"{worst['model']} {worst['at']}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_record_options(parser)
    parser.add_argument("--models", type=Path, metavar="DIR", help="run trained models")
    add_json_option(parser)
    options = parser.parse_args()
    records = read_records(options.records)
    if options.table:
        report(rows(records), options.json)
        print(*(each["alarm"] for each in records if each["alarm"]), sep="\n")
        return
    done = {(each["model"], each["recipe"], each["seed"]) for each in records}
    left = ((*job, options.models) for job in jobs(options.models) if job not in done)
    run_left(left, options.records, options.seconds, run_job)


if __name__ == "__main__":
    main()
