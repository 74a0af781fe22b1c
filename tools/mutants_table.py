"""What ``tools/mutants.py`` found, as a page."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

#: mutants that no test could notice: file, line before and after, why
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")


class Tried(Protocol):
    """A mutant with its outcome: "failed" (a test did), "time limit" or "survived"."""

    file: str
    line: int
    operator: str
    was: str
    becomes: str
    outcome: str


def table(mutants: Sequence[Tried], *, of: int, seed: int) -> str:
    """The score of each module, the mutants that survive, and those that nothing could notice.

    The score is caught / (tried − equivalent). A mutant listed as equivalent that a test notices is
    no equivalent: it counts as caught, and is printed, since the list is then wrong.
    """
    why = {
        (entry["file"], entry["was"], entry["becomes"]): entry["reason"]
        for entry in equivalent_mutants()
    }
    survived = [m for m in mutants if m.outcome == "survived"]
    equivalent = [m for m in survived if _key(m) in why]
    for m in mutants:
        if m.outcome != "survived" and _key(m) in why:
            print(f"listed as equivalent, but noticed: {m}")
    files = sorted({m.file for m in mutants})
    lines = [
        "# Mutants",
        "",
        f"`make mutants`: of {of} small changes of the code, {len(mutants)} were tried, drawn with",
        f"seed {seed}, on the tests of their module. The score is the share that a test or a time",
        "limit noticed, of those that anything could notice.",
        "",
        "| module | mutants | test failed | time limit | survived | equivalent | score |",
        "|---|---|---|---|---|---|---|",
        *(f"| {f} | {_counts([m for m in mutants if m.file == f], equivalent)} |" for f in files),
        f"| all | {_counts(mutants, equivalent)} |",
        "\n## Survived",
        *(_shown(m) for m in survived if m not in equivalent),
        "\n## Equivalent",
        *(f"{_shown(m)}\n{why[_key(m)]}" for m in equivalent),
    ]
    return "\n".join(lines) + "\n"


def equivalent_mutants() -> list[dict[str, str]]:
    """The entries of the list: file, was, becomes, reason."""
    entries: list[dict[str, str]] = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    return entries


def _key(m: Tried) -> tuple[str, str, str]:
    return m.file, m.was, m.becomes


def _counts(some: Sequence[Tried], equivalent: Sequence[Tried]) -> str:
    n = Counter("equivalent" if m in equivalent else m.outcome for m in some)
    tried = len(some) - n["equivalent"]
    score = f"{100 * (tried - n['survived']) / tried:.0f} %" if tried else "–"
    columns = (n[name] for name in ("failed", "time limit", "survived", "equivalent"))
    return " | ".join([str(len(some)), *map(str, columns), score])


def _shown(m: Tried) -> str:
    name = m.operator.removeprefix("core/")
    return f"\n`{m.file}:{m.line}`, {name}\n\n```diff\n- {m.was}\n+ {m.becomes}\n```"
