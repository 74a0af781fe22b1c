"""What is wrong with a study that was asked for: one line for each fault."""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.options.checks import nearest

#: characters of a line, so that no value that was typed fills the screen
LONGEST = 400


class InvalidStudyError(Exception):
    """A study that cannot be run as asked: ``faults`` holds a line for each reason."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(dict.fromkeys(one_line(fault) for fault in faults))
        super().__init__("\n".join(self.faults))


def one_line(text: object, longest: int = LONGEST) -> str:
    """``text`` on one line, spaces for what separates its lines, cut where it is ``longest``."""
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[: longest - 2]} …"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The line for a name that is none of ``known``, with the nearest of them or all."""
    known = sorted(known, key=str.lower)
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"expected one of {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}: {hint}"


def said(error: BaseException) -> str:
    """What an exception says; its kind where it says nothing, or is not about a value."""
    text = one_line(error)
    if isinstance(error, (ValueError, FileNotFoundError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
