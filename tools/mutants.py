"""Mutation testing: how many small changes of the code do its tests notice?

    python tools/mutants.py --out results/mutants.md

Of a seeded sample of Cosmic Ray's mutants of the modules in ``COVERED_BY``, each meets the tests
named there, in a fork of a process that has imported all libraries. It is caught if a test fails
or a time limit ends it. Without it they must pass. With ``--log`` outcomes are kept as they come,
and what is written there as caught, of a module that is the same, is not tried again.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import hashlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from mutants_table import table

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
ROOT = Path(__file__).resolve().parents[1]
#: what is mutated and the tests that are to notice, quick ones first; the first pattern counts
COVERED_BY = {
    "benchmark/solve/fixed_point.py": "fixed_point solve_parts docstrings",
    "benchmark/solve/secants.py": "secants solve_parts docstrings",
    "benchmark/solve/krylov.py": "linear_steps linear solve_parts docstrings",
    "benchmark/solve/checked.py": "solve_parts brought wrong*",
    "benchmark/solve/growing.py": "linear_steps linear",
    "benchmark/solve/newton.py": "newton docstrings",
    "benchmark/solve/recycled.py": "recycled docstrings",
    "benchmark/solve/sketched.py": "sketched docstrings",
    "benchmark/solve/complex_numbers.py": "linear_steps complex",
    "benchmark/solve/*.py": "solve_parts linear* fixed_point secants brought wrong* docstrings",
    "benchmark/gradients/piggyback.py": "piggyback docstrings",
    "benchmark/gradients/*.py": "gradients lineariz* refinement solve_parts library brought wrong* "
    "docstrings",
    "benchmark/report/statistics*.py": "statistics claims*",
    "benchmark/report/claims*.py": "claims*",
    "benchmark/report/hypotheses*.py": "claims*",
}
#: slow for what they notice, or blind to mutants since they start a process of their own
LEFT_OUT = """wrong_files::test_each_kind_has_a_page_with_the_smallest_file
    fixed_point::test_solvers_agree_on_every_lower_level
    fixed_point::test_acceleration_needs_fewer_layers
    fixed_point::test_momentum_does_no_harm_above_a_stepsize_of_one_over_l
    statistics::test_intervals_hold_the_truth
    statistics::test_crops_of_a_photograph_are_no_units
    statistics::test_what_was_too_narrow
    statistics::test_the_truly_best_is_marked_at_the_stated_rate"""
#: Cosmic Ray's operators that are used: arithmetic by its neighbour, comparisons by their boundary
#: and their negation, conditions, constants, loops, handlers, decorators
OPERATORS = re.compile(
    r"core/(.*_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Mul_Add|FloorDiv_Mul|Mod_FloorDiv|Pow_Mul"
    r"|BitOr_BitAnd|BitAnd_BitOr|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Eq_NotEq"
    r"|NotEq_Eq|Is_IsNot|IsNot_Is|Delete_.*)|AddNot|Replace(True|False|And|Or|Break|Continue)With.*"
    r"|ExceptionReplacer|NumberReplacer|RemoveDecorator|ZeroIterationForLoop)"
)
HIDDEN = re.compile(r"(raise|assert)\b|warnings\.warn|(@.*\n)*class \w+\(Protocol\)")
TYPING = re.compile("final|abstract|overload")
#: imported once, before all forks
LIBRARIES = """pytest hypothesis torch numpy scipy.stats pandas pyarrow matplotlib.pyplot seaborn
    great_tables skimage torchvision deepinv torchwavelets benchopt.benchmark"""


@dataclass(frozen=True, order=True)
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
        files = (sorted(ROOT.glob(f"tests/test_{name}.py")) for name in names.split())
        return tuple(str(f.relative_to(ROOT)) for some in files for f in some)

    @property
    def key(self) -> str:
        """Of the change; equal only where the module is the same."""
        code = hashlib.sha256((ROOT / self.file).read_bytes()).hexdigest()
        return f"{self.file} {self.operator} {self.occurrence} {code[:16]}"


def left_out(code: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where are annotations, messages, and what type checkers alone heed."""
    lines, hidden = [line.encode() for line in code.split("\n")], []
    for n in ast.walk(ast.parse(code)):
        hidden += [getattr(n, "annotation", None), getattr(n, "returns", None)]
        if isinstance(n, ast.stmt | ast.Call) and HIDDEN.match(ast.unparse(n)):
            hidden.append(n)
        hidden += [d for d in getattr(n, "decorator_list", ()) if TYPING.match(ast.unparse(d))]
    for n in filter(None, hidden):
        start = len(lines[n.lineno - 1][: n.col_offset].decode())
        stop = len(lines[n.end_lineno - 1][: n.end_col_offset].decode())
        yield (n.lineno, start - 1), (n.end_lineno, stop)  # from a decorator's "@" on


def mutants_of(file: str) -> list[Mutant]:
    code = (ROOT / file).read_text()
    nodes, hidden, found = list(ast_nodes(get_ast(code))), list(left_out(code)), []
    for operator in filter(OPERATORS.fullmatch, sorted(plugins.operator_names())):
        mutates = plugins.get_operator(operator)()
        places = ((node, at) for node in nodes for at, _ in mutates.mutation_positions(node))
        for occurrence, (node, at) in enumerate(places):
            mark = node.parent is not None and node.parent.type == "parameters"  # a bare *
            if not mark and not any(start <= at < stop for start, stop in hidden):
                found.append(Mutant(file, at[0], operator, occurrence))
    return found


def drawn(mutants: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """``number`` of them at random; what is drawn hardly depends on the other files."""

    def rank(m: Mutant) -> str:
        named = f"{seed} {m.file} {m.operator} {m.occurrence}"
        return hashlib.sha256(named.encode()).hexdigest()

    return sorted(mutants, key=rank)[:number]


def noticed(mutants: list[Mutant], log: Path | None) -> list[Mutant]:
    """Those of ``mutants`` that ``log`` holds as caught, with their outcomes."""
    lines = log.read_text().splitlines() if log and log.exists() else []
    known = {entry.pop("key"): Mutant(**entry) for entry in map(json.loads, lines)}
    found = [known[m.key] for m in mutants if m.key in known]
    return [m for m in found if m.outcome != "survived"]


def write_down(mutant: Mutant, log: Path) -> None:
    with log.open("a") as file:
        print(json.dumps(asdict(mutant) | {"key": mutant.key}), file=file)


def mutated(mutant: Mutant) -> tuple[Mutant, str]:
    """``mutant`` with the lines that it changes, and the module's code."""
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

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        if name == self.name:
            return spec_from_file_location(name, self.path, loader=self.loader)


def fork(tests: tuple[str, ...], replaced: Replaced | None, *, seconds: float) -> int:
    """The id of a process that ends with pytest's exit code, or after ``seconds`` of processor."""
    if pid := os.fork():
        return pid
    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    signal.alarm(10 * int(seconds) + 10)  # asleep, it spends no processor time
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.meta_path[:0] = [replaced] if replaced else []
    options = ["-x", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    options += [f"--basetemp={tempfile.gettempdir()}/{os.getpid()}"]
    left_out = (name.replace("::", ".py::") for name in LEFT_OUT.split())
    os._exit(pytest.main([*options, *(f"--deselect=tests/test_{n}" for n in left_out), *tests]))


def run(mutants: list[Mutant], *, jobs: int) -> Iterator[Mutant]:
    """Each mutant with its outcome, as they end."""
    limits, waiting, running = {}, mutants[::-1], {}
    for tests in sorted({m.tests for m in mutants}):
        _, status, used = os.wait4(fork(tests, None, seconds=3600), 0)
        print(f"{used.ru_utime + used.ru_stime:5.1f} s {' '.join(tests)}", flush=True)
        if status != 0:
            sys.exit("these tests fail without mutants")
        limits[tests] = 2 * (used.ru_utime + used.ru_stime) + 5
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, code = mutated(waiting.pop())
            limit = limits[mutant.tests]
            pid = fork(mutant.tests, Replaced(mutant.file, code), seconds=limit)
            running[pid] = mutant
        pid, status = os.wait()
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its tests have left running
        code = os.waitstatus_to_exitcode(status)
        outcome = "survived" if code == 0 else "failed" if code > 0 else "time limit"
        yield replace(running.pop(pid), outcome=outcome)


def main() -> None:
    add = (parser := argparse.ArgumentParser()).add_argument
    add("--out", type=Path, help="where to write the table")
    add("--only", default="*", help="a glob: of the sample, the mutants of these files")
    add("--log", type=Path, help="where outcomes are kept, and looked up")
    add("--number", type=int, default=400, help="mutants at most (400)")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in LIBRARIES.split():
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as nothing:
        importlib.import_module("pytest").main(["-qq", nothing])  # imports its plugins
    gc.freeze()  # else each fork looks through all of that for garbage
    from hypothesis import HealthCheck, Phase, settings

    few = {"phases": [Phase.explicit, Phase.generate], "suppress_health_check": HealthCheck}
    settings.register_profile("mutants", database=None, derandomize=True, **few)
    files = sorted({str(f) for glob in COVERED_BY for f in Path().glob(glob)})
    every = [m for f in files for m in mutants_of(f)]
    sample = [m for m in drawn(every, args.number, args.seed) if fnmatch(m.file, args.only)]
    done = noticed(sample, args.log)
    found = {m.key for m in done}
    with tempfile.TemporaryDirectory() as tempfile.tempdir:
        for m in run([m for m in sample if m.key not in found], jobs=args.jobs):
            done.append(m)
            print(f"{len(done)} {m.outcome} {m.file}:{m.line}: {m.was} → {m.becomes}", flush=True)
            if args.log:
                write_down(m, args.log)
    text = table(sorted(done), of=len(every), seed=args.seed)
    args.out.write_text(text) if args.out else print(text)


if __name__ == "__main__":
    main()
