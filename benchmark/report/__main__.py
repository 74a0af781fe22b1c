"""Command line: benchopt's parquet files in, figures, tables and their provenance out.

    python -m benchmark.report outputs/run.parquet … --out results/
    python -m benchmark.report claims|merge|plain|check|site|numbers|story --help

One line is printed for each thing written, left out or skipped. Exit code 2, with one line on the
standard error, if an input cannot be used. The same inputs give the same bytes.
"""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TextIO

from benchmark.report.reading import ReportError, printable

#: the commands that have a module of their name; its ``report`` takes the arguments and returns the
#: exit code or None
COMMANDS = ("claims", "merge", "plain", "check", "site", "numbers", "story")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    command = given.pop(0) if given and given[0] in COMMANDS else ""
    module = import_module(f"benchmark.report.{command or 'build'}")
    parser = ArgumentParser(
        prog=f"python -m benchmark.report {command}".rstrip(),
        description=module.__doc__ if command else __doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _declare(parser, command)
    arguments = vars(parser.parse_args(given))
    with redirect_stdout(Patient(sys.stdout)):
        try:
            return module.report(**arguments) or 0
        except ReportError as error:
            print(f"error: {error}", file=Patient(sys.stderr))
            return 2


class Patient(io.TextIOBase):
    """Writes lines on, without control characters; goes on where nobody reads them any more, as
    in ``report … | head``.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            self.stream.write(printable(text))
            self.stream.flush()
        except BrokenPipeError:
            # what comes next goes nowhere, and so does what Python flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        return len(text)


def _declare(parser: ArgumentParser, command: str) -> None:
    """Add the arguments of a command."""
    add = parser.add_argument
    if command in ("", "claims", "merge", "plain", "story"):
        add("parquet", nargs="+", type=Path, help="benchopt result files")
    if command in ("check", "site"):
        add("results", nargs="?", type=Path, default=Path("results"), help="folder of results")
    if command in ("", "merge", "plain", "site", "story"):
        add("--out", required=True, type=Path, help="what to write, or the folder to write into")
    if command == "":
        curve = "memory over a training run: method, seconds, mib"
        add("--memory-curve", type=Path, metavar="CSV", help=curve)
        add("--width", choices=("one", "two"), default="two", help="columns wide (default: two)")
        add("--only", nargs="+", default=(), metavar="KIND", help="these figures alone: time, …")
    if command == "claims":
        add("--out", type=Path, help="a .md or .json file to write as well")
        add("--strict", action="store_true", help="exit code 1 if a claim fails")
    if command == "merge":
        add("--allow-other-sources", action="store_true", help="accept rows made by other sources")
        add("--without-pictures", action="store_true", help="leave out what shows test images")
    if command == "story":
        add("--degradation", required=True, help="of each file, the task with it")
    if command == "numbers":
        add("text", nargs="+", type=Path, help="Markdown files with markers")
        add("--check", action="store_true", help="write nothing; exit code 1 if stale")


if __name__ == "__main__":
    sys.exit(main())
