"""Injects faults, one after another, and says of each whether it ended as promised.

    python tools/faults.py --out results/faults.md [--only TEXT]

Exit code 1 where one did not. Faults that cannot hurt each other share this process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from time import perf_counter

from fault import Fault

HERE = Path(__file__).parent


def known() -> list[Fault]:
    """Those of all files ``faults_of_*.py`` beside this one."""
    files = sorted(HERE.glob("faults_of_*.py"))
    return [fault for file in files for fault in import_module(file.stem).FAULTS]


def found(fault: Fault) -> str:
    """What is otherwise than promised, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return fault.tried(Path(folder))
        except Exception as error:
            traceback.print_exc(limit=-3)
            return f"{type(error).__name__}: {error}"


def table(faults: Sequence[Fault], results: Sequence[str]) -> str:
    """A table for each kind, in Markdown."""
    good = sum(result == "" for result in results)
    lines = [
        "# Faults that were injected, and how they ended",
        "",
        f"{good} of {len(faults)} ended as promised (`make faults`).",
    ]
    for kind in dict.fromkeys(fault.kind for fault in faults):
        lines += [
            "",
            f"## {kind}",
            "",
            "| fault | how | promised | as promised |",
            "|" + "---|" * 4,
        ]
        for fault, result in zip(faults, results, strict=True):
            if fault.kind == kind:
                cells = (fault.name, f"`{fault.how}`", fault.promised, result or "yes")
                lines.append(f"| {' | '.join(c.replace('|', '∣') for c in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the table, in Markdown")
    parser.add_argument("--only", default="", help="those with this text in their name or kind")
    options = parser.parse_args()
    faults = [f for f in known() if options.only in f"{f.kind}: {f.name}"]
    results = []
    for fault in faults:
        start = perf_counter()
        results.append(found(fault))
        verdict = results[-1] or "as promised"
        print(f"{fault.kind}: {fault.name}: {verdict} ({perf_counter() - start:.1f} s)", flush=True)
    if options.out:
        options.out.write_text(table(faults, results))
    return int(any(results))


if __name__ == "__main__":
    sys.exit(main())
