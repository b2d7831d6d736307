"""How long ``convert --help`` takes, as a whole process.

    python -m benchmarks.help_time --repeat 15

Target: under 0.3 s.
"""

import argparse

from benchmarks.processes import add_json_option, medians, python, report, run_in_turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=15)
    add_json_option(parser)
    options = parser.parse_args()
    commands = {
        "convert --help": python("-m", "convert", "--help"),
        'python -c "import click"': python("-c", "import click"),
        "python -c pass": python("-c", "pass"),
    }
    run_in_turn(commands, 1)  # compiles modules that were never imported before
    usages = run_in_turn(commands, options.repeat)
    nothing = medians(usages["python -c pass"])
    rows = [
        {
            "process": name,
            "runs": len(runs),
            "wall ms": 1e3 * (used := medians(runs)).wall,
            "slowest ms": 1e3 * max(u.wall for u in runs),
            "CPU ms": 1e3 * used.cpu,
            "wall / pass": used.wall / nothing.wall,
        }
        for name, runs in usages.items()
    ]
    report(rows, options.json)


if __name__ == "__main__":
    main()
