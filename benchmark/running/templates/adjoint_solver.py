"""A truncated Neumann series, as a solver of adjoint systems."""


def template(matvec, b, *, tol, max_steps, x0=None):
    """x ← x + (b − A x) until ‖b − A x‖ ≤ tol ‖b‖ for each sample, A = I − Jᵀ.

    ``matvec`` is A, (N, …) to (N, …), each sample by its own matrix; ``x0`` a state to start from
    or None. What is returned, x or a ``benchmark.solve.LinearSolution``, is measured by the caller.
    """
    x = b.clone() if x0 is None else x0
    for _ in range(max_steps):
        residual = b - matvec(x)
        if (residual.flatten(1).norm(dim=1) <= tol * b.flatten(1).norm(dim=1)).all():
            break
        x = x + residual
    return x
