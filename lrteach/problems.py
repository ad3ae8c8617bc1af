"""Landscapes of which everything is known: minimum, Hessian, and so the exact answer.

A problem works on points of shape (..., n): leading axes are runs side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from lrteach.rules import Rule

__all__ = ["Quadratic", "quadratic", "Valley", "rosenbrock", "LeastSquares", "descend"]

Floats: TypeAlias = NDArray[np.float64]


class Problem(Protocol):
    """What `descend` needs of a problem; the loss only for rules that ask for it."""

    def loss(self, x: Floats, /) -> Any:
        """Value at x of shape (..., n); returns shape (...)."""

    def gradient(self, x: Floats, /) -> Floats:
        """Gradient at x, of the shape of x."""


@dataclass(frozen=True, eq=False)
class Quadratic:
    """½ Σ hᵢ xᵢ²: a bowl whose curvatures are `curvatures`, with its minimum 0 at the origin."""

    curvatures: Floats

    def loss(self, x: Floats) -> Floats:
        """Value at x of shape (..., n); returns shape (...)."""
        return 0.5 * np.sum(self.curvatures * x**2, axis=-1)

    def gradient(self, x: Floats) -> Floats:
        """Gradient at x, of the shape of x."""
        return self.curvatures * x

    @property
    def L(self) -> float:
        """Largest curvature."""
        return float(self.curvatures.max())

    @property
    def mu(self) -> float:
        """Smallest curvature."""
        return float(self.curvatures.min())

    @property
    def condition(self) -> float:
        """κ = L / μ."""
        return self.L / self.mu


def quadratic(*curvatures: float) -> Quadratic:
    """The bowl ½ Σ hᵢ xᵢ² with these curvatures: `quadratic(1, 100)` is a valley with κ = 100."""
    array = np.asarray(curvatures, np.float64)
    if array.ndim != 1 or array.size == 0 or not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"curvatures={curvatures!r} is not allowed: finite numbers > 0")
    return Quadratic(array)


@dataclass(frozen=True)
class Valley:
    """Rosenbrock's banana: (a − x)² + b (y − x²)², with its minimum 0 at (a, a²)."""

    a: float = 1.0
    b: float = 100.0

    def loss(self, p: Floats) -> Floats:
        """Value at p of shape (..., 2)."""
        x, y = p[..., 0], p[..., 1]
        return (self.a - x) ** 2 + self.b * (y - x**2) ** 2

    def gradient(self, p: Floats) -> Floats:
        """Gradient at p, of the shape of p."""
        x, y = p[..., 0], p[..., 1]
        slope = y - x**2
        return np.stack([-2 * (self.a - x) - 4 * self.b * x * slope, 2 * self.b * slope], axis=-1)

    def hessian(self, p: Floats) -> Floats:
        """Second derivatives at one point p of shape (2,); returns (2, 2)."""
        x, y = p
        return np.array(
            [[2 - 4 * self.b * (y - 3 * x**2), -4 * self.b * x], [-4 * self.b * x, 2 * self.b]]
        )

    @property
    def minimum(self) -> Floats:
        """The minimizer, shape (2,)."""
        return np.array([self.a, self.a**2])


def rosenbrock(a: float = 1.0, b: float = 100.0) -> Valley:
    """Rosenbrock's curved valley (Rosenbrock 1960)."""
    return Valley(a, b)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """(1/2N) ‖X w − y‖²: linear regression on the rows of X (N, n) with targets y (N,)."""

    X: Floats
    y: Floats

    def loss(self, w: Floats) -> np.floating:
        """Value at w of shape (n,)."""
        return 0.5 * np.mean((self.X @ w - self.y) ** 2)

    def gradient(self, w: Floats, rows: slice | np.ndarray | list[int] = slice(None)) -> Floats:
        """Gradient at w of shape (n,), on all rows or on some of them."""
        X, y = self.X[rows], self.y[rows]
        return X.T @ (X @ w - y) / len(y)

    def hessian(self) -> Floats:
        """XᵀX / N, the same everywhere."""
        return self.X.T @ self.X / len(self.y)

    @property
    def minimum(self) -> np.ndarray:
        """The least-squares solution, shape (n,)."""
        return np.linalg.lstsq(self.X, self.y, rcond=None)[0]


def descend(
    problem: Problem,
    rule: Rule,
    start: ArrayLike,
    lr: float | Floats,
    steps: int,
    schedule: Callable[[int], float] | None = None,
    evaluated: bool = False,
    **hyper: Any,
) -> Floats:
    """Run a rule on a problem with exact gradients. Returns every point, (steps + 1, *start.shape).

    `start` has shape (n,), or (K, n) for K runs; `lr` is a number, or has shape (K,). With a
    schedule, update t runs at lr · schedule(t). Runs that overflow go on as inf or NaN. The
    points are those where gradients are taken; with `evaluated`, the average that some rules
    evaluate in their place. A rule may ask for the loss or for gradients elsewhere.
    """
    if isinstance(lr, (list, tuple)):
        raise ValueError(
            f"lr={lr!r} is not allowed: lr must be a number >= 0, or a NumPy array of shape (K,) "
            "with a rate for each of K runs"
        )
    theta = np.array(start, np.float64)
    if not rule.elementwise and theta.ndim == 2 and np.ndim(lr) == 0:
        lr = np.full(len(theta), lr, float)  # so that a rule with a norm knows what a run is
    state = rule.init(theta)
    more: dict[str, Any] = {}
    if "gradient" in rule.asks:
        more["gradient"] = problem.gradient
    path = np.empty((steps + 1, *theta.shape))
    path[0] = theta
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps):
            rate = lr if schedule is None else lr * schedule(t)
            if "loss" in rule.asks:
                more["loss"] = problem.loss(theta)
            theta, state = rule(theta, problem.gradient(theta), state, lr=rate, **more, **hyper)
            path[t + 1] = rule.evaluated(theta, state) if evaluated else theta
    return path
