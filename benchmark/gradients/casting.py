"""A module in another dtype: its parameters and buffers replaced in each call, no copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.solve.fixed_point import Layer


@final
class CastLayer:
    """x ↦ T(x) with ``tensors`` in the place of the parameters and buffers of that name."""

    def __init__(self, T: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self.T, self.tensors = T, dict(tensors)

    def __call__(self, x: Tensor) -> Tensor:
        image: Tensor = functional_call(self.T, self.tensors, (x,))
        return image


def cast_layer(
    T: Layer, dtype: torch.dtype, cast: Callable[[Tensor], Tensor] | None = None
) -> CastLayer:
    """``T`` in ``dtype``, its floating-point parameters and buffers through ``cast``.

    By default gradients flow back into the module's own parameters. Raises ValueError for a ``T``
    that is not a ``torch.nn.Module``: what a function closes over cannot be cast.
    """
    if not isinstance(T, nn.Module):
        raise ValueError(
            f"going on in {str(dtype).removeprefix('torch.')} needs T to be a torch.nn.Module, "
            f"whose parameters and buffers can be cast, got a {type(T).__name__}: make it one, or "
            "ask for a tolerance that its precision reaches"
        )
    if cast is None:

        def cast(t: Tensor) -> Tensor:
            return t.to(dtype)

    named = {**dict(T.named_parameters()), **dict(T.named_buffers())}
    with torch.enable_grad():
        tensors = {name: cast(t) if t.is_floating_point() else t for name, t in named.items()}
    return CastLayer(T, tensors)


def cast_with_leaves(
    T: Layer, dtype: torch.dtype, theta: Iterable[Tensor]
) -> tuple[CastLayer, tuple[Tensor, ...]]:
    """``T`` in ``dtype``, and leaves of its own in the place of the parameters ``theta``.

    Raises ValueError as ``cast_layer``, and for an entry of ``theta`` that is no parameter of T.
    """
    theta = tuple(theta)
    leaves = {id(t): t.detach().clone().to(dtype).requires_grad_() for t in theta}
    layer = cast_layer(T, dtype, lambda t: leaves.get(id(t), t.detach().to(dtype)))
    used = {id(t) for t in layer.tensors.values()}
    for i, t in enumerate(theta):
        if id(leaves[id(t)]) not in used:
            raise ValueError(
                f"parameters[{i}] is no parameter of T: it cannot be followed into another dtype"
            )
    return layer, tuple(leaves[id(t)] for t in theta)
