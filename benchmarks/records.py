"""Records of a benchmark that takes long: a line of JSON per run, so that it may go in pieces."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def add_record_options(parser: argparse.ArgumentParser) -> None:
    """Adds the file of records, and how long to go on."""
    parser.add_argument("records", type=Path, metavar="RECORDS")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--table", action="store_true", help="sum up what was run")


def read_records(file: Path) -> list[Record]:
    """Returns what was run so far."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def add_records(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Adds what was run."""
    with file.open("a") as stream:
        stream.writelines(json.dumps(each) + "\n" for each in records)


def run_left(
    jobs: Iterable[tuple[Any, ...]],
    file: Path,
    seconds: float,
    run: Callable[..., Iterable[Record]],
) -> None:
    """Runs jobs and adds what they return, until so many seconds have gone by."""
    stop = time.monotonic() + seconds
    for job in jobs:
        if time.monotonic() > stop:
            return
        add_records(file, run(*job))
