"""What a training run does: every choice of it in one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmark.options.checks import (
    fraction,
    nonnegative_integer,
    nonnegative_number,
    one_of,
    positive_integer,
    positive_number,
    strictly_between,
)

UNITS = {"seconds": "processor seconds of training", "steps": "steps"}


@dataclass(frozen=True)
class Recipe:
    """Adam on crops with noise, its schedule a function of the fraction f of the budget spent.

    Mean absolute error of D(x̄ + σn, σ), σ uniform in [0, ``largest_noise_level``], images in
    [0, 1], on ``crops`` crops of ``size``² pixels a step, in bfloat16 where ``bfloat16`` says so.
    From f = 1 − ``penalised`` on, in float32, plus ``penalty`` times the mean of
    max(‖2J_D − I‖ − 1, 0)² over the first ``penalised_crops`` crops. Learning rate
    ``learning_rate``·(c + (1 − c)(1 + cos πf)/2), c = 1/100, after ``warmup`` steps of linear
    growth; gradients clipped to the norm ``clip``; weights averaged with the factor ``average``.

    channels : of the four scales of the network.
    budget, unit : when it ends, in processor seconds of its steps ("seconds") or in "steps".
    scales : copies of a photograph that crops are drawn from, alike; 1 is the photograph itself.
    validation : how many of the photographs, evenly spread in the order of their names, are held
        out of the training.
    """

    budget: float
    unit: str = "seconds"
    channels: tuple[int, int, int, int] = (32, 64, 128, 128)
    seed: int = 0
    crops: int = 8
    size: int = 64
    scales: tuple[float, ...] = (1.0, 1.0, 0.75, 0.5)
    validation: int = 10
    largest_noise_level: float = 0.25
    learning_rate: float = 1e-3
    warmup: int = 200
    clip: float = 0.1
    average: float = 0.999
    bfloat16: bool = True
    penalised: float = 0.2
    penalised_crops: int = 4
    penalty: float = 0.1

    def __post_init__(self) -> None:
        positive_number("budget", self.budget)
        one_of("unit", self.unit, UNITS)
        nonnegative_integer("seed", self.seed)
        for name in ("crops", "size", "validation", "warmup", "penalised_crops"):
            positive_integer(name, getattr(self, name))
        if self.size % 8:
            raise ValueError(f"size must be a multiple of 8, got {self.size}")
        for scale in self.scales:
            fraction("each of scales", scale)
        for name in ("largest_noise_level", "learning_rate", "clip"):
            positive_number(name, getattr(self, name))
        strictly_between("average", self.average, low=0, high=1)
        fraction("penalised", self.penalised)
        nonnegative_number("penalty", self.penalty)

    def spent(self, step: int, seconds: float) -> float:
        """f, the fraction of the budget spent after ``step`` steps that took ``seconds``."""
        return (seconds if self.unit == "seconds" else step) / self.budget

    def learning_rate_at(self, step: int, spent: float) -> float:
        """The learning rate of the step that comes after ``step`` steps, at f = ``spent``."""
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * min(spent, 1.0))) / 2
        return self.learning_rate * cosine * min(1.0, (step + 1) / self.warmup)

    def is_penalised(self, spent: float) -> bool:
        """Whether the steps at f = ``spent`` have the penalty."""
        return spent >= 1 - self.penalised
