"""What the points a solver has visited tell of (I − J)⁻¹: the inverse of a quasi-Newton method."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.fixed_point import Layer
from benchmark.solve.vectors import norm, principal, rows

#: directions in which the differences, of length one each, extend (squared) by less than this times
#: the most are left out: where T is not affine, differences contradict each other there
_NOISE = 1e-3


@final
class Secants:
    """T, remembering of each sample the last ``memory`` differences of the points it was given.

    With S = Δz, Y = Δ(z − T(z)) as columns, H = I + (S − Y)Y⁺ is the matrix next to I with HY = S:
    Broyden's second method for several differences at once, the matrix behind Anderson's
    acceleration (Fang and Saad, "Two classes of multisecant methods for nonlinear acceleration",
    2009). Where T is affine, Hᵀg − (I − Jᵀ)⁻¹g is the projection on the complement of Y of what it
    is for H = I: no longer with any memory than without, zero once Y spans everything.

    A sample whose relative residual is within ``tol`` learns no more, so that what is known of it
    does not depend on the others. Cost of ``adjoint``: 2·``memory``² n flops and the
    eigenvectors of a matrix of that size; memory: 2·``memory`` states.

    Parameters
    ----------
    T : the layer, x (N, …) ↦ T(x) (N, …), each sample by itself.
    memory : differences that are kept.
    tol : ‖T(x) − x‖ / ‖T(x)‖ at which a sample has learned enough.

    Raises
    ------
    ValueError
        Unless ``memory`` is an integer ≥ 1 and ``tol`` a finite number > 0.

    Examples
    --------
    >>> rates = torch.tensor([[0.5, 0.9]]).double()
    >>> T = Secants(lambda x: rates * x + 1, memory=5, tol=1e-9)
    >>> x = torch.zeros(1, 2).double()
    >>> for _ in range(4):
    ...     x = T(x)
    >>> T.adjoint(torch.ones(1, 2).double())  # 1 / (1 − rates)
    tensor([[ 2.0000, 10.0000]], dtype=torch.float64)
    """

    def __init__(self, T: Layer, *, memory: int, tol: float) -> None:
        positive_integer("memory", memory)
        positive_number("tol", tol)
        self.T, self.memory, self.tol = T, memory, tol
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """T(x) (N, …), with its graph, remembering what it says of J."""
        image = self.T(x)
        with torch.no_grad():
            self._learn(rows(x.detach()), rows(image.detach()))
        return image

    def _learn(self, z: Tensor, image: Tensor) -> None:
        if self._last is None:
            n, size = z.shape
            self._y, self._image_steps = z.new_zeros(2, n, self.memory, size)
            self._slot = torch.zeros(n, dtype=torch.int64, device=z.device)
            self._each = torch.arange(n, device=z.device)
            self._settled = torch.zeros(n, dtype=torch.bool, device=z.device)
        else:
            s, image_step = z - self._last[0], image - self._last[1]
            y = s - image_step
            # what rounding leaves of a difference says nothing
            least = min(100 * torch.finfo(z.dtype).eps, 0.1) * norm(z)
            known = ~self._settled & (norm(s) > least) & (norm(y) > least)
            at, scale = (self._each, self._slot), norm(y)[:, None]
            for kept, new in ((self._y, y), (self._image_steps, image_step)):
                kept[at] = torch.where(known[:, None], new / scale, kept[at])
            self._slot = torch.where(known, (self._slot + 1) % self.memory, self._slot)
        self._last = z, image
        self._settled = self._settled | (norm(image - z) <= self.tol * norm(image))

    @torch.no_grad()
    def adjoint(self, g: Tensor) -> Tensor:
        """Hᵀg (N, …); g itself where nothing has been learned."""
        if self._last is None:
            return g
        right = self._image_steps @ rows(g)[..., None]
        values, vectors = principal(self._y)
        kept = values > _NOISE * values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)
        inverse = torch.where(kept, 1 / values, 0.0)
        weights = vectors @ (inverse[..., None] * (vectors.mT @ right.to(vectors.dtype)))
        known: Tensor = (weights.mT @ self._y.to(weights.dtype))[:, 0]
        return g + known.view_as(g).to(g.dtype)
