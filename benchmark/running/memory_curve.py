"""The memory of a process over one training run of each method, sampled from outside.

    python -m benchmark.running.memory_curve --out memory_curve.csv [--config FILE] [--size 128]

Each solver plugin at its defaults, or those of a configuration of benchopt at the first of the
values given there, trains in a process of its own on inpainted photographs under ``wavelet_l1``,
without any evaluation, while memory_profiler samples the process's resident memory. A method that
fails is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import torch
import yaml
from benchopt import BaseSolver
from benchopt.utils.parametrized_name_mixin import product_param

from benchmark.measure import curve
from benchmark.measure.device import resolve_device
from benchmark.options.checks import positive_integer
from benchmark.problems.bilevel import BilevelTask

#: outer steps of the training run that is watched
STEPS = 5


def watch(
    name: str, parameters: dict[str, object], *, benchmark: Path, size: int
) -> list[tuple[float, float]]:
    """(seconds since training began, MiB above the process's memory at that moment) for a method.

    Raises RuntimeError where the training fails: the end of its error output.
    """
    marks = benchmark / "outputs"
    marks.mkdir(exist_ok=True)
    mark = marks / f".memory_curve_{name}.json"
    command = [
        sys.executable,
        "-m",
        "benchmark.running.memory_curve",
        "--benchmark",
        str(benchmark),
    ]
    command += ["--size", str(size), "--train", name, json.dumps(parameters), "--out", str(mark)]
    try:
        samples = curve.memory_curve(command)
        span = json.loads(mark.read_text())
    finally:
        mark.unlink(missing_ok=True)
    inside = [(t, mib) for t, mib in samples if span["start"] <= t <= span["stop"]]
    return [(t - span["start"], mib - inside[0][1]) for t, mib in inside]


def train(
    name: str, parameters: dict[str, object], *, benchmark: Path, size: int, mark: Path
) -> None:
    """One training run, in this process; its start and stop go to ``mark``."""
    solver = solvers(benchmark)[name].get_instance(**parameters | {"steps": STEPS})
    solver.set_objective(_task(size))
    solver.warm_up()
    start = curve.now()
    solver.run(lambda: True)
    outcome = solver.get_result()["training"]
    if not outcome.ok:
        raise SystemExit(f"{outcome.status}: {outcome.message}")
    mark.write_text(json.dumps({"start": start, "stop": curve.now()}))


def solvers(benchmark: Path) -> dict[str, type[BaseSolver]]:
    """The solver classes of a benchmark by name, as benchopt loads them."""
    from benchopt.benchmark import Benchmark

    return {cls.name: cls for cls in Benchmark(benchmark).get_solvers()}


def configured(config: Path) -> dict[str, dict[str, object]]:
    """The solvers of a configuration of benchopt by name, each parameter at its first value.

    Raises ValueError naming the file where it lists no solvers, or one that is not a mapping.
    """
    try:
        entries = (yaml.safe_load(config.read_text()) or {}).get("solver")
    except yaml.YAMLError as error:
        raise ValueError(f"{config}: not YAML ({str(error).splitlines()[0]})") from error
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{config}: expected solvers as mappings of their parameters")
    return {
        name: next(iter(product_param(parameters or {})))
        for entry in reversed(entries)
        for name, parameters in entry.items()
    }


def _task(size: int) -> BilevelTask:
    from benchmark.imaging.images import crops
    from benchmark.imaging.photographs import photographs
    from benchmark.plugins.task import make_task

    train_images, test_images = (
        crops(photographs(split, 4), number=4, size=size, seed=0) for split in ("train", "test")
    )
    task = make_task(
        train=train_images,
        test=test_images,
        degradation="inpainting(keep=0.5)",
        lower="wavelet_l1",
        probe_size=1,
        seed=0,
    )
    return task.to(device=resolve_device("auto"), dtype=torch.float32)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV: method, seconds, mib")
    parser.add_argument("--benchmark", type=Path, default=Path(), help="folder of objective.py")
    parser.add_argument("--size", type=int, default=128, help="side of the images, pixels")
    parser.add_argument("--config", type=Path, help="take the solvers of this configuration")
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    positive_integer("size", options.size)
    place = {"benchmark": options.benchmark.resolve(), "size": options.size}
    if options.train:
        name, parameters = options.train
        train(name, json.loads(parameters), **place, mark=options.out)
        return
    known = solvers(place["benchmark"])
    try:
        chosen = configured(options.config) if options.config else {name: {} for name in known}
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if unknown := sorted(chosen.keys() - known.keys()):
        parser.error(f"no solver {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seconds", "mib"])
        for name in sorted(chosen):
            if not known[name].is_installed():
                print(f"memory of {name}: left out: a library that it needs is absent", flush=True)
                continue
            try:
                samples = watch(name, chosen[name], **place)
            except RuntimeError as error:
                print(f"memory of {name}: left out: {str(error).splitlines()[-1]}", flush=True)
                continue
            writer.writerows([name, f"{t:.3f}", f"{mib:.2f}"] for t, mib in samples)
            print(f"memory of {name}: {len(samples)} samples", flush=True)


if __name__ == "__main__":
    main()
