"""What a method was handed, which it must leave alone, and what it handed back.

Errors speak of the method's result: they go into its row.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmark.gradients.result import Hypergradient
from benchmark.problems.bilevel import Images, StreamedBatch
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Layer

#: functions of a graph that are looked at for the way to θ
_MOST_FUNCTIONS = 100_000


class ChangedError(ValueError):
    """Something that was handed out to be read was changed in place."""


def of_images(name: str, images: Images) -> dict[str, Tensor]:
    """The tensors of ``images`` by what they are called in a message; none of those that are read
    anew whenever they are asked for.
    """
    parts = () if isinstance(images, StreamedBatch) else images.parts
    return {
        f"{what} of {name}{f' (part {k})' if k else ''}": tensor
        for k, part in enumerate(parts)
        for what, tensor in (("the images", part.truth), ("the observations", part.observation))
    }


def of_lower(lower: LowerLevelProblem, *, theta: bool) -> dict[str, Tensor]:
    """The constants of ``lower``, and with ``theta`` what is learned."""
    constants = (*lower.named_parameters(), *lower.named_buffers())
    learned = lower.theta()
    found = {f"the operator ({n})": t for n, t in constants if n not in learned}
    return {f"θ ({n})": t for n, t in learned.items()} | found if theta else found


@contextmanager
def untouched(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise ChangedError, naming them, where ``tensors`` are changed in place inside.

    Seen by the version that torch counts; what goes past it (``.data``, NumPy) by ``digests``.
    """
    before = versions(tensors)
    yield
    require_same(before, versions(tensors))


def versions(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """How often each was changed in place. Cost: none."""
    return {name: tensor._version for name, tensor in tensors.items()}


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Of the bytes of each. Cost: some ms a MB, and a copy where they are on a device."""
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1)
    return hashlib.blake2b(plain.view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def require_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise ChangedError, naming them, where ``versions`` or ``digests`` differ."""
    changed = [name for name, value in before.items() if after[name] != value]
    if changed:
        raise ChangedError(
            f"the method changed {', '.join(changed)} in place: expected what it is given to be "
            "left as it is"
        )


def require_theta(lower: LowerLevelProblem, theta: Mapping[str, Tensor]) -> None:
    """Raise ChangedError where θ of ``lower`` is no longer ``theta``, however it was changed."""
    if not all(torch.equal(p, theta[name]) for name, p in lower.theta().items()):
        raise ChangedError("the method changed θ in place: expected it to be left as it is")


def require_state(found: object, *, like: Tensor, by: str) -> Tensor:
    """``found`` itself; ValueError, naming ``by``, unless it is a tensor like ``like``."""
    if not isinstance(found, Tensor):
        raise ValueError(f"{by} returned {_kind(found)}, expected a state: {_form(like)}")
    if _form(found) != _form(like):
        raise ValueError(f"{by} returned {_form(found)}, expected a state like x⁰: {_form(like)}")
    return found


def require_graph(x: Tensor, theta: Sequence[Tensor], *, T: Layer, x0: Tensor, by: str) -> None:
    """ValueError, naming ``by``, unless the graph of ``x`` reaches one of ``theta``, or that of
    ``T(x0)`` does not either.
    """
    if _reaches(x, theta):
        return
    with torch.enable_grad():
        image = T(x0)
    if _reaches(image, theta):
        graph = "whose graph does not reach θ" if x.requires_grad else "without a graph"
        raise ValueError(
            f"{by} returned a state {graph}: expected one that T made with gradients enabled, not "
            "detached"
        )


def _reaches(x: Tensor, leaves: Iterable[Tensor]) -> bool:
    """Whether the graph of ``x`` leads to one of ``leaves``. Cost: the functions next to x⁰."""
    wanted = {id(leaf) for leaf in leaves}
    if x.grad_fn is None:
        return id(x) in wanted
    seen, waiting = {x.grad_fn}, deque([x.grad_fn])
    while waiting and len(seen) < _MOST_FUNCTIONS:
        function = waiting.popleft()
        if id(getattr(function, "variable", None)) in wanted:
            return True
        for following, _ in function.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return bool(waiting)  # too many to tell


def require_estimate(found: Hypergradient, theta: Mapping[str, Tensor]) -> None:
    """ValueError unless the loss is a 0-d tensor and the gradient like ``theta``, one by one."""
    by, loss = "hypergradient", found.loss
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        raise ValueError(f"{by} returned as its loss {_kind(loss)}, expected a 0-d tensor")
    gradient = found.gradient
    if not isinstance(gradient, Sequence) or len(gradient) != len(theta):
        number = len(gradient) if isinstance(gradient, Sequence) else _kind(gradient)
        raise ValueError(
            f"{by} returned {number} gradients, expected {len(theta)}: of {', '.join(theta)}"
        )
    for (name, parameter), entry in zip(theta.items(), gradient, strict=True):
        if not isinstance(entry, Tensor) or _form(entry) != _form(parameter):
            raise ValueError(
                f"{by} returned as the gradient of {name} {_kind(entry)}, "
                f"expected {_form(parameter)}"
            )


def states_of(found: Hypergradient, lower: LowerLevelProblem, batch: Images) -> list[Tensor]:
    """The state of each part of ``batch``; ValueError unless each is one of its layer."""
    return [
        require_state(
            of_one.state,
            like=lower.at(part.operator).init(part.observation),
            by="hypergradient, as its state,",
        )
        for part, of_one in zip(batch.parts, found.parts or (found,), strict=True)
    ]


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return _form(value)
    return "None" if value is None else f"a {type(value).__name__}"


def _form(tensor: Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"a tensor {tuple(tensor.shape)} in {dtype} on {tensor.device}"
