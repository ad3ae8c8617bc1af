"""Tests of the rules against their authors' packages, and of averages against torch's."""

import warnings

import numpy as np
import pytest
import torch
from test_optimizers import gradient_stream, steady_stream

from lrteach.optimizers import (
    dadapt_adam,
    dadapt_sgd,
    ema,
    extragradient,
    heavy_ball,
    prodigy,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    tail_average,
)
from lrteach.schedules import warmup

schedulefree = pytest.importorskip("schedulefree")
prodigyopt = pytest.importorskip("prodigyopt")
ProdigyReference = pytest.importorskip("prodigyopt.prodigy_reference").ProdigyReference
dadaptation = pytest.importorskip("dadaptation")
STEPS, SHAPE = 120, (4, 5)


def problem(scale=1.0, zeros=0, seed=1):
    theta = np.random.default_rng(seed).normal(size=SHAPE) * 10
    gradients = scale * gradient_stream(seed + 1, STEPS, SHAPE)
    gradients[zeros : zeros + 3] = 0.0
    return theta, gradients


def distance_problem(scale, zeros=4):
    """A start near 0 and gradients by which the walk gets many times longer."""
    theta, gradients = problem()
    gradients = scale * steady_stream(5, STEPS, SHAPE)
    gradients[zeros : zeros + 3] = 0.0
    return theta / 1000, gradients


def assert_same_walk(ours, theirs, theta, tolerance=1e-10):
    """The same in proportion to the distance walked, which is not tiny in the end."""
    walked = np.maximum.accumulate(np.abs(theirs - theta).max(axis=(1, 2)))
    assert np.isfinite(theirs).all() and walked[-1] > 50 * walked[0]
    rounding = 4 * np.finfo(float).eps * np.abs(theta).max()
    error = np.abs(ours - theirs).max(axis=(1, 2)) / (walked + rounding / tolerance)
    assert error.max() <= tolerance, error.max()


def our_path(rule, theta, gradients, lr, schedule=None, evaluated=False, **hyper):
    state, path = rule.init(theta), []
    for t, g in enumerate(gradients):
        rate = lr if schedule is None else lr * schedule(t)
        theta, state = rule(theta, g, state, lr=rate, **hyper)
        path.append(rule.evaluated(theta, state) if evaluated else theta)
    return np.array(path)


def their_path(make, theta, gradients, evaluated=False):
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = make([p])
    if hasattr(optimizer, "train"):
        optimizer.train()
    path = []
    for g in gradients:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        if evaluated:
            optimizer.eval()
        path.append(p.detach().numpy().copy())
        if evaluated:
            optimizer.train()
    return np.array(path)


def assert_same_path(ours, theirs, tolerance=1e-10):
    largest = np.maximum(1, np.maximum.accumulate(np.abs(theirs)))
    assert np.isfinite(theirs).all()
    assert len(theirs) == 1 or np.abs(np.diff(theirs, axis=0)).max() > 0
    error = (np.abs(ours - theirs) / largest).max()
    assert error <= tolerance, error


scales = pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])


@scales
@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize(
    "hyper", [{}, {"momentum": 0.5, "weight_decay": 0.3}, {"momentum": 0.99}], ids=repr
)
def test_schedule_free_sgd(hyper, evaluated, scale):
    theta, gradients = problem(scale, zeros=4)
    theirs = their_path(
        lambda p: schedulefree.SGDScheduleFree(p, lr=0.03, **hyper), theta, gradients, evaluated
    )
    assert_same_path(
        our_path(schedule_free_sgd, theta, gradients, 0.03, evaluated=evaluated, **hyper), theirs
    )


@scales
@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize(
    "hyper",
    [{}, {"betas": (0.5, 0.9), "weight_decay": 0.3}, {"betas": (0.98, 0.5), "eps": 1.0}],
    ids=repr,
)
def test_schedule_free_adamw(hyper, evaluated, scale):
    theta, gradients = problem(scale, zeros=4)
    make = schedulefree.AdamWScheduleFree
    theirs = their_path(lambda p: make(p, lr=0.03, **hyper), theta, gradients, evaluated)
    assert_same_path(
        our_path(schedule_free_adamw, theta, gradients, 0.03, evaluated=evaluated, **hyper), theirs
    )


@pytest.mark.parametrize("ours, theirs", [
    (schedule_free_sgd, schedulefree.SGDScheduleFree),
    (schedule_free_adamw, schedulefree.AdamWScheduleFree),
])  # fmt: skip
def test_a_warm_up_of_schedule_free_is_a_schedule(ours, theirs):
    theta, gradients = problem()
    path = their_path(lambda p: theirs(p, lr=0.03, warmup_steps=30), theta, gradients, True)
    rises = warmup(29)
    assert rises(0) == pytest.approx(1 / 30) and rises(29) == 1
    assert_same_path(our_path(ours, theta, gradients, 0.03, rises, evaluated=True), path)


def test_schedule_free_sgd_without_momentum_takes_gradients_at_the_walk():
    # The package cannot: it divides by momentum to find x.
    theta, gradients = problem()
    ours = our_path(schedule_free_sgd, theta, gradients, 0.03, momentum=0.0)
    assert_same_path(ours, our_path(sgd, theta, gradients, 0.03))
    average = our_path(schedule_free_sgd, theta, gradients, 0.03, evaluated=True, momentum=0.0)
    assert_same_path(average[-1:], ours.mean(axis=0)[None])


@scales
@pytest.mark.parametrize("lr", [1.0, 0.1])
@pytest.mark.parametrize("hyper", [{}, {"momentum": 0.9}, {"d0": 1e-2, "momentum": 0.5}], ids=repr)
def test_dadapt_sgd(hyper, lr, scale):
    theta, gradients = distance_problem(scale)
    theirs = their_path(lambda p: dadaptation.DAdaptSGD(p, lr=lr, **hyper), theta, gradients)
    assert_same_walk(our_path(dadapt_sgd, theta, gradients, lr, **hyper), theirs, theta)


def test_dadapt_sgd_skips_first_gradients_of_zero_by_which_the_package_divides():
    theta, gradients = problem()
    gradients[0] = 0.0
    ours = our_path(dadapt_sgd, theta, gradients, 1.0)
    assert np.array_equal(ours[0], theta)
    assert np.array_equal(ours[1:], our_path(dadapt_sgd, theta, gradients[1:], 1.0))
    with pytest.raises(ZeroDivisionError):
        their_path(lambda p: dadaptation.DAdaptSGD(p), theta, gradients)


ADAMS = [
    {},
    {"weight_decay": 0.1, "betas": (0.5, 0.9)},
    {"betas": (0.0, 0.99), "d0": 1e-3},
    {"betas": (0.9, 0.5), "eps": 1e-3, "weight_decay": 0.01},
]


@scales
@pytest.mark.parametrize("lr", [1.0, 0.1])
@pytest.mark.parametrize("hyper", ADAMS, ids=repr)
def test_dadapt_adam(hyper, lr, scale):
    theta, gradients = distance_problem(scale)
    theirs = their_path(
        lambda p: dadaptation.DAdaptAdam(p, lr=lr, decouple=True, **hyper), theta, gradients
    )
    assert_same_walk(our_path(dadapt_adam, theta, gradients, lr, **hyper), theirs, theta)


@scales
@pytest.mark.parametrize("lr", [1.0, 0.1])
@pytest.mark.parametrize("hyper", [*ADAMS, {"d_coef": 3.0}], ids=repr)
def test_prodigy(hyper, lr, scale):
    theta, gradients = distance_problem(scale)
    # Without momentum, only the package's reference divides d·g by its own d, as ours does.
    simple = hyper.get("betas", (0.9, 0.999))[0] == 0
    make = ProdigyReference if simple else prodigyopt.Prodigy
    theirs = their_path(lambda p: make(p, lr=lr, **hyper), theta, gradients)
    assert_same_walk(our_path(prodigy, theta, gradients, lr, **hyper), theirs, theta)


def test_without_momentum_the_fast_prodigy_of_the_package_uses_the_new_d():
    theta, gradients = problem()
    hyper = {"betas": (0.0, 0.99), "d0": 1e-3}
    ours = our_path(prodigy, theta, gradients, 1.0, **hyper)
    theirs = their_path(lambda p: prodigyopt.Prodigy(p, **hyper), theta, gradients)
    equal = np.all(np.abs(ours - theirs) < 1e-10, axis=(1, 2))
    assert equal[0] and not equal[-1]  # d grows in between


@pytest.mark.parametrize("rule", [dadapt_adam, prodigy, dadapt_sgd], ids=lambda r: r.__name__)
def test_a_stream_that_only_starts_late_is_the_late_stream(rule):
    theta, gradients = problem()
    gradients[:2] = 0.0
    ours = our_path(rule, theta, gradients, 1.0)
    assert_same_path(ours[2:], our_path(rule, theta, gradients[2:], 1.0))


# --- Averages ------------------------------------------------------------------------------------


def averaged_by_torch(path, first, **how):
    """torch's AveragedModel, told every point of a path from number `first` on."""
    model = torch.nn.Linear(SHAPE[1], SHAPE[0], bias=False, dtype=torch.float64)
    average = torch.optim.swa_utils.AveragedModel(model, **how)
    means = []
    for t, point in enumerate(path):
        model.weight.data = torch.from_numpy(point.copy())
        if t >= first:
            average.update_parameters(model)
        means.append(average.module.weight.detach().numpy().copy())
    return np.array(means)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_ema_is_that_of_torch(decay):
    theta, gradients = problem()
    path = our_path(heavy_ball, theta, gradients, 0.03)
    multi = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    theirs = averaged_by_torch(path, 0, multi_avg_fn=multi)
    rule = ema(heavy_ball, decay=decay)
    assert_same_path(our_path(rule, theta, gradients, 0.03, evaluated=True), theirs)
    assert np.array_equal(our_path(rule, theta, gradients, 0.03), path)
    other = our_path(ema(heavy_ball), theta, gradients, 0.03, evaluated=True, decay=decay)
    assert_same_path(other, theirs)


@pytest.mark.parametrize("after", [0, 1, 50])
def test_tail_average_is_the_average_of_torch_from_there_on(after):
    theta, gradients = problem()
    path = our_path(heavy_ball, theta, gradients, 0.03)
    theirs = averaged_by_torch(path, after)
    ours = our_path(tail_average(heavy_ball, after), theta, gradients, 0.03, evaluated=True)
    assert_same_path(ours[after:], theirs[after:])
    assert np.array_equal(ours[: after + 1], path[: after + 1])
    assert_same_path(ours[-1:], path[after:].mean(axis=0)[None])


@pytest.fixture
def numbers_in_double_precision():
    """torch keeps the numbers of a rule in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("numbers_in_double_precision")
def test_tail_average_of_sgd_is_torchs_asgd_at_a_constant_rate():
    theta, gradients = problem()
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = torch.optim.ASGD([p], lr=0.03, lambd=0.0, alpha=0.0, t0=20)
    averages = []
    for g in gradients:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        averages.append(optimizer.state[p]["ax"].numpy().copy())
    ours = our_path(tail_average(sgd, 21), theta, gradients, 0.03, evaluated=True)
    assert_same_path(ours[20:], np.array(averages)[20:])


# --- Games ---------------------------------------------------------------------------------------


def test_extragradient_is_two_steps_of_torchs_sgd_from_one_point():
    matrix = np.random.default_rng(0).normal(size=(3, 3))

    def slope(z):  # of x·My, which x lowers and y raises
        return np.concatenate([matrix @ z[3:], -matrix.T @ z[:3]])

    ours = np.ones(6)
    p = torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
    optimizer, state = torch.optim.SGD([p], lr=0.1), extragradient.init(ours)
    for _ in range(120):
        ours, state = extragradient(ours, slope(ours), state, lr=0.1, gradient=slope)
        here = p.detach().clone()
        for _ in range(2):  # to the trial point, and from the start with its slope
            p.grad = torch.from_numpy(slope(p.detach().numpy()))
            p.data = here.clone()
            optimizer.step()
        np.testing.assert_allclose(ours, p.detach().numpy(), rtol=0, atol=1e-12)
    assert np.linalg.norm(ours) < np.sqrt(6)


@pytest.mark.parametrize("lr", [0.1, 0.5, 0.9])
def test_extragradient_on_xy_shrinks_by_the_root_of_theory(lr):
    def slope(z):
        return np.array([z[1], -z[0]])

    z = np.array([1.0, 2.0])
    new, _ = extragradient(z, slope(z), extragradient.init(z), lr=lr, gradient=slope)
    factor = np.linalg.norm(new) / np.linalg.norm(z)
    assert factor == pytest.approx(np.sqrt(1 - lr**2 + lr**4), rel=1e-12)


def test_no_warning_of_a_package_hides_here():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta, gradients = problem()
        their_path(lambda p: prodigyopt.Prodigy(p), theta, gradients[:3])
