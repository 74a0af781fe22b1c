"""The method of adaptive inexact descent."""

from benchmark.plugins.inexact_descent import InexactDescent


class Solver(InexactDescent):
    """θ ← θ − αĝ: the tolerances of state and adjoint, and α, follow from whether F falls.

    No learning rate and no tolerance is picked: the first ones, ``first_move`` (‖αĝ‖) and
    ``first_tol``, are given up where they do not serve. ĝ is the implicit gradient from a state and
    an adjoint solved to relative residuals that adapt, never below ``tol``. A step is taken where F
    has fallen by 0.1 α‖ĝ‖² for sure; else α is halved, or, where the values of F are too inexact to
    tell, they are refined. Unlike the reference, whose bounds hold with constants of a strongly
    convex lower level that other layers do not have, errors are estimated: that of a value of F as
    Σᵢ ⟨wᵢ, T(xᵢ) − xᵢ⟩, with which it is also corrected, that of ĝ by solving further.
    ``adaptive=False`` is the same descent at tolerances picked by hand.

    Cost of a step: a warm equilibrium for each α tried, with two layers, one adjoint, three layers
    and products more; memory: one graph, a state and an adjoint for each training image.
    References: Salehi, Mukherjee, Roberts, Ehrhardt, "An adaptively inexact first-order method for
    bilevel optimization with application to hyperparameter learning" (2023), arXiv 2308.10098; the
    bounds: Ehrhardt and Roberts, "Analyzing inexact hypergradients for bilevel learning" (2023),
    arXiv 2301.04764.

    Use it where neither a learning rate nor a tolerance is to be picked by hand.
    """

    name = "MAID"
    parameters = InexactDescent.parameters
