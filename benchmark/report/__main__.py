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
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmark.report.reading import ReportError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command, rest = (argv[0], argv[1:]) if argv and argv[0] in COMMANDS else ("", argv)
    try:
        return COMMANDS[command](rest) if command else _report(rest)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _module(name: str) -> Callable[[Sequence[str]], int]:
    """The ``main`` of a module of this package, imported when it is called."""

    def run(argv: Sequence[str]) -> int:
        return import_module(f"benchmark.report.{name}").main(argv)

    return run


def _site(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report site", description="Pages made of a folder of results."
    )
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"))
    parser.add_argument("--out", required=True, type=Path, help="directory to write into")
    arguments = parser.parse_args(argv)
    import_module("benchmark.report.site").build(arguments.results, arguments.out)
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parquet", nargs="+", type=Path, help="benchopt result files")
    parser.add_argument("--out", required=True, type=Path, help="directory to write into")
    parser.add_argument(
        "--memory-curve",
        type=Path,
        metavar="CSV",
        help="memory sampled over a training run: method, seconds, mib",
    )
    parser.add_argument(
        "--width",
        choices=("one", "two"),
        default="two",
        help="columns of a page that a figure is as wide as (default: two)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="KIND",
        help="figures of these kinds alone: accuracy, time, scaling, …",
    )
    arguments = parser.parse_args(argv)
    import_module("benchmark.report.build").report(
        arguments.parquet,
        out=arguments.out,
        memory_curve=arguments.memory_curve,
        columns=arguments.width,
        only=arguments.only,
    )
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "claims": _module("claims"),
    "merge": _module("merge"),
    "check": _module("check"),
    "site": _site,
    "numbers": _module("readme"),
}


if __name__ == "__main__":
    sys.exit(main())
