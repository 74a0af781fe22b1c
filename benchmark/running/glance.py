"""A first look at a study, by the text of its files alone: a slip of the pen costs a second.

It finds no more than ``validation`` does, and says it in the same words; what it cannot tell it
leaves to it. No library is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmark.options.brought import placed
from benchmark.options.checks import shown
from benchmark.options.spec import split_call
from benchmark.plugins.plain_rules import PLAIN_RULES
from benchmark.problems import LOWER_LEVELS
from benchmark.running.faults import InvalidStudyError, unknown
from benchmark.running.given import faults_of_options
from benchmark.running.options import asked, parser
from benchmark.running.outlines import PACKAGE, Outline, keys_of, outline

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
            yield entry.partition("[")[0].strip(), {}
        elif isinstance(entry, dict):
            for name, options in entry.items():
                texts = isinstance(options, dict) and all(isinstance(key, str) for key in options)
                if isinstance(name, str) and texts:
                    yield name, options


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
    found = faults_of_options(options, parameters, PLAIN_RULES)
    found += [
        fault
        for option in ("degradation", "lower")
        if option in options
        for fault in _faults_of_names(option, options[option])
    ]
    return [f"{kind} {of_name[0].name}: {fault}" for fault in found]


def _faults_of_names(option: str, values: object) -> Iterator[str]:
    """Faults of the names in specs of degradations or lower levels."""
    if option == "lower":
        what, known = "lower level", tuple(LOWER_LEVELS)
    else:
        what = option
        known = keys_of(PACKAGE / "imaging" / "degradations.py", "DEGRADATIONS")
    for value in values if isinstance(values, (list, tuple)) else [values]:
        name = split_call(value)[0] if isinstance(value, str) else ""
        none = known and name.isidentifier() and name not in known
        if none and placed(what.replace(" ", "_") + "s", f"{name}.py") is None:
            yield f"{unknown(what, name, known)} (in {shown(value)})"
