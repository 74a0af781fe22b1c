"""Mutation testing: how many small changes of the code do its tests notice?

    python tools/mutants.py --out results/mutants.md

A seeded sample of the mutants that Cosmic Ray makes of the modules in ``COVERED_BY``; of each, the
tests named there are run to the first failure. A mutant costs little more than its tests: it runs
in a fork of a process that has imported all libraries, and replaces its module at import. It is
caught if a test fails or a time limit ends it. Without mutants the same tests must pass.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

from mutants_table import table

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
ROOT = Path(__file__).resolve().parents[1]
#: what is mutated and the tests that are to notice, quick ones first; the first pattern counts
COVERED_BY = {
    "benchmark/solve/fixed_point.py": "fixed_point docstrings",
    "benchmark/solve/secants.py": "secants docstrings",
    "benchmark/solve/krylov.py": "linear docstrings",
    "benchmark/solve/*.py": "linear fixed_point secants docstrings",
    "benchmark/gradients/*.py": "methods more_methods certified",
    "benchmark/report/statistics.py": "statistics",
    "benchmark/report/claims.py": "claims",
}
#: Cosmic Ray's operators that are used: arithmetic by its neighbour, comparisons by their boundary
#: and their negation, conditions, constants, loops, handlers, decorators
OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Mul_Add|FloorDiv_Mul|Pow_Mul"
    r"|Mod_FloorDiv|BitOr_BitAnd|BitAnd_BitOr)|ReplaceUnaryOperator_Delete_.*|AddNot"
    r"|ReplaceComparisonOperator_(Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt"
    r"|Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is)|Replace(True|False|And|Or|Break|Continue)With.*"
    r"|ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop)"
)
#: imported once, before all forks
LIBRARIES = """pytest hypothesis torch numpy scipy.stats pandas pyarrow matplotlib.pyplot seaborn
    great_tables skimage torchvision deepinv torchwavelets benchopt.benchmark"""


@dataclass(frozen=True)
class Mutant:
    """The change that ``operator`` makes at its ``occurrence``-th place in ``file``."""

    file: str
    line: int
    operator: str
    occurrence: int
    was: str = ""
    becomes: str = ""
    outcome: str = ""

    @property
    def tests(self) -> tuple[str, ...]:
        names = next(names for glob, names in COVERED_BY.items() if fnmatch(self.file, glob))
        return tuple(f"tests/test_{name}.py" for name in names.split())


def left_out(code: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where are annotations, messages, and what only type checkers heed."""
    lines, hidden = [line.encode() for line in code.split("\n")], []
    for n in ast.walk(ast.parse(code)):
        hidden += [getattr(n, "annotation", None), getattr(n, "returns", None)]
        called = ast.unparse(n.func) if isinstance(n, ast.Call) else ""
        if isinstance(n, ast.Raise) or called == "warnings.warn":
            hidden.append(n)
        for decorator in getattr(n, "decorator_list", ()):
            if ast.unparse(decorator) in ("final", "abstractmethod", "overload"):
                hidden.append(decorator)
    for n in filter(None, hidden):
        start = len(lines[n.lineno - 1][: n.col_offset].decode())
        stop = len(lines[n.end_lineno - 1][: n.end_col_offset].decode())
        yield (n.lineno, start - 1), (n.end_lineno, stop)  # from a decorator's "@" on


def mutants_of(file: str) -> list[Mutant]:
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    code = (ROOT / file).read_text()
    nodes, hidden, found = list(ast_nodes(get_ast(code))), list(left_out(code)), []
    for operator in filter(OPERATORS.fullmatch, sorted(plugins.operator_names())):
        mutates = plugins.get_operator(operator)()
        places = (place for node in nodes for place in mutates.mutation_positions(node))
        for occurrence, (at, _) in enumerate(places):
            if not any(start <= at < stop for start, stop in hidden):
                found.append(Mutant(file, at[0], operator, occurrence))
    return found


def mutated(mutant: Mutant) -> tuple[Mutant, str]:
    """``mutant`` with the lines that it changes, and the module's code."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    code = (ROOT / mutant.file).read_text()
    new = mutate_code(code, plugins.get_operator(mutant.operator)(), mutant.occurrence)
    lines = list(difflib.unified_diff(code.splitlines(), new.splitlines(), n=0))[3:]
    was, becomes = (" ".join(x[1:].strip() for x in lines if x[0] == sign) for sign in "-+")
    return replace(mutant, was=was, becomes=becomes), new


class Replaced:
    """Finds one module, with ``code`` in the place of its file's."""

    def __init__(self, file: str, code: str) -> None:
        self.name, self.path = file.removesuffix(".py").replace("/", "."), str(ROOT / file)
        self.loader = SourceFileLoader(self.name, self.path)
        self.loader.get_code = lambda name: compile(code, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        found = spec_from_file_location(self.name, self.path, loader=self.loader)
        return found if name == self.name else None


def fork(tests: tuple[str, ...], replaced: Replaced | None, *, seconds: float) -> int:
    """The id of a process that ends with pytest's exit code, or after ``seconds`` of processor."""
    if pid := os.fork():
        return pid
    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    sys.meta_path[:0] = [replaced] if replaced else []
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    os._exit(pytest.main([*options, f"--basetemp={tempfile.gettempdir()}/{os.getpid()}", *tests]))


def run(mutants: list[Mutant], *, jobs: int) -> Iterator[Mutant]:
    """Each mutant with its outcome, as they end."""
    limits, waiting, running = {}, mutants[::-1], {}
    for tests in sorted({m.tests for m in mutants}):
        _, status, used = os.wait4(fork(tests, None, seconds=3600), 0)
        print(f"{used.ru_utime + used.ru_stime:5.1f} s {' '.join(tests)}", flush=True)
        if status != 0:
            sys.exit("these tests fail without mutants")
        limits[tests] = 3 * (used.ru_utime + used.ru_stime) + 10
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, code = mutated(waiting.pop())
            limit = limits[mutant.tests]
            pid = fork(mutant.tests, Replaced(mutant.file, code), seconds=limit)
            running[pid] = mutant, time.monotonic() + 10 * limit
        for pid, (_, overdue) in running.items():
            if time.monotonic() > overdue:  # asleep: its processor time does not run out
                os.killpg(pid, signal.SIGKILL)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            time.sleep(0.05)
            continue
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its tests have left running
        code = os.waitstatus_to_exitcode(status)
        outcome = "survived" if code == 0 else "failed" if code > 0 else "time limit"
        yield replace(running.pop(pid)[0], outcome=outcome)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many mutants do the tests notice?")
    parser.add_argument("--out", type=Path, help="where to write the table")
    parser.add_argument("--only", default="*", help="a glob: the files to mutate")
    parser.add_argument("--number", type=int, default=400, help="mutants at most (400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in LIBRARIES.split():
        importlib.import_module(name)
    from hypothesis import HealthCheck, Phase, settings

    phases, checks = [Phase.explicit, Phase.generate], list(HealthCheck)
    settings.register_profile(
        "mutants", database=None, derandomize=True, phases=phases, suppress_health_check=checks
    )
    files = sorted({str(f) for glob in COVERED_BY for f in Path().glob(glob)})
    every = [m for f in files if fnmatch(f, args.only) for m in mutants_of(f)]
    sample, done = random.Random(args.seed).sample(every, min(args.number, len(every))), []
    with tempfile.TemporaryDirectory() as tempfile.tempdir:
        for m in run(sample, jobs=args.jobs):
            done.append(m)
            count = f"{len(done)}/{len(sample)}"
            print(f"{count} {m.outcome}: {m.file}:{m.line} {m.was!r} → {m.becomes!r}", flush=True)
    done.sort(key=lambda m: (m.file, m.line, m.operator, m.occurrence))
    text = table(done, of=len(every), seed=args.seed)
    args.out.write_text(text) if args.out else print(text)


if __name__ == "__main__":
    main()
