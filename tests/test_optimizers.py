"""Tests of lrteach.optimizers: every rule against torch.optim, and what its formula promises."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrteach import optimizers
from lrteach.optimizers import (
    Rule,
    adabelief,
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    dadapt_adam,
    dadapt_sgd,
    dog,
    ema,
    extragradient,
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
    rule,
    schedule_free_adamw,
    sgd,
    signsgd,
    signum,
    tail_average,
)
from lrteach.rules import number

# rule, torch's class, torch's extra keywords, hyperparameter sets
COMPARISONS = [
    (sgd, torch.optim.SGD, {}, [{}]),
    (
        heavy_ball,
        torch.optim.SGD,
        {},
        [{"momentum": 0.9}, {"momentum": 0.0}, {"momentum": 0.999}],
    ),
    (
        nesterov,
        torch.optim.SGD,
        {"nesterov": True},
        [{"momentum": 0.9}, {"momentum": 0.5}, {"momentum": 0.999}],
    ),
    (adagrad, torch.optim.Adagrad, {}, [{}, {"eps": 1e-30}, {"eps": 1.0}]),
    (
        rmsprop,
        torch.optim.RMSprop,
        {},
        [{}, {"alpha": 0.9, "eps": 1e-30}, {"alpha": 0.0}, {"alpha": 0.5, "eps": 10.0}],
    ),
    (
        adadelta,
        torch.optim.Adadelta,
        {},
        [{}, {"rho": 0.5, "eps": 1e-20}, {"rho": 0.0, "eps": 1.0}, {"rho": 0.99}],
    ),
    (
        adam,
        torch.optim.Adam,
        {},
        [
            {},
            {"betas": (0.0, 0.999)},
            {"betas": (0.9, 0.9), "eps": 1e-30},
            {"betas": (0.0, 0.0), "eps": 1.0},
            {"betas": (0.99, 0.5), "eps": 1e3},
        ],
    ),
    (
        adamw,
        torch.optim.AdamW,
        {},
        [
            {},
            {"weight_decay": 0.0},
            {"weight_decay": 5.0, "betas": (0.0, 0.999)},
            {"weight_decay": 0.1, "betas": (0.9, 0.9), "eps": 1e-30},
        ],
    ),
    (
        rprop,
        torch.optim.Rprop,
        {},
        [{}, {"etas": (0.1, 3.0)}, {"step_sizes": (0.1, 0.5)}, {"etas": (0.9, 1.01)}],
    ),
    (
        amsgrad,
        torch.optim.Adam,
        {"amsgrad": True},
        [{}, {"betas": (0.0, 0.5)}, {"betas": (0.9, 0.9), "eps": 1e-30}, {"eps": 1.0}],
    ),
    (
        adamax,
        torch.optim.Adamax,
        {},
        [{}, {"betas": (0.0, 0.9)}, {"betas": (0.99, 0.5), "eps": 1e-30}, {"eps": 10.0}],
    ),
    (
        nadam,
        torch.optim.NAdam,
        {},
        [
            {},
            {"betas": (0.0, 0.9)},
            {"betas": (0.99, 0.99), "momentum_decay": 0.3},
            {"momentum_decay": 0.0, "eps": 1.0},
        ],
    ),
    (
        radam,
        torch.optim.RAdam,
        {},
        [{}, {"betas": (0.0, 0.9)}, {"betas": (0.9, 0.5)}, {"betas": (0.5, 0.99), "eps": 1.0}],
    ),
    (
        adafactor,
        torch.optim.Adafactor,
        {},
        [
            {},
            {"weight_decay": 0.3, "d": 2.0},
            {"beta2_decay": -0.3, "eps1": 1e-10, "eps2": 1.0},
            {"beta2_decay": 0.0, "eps1": 1.0},
        ],
    ),
    (
        muon,
        torch.optim.Muon,
        {},
        [
            {},
            {"momentum": 0.0, "weight_decay": 0.0},
            {"momentum": 0.5, "ns_steps": 1},
            {"weight_decay": 2.0},
        ],
    ),
]
CASES = [
    pytest.param(ours, theirs, extra, hyper, id=f"{ours.__name__}-{hyper}")
    for ours, theirs, extra, sets in COMPARISONS
    for hyper in sets
]
TORCHS = [case[0] for case in COMPARISONS]
RULES = [each for each in vars(optimizers).values() if isinstance(each, Rule)]
AVERAGED = [ema(adam), tail_average(heavy_ball, after=5), ema(dog, decay=0.5), tail_average(muon)]
RULES += AVERAGED
each_rule = pytest.mark.parametrize("each", RULES, ids=lambda r: r.__name__)
LR = 0.03


def gradient_stream(seed, steps, shape):
    """Gradients that no pattern helps: signs change, tails are heavy, some are exactly zero."""
    rng = np.random.default_rng(seed)
    g = rng.standard_t(2, (steps, *shape))
    g *= rng.choice([1e-3, 1.0, 1e2], (steps, *shape))
    g[rng.random(g.shape) < 0.1] = 0.0
    return g


def steady_stream(seed, steps, shape):
    """Gradients with one direction in them, so that methods that look for a distance find one."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], shape) + rng.normal(size=(steps, *shape))


def run(rule, theta, gradients, lr=LR, **hyper):
    """The path on a stream of gradients: whatever the point, and with a loss that falls."""
    state = rule.init(theta)
    path = []
    for t, g in enumerate(gradients):
        theta, state = rule(theta, g, state, lr=lr, **answers(rule, theta, g, 9 / (1 + t)), **hyper)
        path.append(theta)
    return path


def answers(rule, theta, g, loss=1.0):
    """What a rule asks its caller for."""
    given = {"loss": loss, "gradient": lambda point: 0.5 * g + 0.1 * (point - theta)}
    return {name: given[name] for name in rule.asks & given.keys()}


def descend(rule, curvature, theta, lr, steps=25, **hyper):
    """A run on a quadratic, whose gradient depends on where the run is."""
    state, more = rule.init(theta), {}
    if "gradient" in rule.asks:
        more["gradient"] = lambda point: curvature * point
    for _ in range(steps):
        if "loss" in rule.asks:
            x = curvature * theta * theta
            more["loss"] = 0.5 * x.reshape(len(lr), -1).sum(-1) if np.ndim(lr) else 0.5 * x.sum()
        theta, state = rule(theta, curvature * theta, state, lr=lr, **more, **hyper)
    return theta


def torch_path(optimizer_class, theta, gradients, **hyper):
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    if optimizer_class is torch.optim.Adafactor:
        hyper["eps"] = (hyper.pop("eps1", 1e-16), hyper.pop("eps2", 1e-3))
    optimizer = optimizer_class([p], **hyper)
    path = []
    for g in gradients:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return path


# --- Against torch.optim -------------------------------------------------------------------------


@pytest.fixture
def in_double_precision(monkeypatch):
    """Muon rounds a matrix to bfloat16 before it makes it orthogonal, NAdam a number to float32."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double_precision")
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("ours, theirs, extra, hyper", CASES)
def test_equals_torch_optim_at_every_one_of_120_steps(ours, theirs, extra, hyper, scale):
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(4, 5)) * 10
    gradients = scale * gradient_stream(2, 120, theta.shape)
    if {"alpha", "betas"} & set(ours.defaults) and (
        hyper.get("alpha") == 0 or hyper.get("betas", (0, 1))[1] == 0
    ):
        gradients[gradients == 0] = scale  # without memory, 0 / eps needs no comparison
    expected = torch_path(theirs, theta, gradients, lr=LR, **extra, **hyper)

    in_numpy = run(ours, theta, gradients, **hyper)
    in_torch = run(ours, torch.from_numpy(theta), torch.from_numpy(gradients), **hyper)
    # Where theta was large before, it carries the rounding errors of that size.
    largest = np.maximum.accumulate(np.abs(expected))
    for t, (a, b, want) in enumerate(zip(in_numpy, in_torch, expected, strict=True)):
        tolerance = 1e-12 * np.maximum(1, largest[t])
        assert np.all(np.abs(a - want) <= tolerance), f"NumPy form, update {t + 1}"
        assert np.all(np.abs(b.numpy() - want) <= tolerance), f"torch form, update {t + 1}"
    assert not np.array_equal(in_numpy[-1], theta)


@pytest.mark.parametrize("hyper", [{}, {"beta2_decay": -0.3, "eps1": 1e-10, "d": 2.0}], ids=repr)
def test_adafactor_keeps_the_whole_variance_of_a_vector_as_torch_does(hyper):
    theta = np.random.default_rng(1).normal(size=5) * 10
    gradients = gradient_stream(2, 120, theta.shape)
    expected = torch_path(torch.optim.Adafactor, theta, gradients, lr=LR, **hyper)
    np.testing.assert_allclose(run(adafactor, theta, gradients, **hyper), expected, rtol=1e-12)


@pytest.mark.usefixtures("in_double_precision")
def test_muon_divides_a_gradient_near_zero_by_what_torch_does():
    theta = np.random.default_rng(1).normal(size=(4, 5))
    gradients = 1e-9 * np.random.default_rng(2).normal(size=(20, 4, 5))
    expected = torch_path(torch.optim.Muon, theta, gradients, lr=LR, weight_decay=0.0)
    moved = np.array(run(muon, theta, gradients, weight_decay=0.0)) - theta
    np.testing.assert_allclose(moved, np.array(expected) - theta, rtol=1e-9)


@pytest.mark.parametrize("each", TORCHS, ids=lambda r: r.__name__)
def test_the_defaults_are_those_of_torch(each):
    theirs, extra = next((c[1], c[2]) for c in COMPARISONS if c[0] is each)
    if theirs is torch.optim.SGD:
        extra = {**extra, "momentum": 0.9}  # torch has no default momentum but 0
    defaults = theirs([torch.zeros(1, 1)], lr=LR, **extra).defaults
    own = {"eps1", "eps2", "others", "betas", "eps"} if each in (adafactor, muon) else set()
    names = each.defaults.keys() - own
    assert {name: defaults[name] for name in names} == {n: each.defaults[n] for n in names}


# --- Properties ----------------------------------------------------------------------------------

scales = st.floats(1e-6, 1e6)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=scales)
@pytest.mark.parametrize(
    "each, hyper",
    [
        (adagrad, {"eps": 0.0}),
        (rmsprop, {"eps": 0.0}),
        (adam, {"eps": 0.0}),
        (adamw, {"eps": 0.0, "weight_decay": 0.1}),
        (amsgrad, {"eps": 0.0}),
        (adamax, {"eps": 0.0}),
        (nadam, {"eps": 0.0}),
        (adabelief, {"eps": 0.0}),
        (signsgd, {}),
        (signum, {}),
        (lion, {"weight_decay": 0.1}),
        (rprop, {}),
        (lars, {}),
        (lamb, {"eps": 0.0}),
        (schedule_free_adamw, {"eps": 0.0}),
        (dog, {"eps": 0.0}),
        (dadapt_sgd, {}),
        (dadapt_adam, {"eps": 0.0}),
        (prodigy, {"eps": 0.0}),
        (ema(adam), {"eps": 0.0}),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_path_of_adaptive_rules_does_not_depend_on_the_gradients_scale(each, hyper, seed, c):
    gradients = gradient_stream(seed, 20, (3,))
    gradients[gradients == 0] = 1.0  # 0 / 0 at the first step has no answer
    theta = np.array([1.0, -2.0, 30.0])
    one, scaled = (run(each, theta, f * gradients, **hyper) for f in (1.0, c))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(scaled, one, rtol=1e-10, atol=1e-10 * np.abs(one).max())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=st.floats(1e-3, 1e3))
@pytest.mark.parametrize(
    "each, hyper",
    [(adafactor, {}), (muon, {}), (muon, {"momentum": 0.0}), (tail_average(muon), {})],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_path_of_rules_for_matrices_does_not_depend_on_the_gradients_scale_either(
    each, hyper, seed, c
):
    gradients = gradient_stream(seed, 20, (3, 4))
    gradients[gradients == 0] = 1.0
    theta = np.arange(12.0).reshape(3, 4) - 5
    one, scaled = (run(each, theta, f * gradients, **hyper) for f in (1.0, c))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(scaled, one, rtol=1e-10, atol=1e-10 * np.abs(one).max())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=scales)
def test_polyaks_step_does_not_depend_on_the_unit_of_the_loss(seed, c):
    gradients = gradient_stream(seed, 20, (3,))
    theta = np.array([1.0, -2.0, 30.0])
    paths = []
    for f in (1.0, c):
        point, path = theta, []
        for g in gradients:
            point, _ = polyak(point, f * g, {"t": 0}, lr=0.1, loss=f * 2.5)
            path.append(point)
        paths.append(np.array(path))
    np.testing.assert_allclose(paths[1], paths[0], rtol=1e-10, atol=1e-10 * np.abs(paths[0]).max())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=scales)
@pytest.mark.parametrize("each", [lars, lamb], ids=lambda r: r.__name__)
def test_layers_of_lars_and_lamb_move_in_proportion_to_their_weights(each, seed, c):
    # Weights times c with gradients over c, as behind a normalisation: all steps times c.
    gradients = gradient_stream(seed, 20, (3,))
    gradients[gradients == 0] = 1.0
    theta = np.array([1.0, -2.0, 30.0])
    hyper = {"eps": 0.0, "weight_decay": 0.0} if each is lamb else {}
    one = np.array(run(each, theta, gradients, **hyper))
    scaled = run(each, c * theta, gradients / c, **hyper)
    np.testing.assert_allclose(scaled, c * one, rtol=1e-9, atol=1e-9 * c * np.abs(one).max())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=scales)
@pytest.mark.parametrize("each", [sgd, heavy_ball, nesterov], ids=lambda r: r.__name__)
def test_for_sgd_and_momentum_a_scaled_gradient_is_a_scaled_rate(each, seed, c):
    gradients = gradient_stream(seed, 20, (3,))
    theta = np.array([1.0, -2.0, 30.0])
    scaled = run(each, theta, c * gradients, lr=LR)
    same = run(each, theta, gradients, lr=c * LR)
    scale = 1 + np.abs(same).max()
    np.testing.assert_allclose(scaled, same, rtol=1e-10, atol=1e-10 * scale)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, c=scales)
def test_adadelta_moves_c_times_as_far_when_theta_and_eps_have_units_of_c(seed, c):
    # Δ has the units of sqrt(eps) / sqrt(eps) · g: gradients times c with eps times c² leave
    # sqrt(v + eps) / g alone and make sqrt(u + eps), so every step, c times as large.
    gradients = gradient_stream(seed, 20, (3,))
    theta = np.zeros(3)
    moved = run(adadelta, theta, gradients, lr=1.0, eps=1e-6)
    scaled = run(adadelta, theta, c * gradients, lr=1.0, eps=1e-6 * c**2)
    np.testing.assert_allclose(scaled, c * np.array(moved), rtol=1e-9, atol=1e-12 * c)


def test_adam_first_step_is_lr_whatever_the_gradient():
    g = np.array([1e-6, -1.0, 1e6])
    theta, _ = adam(np.zeros(3), g, adam.init(np.zeros(3)), lr=LR, eps=0.0)
    np.testing.assert_allclose(theta, -LR * np.sign(g), rtol=1e-15)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=seeds,
    k=st.integers(1, 19),
    tail=st.sampled_from([(), (3,), (17,), (2, 5)]),
)
@each_rule
def test_k_runs_at_once_are_bit_identical_to_single_runs(each, library, seed, k, tail):
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(k, *tail))
    curvature = rng.uniform(0.1, 10, tail)
    lrs = 10 ** rng.uniform(-4, -1.5, k)
    if library == "torch":
        theta, curvature, lrs = map(torch.as_tensor, (theta, curvature, lrs))
    together = descend(each, curvature, theta, lrs)
    for i in range(k):
        alone = descend(each, curvature, theta[i : i + 1].reshape(tail), float(lrs[i]))
        assert np.array_equal(np.asarray(together[i]), np.asarray(alone))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("tail", [(2, 5), (5, 2), (3, 2, 2)])
@pytest.mark.parametrize("each", [r for r in RULES if r.layerwise], ids=lambda r: r.__name__)
def test_matrices_of_k_runs_at_once_are_bit_identical_to_those_of_single_runs(each, tail, library):
    rng = np.random.default_rng(7)
    theta, curvature = rng.normal(size=(9, *tail)), rng.uniform(0.1, 10, tail)
    lrs = 10 ** rng.uniform(-4, -1.5, 9)
    if library == "torch":
        theta, curvature, lrs = map(torch.as_tensor, (theta, curvature, lrs))
    together = descend(each, curvature, theta, lrs)
    for i in range(9):
        alone = descend(each, curvature, theta[i], float(lrs[i]))
        assert np.array_equal(np.asarray(together[i]), np.asarray(alone))


@pytest.mark.parametrize("shape", [(40, 2, 3), (40, 3, 2), (1, 5, 2)])
def test_newton_schulz_of_many_matrices_is_that_of_each(shape):
    x = np.random.default_rng(6).normal(size=shape) / 9
    together = newton_schulz(x)
    for one, all_at_once in zip(x, together, strict=True):
        np.testing.assert_allclose(newton_schulz(one[None])[0], all_at_once, rtol=1e-12)
        # the singular vectors stay, the values are those of the polynomial (Jordan et al. 2024)
        u, s, vt = np.linalg.svd(one, full_matrices=False)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        np.testing.assert_allclose(all_at_once, u * s @ vt, rtol=0, atol=1e-10)


@each_rule
def test_runs_of_a_single_number_are_bit_identical_too(each):
    # NumPy takes x**2 of a scalar with pow(), which rounds differently once in a thousand: here.
    g = np.array([0.3624182010806754, 1.8871580461934296, 1.2291748224027053])
    together, states = each(g, g, each.init(g), lr=np.full(3, 0.01), **answers(each, g, g))
    for i, x in enumerate(g):
        alone, state = each(x, x, each.init(x), lr=0.01, **answers(each, x, x))
        assert alone == together[i]
        rows = [np.broadcast_to(states[name], 3)[i] for name in each.slots]
        assert [state[name] for name in each.slots] == rows


@each_rule
def test_one_run_that_overflows_leaves_the_others_bit_identical(each):
    theta = np.random.default_rng(3).normal(size=(3, 4))
    lrs = np.array([0.01, 1e300, 0.03])
    curvature = np.array([5.0, 2.0, 1.0, 0.5])
    with np.errstate(all="ignore"):
        together = descend(each, curvature, theta, lrs, steps=60)
    kept = descend(each, curvature, theta[[0, 2]], lrs[[0, 2]], steps=60)
    assert np.array_equal(together[[0, 2]], kept)
    if each not in (rprop, adafactor, signsgd, signum, lion):  # which jump there and back
        assert not np.all(np.abs(together[1]) < 1e100)


@each_rule
def test_numpy_and_torch_are_bit_identical_in_float64_where_no_root_is_taken(each):
    # IEEE 754 rounds + - * / in one way. torch's square root (MKL's) is at times one bit off.
    theta = np.random.default_rng(4).normal(size=(37,))
    gradients = gradient_stream(5, 100, theta.shape)
    ours = np.array(run(each, theta, gradients))
    torchs = torch.stack(run(each, torch.from_numpy(theta), torch.from_numpy(gradients))).numpy()
    rootless = (sgd, heavy_ball, nesterov, signsgd, signum, lion, rprop, extragradient, optimistic)
    if each in rootless:
        assert np.array_equal(ours, torchs)
    else:
        np.testing.assert_allclose(torchs, ours, rtol=0, atol=1e-14 * np.abs(ours).max())


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
@each_rule
def test_a_call_changes_none_of_its_arguments(each, make):
    theta, g = make([[1.0, -2.0], [3.0, 4.0]]), make([[0.5, 0.0], [-1.0, 2.0]])
    lr, state, more = make([0.1, 0.2]), each.init(theta), answers(each, theta, g)
    _, state = each(theta, g, state, lr=lr, **more)
    before = copy.deepcopy((theta, g, lr, state))
    first = each(theta, g, state, lr=lr, **more)
    for a, b in zip((theta, g, lr), before[:3], strict=True):
        assert np.array_equal(np.asarray(a), np.asarray(b))
    assert state.keys() == before[3].keys()
    assert all(np.array_equal(np.asarray(state[k]), np.asarray(before[3][k])) for k in state)
    again = each(theta, g, state, lr=lr, **more)
    assert np.array_equal(np.asarray(first[0]), np.asarray(again[0]))


@pytest.mark.parametrize(
    "lr", [0.1, np.float64(0.1), np.array(0.1), np.array([0.1, 0.2])], ids=repr
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
@each_rule
def test_float32_parameters_stay_float32_whatever_the_type_of_lr(each, library, lr):
    theta = np.ones((2, 3), np.float32)
    if library == "torch":
        theta = torch.from_numpy(theta)
    new, state = theta, each.init(theta)
    for _ in range(2):
        new, state = each(new, theta, state, lr=lr, **answers(each, theta, theta))
    assert new.dtype == theta.dtype
    assert all(state[name].dtype == theta.dtype for name in each.slots)


def test_numpy_hyperparameters_keep_float32_and_give_the_same_numbers():
    theta = np.ones(3, np.float32)
    betas, eps = (0.8, 0.99), 1e-6
    want, _ = adam(theta, theta, adam.init(theta), lr=LR, betas=betas, eps=eps)
    got, state = adam(
        theta, theta, adam.init(theta), lr=LR, betas=tuple(np.array(betas)), eps=np.float64(eps)
    )
    assert got.dtype == state["m"].dtype == np.float32
    assert np.array_equal(got, want)


def test_a_torch_rate_for_numpy_runs_and_the_other_way_round():
    theta = np.ones((2, 3))
    lr = np.array([0.1, 0.2])
    want, _ = sgd(theta, theta, sgd.init(theta), lr=lr)
    assert np.array_equal(sgd(theta, theta, {"t": 0}, lr=torch.tensor(lr))[0], want)
    tensor = torch.from_numpy(theta)
    assert np.array_equal(sgd(tensor, tensor, {"t": 0}, lr=lr)[0].numpy(), want)


def test_gradients_flow_through_an_update_to_the_rate():
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    theta = torch.tensor([1.0, 2.0], dtype=torch.float64)
    new, _ = sgd(theta, theta, sgd.init(theta), lr=lr)
    new.sum().backward()
    assert lr.grad.item() == -3.0


# --- The declaration -----------------------------------------------------------------------------

DECLARED = {
    sgd: ((), {}, False),
    heavy_ball: (("b",), {"momentum": 0.9}, False),
    nesterov: (("b",), {"momentum": 0.9}, False),
    adagrad: (("s",), {"eps": 1e-10}, False),
    rmsprop: (("v",), {"alpha": 0.99, "eps": 1e-8}, False),
    adadelta: (("v", "u"), {"rho": 0.9, "eps": 1e-6}, False),
    adam: (("m", "v"), {"betas": (0.9, 0.999), "eps": 1e-8}, True),
    adamw: (("m", "v"), {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}, True),
    lion: (("m",), {"betas": (0.9, 0.99), "weight_decay": 0.0}, False),
    signum: (("m",), {"momentum": 0.9}, False),
    lars: (("b",), {"momentum": 0.9, "weight_decay": 0.0, "trust": 0.001}, False),
    lamb: (("m", "v"), {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01}, True),
    adabelief: (("m", "s"), {"betas": (0.9, 0.999), "eps": 1e-16}, True),
    polyak: ((), {"f_min": 0.0, "cap": None}, False),
    schedule_free_adamw: (
        ("v", "z", "x", "top", "total"),
        {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}, True,
    ),
    dadapt_sgd: (("start", "s", "d", "n", "g0"), {"momentum": 0.0, "d0": 1e-6}, False),
    dadapt_adam: (
        ("m", "v", "s", "d", "n"),
        {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "d0": 1e-6}, False,
    ),
    prodigy: (
        ("m", "v", "s", "start", "d", "n"),
        {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "d0": 1e-6, "d_coef": 1.0}, False,
    ),
    nadam: (
        ("m", "v", "c"), {"betas": (0.9, 0.999), "eps": 1e-8, "momentum_decay": 0.004}, True
    ),
    ema(adam): (
        ("m", "v", "mean_theta"), {"betas": (0.9, 0.999), "eps": 1e-8, "decay": 0.999}, True
    ),
    tail_average(sgd, after=7): (("mean_theta",), {"after": 7}, True),
    dog: (("start", "r", "s"), {"r0": 1e-6, "eps": 1e-8}, False),
}  # fmt: skip


@pytest.mark.parametrize("each", DECLARED, ids=lambda r: r.__name__)
def test_slots_defaults_and_uses_t_are_as_declared(each):
    assert (each.slots, each.defaults, each.uses_t) == DECLARED[each]


def test_every_rule_of_the_module_is_public_and_tested_here():
    public = {getattr(optimizers, name) for name in optimizers.__all__}
    assert {r for r in public if isinstance(r, Rule)} == set(RULES) - set(AVERAGED)
    assert len(RULES) == 30 + len(AVERAGED)


@each_rule
def test_init_counts_from_zero_and_makes_zeros_numbers_or_copies_of_theta(each):
    for theta in (np.ones((2, 3), np.float32), torch.ones(2, 3, dtype=torch.bfloat16)):
        state = each.init(theta)
        assert list(state) == ["t", *each.slots] and state["t"] == 0
        for name, kind in each.kinds.items():
            assert type(state[name]) is type(theta) and state[name].dtype == theta.dtype
            assert tuple(state[name].shape) == (() if kind is number else (2, 3))
            assert state[name] is not theta
            assert bool(state[name].any()) == (kind.value in ("point", "average"))


@each_rule
def test_t_counts_updates_from_one(each):
    theta = np.ones(2)
    more = answers(each, theta, theta)
    _, state = each(theta, theta, each.init(theta), lr=LR, **more)
    assert state["t"] == 1
    _, state = each(theta, theta, state, lr=LR, **more)
    assert state["t"] == 2


@each_rule
def test_a_rule_pickles_and_copies_to_itself(each):
    assert pickle.loads(pickle.dumps(each)) is each
    assert copy.deepcopy(each) is each and copy.copy(each) is each


@each_rule
def test_a_rule_carries_the_documentation_of_its_formula(each):
    assert each.__doc__ == each.formula.__doc__
    assert ".. math::" in each.__doc__ and "`lr`" in each.__doc__
    fields = re.findall(r"^ +:(\w+): (\S.*)$", each.__doc__, flags=re.MULTILINE)
    names = [name for name, _ in fields if name != "rate"]  # what the libraries take by default
    assert names == ["when", "torch", "optax", "keras", "source"]
    assert repr(each) == f"<rule {each.__name__}>"


# --- Bad input -----------------------------------------------------------------------------------

FINITE = "finite and >= 0"
UNIT = "in [0, 1)"
PAIR = "a pair of numbers in [0, 1)"
BAD_VALUES = [
    *((sgd, "lr", value, FINITE) for value in (-1e-9, np.nan, np.inf, "0.1", None, True, [0.1])),
    (sgd, "lr", np.array([0.1, -0.2]), FINITE),
    (sgd, "lr", torch.tensor([0.1, np.nan]), FINITE),
    *((heavy_ball, "momentum", value, UNIT) for value in (-0.1, 1.0, 1, np.nan, "0.9", None)),
    (nesterov, "momentum", 1.5, UNIT),
    *((rmsprop, "alpha", value, UNIT) for value in (-0.1, 1.0, np.inf)),
    *((adadelta, "rho", value, UNIT) for value in (-0.1, 1.0, np.array([0.5]))),
    *((adam, "betas", value, PAIR) for value in (0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), "ab")),
    (adam, "betas", (0.9, np.nan), PAIR),
    (adam, "betas", (0.9, 0.99, 0.999), PAIR),
    *((adagrad, "eps", value, FINITE) for value in (-1e-8, np.inf, np.nan)),
    *((adamw, "weight_decay", value, FINITE) for value in (-0.01, np.inf, False)),
]


@pytest.mark.parametrize("each, name, value, words", BAD_VALUES, ids=repr)
def test_a_bad_value_is_refused_with_its_name_its_value_and_the_range(each, name, value, words):
    theta = np.ones(2)
    hyper = {"lr": LR} | {name: value}
    message = f"{name}={value!r} is not allowed: {name} must be {words}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        each(theta, theta, each.init(theta), **hyper)


@pytest.mark.parametrize("name", ["momentum", "t", "m", "weight_decay"])
def test_an_unknown_keyword_is_a_type_error_that_lists_the_known_ones(name):
    theta = np.ones(2)
    with pytest.raises(TypeError, match=rf"adam has no .*'{name}': it has lr, betas, eps$"):
        adam(theta, theta, adam.init(theta), lr=LR, **{name: 0.5})


def test_the_rate_has_no_default():
    theta = np.ones(2)
    with pytest.raises(TypeError, match="lr"):
        sgd(theta, theta, sgd.init(theta))


@pytest.mark.parametrize("bad", [1.0, [1.0, 2.0], None], ids=repr)
def test_what_is_no_array_is_refused_by_name(bad):
    theta = np.ones(2)
    with pytest.raises(TypeError, match="theta must be a NumPy array or a torch tensor"):
        adam.init(bad)
    with pytest.raises(TypeError, match="theta must be a NumPy array or a torch tensor"):
        adam(bad, theta, adam.init(theta), lr=LR)
    with pytest.raises(TypeError, match=r"\bg must be a NumPy array or a torch tensor"):
        adam(theta, bad, adam.init(theta), lr=LR)


@pytest.mark.parametrize(
    "theta_shape, g_shape, lr_shape, words",
    [
        ((2,), (3,), (), r"theta and g must have one shape, not \(2,\) and \(3,\)"),
        ((2, 3), (3,), (), "theta and g must have one shape"),
        ((2, 3), (2, 3), (3,), r"lr has shape \(3,\) and theta \(2, 3\)"),
        ((2, 3), (2, 3), (2, 1), r"lr has shape \(2, 1\)"),
        ((), (), (1,), r"lr has shape \(1,\) and theta \(\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(theta_shape, g_shape, lr_shape, words):
    theta, g, lr = np.ones(theta_shape), np.ones(g_shape), np.full(lr_shape, 0.1)
    with pytest.raises(ValueError, match=words):
        sgd(theta, g, sgd.init(theta), lr=lr)


@pytest.mark.parametrize(
    "state, words",
    [
        ({}, r"state has \[\], but adam keeps \['m', 't', 'v'\]: start from adam.init"),
        ({"t": 0, "m": np.zeros(2)}, r"state has \['m', 't'\]"),
        ({"t": 0, "m": np.zeros(2), "v": np.zeros(2), "b": np.zeros(2)}, "but adam keeps"),
        ({"t": 0, "m": np.zeros(2), "v": np.zeros(())}, "state and theta must have one shape"),
    ],
)
def test_a_state_of_another_rule_or_shape_is_refused(state, words):
    with pytest.raises(ValueError, match=words):
        adam(np.ones(2), np.ones(2), state, lr=LR)


# --- Rules of one's own --------------------------------------------------------------------------


def test_a_rule_of_ones_own_works_like_those_of_the_module():
    @rule
    def signum(theta, g, m, *, t, lr, beta=0.5):
        m = beta * m + (1 - beta) * g
        return theta - lr * np.sign(m) / t, m

    theta = np.zeros(2)
    theta, state = signum(theta, np.array([3.0, -1.0]), signum.init(theta), lr=1.0)
    theta, state = signum(theta, np.array([-1.0, -1.0]), state, lr=1.0, beta=0.0)
    assert np.array_equal(theta, [-0.5, 1.5])
    assert np.array_equal(state["m"], [-1.0, -1.0]) and state["t"] == 2
    assert signum.slots == ("m",) and signum.defaults == {"beta": 0.5} and signum.uses_t


def _no_theta(x, g, *, lr): ...
def _no_g(theta, *, lr): ...
def _no_lr(theta, g, *, rate): ...
def _positional_lr(theta, g, lr): ...
def _no_default(theta, g, *, lr, momentum): ...
def _state_named_t(theta, g, t, *, lr): ...


@pytest.mark.parametrize(
    "formula, words",
    [
        (_no_theta, "_no_theta is no update rule: its signature must be"),
        (_no_g, "_no_g is no update rule"),
        (_no_lr, "_no_lr is no update rule"),
        (_positional_lr, "_positional_lr is no update rule"),
        (_no_default, "_no_default: hyperparameter momentum needs a default"),
        (_state_named_t, "_state_named_t: t counts updates"),
        (3, "3 is not a callable"),
    ],
)
def test_a_malformed_formula_is_refused_by_name(formula, words):
    with pytest.raises(TypeError, match=words):
        rule(formula)


def test_a_formula_that_forgets_to_return_its_state_is_refused():
    @rule
    def forgetful(theta, g, m, *, lr):
        return theta - lr * g

    with pytest.raises(TypeError, match="forgetful must return theta, m, not 1 values"):
        forgetful(np.ones(2), np.ones(2), forgetful.init(np.ones(2)), lr=LR)
