"""Objects named by text: ``"inpainting(keep=0.5)"`` looked up in a table and called."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

T = TypeVar("T")


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


def split_call(text: str) -> tuple[str, dict[str, str]]:
    """``name(a=1, b=f(c=2))`` or ``name[a:1]``: the name, and the text of each argument.

    Benchopt's names of runs are of the second form, their text without quotes. What is not of
    either form, or gives an argument twice, is all name.

    Examples
    --------
    >>> split_call("A[lower=b(c=1,d=(2, 3)),size:4]")
    ('A', {'lower': 'b(c=1,d=(2, 3))', 'size': '4'})
    """
    match = re.fullmatch(r"\s*([^\[(]+)[\[(](.*)[\])]\s*", text, flags=re.DOTALL)
    if match is None:
        return text.strip(), {}
    pieces, depth, quote = [""], 0, ""
    for character in match[2]:
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        depth += 0 if quote else (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and not quote:
            pieces.append("")
        else:
            pieces[-1] += character
    pairs = [re.split("[=:]", piece, maxsplit=1) for piece in pieces if piece.strip()]
    found = {key.strip(): "".join(value).strip() for key, *value in pairs}
    return (match[1].strip(), found) if len(found) == len(pairs) else (text.strip(), {})


def _parse(spec: str, *, kind: str) -> tuple[str, dict[str, object]]:
    """The name and the options in ``spec``; ValueError, with the form that it should have."""
    expected = f"a {kind} is written name or name(option=value, …), got {spec!r}"
    name, texts = split_call(str(spec))
    if not all(word.isidentifier() for word in (name, *texts)):
        raise ValueError(expected)
    try:
        return name, {key: ast.literal_eval(text) for key, text in texts.items()}
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(expected) from error
