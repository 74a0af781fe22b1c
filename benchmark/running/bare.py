"""What a bare ``benchopt run .`` is about to do: it runs everything, and does not say how much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

#: what chooses among methods, data and parameters
CHOOSING = ("--config", "-s", "--solver", "-d", "--dataset", "-o", "--objective", "-f")


def announced(argv: Sequence[str], benchmark: Path) -> str:
    """What the command line ``argv`` is about to run, where it is ``benchopt run`` and chooses
    nothing; else "".

    Examples
    --------
    >>> announced(["benchopt", "run", ".", "--config", "configs/quick.yml"], Path())
    ''
    """
    words = [word.partition("=")[0] for word in argv]
    chosen = any(word.startswith(CHOOSING) for word in words[2:])
    if words[1:2] != ["run"] or Path(argv[0]).stem != "benchopt" or chosen:
        return ""
    paths = (benchmark / "solvers").glob("[!._]*.py")
    number = sum(not path.name.startswith("template_") for path in paths)
    return (
        f"Nothing is chosen: all {number} methods of solvers/ each at its defaults, on two small "
        "tasks, about eight minutes on one core; other datasets need a source. In a minute: "
        "--config example_config.yml; the methods of the paper: --config configs/quick.yml."
    )
