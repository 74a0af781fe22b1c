"""The solvers of ``benchmark.solve`` for one vector, as their papers have them: loops and NumPy.

No batch, no device, no care for memory or rounding: what they do step by step is what is tested.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.linalg import lstsq, norm, qr

Vector = np.ndarray
Map = Callable[[Vector], Vector]


def solve(T: Map, x0: Vector, *, propose: Callable[..., Vector], layers: int):
    """The points that T is applied to, and the best T(z) that they have given."""
    z, points, best, distance = x0, [], x0, np.inf
    since_best = strikes = 0
    plain = False
    for _ in range(layers):
        points.append(z)
        image = T(z)
        moved = norm(image - z) if np.isfinite(norm(image)) else np.inf
        failed = not plain and moved > 100 * distance
        improved = moved < distance
        if improved or plain:
            distance, best = moved, image
        since_best = 0 if improved else since_best + 1
        failed = failed or (since_best == 100 and not plain)
        if failed:
            since_best, strikes = 0, strikes + 1
        plain = strikes >= 3
        z = propose(image, image - z, moved, failed)
        z = best if failed else image if plain else z
    return np.array(points), best


def nesterov(x0: Vector) -> Callable[..., Vector]:
    """O'Donoghue and Candès (2015), restarted too where ‖f‖ grows, or falls five times in a row by
    less than f turns, averaged after 5 reversals.
    """
    x, t, before, last = x0, 1.0, np.inf, None
    age = reversals = turning = 0
    went_back = averaging = False

    def propose(image: Vector, f: Vector, moved: float, failed: bool) -> Vector:
        nonlocal x, t, before, last, age, reversals, turning, went_back, averaging
        x, move = (image - f / 2, image - f / 2 - x) if averaging else (image, image - x)
        creeps = last is not None and f @ last / (moved * before) < moved / before - 0.1
        turning = turning + 1 if creeps else 0
        if went_back or f @ move < 0 or moved > before or turning >= 5:
            reversals = reversals + 1 if age < 10 else 0
            age, t, turning = 0, 1.0, 0
        else:
            age += 1
        averaging = averaging or reversals >= 5
        later = (1 + np.sqrt(1 + 4 * t**2)) / 2
        z = x + (t - 1) / later * move
        t, before, last, went_back = later, moved, f, failed
        return z

    return propose


def mixing(depth: int) -> Callable[..., Vector]:
    """Walker and Ni (2011), regularised by 10 units of rounding relative to ‖Δf‖²."""
    history: list[tuple[Vector, Vector]] = []

    def propose(image: Vector, f: Vector, moved: float = 0.0, failed: bool = False) -> Vector:
        history.append((image, f))
        del history[: -depth - 1]
        if failed:
            del history[:-1]
        if len(history) == 1:
            return image
        images, fs = (np.diff(np.array(part), axis=0).T for part in zip(*history, strict=True))
        ridge = np.sqrt(10 * np.finfo(float).eps) * norm(fs) * np.eye(fs.shape[1])
        right = np.concatenate([f, np.zeros(fs.shape[1])])
        return image - images @ lstsq(np.vstack([fs, ridge]), right, rcond=None)[0]

    return propose


def gmres(A: np.ndarray, b: Vector, *, restart: int, products: int, x: Vector | None = None):
    """The smallest ‖b − A x‖ over x + span{r, Ar, …}, again from there, with so many products."""
    spent = 0 if x is None else 1
    x = np.zeros_like(b) if x is None else x
    while products - spent > 1:
        size = min(restart, products - spent - 1, len(b))
        r = b - A @ x
        space = r[:, None] / norm(r)
        for _ in range(size - 1):
            space = qr(np.column_stack([space, A @ space[:, -1]]))[0]
        x = x + space @ lstsq(A @ space, r, rcond=None)[0]
        spent += size + 1
    return x


def bicgstab(A: np.ndarray, b: Vector, *, steps: int) -> list[Vector]:
    """Van der Vorst (1992), from zero: the iterates."""
    x, r = np.zeros_like(b), b
    shadow = p = r
    found = [x]
    for _ in range(steps):
        v = A @ p
        alpha = (shadow @ r) / (shadow @ v)
        s = r - alpha * v
        t = A @ s
        omega = (t @ s) / (t @ t)
        x = x + alpha * p + omega * s
        later = s - omega * t
        beta = (shadow @ later) / (shadow @ r) * alpha / omega
        p = later + beta * (p - omega * v)
        r = later
        found.append(x)
    return found


def cg(P: np.ndarray, G: np.ndarray, b: Vector, *, steps: int) -> list[Vector]:
    """Hestenes and Stiefel (1952) on (I − PGP) u = Pb: b + Gu of the iterates u."""
    A = np.eye(len(b)) - P @ G @ P
    u, r = np.zeros_like(b), P @ b
    p = r
    found = [b]
    for _ in range(steps):
        alpha = (r @ r) / (p @ A @ p)
        u = u + alpha * p
        later = r - alpha * A @ p
        p = later + (later @ later) / (r @ r) * p
        r = later
        found.append(b + G @ u)
    return found
