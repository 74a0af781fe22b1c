"""What the figures of a report are called on a page, and what is said below each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from benchmark.report.figures import accuracy, gradient_error, memory, memory_over_time, time
from benchmark.report.learned import learned
from benchmark.report.pictures import reconstructions
from benchmark.report.profiles import pareto, performance
from benchmark.report.scaling import scaling

#: the kinds of figures: drawn of each task by itself, and once of all
OF_A_TASK = {f.__name__: f for f in (accuracy, gradient_error, pareto, learned, reconstructions)}
OF_ALL = {f.__name__: f for f in (time, memory, scaling, performance, memory_over_time)}
KINDS = OF_A_TASK | OF_ALL


def captioned(kind: str) -> tuple[str, str]:
    """Title and caption of a kind of figure, or of the kind it is a variant of; else its name.

    They are the first two paragraphs of the docstring of what draws it.
    """
    known = [name for name in KINDS if f"{kind}_".startswith(f"{name}_")]
    if not known:
        return kind, ""
    base = max(known, key=len)
    title, caption, *_ = inspect.getdoc(KINDS[base]).split("\n\n")
    variant = kind.removeprefix(base).strip("_").replace("_", " ")
    return f"{title} ({variant})" if variant else title, caption.replace("\n", " ")


def kind_and_task(name: str, *, tasks: Mapping[str, str]) -> tuple[str, str | None]:
    """``accuracy_wavelet_l1_inpainting`` → (``accuracy``, that task); no task: (name, None)."""
    if name not in KINDS:
        for task, short in sorted(tasks.items(), key=lambda item: -len(item[1])):
            kind, found, rest = name.partition(f"_{short}")
            if found and kind and (not rest or rest.startswith("_")):
                return kind + rest, task
    return name, None
