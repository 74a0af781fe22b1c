"""What one hypergradient costs: seconds, memory, and both beside those of a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import torch

from benchmark.gradients.result import Hypergradient
from benchmark.measure import garbage, memory, timing
from benchmark.measure.counting import CountedProblem
from benchmark.problems.bilevel import Batch, BilevelTask, Images
from benchmark.problems.lower_level import LowerLevelProblem

#: seconds that the timing of one method may take, of which less than all where that is more than a
#: share of what its training took, but not less than a few rounds of short calls need
TIMING_BUDGET, TIMING_SHARE, LEAST_BUDGET = 5.0, 0.1, 0.5


def budget(training: float) -> float:
    """Seconds for the timing of a method that has trained for so many; 0: it has not, and the
    timing is what the run is for.
    """
    if training == 0:
        return TIMING_BUDGET
    return min(TIMING_BUDGET, max(LEAST_BUDGET, TIMING_SHARE * training))


@dataclass(frozen=True)
class Cost:
    """Of one hypergradient of the method on the probe.

    gradient_seconds : median over rounds; layer_seconds, vjp_seconds : one layer without a graph,
    one product with Jᵀ, timed in the same rounds; gradient_cost : the hypergradient in layers, the
    median of the ratios round by round; overhead : the hypergradient over the sum of its layers,
    with or without a graph, and products as timed alone, each in its precision: 1 where the
    method's own arithmetic, R_θ and ∇ℓ are free; overhead_low, overhead_high : the ends of a 95 %
    interval around it, from the rounds; contended : 1 where other processes disturbed the
    timing, 0 where not; peak_memory_mib : peak of live tensor bytes, deterministic,
    unknown of compiled layers, which do without what is counted; peak_device_mib : what the device,
    or the process, held more than before.
    """

    gradient_seconds: float = nan
    layer_seconds: float = nan
    vjp_seconds: float = nan
    gradient_cost: float = nan
    overhead: float = nan
    overhead_low: float = nan
    overhead_high: float = nan
    contended: float = nan
    peak_memory_mib: float = nan
    peak_device_mib: float = nan


@garbage.only_of_what_is_new()
def cost(
    estimate: Callable[[LowerLevelProblem, Images], Hypergradient],
    task: BilevelTask,
    counted: CountedProblem,
    *,
    budget: float,
) -> Cost:
    """Time and memory of one hypergradient on the probe, each in calls of its own that are not
    counted; ``counted`` has counted one. Timing takes ``budget`` seconds, or a little more.
    """
    batches = task.probe.parts
    device, dtype = batches[0].truth.device, batches[0].truth.dtype
    lower = counted.lower

    def hypergradient() -> object:
        return estimate(lower, task.probe)

    calls = {("gradient", dtype): hypergradient}
    for precision in {dtype, *counted.counts.by_dtype}:
        posed = lower if precision == dtype else lower.copied(torch.float64)
        single_calls = _single_calls(posed, task.probe.to(dtype=precision))
        calls |= {(name, precision): call for name, call in single_calls.items()}
    timings = timing.seconds(calls, device, budget=budget)
    gradient, single, product = (timings[n, dtype] for n in ("gradient", "layer", "product"))
    parts = [
        part
        for precision, count in counted.counts.by_dtype.items()
        for part in (
            (of_the_batch(number, batches), timings[call, precision])
            for number, call in (
                (count["layers"] - count["graphs"], "layer"),
                (count["graphs"], "graph"),
                (count["products"], "product"),
            )
        )
    ]
    low, high = timing.interval_of_ratio(gradient, *parts)
    return Cost(
        gradient_seconds=gradient.seconds,
        layer_seconds=single.seconds,
        vjp_seconds=product.seconds,
        gradient_cost=timing.ratio(gradient, single),
        overhead=timing.ratio_to_sum(gradient, *parts),
        overhead_low=low,
        overhead_high=high,
        contended=nan if gradient.contended is None else float(gradient.contended),
        peak_memory_mib=nan if lower.compiled else memory.live_memory(hypergradient),
        peak_device_mib=memory.device_memory(hypergradient, device),
    )


def of_the_batch(number: int, parts: Sequence[Batch]) -> float:
    """How many calls on a whole batch ``number`` calls on its parts are."""
    return number / len(parts) if len(parts) > 1 else number


def _single_calls(lower: LowerLevelProblem, batch: Images) -> dict[str, Callable[[], object]]:
    """One layer without a graph, one with it, one product with Jᵀ, of all of ``batch``."""
    of_each = [_single_calls_of_one(lower.at(part.operator), part) for part in batch.parts]
    return {name: lambda name=name: [calls[name]() for calls in of_each] for name in of_each[0]}


def _single_calls_of_one(lower: LowerLevelProblem, batch: Batch) -> dict[str, Callable[[], object]]:
    layer = lower.layer(batch.observation)
    # as methods call it: of a compiled layer, any other kind of call is another program
    state = lower.init(batch.observation).detach()
    x = state.clone().requires_grad_()
    image = layer(x)
    return {
        "layer": torch.no_grad()(lambda: layer(state)),
        "graph": lambda: layer(x),
        "product": lambda: torch.autograd.grad(
            image, x, image.detach(), retain_graph=True, allow_unused=True
        ),
    }
