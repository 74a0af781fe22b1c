"""The memory of a process over one training run of each method, sampled from outside.

    python -m benchmark.memory_curve --out memory_curve.csv [--benchmark .] [--size 128]

Each solver plugin, at its defaults, trains in a process of its own on inpainted photographs under
``wavelet_l1``, without any evaluation, while memory_profiler samples the process's resident memory.
A method that fails is named and left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import torch

from benchmark import metering
from benchmark.checks import positive_integer

#: outer steps of the training run that is watched
STEPS = 5


def watch(name: str, *, benchmark: Path, size: int) -> list[tuple[float, float]]:
    """(seconds since training began, MiB above the process's memory at that moment) for a method.

    Raises RuntimeError where the training fails: the end of its error output.
    """
    marks = benchmark / "outputs"
    marks.mkdir(exist_ok=True)
    mark = marks / f".memory_curve_{name}.json"
    command = [sys.executable, "-m", "benchmark.memory_curve", "--benchmark", str(benchmark)]
    command += ["--size", str(size), "--train", name, "--out", str(mark)]
    try:
        samples = metering.memory_curve(command)
        span = json.loads(mark.read_text())
    finally:
        mark.unlink(missing_ok=True)
    inside = [(t, mib) for t, mib in samples if span["start"] <= t <= span["stop"]]
    return [(t - span["start"], mib - inside[0][1]) for t, mib in inside]


def train(name: str, *, benchmark: Path, size: int, mark: Path) -> None:
    """One training run, in this process; its start and stop go to ``mark``."""
    solver = solvers(benchmark)[name].get_instance(steps=STEPS)
    solver.set_objective(_task(size))
    solver.warm_up()
    start = metering.now()
    solver.run(lambda: True)
    outcome = solver.get_result()["training"]
    if not outcome.ok:
        raise SystemExit(f"{outcome.status}: {outcome.message}")
    mark.write_text(json.dumps({"start": start, "stop": metering.now()}))


def solvers(benchmark: Path) -> dict[str, type]:
    """The solver classes of a benchmark by name, as benchopt loads them."""
    from benchopt.benchmark import Benchmark

    return {cls.name: cls for cls in Benchmark(benchmark).get_solvers() if cls.is_installed()}


def _task(size: int):
    from benchmark.images import crops, photographs
    from benchmark.task import make_task

    train_images, test_images = (
        crops(photographs(split), number=4, size=size, seed=0) for split in ("train", "test")
    )
    task = make_task(
        train=train_images,
        test=test_images,
        degradation="inpainting(keep=0.5)",
        lower="wavelet_l1",
        probe_size=1,
        seed=0,
    )
    return task.to(device=metering.resolve_device("auto"), dtype=torch.float32)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the CSV: method, seconds, mib")
    parser.add_argument("--benchmark", type=Path, default=Path(), help="folder of objective.py")
    parser.add_argument("--size", type=int, default=128, help="side of the images, pixels")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    positive_integer("size", options.size)
    place = {"benchmark": options.benchmark.resolve(), "size": options.size}
    if options.train:
        train(options.train, **place, mark=options.out)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seconds", "mib"])
        for name in sorted(solvers(place["benchmark"])):
            try:
                curve = watch(name, **place)
            except RuntimeError as error:
                print(f"memory of {name}: left out: {str(error).splitlines()[-1]}", flush=True)
                continue
            writer.writerows([name, f"{t:.3f}", f"{mib:.2f}"] for t, mib in curve)
            print(f"memory of {name}: {len(curve)} samples", flush=True)


if __name__ == "__main__":
    main()
