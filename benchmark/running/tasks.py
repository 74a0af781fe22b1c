"""The tasks of a study, each made once with few images: one that cannot be made stops it here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence

from benchopt.utils.run_context import RunContext

from benchmark.running.faults import LONGEST, one_line, said

#: an image is kept as it is and as observed, exactly, in the dtype of the run and for the reference
COPIES = 6


def faults_of_tasks(datasets: Sequence, objectives: Sequence, *, seed: int) -> list[str]:
    """Why a task of these datasets and objectives cannot be made, or would not fit into memory.

    ``Objective.skip`` is asked, as benchopt asks it, but with no more training images than the
    largest probe and one test image. Cost: one operator, its norm and two layers for each task.
    """
    faults = list(_faults_of_memory(datasets))
    if faults:
        return faults
    reasons: dict[str, list[str]] = {}
    for dataset in datasets:
        data, fault = _data(_smaller(dataset, objectives), seed)
        if fault:
            faults.append(f"{dataset}: {fault}")
            continue
        for objective in objectives:
            reason = _reason(objective, data)
            hidden = reason and _reason(objective, data | _PLAIN) if "degradation" in data else ""
            for each in {reason, hidden} - {""}:
                task = f"{one_line(objective, longest=90)} on {one_line(dataset, longest=90)}"
                reasons.setdefault(each, []).append(task)
    return faults + [_told(reason, tasks) for reason, tasks in reasons.items()]


#: with it a task shows the faults that are not the degradation's
_PLAIN = {"degradation": "denoising(sigma=0.1)"}


def _told(reason: str, tasks: Sequence[str]) -> str:
    others = f", and of {len(tasks) - 1} more" if len(tasks) > 1 else ""
    task = f" (the task of {tasks[0]}{others})"
    return one_line(reason, longest=max(40, LONGEST - len(task))) + task


def bytes_of_images(dataset) -> int:
    """What the images of a dataset with ``n_train``, ``n_test`` and ``size`` take; 0 for others."""
    numbers = [getattr(dataset, name, None) for name in ("n_train", "n_test", "size")]
    if not all(isinstance(number, int) for number in numbers):
        return 0
    n_train, n_test, size = numbers
    return COPIES * 8 * 3 * size**2 * (n_train + n_test)


def memory_of_machine() -> int:
    """Bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _faults_of_memory(datasets: Sequence) -> Iterator[str]:
    there = memory_of_machine()
    for dataset in datasets:
        needed = bytes_of_images(dataset)
        if needed > there:
            yield (
                f"{dataset} needs about {needed / 2**30:.0f} GiB for its images: this machine has "
                f"{there / 2**30:.0f} GiB"
            )


def _smaller(dataset, objectives: Sequence):
    """The same dataset, with as many images as it takes to make a task."""
    probe = max((getattr(objective, "probe_size", 1) for objective in objectives), default=1)
    few = {"n_train": probe, "n_test": 1}
    values = dict(dataset._parameters)
    for name, number in few.items():
        if isinstance(values.get(name), int):
            values[name] = min(values[name], number)
    return type(dataset).get_instance(**values)


def _data(dataset, seed: int) -> tuple[dict, str]:
    """What the dataset gives, or why it gives nothing."""
    RunContext().set_run_context("any", dataset, "any", repetition=0, base_seed=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will say the same
            data = dataset.get_data()
    except (Exception, SystemExit) as error:
        return {}, said(error)
    if not isinstance(data, dict):
        return {}, f"get_data must return a dict, got {type(data).__name__}"
    if data.get("unavailable"):
        return {}, one_line(data["unavailable"])
    return data, ""


def _reason(objective, data: dict) -> str:
    """Why the objective skips the data, or ""."""
    again = type(objective).get_instance(**objective._parameters)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            skip, reason = again.skip(**data)
    except (Exception, SystemExit) as error:
        return said(error)
    return one_line(reason or "it is skipped, without a reason") if skip else ""
