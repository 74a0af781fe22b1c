"""A learned θ as a reconstruction model of deepinv's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from deepinv.models import Reconstructor
from deepinv.physics import LinearPhysics
from torch import Tensor

from benchmark.imaging.degradations import measured_by
from benchmark.problems import LOWER_LEVEL
from benchmark.problems.brought import as_lower_level
from benchmark.problems.lower_level import LowerLevelProblem, set_theta
from benchmark.solve.fixed_point import Equilibrium
from benchmark.solve.search import ToTolerance


@final
class EquilibriumReconstructor(Reconstructor):
    """x̂ = R_θ(x*(θ; y)), ``model(y, physics)``: what deepinv's ``test`` and trainer take.

    The layer is made anew for each operator and shape of images that come, at the same θ. What of
    θ belongs to an operator (a stepsize, in units of its ‖A‖²) goes along; noise is not asked for.

    Parameters
    ----------
    lower : the lower level, ``"name(option=value, …)"``, as in ``benchmark.problems``.
    theta : by name each tensor of θ, or its numbers in a list, as the column ``objective_learned``
        of a row holds them once its JSON is read.
    solver, tol, max_layers : how the equilibrium is found, as for ``benchmark.equilibrium``.

    Cost: ‖A‖² by power iteration once for each operator and shape, then an equilibrium in float64 a
    batch. It warns where the equilibrium is not found. Raises ValueError for names or numbers of
    entries of θ that are not the lower level's.
    """

    def __init__(
        self,
        lower: str,
        theta: Mapping[str, object],
        *,
        solver: str = "fista",
        tol: float = 1e-5,
        max_layers: int = 5000,
    ) -> None:
        super().__init__()
        self.spec = lower
        self.search = ToTolerance(solver, tol, max_layers)
        self.theta = {
            name: torch.as_tensor(value, dtype=torch.float64).detach()
            for name, value in theta.items()
        }
        self._made: tuple[LinearPhysics, tuple[int, ...], LowerLevelProblem] | None = None

    @torch.no_grad()
    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: object) -> Tensor:
        """Reconstructions (N, C, H, W) of the observations y (N, …), in the dtype of y."""
        image = physics.A_adjoint(y)
        lower = self.lower_level(physics, tuple(image.shape[1:])).to(y.device)
        seen = y.double()
        found: Equilibrium = self.search(lower.layer(seen), lower.init(seen))
        return lower.reconstruct(found.x).to(image.dtype)

    def lower_level(self, physics: LinearPhysics, shape: tuple[int, int, int]) -> LowerLevelProblem:
        """The layers for an operator and images (C, H, W), in float64, at θ."""
        if self._made is None or self._made[0] is not physics or self._made[1] != shape:
            # the operator that is handed over stays as it is: the layers have a copy in float64
            own = measured_by(physics.clone().double().cpu(), shape, seed=0)
            context = {"physics": own.physics, "lipschitz": own.lipschitz, "image_shape": shape}
            built = LOWER_LEVEL.build(self.spec, **context)
            lower = as_lower_level(built, own.physics, what=f"lower level {self.spec!r}").double()
            sizes = {name: p.numel() for name, p in lower.theta().items()}
            given = {name: value.numel() for name, value in self.theta.items()}
            if sizes != given:
                raise ValueError(f"theta has the entries {given}, {self.spec!r} expects {sizes}")
            shaped = {name: self.theta[name].view_as(p) for name, p in lower.theta().items()}
            set_theta(lower, shaped)
            self._made = physics, shape, lower
        return self._made[2]
