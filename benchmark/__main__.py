"""python -m benchmark COMMAND …: the commands of the benchmark, each with --help.

run CONFIG      validate a study, run it, and say how it ended
check CONFIG    what it would run, what that takes, what is missing and what is cached
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

#: the module whose ``main`` takes the rest of the command line and returns the exit code
COMMANDS = {
    "run": "benchmark.running.run",
    "check": "benchmark.running.check",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for a command that is not known."""
    command, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if command in COMMANDS:
        try:
            return import_module(COMMANDS[command]).main(rest[:-1])
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 1
    asked = command in ("-h", "--help")
    print(__doc__, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
