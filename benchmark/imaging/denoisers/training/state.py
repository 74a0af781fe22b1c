"""A training run that can be put on disk and taken up again: one safetensors file, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmark.imaging.denoisers.small_drunet import SmallDRUNet
from benchmark.imaging.denoisers.training.recipe import Recipe
from benchmark.options.whole import whole

STATE = "state.safetensors"
#: what Adam remembers of each weight
MOMENTS = ("exp_avg", "exp_avg_sq")
#: what is put on disk of the progress
PROGRESS = ("step", "seconds", "growth", "amendments")
#: choices that a run which has begun cannot change
FIXED = ("channels", "seed", "validation", "unit")


@dataclass
class Run:
    """The network, its averaged copy, Adam, the generator of crops and noise, and the progress.

    step : steps done; seconds : processor seconds that they took; growth : one record for each
    validation, see ``training.loop``; amendments : {"step", "changed": {name: [before, after]}}
    for each change of the recipe on the way.
    """

    recipe: Recipe
    network: SmallDRUNet
    average: SmallDRUNet
    optimizer: torch.optim.Adam
    generator: torch.Generator
    step: int = 0
    seconds: float = 0.0
    growth: list[dict] = field(default_factory=list)
    amendments: list[dict] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """The fraction of the budget spent."""
        return self.recipe.spent(self.step, self.seconds)


def new_run(recipe: Recipe) -> Run:
    """The run before its first step, weights drawn from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network, average = (SmallDRUNet(recipe.channels) for _ in range(2))
    average.load_state_dict(network.state_dict())
    network, average = (n.to(memory_format=torch.channels_last) for n in (network, average))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    generator = torch.Generator().manual_seed(recipe.seed)
    return Run(recipe, network, average.requires_grad_(False), optimizer, generator)


def save(run: Run, folder: Path) -> None:
    """Write the run into ``folder``; what was there stays whole until the new file is."""
    tensors = {"generator": run.generator.get_state()}
    for name, parameter in run.network.named_parameters():
        tensors[f"network.{name}"] = parameter.detach()
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = run.optimizer.state[parameter][moment]
    tensors |= {f"average.{name}": weight for name, weight in run.average.named_parameters()}
    record = {"recipe": asdict(run.recipe), **{name: getattr(run, name) for name in PROGRESS}}
    with whole(folder / STATE) as unfinished:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            unfinished,
            metadata={"run": json.dumps(record)},
        )
    with whole(folder / "progress.json") as unfinished:
        unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")


def load(recipe: Recipe, folder: Path, *, amend: bool = False) -> Run:
    """The run of ``folder`` as it was saved, or a new one where there is none.

    amend : go on by ``recipe`` where the saved run followed another, and remember what changed.
    Raises ValueError where it followed another and ``amend`` is false, or one of FIXED differs.
    """
    run = new_run(recipe)
    if not (folder / STATE).is_file():
        return run
    with safe_open(folder / STATE, framework="pt") as file:
        record = json.loads(file.metadata()["run"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in PROGRESS:
        setattr(run, name, record.get(name, getattr(run, name)))
    _amend(run, record["recipe"], folder, allowed=amend)
    run.generator.set_state(tensors["generator"])
    with torch.no_grad():
        for name, parameter in run.network.named_parameters():
            parameter.copy_(tensors[f"network.{name}"])
            moments = {m: _copy_like(parameter, tensors[f"{m}.{name}"]) for m in MOMENTS}
            # counting the steps that were left out as well, by then without consequence
            run.optimizer.state[parameter] = {"step": torch.tensor(float(run.step)), **moments}
        for name, weight in run.average.named_parameters():
            weight.copy_(tensors[f"average.{name}"])
    return run


def _amend(run: Run, saved: dict, folder: Path, *, allowed: bool) -> None:
    """Enter into ``run.amendments`` where its recipe differs from the ``saved`` one."""
    asked = json.loads(json.dumps(asdict(run.recipe)))
    changed = {n: [saved.get(n), asked[n]] for n in asked if saved.get(n) != asked[n]}
    for name, (before, after) in changed.items():
        if name in FIXED or not allowed:
            raise ValueError(
                f"the run in {folder} has {name} = {before!r}, expected the same, got {after!r}: "
                + ("a run that has begun keeps it" if name in FIXED else "amend it (--amend)")
                + ", or name another folder for another run"
            )
    if changed:
        run.amendments.append({"step": run.step, "changed": changed})


def _copy_like(parameter: Tensor, values: Tensor) -> Tensor:
    # in the memory layout of the parameter, as Adam makes them
    return torch.empty_like(parameter).copy_(values)
