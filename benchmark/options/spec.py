"""Objects named by text: ``"inpainting(keep=0.5)"`` looked up in a table and called."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial

#: benchopt's command line turns every "=" into ":"
_OPTION = re.compile(r"([(,]\s*\w+)\s*:")


def choose(
    spec: str, table: Mapping[str, Callable], *, kind: str, given: Collection[str] = ()
) -> Callable:
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


def build(spec: str, table: Mapping[str, Callable], *, kind: str, **context: object) -> object:
    """``choose`` an entry and call it with ``context``."""
    return choose(spec, table, kind=kind, given=context)(**context)


def _parse(spec: str, *, kind: str) -> tuple[str, dict[str, object]]:
    expected = f"a {kind} is written name or name(option=value, …), got {spec!r}"
    try:
        node = ast.parse(_OPTION.sub(r"\1=", str(spec)), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            return node.func.id, {word.arg: ast.literal_eval(word.value) for word in node.keywords}
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(expected) from error
    raise ValueError(expected)
