"""The options of a study: those of ``benchopt run``, from the command line and a configuration."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.options import checks
from benchmark.running.configuration import read_configuration
from benchmark.running.faults import InvalidStudyError, unknown

#: what the three kinds of plugins are called in a configuration
KINDS = ("objective", "dataset", "solver")


@dataclass(frozen=True)
class Settings:
    """What was asked for, as ``benchopt run`` understands it; ``None`` where nothing was.

    ``objective``, ``dataset`` and ``solver`` are lists of names or mappings, as benchopt takes
    them; ``timeout`` is in seconds; ``given`` holds the names of the options that were given
    anywhere, ``command`` the command line.
    """

    benchmark: Path
    config: Path | None
    objective: list
    dataset: list
    solver: list
    force_solver: list
    output: str
    max_runs: int = 100
    n_repetitions: int | None = None
    timeout: float | None = 100.0
    collect: bool = False
    plot: bool = True
    display: bool = False
    html: bool = True
    n_jobs: int | None = None
    parallel_config: str | dict | None = None
    pdb: bool = False
    no_cache: bool = False
    seed: int = 0
    given: frozenset[str] = frozenset()
    command: tuple[str, ...] = ()


def seconds(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a time: seconds, or a text such as "10m" or "1h"."""
    if not 0 < _as_seconds(value) < math.inf:
        raise ValueError(f"{name} must be a time such as 100, 10m or 1h, got {checks.shown(value)}")


def _jobs(name: str, value: object) -> None:
    if value != -1:
        checks.positive_integer(name, value, most=10_000)


def _path_or_mapping(name: str, value: object) -> None:
    if not isinstance(value, dict):
        checks.text(name, value)


#: what each option may be, by its name in a configuration; what is listed is checked elsewhere
RULES: dict[str, Callable[[str, object], None]] = {
    "max-runs": checks.nonnegative_integer,
    "n-repetitions": checks.optional(checks.positive_integer),
    "timeout": checks.optional(seconds),
    "no-timeout": checks.boolean,
    "collect": checks.boolean,
    "plot": checks.boolean,
    "display": checks.boolean,
    "html": checks.boolean,
    "n-jobs": checks.optional(_jobs),
    "parallel-config": checks.optional(_path_or_mapping),
    "pdb": checks.boolean,
    "no-cache": checks.boolean,
    "output": checks.text,
    # benchopt puts it into a text that is hashed: any size will do, but a slip is one
    "seed": checks.optional(checks.nonnegative_integer),
}
LISTS = (*KINDS, "force-solver")


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The command line that ``run`` and ``check`` share; each option is absent unless given."""
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What the command line gives is taken instead of what CONFIG gives.",
    )
    made.add_argument("config", nargs="?", metavar="CONFIG", help="YAML file, as --config takes it")
    made.add_argument("--config", dest="config_option", metavar="FILE", help="the same")
    made.add_argument("--benchmark", metavar="FOLDER", help="folder of objective.py")
    for short, name in (("-o", "objective"), ("-s", "solver"), ("-f", "force-solver")):
        made.add_argument(short, f"--{name}", action="append", metavar="NAME[option=value]")
    made.add_argument("-d", "--dataset", action="append", metavar="NAME[option=value]")
    made.add_argument("-n", "--max-runs", type=_number, metavar="INT", help="rows of a run, less 1")
    made.add_argument("-r", "--n-repetitions", type=_number, metavar="INT")
    made.add_argument("--timeout", metavar="TIME", help="of a run: seconds, 10m, 1h")
    made.add_argument("--no-timeout", action="store_true")
    made.add_argument("--collect", action="store_true", help="only what the cache holds")
    for name in ("plot", "display", "html"):
        made.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    made.add_argument("-j", "--n-jobs", type=_number, metavar="INT", help="processes")
    made.add_argument("--parallel-config", metavar="FILE")
    made.add_argument("--pdb", action="store_true")
    made.add_argument("--no-cache", action="store_true")
    made.add_argument("--output", metavar="NAME", help="rows: outputs/NAME.parquet")
    made.add_argument("--seed", type=_number, metavar="INT")
    return made


@dataclass(frozen=True)
class Asked:
    """What was asked for, by name, as it was written; where the benchmark and CONFIG are."""

    given: dict[str, object]
    benchmark: Path
    config: Path | None


def settings(arguments: argparse.Namespace, command: Sequence[str]) -> Settings:
    """The options of the command line, then those of the configuration, then benchopt's own.

    ``command`` is the command line, to be shown again. Raises InvalidStudyError with all faults.
    """
    found = asked(arguments)
    return _made(found.given, found.benchmark, found.config, command)


def asked(arguments: argparse.Namespace) -> Asked:
    """The options that were given; raises InvalidStudyError with all faults of theirs. Needs no
    library that takes its time to be imported.
    """
    typed = {name.replace("_", "-"): value for name, value in vars(arguments).items()}
    path = typed.pop("config", None) or typed.get("config-option")
    typed.pop("config-option", None)
    benchmark = _folder(typed.pop("benchmark", None))
    written = read_configuration(Path(path)) if path else {}
    faults, given = _normal(written, place=path)
    given |= typed
    faults += _checked(given)
    if given.get("no-timeout") is True and "timeout" in given:
        faults.append("timeout and no-timeout are both given: expected one of them")
    if given.get("collect") is True and given.get("no-cache") is True:
        faults.append("collect and no-cache are both given: nothing could be collected")
    if faults:
        raise InvalidStudyError(faults)
    return Asked(given, benchmark, Path(path) if path else None)


def _made(
    given: Mapping[str, object], benchmark: Path, config: Path | None, command: Sequence[str]
) -> Settings:
    from benchopt.config import get_setting

    plain = {
        name.replace("-", "_"): value
        for name, value in given.items()
        if name not in (*LISTS, "no-timeout", "timeout") and value is not None
    }
    lists = {name.replace("-", "_"): _as_list(given.get(name, [])) for name in LISTS}
    typed = given.get("timeout")
    timeout = get_setting("default_timeout") if typed is None else _as_seconds(typed)
    plain.setdefault("output", config.stem if config else "study")
    return Settings(
        benchmark,
        config,
        **lists,
        **plain,
        timeout=None if given.get("no-timeout") else timeout,
        given=frozenset(given),
        command=tuple(command),
    )


def _normal(written: Mapping[str, object], *, place: object) -> tuple[list[str], dict]:
    """Faults of the keys of a configuration, and its values by their names with dashes."""
    faults, values = [], {}
    for key, value in written.items():
        name = key.replace("_", "-")
        if name not in RULES and name not in LISTS:
            faults.append(f"{place}: {unknown('key', key, [*LISTS, *RULES])}")
        elif name in values:
            faults.append(f"{place}: {name!r} is given twice, with a dash and an underscore")
        values[name] = value
    return faults, values


def _checked(given: Mapping[str, object]) -> list[str]:
    faults = []
    for name, value in given.items():
        if name in LISTS and (value is None or value == [] or value == {} or value == ""):
            faults.append(f"{name}: nothing is listed: leave the key out to take all")
        elif name in RULES:
            try:
                RULES[name](name, value)
            except ValueError as error:
                faults.append(str(error))
    return faults


def _folder(typed: str | None) -> Path:
    """The folder of objective.py: the one given, the working directory, or this checkout."""
    checkout = Path(__file__).resolve().parents[2]
    candidates = [Path(typed)] if typed is not None else [Path.cwd(), checkout]
    for folder in candidates:
        if (folder / "objective.py").is_file():
            return folder.resolve()
    raise InvalidStudyError(
        [f"there is no objective.py in {candidates[0]}: expected the folder of the benchmark"]
    )


def _as_list(value: object) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _as_seconds(value: object) -> float:
    """Seconds; NaN where ``value`` is no time."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
        # as benchopt has it, whose cache asks for the same type too
        return int(number) if 1 <= number < math.inf else number
    except ValueError:
        pass
    except OverflowError:
        return math.nan
    import pandas as pd  # takes long to be imported, and most times are numbers

    try:
        return float(pd.to_timedelta(value).total_seconds())
    except (ValueError, OverflowError):
        return math.nan


def _number(text: str) -> object:
    """An integer where ``text`` is one; else the text, for the check to refuse."""
    try:
        return int(text)
    except ValueError:
        return text
