"""Objects named by text: ``"inpainting(keep=0.5)"`` looked up in a table and called."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

T = TypeVar("T")

#: benchopt's command line turns every "=" into ":"
_OPTION = re.compile(r"([(,]\s*\w+)\s*:")


def choose(
    spec: str, table: Mapping[str, Callable[..., T]], *, kind: str, given: Collection[str] = ()
) -> Callable[..., T]:
    """The entry of ``table`` that ``spec`` names, with the keywords that it gives bound to it.

    Parameters
    ----------
    spec : ``"name"`` or ``"name(keyword=literal, …)"``. The keywords are those that the entry
        declares and that are not in ``given``.
    table : the entries by name.
    kind : what an entry is, in words ("degradation"), for the messages.
    given : names of the arguments that the caller supplies to whichever entry is named.

    Raises
    ------
    ValueError
        Not of that form, unknown name, unknown keyword: names the value and what was expected.

    Examples
    --------
    >>> table = {"rounded": lambda x, digits: round(x, digits)}
    >>> choose("rounded(digits=1)", table, kind="operation", given=["x"])(2.47)
    2.5
    >>> choose("squared", table, kind="operation")
    Traceback (most recent call last):
    ValueError: unknown operation 'squared': expected one of rounded
    """
    name, options = _parse(spec, kind=kind)
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}: expected one of {', '.join(sorted(table))}")
    accepted = [key for key in inspect.signature(table[name]).parameters if key not in given]
    for key in options:
        if key not in accepted:
            raise ValueError(
                f"{kind} {name!r} has no option {key!r} (in {spec!r}): "
                f"expected one of {', '.join(accepted) or 'none'}"
            )
    return partial(table[name], **options)


def build(spec: str, table: Mapping[str, Callable[..., T]], *, kind: str, **context: object) -> T:
    """``choose`` an entry and call it with ``context``, whose names ``spec`` may not give.

    Errors are those of ``choose``, and the entry's own.

    Examples
    --------
    >>> build("pair(keep=0.5)", {"pair": lambda keep, seed: (keep, seed)}, kind="mask", seed=3)
    (0.5, 3)
    """
    return choose(spec, table, kind=kind, given=context)(**context)


def _parse(spec: str, *, kind: str) -> tuple[str, dict[str, object]]:
    """The name and the options in ``spec``; ValueError, with the form that it should have."""
    expected = f"a {kind} is written name or name(option=value, …), got {spec!r}"
    try:
        node = ast.parse(_OPTION.sub(r"\1=", str(spec)), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            options = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
            named = {name: value for name, value in options.items() if name is not None}
            if len(named) == len(options):
                return node.func.id, named
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(expected) from error
    raise ValueError(expected)
