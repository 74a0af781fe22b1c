"""Which plugins a study asks for, at which parameters: everything that is listed is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchopt.benchmark import Benchmark
from benchopt.utils.dynamic_modules import FailedImport, _load_class_from_module
from benchopt.utils.parametrized_name_mixin import (
    _extract_options,
    _get_used_parameters,
    _select_params,
    is_file_selector,
    is_matched,
)

from benchmark.options.checks import shown
from benchmark.plugins.rules import RULES
from benchmark.running.faults import said, unknown
from benchmark.running.files import PluginFile, plugin_file, plugin_files
from benchmark.running.given import faults_of_options


@dataclass(frozen=True)
class Selection:
    """The plugins of one kind that a study asks for.

    chosen : pairs (class, {parameter: values}), as benchopt takes them; instances : one for each
    combination of an installed class; faults and notes : a line each; missing : libraries that
    chosen plugins need and that are absent, by the plugin's name.
    """

    chosen: list[tuple[type, dict]] = field(default_factory=list)
    instances: list = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def select(benchmark: Benchmark, kind: str, entries: Sequence[object]) -> Selection:
    """The plugins of ``kind`` ("Objective", "Dataset" or "Solver") that ``entries`` ask for; all,
    where they are empty.
    """
    files = [] if kind == "Objective" else plugin_files(benchmark.benchmark_dir, kind)
    listed, faults = _listed(entries, kind)
    classes = _classes(benchmark, kind, files)
    outside = {p: plugin_file(benchmark.benchmark_dir, Path(p), kind) for p, *_ in listed if _py(p)}
    found = Selection(faults=faults, notes=_unusable(files, [p for p, *_ in listed], kind, faults))
    for path, file in outside.items():
        if file.fault:
            found.faults.append(f"{path}: {file.fault}")
    _check_twins(files, [p for p, *_ in listed], kind, found)
    for pattern, args, kwargs in listed:
        matched = _matched(pattern, classes) if not _py(pattern) else []
        if not matched and not _py(pattern):
            names = [cls.name for cls in classes]
            broken = [file.name or Path(file.path).stem for file in files if file.fault]
            if not any(_names(pattern, name) for name in broken):
                found.faults.append(unknown(kind.lower(), pattern, names))
        if _py(pattern) and not outside[pattern].fault:
            matched = [_load_class_from_module(benchmark.benchmark_dir, Path(pattern), kind)]
        for cls in matched:
            _choose(cls, args, kwargs, kind, found)
    if not listed and not faults:
        for cls in classes:
            _choose(cls, [], {}, kind, found)
    return replace(found, missing=_missing(files, found))


def not_listed(forced: Sequence[str], entries: Sequence[object]) -> list[str]:
    """Those of ``forced`` whose plugin ``entries`` do not name: they are run beside them."""
    names = [name for name, *_ in _listed(entries, "Solver")[0]]
    return [name for name in forced if not any(_names(name, known) for known in names)]


def _listed(entries: Iterable[object], kind: str) -> tuple[list[tuple], list[str]]:
    """(name or pattern, positional values, options) of each entry; and faults of their form."""
    listed, faults, what = [], [], kind.lower()
    for entry in entries:
        if isinstance(entry, str):
            try:
                listed.append(_extract_options(entry))
            except Exception:  # benchopt rewrites the text and evaluates it: anything can come out
                faults.append(f"{what} {shown(entry)}: expected NAME or NAME[option=value, …]")
        elif isinstance(entry, dict) and entry and all(isinstance(n, str) for n in entry):
            for name, options in entry.items():
                if isinstance(options, list):
                    listed.append((name, options, {}))
                elif isinstance(options, dict) and all(isinstance(k, str) for k in options):
                    listed.append((name, [], options))
                else:
                    faults.append(
                        f"{what} {name!r}: expected a mapping of options after the colon, got "
                        f"{shown(options)}: for the defaults, write the name without a colon"
                    )
        else:
            faults.append(f"{what}: expected a name or a mapping of options, got {shown(entry)}")
    return ([] if any(name == "all" for name, *_ in listed) else listed), faults


def _classes(benchmark: Benchmark, kind: str, files: Iterable[PluginFile]) -> list[type]:
    """The plugins that can be loaded, as benchopt orders them."""
    if kind == "Objective":
        return [benchmark.get_benchmark_objective()]
    folder = benchmark.benchmark_dir
    loaded = [_load_class_from_module(folder, f.path, kind) for f in files if not f.fault]
    return sorted(loaded, key=lambda cls: cls.name.lower())


def _unusable(
    files: Iterable[PluginFile], patterns: Sequence[str], kind: str, faults: list[str]
) -> list[str]:
    """Notes of files that cannot be used; one that is asked for is a fault."""
    notes = []
    for file in files:
        if file.fault:
            name = file.name or Path(file.path).stem  # what is asked for, as far as can be told
            asked = not patterns or any(_names(p, name) for p in patterns)
            line = f"{_short(file)}: {file.fault}"
            if asked:
                faults.append(line)
            else:
                notes.append(f"{line}: left out, for nothing asks for it")
    return notes


def _check_twins(
    files: Sequence[PluginFile], patterns: Sequence[str], kind: str, found: Selection
) -> None:
    """Two files of one name: rows could not be told apart."""
    by_name: dict[str, list[PluginFile]] = {}
    for file in files:
        if file.name:
            by_name.setdefault(file.name.lower(), []).append(file)
    for same in by_name.values():
        if len(same) > 1:
            where = " and ".join(_short(file) for file in same)
            line = f"{where} define {kind.lower()}s of one name, {same[0].name!r}: rename one"
            asked = not patterns or any(_names(p, same[0].name) for p in patterns)
            (found.faults if asked else found.notes).append(line)


def _choose(cls: type, args: list, kwargs: Mapping, kind: str, found: Selection) -> None:
    """Add a class at the parameters given, or the faults that they have."""
    what = f"{kind.lower()} {cls.name}"
    known = [name.strip() for key in cls.parameters for name in key.split(",")]
    if args:
        if len(known) != 1:
            found.faults.append(f"{what}: expected option=value, got the bare {shown(args)}")
            return
        kwargs = {known[0]: args}
    faults = [f"{what}: {fault}" for fault in faults_of_options(kwargs, known, RULES)]
    if faults or isinstance(cls, FailedImport):
        found.faults.extend(faults)
        found.chosen.append((cls, {}))
        return
    try:
        ((_, given),) = _select_params([(cls, ([], dict(kwargs)))], kind.lower())
        found.chosen.append((cls, given))
        for values in _get_used_parameters(cls, given):
            found.instances.append(cls.get_instance(**values))
            if broken := getattr(found.instances[-1], "broken", None):
                raise ValueError(broken)
    except Exception as error:  # a plugin's own check, or a class that cannot be made
        text = said(error).removeprefix(f'Error when initializing {kind}: "{cls.name}". ')
        found.faults.append(f"{what}: {text}")


def _missing(files: Iterable[PluginFile], found: Selection) -> dict[str, str]:
    absent = {file.name: file.missing for file in files if file.missing}
    return {cls.name: absent[cls.name] for cls, _ in found.chosen if cls.name in absent}


def _matched(pattern: str, classes: Iterable[type]) -> list[type]:
    return [cls for cls in classes if _names(pattern, cls.name)]


def _names(pattern: str, name: str) -> bool:
    """Whether benchopt takes ``pattern`` for the plugin called ``name``."""
    try:
        return bool(name) and is_matched(name, [pattern])
    except (re.error, ValueError):
        return False


def _py(pattern: str) -> bool:
    return is_file_selector(pattern)


def _short(file: PluginFile) -> str:
    return "/".join(Path(file.path).parts[-2:])
