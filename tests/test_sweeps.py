"""Tests of lrteach.sweeps: each run of a sweep is its own run, whatever runs beside it."""

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from run_cases import (
    CLASSES,
    CONV,
    IMAGES,
    REGRESSION,
    RELU,
    TANH,
    WithDropout,
    copying,
    everything,
    keeping,
    run,
)
from torch import nn
from torch.nn import functional as F

from lrteach import data, sweep, sweeps, train
from lrteach.batched import DenseStack, MappedStack, can_be_dense, train_together
from lrteach.models import initialise, linear_model, mlp
from lrteach.optimizers import adam, adamw, heavy_ball, rule, sgd
from lrteach.schedules import Schedule, cosine, warmup
from lrteach.sweeps import Sweep, tolerance

GPU = torch.cuda.is_available()
ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("on_the_cpu")


def squares(outputs, targets):
    """A loss of our own: mean squared distance to the one-hot target."""
    return ((outputs - F.one_hot(targets, 3)) ** 2).mean()


# --- Each run is its own run ----------------------------------------------------------------------

CASES = {
    "sgd": dict(rule=sgd),
    "adam, schedule": dict(rule=adam, schedule=warmup(5).then(cosine(20)), lrs=(0.003, 0.01)),
    "momentum, clipped": dict(rule=heavy_ball, momentum=0.8, clip=0.3),
    "relu, three layers": dict(model=RELU, rule=adamw, lrs=(0.001, 0.01), eval_every=10),
    "regression": dict(model=mlp((4, 6, 1), "tanh"), data=REGRESSION, lrs=(0.01, 0.1)),
    "linear, no bias": dict(model=linear_model(4, 3, bias=False)),
    "whole set": dict(batch_size=None),
    "own loss": dict(loss=squares),
    "own start": dict(initialise=False),
    "flattened images": dict(model=nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), data=IMAGES),
    "convolution": dict(model=CONV, data=IMAGES),
    "dropout": dict(model=WithDropout()),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_run_is_bit_for_bit_a_sweep_of_that_run_alone(case, dtype):
    settings = CASES[case] | {"dtype": dtype}
    lrs = settings.pop("lrs", (0.1, 0.3))
    together = run(lrs=(*lrs, 0.02, 0.04, 0.05), seeds=3, **settings)
    for k, s in ((0, 0), (1, 2)):
        alone = run(lrs=lrs[k : k + 1], seeds=[s], **settings)
        assert everything(alone) == everything(together, slice(k, k + 1), slice(s, s + 1))


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_run_of_train_to_rounding_in_float64(case):
    settings = {"steps": 25, "batch_size": 10, "dtype": torch.float64} | CASES[case]
    lrs, model = settings.pop("lrs", (0.1, 0.3)), settings.pop("model", TANH)
    own_data, rule = settings.pop("data", CLASSES), settings.pop("rule", sgd)
    result = sweep(model, own_data, rule, lrs, seeds=2, **settings)
    for k, lr in enumerate(lrs):
        for s in range(2):
            single = train(model, own_data, rule, lr, seed=s, **settings)
            pairs = [
                (result.losses, single.losses), (result.grad_norms, single.grad_norms),
                (result.val_losses, single.val_losses), (result.test_loss, single.test_loss),
                (result.test_accuracy, single.test_accuracy),
                (result.val_accuracies, single.val_accuracies),
            ]  # fmt: skip
            for ours, theirs in pairs:
                np.testing.assert_allclose(ours[k, s], theirs, rtol=1e-10, atol=1e-14)
            assert np.array_equal(result.rates[k], single.rates)
            assert np.array_equal(result.eval_steps, single.eval_steps)
            if not can_be_dense(model, own_data.x_train):
                assert np.array_equal(result.losses[k, s], single.losses)


@pytest.mark.parametrize(
    "activation, lr, tolerance", [("tanh", 0.1, 1e-5), ("relu", 0.1, 1e-2)], ids=["tanh", "relu"]
)
def test_float32_differs_from_train_by_rounding_that_kinks_amplify(activation, lr, tolerance):
    signals, model = data.mnist1d(), mlp(activation=activation)
    result = sweep(model, signals, sgd, [lr], steps=300)
    single = train(model, signals, sgd, lr, steps=300)
    np.testing.assert_allclose(result.losses[0, 0], single.losses, rtol=tolerance)
    assert result.test_accuracy[0, 0] == pytest.approx(single.test_accuracy, abs=0.01)


def test_a_rule_may_keep_theta_and_the_gradient_as_it_got_them():
    assert everything(run(rule=keeping)) == everything(run(rule=copying))


@rule
def torch_momentum(theta, g, m, *, t, lr, beta=0.9):
    """Momentum with the sign of the average, in torch's functions alone, which refuse arrays."""
    m = torch.lerp(m, g, 1 - beta)
    step = torch.where(torch.isfinite(m), torch.sign(m), torch.zeros_like(m))
    return torch.sub(theta, lr * step.clamp(-1, 1)), m


@pytest.mark.parametrize("model", [TANH, CONV], ids=["dense", "convolutional"])
def test_a_rule_written_with_torch_functions_can_be_swept(model):
    own = CLASSES if model is TANH else IMAGES
    lrs = [0.003, 0.01]
    found = sweep(model, own, torch_momentum, lrs, seeds=2, steps=10, batch_size=8, workers=1)
    alone = train(
        model, own, torch_momentum, lrs[1], seed=1, steps=10, batch_size=8, progress=False
    )
    assert not found.diverged.any()
    np.testing.assert_allclose(found.losses[1, 1], alone.losses, rtol=1e-4)


def test_number_and_place_of_the_rows_do_not_matter(monkeypatch):
    lrs = np.geomspace(0.01, 0.5, 24)
    whole = run(lrs=lrs, seeds=1, dtype=torch.float32)
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 5))
    assert everything(run(lrs=lrs, seeds=1, dtype=torch.float32)) == everything(whole)
    backwards = run(lrs=lrs[::-1], seeds=1, dtype=torch.float32)
    assert everything(backwards, slice(None, None, -1)) == everything(whole)


def test_one_core_many_processes_and_many_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 5))
    settings = dict(lrs=np.geomspace(0.01, 0.5, 8), seeds=3, eval_every=10)
    forked = run(workers=3, **settings)
    assert everything(run(workers=1, **settings)) == everything(forked)
    monkeypatch.setattr(sweeps, "_can_fork", lambda: False)
    assert everything(run(workers=3, **settings)) == everything(forked)
    images = run(model=CONV, data=IMAGES, workers=3)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert everything(run(model=CONV, data=IMAGES, workers=3)) == everything(images)


def test_the_environment_says_how_many_cores_to_use_unless_the_call_does(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sweeps, "_chunks", lambda pairs, least, most, workers: asked.append(workers) or [pairs]
    )
    monkeypatch.setenv("LRTEACH_WORKERS", "3")
    run()
    run(workers=2)
    monkeypatch.setenv("LRTEACH_WORKERS", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(5), raising=False)
    run()
    assert asked == [3, 2, 5]


@pytest.mark.parametrize("model, own_data", [(CONV, IMAGES), (RELU, CLASSES)], ids=["conv", "mlp"])
def test_vmap_which_a_gpu_uses_trains_the_same_runs(monkeypatch, model, own_data):
    settings = dict(model=model, data=own_data, rule=adam, lrs=(0.003, 0.01), eval_every=10)
    want = run(**settings)
    monkeypatch.setattr(sweeps, "_stack_class", lambda job, draws: MappedStack)
    got = run(workers=1, **settings)
    np.testing.assert_allclose(got.losses, want.losses, rtol=1e-10)
    np.testing.assert_allclose(got.val_losses, want.val_losses, rtol=1e-10)
    alone = run(workers=1, **settings | {"lrs": (0.01,), "seeds": [1]})
    np.testing.assert_allclose(alone.losses[0, 0], got.losses[1, 1], rtol=1e-12)


@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("model, own_data", [(CONV, IMAGES), (RELU, CLASSES)], ids=["conv", "mlp"])
def test_a_gpu_trains_the_same_runs(monkeypatch, model, own_data):
    want = run(model=model, data=own_data)
    monkeypatch.undo()
    got = run(model=model, data=own_data)
    np.testing.assert_allclose(got.losses, want.losses, rtol=1e-6)


# --- Divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["relu, three layers", "convolution"])
def test_a_diverging_run_never_disturbs_its_neighbours(case):
    settings = CASES[case] | {"rule": sgd, "dtype": torch.float32}
    settings.pop("lrs", None)
    alone = run(lrs=(0.05, 0.1), **settings)
    beside = run(lrs=(0.05, 1e30, 0.1, 1e12), **settings)
    assert beside.diverged[[1, 3]].all()
    assert not beside.diverged[[0, 2]].any()
    assert everything(beside, [0, 2]) == everything(alone)


@pytest.mark.parametrize("lr", [1e4, 1e15, 1e25, 1e38])
@pytest.mark.parametrize("model", [RELU, TANH], ids=["relu", "tanh"])
def test_a_diverging_run_ends_where_train_ends_it(model, lr):
    settings = dict(steps=25, batch_size=10, eval_every=5, dtype=torch.float32)
    result = sweep(model, CLASSES, sgd, [0.1, lr], seeds=[1], **settings)
    single = train(model, CLASSES, sgd, lr, seed=1, **settings)
    assert result.diverged[1, 0] == single.diverged
    assert result.updates[1, 0] == single.steps
    assert result.diverged_at[1, 0] == (single.steps if single.diverged else -1)
    if single.diverged:
        assert result.val_loss[1, 0] == result.test_loss[1, 0] == math.inf
        assert math.isnan(result.val_accuracy[1, 0])
        assert result.smooth_loss()[1, 0] == math.inf
        assert np.isnan(result.losses[1, 0, single.steps + 1 :]).all()
        assert np.isfinite(result.losses[1, 0, : single.steps]).all()
        assert np.isnan(result.val_losses[1, 0, len(single.val_losses) :]).all()


def test_a_sweep_in_which_every_run_diverges_says_so():
    result = run(model=RELU, lrs=(1e30, 1e35), dtype=torch.float32)
    assert result.diverged.all()
    with pytest.raises(ValueError, match="every rate of this sweep diverged"):
        _ = result.best
    assert "4 of 4 runs diverged" in repr(result)


# --- What a sweep says ----------------------------------------------------------------------------


def made_up(val_losses, lrs):
    """A sweep whose runs start at a validation loss of 2 and end at these; infinite: diverged."""
    final = np.array(val_losses, float)
    K, S = final.shape
    measured = np.stack([np.full((K, S), 2.0), final], axis=2)
    return Sweep(
        lrs=np.array(lrs, float), seeds=np.arange(S), factors=np.ones(10),
        eval_steps=np.array([0, 10]), val_losses=measured, val_accuracies=np.zeros_like(measured),
        test_loss=final, test_accuracy=np.zeros_like(final), diverged=~np.isfinite(final),
        updates=np.where(np.isfinite(final), 10, 3), config={"rule": "sgd", "steps": 10},
        _curves=lambda name: np.ones((K, S, 10)),
    )  # fmt: skip


def test_best_is_the_rate_with_the_lowest_median():
    result = made_up([[1, 1, 1], [0.5, 0.6, 9], [0.1, 0.7, 0.8], [math.inf] * 3], [1, 2, 4, 8])
    assert (result.best, result.best_index) == (2, 1)


def test_cliff_is_where_half_of_the_gain_is_lost():
    lrs = [1, 2, 4, 8, 16]
    slope = [[1.9], [0.2], [0.5], [1.2], [math.inf]]
    assert made_up(slope, lrs).cliff == 8  # half way from 2 to 0.2 is 1.1
    assert made_up([[1.9], [0.2], [0.5], [1.0], [math.nan]], lrs).cliff == 16
    assert made_up([[1.9], [1.5], [0.5], [0.3], [0.2]], lrs).cliff == math.inf
    assert made_up([[0.5], [1.9], [0.2], [0.3], [0.1]], lrs).cliff == math.inf  # not below best
    unsorted = made_up([[math.inf], [0.2], [1.9], [1.2], [0.5]], [16, 2, 1, 8, 4])
    assert (unsorted.best, unsorted.cliff) == (2, 8)


def test_tolerance_is_where_the_median_crosses_ten_per_cent():
    lrs = np.geomspace(0.01, 100, 9)
    valley = np.exp(np.log(lrs) ** 2)  # the log of the loss is a parabola in the log of the rate
    fine = np.geomspace(0.01, 100, 4001)
    root = math.exp(math.sqrt(math.log(1.1)))
    assert tolerance(fine, np.exp(np.log(fine) ** 2)) == pytest.approx((root, root), rel=1e-3)
    # between two rates a power: the first step away from 1 is one power of 10 ** 0.5
    power = math.log(10) / 2
    edge = math.exp(math.log(1.1) / power)
    assert tolerance(lrs, valley) == pytest.approx((edge, edge))
    shuffled = np.random.default_rng(0).permutation(9)
    assert tolerance(lrs[shuffled], valley[shuffled]) == pytest.approx((edge, edge))
    seeds = np.stack([valley, valley, np.full(9, 1e9)], axis=1)  # the median decides
    assert tolerance(lrs, seeds) == pytest.approx((edge, edge))


def test_tolerance_ends_at_the_last_good_rate_beside_a_divergence_or_nowhere():
    assert tolerance([1, 2, 4, 8], [1.05, 1.0, 1.0, math.inf]) == (math.inf, 2)
    assert tolerance([1, 2, 4], [math.nan, 1.0, 1.2], worse=1.2) == (1, math.inf)
    assert (
        tolerance([1, 2, 4, 8], [1.0, 1.3, 1.0, 1.0], worse=1.2)[1] < 2
    )  # what lies behind a hill is lost
    result = made_up([[1.2], [0.5], [0.5], [math.inf]], [1, 2, 4, 8])
    assert result.tolerance()[1] == 2
    assert result.tolerance() == tolerance(result.lrs, result.val_loss)
    assert result.tolerance(worse=1.5)[0] > result.tolerance()[0]


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"lrs": [0.0, 1.0]}, "rates > 0"),
        ({"lrs": [1.0]}, "losses of shape"),
        ({"losses": [math.inf, math.inf]}, "least loss, inf"),
        ({"losses": [0.0, 1.0]}, "least loss, 0"),
        ({"worse": 1.0}, "worse=1.0"),
        ({"worse": math.inf}, "worse=inf"),
    ],
)
def test_a_tolerance_that_would_say_nothing_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        tolerance(**{"lrs": [1.0, 2.0], "losses": [1.0, 2.0]} | bad)


def test_best_val_loss_is_the_lowest_that_was_measured_after_an_update():
    result = run(rule=adam, lrs=(0.5,), eval_every=5, steps=40)
    assert np.array_equal(result.best_val_loss, result.val_losses[:, :, 1:].min(axis=2))
    assert (result.best_val_loss <= result.val_loss).all()


def test_smooth_loss_is_the_mean_of_the_last_updates():
    result = run(steps=30)
    np.testing.assert_allclose(result.smooth_loss(10), result.losses[:, :, 20:].mean(axis=2))


def test_the_dataframe_has_a_row_for_each_run():
    result = run(model=RELU, lrs=(0.1, 1e30), seeds=[3, 5], dtype=torch.float32)
    table = result.to_dataframe()
    assert len(table) == 4
    row = table[(table.lr == 0.1) & (table.seed == 5)].iloc[0]
    assert row.val_loss == result.val_loss[0, 1]
    assert row.test_accuracy == result.test_accuracy[0, 1]
    assert table[table.diverged].lr.tolist() == [1e30, 1e30]


def test_rates_are_those_of_the_schedule_at_every_rate():
    plan = warmup(5).then(cosine(20))
    result = run(schedule=plan, lrs=(0.1, 0.2))
    assert np.array_equal(result.rates, np.outer([0.1, 0.2], plan(np.arange(25))))


def test_a_schedule_that_changes_when_it_is_asked_is_refused():
    class Counting(Schedule):
        def __init__(self):
            self.calls = 0

        def value(self, t):
            self.calls += 1
            return np.full_like(t, 0.5**self.calls)

    with pytest.raises(ValueError, match="not a pure function of the step"):
        run(schedule=Counting(), workers=1)


# --- Which models are trained at once -------------------------------------------------------------


def test_only_chains_of_dense_layers_are_written_out():
    x, images = CLASSES.x_train, IMAGES.x_train
    linear = nn.Linear(4, 4)
    assert can_be_dense(TANH, x)
    assert can_be_dense(nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Identity()), x)
    assert can_be_dense(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), images)
    assert not can_be_dense(nn.Sequential(nn.Linear(6, 3)), images)  # acts on the last axis
    assert not can_be_dense(CONV, images)
    assert not can_be_dense(WithDropout(), x)
    assert not can_be_dense(nn.Sequential(linear, nn.GELU()), x)
    assert not can_be_dense(nn.Sequential(nn.ReLU(), linear), x)
    assert not can_be_dense(nn.Sequential(linear, nn.ReLU(), linear), x)  # shared weights
    assert not can_be_dense(nn.Sequential(linear, nn.Dropout()), x)
    assert not can_be_dense(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), x)
    hooked = nn.Sequential(nn.Linear(4, 3))
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not can_be_dense(hooked, x)
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    frozen[0].weight.requires_grad_(False)
    assert not can_be_dense(frozen, x)


def test_gradients_by_hand_are_those_of_automatic_differentiation():
    model = initialise(mlp((5, 7, 6, 3), "relu"), 0).double()
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    stack = DenseStack(model, torch.stack([theta, 2 * theta]), F.cross_entropy)
    x, y = torch.randn(1, 9, 5, dtype=torch.float64), torch.arange(9) % 3
    losses = stack.gradient(x, y.expand(2, -1))
    loss = F.cross_entropy(model(x[0]), y)
    loss.backward()
    want = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(stack.g[0], want, rtol=1e-12, atol=1e-15)
    assert losses[0].item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize(
    "pairs, least, most, workers, lengths",
    [
        (32, 1, 32, 2, [16, 16]),
        (40, 1, 32, 2, [20, 20]),
        (1, 1, 32, 2, [1]),
        (100, 1, 32, 2, [25] * 4),
        (32, 500, 200, 2, [32]),  # too little work to share
        (300, 200, 200, 2, [150, 150]),
        (20, 11, 32, 2, [20]),
        (22, 11, 32, 2, [11, 11]),
        (3, 1, 1, 2, [1, 1, 1]),
    ],
)
def test_chunks_are_large_enough_to_be_worth_a_core(pairs, least, most, workers, lengths):
    chunks = sweeps._chunks([(k, 0) for k in range(pairs)], min(least, most), most, workers)
    assert [len(chunk) for chunk in chunks] == lengths
    assert [k for chunk in chunks for k, _ in chunk] == list(range(pairs))


def test_work_that_is_stopped_gives_no_result():
    job = sweeps.Job(
        TANH, CLASSES, sgd, {}, cosine(5), 5, 10, True, None, None, None, torch.float64
    )
    assert train_together(DenseStack, job, [0.1], [0], stopped=lambda: True) is None
    assert train_together(DenseStack, job, [0.1], [0]) is not None


# --- What it leaves alone -------------------------------------------------------------------------


def test_model_random_numbers_and_number_of_threads_stay_as_they_were():
    model, random_model = mlp((4, 8, 3)).eval(), WithDropout()
    before = [p.clone() for p in model.parameters()]
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run(model=model)
    run(model=random_model)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def in_a_fresh_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | environment, timeout=120,
    )  # fmt: skip


def test_a_sweep_imports_neither_torchs_compiler_nor_pandas_nor_matplotlib():
    done = in_a_fresh_python("""
        import sys
        sys.path.insert(0, "tests")
        from run_cases import run
        run()
        print([m for m in ("torch._dynamo", "torch._inductor", "pandas", "matplotlib", "sympy",
                           "torchvision", "distributed") if m in sys.modules])
    """)
    assert done.stdout.strip() == "[]", done.stderr


def test_forking_works_after_torch_has_used_several_threads():
    done = in_a_fresh_python(
        """
        import sys, torch
        torch.set_num_threads(2)
        a = torch.randn(700, 700, requires_grad=True)
        (a @ a).sum().backward()
        sys.path.insert(0, "tests")
        from run_cases import run, CONV, IMAGES
        print(run(workers=2).diverged.any(), run(model=CONV, data=IMAGES, workers=2).diverged.any())
        """,
        OMP_NUM_THREADS="2",
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(lrs=[]), "lrs=.* sequence of one or more finite numbers >= 0"),
        (dict(lrs=0.1), "lrs=0.1 is not allowed"),
        (dict(lrs=[0.1, -1]), "lrs=.*-1"),
        (dict(lrs=[0.1, math.nan]), "lrs=.*nan"),
        (dict(seeds=0), "seeds=0 is not allowed: seeds must be an int >= 1, or different ints"),
        (dict(seeds=[1, 1]), "seeds="),
        (dict(seeds=[-1]), "seeds="),
        (dict(seeds="01"), "seeds='01'"),
        (dict(seeds=1.5), "seeds=1.5"),
        (dict(workers=0), "workers=0 is not allowed: workers must be an int >= 1 or None"),
        (dict(workers=True), "workers=True"),
        (dict(steps=0), "steps=0 is not allowed"),
        (dict(batch_size=1000), "batch_size=1000 is not allowed: there are 48 training examples"),
        (dict(clip=-1), "clip=-1"),
    ],
)
def test_bad_values_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        run(**bad)


@pytest.mark.parametrize("text", ["0", "-1", "two", "²"])
def test_a_bad_number_of_workers_in_the_environment_is_named(monkeypatch, text):
    monkeypatch.setenv("LRTEACH_WORKERS", text)
    with pytest.raises(ValueError, match=f"LRTEACH_WORKERS='{text}' is not allowed"):
        run()


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(rule=torch.optim.SGD), "rule must be a rule"),
        (dict(nesterov=True), "sgd has no hyperparameter 'nesterov'"),
        (dict(executor=4), "executor must be a concurrent.futures.Executor, not 4"),
        (dict(schedule=3), "schedule must be a Schedule or a Feedback rule, or make one"),
    ],
)
def test_bad_types_are_named(bad, message):
    with pytest.raises(TypeError, match=message):
        run(**bad)


def test_an_error_in_a_run_reaches_the_caller():
    def broken(outputs, targets):
        if outputs.requires_grad:
            raise ZeroDivisionError("in the loss")
        return squares(outputs, targets)

    with pytest.raises(ZeroDivisionError, match="in the loss"):
        run(loss=broken)


def test_a_model_that_does_not_fit_the_data_fails_at_once():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(model=mlp((5, 3)))


def test_the_progress_bar_shows_the_rule_and_the_time_left(capfd):
    run(steps=200, progress=True)
    shown = capfd.readouterr().err
    assert "sgd" in shown
    assert "update/s" in shown
    run(progress=False)
    assert capfd.readouterr().err == ""
