"""Several texts in one: ``"lpips, mine.py(a=1, b=2)"`` holds two."""

from __future__ import annotations

import re

#: a comma or semicolon, what is in brackets or quotes (which is kept), anything else
_PARTS = re.compile(r"""(?P<between>[,;])|"[^"]*"|'[^']*'|\((?:[^()]|\([^()]*\))*\)|.""", re.DOTALL)


def listed(text: str | None) -> list[str]:
    """The texts between the commas or semicolons of ``text`` that are in no brackets or quotes.

    Examples
    --------
    >>> listed("lpips, mine.py(a=1, b=(2, 3)); deepinv.NIQE")
    ['lpips', 'mine.py(a=1, b=(2, 3))', 'deepinv.NIQE']
    >>> listed(None)
    []
    """
    found = [""]
    for part in _PARTS.finditer(text or ""):
        if part["between"]:
            found.append("")
        else:
            found[-1] += part[0]
    return [one.strip() for one in found if one.strip()]
