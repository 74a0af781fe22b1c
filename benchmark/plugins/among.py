"""A step shared among processes: each takes some of its images, all make the same step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan, nan

import torch
import torch.distributed as dist
from torch import Tensor

from benchmark.gradients.result import Hypergradient
from benchmark.measure.failure import DivergedError, Outcome, attempt
from benchmark.problems.bilevel import Images, StreamedBatch


def mean_among(
    estimate: Callable[[Images], Hypergradient], batch: Images, theta: list[Tensor]
) -> Hypergradient:
    """That of ``estimate`` over all images of ``batch``, of which each process of torch's default
    group takes some; all have the same θ, optimizer and order of mini-batches, and get the same.

    Training image i is always process i modulo n's, so that what is carried over of it is there. θ
    is that of one process, to rounding. State and adjoint are those of a process's own share. What
    fails in one process is raised in all, with its number. Cost: that of the largest share; two
    sums over the processes, of a flag and of as many numbers in float64 as θ has, and a maximum.
    """
    me, number = dist.get_rank(), dist.get_world_size()
    index = batch.index or range(len(batch))
    rows = [k for k, i in enumerate(index) if i % number == me]
    chosen = rows or [0]  # what weighs nothing, so that its counters are those of the others
    share = batch.only(chosen) if isinstance(batch, StreamedBatch) else batch[chosen]
    outcome = attempt(lambda: estimate(share))
    failed = torch.tensor(float(not outcome.ok), device=theta[0].device)
    dist.all_reduce(failed)
    if failed:
        _raise_together(outcome)
    return _mean(outcome.value, len(rows) / len(batch), theta)


def _mean(found: Hypergradient, weight: float, theta: list[Tensor]) -> Hypergradient:
    """Σ over processes of ``weight`` times loss and gradient, and the largest of the residuals."""
    device = theta[0].device
    numbers = [found.loss.detach(), *found.gradient]
    flat = torch.cat([_real(t).double().flatten().to(device) for t in numbers]) * weight
    dist.all_reduce(flat)
    worst = [found.state_residual, found.adjoint_residual, found.error]
    residuals = torch.tensor([-inf if isnan(r) else r for r in worst], device=device)
    dist.all_reduce(residuals, op=dist.ReduceOp.MAX)
    loss, *parts = flat.split([1, *(_real(p).numel() for p in theta)])
    known = [nan if r == -inf else r for r in residuals.tolist()]
    return replace(
        found,
        loss=loss[0].to(theta[0].real.dtype),
        gradient=tuple(
            _like(part, parameter) for part, parameter in zip(parts, theta, strict=True)
        ),
        state_residual=known[0],
        adjoint_residual=known[1],
        error=known[2],
    )


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()


def _like(flat: Tensor, parameter: Tensor) -> Tensor:
    shaped = flat.view(_real(parameter).shape)
    whole = torch.view_as_complex(shaped) if parameter.is_complex() else shaped
    return whole.to(parameter.dtype)


def _raise_together(outcome: Outcome) -> None:
    """Raise, in each process, what has failed in one."""
    said: list[tuple[str, str]] = [("", "")] * dist.get_world_size()
    dist.all_gather_object(said, (outcome.status, outcome.message))
    k, status, message = next((k, *one) for k, one in enumerate(said) if one[0] != "ok")
    kinds = {"diverged": DivergedError, "oom": MemoryError}
    raise kinds.get(status, RuntimeError)(f"in process {k} of {len(said)}: {message}")
