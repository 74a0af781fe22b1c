"""Train the DRUNet on a folder of photographs; the same command takes an interrupted run up again.

    python -m benchmark.imaging.denoisers.training --images FOLDER --test FOLDER \\
        --state FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmark.imaging.denoisers.training.card import export
from benchmark.imaging.denoisers.training.data import photographs_of
from benchmark.imaging.denoisers.training.loop import CHECKPOINT_SECONDS, advance
from benchmark.imaging.denoisers.training.recipe import Recipe
from benchmark.imaging.denoisers.training.state import load


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, take up or start the run, write the weights and the model card."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.imaging.denoisers.training", description=__doc__.splitlines()[0]
    )
    folder = {"type": Path, "required": True, "metavar": "FOLDER"}
    parser.add_argument("--images", **folder, help="photographs to train on")
    parser.add_argument("--test", **folder, help="photographs of the model card, CBSD68")
    parser.add_argument("--state", **folder, help="where the run is kept, and taken up from")
    parser.add_argument("--out", **folder, help="where weights and model card are written")
    parser.add_argument("--validation", type=int, default=Recipe.validation, help="held out")
    parser.add_argument("--hours", type=float, default=8.0, help="budget, hours of processor time")
    parser.add_argument("--steps", type=int, help="budget in steps, instead of hours")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--amend", action="store_true", help="go on by another recipe, noted")
    parser.add_argument("--threads", type=int, help="torch's own choice unless given")
    parser.add_argument("--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS)
    parser.add_argument("--export", action="store_true", help="write the run as it is, no steps")
    parser.add_argument("--compared", type=Path, help="weights to measure beside it in the card")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    budget = (
        (options.hours * 3600, "seconds") if options.steps is None else (options.steps, "steps")
    )
    recipe = Recipe(*budget, seed=options.seed, validation=options.validation)
    run = load(recipe, options.state, amend=options.amend)
    print(f"step {run.step}, {run.seconds:.0f} s: {run.spent:.1%} of the budget spent", flush=True)
    if not options.export:
        advance(
            run,
            photographs_of(options.images),
            options.state,
            checkpoint_seconds=options.checkpoint_seconds,
        )
    export(run, options.test, options.out, options.compared)


if __name__ == "__main__":
    main()
