"""A first look at a study, by the text of its files alone: a slip of the pen costs a second.

It finds no more than ``validation`` does, but for names in options that would not be used; what it
cannot tell it leaves to it. No library is imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.options.spec import split_call
from benchmark.plugins.plain_rules import PLAIN_RULES
from benchmark.running.faults import InvalidStudyError, unknown
from benchmark.running.given import faults_of_options
from benchmark.running.options import asked, parser
from benchmark.running.outlines import Outline, outline
from benchmark.running.specs import RULES

#: where the plugins of a kind are
FOLDERS = {"solver": "solvers", "dataset": "datasets"}


def first_look(arguments: Sequence[str]) -> tuple[str, ...]:
    """A line for each fault that can be told of the study of a command line of run or check."""
    if {"-h", "--help"} & set(arguments):
        return ()
    options, _ = parser("python -m benchmark", "").parse_known_args(arguments)
    try:
        found = asked(options)
        return InvalidStudyError(faults_of(found.given, found.benchmark)).faults
    except InvalidStudyError as error:
        return error.faults


def faults_of(given: Mapping[str, object], benchmark: Path) -> list[str]:
    """A line for each fault that can be told of the plugins that ``given`` lists, by kind."""
    faults = []
    for kind in ("objective", "dataset", "solver"):
        known = list(_outlines(kind, benchmark))
        for name, options in _entries(given.get(kind)):
            faults += _faults(kind, name, options, known)
    return faults


def _outlines(kind: str, benchmark: Path) -> Iterator[Outline]:
    if kind == "objective":
        yield outline(benchmark / "objective.py", "Objective")
        return
    for path in sorted((benchmark / FOLDERS[kind]).glob("[!.]*.py")):
        if not path.name.startswith("template_"):
            yield outline(path, kind.capitalize())


def _entries(listed: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(name, options) of the entries that are written as such: others are not looked at."""
    for entry in listed if isinstance(listed, (list, tuple)) else [listed]:
        if isinstance(entry, str):
            name, bracket, _ = entry.partition("[")
            texts = split_call(entry)[1] if bracket else {}
            yield name.strip(), {key: _typed(text) for key, text in texts.items()}
        elif isinstance(entry, dict):
            for name, options in entry.items():
                texts = isinstance(options, dict) and all(isinstance(key, str) for key in options)
                if isinstance(name, str) and texts:
                    yield name, options


def _typed(text: str) -> object:
    """What a text in brackets stands for: a literal, else a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _faults(
    kind: str, name: str, options: Mapping[str, object], known: Iterable[Outline]
) -> list[str]:
    if not re.fullmatch(r"[\w -]+", name):  # a pattern, or a file
        return []
    of_name = [one for one in known if one.name and one.name.lower() == name.lower()]
    if not of_name:
        names = [one.name for one in known]
        # a file that cannot be read, or has no name, might be the one that is meant
        return [] if None in names or name == "all" else [unknown(kind, name, names)]
    parameters = of_name[0].parameters
    if parameters is None:
        return []
    found = faults_of_options(options, parameters, PLAIN_RULES | RULES)
    return [f"{kind} {of_name[0].name}: {fault}" for fault in found]
