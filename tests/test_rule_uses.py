"""Tests that a rule is one rule wherever it is used: descend, train, sweep and TorchOptimizer.

What is new is what these rules ask for: norms, the loss, a second gradient, layers, averages.
"""

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch
from run_cases import CLASSES, CONV, IMAGES, RELU, TANH, WithDropout, everything, run
from test_optimizers import RULES, gradient_stream
from torch import nn
from torch.nn import functional as F

from lrteach import TorchOptimizer, train
from lrteach import batched as batched_module
from lrteach.models import fresh_copy
from lrteach.optimizers import (
    Rule,
    adafactor,
    adam,
    average,
    dog,
    ema,
    extragradient,
    heavy_ball,
    lamb,
    lars,
    layer_rule,
    muon,
    nadam,
    number,
    optimistic,
    point,
    polyak,
    prodigy,
    rule,
    schedule_free_adamw,
    schedule_free_sgd,
    sgd,
    signsgd,
    tail_average,
)
from lrteach.problems import LeastSquares, descend, quadratic
from lrteach.schedules import cosine
from lrteach.training import batches, default_loss, evaluate, tensors

pytestmark = pytest.mark.usefixtures("on_the_cpu")
each_rule = pytest.mark.parametrize("each", RULES, ids=lambda r: r.__name__)
AVERAGING = [each for each in RULES if each.average]
# One of each new kind: loss, norm and numbers, layers with and without shapes, two gradients,
# averages in and around a rule.
KINDS = [
    polyak, nadam, dog, prodigy, lars, adafactor, muon, extragradient, optimistic,
    schedule_free_sgd, schedule_free_adamw, ema(adam, decay=0.9), tail_average(lamb, after=3),
]  # fmt: skip
each_kind = pytest.mark.parametrize("each", KINDS, ids=lambda r: r.__name__)


def rate_of(each):
    """A rate at which the small networks learn and nothing is chaotic."""
    return {polyak: 0.1, dog: 1.0, prodigy: 1.0, lars: 10.0, signsgd: 0.003}.get(each, 0.02)


# --- descend -------------------------------------------------------------------------------------


@each_rule
def test_descend_gives_each_of_k_runs_what_it_asks_for(each):
    bowl = quadratic(1.0, 3.0, 10.0)
    starts = np.random.default_rng(0).normal(size=(4, 3))
    lrs = np.array([0.01, 0.03, 0.05, 0.01])
    together = descend(bowl, each, starts, lrs, 30)
    at_one_rate = descend(bowl, each, starts, 0.03, 30)
    for k in range(4):
        assert np.array_equal(together[:, k], descend(bowl, each, starts[k], lrs[k], 30))
        assert np.array_equal(at_one_rate[:, k], descend(bowl, each, starts[k], 0.03, 30))
    assert bowl.loss(together[-1, 1]) < bowl.loss(starts[1])


def test_descend_shows_the_average_if_asked():
    bowl, start = quadratic(1.0, 3.0), np.ones(2)
    walk = descend(bowl, sgd, start, 0.1, 20)
    averaging = tail_average(sgd, after=10)
    assert np.array_equal(descend(bowl, averaging, start, 0.1, 20), walk)
    mean = descend(bowl, averaging, start, 0.1, 20, evaluated=True)
    np.testing.assert_allclose(mean[-1], walk[11:].mean(axis=0), rtol=1e-13)
    assert np.array_equal(mean[:11], walk[:11])


def test_polyak_reaches_the_solution_of_an_interpolating_problem_without_a_rate():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 4))
    problem = LeastSquares(X, X @ np.ones(4))
    path = descend(problem, polyak, np.zeros(4), 1.0, 200)
    np.testing.assert_allclose(path[-1], 1.0, atol=1e-6)


# --- TorchOptimizer ------------------------------------------------------------------------------


@each_rule
def test_torch_optimizer_on_one_parameter_is_the_rule(each):
    theta = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4)))
    curvature = torch.linspace(0.1, 5, 12, dtype=torch.float64).view(3, 4)
    p = nn.Parameter(theta.clone())
    optimizer = TorchOptimizer([p], each, lr=0.02)

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * (curvature * p * p).sum()
        loss.backward()
        return loss

    state, more = each.init(theta), {}
    for _ in range(20):
        if "loss" in each.asks:
            more["loss"] = float(0.5 * (curvature * theta * theta).sum())
        if "gradient" in each.asks:
            more["gradient"] = lambda point: curvature * point
        theta, state = each(theta, curvature * theta, state, lr=0.02, **more)
        optimizer.step(closure)
        torch.testing.assert_close(p.detach(), theta, rtol=1e-13, atol=1e-14)
    assert optimizer.state[p]["t"] == 20
    for name in each.slots:
        torch.testing.assert_close(optimizer.state[p][name], state[name], rtol=1e-12, atol=1e-14)
    optimizer.eval()
    torch.testing.assert_close(p.detach(), each.evaluated(theta, state), rtol=1e-12, atol=1e-14)


def fit(model, data, optimizer, steps, seed=0, batch_size=10, first=0):
    """The updates that `train` would make."""
    x, y = tensors(data, "train", torch.device("cpu"), torch.float64)
    loss, order = default_loss(data.y_train), batches(len(x), batch_size, seed)
    model.train()
    for t in range(first + steps):
        batch = torch.from_numpy(next(order))

        def closure(batch=batch):
            optimizer.zero_grad()
            value = loss(model(x[batch]), y[batch])
            value.backward()
            return value

        if t >= first:
            optimizer.step(closure)


@pytest.mark.parametrize("model, data", [(TANH, CLASSES), (CONV, IMAGES)], ids=["dense", "conv"])
@each_rule
def test_train_makes_the_updates_of_torch_optimizer(each, model, data):
    lr = rate_of(each)
    ours = train(model, data, each, lr, steps=15, batch_size=10, seed=1, dtype=torch.float64)
    other = fresh_copy(model, 1).double()
    optimizer = TorchOptimizer(other.parameters(), each, lr=lr)
    fit(other, data, optimizer, 15, seed=1)
    optimizer.eval()
    for a, b in zip(ours.model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_norms_are_those_of_a_parameter_group_and_of_a_layer():
    big, small = (nn.Parameter(torch.full((2,), x, dtype=torch.float64)) for x in (100.0, 1.0))
    for parameters, expected in (
        ([big, small], None),
        ([{"params": [big]}, {"params": [small]}], "apart"),
    ):
        big.grad, small.grad = torch.ones(2).double(), torch.ones(2).double()
        optimizer = TorchOptimizer(parameters, dog, lr=1.0)
        optimizer.step()
        r = [float(optimizer.state[p]["r"]) for p in (big, small)]
        assert (r[0] == r[1]) == (expected is None)
    layered = TorchOptimizer([big, small], lars, lr=1.0, trust=0.1, momentum=0.0)
    before = [p.detach().norm() for p in (big, small)]
    moved = [p.detach().clone() for p in (big, small)]
    layered.step()
    for p, old, length in zip((big, small), moved, before, strict=True):
        assert (p.detach() - old).norm().item() == pytest.approx(0.1 * length.item(), rel=1e-12)


def test_groups_may_have_their_own_rates_under_extragradient():
    # The players of x·y in two groups: the trial point moves both.
    x, y = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (1.0, 2.0))
    optimizer = TorchOptimizer([{"params": [x], "lr": 0.1}, {"params": [y]}], extragradient, lr=0.3)

    def closure():
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()

    optimizer.step(closure)
    assert x.item() == pytest.approx(1.0 - 0.1 * (2.0 + 0.3 * 1.0))
    assert y.item() == pytest.approx(2.0 + 0.3 * (1.0 - 0.1 * 2.0))


def test_a_parameter_without_a_gradient_is_no_part_of_the_group():
    used, unused = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    alone = nn.Parameter(torch.ones(3, dtype=torch.float64))
    both, one = TorchOptimizer([used, unused], dog, lr=1.0), TorchOptimizer([alone], dog, lr=1.0)
    for t in range(5):
        used.grad = alone.grad = torch.full((3,), float(t + 1)).double()
        both.step()
        one.step()
    assert torch.equal(used, alone) and torch.equal(unused, torch.ones(3).double())
    assert list(both.state) == [used]
    unused.grad = torch.ones(3).double()
    both.step()
    assert both.state[unused]["t"] == both.state[used]["t"] == 6
    assert torch.equal(both.state[unused]["start"], torch.ones(3).double())
    assert torch.equal(both.state[unused]["r"], both.state[used]["r"])


def test_a_group_of_two_precisions_is_refused_by_a_rule_with_a_norm():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))
    a.grad, b.grad = torch.ones(2), torch.ones(2).double()
    with pytest.raises(ValueError, match=r"one dtype and one device.*make groups"):
        TorchOptimizer([a, b], dog, lr=1.0).step()
    optimizer = TorchOptimizer([{"params": [a]}, {"params": [b]}], dog, lr=1.0)
    optimizer.step()
    assert a.dtype == torch.float32 and (a != 1).all() and (b != 1).all()


@pytest.mark.parametrize("each, missing", [(polyak, "loss"), (extragradient, "gradient")])
def test_what_is_missing_is_said_with_what_to_do(each, missing):
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    words = (
        rf"{each.__name__} asks for {missing}, which is missing: pass {missing}=.*step\(closure\)"
    )
    with pytest.raises(ValueError, match=words):
        TorchOptimizer([p], each, lr=0.1).step()
    theta = np.ones(2)
    with pytest.raises(ValueError, match=words):
        each(theta, theta, each.init(theta), lr=0.1)
    assert p.tolist() == [1.0, 1.0]


def test_a_closure_that_returns_no_loss_is_not_enough_for_polyak():
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    with pytest.raises(ValueError, match="polyak asks for loss"):
        TorchOptimizer([p], polyak, lr=0.1).step(lambda: None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@each_rule
def test_parameters_and_state_keep_their_precision(each, dtype):
    p = nn.Parameter(torch.ones(3, 2, dtype=dtype))
    optimizer = TorchOptimizer([p], each, lr=0.5)

    def closure():
        p.grad = torch.full_like(p, 0.25)
        return 0.5

    for _ in range(3):
        optimizer.step(closure)
    assert p.dtype == dtype
    underflows = each is prodigy and dtype == torch.float16
    assert p.isfinite().all() != underflows
    assert all(optimizer.state[p][name].dtype == dtype for name in each.slots)


@each_rule
def test_empty_parameters_and_zero_gradients_do_no_harm(each):
    p, empty = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(0, 2))
    scalar = nn.Parameter(torch.tensor(1.0))
    optimizer = TorchOptimizer([p, empty, scalar], each, lr=0.1)
    for _ in range(3):

        def closure():
            for x in (p, empty, scalar):
                x.grad = torch.zeros_like(x)
            return 1.0

        optimizer.step(closure)
    assert p.isfinite().all() and scalar.isfinite()
    assert all(
        value.isfinite().all()
        for s in optimizer.state.values()
        for k, value in s.items()
        if k != "t"
    )


# --- Averages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", AVERAGING, ids=lambda r: r.__name__)
def test_eval_and_train_change_places_and_back(each):
    model = copy.deepcopy(TANH).double()
    optimizer = TorchOptimizer(model.parameters(), each, lr=0.1)
    fit(model, CLASSES, optimizer, 8)
    walk = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        optimizer.eval()  # twice is once
    averages = [p.detach().clone() for p in model.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(walk, averages, strict=True))
    with pytest.raises(RuntimeError, match=r"call train\(\) before step"):
        fit(model, CLASSES, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), averages, strict=True))
    optimizer.train()
    optimizer.train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), walk, strict=True))
    straight = copy.deepcopy(TANH).double()
    other = TorchOptimizer(straight.parameters(), each, lr=0.1)
    fit(straight, CLASSES, other, 12)
    fit(model, CLASSES, optimizer, 4, first=8)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), straight.parameters(), strict=True)
    )


@pytest.mark.parametrize("evaluating", [False, True])
@each_rule
def test_a_state_dict_takes_a_run_up_again(each, evaluating):
    def make():
        model = copy.deepcopy(TANH).double()
        return model, TorchOptimizer(model.parameters(), each, lr=rate_of(each))

    whole, optimizer = make()
    fit(whole, CLASSES, optimizer, 6)
    if evaluating:
        optimizer.eval()
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    optimizer.train()
    fit(whole, CLASSES, optimizer, 6, first=6)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, other = make()
    resumed.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    other.train()
    fit(resumed, CLASSES, other, 6, first=6)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
    twin, twins = pickle.loads(pickle.dumps((resumed, other)))
    assert twins.rule is each
    fit(twin, CLASSES, twins, 3, first=12)
    fit(resumed, CLASSES, other, 3, first=12)
    assert all(
        torch.equal(a, b) for a, b in zip(twin.parameters(), resumed.parameters(), strict=True)
    )


def test_a_group_added_while_evaluating_evaluates_too():
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = TorchOptimizer([a], ema(sgd), lr=0.1)
    optimizer.eval()
    optimizer.add_param_group({"params": [b]})
    assert [g["train_mode"] for g in optimizer.param_groups] == [False, False]
    assert "train_mode" not in TorchOptimizer([a], sgd, lr=0.1).param_groups[0]


@pytest.mark.parametrize("each", AVERAGING, ids=lambda r: r.__name__)
def test_train_measures_the_average_and_leaves_it_in_the_model(each):
    settings = {"steps": 12, "batch_size": 10, "dtype": torch.float64}
    result = train(TANH, CLASSES, each, 0.1, eval_every=4, **settings)
    for t, loss in zip(result.eval_steps[1:], result.val_losses[1:], strict=True):
        part = train(TANH, CLASSES, each, 0.1, **{**settings, "steps": int(t)})
        assert part.val_loss == loss
        x, y = tensors(CLASSES, "val", torch.device("cpu"), torch.float64)
        assert evaluate(part.model, x, y, F.cross_entropy)[0] == pytest.approx(loss, rel=1e-13)
    x, y = tensors(CLASSES, "test", torch.device("cpu"), torch.float64)
    assert evaluate(result.model, x, y, F.cross_entropy)[0] == result.test_loss


def test_averaging_changes_what_is_measured_and_nothing_else():
    settings = {"steps": 20, "batch_size": 10, "eval_every": 5, "dtype": torch.float64}
    plain = train(TANH, CLASSES, heavy_ball, 0.1, **settings)
    for averaging in (ema(heavy_ball, decay=0.9), tail_average(heavy_ball, after=10)):
        mean = train(TANH, CLASSES, averaging, 0.1, **settings)
        assert np.array_equal(mean.losses, plain.losses)
        assert np.array_equal(mean.grad_norms, plain.grad_norms)
        assert mean.val_losses[-1] != plain.val_losses[-1]
        assert mean.config["rule"] == f"{averaging.__name__}"
    assert ema(heavy_ball, decay=0.0).defaults["decay"] == 0.0
    same = train(TANH, CLASSES, ema(heavy_ball), 0.1, decay=0.0, **settings)
    assert np.array_equal(same.val_losses, plain.val_losses)


@pytest.mark.parametrize("each", [ema(adam, decay=0.9), tail_average(dog, 7), ema(muon)], ids=repr)
def test_an_averaged_rule_is_pickled_and_the_same_one_each_time(each):
    assert pickle.loads(pickle.dumps(each)) is each
    assert copy.deepcopy(each) is each
    assert isinstance(each, Rule)
    assert ema(adam, decay=0.9) is ema(adam, 0.9) is not ema(adam, 0.8)
    assert repr(ema(adam)) == "<rule ema(adam)>"


@rule
def own(theta, g, start: "point", seen: "number", *, lr, norm):
    """A rule of one's own, with annotations as text."""
    seen = seen + norm(theta - start)
    return theta - lr * g / (1 + seen), start, seen


def test_rules_of_ones_own_ask_for_the_same_things_and_are_averaged_too():
    assert own.kinds == {"start": point, "seen": number} and own.asks == {"norm"}
    averaged = ema(own, decay=0.5)
    assert averaged.kinds["start"] is point and averaged.asks == {"norm"}
    result = run(rule=averaged, lrs=[0.1])
    assert np.isfinite(result.val_loss).all()
    assert pickle.loads(pickle.dumps(averaged)) is averaged


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: ema(adam, decay=1.0), ValueError, "decay=1.0 is not allowed: decay must be in [0, 1)"),
        (lambda: tail_average(sgd, after=-1), ValueError, "after=-1 is not allowed: after must be an int >= 0"),
        (lambda: tail_average(sgd, after=True), ValueError, "after=True is not allowed"),
        (lambda: tail_average(sgd, after=2.5), ValueError, "after=2.5 is not allowed"),
        (lambda: ema(ema(sgd)), TypeError, "ema(sgd) has an average already"),
        (lambda: tail_average(schedule_free_sgd), TypeError, "schedule_free_sgd has an average already"),
        (lambda: ema(torch.optim.SGD), TypeError, "rule must be a rule such as lrteach.optimizers.sgd"),
        (lambda: ema("sgd"), TypeError, "rule must be a rule"),
        (lambda: ema([sgd]), TypeError, "rule must be a rule"),
    ],
)  # fmt: skip
def test_what_cannot_be_averaged_is_refused(make, error, words):
    tail_average(sgd, after=1)  # which equals True, and must not answer for it
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_two_averages_in_one_formula_are_refused():
    def both(theta, g, a: average, b: average, *, lr):
        return theta, a, b

    with pytest.raises(TypeError, match="both: only one average can be evaluated"):
        rule(both)


def test_a_layer_cannot_ask_for_a_gradient_elsewhere():
    def looking(theta, g, *, gradient, lr):
        return theta - lr * gradient(theta)

    with pytest.raises(TypeError, match="looking: the gradient at another point is of all layers"):
        layer_rule(looking)


# --- Sweeps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [TANH, RELU], ids=["tanh", "relu"])
@each_rule
def test_a_row_of_a_sweep_is_what_train_makes(each, model):
    lr = rate_of(each)
    settings = {"steps": 20, "batch_size": 10, "eval_every": 5, "dtype": torch.float64}
    result = run(model, rule=each, lrs=[lr / 3, lr], **settings)
    for s in range(2):
        alone = train(model, CLASSES, each, lr, seed=s, **settings)
        np.testing.assert_allclose(result.losses[1, s], alone.losses, rtol=1e-8)
        np.testing.assert_allclose(result.val_losses[1, s], alone.val_losses, rtol=1e-8)
        np.testing.assert_allclose(result.test_loss[1, s], alone.test_loss, rtol=1e-8)
    assert result.losses[1, 0, -1] != result.losses[0, 0, -1]


@each_rule
def test_a_run_of_a_sweep_is_bit_for_bit_the_same_whatever_runs_beside_it(each):
    lr = rate_of(each)
    with_others = run(
        rule=each, lrs=[lr / 3, lr, 1e150], seeds=[3, 5], eval_every=5, schedule=cosine
    )
    for k, s in ((0, 1), (1, 0)):
        alone = run(
            rule=each, lrs=[with_others.lrs[k]], seeds=[[3, 5][s]], eval_every=5, schedule=cosine
        )
        assert everything(with_others, k, s) == everything(alone, 0, 0)


@each_kind
def test_blocks_and_clipping_change_nothing(each, monkeypatch):
    lr = rate_of(each)
    settings = {
        "rule": each,
        "lrs": [lr / 3, lr, 1e150],
        "clip": 0.5,
        "workers": 1,
        "eval_every": 6,
    }
    whole = run(**settings)
    monkeypatch.setattr(batched_module._Update, "NUMBERS", 1)
    assert everything(run(**settings)) == everything(whole)
    alone = train(TANH, CLASSES, each, lr, steps=25, batch_size=10, clip=0.5, dtype=torch.float64)
    np.testing.assert_allclose(whole.losses[1, 0], alone.losses, rtol=1e-8)


@each_kind
def test_a_mapped_stack_does_the_same(each, monkeypatch):
    from lrteach import sweeps

    lr = rate_of(each)
    settings = {"model": CONV, "data": IMAGES, "rule": each, "lrs": [lr / 3, lr], "eval_every": 5}
    settings |= {"steps": 10, "workers": 1}
    one_by_one = run(**settings)
    monkeypatch.setattr(sweeps, "_stack_class", lambda job, draws: batched_module.MappedStack)
    mapped = run(**settings)
    np.testing.assert_allclose(mapped.losses, one_by_one.losses, rtol=1e-8)
    np.testing.assert_allclose(mapped.val_losses, one_by_one.val_losses, rtol=1e-8)


def test_the_second_gradient_has_the_dropout_of_the_first_and_leaves_the_runs_own_draws():
    seen = []

    @rule
    def watching(theta, g, *, gradient, lr):
        seen.append((g.clone(), gradient(theta)))
        return theta - lr * g

    model = WithDropout()
    settings = {"steps": 5, "batch_size": 10, "dtype": torch.float64}
    twice = train(model, CLASSES, watching, 0.1, **settings)
    for g, again in seen:
        assert torch.equal(g, again) and g.any()
    assert np.array_equal(twice.losses, train(model, CLASSES, sgd, 0.1, **settings).losses)


def test_layers_are_what_the_model_says():
    shapes = []

    @layer_rule
    def watching(theta, g, *, shape, norm, lr):
        shapes.append((tuple(shape), tuple(theta.shape), tuple(norm(theta).shape)))
        return theta - lr * g

    train(CONV, IMAGES, watching, 0.1, steps=1, batch_size=10)
    expected = [tuple(p.shape) for p in CONV.parameters()]
    assert shapes == [(shape, shape, ()) for shape in expected]
    shapes.clear()
    run(rule=watching, lrs=[0.1, 0.2], steps=1, workers=1)
    expected = [tuple(p.shape) for p in TANH.parameters()]
    # `sweep` first tries the rule on one vector, three times.
    assert shapes[3:] == [(s, (4, *s), (4,) + (1,) * len(s)) for s in expected]


def test_numbers_and_losses_of_k_runs_must_be_k():
    theta = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"loss has shape \(2,\) and theta \(3, 2\): loss must be"):
        polyak(theta, theta, polyak.init(theta), lr=np.full(3, 0.1), loss=np.ones(2))


# --- What hyperparameters may be -----------------------------------------------------------------

BAD = [
    (polyak, "f_min", np.inf, "a finite number"),
    (polyak, "cap", 0.0, "finite and > 0, or None"),
    (optimistic, "lr", -1.0, "finite and >= 0"),
    (lars, "trust", -0.1, "finite and >= 0"),
    (adafactor, "beta2_decay", 0.1, "a number <= 0"),
    (adafactor, "d", 0.5, "finite and >= 1"),
    (adafactor, "eps1", -1.0, "finite and >= 0"),
    (adafactor, "eps2", np.nan, "finite and >= 0"),
    (muon, "ns_steps", 0, "an int >= 1"),
    (muon, "ns_steps", 2.0, "an int >= 1"),
    (muon, "others", -1.0, "finite and >= 0"),
    (nadam, "momentum_decay", -0.1, "finite and >= 0"),
    (dog, "r0", 0.0, "finite and > 0"),
    (prodigy, "d0", 0, "finite and > 0"),
    (prodigy, "d_coef", np.inf, "finite and > 0"),
]
RPROP = [
    ("etas", (0.5, 1.0), "a pair of numbers, the first in [0, 1) and the second > 1"),
    ("etas", (1.2, 0.5), "a pair of numbers, the first in [0, 1) and the second > 1"),
    ("etas", 0.5, "a pair of numbers, the first in [0, 1) and the second > 1"),
    ("step_sizes", (1.0, 0.5), "a pair of finite numbers, 0 <= smallest <= largest"),
    ("step_sizes", (-1.0, 0.5), "a pair of finite numbers, 0 <= smallest <= largest"),
]


@pytest.mark.parametrize(
    "each, name, value, words", [*BAD, *(("rprop", *bad) for bad in RPROP)], ids=repr
)
def test_a_bad_value_is_refused_with_the_range(each, name, value, words):
    from lrteach import optimizers

    each = optimizers.rprop if each == "rprop" else each
    message = f"{name}={value!r} is not allowed: {name} must be {words}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        each.check(**({"lr": 0.1} | {name: value}))
    with pytest.raises(ValueError, match=re.escape(message)):
        TorchOptimizer([nn.Parameter(torch.ones(2))], each, **({"lr": 0.1} | {name: value}))


@pytest.mark.parametrize("each", [dog, nadam, muon, polyak], ids=lambda r: r.__name__)
def test_compile_falls_back_with_the_reason(each):
    p, q = (nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    compiled = TorchOptimizer([p], each, lr=0.1, compile=True)
    plain = TorchOptimizer([q], each, lr=0.1)

    def closure():
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        return 1.0

    plain.step(closure)
    with pytest.warns(UserWarning, match=rf"compile=True has no effect.*{each.__name__} "):
        compiled.step(closure)
    assert torch.equal(p, q)


def test_streams_of_the_oracles_have_what_they_are_for():
    g = gradient_stream(2, 120, (4, 5))
    assert (g == 0).any() and np.abs(g).max() > 1e3 and np.abs(g[g != 0]).min() < 1e-4
