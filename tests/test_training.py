"""Tests of lrteach.training: a run is its plan, its seed and nothing else."""

import copy
import math
import random
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from run_cases import CLASSES, PARTS, REGRESSION, WithDropout, copying, keeping
from torch import nn
from torch.nn import functional as F

from lrteach import training
from lrteach.models import cnn, initialise, linear_model, mlp
from lrteach.optimizers import adam, heavy_ball, rule, sgd
from lrteach.schedules import Schedule, constant, cosine, step, warmup
from lrteach.training import Run, batches, device, evaluate, train

GPU = torch.cuda.is_available()


pytestmark = pytest.mark.usefixtures("on_the_cpu")


MODEL = mlp((4, 8, 3), "tanh")


def run(model=MODEL, data=CLASSES, rule=sgd, lr=0.1, **more):
    settings = {"steps": 25, "batch_size": 10, "dtype": torch.float64} | more
    return train(model, data, rule, lr, **settings)


def weights_of(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def recorded(result):
    """Everything a run recorded, as one comparable list of bytes."""
    arrays = [result.losses, result.rates, result.grad_norms, result.eval_steps]
    arrays += [result.val_losses, result.val_accuracies, result.test_loss, result.test_accuracy]
    return [np.asarray(a).tobytes() for a in [*arrays, weights_of(result.model)]]


# --- What the run is -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_reproduces_itself_bit_for_bit(dtype):
    settings = {"rule": adam, "lr": 0.01, "schedule": cosine, "seed": 3, "dtype": dtype}
    assert recorded(run(**settings)) == recorded(run(**settings))


@pytest.mark.parametrize(
    "ours, theirs, hyper",
    [
        (sgd, torch.optim.SGD, {}),
        (heavy_ball, torch.optim.SGD, {"momentum": 0.8}),
        (adam, torch.optim.Adam, {"betas": (0.8, 0.99)}),
    ],
    ids=["sgd", "heavy_ball", "adam"],
)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_equals_a_plain_torch_loop_on_the_same_start_and_batches(ours, theirs, hyper, clip):
    schedule = warmup(5).then(cosine(20))
    result = run(rule=ours, lr=0.05, schedule=schedule, seed=4, clip=clip, **hyper)

    model = initialise(mlp((4, 8, 3), "tanh"), 4).double()
    optimizer = theirs(model.parameters(), lr=1.0, **hyper)
    order = batches(48, 10, 4)
    losses = []
    for t in range(25):
        rows = next(order)
        optimizer.param_groups[0]["lr"] = 0.05 * schedule(t)
        optimizer.zero_grad()
        x, y = torch.from_numpy(CLASSES.x_train[rows]), torch.from_numpy(CLASSES.y_train[rows])
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:  # torch's clip_grad_norm_ divides by the norm + 1e-6
            norm = math.sqrt(sum((p.grad**2).sum().item() for p in model.parameters()))
            for p in model.parameters():
                p.grad *= min(1.0, clip / norm)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(result.losses, losses, rtol=1e-10)
    difference = weights_of(result.model) - weights_of(model)
    assert difference.abs().max().item() <= 1e-10
    assert result.losses[-1] < result.losses[0]


def test_a_convolution_on_images_equals_a_plain_torch_loop():
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.normal(size=(12, 1, 28, 28)) for part in PARTS}
    arrays |= {f"y_{part}": rng.integers(0, 3, 12) for part in PARTS}
    model = cnn((2, 3, 3), hidden=4, classes=3)
    result = run(model, SimpleNamespace(**arrays), steps=4, batch_size=None)

    model = initialise(model, 0).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    for loss in result.losses:
        optimizer.zero_grad()
        want = F.cross_entropy(model(x), y)
        want.backward()
        optimizer.step()
        assert loss == pytest.approx(want.item(), rel=1e-10)


def test_a_rule_may_keep_theta_and_the_gradient_as_it_got_them():
    assert recorded(run(rule=keeping, lr=0.05)) == recorded(run(rule=copying, lr=0.05))


def test_inputs_that_are_whole_numbers_reach_the_model_as_such():
    tokens = {f"x_{part}": np.arange(4 * n).reshape(n, 4) % 7 for part, n in PARTS.items()}
    labels = {f"y_{part}": tokens[f"x_{part}"][:, 0] % 3 for part in PARTS}
    model = nn.Sequential(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(20, 3))
    result = run(model, SimpleNamespace(**tokens, **labels), steps=100, lr=0.5)
    assert result.test_accuracy == 1.0


def test_the_callers_model_keeps_its_parameters_gradients_and_mode():
    model = mlp((4, 8, 3)).eval()
    before = weights_of(model).clone()
    result = run(model)
    assert torch.equal(weights_of(model), before)
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert next(model.parameters()).dtype == torch.float32
    assert result.model is not model


@pytest.mark.parametrize("model", [MODEL, WithDropout()], ids=["mlp", "dropout"])
def test_global_random_numbers_are_neither_used_nor_moved(model):
    def state():
        numpys = np.random.mtrand._rand.get_state()
        return torch.get_rng_state().tolist(), repr(numpys), random.getstate()

    torch.manual_seed(1)
    before = state()
    first = run(model)
    assert state() == before
    torch.manual_seed(2)
    assert recorded(run(model)) == recorded(first)
    assert recorded(run(model, seed=1)) != recorded(first)


def test_seeds_change_the_start_and_the_batches():
    first, second = run(seed=0), run(seed=1)
    assert first.losses[0] != second.losses[0]
    same_start = [run(seed=s, initialise=False, lr=0.0, batch_size=10) for s in (0, 1)]
    assert not np.array_equal(same_start[0].losses, same_start[1].losses)
    assert np.array_equal(weights_of(same_start[0].model), weights_of(MODEL).double())


def test_initialise_false_starts_from_the_models_own_parameters():
    model = initialise(mlp((4, 8, 3), "tanh"), 99)
    result = run(model, initialise=False, steps=1, batch_size=None)
    x, y = torch.from_numpy(CLASSES.x_train), torch.from_numpy(CLASSES.y_train)
    assert result.losses[0] == pytest.approx(
        F.cross_entropy(copy.deepcopy(model).double()(x), y).item(), rel=1e-12
    )
    other = initialise(mlp((4, 8, 3), "tanh"), 98)
    start = run(model).losses[0]
    assert run(other).losses[0] == start != result.losses[0]


def test_batch_size_none_is_the_whole_set_in_every_update():
    result = run(batch_size=None, lr=0.0, steps=3)
    assert result.losses[0] == result.losses[1] == result.losses[2]
    shuffled = run(batch_size=48, lr=0.0, steps=1)
    assert shuffled.losses[0] == pytest.approx(result.losses[0], rel=1e-12)


# --- The rate ------------------------------------------------------------------------------------

SCHEDULES = {
    "none": (None, lambda t: 0.1),
    "class": (cosine, lambda t: 0.1 * cosine(25)(t)),
    "schedule": (warmup(5).then(step(4, 0.5)), lambda t: 0.1 * warmup(5).then(step(4, 0.5))(t)),
    "function": (lambda steps: constant(2.0) * cosine(steps), lambda t: 0.1 * (2 * cosine(25)(t))),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_recorded_rates_equal_the_plan_and_what_moved_the_parameters(name):
    schedule, plan = SCHEDULES[name]
    moves = []

    @rule
    def watched(theta, g, *, lr):
        new = theta - lr * g
        moves.append(((theta - new) @ g / (g @ g)).item())
        return new

    result = run(rule=watched, schedule=schedule, batch_size=None)
    assert result.rates.tolist() == [plan(t) for t in range(25)]
    np.testing.assert_allclose(moves, result.rates, rtol=1e-9)
    assert len(result.rates) == result.steps == 25


def test_the_parameters_displacement_over_one_run_gives_the_rate_back():
    for lr in (0.1, 0.003):
        start = weights_of(run(lr=0.0, steps=1).model)
        result = run(lr=lr, steps=1)
        moved = torch.linalg.vector_norm(weights_of(result.model) - start).item()
        assert moved / result.grad_norms[0] == pytest.approx(lr, rel=1e-9) == result.rates[0]


@dataclass(frozen=True)
class Impure(Schedule):
    """Counts its calls, as schedules of some libraries do."""

    changes_at: int
    calls: list
    steps: int | None = None

    def value(self, t):
        self.calls.append(len(t))
        rates = np.ones_like(t)
        return rates * 0.5 if len(t) == 1 and t[0] == self.changes_at else rates


def test_a_schedule_that_is_not_pure_is_refused_with_the_step_named():
    with pytest.raises(ValueError, match=r"not a pure function of the step: update 7 was planned"):
        run(schedule=Impure(7, []))
    run(schedule=Impure(25, []))


@dataclass(frozen=True)
class Bad(Schedule):
    rate: float
    steps: int | None = None

    def value(self, t):
        return np.where(t == 3, self.rate, 1.0)


@pytest.mark.parametrize("rate", [-1.0, np.nan, np.inf])
def test_a_schedule_with_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(ValueError, match="lr must be finite and >= 0"):
        run(schedule=Bad(rate))


def test_numpy_rates_and_hyperparameters_leave_the_run_as_it_is():
    plain = run(rule=heavy_ball, lr=0.1, momentum=0.5, dtype=torch.float32)
    numpys = run(
        rule=heavy_ball, lr=np.float64(0.1), momentum=np.float64(0.5), dtype=torch.float32,
        steps=np.int64(25), batch_size=np.int32(10), seed=np.uint8(0),
    )  # fmt: skip
    assert recorded(plain) == recorded(numpys)
    assert next(numpys.model.parameters()).dtype == torch.float32


# --- Divergence ----------------------------------------------------------------------------------


def test_a_run_that_diverges_stops_cleanly_and_says_so():
    result = run(linear_model(4), REGRESSION, lr=1e30, batch_size=None)
    assert result.diverged
    assert result.val_loss == result.smooth_loss() == math.inf
    assert re.fullmatch(r"diverged: the loss is (inf|nan) after \d+ updates", result.status)
    assert result.steps < 25
    assert len(result.losses) == result.steps + 1 == len(result.grad_norms) + 1
    assert not math.isfinite(result.losses[-1])
    assert np.all(np.isfinite(result.losses[:-1]))
    assert str(result.steps) in result.status
    assert "diverged" in repr(result)


def test_a_last_update_that_breaks_the_model_counts_as_diverged():
    result = run(linear_model(4), REGRESSION, lr=1e300, steps=1)
    assert result.diverged
    assert re.fullmatch(
        r"diverged: the validation loss is (inf|nan) after 1 updates", result.status
    )
    assert len(result.losses) == result.steps == 1


def test_infinite_parameters_count_as_diverged_even_if_the_loss_is_finite():
    @rule
    def breaks(theta, g, *, lr):
        new = theta.clone()
        new[8:16] = -math.inf  # the hidden units' biases: a ReLU makes zeros of them
        return new

    model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 3))
    data = SimpleNamespace(**{k: v[:, :1] if k[0] == "x" else v for k, v in vars(CLASSES).items()})
    result = run(model, data, breaks, steps=2)
    assert math.isfinite(result.val_losses[-1])
    assert result.diverged
    assert result.val_loss == math.inf
    assert result.status == "diverged: parameters are not finite after 2 updates"


def test_not_a_number_in_the_data_stops_before_the_first_update():
    data = SimpleNamespace(**vars(CLASSES) | {"x_train": CLASSES.x_train * np.nan})
    result = run(data=data)
    assert result.diverged
    assert result.status == "diverged: the loss is nan after 0 updates"
    assert (result.steps, len(result.losses)) == (0, 1)


def test_a_run_that_does_not_diverge_says_that_it_finished():
    result = run()
    assert not result.diverged
    assert result.status == "finished 25 steps"
    assert repr(result) == "<Run sgd lr=0.1 seed=0: finished 25 steps>"


# --- What is measured ----------------------------------------------------------------------------


def test_evaluations_are_those_of_the_model_on_the_whole_part():
    result = run()
    assert result.eval_steps.tolist() == [0, 25]
    for part, loss, accuracy in (
        ("val", result.val_loss, result.val_accuracy),
        ("test", result.test_loss, result.test_accuracy),
    ):
        x, y = (torch.from_numpy(getattr(CLASSES, f"{k}_{part}")) for k in "xy")
        with torch.no_grad():
            outputs = result.model(x)
        assert loss == pytest.approx(F.cross_entropy(outputs, y).item(), rel=1e-12)
        assert accuracy == (outputs.argmax(1) == y).double().mean().item()
    assert result.val_losses[0] > result.val_losses[-1]
    assert result.smooth_loss(5) == np.mean(result.losses[-5:])


def test_eval_every_measures_every_so_many_updates_and_after_the_last():
    assert run(eval_every=10).eval_steps.tolist() == [0, 10, 20, 25]
    assert run(eval_every=5).eval_steps.tolist() == [0, 5, 10, 15, 20, 25]
    assert run(eval_every=99).eval_steps.tolist() == [0, 25]


def test_measuring_more_often_changes_nothing_in_the_run():
    for model in (MODEL, WithDropout()):
        often, seldom = run(model, eval_every=1), run(model)
        assert np.array_equal(often.losses, seldom.losses)
        assert torch.equal(weights_of(often.model), weights_of(seldom.model))


def test_dropout_acts_while_training_and_not_while_measuring():
    result = run(WithDropout(), lr=0.0, batch_size=None, steps=6, eval_every=2)
    assert len(set(result.losses)) == 6
    assert len(set(result.val_losses)) == 1


def test_evaluate_in_chunks_is_the_mean_over_the_part():
    x, y = torch.from_numpy(CLASSES.x_train), torch.from_numpy(CLASSES.y_train)
    model = initialise(mlp((4, 8, 3)), 0).double()
    whole = evaluate(model, x, y, F.cross_entropy)
    assert evaluate(model, x, y, F.cross_entropy, chunk=7) == pytest.approx(whole, rel=1e-12)


def test_a_regression_fits_its_targets_and_has_no_accuracy():
    result = run(linear_model(4), REGRESSION, lr=0.1, steps=300)
    assert result.val_loss < 1e-3 < result.val_losses[0]
    assert np.isnan(result.val_accuracies).all()
    assert math.isnan(result.test_accuracy)
    x, y = torch.from_numpy(REGRESSION.x_val), REGRESSION.y_val
    errors = result.model(x).detach().numpy()[:, 0] - y
    assert result.val_loss == pytest.approx(np.mean(errors**2))


def test_a_loss_of_ones_own_is_used():
    result = run(loss=lambda outputs, y: F.cross_entropy(outputs, y) + 100.0)
    assert result.losses.min() > 100
    assert result.val_loss > 100


def test_clip_shortens_long_gradients_and_records_their_length_before():
    free, clipped = run(steps=1), run(steps=1, clip=1e-3)
    assert clipped.grad_norms[0] == free.grad_norms[0] > 1e-3
    start = weights_of(run(lr=0.0, steps=1).model)
    moved = torch.linalg.vector_norm(weights_of(clipped.model) - start).item()
    assert moved == pytest.approx(0.1 * 1e-3, rel=1e-6)
    assert recorded(run(clip=1e6)) == recorded(run())


def test_frozen_parameters_stay():
    model = mlp((4, 8, 3), "tanh")
    model[0].weight.requires_grad_(False)
    result = run(model, initialise=False)
    assert torch.equal(result.model[0].weight, model[0].weight.double())
    assert not torch.equal(result.model[2].weight, model[2].weight.double())
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="model has no trainable parameter"):
        run(model)


def test_config_tells_what_was_run():
    config = run(rule=adam, lr=0.01, seed=5, clip=2.0).config
    assert (config["rule"], config["lr"], config["seed"], config["clip"]) == ("adam", 0.01, 5, 2.0)
    assert (config["steps"], config["batch_size"], config["betas"]) == (25, 10, (0.9, 0.999))
    assert config["schedule"] == constant()


# --- Batches -------------------------------------------------------------------------------------


def test_every_pass_is_a_permutation_without_repeats():
    order = batches(12, 4, seed=0)
    passes = [np.concatenate([next(order) for _ in range(3)]) for _ in range(4)]
    for one in passes:
        assert sorted(one) == list(range(12))
    assert len({tuple(one) for one in passes}) == 4


def test_what_is_left_of_a_pass_is_skipped():
    order = batches(11, 4, seed=0)
    for _ in range(5):
        rows = np.concatenate([next(order), next(order)])
        assert len(set(rows)) == 8


def test_batches_depend_on_the_seed_alone():
    def first(seed):
        order = batches(50, 10, seed)
        return [next(order).tolist() for _ in range(7)]

    assert first(1) == first(1) != first(2)


def test_batches_of_none_are_all_rows_in_order():
    order = batches(5, None, seed=0)
    assert next(order).tolist() == next(order).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, -1, 6])
def test_batches_that_cannot_be_are_refused(size):
    with pytest.raises(ValueError, match=f"batch_size={size} is not allowed: there are 5"):
        next(batches(5, size, seed=0))


# --- Surroundings --------------------------------------------------------------------------------


def test_no_progress_bar_where_stderr_is_no_terminal(capsys):
    run()
    run(progress=False)
    assert capsys.readouterr().err == ""
    run(progress=True)
    assert "sgd" in capsys.readouterr().err


def test_a_progress_bar_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(training.sys.stderr, "isatty", lambda: True)
    run()
    assert "sgd" in capsys.readouterr().err


def test_device_is_the_gpu_if_there_is_one_and_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device() == torch.device("cuda")


@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("each", [sgd, adam], ids=lambda r: r.__name__)
def test_a_run_on_the_gpu_reproduces_itself_and_agrees_with_the_cpu(monkeypatch, each):
    on_cpu = run(rule=each, lr=0.01, clip=1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    state = torch.cuda.get_rng_state()
    on_gpu, again = run(rule=each, lr=0.01, clip=1.0), run(rule=each, lr=0.01, clip=1.0)
    assert next(on_gpu.model.parameters()).is_cuda
    np.testing.assert_allclose(on_gpu.losses, on_cpu.losses, rtol=1e-9)
    assert np.array_equal(on_gpu.losses, again.losses)
    dropout = [run(WithDropout()).losses for _ in range(2)]
    assert np.array_equal(*dropout)
    assert torch.equal(torch.cuda.get_rng_state(), state)


BAD = [
    ({"rule": sgd.formula}, TypeError, "rule must be a rule such as lrteach.optimizers.sgd, not"),
    ({"rule": "sgd"}, TypeError, "rule must be a rule such as lrteach.optimizers.sgd, not 'sgd'"),
    ({"lr": -0.1}, ValueError, "lr=-0.1 is not allowed: lr must be finite and >= 0"),
    ({"lr": math.nan}, ValueError, "lr=nan is not allowed: lr must be finite and >= 0"),
    ({"lr": np.array([0.1, 0.2])}, TypeError, "lr must be one number, not array([0.1, 0.2])"),
    ({"lr": torch.tensor(0.1)}, TypeError, "lr must be one number, not tensor(0.1000)"),
    ({"momentum": 0.9}, TypeError, "sgd has no hyperparameter 'momentum': it has lr"),
    ({"rule": heavy_ball, "momentum": 1.0}, ValueError,
     "momentum=1.0 is not allowed: momentum must be in [0, 1)"),
    *(({"steps": v}, ValueError, f"steps={v!r} is not allowed: steps must be an int >= 1")
      for v in (0, -1, 2.0, "9", None, True)),
    *(({"batch_size": v}, ValueError,
       f"batch_size={v!r} is not allowed: batch_size must be an int >= 1 or None")
      for v in (0, -1, 2.0, False)),
    ({"batch_size": 49}, ValueError, "batch_size=49 is not allowed: there are 48 training examples"),
    *(({"eval_every": v}, ValueError,
       f"eval_every={v!r} is not allowed: eval_every must be an int >= 1 or None")
      for v in (0, -1, 2.5)),
    *(({"seed": v}, ValueError, f"seed={v!r} is not allowed: seed must be an int >= 0")
      for v in (-1, 0.5, None, "a")),
    *(({"clip": v}, ValueError, f"clip={v!r} is not allowed: clip must be None or a number > 0")
      for v in (0, -1.0, math.nan, "1")),
    ({"schedule": 0.5}, TypeError, "schedule must be a Schedule or a Feedback rule, or make one, not float"),
    ({"schedule": lambda steps: 1.0}, TypeError, "or make one, not float"),
]  # fmt: skip


@pytest.mark.parametrize(
    "bad, error, message", BAD, ids=lambda v: re.sub(" at 0x.*", "", repr(v))[:30]
)
def test_a_bad_argument_is_refused_by_name(bad, error, message):
    with pytest.raises(error, match=re.escape(message)):
        run(**bad)


def test_a_run_is_documented_attribute_by_attribute():
    documented = re.findall(r"^    ([a-z_, ]+) : ", Run.__doc__, re.MULTILINE)
    names = {name for line in documented for name in line.split(", ")}
    assert names == set(Run.__dataclass_fields__)
