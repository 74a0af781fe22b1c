"""Objects named by text: ``"mask(keep=0.5)"``, ``"deepinv.TVDenoiser"``, ``"mine.py(a=1)"``."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Generic, TypeVar

from benchmark.options.brought import FileError, entry_of, error_line, placed
from benchmark.options.checks import nearest, shown

T = TypeVar("T")

_PACKAGE = f"{__name__.partition('.')[0]}."

#: a file's name or path, and the options after it
_FILE = re.compile(r"\s*(?P<path>[^()]+\.py)\s*(?P<options>\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a text can name: an entry of the package, one of a library, or one that a file holds.

    ``"name"`` or ``"name(keyword=literal, …)"``, where the name is a key of ``entries``; a key of
    ``libraries``, a dot and a public name of one of its modules; or the path of a Python file, from
    the working directory, that defines one function or class (``benchmark.options.brought``). A
    file ``NAME.py`` in the ``folder`` of its kind, in the working directory or beside the package,
    is ``NAME`` for short.

    Parameters
    ----------
    name : what an entry is, in words ("degradation"), for the messages.
    entries : those of the package.
    libraries : by prefix, the modules that are looked into.
    form : what a file of this kind defines, in words, for the messages.

    Examples
    --------
    >>> table = {"rounded": lambda x, digits: round(x, digits)}
    >>> rounding = Kind("rounding", table, {"m": ["math"]})
    >>> rounding.build("rounded(digits=1)", x=2.47)
    2.5
    >>> rounding.build("m.floor", x=2.47)
    Traceback (most recent call last):
    ValueError: rounding 'm.floor': TypeError: math.floor() takes exactly one argument (0 given)
    >>> rounding.choose("round")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown rounding 'round': expected one of rounded, m.NAME or FILE.py: did you ...
    """

    name: str
    entries: Mapping[str, Callable[..., T]]
    libraries: Mapping[str, Collection[str]] = field(default_factory=dict)
    form: str = "one public function or class"

    @property
    def folder(self) -> str:
        """Where files of this kind are looked for: "degradations"."""
        return self.name.replace(" ", "_") + ("es" if self.name.endswith("s") else "s")

    def choose(
        self, spec: str, *, given: Collection[str] = (), also: Collection[str] = ()
    ) -> partial[T]:
        """The entry that ``spec`` names, with the keywords that it gives bound to it.

        given : names of the arguments that the caller supplies, which ``spec`` may not give;
        also : of options that ``spec`` may give to any entry, for the caller to take out.

        Raises ValueError where ``spec`` is not of the form, or a name or a keyword is not known.
        """
        name, options = self.parsed(spec)
        entry = self._find(name)
        accepted, open_ended = _keywords(entry)
        for key in options:
            if key in given or not (key in accepted or key in also or open_ended):
                known = [k for k in (*accepted, *also) if k not in given]
                raise ValueError(no_option(self.name, name, key, spec, known))
        return partial(entry, **options)

    def build(self, spec: str, **context: object) -> T:
        """``choose`` an entry and ``call`` it."""
        return self.call(self.choose(spec, given=context), spec, **context)

    def call(self, chosen: partial[T], spec: str, **context: object) -> T:
        """What ``choose`` made of ``spec``, called with what the entry takes of ``context``.

        Errors are the entry's own; where it is not of the package, any is a ValueError that names
        it.
        """
        accepted, _ = _keywords(chosen.func)
        taken = {name: value for name, value in context.items() if name in accepted}
        if self.has(chosen):
            return chosen(**taken)
        try:
            return chosen(**taken)
        except Exception as error:
            raise ValueError(f"{self.name} {spec!r}: {error_line(error)}") from error

    def has(self, called: Callable[..., Any]) -> bool:
        """Whether ``called`` was written in this package, options bound to it or not."""
        module = getattr(getattr(called, "func", called), "__module__", None) or ""
        return module.startswith(_PACKAGE)

    def _find(self, name: str) -> Callable[..., T]:
        if name in self.entries:
            return self.entries[name]
        file = name if name.endswith(".py") else placed(self.folder, f"{name}.py")
        if file is not None:
            try:
                return entry_of(file)
            except FileError as error:
                raise ValueError(f"{self.name} {error}: expected {self.form}") from error
        prefix, _, attribute = name.partition(".")
        for module in self.libraries.get(prefix, ()):
            found = getattr(_imported(module, self.name, name), attribute, None)
            if callable(found) and not attribute.startswith("_"):
                entry: Callable[..., T] = found
                return entry
        places = [*sorted(self.entries), *(f"{prefix}.NAME" for prefix in self.libraries)]
        raise ValueError(
            f"unknown {self.name} {shown(name)}: expected one of {', '.join(places)} or FILE.py"
            + _hint(name, self._known(prefix))
        )

    def _known(self, prefix: str) -> list[str]:
        modules = [import_module(m) for m in self.libraries.get(prefix, ())]
        public = [f"{prefix}.{n}" for m in modules for n in vars(m) if not n.startswith("_")]
        return [*self.entries, *public]

    def parsed(self, spec: str) -> tuple[str, dict[str, object]]:
        """The name and the options in ``spec``; ValueError, with the form that it should have."""
        text = str(spec)
        article = "an" if self.name[0] in "aeiou" else "a"
        form = "is written name or name(option=value, …)"
        expected = f"{article} {self.name} {form}, got {shown(spec)}"
        file = _FILE.fullmatch(text)
        if file is not None:
            text = f"file{file['options'] or ''}"
        name, texts = split_call(text)
        if not re.fullmatch(r"[\w.]+", name) or not all(key.isidentifier() for key in texts):
            raise ValueError(expected)
        try:
            options = {key: ast.literal_eval(value) for key, value in texts.items()}
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(expected) from error
        return (file["path"].strip() if file else name), options


def no_option(what: str, name: str, key: str, spec: str, known: Collection[str]) -> str:
    """The line for an option that the ``what`` called ``name`` does not have."""
    return (
        f"{what} {name!r} has no option {key!r} (in {shown(spec)}): "
        f"expected one of {', '.join(known) or 'none'}{_hint(key, known)}"
    )


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


def described(named: str | Callable[..., Any]) -> str:
    """What a text or a function is called in messages.

    Examples
    --------
    >>> described("mine.py(depth=3)"), described(len)
    ("'mine.py(depth=3)'", 'len')
    """
    return repr(named) if isinstance(named, str) else getattr(named, "__qualname__", repr(named))


def _keywords(entry: Callable[..., Any]) -> tuple[list[str], bool]:
    """The keywords that ``entry`` declares, and whether it takes any other."""
    try:
        parameters = inspect.signature(entry).parameters.values()
    except ValueError:  # some of C have none
        return [], False
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _imported(module: str, kind: str, name: str) -> object:
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{kind} {name!r} needs a package that is not there: {error}") from error


def _hint(name: str, known: Collection[str]) -> str:
    near = nearest(name, known)
    return f": did you mean {near}?" if near else ""
