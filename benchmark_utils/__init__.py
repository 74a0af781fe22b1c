"""Makes this clone's package importable, installed or not: benchopt imports this folder first.

The clone's own ``benchmark`` comes before one that is installed from elsewhere.
"""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path[:1]:
    sys.path.insert(0, _ROOT)
