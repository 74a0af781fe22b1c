"""What produced a row: the sources, the library, the device."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def sources_digest() -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the package's Python files and weights.

    ``benchmark/report`` is left out: it reads results and cannot change them.
    """
    sha = hashlib.sha256()
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.safetensors")]):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] != "report":
            sha.update(relative.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()[:12]
