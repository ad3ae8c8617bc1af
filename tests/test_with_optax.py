"""Tests of the rules against optax: trajectories of 120 updates, in double precision.

JAX is loaded by the first of these tests and not before, and this file is among the last: sweeps
fork, which JAX does not like.
"""

import numpy as np
import pytest
from test_optimizers import gradient_stream, steady_stream

from lrteach.optimizers import (
    adabelief,
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    dadapt_adam,
    dog,
    ema,
    heavy_ball,
    lamb,
    lars,
    lion,
    muon,
    nadam,
    nesterov,
    newton_schulz,
    optimistic,
    polyak,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    signsgd,
    signum,
)

jax = optax = contrib = None
STEPS, SHAPE = 120, (4, 5)


@pytest.fixture(autouse=True)
def in_double_precision():
    global jax, optax, contrib
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    contrib = pytest.importorskip("optax.contrib")
    with jax.enable_x64(True):
        yield


def called(name, names=None, **fixed):
    """Makes optax's optimizer of our keywords: betas are two, others may have other `names`."""

    def make(lr, betas=None, **hyper):
        if betas is not None:
            hyper |= {"b1": betas[0], "b2": betas[1]}
        hyper = {(names or {}).get(key, key): value for key, value in hyper.items()}
        return getattr(optax if hasattr(optax, name) else contrib, name)(lr, **fixed, **hyper)

    return make


def make_signum(lr, momentum=0.9):
    return optax.chain(optax.ema(momentum, debias=False), optax.sign_sgd(lr))


def make_adabelief(lr, betas=(0.9, 0.999), eps=1e-16):
    return optax.adabelief(lr, *betas, eps=eps, eps_root=eps)


def make_dog(lr, r0=1e-6, eps=1e-8):
    return contrib.dog(lr, ("heuristic", r0), eps)


# rule, optax's optimizer for our keywords, hyperparameter sets
COMPARISONS = [
    (sgd, called("sgd"), [{}]),
    (heavy_ball, called("sgd"), [{"momentum": 0.9}, {"momentum": 0.0}]),
    (nesterov, called("sgd", nesterov=True), [{"momentum": 0.9}]),
    (adagrad, called("adagrad", initial_accumulator_value=0.0), [{"eps": 0}]),
    (
        rmsprop,
        called("rmsprop", {"alpha": "decay"}, eps_in_sqrt=False),
        [{"alpha": 0.9}, {"alpha": 0.5, "eps": 1.0}],
    ),
    (adadelta, called("adadelta"), [{"rho": 0.9, "eps": 1e-6}, {"rho": 0.5, "eps": 1.0}]),
    (adam, called("adam"), [{}, {"betas": (0.0, 0.9), "eps": 1.0}]),
    (adamw, called("adamw"), [{"weight_decay": 0.3}]),
    (signsgd, called("sign_sgd"), [{}]),
    (signum, make_signum, [{}, {"momentum": 0.0}, {"momentum": 0.99}]),
    (
        lion,
        called("lion"),
        [{"weight_decay": 0.0}, {"weight_decay": 0.3, "betas": (0.5, 0.9)}, {"betas": (0.0, 0.0), "weight_decay": 0.0}],
    ),
    (adamax, called("adamax"), [{}, {"betas": (0.0, 0.5), "eps": 1.0}]),
    (radam, called("radam"), [{"eps": 0.0}, {"eps": 0.0, "betas": (0.5, 0.99)}]),
    (
        adabelief,
        make_adabelief,
        [{}, {"betas": (0.0, 0.9), "eps": 1e-8}, {"betas": (0.99, 0.5), "eps": 1e-3}],
    ),
    (
        lars,
        called("lars", {"trust": "trust_coefficient"}),
        [{}, {"momentum": 0.0, "weight_decay": 0.1}, {"trust": 1.0, "weight_decay": 2.0}],
    ),
    (
        lamb,
        called("lamb"),
        [{"weight_decay": 0.0}, {"weight_decay": 0.5}, {"betas": (0.0, 0.9), "weight_decay": 0.01, "eps": 1.0}],
    ),
    (dog, make_dog, [{}, {"r0": 0.1, "eps": 1.0}, {"r0": 1e-4}]),
    (optimistic, called("optimistic_gradient_descent"), [{}]),
]  # fmt: skip
CASES = [
    pytest.param(ours, make, hyper, id=f"{ours.__name__}-{hyper}")
    for ours, make, sets in COMPARISONS
    for hyper in sets
]


def losses_of(steps):
    """A loss for each update, sometimes below zero."""
    return np.random.default_rng(3).normal(1, 2, steps)


def our_path(rule, theta, gradients, lr, evaluated=False, **hyper):
    state, path = rule.init(theta), []
    for g, loss in zip(gradients, losses_of(len(gradients)), strict=True):
        more = {"loss": loss} if "loss" in rule.asks else {}
        theta, state = rule(theta, g, state, lr=lr, **more, **hyper)
        path.append(rule.evaluated(theta, state) if evaluated else theta)
    return np.array(path)


def optax_path(optimizer, theta, gradients, value=False, show=lambda state, params: params):
    def update(carry, given):
        params, state = carry
        g, loss = given
        updates, state = optimizer.update(g, state, params, **({"value": loss} if value else {}))
        params = optax.apply_updates(params, updates)
        return (params, state), show(state, params)

    start = jax.numpy.asarray(theta)
    given = jax.numpy.asarray(gradients), jax.numpy.asarray(losses_of(len(gradients)))
    path = jax.lax.scan(update, (start, optimizer.init(start)), given)[1]
    assert path.dtype == np.float64
    return np.asarray(path)


def assert_same_path(ours, theirs, tolerance=1e-10):
    """The same at every update, in proportion to the largest value so far."""
    largest = np.maximum(1, np.maximum.accumulate(np.abs(theirs)))
    assert np.isfinite(theirs).all()
    error = (np.abs(ours - theirs) / largest).max()
    assert error <= tolerance, error


def problem(scale=1.0, seed=1):
    theta = np.random.default_rng(seed).normal(size=SHAPE) * 10
    return theta, scale * gradient_stream(seed + 1, STEPS, SHAPE)


@pytest.mark.parametrize("ours, make, hyper", CASES)
def test_equals_optax_at_every_one_of_120_updates(ours, make, hyper):
    optimizer = make(0.03, **hyper)
    for scale in (1.0, 1e-6, 1e6):
        theta, gradients = problem(scale)
        if hyper.get("eps") == 0:
            gradients[gradients == 0] = scale  # 0 / 0 is no number
        theirs = optax_path(optimizer, theta, gradients)
        assert_same_path(our_path(ours, theta, gradients, 0.03, **hyper), theirs)


@pytest.mark.parametrize("hyper", [{}, {"r0": 1e-3, "eps": 1.0}], ids=repr)
def test_dog_is_that_of_optax_until_its_rate_has_grown_a_thousand_times(hyper):
    theta = np.random.default_rng(1).normal(size=SHAPE) / 1000
    gradients = steady_stream(2, STEPS, SHAPE)
    theirs = optax_path(make_dog(1.0, **hyper), theta, gradients) - theta
    ours = our_path(dog, theta, gradients, 1.0, **hyper) - theta
    walked = np.maximum.accumulate(np.abs(theirs).max(axis=(1, 2)))
    assert walked[-1] > 300 * walked[0]
    assert np.all(np.abs(ours - theirs).max(axis=(1, 2)) <= 1e-10 * walked + 1e-18)


@pytest.mark.parametrize("hyper", [{}, {"cap": 0.01}, {"f_min": 1.0, "cap": 100.0}], ids=repr)
def test_polyak_equals_optax(hyper):
    for scale in (1.0, 1e-3, 1e6):
        theta, gradients = problem(scale)
        gradients[7] = 0.0
        optimizer = optax.polyak_sgd(hyper.get("cap", np.inf), f_min=hyper.get("f_min", 0.0))
        theirs = optax_path(optimizer, theta, gradients, value=True)
        assert_same_path(our_path(polyak, theta, gradients, 1.0, **hyper), theirs)


@pytest.mark.parametrize("ours, make", [(lars, called("lars")), (lamb, called("lamb"))])
def test_zero_weights_and_zero_gradients_have_the_ratio_1(ours, make):
    theta, gradients = problem()
    gradients[3:6] = 0.0
    optimizer = make(0.03, weight_decay=0.0)
    theirs = optax_path(optimizer, 0 * theta, gradients)
    assert_same_path(our_path(ours, 0 * theta, gradients, 0.03, weight_decay=0.0), theirs)


@pytest.mark.parametrize(
    "ours, make",
    [
        (schedule_free_sgd, called("schedule_free_sgd", {"momentum": "b1"})),
        (schedule_free_adamw, called("schedule_free_adamw")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_schedule_free_equals_optax_where_it_walks_and_where_it_is_evaluated(ours, make, decay):
    hyper = {"weight_decay": decay}
    hyper |= {"betas": (0.8, 0.99)} if ours is schedule_free_adamw else {"momentum": 0.8}
    theta, gradients = problem()
    optimizer = make(0.03, **hyper)
    theirs = optax_path(optimizer, theta, gradients)
    assert_same_path(our_path(ours, theta, gradients, 0.03, **hyper), theirs)
    theirs = optax_path(optimizer, theta, gradients, show=contrib.schedule_free_eval_params)
    assert_same_path(our_path(ours, theta, gradients, 0.03, evaluated=True, **hyper), theirs)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (1, 4), (5, 5)])
def test_newton_schulz_is_that_of_optax(shape):
    x = np.random.default_rng(5).normal(size=shape)
    x /= np.linalg.norm(x)
    theirs = contrib._muon.orthogonalize_via_newton_schulz(
        jax.numpy.asarray(x), jax.numpy.array([3.4445, -4.7750, 2.0315]), eps=0.0
    )
    np.testing.assert_allclose(newton_schulz(x[None])[0], theirs, rtol=0, atol=1e-12)


# --- Where conventions differ --------------------------------------------------------------------


def difference(ours, optimizer, **hyper):
    theta, gradients = problem()
    theirs = optax_path(optimizer, theta, gradients)
    return np.abs(our_path(ours, theta, gradients, 0.03, **hyper) - theirs).max(axis=(1, 2))


def test_amsgrad_of_optax_keeps_the_largest_corrected_variance():
    # So a falling variance is held higher, and steps are shorter, from the second update on.
    theta, g = np.zeros(1), np.array([[10.0], *[[1.0]] * 20])
    theirs = optax_path(optax.amsgrad(0.03), theta, g)
    ours = our_path(amsgrad, theta, g, 0.03)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    steps, others = np.diff(ours[:, 0]), np.diff(theirs[:, 0])
    assert np.all(np.abs(steps) > 1.3 * np.abs(others))


def test_nadam_of_optax_has_a_constant_momentum():
    # The first step: ours mixes with mu_1 and mu_2, optax's with beta1 at both.
    g = np.ones((1, 1))
    ours = our_path(nadam, np.zeros(1), g, 1.0, eps=0.0)[0, 0]
    theirs = optax_path(optax.nadam(1.0, eps=0.0), np.zeros(1), g)[0, 0]
    mu = [0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2)]
    assert ours == pytest.approx(-(1 + mu[1] * 0.1 / (1 - mu[0] * mu[1])), rel=1e-12)
    assert theirs == pytest.approx(-(1 + 0.9 * 0.1 / (1 - 0.9**2)), rel=1e-12)


def test_radam_of_optax_adds_eps_to_the_corrected_root():
    small = difference(radam, optax.radam(0.03, eps=1e-2), eps=1e-2)
    assert small[4] < 1e-12 < 1e-4 < small[-1]  # the first five are momentum steps


@pytest.mark.parametrize(
    "ours, make", [(dadapt_adam, called("dadapt_adamw")), (prodigy, called("prodigy"))]
)
def test_optax_corrects_the_bias_of_methods_that_find_d(ours, make):
    theta, gradients = problem()
    step = our_path(ours, theta, gradients[:1], 1.0)[0] - theta
    other = optax_path(make(1.0), theta, gradients[:1])[0] - theta
    ratio = (1 - 0.999) ** 0.5 / (1 - 0.9)
    assert ratio == pytest.approx(0.316, abs=1e-3)
    np.testing.assert_allclose(other, ratio * step, rtol=0, atol=1e-4 * np.abs(other).max())


def optax_muon(theta, gradients, beta):
    """optax has a weight's inputs first, and its outputs second."""
    optimizer = contrib.muon(0.03, beta=beta, weight_decay=0.1, eps=0.0)
    return optax_path(optimizer, theta.T, gradients.swapaxes(1, 2)).swapaxes(1, 2)


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (1, 3), (3, 1)])
def test_without_momentum_muon_is_that_of_optax(shape):
    theta = np.random.default_rng(1).normal(size=shape)
    gradients = gradient_stream(2, STEPS, shape)
    theirs = optax_muon(theta, gradients, beta=0.0)
    assert_same_path(our_path(muon, theta, gradients, 0.03, momentum=0.0), theirs)


def test_muon_of_optax_corrects_the_bias_of_its_momentum():
    # NS ignores the scale, but while it lasts the correction mixes m and g in other parts.
    theta, gradients = problem()
    error = np.abs(our_path(muon, theta, gradients, 0.03) - optax_muon(theta, gradients, 0.95))
    assert error[0].max() < 1e-10  # one gradient alone
    assert error[1].max() > 1e-4
    late = np.abs(np.diff(our_path(muon, theta, gradients, 0.03), axis=0))[-1]
    assert late.max() < 0.1  # steps of about the rate, of which the difference is a part


def test_muon_gives_vectors_to_adamw_as_optax_does_without_nesterov():
    theta, gradients = (x[..., 0] for x in problem())
    adam = optax_path(optax.adamw(0.015, weight_decay=0.1), theta, gradients)
    assert_same_path(our_path(muon, theta, gradients, 0.03, others=0.5), adam)
    optimizer = contrib.muon(0.03, adam_weight_decay=0.1, adam_learning_rate=0.015)
    nesterov = optax.adamw(0.015, weight_decay=0.1, nesterov=True)
    assert_same_path(
        optax_path(optimizer, theta, gradients), optax_path(nesterov, theta, gradients)
    )


def test_polyak_of_optax_divides_by_its_scaling():
    # It scales the gradient, and then measures the scaled one's length.
    theta, gradients = problem()
    step = our_path(polyak, theta, gradients[:1], 0.5)[0] - theta
    other = optax_path(optax.polyak_sgd(np.inf, 0.5), theta, gradients[:1], value=True)[0] - theta
    np.testing.assert_allclose(other, 4 * step, rtol=1e-9, atol=1e-12)


def test_polyak_of_optax_makes_no_step_on_a_tiny_gradient():
    theta, gradients = np.zeros(3), np.full((1, 3), 1e-9)
    assert not optax_path(optax.polyak_sgd(np.inf), theta, gradients, value=True).any()
    assert our_path(polyak, theta, gradients, 1.0).all()


def test_rprop_of_optax_makes_each_step_one_update_later():
    theta, gradients = np.zeros(2), np.ones((6, 2))
    theirs = optax_path(optax.rprop(0.03), theta, gradients)
    assert not theirs[0].any()
    np.testing.assert_allclose(our_path(rprop, theta, gradients, 0.03)[:-1], theirs[1:], rtol=1e-12)


def test_optimistic_starts_with_the_step_of_sgd():
    theta, gradients = problem()
    first = our_path(optimistic, theta, gradients[:1], 0.03)
    assert np.array_equal(first, our_path(sgd, theta, gradients[:1], 0.03))


def test_ema_of_optax_starts_at_zero_and_corrects_the_bias():
    theta, gradients = problem()
    ours = our_path(ema(sgd, decay=0.9), theta, gradients, 0.03, evaluated=True)
    path = our_path(sgd, theta, gradients, 0.03)
    average = optax.ema(0.9)
    state, theirs = average.init(jax.numpy.asarray(theta)), []
    for point in path:
        mean, state = average.update(jax.numpy.asarray(point), state)
        theirs.append(np.asarray(mean))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert np.abs(ours[2] - theirs[2]).max() > 1e-3
    assert_same_path(ours[-1:], np.array(theirs[-1:]), tolerance=1e-4)  # 0.9¹²⁰ of the start
