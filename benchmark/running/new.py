"""The smallest working file of each kind that a user can bring: ``python -m benchmark new``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path

#: each kind, the folder that its files are found in by name, and how one is used
KINDS = {
    "method": ("solvers", "benchopt run . -s {path}"),
    "dataset": ("datasets", "benchopt run . -d {path}"),
    "equilibrium_solver": (
        "equilibrium_solvers",
        'benchopt run . -s "DEQ[equilibrium_solver={name}]"',
    ),
    "adjoint_solver": ("adjoint_solvers", 'benchopt run . -s "DEQ[adjoint_solver={name}]"'),
    "gradient_rule": ("gradient_rules", 'benchopt run . -s "Pair[gradient={name}]"'),
    "lower_level": ("lower_levels", 'benchopt run . -o "Learning at equilibrium[lower={name}]"'),
    "degradation": ("degradations", 'benchopt run . -d "Photographs[degradation={name}]"'),
    "denoiser": (
        "denoisers",
        "benchopt run . -o \"Learning at equilibrium[lower=pnp(denoiser='{name}')]\"",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """The command line; exit code 2 where the name is none or the file is there already."""
    parser = ArgumentParser(
        prog="python -m benchmark new",
        description=f"{__doc__}\n\nkinds: {', '.join(KINDS)}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help="what the file is to hold")
    parser.add_argument("name", metavar="NAME", help="of the file, a Python name in small letters")
    given = parser.parse_args(arguments)
    try:
        path = write(given.kind, given.name)
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    usage = KINDS[given.kind][1].format(path=path, name=given.name)
    print(f"{path} written. Try it:\n\n    {usage}\n")
    print(f"and what the tests ask of it:\n\n    pytest tests/test_brought.py --bring {path}")
    return 0


def write(kind: str, name: str, root: Path = Path()) -> Path:
    """Write the smallest file of ``kind`` as ``name`` and return its path.

    root : what the folder is in, in which it is found by its name. Raises ValueError for a name
    that is no Python name in small letters, FileExistsError rather than overwrite.
    """
    if not name.isidentifier() or iskeyword(name) or name != name.lower():
        raise ValueError(f"NAME must be a Python name in small letters, got {name!r}")
    path = root / KINDS[kind][0] / f"{name}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already: expected a name that is free")
    text = (files("benchmark.running") / "templates" / f"{kind}.py").read_text(encoding="utf-8")
    camel = "".join(part.capitalize() for part in name.split("_"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text.replace("Template", camel).replace("template", name))
    return path
