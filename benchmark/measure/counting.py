"""How often a layer was applied and differentiated: the cost that no machine changes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Layer
from benchmark.solve.functions import Function


class Counts:
    """Applications of T, those of them that kept a graph, and products with its Jacobian
    transposed, so far: ``by_dtype[dtype]["layers" | "graphs" | "products"]``.
    """

    def __init__(self) -> None:
        self.by_dtype: defaultdict[torch.dtype, Counter[str]] = defaultdict(Counter)

    def add(self, what: str, x: Tensor) -> None:
        """One more, in the dtype of ``x``."""
        self.by_dtype[x.dtype][what] += 1

    def total(self, what: str) -> int:
        """Over all dtypes."""
        return sum(counter[what] for counter in self.by_dtype.values())

    def state(self) -> dict[str, dict[str, int]]:
        """All numbers, by the name of the dtype; ``restore`` is the inverse."""
        return {str(d).removeprefix("torch."): dict(c) for d, c in self.by_dtype.items()}

    def restore(self, state: Mapping[str, Mapping[str, int]]) -> None:
        """Count on from what ``state`` gave."""
        self.by_dtype.clear()
        for name, numbers in state.items():
            self.by_dtype[getattr(torch, name)].update(numbers)


class _Tick(Function):
    """The identity, whose backward pass counts as a product."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Counts) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.counts = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts.add("products", gradient)
        # where the backward pass is differentiated in turn: a product with J
        return _TickOfTick.apply(gradient, ctx.counts), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        return tangent.view_as(tangent)


class _TickOfTick(Function):
    """The identity, whose backward pass counts as a layer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Counts) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.counts = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counts.add("layers", gradient)
        return gradient, None


class CountedLayer:
    """T, counting its applications and the vector-Jacobian products taken through them.

    ``layer_evals`` grows by one as T is entered, ``vjp_evals`` by one for each backward pass
    through an output of T, under ``autograd.grad`` as under ``torch.func``: the machine-free cost
    of a method. A vectorised pass (``vmap``, ``is_grads_batched``) counts once, however wide; a
    Jacobian-vector product counts as a layer only, in forward mode and as the derivative of a
    backward pass. Further arguments are handed to T as they are.

    Where gradients are enabled the output is a view, which autograd forbids to change in place.
    """

    def __init__(self, T: Callable[..., Tensor], *, counts: Counts | None = None) -> None:
        self.T = T
        self.counts = Counts() if counts is None else counts

    @property
    def layer_evals(self) -> int:
        """Applications of T so far."""
        return self.counts.total("layers")

    @property
    def vjp_evals(self) -> int:
        """Vector-Jacobian products through T so far."""
        return self.counts.total("products")

    def __call__(self, x: Tensor, *fixed: Tensor, **named: Tensor) -> Tensor:
        self.counts.add("layers", x)
        image = self.T(x, *fixed, **named)
        if not torch.is_grad_enabled():
            return image
        # not image.requires_grad: inside vmap it is False although an outer level differentiates
        self.counts.add("graphs", x)
        return _Tick.apply(image, self.counts)


class CountedProblem(LowerLevelProblem):
    """``lower`` itself, same θ, with its layers counted as ``CountedLayer`` does.

    Its copies count with the original. Of a splitting the gradient step counts as the layer, so
    that one product through each half counts as one.
    """

    def __init__(self, lower: LowerLevelProblem, *, counts: Counts | None = None) -> None:
        super().__init__()
        self.lower = lower
        self.splits, self.penalised = lower.splits, lower.penalised
        self._counted_step = CountedLayer(lower.faster("step"), counts=counts)
        if lower.splits:
            gradient_step = lower.faster("gradient_step")
            self.gradient_step = CountedLayer(gradient_step, counts=self.counts)
            self.proximity = lower.faster("proximity")

    def at(self, operator: int) -> LowerLevelProblem:
        if operator == 0:
            return self
        return CountedProblem(self.lower.at(operator), counts=self.counts)

    def copied(self, dtype: torch.dtype) -> CountedProblem:
        return CountedProblem(self.lower.copied(dtype), counts=self.counts)

    @property
    def counts(self) -> Counts:
        """All that was counted so far."""
        return self._counted_step.counts

    @property
    def layer_evals(self) -> int:
        """Applications of T so far."""
        return self._counted_step.layer_evals

    @property
    def vjp_evals(self) -> int:
        """Vector-Jacobian products through T so far."""
        return self._counted_step.vjp_evals

    def init(self, y: Tensor) -> Tensor:
        return self.lower.init(y)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self._counted_step(x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.lower.reconstruct(x)

    def penalty(self, T: Layer, x: Tensor) -> Tensor:
        return self.lower.penalty(T, x)
