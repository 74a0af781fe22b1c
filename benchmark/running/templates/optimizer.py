"""Steps along the signs of the gradient, which shrink, as an outer optimizer."""

import torch


class Template(torch.optim.Optimizer):
    """θ ← θ − η sign(∇F), η ← ``shrink`` η, η = ``lr`` at first."""

    def __init__(self, params, lr, shrink=0.9):
        super().__init__(params, {"lr": lr, "shrink": shrink})

    @torch.no_grad()
    def step(self):
        """One step from the gradients in ``.grad``. With ``step(self, closure)``, closure() sets
        them and returns F, as often as it is called.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad.sign()
            group["lr"] *= group["shrink"]
