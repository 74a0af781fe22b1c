"""Makes this clone's package importable, installed or not: benchopt imports this folder first.

The clone's own ``benchmark`` comes before one that is installed from elsewhere; where another one
has been imported already, the clone is not run. Files of plugins whose text cannot be used are
named: benchopt ends with them, and does not say which.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if str(_ROOT) not in sys.path[:1]:
    sys.path.insert(0, str(_ROOT))

_OWN = _ROOT / "benchmark" / "__init__.py"
_LOADED = getattr(sys.modules.get("benchmark"), "__file__", None)
if _OWN.is_file() and _LOADED is not None and not _OWN.samefile(_LOADED):
    raise ImportError(
        f"the package 'benchmark' of {Path(_LOADED).parents[1]} is loaded, expected that of the "
        f"clone that is run, {_ROOT}: run each clone in a process of its own"
    )

if _OWN.is_file():
    from benchmark.running.bare import announced
    from benchmark.running.files import unreadable

    for _line in unreadable(_ROOT):
        print(f"benchmark: {_line}", file=sys.stderr)
    if _line := announced(sys.argv, _ROOT):
        print(_line, file=sys.stderr)
