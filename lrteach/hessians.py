"""The curvature of a network's loss: Hessian-vector products, and its largest eigenvalues.

    loss, theta = flat_loss(model, x, y)           # the loss as a function of one vector (n,)
    product = hessian_product(loss, theta)         # v -> H v, at the cost of about two gradients
    values, vectors = top_eigenpairs(loss, theta, k=3)
    sharpness(model, x, y)                         # the largest eigenvalue, as a number

No n × n matrix is ever made: all that is known of H is what it does to vectors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call, grad, vjp
from torch.nn import functional as F

from lrteach.training import mean_squares

if TYPE_CHECKING:
    from lrteach.rules import State
    from lrteach.training import Loss

__all__ = [
    "flat_loss", "hessian_product", "lanczos", "top_eigenpairs", "sharpness", "adam_preconditioner",
]  # fmt: skip


def flat_loss(
    model: torch.nn.Module, x: Any, y: Any, loss: Loss | None = None
) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """A model's loss on a batch, as a function of all its parameters in one vector.

    Parameters
    ----------
    model : torch.nn.Module
        Copied, and the copy put into evaluation mode: a loss with random layers has no Hessian.
        Parameters that do not require a gradient stay as they are.
    x, y : tensors or arrays (B, ...)
        The batch. Floating-point arrays take the dtype of the parameters.
    loss : function(outputs, y) -> scalar tensor, or None
        None is cross-entropy for integer targets and the mean squared error otherwise.

    Returns
    -------
    (f, theta) : f(theta) is the loss, a scalar tensor; theta (n,) are the model's present
        parameters, each flattened, in the order of `model.named_parameters()`.
    """
    model = copy.deepcopy(model).eval()
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError(
            f"model={type(model).__name__} is not allowed: it has no trained parameter"
        )
    theta = torch.cat([p.reshape(-1) for p in trained.values()])
    x, y = (_like(theta, values) for values in (x, y))
    if loss is None:
        loss = mean_squares if y.is_floating_point() else F.cross_entropy
    names, shapes = list(trained), [p.shape for p in trained.values()]
    sizes = [p.numel() for p in trained.values()]

    def f(theta: torch.Tensor) -> torch.Tensor:
        parts = theta.split(sizes)
        values = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return loss(functional_call(model, values, (x,)), y)

    return f, theta


def _like(theta: torch.Tensor, values: Any) -> torch.Tensor:
    """Values as a tensor where theta is; of its dtype if they are floating-point."""
    values = torch.as_tensor(values)
    return values.to(theta.device, theta.dtype if values.is_floating_point() else values.dtype)


def hessian_product(
    loss: Callable[[torch.Tensor], torch.Tensor], theta: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""The function v ↦ H v, with H the Hessian of `loss` at `theta` (n,); v is (n,), too.

    .. math:: H v = \nabla_\theta \bigl( \nabla f(\theta)^\top v \bigr)

    The gradient is differentiated backwards once more, by torch.func: vᵀH, which is H v because H
    is symmetric. Its graph is kept, so each product after the first costs about two gradients.
    Source: Pearlmutter 1994, Neural Computation 6(1).
    """
    _check_theta(theta)
    g, pull, *_ = vjp(grad(loss), theta.detach())
    if not torch.isfinite(g).all():
        raise ValueError("theta is not allowed: the gradient there is not finite")
    return lambda v: pull(v)[0]


def _check_theta(theta: object) -> None:
    if not isinstance(theta, torch.Tensor) or theta.ndim != 1 or not theta.is_floating_point():
        what = tuple(theta.shape) if isinstance(theta, torch.Tensor) else type(theta).__name__
        raise ValueError(f"theta={what} is not allowed: a floating-point tensor of shape (n,)")


def lanczos(
    product: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    k: int = 1,
    tol: float = 1e-4,
    max_products: int = 300,
) -> tuple[np.ndarray, torch.Tensor]:
    r"""The k largest eigenvalues of a symmetric matrix of which only products are known.

    In the orthonormal basis Q (n, m) of start, H start, H² start, …, the matrix is tridiagonal,
    T = QᵀHQ. An eigenpair (λ, s) of T stands for (λ, Q s), whose error can be read off:

    .. math:: \lVert H Q s - \lambda Q s \rVert = b_m\, |s_m| .

    Products are made until this is at most `tol` times the largest |λ| for all k. Some eigenvalue
    of H is then that near to each λ; by the error's square, where the others are far away.
    Every new vector is made orthogonal to all before it, twice, so no eigenvalue comes back as a
    ghost. An eigenvalue that H has several times is counted once.

    Parameters
    ----------
    product : function (n,) -> (n,)
    start : tensor (n,), not zero; best a random one. It must have a part along what is wanted.
    k : int, 1 <= k <= n
    tol : float > 0, relative to the largest |λ|. In float32 not much below 1e-5.
    max_products : int >= k

    Returns
    -------
    (values, vectors) : float64 array (k,), largest first, and a tensor (n, k) of unit columns.

    Raises
    ------
    ValueError
        An argument, or what `product` gives, is not allowed.
    RuntimeError
        `max_products` were not enough, or H has fewer than k different eigenvalues.

    Source: Lanczos 1950; the error: Parlett, The Symmetric Eigenvalue Problem, section 13.2.
    """
    _check_theta(start)
    n = len(start)
    _check("k", k, isinstance(k, Integral) and 1 <= k <= n, f"an int from 1 to {n}")
    _check("tol", tol, isinstance(tol, Real) and 0 < tol < math.inf, "a finite number > 0")
    enough = isinstance(max_products, Integral) and max_products >= k
    _check("max_products", max_products, enough, f"an int >= k = {k}")
    length = start.norm().item()
    _check("start", f"of length {length}", 0 < length < math.inf, "neither zero nor infinite")

    diagonal: list[float]
    beside: list[float]
    Q, diagonal, beside, scale = (start / length)[None], [], [], 0.0
    while True:
        w = product(Q[-1])
        if not torch.isfinite(w).all():
            raise ValueError(f"product gave values that are not finite, in call {len(Q)}")
        scale = max(scale, w.norm().item())
        diagonal.append((Q[-1] @ w).item())
        w = _orthogonal(w, Q)
        b = w.norm().item()
        ended = len(Q) == n or b <= 10 * math.sqrt(n) * torch.finfo(w.dtype).eps * scale
        values, s = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        errors = b * np.abs(s[-1, -k:])
        if len(Q) >= k and (ended or errors.max() <= tol * np.abs(values).max()):
            vectors = torch.from_numpy(s[:, : -k - 1 : -1].copy())
            return values[: -k - 1 : -1].copy(), Q.T @ vectors.to(Q)
        if ended:
            raise RuntimeError(f"k={k} is too many: {len(Q)} different eigenvalues were found")
        if len(Q) == max_products:
            raise RuntimeError(
                f"max_products={max_products} were not enough: an error is still "
                f"{errors.max():.2g}, and tol={tol:g} allows {tol * np.abs(values).max():.2g}"
            )
        beside.append(b)
        Q = torch.cat([Q, (w / b)[None]])


def _orthogonal(w: torch.Tensor, Q: torch.Tensor) -> torch.Tensor:
    """w (n,) without its parts along the orthonormal rows of Q; once more, for what rounding left."""
    for _ in range(2):
        w = w - Q.T @ (Q @ w)
    return w


def top_eigenpairs(
    loss: Callable[[torch.Tensor], torch.Tensor],
    theta: torch.Tensor,
    k: int = 1,
    *,
    preconditioner: torch.Tensor | None = None,
    near: torch.Tensor | None = None,
    tol: float = 1e-4,
    max_products: int = 300,
) -> tuple[np.ndarray, torch.Tensor]:
    r"""The k largest eigenvalues of the Hessian of `loss` at `theta` (n,), by `lanczos`.

    With a preconditioner d (n,), those of the symmetric matrix that has the eigenvalues of

    .. math:: D^{-1} H, \quad \text{which is} \quad D^{-1/2} H D^{-1/2}, \quad D = \operatorname{diag} d .

    These are the curvatures for a rule that steps along D⁻¹g: that rule on f is gradient descent
    on f in the coordinates D^½ θ.

    Parameters
    ----------
    loss, theta : as `flat_loss` gives them; any function of a vector that torch can differentiate
    k, tol, max_products : as in `lanczos`
    preconditioner : tensor (n,), finite and > 0, or None
    near : tensor (n,) or None
        About where the first eigenvector is: the one of a step ago. Saves products.

    Returns
    -------
    (values, vectors) : float64 array (k,), largest first, and a tensor (n, k) of unit columns.
    """
    product = hessian_product(loss, theta)
    if preconditioner is not None:
        d = preconditioner
        if d.shape != theta.shape or not torch.all((d > 0) & torch.isfinite(d)):
            raise ValueError(
                f"preconditioner of shape {tuple(d.shape)} with values from {d.min():.3g} to "
                f"{d.max():.3g} is not allowed: finite numbers > 0, of theta's shape"
            )
        root, plain = d.sqrt(), product
        product = lambda v: plain(v / root) / root  # noqa: E731
    # The same numbers on every machine. With `near`, they keep a run from following an
    # eigenvector that is no longer the first.
    start = torch.from_numpy(np.random.default_rng(0).normal(size=len(theta))).to(theta)
    if near is not None:
        start = near / near.norm() + 0.01 * start / start.norm()
    return lanczos(product, start, k, tol, max_products)


def sharpness(
    model: torch.nn.Module,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    preconditioner: torch.Tensor | None = None,
    tol: float = 1e-4,
    max_products: int = 300,
) -> float:
    """The largest eigenvalue of the Hessian of a model's loss on a batch: L at this point.

    Gradient descent with rate lr is stable there while lr < 2 / sharpness. Take one batch, large
    and fixed. `model`, `x`, `y`, `loss`: as in `flat_loss`; the rest: as in `top_eigenpairs`.
    Some thirty Hessian-vector products, each about two gradients. Returns a float.
    """
    f, theta = flat_loss(model, x, y, loss)
    values, _ = top_eigenpairs(
        f, theta, preconditioner=preconditioner, tol=tol, max_products=max_products
    )
    return float(values[0])


def adam_preconditioner(
    state: State, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> Any:
    r"""What the last update of Adam divided its running average m by, coordinate by coordinate.

    .. math:: d = (1 - \beta_1^t)\,\bigl(\sqrt{v_t / (1 - \beta_2^t)} + \epsilon\bigr)

    `state` is that of `lrteach.optimizers.adam`: a dict with "t" ≥ 1 and "v". Returns the shape of v.
    While d stands still, Adam is averaged momentum on D⁻¹H: stable while
    lr · sharpness < 2 (1 + β₁)/(1 − β₁), which is 38 for β₁ = 0.9.
    Source: Cohen et al. 2022, arXiv 2207.14484.
    """
    _check('state["t"]', state["t"], state["t"] >= 1, "at least one update")
    correction = 1 - betas[0] ** state["t"], 1 - betas[1] ** state["t"]
    return correction[0] * ((state["v"] / correction[1]) ** 0.5 + eps)


def _check(name: str, value: object, holds: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value} is not allowed: {allowed}")
