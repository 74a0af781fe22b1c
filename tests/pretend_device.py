"""A device without hardware: mixing it with the CPU raises, as on a GPU; results are the CPU's.

``PretendTensor`` reports ``DEVICE`` and holds a CPU tensor, on which every operation is computed.
Inside ``pretend_device()`` factories and moves to ``DEVICE`` make such tensors; code tested there
uses ``.to(device)`` and ``device=`` as it would on CUDA. Stricter than CUDA: indices must be on the
device too. Not imitated: random generators of the device, ``Tensor.new_tensor``, and shapes that
change in place (``resize_``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

#: torch needs no driver to name this device, and computes nothing on it by itself
DEVICE = torch.device("meta")
CPU = torch.device("cpu")
#: the operations that may meet two devices: copies from one to the other
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)

T = TypeVar("T", Tensor, nn.Module)


class MixedDevices(RuntimeError):  # noqa: N818 (named after what happened)
    """An operation was given tensors of the pretend device and of the CPU."""


class PretendTensor(Tensor):
    """A tensor of ``DEVICE`` whose values are those of ``inner``, a CPU tensor without graph."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendTensor:
        inner = inner.resolve_conj().resolve_neg()
        self = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        self.inner = inner
        return self

    def tolist(self) -> object:
        return self.inner.tolist()

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"PretendTensor({self.inner})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


def _compute(func, args: tuple, kwargs: dict) -> object:
    """``func`` on the CPU; the results are on the device that a GPU would have put them on."""
    leaves = tree_leaves((args, kwargs))
    given = any(isinstance(leaf, PretendTensor) for leaf in leaves)
    made = torch.device(kwargs.get("device") or (DEVICE if given else CPU)) == DEVICE
    if not given and not made:
        return func(*args, **kwargs)
    for leaf in leaves:
        plain = given and func not in COPIES and _is_plain(leaf)
        if plain or _has_no_values(leaf) or isinstance(leaf, torch.Generator):
            raise MixedDevices(f"{func} on the pretend device was given {_describe(leaf)}")
    inner_args, inner_kwargs = tree_map_only(PretendTensor, lambda t: t.inner, (args, kwargs))
    if "device" in kwargs:
        inner_kwargs["device"] = CPU
    out = func(*inner_args, **inner_kwargs)
    if made:
        out = tree_map_only(Tensor, PretendTensor, out)
    # an operation in place returns its argument, a view shares the storage of its base
    return return_and_correct_aliasing(func, args, kwargs, out)


def _is_plain(leaf: object) -> bool:
    """Whether ``leaf`` is a CPU tensor that a GPU would refuse: those of no dimension pass."""
    return isinstance(leaf, Tensor) and leaf.device == CPU and leaf.dim() > 0


def _has_no_values(leaf: object) -> bool:
    """Whether ``leaf`` is torch's own meta tensor: made outside of ``pretend_device()``."""
    return isinstance(leaf, Tensor) and leaf.is_meta and not isinstance(leaf, PretendTensor)


def _describe(leaf: Tensor | torch.Generator) -> str:
    if isinstance(leaf, torch.Generator):
        return f"a generator of {leaf.device}"
    if _has_no_values(leaf):
        return f"a {tuple(leaf.shape)} tensor without values: made outside pretend_device()?"
    return f"a {tuple(leaf.shape)} tensor of {leaf.device}"


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """``torch.tensor([…], device=DEVICE)`` would drop its values before any dispatch sees them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and device is not None:
            return func(*args, **kwargs | {"device": CPU}).to(device)
        return func(*args, **kwargs)


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Makes ``DEVICE`` a place where tensors can be made and moved to; yields it."""
    with _Literals(), _Dispatch():
        yield DEVICE


def to_pretend(obj: T) -> T:
    """A leaf tensor on the device with the values of ``obj``; or the module ``obj``, moved there.

    ``requires_grad`` is kept. A deepinv physics is a module; what it holds besides parameters and
    buffers stays on the CPU, as it does on a GPU.
    """
    with pretend_device():
        if isinstance(obj, nn.Module):
            return obj.to(DEVICE)
        return obj.detach().to(DEVICE).requires_grad_(obj.requires_grad)


def unwrap(tensor: Tensor) -> Tensor:
    """The values, on the CPU and without graph. Raises TypeError for any other tensor."""
    if not isinstance(tensor, PretendTensor):
        raise TypeError(f"expected a tensor of the pretend device, got one of {tensor.device}")
    return tensor.inner
