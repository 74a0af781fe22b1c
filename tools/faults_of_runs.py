"""What surrounds runs: processes that end, studies that stop, files of rows, configurations."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd
import pytest
import torch
from fault import Fault

from benchmark.__main__ import main
from benchmark.running.child import ChildEnded, streamed
from benchmark.running.places import claimed, write_rows
from benchmark.running.same import different

ROOT = Path(__file__).resolve().parents[1]

# --- processes ----------------------------------------------------------------------------------


def two_and(then: Callable[[], object]) -> Generator[int, None, None]:
    """Two values, and what happens after them."""
    yield 1
    yield 2
    then()


def ended(folder: Path, *, then: Callable[[], object], said: str) -> str:
    """What is otherwise than: two values arrive, then how the process ended is said; the next runs.
    ``said`` "" is an end as any.
    """
    values, message = [], ""
    try:
        for value in streamed(partial(two_and, then), seconds=3.0):
            values.append(value)
    except ChildEnded as error:
        message = str(error)
    if values != [1, 2] or said not in message or bool(said) != bool(message):
        return f"{values}, {message!r}"
    after = list(streamed(partial(two_and, int)))
    return "" if after == [1, 2] else f"the next one: {after}"


def endless() -> None:
    while True:
        pass


def forked_and_endless() -> None:
    os.fork()
    endless()


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    endless()


def living_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def much_output() -> None:
    sys.stdout.close()


PROCESSES = {
    "exit code 0": (partial(os._exit, 0), "exit code 0"),
    "exit code 3": (partial(os._exit, 3), "exit code 3"),
    "sys.exit": (partial(sys.exit, 0), "SystemExit"),
    "an interruption": (partial(signal.raise_signal, signal.SIGINT), "SIGINT"),
    "SIGTERM": (partial(signal.raise_signal, signal.SIGTERM), "SIGTERM"),
    "killed": (partial(signal.raise_signal, signal.SIGKILL), "SIGKILL"),
    "a segmentation fault": (partial(ctypes.string_at, 0), "SIGSEGV"),
    "abort": (os.abort, "SIGABRT"),
    "an endless loop": (endless, "took longer than 3 s"),
    "a long call": (partial(time.sleep, 600), "took longer than 3 s"),
    "an endless loop, signals ignored": (deaf, "took longer than 3 s"),
    "a fork that is endless too": (forked_and_endless, "took longer than 3 s"),
    "a thread that lives": (living_thread, ""),
    "output closed": (much_output, ""),
    "gradients switched off": (partial(torch.set_grad_enabled, False), ""),
    "another folder": (partial(os.chdir, "/"), ""),
}

# --- studies ------------------------------------------------------------------------------------


@cache
def tests():
    """The studies of the tests; imported late, for each process above would import them too."""
    sys.path.insert(0, str(ROOT / "tests"))
    found = import_module("test_stopped")
    found.without_costs(pytest.MonkeyPatch())
    return found


@cache
def whole() -> pd.DataFrame:
    """The rows of the study to which nothing happens."""
    folder = tests().place(Path(mkdtemp()) / "whole")
    code, said = tests().study(folder)
    assert code == 0, said
    return tests().rows_of(folder)


def goes_on(folder: Path, *, event: str, code: int, said: str, then: Callable = str) -> str:
    """What is otherwise than: the study ends with ``code`` and says ``said``; the same command,
    after ``then`` has done its part, ends with 0 and has the bytes of one without any event.
    """
    wanted = whole()
    place = tests().place(folder / "study")
    found, text = tests().study(place, event)
    if found != code or said not in text:
        return f"exit code {found}: {text[-300:]}"
    then(place)
    found, text = tests().study(place)
    if found:
        return f"the same command: exit code {found}: {text[-300:]}"
    return ", ".join(different(wanted, tests().rows_of(place)))


def spoilt(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """What changes a file of each run that is kept."""

    def spoil(place: Path) -> None:
        kept = place / "outputs" / "unfinished"
        for path in kept.glob("*.safetensors"):
            change(path)

    return spoil


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def halved_log(path: Path) -> None:
    halved(path.with_suffix(".steps"))


KILL = {"event": "kill", "code": -signal.SIGKILL, "said": ""}
STUDIES = {
    "kill -9": KILL,
    "SIGTERM": {"event": "SIGTERM", "code": 1, "said": "1 interrupted"},
    "SIGUSR1": {"event": "SIGUSR1", "code": 1, "said": "1 interrupted"},
    "kill -9, half the checkpoint lost": KILL | {"then": spoilt(halved)},
    "kill -9, half the steps lost": KILL | {"then": spoilt(halved_log)},
    "kill -9, no checkpoint": KILL | {"then": spoilt(Path.unlink)},
    "kill -9, a checkpoint of another kind": KILL | {"then": spoilt(lambda p: p.write_text("x"))},
}


def unfilled(place: Path) -> None:
    (place / "solvers" / "filler").unlink()


def full(folder: Path) -> str:
    """The same on a file system of 24 MiB that is filled on the way."""
    disk = folder / "study"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        return "no file system can be mounted here: not tried"
    try:
        return goes_on(folder, event="fill", code=1, said="is not kept: ", then=unfilled)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# --- rows ---------------------------------------------------------------------------------------


def rows(*methods: str) -> pd.DataFrame:
    return pd.DataFrame([{"solver_name": name, "idx_rep": 0, "stop_val": 0} for name in methods])


def kept_both(folder: Path, *, before: Callable[[Path], object]) -> str:
    """What is otherwise than: what lay at the place of the rows is as it was, they beside it."""
    path = folder / "rows.parquet"
    before(path)
    there = path.read_bytes()
    written = write_rows(rows("JFB"), path)
    fine = path.read_bytes() == there and written.name == "rows_1.parquet"
    return "" if fine else f"written to {written}"


def at_once(folder: Path) -> str:
    with claimed(folder / "rows.parquet") as one, claimed(folder / "rows.parquet") as other:
        return "" if one != other else "both write one file"


# --- configurations -----------------------------------------------------------------------------

TASK = "dataset: [{Simulated: {size: [8]}}]\n"
CONFIGURATIONS = {
    "no YAML": ("solver: [JFB", "line 1"),
    "a list": ("- JFB", "expected"),
    "a key twice": (TASK + "seed: 0\nseed: 1", "given twice"),
    "a parameter twice": (TASK + "solver: [{DEQ: {tol: [1], tol: [2]}}]", "given twice"),
    "an unknown key": (TASK + "sead: 1", "did you mean seed?"),
    "a seed that is none": (TASK + "seed: abc", "seed must be"),
    "a time that is none": (TASK + "timeout: soon", "timeout must be"),
    "no solvers": (TASK + "solver: []", "nothing is listed"),
    "solver: with nothing": (TASK + "solver:", "nothing is listed"),
    "a misspelt solver": (TASK + "solver: [Unroling]", "did you mean Unrolling?"),
    "a misspelt dataset": ("dataset: [Simulatd]", "did you mean Simulated?"),
    "a misspelt parameter": (TASK + "solver: [{DEQ: {toll: [1]}}]", "did you mean tol?"),
    "a bad value of the second solver": (
        TASK + "solver: [JFB, {DEQ: {steps: [three]}}]",
        "steps must be",
    ),
    "steps below zero": (TASK + "solver: [{DEQ: {steps: [-1]}}]", "steps must be"),
    "a number as text": (TASK + "solver: [{DEQ: {tol: ['1e-6']}}]", "write 1.0e-6"),
    "not a number": (TASK + "solver: [{DEQ: {tol: [.nan]}}]", "tol must be"),
    "1e30 terms": (TASK + "solver: [{Neumann: {terms: [1e30]}}]", "terms must be"),
    "10^30 terms": (TASK + f"solver: [{{Neumann: {{terms: [{10**30}]}}}}]", "terms must be"),
    "a sampler that is none": (TASK + "solver: [{TPE: {sampler: [tpex]}}]", "sampler must be"),
    "an option with nothing": (TASK + "solver: [{DEQ: {tol: []}}]", "no value is listed"),
    "a solver with nothing": (TASK + "solver: [{DEQ: }]", "expected a mapping"),
    "a misspelt degradation": (
        "dataset: [{Simulated: {degradation: ['inpaintin(keep=0.5)']}}]",
        "did you mean inpainting?",
    ),
    "a degradation out of its range": (
        "dataset: [{Simulated: {degradation: ['inpainting(keep=2)']}}]\nsolver: [JFB]",
        "keep must lie",
    ),
    "a misspelt lower level": (
        TASK + "objective: [{Learning at equilibrium: {lower: [wavelet_l9]}}]",
        "did you mean wavelet_l1?",
    ),
    "a million levels": (
        TASK + "solver: [JFB]\n"
        "objective: [{Learning at equilibrium: {lower: ['wavelet_l1(levels=1000000)']}}]",
        "levels must be",
    ),
    "a dtype that is none": (
        TASK + "objective: [{Learning at equilibrium: {dtype: [float16]}}]",
        "dtype must be",
    ),
    "rows to a file": (TASK + "solver: [JFB]\noutput: /dev/null/rows", "cannot be written"),
}


def refused(folder: Path, *, text: str, said: str) -> str:
    """What is otherwise than: a line that says it, exit code 2, no file of rows."""
    config = folder / "study.yml"
    config.write_text(text)
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["run", str(config), "--benchmark", str(ROOT)])
    lines = err.getvalue().splitlines()
    fine = code == 2 and all(line.startswith("error: ") for line in lines)
    return "" if fine and any(said in line for line in lines) else f"{code}: {lines}"


def _how(call: object) -> str:
    """A function, or a partial of one, in a few words."""
    if isinstance(call, partial):
        return f"{call.func.__name__}({', '.join(map(str, call.args))})"
    return getattr(call, "__name__", str(call))


GOES_ON = "the same command ends with exit code 0 and the same bytes"
FAULTS = [
    *(
        Fault(
            "Processes of runs",
            name,
            _how(then),
            "what it had yielded is there; how it ended is said; the next runs",
            partial(ended, then=then, said=said),
        )
        for name, (then, said) in PROCESSES.items()
    ),
    *(
        Fault("Studies that stop", name, options["event"], GOES_ON, partial(goes_on, **options))
        for name, options in STUDIES.items()
    ),
    Fault(
        "Studies that stop",
        "a full disk",
        "tmpfs of 24 MiB, filled in a step",
        f"exit code 1, which says so; with space, {GOES_ON}",
        full,
    ),
    *(
        Fault(
            "Rows", name, how, "it is kept, the rows lie beside it", partial(kept_both, before=do)
        )
        for name, how, do in (
            ("another study's", "solver DEQ", lambda path: write_rows(rows("DEQ"), path)),
            ("not rows", "a text", lambda path: path.write_text("notes")),
            ("half a file", "its first 500 bytes", lambda path: path.write_bytes(bytes(500))),
        )
    ),
    Fault("Rows", "two studies at once", "one --output", "a file for each", at_once),
    *(
        Fault(
            "Configurations",
            name,
            " ⏎ ".join(text.replace(TASK, "").splitlines())[:100],
            f"exit code 2, a line with “{said}”, nothing is run",
            partial(refused, text=text, said=said),
        )
        for name, (text, said) in CONFIGURATIONS.items()
    ),
]
