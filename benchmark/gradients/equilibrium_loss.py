"""F(θ) = ℓ(x*(θ)), x* the equilibrium of a layer: what a hypergradient is the gradient of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmark.gradients.casting import cast_with_leaves
from benchmark.gradients.result import Hypergradient
from benchmark.problems.bilevel import Batch, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Layer


@dataclass(frozen=True)
class EquilibriumLoss:
    """F(θ) = ℓ(x*), x* = T_θ(x*), at the present θ.

    T : the layer, (N, …) to (N, …), closing over θ. loss : ℓ, from a state to a 0-d tensor; it may
    close over θ too (the direct term). parameters : θ, leaves that require gradients. copied :
    makes the same problem in a dtype, with leaves of its own in the same order; it raises
    ValueError where that cannot be done.
    """

    T: Layer
    loss: Callable[[Tensor], Tensor]
    parameters: tuple[Tensor, ...]
    copied: Callable[[torch.dtype], EquilibriumLoss]

    @classmethod
    def of_lower_level(cls, lower: LowerLevelProblem, batch: Batch) -> EquilibriumLoss:
        """F of ``lower`` on ``batch``: ℓ(R_θ(x), x̄)."""

        def copied(dtype: torch.dtype) -> EquilibriumLoss:
            return cls.of_lower_level(lower.copied(dtype), batch.to(dtype=dtype))

        return cls(
            T=lower.layer(batch.observation),
            loss=lambda x: upper_loss(lower, x, batch),
            parameters=tuple(lower.theta().values()),
            copied=copied,
        )

    @classmethod
    def of_callables(
        cls, T: Layer, loss: Callable[[Tensor], Tensor], parameters: Iterable[Tensor]
    ) -> EquilibriumLoss:
        """F of anyone's T and ℓ.

        Raises ValueError where ``parameters`` is empty or holds what does not require gradients.
        """
        theta = tuple(parameters)
        if not theta:
            raise ValueError("parameters is empty: expected the tensors to differentiate by")
        for i, parameter in enumerate(theta):
            if not parameter.requires_grad:
                raise ValueError(
                    f"parameters[{i}] does not require gradients: expected a leaf of θ"
                )

        def copied(dtype: torch.dtype) -> EquilibriumLoss:
            layer, leaves = cast_with_leaves(T, dtype, theta)
            return cls.of_callables(layer, partial(_without_direct_term, loss, theta), leaves)

        return cls(T, loss, theta, copied)

    def differentiated(self, x: Tensor) -> Hypergradient:
        """What automatic differentiation makes of ℓ(x), of a state ``x`` with a graph to θ; the
        direct term is included. Cost: one ℓ and the backward pass.
        """
        with torch.enable_grad():
            loss = self.loss(x)
        gradient = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return Hypergradient(loss.detach(), gradient, x.detach())


def _without_direct_term(
    loss: Callable[[Tensor], Tensor], theta: tuple[Tensor, ...], x: Tensor
) -> Tensor:
    """ℓ(x); raises ValueError where it holds θ, whose leaves in the copy it cannot know."""
    value = loss(x)
    if value.requires_grad:
        direct = torch.autograd.grad(value, theta, retain_graph=True, allow_unused=True)
        held = [i for i, d in enumerate(direct) if d is not None]
        if held:
            raise ValueError(
                f"the loss depends on parameters{held} itself, which cannot be followed into "
                "another precision: make the problem in float64 from the start"
            )
    return value
