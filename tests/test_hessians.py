"""Tests of lrteach.hessians, against dense Hessians, row by row from torch.func.jacrev."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad, jacrev

import lrteach
from lrteach.hessians import (
    adam_preconditioner,
    flat_loss,
    hessian_product,
    lanczos,
    sharpness,
    top_eigenpairs,
)
from lrteach.models import cnn, initialise, mlp
from lrteach.optimizers import adam, heavy_ball, sgd


def case(kind):
    """(model, x, y, loss) in float64."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(12, 5)))
    classes = torch.from_numpy(rng.integers(0, 3, 12))
    numbers = torch.from_numpy(rng.normal(size=(12, 3)))
    if kind == "classes":
        return mlp((5, 6, 3), "tanh"), x, classes, None
    if kind == "numbers":
        return mlp((5, 4, 4, 3), "tanh"), x, numbers, None
    if kind == "own loss":
        return mlp((5, 6, 3)), x, numbers, lambda out, y: (out - y).abs().pow(3).sum()
    if kind == "frozen and normalised":
        model = nn.Sequential(
            nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)
        )
        model[0].weight.requires_grad_(False)
        return model, x, classes, None
    images = torch.from_numpy(rng.normal(size=(3, 1, 28, 28)))
    return cnn((1, 1, 2), hidden=3), images, classes[:3], None


KINDS = ["classes", "numbers", "own loss", "frozen and normalised", "images"]


def prepared(kind):
    model, x, y, loss = case(kind)
    return initialise(model.double(), 1), x, y, loss


@pytest.mark.parametrize("kind", KINDS)
def test_the_flat_loss_is_the_loss_of_the_model_and_leaves_it_alone(kind):
    model, x, y, loss = prepared(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    f, theta = flat_loss(model, x, y, loss)
    model.eval()
    if loss is None:
        loss = nn.functional.mse_loss if y.is_floating_point() else nn.functional.cross_entropy
    assert f(theta).item() == pytest.approx(loss(model(x), y).item(), rel=1e-12)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(theta) == sum(p.numel() for p in trained)
    gradients = torch.autograd.grad(loss(model(x), y), trained)
    expected = torch.cat([g.reshape(-1) for g in gradients])
    torch.testing.assert_close(grad(f)(theta), expected, rtol=1e-10, atol=1e-12)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_products_and_eigenpairs_are_those_of_the_dense_hessian(kind):
    model, x, y, loss = prepared(kind)
    f, theta = flat_loss(model, x, y, loss)
    H = jacrev(grad(f))(theta)
    v = torch.sin(torch.arange(1.0, len(theta) + 1)).double()
    Hv = hessian_product(f, theta)(v)
    torch.testing.assert_close(Hv, H @ v, rtol=1e-8, atol=1e-10)

    dense = torch.linalg.eigvalsh(H).numpy()[::-1]
    values, vectors = top_eigenpairs(f, theta, k=3, tol=1e-7)
    np.testing.assert_allclose(values, dense[:3], rtol=1e-6)
    expected = vectors * torch.from_numpy(values)
    torch.testing.assert_close(H @ vectors, expected, rtol=0, atol=1e-6 * abs(dense).max())
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3).double(), rtol=0, atol=1e-10)
    assert sharpness(model, x, y, loss=loss) == pytest.approx(dense[0], rel=1e-4)
    assert lrteach.sharpness is sharpness


def test_arrays_and_single_precision_will_do():
    model, x, y, _ = prepared("classes")
    exact = sharpness(model, x, y)
    assert sharpness(model, x.numpy(), y.numpy()) == exact
    assert sharpness(model.float(), x, y) == pytest.approx(exact, rel=1e-4)
    f, theta = flat_loss(model, x, y)
    assert theta.dtype == f(theta).dtype == torch.float32


def test_the_preconditioned_hessian_is_that_of_other_units():
    model, x, y, _ = prepared("numbers")
    f, theta = flat_loss(model, x, y)
    d = torch.exp(torch.sin(torch.arange(len(theta)).double()))
    H = jacrev(grad(f))(theta)
    dense = torch.linalg.eigvalsh(H / torch.outer(d, d).sqrt()).numpy()[::-1]
    values, _ = top_eigenpairs(f, theta, k=2, preconditioner=d, tol=1e-7)
    np.testing.assert_allclose(values, dense[:2], rtol=1e-8)
    unsymmetric = torch.linalg.eigvals(H / d[:, None]).real.max().item()
    assert sharpness(model, x, y, preconditioner=d) == pytest.approx(unsymmetric, rel=1e-4)
    rescaled, _ = top_eigenpairs(lambda z: f(z / d.sqrt()), theta * d.sqrt())
    assert rescaled[0] == pytest.approx(dense[0], rel=1e-4)


def test_adams_preconditioner_is_what_adam_divides_by():
    theta, state = torch.ones(4).double(), None
    g, betas, eps, lr = torch.tensor([1.0, -2.0, 1e-3, 0.0]).double(), (0.8, 0.95), 1e-3, 0.1
    state = adam.init(theta)
    for t in range(3):
        before = theta
        theta, state = adam(theta, g * (t + 1), state, lr=lr, betas=betas, eps=eps)
        d = adam_preconditioner(state, betas, eps)
        torch.testing.assert_close(theta, before - lr * state["m"] / d, rtol=1e-12, atol=1e-15)
    numbers = adam_preconditioner({"t": 1, "v": np.array([0.001])})
    np.testing.assert_allclose(numbers, [0.1 * (1 + 1e-8)])
    with pytest.raises(ValueError, match=re.escape('state["t"]=0 is not allowed')):
        adam_preconditioner(adam.init(theta))


@pytest.mark.parametrize(
    "rule, hyper, limit",
    [
        (sgd, {}, 2.0),
        (heavy_ball, {"momentum": 0.5}, 3.0),
        (adam, {"betas": (0.5, 1 - 1e-12)}, 6.0),
        (adam, {"betas": (0.9, 1 - 1e-12)}, 38.0),
    ],
)
@pytest.mark.parametrize("share", [0.98, 1.02])
def test_the_limits_hold_on_a_bowl_with_the_preconditioner_at_rest(rule, hyper, limit, share):
    """Adam gets an old v, which a memory of 10¹² updates keeps."""
    h = torch.tensor([3.0, 1.0, 0.5]).double()
    theta = torch.tensor([1e-6, 1e-6, 1e-6]).double()
    state = rule.init(theta)
    d = None
    if rule is adam:
        d = torch.tensor([4.0, 0.5, 2.0]).double()
        state = {**state, "t": 10**6, "v": d**2 * (1 - hyper["betas"][1] ** 10**6)}
        d = adam_preconditioner({**state}, hyper["betas"], 0.0)
        hyper = {**hyper, "eps": 0.0}
    top, _ = top_eigenpairs(lambda x: (h * x**2).sum() / 2, theta, preconditioner=d)
    largest = []
    for _ in range(1000):
        theta, state = rule(theta, h * theta, state, lr=share * limit / top[0], **hyper)
        largest.append(theta.abs().max().item())
    if share < 1:
        assert largest[-1] < 1e-7 and max(largest) < 1e-4
    else:  # when it is large, Adam's v is no longer at rest
        assert max(largest) > 1e-2


def matrix(eigenvalues):
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(len(eigenvalues),) * 2))[0]
    return torch.from_numpy(Q * eigenvalues @ Q.T)


START = torch.from_numpy(np.random.default_rng(2).normal(size=200))


def counted(A):
    calls = []

    def product(v):
        calls.append(v)
        return A @ v

    return product, calls


def test_lanczos_reaches_its_tolerance_and_no_more():
    eigenvalues = np.r_[-20.0, np.linspace(-1, 1, 197), 5.0, 5.5]
    A = matrix(eigenvalues)
    for tol in (1e-2, 1e-8):
        product, calls = counted(A)
        values, vectors = lanczos(product, START, 2, tol)
        residual = A @ vectors - vectors * torch.from_numpy(values)
        assert residual.norm(dim=0).max() <= tol * 20 * (1 + 1e-6)
        np.testing.assert_allclose(values, [5.5, 5.0], atol=20 * tol)
    assert len(calls) < 60
    hint = top_eigenpairs(lambda v: v @ A @ v / 2, START, near=vectors[:, 0])
    assert hint[0][0] == pytest.approx(5.5, rel=1e-6)


def test_lanczos_makes_no_ghosts():
    """Without orthogonalising, rounding brings found eigenvalues back as copies of themselves."""
    eigenvalues = np.r_[np.linspace(0, 1, 190), 10.0 ** np.arange(1, 11)]
    values, _ = lanczos(lambda v: matrix(eigenvalues) @ v, START, 10, 1e-12)
    np.testing.assert_allclose(values, eigenvalues[:-11:-1], rtol=1e-5)


def test_lanczos_ends_where_the_vectors_end():
    A = matrix(np.repeat([3.0, 1.0, -2.0], [50, 100, 50]))
    values, _ = lanczos(lambda v: A @ v, START, 3)
    np.testing.assert_allclose(values, [3, 1, -2], atol=1e-9)
    with pytest.raises(RuntimeError, match="k=4 is too many: 3 different eigenvalues"):
        lanczos(lambda v: A @ v, START, 4)
    assert lanczos(lambda v: 0 * v, START)[0] == [0.0]
    every, _ = lanczos(lambda v: torch.tensor([2.0, 1.0]) * v, torch.ones(2), 2)
    np.testing.assert_allclose(every, [2, 1], rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 0}, "k=0 is not allowed: an int from 1 to 200"),
        ({"k": 201}, "k=201 is not allowed: an int from 1 to 200"),
        ({"tol": 0}, "tol=0 is not allowed: a finite number > 0"),
        ({"tol": float("nan")}, "tol=nan is not allowed"),
        ({"k": 3, "max_products": 2}, "max_products=2 is not allowed: an int >= k = 3"),
        ({"start": 0 * START}, "start=of length 0.0 is not allowed"),
        ({"start": START[None]}, "(1, 200) is not allowed"),
        ({"start": [1.0]}, "list is not allowed"),
        ({"product": lambda v: v / 0}, "product gave values that are not finite, in call 1"),
    ],
)
def test_what_lanczos_does_not_allow_is_named(arguments, message):
    arguments = {"product": lambda v: v, "start": START} | arguments
    with pytest.raises(ValueError, match=re.escape(message)):
        lanczos(**arguments)


def test_other_errors_name_what_is_wrong():
    A = matrix(np.linspace(0, 1, 200))
    with pytest.raises(RuntimeError, match="max_products=5 were not enough: an error is still 0"):
        lanczos(lambda v: A @ v, START, max_products=5)
    f = lambda theta: (theta**2).sum()  # noqa: E731
    for d in (torch.ones(199), -torch.ones(200), torch.full((200,), float("inf"))):
        with pytest.raises(ValueError, match="preconditioner of shape"):
            top_eigenpairs(f, START, preconditioner=d)
    with pytest.raises(ValueError, match="theta is not allowed: the gradient there is not finite"):
        top_eigenpairs(f, START * float("inf"))
    with pytest.raises(ValueError, match="model=Tanh is not allowed: it has no trained parameter"):
        sharpness(nn.Tanh(), START, START)
