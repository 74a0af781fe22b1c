"""The command line, ``python -m benchmark COMMAND``: one entry for all that is not benchopt's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

PROGRAM = "python -m benchmark"

#: command → module whose ``main`` takes the arguments and returns the exit code, and what it does
COMMANDS = {
    "run": ("benchmark.running.run", "validate a study, run it, say how it ended"),
    "check": (
        "benchmark.running.check",
        "what a study (CONFIG.yml) would run and take; or which "
        "results (a folder) the code has left behind",
    ),
    "new": ("benchmark.running.new", "write the smallest file of a kind: a method, a metric, …"),
    "rerun": ("benchmark.running.rerun", "make one row again and compare it"),
    "report": ("benchmark.report.__main__", "figures and tables of benchopt's result files"),
    "claims": ("benchmark.report.__main__", "what result files say about the paper's statements"),
    "merge": ("benchmark.report.__main__", "join result files, of several machines too"),
    "site": ("benchmark.report.__main__", "pages made of a folder of results"),
    "numbers": ("benchmark.report.__main__", "write computed numbers into marked Markdown"),
    "story": ("benchmark.report.__main__", "one figure of several studies"),
}
_STUDIES = ("benchmark.running.run", "benchmark.running.check")
#: commands of ``benchmark.report`` that are named there by the first argument
NAMED = ("claims", "merge", "site", "numbers", "story")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code, 2 for a command that is not known."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given else "--help"
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command not in COMMANDS:
        print(
            f"unknown command {command!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr
        )
        return 2
    module, rest = COMMANDS[command][0], given if command in NAMED else given[1:]
    if command == "check" and all(Path(argument).is_dir() for argument in rest):
        module, rest = "benchmark.report.__main__", given  # a folder of results, or none: results/
    if module in _STUDIES:
        from benchmark.running.glance import first_look

        # before anything that takes its time is imported
        if faults := first_look(rest):
            print("\n".join(f"error: {fault}" for fault in faults), file=sys.stderr)
            return 2
    try:
        code: int = import_module(module).main(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    return code


def _help() -> str:
    lines = [f"  {name:8} {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND …",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help says more; benchopt run . runs the benchmark.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
