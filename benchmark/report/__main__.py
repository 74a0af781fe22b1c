"""Command line: benchopt's parquet files in, figures, tables and their provenance out.

    python -m benchmark.report outputs/run.parquet … --out results/ [--memory-curve memory.csv]
                               [--width one|two] [--only KIND …]
    python -m benchmark.report claims PARQUET … [--out FILE.md] [--strict]
    python -m benchmark.report merge A.parquet B.parquet … --out C.parquet
    python -m benchmark.report check [RESULTS]
    python -m benchmark.report site [RESULTS] --out DIR
    python -m benchmark.report numbers README.md [--check]

One line is printed for each thing written, left out or skipped. Exit code 2, with one line on the
standard error, if an input cannot be used. The same inputs give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmark.report.reading import ReportError

FOLDER = {"nargs": "?", "type": Path, "default": Path("results"), "help": "folder of results"}
PARQUET = {"nargs": "+", "type": Path, "help": "benchopt result files"}
OUT = {"required": True, "type": Path}


@dataclass(frozen=True)
class Command:
    """The function of a module of this package, and its arguments as argparse takes them.

    It returns the exit code; None is 0.
    """

    module: str
    function: str
    arguments: Mapping[str, Mapping[str, object]]


COMMANDS = {
    "": Command(
        "build",
        "report",
        {
            "parquet": PARQUET,
            "--out": OUT | {"help": "directory to write into"},
            "--memory-curve": {
                "type": Path,
                "metavar": "CSV",
                "help": "memory sampled over a training run: method, seconds, mib",
            },
            "--width": {
                "choices": ("one", "two"),
                "default": "two",
                "help": "columns of a page that a figure is as wide as (default: two)",
            },
            "--only": {
                "nargs": "+",
                "default": (),
                "metavar": "KIND",
                "help": "figures of these kinds alone: accuracy, time, scaling, …",
            },
        },
    ),
    "claims": Command(
        "claims",
        "report",
        {
            "parquet": PARQUET,
            "--out": {"type": Path, "help": "a .md or .json file to write as well"},
            "--strict": {"action": "store_true", "help": "exit code 1 if a claim fails"},
        },
    ),
    "merge": Command(
        "merge",
        "report",
        {
            "parquet": PARQUET,
            "--out": OUT | {"help": "the .parquet file to write"},
            "--allow-other-sources": {
                "action": "store_true",
                "help": "accept rows made by other sources",
            },
        },
    ),
    "check": Command("check", "report", {"results": FOLDER}),
    "site": Command(
        "site", "build", {"results": FOLDER, "--out": OUT | {"help": "directory to write into"}}
    ),
    "numbers": Command(
        "readme",
        "report",
        {
            "text": {"nargs": "+", "type": Path, "help": "Markdown files with markers"},
            "--check": {"action": "store_true", "help": "write nothing; exit code 1 if stale"},
        },
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    name = given.pop(0) if given and given[0] in COMMANDS else ""
    command = COMMANDS[name]
    module = import_module(f"benchmark.report.{command.module}")
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmark.report {name}".rstrip(),
        description=module.__doc__ if name else __doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument, options in command.arguments.items():
        parser.add_argument(argument, **options)
    try:
        return getattr(module, command.function)(**vars(parser.parse_args(given))) or 0
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
