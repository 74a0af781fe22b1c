"""Files in ``solvers/`` that cannot be used: each is named before benchopt starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fault import Fault

from benchmark.running.files import plugin_files

CLASS = """
from benchmark.plugins.bilevel_solver import StateMethod
class Solver(StateMethod):
    {}
    def equilibrium(self, T, x0):
        return T(x0)
"""


def otherwise(folder: Path, *, text: bytes, said: str) -> str:
    """What is said of the file, and of a good one after it, other than is promised."""
    solvers = folder / "solvers"
    solvers.mkdir()
    (solvers / "bad.py").write_bytes(text)
    (solvers / "good.py").write_text(CLASS.format("name = 'Good'"))
    bad, good = plugin_files(folder, "Solver", limit=8.0 if "within" in said else 60.0)
    if good.fault:
        return f"the file after it: {good.fault}"
    return "" if said in bad.fault else bad.fault or "nothing is said"


def file(name: str, text: str | bytes, said: str) -> Fault:
    data = text if isinstance(text, bytes) else text.encode()
    lines = data.decode(errors="replace").replace("\0", "␀").splitlines()
    how = " ⏎ ".join(line for line in lines if line.strip())
    promised = f"named, with “{said}”; other studies go on"
    return Fault("Files", name, how[:120], promised, partial(otherwise, text=data, said=said))


FAULTS = [
    file("a syntax error", "x = 1\nclass Solver(:\n", "line 2"),
    file("an open bracket", "x = (\n", "line 1"),
    file("null bytes", b"x = 1\0\n", ""),
    file("no UTF-8", b"name = '\xff'\n", ""),
    file("nothing", "", "defines no class Solver"),
    file("another class", "class Method:\n    name = 'x'\n", "defines no class Solver"),
    file("no name", CLASS.format("pass"), "has no name"),
    file("a name that is none", CLASS.format("name = 3"), "must be a text"),
    file("exit", "import sys; sys.exit(0)\n" + CLASS.format("name = 'Bad'"), "SystemExit"),
    file("exit at once", "import os; os._exit(0)\n" + CLASS.format("name = 'Bad'"), "exit code 0"),
    file("abort", "import os; os.abort()\n" + CLASS.format("name = 'Bad'"), "SIGABRT"),
    file(
        "segmentation fault",
        "import ctypes; ctypes.string_at(0)\n" + CLASS.format("name = 'Bad'"),
        "SIGSEGV",
    ),
    file("an exception", "1 / 0\n" + CLASS.format("name = 'Bad'"), "ZeroDivisionError"),
    file(
        "an interruption", "raise KeyboardInterrupt\n" + CLASS.format("name = 'Bad'"), "Interrupt"
    ),
    file("an endless loop", "while True: pass\n" + CLASS.format("name = 'Bad'"), "within 8 s"),
    file(
        "no such base",
        "from benchmark.nothing import X\n" + CLASS.format("name = 'Bad'"),
        "nothing",
    ),
    file(
        "parameters that are none",
        CLASS.format("name = 'Bad'; parameters = ['steps']"),
        "must be a dict",
    ),
]
