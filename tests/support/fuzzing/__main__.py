"""Fuzzing from the command line.

    python -m tests.support.fuzzing --count 100000 [--seed 0] [--format ckpt …] [--replay FILE …]

An input that fails is kept, and its path told.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.fuzzing import fuzz
from tests.support.fuzzing.bundles import BUNDLES
from tests.support.fuzzing.configurations import CONFIGURATIONS, INFO
from tests.support.fuzzing.fuzz import READERS, Failure, limit_memory, replay, run
from tests.support.fuzzing.images import IMAGES
from tests.support.fuzzing.predictions import PREDICTIONS
from tests.support.fuzzing.tars import TARS

PROGRAMS = {
    "bundle": BUNDLES,
    "predict": PREDICTIONS,
    "images": IMAGES,
    "tar": TARS,
    "info": INFO,
    "config": CONFIGURATIONS,
}
"""Kinds of files that are given to whole commands."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs, over all formats")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument(
        "--format", choices=[*READERS, *PROGRAMS], action="append", help="default: all"
    )
    parser.add_argument("--shrink", action="store_true", help="look for the smallest failure")
    parser.add_argument("--verbose", action="store_true", help="tell of what kinds they were")
    parser.add_argument("--seconds", type=float, default=fuzz.SECONDS, help="most for an input")
    parser.add_argument("--replay", type=Path, nargs="+", help="judge these files instead")
    arguments = parser.parse_args()
    fuzz.SECONDS = arguments.seconds
    limit_memory()
    if arguments.replay:
        for path in arguments.replay:
            kinds = [each for each in PROGRAMS.values() if path.name.endswith(each.file)]
            with tempfile.TemporaryDirectory() as folder:
                (kinds[0].replay if kinds else replay)(path, Path(folder))
            print(f"{path}: as it should be")
        return
    endings = arguments.format or [*READERS, *PROGRAMS]
    for ending in endings:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzzing-{ending}-"))
        print(f"{ending}: seed {arguments.seed}, in {folder}", flush=True)
        started = time.perf_counter()
        count = -(-arguments.count // len(endings))
        try:
            if ending in PROGRAMS:
                tally = PROGRAMS[ending].run(count, arguments.seed, folder)
            else:
                tally = run(ending, count, arguments.seed, folder, shrink=arguments.shrink)
        except Failure as failure:
            sys.exit(f"{ending}: {failure}")
        shutil.rmtree(folder)
        print(f"{ending}: {tally}; {time.perf_counter() - started:.0f} s", flush=True)
        if arguments.verbose:
            for counts in (tally.damage, tally.messages, getattr(tally, "refused", Counter())):
                print(*(f"    {n:7} {kind}" for kind, n in counts.most_common()), "", sep="\n")


if __name__ == "__main__":
    main()
