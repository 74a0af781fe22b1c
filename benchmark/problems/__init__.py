"""The lower levels by name, one family of layers per file; a new file is a new family.

The file ``name.py`` ends in ``FAMILY = …``: what makes the layer, from the operator ``physics``,
its ``lipschitz`` constant, the ``image_shape`` and options of its own. It is imported when it is
asked for, so that a row depends on the file of its own family and on no other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from benchmark.options.spec import Kind
from benchmark.problems.brought import LOWER_LEVEL_FORM

_FOLDER = Path(__file__).parent


class _Families(Mapping[str, Callable[..., object]]):
    def __getitem__(self, name: str) -> Callable[..., object]:
        if name not in list(self):
            raise KeyError(name)
        return import_module(f"{__name__}.{name}").FAMILY

    def __iter__(self) -> Iterator[str]:
        files = sorted(_FOLDER.glob("*.py"))
        return (f.stem for f in files if "\nFAMILY = " in f.read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


LOWER_LEVELS: Mapping[str, Callable[..., object]] = _Families()

LOWER_LEVEL: Kind = Kind("lower level", LOWER_LEVELS, form=LOWER_LEVEL_FORM)
