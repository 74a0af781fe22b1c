"""Short names of a study's runs: the parameters in which they differ, and no other."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.running.faults import one_line
from benchmark.running.outcome import Run
from benchmark.running.validation import Plan


def labels(plan: Plan) -> Callable[[Run], str]:
    """What to call a run of ``plan``: "Unrolling[layers=2] on Simulated"."""
    datasets, objectives, solvers = (
        _short(part.instances) for part in (plan.datasets, plan.objectives, plan.solvers)
    )

    def label(run: Run) -> str:
        task = datasets.get(run.dataset, run.dataset)
        if len(objectives) > 1:
            task += f", {objectives.get(run.objective, run.objective)}"
        return one_line(f"{solvers.get(run.solver, run.solver)} on {task}")

    return label


def _short(instances: list) -> dict[str, str]:
    """Short names by long ones."""
    by_class: dict[type, list] = {}
    for instance in instances:
        by_class.setdefault(type(instance), []).append(instance)
    return {
        str(instance): instance.name + _differing(instance, same)
        for same in by_class.values()
        for instance in same
    }


def _differing(instance: object, same: list) -> str:
    given = instance._parameters
    names = [
        name
        for name in sorted(given)
        if len({repr(other._parameters.get(name)) for other in same}) > 1
    ]
    return f"[{','.join(f'{name}={given[name]}' for name in names)}]" if names else ""
