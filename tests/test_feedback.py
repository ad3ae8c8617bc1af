"""Tests of the feedback rules of lrteach.schedules, and of the runs and sweeps that follow them.

tests/test_schedule_equivalents.py compares `plateau` with other libraries.
"""

import copy
import dataclasses
import inspect
import io
import json
import math
import pickle
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import GROUP_RATES, assert_refused, make_optimizer, train_step
from run_cases import CLASSES, CONV, IMAGES, RELU, TANH, everything, run
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrteach import Sweep, sweeps, train
from lrteach.batched import MappedStack
from lrteach.optimizers import adam, sgd
from lrteach.schedules import (
    Feedback,
    constant,
    cosine,
    exponential,
    linear,
    phases,
    plateau,
    restart_below,
    warmup,
)
from lrteach.sweep_files import SweepFile, SweepFileError

pytestmark = pytest.mark.usefixtures("on_the_cpu")

# --- The rules as folds ---------------------------------------------------------------------------

numbers = st.floats(0, 4) | st.sampled_from([1.0, 0.5, nan, inf])
losses_seen = st.lists(numbers, max_size=50)
shares = st.floats(0, 1)
property_settings = settings(max_examples=80, deadline=None, derandomize=True)


@st.composite
def plateaus(draw):
    peak = draw(st.floats(0.01, 10))
    return plateau(
        draw(st.floats(0.05, 0.95)),
        draw(st.integers(0, 5)),
        draw(st.floats(0, 0.9)),
        draw(st.sampled_from(["rel", "abs"])),
        draw(st.integers(0, 5)),
        peak,
        draw(shares) * peak,
    )


inner = st.sampled_from(
    [linear(5), cosine(9, end=0.1), exponential(0.9), warmup(3).then(cosine(4)), constant(0.5)]
)
restarts = st.builds(restart_below, st.floats(0.01, 3), inner, st.floats(0.1, 1))
rules = plateaus() | restarts


def test_the_defaults_of_plateau_are_those_of_torch():
    theirs = inspect.signature(ReduceLROnPlateau).parameters
    ours = plateau()
    for name in ("factor", "patience", "threshold", "threshold_mode", "cooldown"):
        assert getattr(ours, name) == theirs[name].default, name
    assert (ours.peak, ours.end) == (1, 0)


def test_a_negative_threshold_restarts_when_the_loss_passes_it():
    rule = restart_below(-1.0, linear(4, peak=4))
    assert rule.replay([0.0, -0.5, -2.0, -3.0]).tolist() == [4, 3, 2, 4, 3]


@property_settings
@given(rule=rules, losses=losses_seen)
def test_online_makes_the_rates_of_replay(rule, losses):
    follow = rule.online()
    online = [follow.rate]
    for loss in losses:
        online.append(follow.update(loss))
        assert follow.rate == online[-1]
    replayed = rule.replay(losses)
    assert replayed.dtype == np.float64 and replayed.shape == (len(losses) + 1,)
    assert replayed.tolist() == online
    assert np.all(np.isfinite(replayed) & (replayed >= 0))


@property_settings
@given(rule=rules, losses=losses_seen, more=losses_seen)
def test_a_rate_depends_on_the_losses_before_it_only(rule, losses, more):
    n = len(losses) + 1
    assert np.array_equal(rule.replay(losses + more)[:n], rule.replay(losses))


@property_settings
@given(rule=rules, losses=losses_seen, more=losses_seen)
def test_a_saved_state_goes_on_where_it_was(rule, losses, more):
    whole = rule.online()
    for loss in losses:
        whole.update(loss)
    resumed = rule.online()
    resumed.state = pickle.loads(pickle.dumps(whole.state))
    twin = pickle.loads(pickle.dumps(whole))
    through_json = rule.online()
    through_json.state = type(whole.state)(**json.loads(json.dumps(whole.state._asdict())))
    for loss in more:
        whole.update(loss)
        assert whole.rate == resumed.update(loss) == twin.update(loss) == through_json.update(loss)


@property_settings
@given(rule=rules, losses=losses_seen)
def test_a_rule_is_a_value_and_following_it_changes_nothing(rule, losses):
    before = repr(rule)
    first = rule.replay(losses)
    assert np.array_equal(rule.replay(losses), first)
    assert repr(rule) == before
    for twin in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert twin == rule and hash(twin) == hash(rule)
        assert np.array_equal(twin.replay(losses), first)
    for name in [*(f.name for f in dataclasses.fields(rule)), "new"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, name, 1)


def test_two_followers_of_a_rule_are_apart():
    rule = plateau(patience=0)
    one, other = rule.online(), rule.online()
    one.update(1.0), one.update(1.0)
    assert (one.rate, other.rate) == (0.1, 1.0)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, torch.tensor, np.array])
def test_a_loss_may_be_any_number(kind):
    follow = plateau(patience=0).online()
    follow.update(kind(0.5))
    assert follow.update(kind(0.5)) == 0.1
    assert type(follow.state.best) is float


def test_a_follower_shows_its_rule_and_its_rate():
    assert repr(plateau().online()) == f"<{plateau()!r} at 1>"


@pytest.mark.parametrize("losses", [3.0, [[1.0, 2.0]], np.ones((2, 2))], ids=repr)
def test_a_history_that_is_no_list_of_numbers_is_refused(losses):
    with pytest.raises(ValueError, match="losses must be a list of numbers, not of shape"):
        plateau().replay(losses)


# --- plateau --------------------------------------------------------------------------------------


@property_settings
@given(rule=plateaus(), losses=losses_seen)
def test_a_plateau_only_cuts_and_never_below_its_end(rule, losses):
    rates = rule.replay(losses)
    assert rates[0] == rule.peak
    assert np.all(np.diff(rates) <= 0)
    assert rates.min() >= rule.end
    for before, after in pairwise(rates):
        assert after in (before, max(rule.end, before * rule.factor))


@property_settings
@given(rule=plateaus(), losses=losses_seen)
def test_between_two_cuts_are_patience_and_cooldown(rule, losses):
    cuts = np.flatnonzero(np.diff(rule.replay(losses)))
    assert np.all(cuts >= rule.patience)
    assert np.all(np.diff(cuts) >= rule.patience + 1 + rule.cooldown)


@pytest.mark.parametrize("patience", [0, 1, 4])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_losses_that_stay_are_cut_at_known_times(patience, cooldown):
    rates = plateau(0.5, patience, cooldown=cooldown).replay([1.0] * 40)
    cuts = np.flatnonzero(np.diff(rates))
    period = patience + 1 + cooldown
    # The first loss is an improvement on nothing.
    assert cuts.tolist() == list(range(patience + 1, 40, period))


def test_losses_that_improve_enough_are_never_cut():
    assert np.all(plateau(patience=0, threshold=0.1).replay(0.89 ** np.arange(99)) == 1)
    assert plateau(patience=0, threshold=0.1).replay([1, 0.91]).tolist() == [1, 1, 0.1]
    falling = plateau(patience=0, threshold=0.5, threshold_mode="abs")
    assert falling.replay([3, 2.4, 1.8, 1.4]).tolist() == [1, 1, 1, 1, 0.1]


def test_an_improvement_must_be_more_than_the_threshold():
    for rule in (plateau(0.5, 0, 0.5), plateau(0.5, 0, 0.5, "abs")):
        assert rule.replay([1.0, 0.5]).tolist() == [1, 1, 0.5]
        assert rule.replay([1.0, np.nextafter(0.5, 0)]).tolist() == [1, 1, 1]


def test_small_steps_are_measured_from_the_best_and_not_from_the_last():
    rates = plateau(0.5, 1, 0.5, "abs").replay([2.0, 1.8, 1.6, 1.4])
    assert rates.tolist() == [1, 1, 1, 0.5, 0.5]
    assert plateau(0.5, 1, 0.5, "abs").replay([2.0, 1.8, 1.4, 1.2]).tolist() == [1] * 5


def test_a_best_of_zero_or_below_can_be_improved():
    rule = plateau(0.5, 0, 0.1)
    assert rule.replay([0.0, -0.001, -1.0, -1.2]).tolist() == [1] * 5
    assert rule.replay([-1.0, -1.05]).tolist() == [1, 1, 0.5]


@pytest.mark.parametrize("strange", [nan, inf])
def test_what_is_no_number_is_never_an_improvement(strange):
    rule = plateau(0.5, 1)
    assert rule.replay([strange] * 4).tolist() == [1, 1, 0.5, 0.5, 0.25]
    assert rule.replay([1.0, strange, 0.5, strange, 0.2]).tolist() == [1] * 6


def test_improvements_in_a_cooldown_count():
    rule = plateau(0.5, 0, cooldown=2)
    assert rule.replay([1, 1, 0.5, 0.4, 0.45]).tolist() == [1, 1, 0.5, 0.5, 0.5, 0.25]


# --- restart_below --------------------------------------------------------------------------------


def ages_of(rule, losses):
    """By the definition: how many losses there were since the last restart, before each loss."""
    ages, threshold = [0], rule.threshold
    for i, loss in enumerate(losses):
        before = losses[i - 1] if i else inf
        below = [not math.isnan(x) and x < threshold for x in (before, loss)]
        if below == [False, True]:
            ages.append(0)
            threshold *= rule.shrink
        else:
            ages.append(ages[-1] + 1)
    return ages


@property_settings
@given(rule=restarts, losses=losses_seen)
def test_a_restart_is_a_passage_from_above(rule, losses):
    want = [rule.schedule(age) for age in ages_of(rule, losses)]
    assert rule.replay(losses).tolist() == want


def test_restart_below_by_hand():
    rule = restart_below(0.5, linear(4))
    rates = rule.replay([0.9, 0.8, 0.4, 0.3, 0.6, 0.5, 0.49])
    assert rates.tolist() == [1, 0.75, 0.5, 1, 0.75, 0.5, 0.25, 1]


def test_a_loss_that_stays_low_restarts_once():
    rates = restart_below(0.5, linear(4)).replay([0.9] + [0.1] * 6)
    assert rates.tolist() == [1, 0.75, 1, 0.75, 0.5, 0.25, 0, 0]


def test_each_restart_lowers_the_threshold():
    follow = restart_below(0.8, linear(4), shrink=0.5).online()
    for loss, age, threshold in [(0.9, 1, 0.8), (0.7, 0, 0.4), (0.6, 1, 0.4), (0.39, 0, 0.2),
                                 (0.3, 1, 0.2), (0.1, 0, 0.1)]:  # fmt: skip
        follow.update(loss)
        assert (follow.state.age, follow.state.threshold) == (age, pytest.approx(threshold))


def test_a_loss_may_pass_several_thresholds_at_once_and_then_only_the_first_counts():
    ages = restart_below(0.8, linear(4), shrink=0.5).replay([0.9, 0.1, 0.05, 0.9, 0.3])
    assert ages.tolist() == [1, 0.75, 1, 0.75, 0.5, 1]


def test_nan_is_not_below():
    rule = restart_below(0.5, linear(4))
    assert rule.replay([nan, nan]).tolist() == [1, 0.75, 0.5]
    assert rule.replay([0.9, 0.4, nan, 0.4]).tolist() == [1, 0.75, 1, 0.75, 1]


# --- Bad arguments --------------------------------------------------------------------------------

CHOICES = "'rel' or 'abs'"
BAD = [
    *((plateau, {"factor": v}, "between 0 and 1, without both") for v in (0, 1, -0.1, 2, nan, "a", None)),
    *((plateau, {"patience": v}, "an int >= 0") for v in (-1, 1.5, True, None, "3")),
    *((plateau, {"cooldown": v}, "an int >= 0") for v in (-1, 0.5, False, None)),
    *((plateau, {"threshold": v}, "in [0, 1) with threshold_mode='rel'") for v in (-1e-4, 1, nan, None)),
    *((plateau, {"threshold_mode": "abs", "threshold": v}, "a finite number >= 0")
      for v in (-1e-4, inf, nan, "1")),
    *((plateau, {"threshold_mode": v}, CHOICES) for v in ("relative", "", None, 1, ["rel"])),
    *((plateau, {"peak": v}, "a finite number >= 0") for v in (-1, inf, nan, True)),
    *((plateau, {"end": v}, "a finite number >= 0") for v in (-1, inf, nan)),
    (plateau, {"end": 1.5}, "at most peak, which is 1.0"),
    (plateau, {"peak": 0.1, "end": 0.2}, "at most peak, which is 0.1"),
    *((restart_below, {"schedule": linear(3), "threshold": v}, "a finite number")
      for v in (nan, inf, None, "1", True)),
    *((restart_below, {"threshold": 1.0, "schedule": v}, "a schedule")
      for v in (0.1, cosine, None, plateau())),
    *((restart_below, {"threshold": 1.0, "schedule": linear(3), "shrink": v}, "in (0, 1]")
      for v in (0, -1, 1.5, nan, None)),
    (restart_below, {"threshold": -1.0, "schedule": linear(3), "shrink": 0.5},
     "1 with a threshold that is not positive"),
]  # fmt: skip


@pytest.mark.parametrize(
    "make, arguments, words", BAD, ids=lambda v: getattr(v, "__name__", repr(v))
)
def test_a_bad_value_is_refused_with_its_name_its_value_and_the_range(make, arguments, words):
    assert_refused(make, arguments, words)


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int64])
def test_numpy_numbers_are_as_good_as_pythons(integer):
    ours = plateau(np.float64(0.5), integer(2), cooldown=integer(127), peak=np.float64(0.5))
    assert ours == plateau(0.5, 2, cooldown=127, peak=0.5)
    assert repr(ours) == repr(plateau(0.5, 2, cooldown=127, peak=0.5))
    assert restart_below(np.float32(0.5), linear(3)) == restart_below(0.5, linear(3))


# --- As a torch scheduler -------------------------------------------------------------------------


def rates_of(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def noisy_decay(seed, n=40):
    rng = np.random.default_rng(seed)
    return (0.5 + 2 * np.exp(-np.arange(n) / 5) + rng.normal(0, 0.05, n)).tolist()


@pytest.mark.parametrize("kind", ["SGD", "Adam", "TorchOptimizer"])
def test_torch_rates_are_torchs_own_in_every_group_of_a_real_loop(kind):
    ours, theirs = make_optimizer(kind), make_optimizer(kind)
    rule = plateau(0.5, 1, 0.01, cooldown=1)
    follow = rule.torch(ours[0])
    scheduler = ReduceLROnPlateau(
        theirs[0], factor=0.5, patience=1, threshold=0.01, cooldown=1, eps=0
    )
    losses = noisy_decay(0)
    for loss, factor in zip(losses, rule.replay(losses), strict=False):
        assert follow.get_last_lr() == rates_of(ours[0]) == [lr * factor for lr in GROUP_RATES]
        assert rates_of(ours[0]) == pytest.approx(rates_of(theirs[0]), rel=1e-14)
        for optimizer, parameters in (ours, theirs):
            train_step(optimizer, parameters)
        follow.step(loss)
        scheduler.step(loss)
    assert rates_of(ours[0])[0] < 0.01
    for p, q in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=0)


def test_an_end_keeps_the_groups_apart_where_torchs_min_lr_does_not():
    ours, theirs = make_optimizer("SGD")[0], make_optimizer("SGD")[0]
    follow = plateau(0.1, 0, end=0.05).torch(ours)
    scheduler = ReduceLROnPlateau(theirs, patience=0, min_lr=0.05)
    for _ in range(9):
        follow.step(1.0)
        scheduler.step(1.0)
    assert rates_of(ours) == pytest.approx([0.05 * lr for lr in GROUP_RATES])
    assert rates_of(theirs) == [0.05, 0.003, 0.05]


@pytest.mark.parametrize("rule", [plateau(0.5, 1), restart_below(0.7, cosine(9))], ids=repr)
@pytest.mark.parametrize("follower_first", [True, False])
def test_a_resumed_run_continues_bit_for_bit(rule, follower_first):
    losses = noisy_decay(3)
    optimizer, parameters = make_optimizer("Adam")
    follow = rule.torch(optimizer)
    file = io.BytesIO()
    for t, loss in enumerate(losses):
        if t == 17:
            assert rates_of(optimizer) != list(GROUP_RATES)
            torch.save([follow.state_dict(), optimizer.state_dict(), parameters], file)
        train_step(optimizer, parameters)
        follow.step(loss)

    file.seek(0)
    saved = torch.load(file, weights_only=True)  # plain numbers, so that torch loads it
    resumed, others = make_optimizer("Adam")
    for p, value in zip(others, saved[2], strict=True):
        p.data.copy_(value.data)
    if follower_first:
        again = rule.torch(resumed)
        resumed.load_state_dict(saved[1])
    else:
        resumed.load_state_dict(saved[1])
        again = rule.torch(resumed)
    again.load_state_dict(saved[0])
    for loss in losses[17:]:
        train_step(resumed, others)
        again.step(loss)
    assert rates_of(resumed) == rates_of(optimizer)
    assert again.state_dict() == follow.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_loading_a_state_sets_the_rates_at_once():
    follow = plateau(0.5, 0).torch(make_optimizer("SGD")[0])
    follow.step(1.0), follow.step(1.0)
    other = make_optimizer("SGD", (9.0, 9.0, 9.0))[0]
    again = plateau(0.5, 0).torch(other)
    again.load_state_dict(follow.state_dict())
    assert again.get_last_lr() == rates_of(other) == [0.5 * lr for lr in GROUP_RATES]


def test_a_saved_state_does_not_move_on():
    follow = plateau(patience=0).torch(make_optimizer("SGD")[0])
    saved = follow.state_dict()
    before = copy.deepcopy(saved)
    follow.step(1.0), follow.step(1.0)
    assert saved == before != follow.state_dict()


def test_the_follower_refuses_what_is_no_optimizer_and_a_foreign_state():
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, not .*list"):
        plateau().torch([torch.zeros(1)])
    optimizer = make_optimizer("SGD")[0]
    follow = plateau().torch(optimizer)
    with pytest.raises(ValueError, match=r"must hold 'base_lrs' and 'state', not \['best'\]"):
        follow.load_state_dict({"best": 3})
    other = restart_below(0.5, linear(3)).torch(make_optimizer("SGD")[0]).state_dict()
    with pytest.raises(ValueError, match=r"must hold \['rate', 'best', .* for plateau\(.*, not "):
        follow.load_state_dict(other)
    fewer = plateau().torch(make_optimizer("SGD", (0.1, 0.2))[0]).state_dict()
    with pytest.raises(ValueError, match="is of 2 parameter groups, and this optimizer has 3"):
        follow.load_state_dict(fewer)
    assert rates_of(optimizer) == list(GROUP_RATES)


# --- One run --------------------------------------------------------------------------------------

EAGER = plateau(0.5, 0, 0.15)  # cuts at most evaluations
RULES = {
    "plateau": EAGER,
    "plateau, absolute": plateau(0.3, 0, 0.1, "abs", cooldown=1, end=0.01),
    "restart": restart_below(0.7, linear(6), shrink=0.9),
}


def one(schedule, lr=0.3, **more):
    settings = {
        "model": TANH, "data": CLASSES, "rule": sgd, "steps": 47, "batch_size": 10, "eval_every": 4,
        "dtype": torch.float64, "schedule": schedule,
    } | more  # fmt: skip
    return train(lr=lr, **settings)


def recorded(result):
    arrays = [result.losses, result.rates, result.grad_norms, result.val_losses, result.test_loss]
    weights = torch.cat([p.detach().reshape(-1) for p in result.model.parameters()])
    return [np.asarray(a).tobytes() for a in [*arrays, weights]]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("each", [sgd, adam], ids=lambda r: r.__name__)
def test_recorded_rates_are_those_of_the_losses_measured_before(rule, each):
    result = one(rule, 0.3 if each is sgd else 0.03, rule=each)
    factors = rule.replay(result.val_losses[1:])  # the untrained model is not told
    assert result.eval_steps.tolist() == [*range(0, 48, 4), 47]
    want = [result.config["lr"] * factors[t // 4] for t in range(47)]
    assert result.rates.tolist() == want
    assert len(set(want)) >= 3


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_plan_of_the_same_rates_makes_the_same_run(rule):
    followed = one(rule)
    planned = one(phases([4] * 11 + [3], followed.rates[::4]), lr=1.0)
    assert recorded(planned) == recorded(followed)


@dataclass(frozen=True)
class Heard(Feedback):
    """Rates that tell how many losses were heard."""

    class State(NamedTuple):
        rate: float = 1.0

    def start(self):
        return self.State()

    def next(self, state, loss):
        return self.State(state.rate / 2)


@dataclass(frozen=True)
class Forgetful(Heard):
    """A rule that remembers more than its state."""

    heard: list

    def next(self, state, loss):
        self.heard.append(loss)
        return self.State(1 / (1 + len(self.heard)))


def test_the_rule_hears_of_each_evaluation_but_the_first():
    rates = one(Heard(), steps=9, eval_every=3).rates
    assert rates.tolist() == [0.3] * 3 + [0.15] * 3 + [0.075] * 3
    assert one(Heard(), steps=3, eval_every=9).rates.tolist() == [0.3] * 3


def test_a_rule_is_given_as_itself_as_its_class_or_made_for_the_steps():
    want = recorded(one(plateau()))
    assert recorded(one(plateau)) == want
    assert recorded(one(lambda steps: plateau())) == want


def test_a_run_reproduces_itself_and_leaves_the_rule_as_it_was():
    before = repr(EAGER)
    assert recorded(one(EAGER)) == recorded(one(EAGER))
    assert repr(EAGER) == before
    assert one(EAGER).config["schedule"] is EAGER


def test_a_rule_that_would_never_hear_a_loss_is_refused():
    message = "eval_every=None is not allowed with plateau("
    with pytest.raises(ValueError, match=re.escape(message)):
        one(plateau(), eval_every=None)
    with pytest.raises(ValueError, match=re.escape(message)):
        run(schedule=plateau)


def test_a_run_that_diverges_keeps_the_rates_it_used():
    at_once = one(EAGER, 1e30, model=RELU, dtype=torch.float32)
    assert at_once.diverged and at_once.rates.tolist() == [1e30] * at_once.steps
    # The double rate breaks it, but only after some cuts and restarts.
    later = one(
        restart_below(2.0, linear(4, peak=0, end=1e30)), 1.0, model=RELU, dtype=torch.float32
    )
    assert later.diverged and 4 < later.steps < 47
    factors = later.config["schedule"].replay(later.val_losses[1:])
    assert later.rates.tolist() == [factors[t // 4] for t in range(later.steps)]


def test_a_rule_that_remembers_more_than_its_state_is_refused():
    with pytest.raises(ValueError, match="schedule is not a pure function of the losses: update 4"):
        one(Forgetful([]))


# --- Many runs ------------------------------------------------------------------------------------

MANY = dict(schedule=EAGER, steps=25, eval_every=4, lrs=(0.03, 0.3, 1.0), seeds=2)


def alone(result, k, s, **more):
    """The run of `train` that a sweep's run (k, s) stands for."""
    settings = MANY | {"model": TANH, "data": CLASSES, "batch_size": 10} | more
    for name in ("lrs", "seeds"):
        settings.pop(name)
    settings = {"rule": sgd, "dtype": torch.float64} | settings
    return train(lr=result.lrs[k], seed=int(result.seeds[s]), **settings)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_runs_trained_together_are_those_of_train(rule, dtype, rtol):
    result = run(**MANY | {"schedule": rule, "dtype": dtype})
    rates = set()
    for k, s in np.ndindex(3, 2):
        one_run = alone(result, k, s, schedule=rule, dtype=dtype)
        np.testing.assert_allclose(result.losses[k, s], one_run.losses, rtol=rtol)
        np.testing.assert_allclose(result.val_losses[k, s], one_run.val_losses, rtol=rtol)
        np.testing.assert_allclose(result.test_loss[k, s], one_run.test_loss, rtol=rtol)
        factors = rule.replay(result.val_losses[k, s, 1:])
        assert one_run.rates.tolist() == [result.lrs[k] * factors[t // 4] for t in range(25)]
        rates.add(tuple(factors))
    assert len(rates) >= 3  # each run goes its own way


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_runs_trained_one_by_one_are_those_of_train_bit_for_bit(rule):
    own = dict(model=CONV, data=IMAGES)
    result = run(**MANY | own | {"schedule": rule})
    for k, s in np.ndindex(3, 2):
        one_run = alone(result, k, s, schedule=rule, **own)
        assert np.array_equal(result.losses[k, s], one_run.losses)
        assert np.array_equal(result.val_losses[k, s], one_run.val_losses)
        assert result.test_loss[k, s] == one_run.test_loss


def test_vmap_which_a_gpu_uses_follows_too(monkeypatch):
    settings = MANY | dict(model=CONV, data=IMAGES)
    want = run(**settings)
    monkeypatch.setattr(sweeps, "_stack_class", lambda job, draws: MappedStack)
    got = run(workers=1, **settings)
    np.testing.assert_allclose(got.losses, want.losses, rtol=1e-10)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_run_is_the_same_whatever_runs_beside_it(rule):
    settings = MANY | {"schedule": rule, "model": RELU, "dtype": torch.float32}
    beside = run(**settings | {"lrs": (1e30, 0.03, 1e12, 0.3), "workers": 1})
    assert beside.diverged[0].all() and not beside.diverged[[1, 3]].any()
    by_itself = run(**settings | {"lrs": (0.3,), "seeds": [1]})
    assert everything(by_itself) == everything(beside, slice(3, 4), slice(1, 2))
    diverged = run(**settings | {"lrs": (1e30,)})
    assert everything(diverged) == everything(beside, slice(0, 1))


def test_a_dense_rule_that_remembers_more_than_its_state_is_refused():
    with pytest.raises(ValueError, match="not a pure function of the losses: update 4"):
        run(**MANY | {"schedule": Forgetful([]), "workers": 1})


def test_the_runs_have_no_common_rates():
    result = run(**MANY)
    assert result.factors is None
    with pytest.raises(ValueError, match=r"no common rates under plateau\(factor=0.5, .*replay it"):
        _ = result.rates


@pytest.mark.parametrize("own", [{}, dict(model=CONV, data=IMAGES)], ids=["dense", "convolution"])
def test_executors_give_the_same_bits(monkeypatch, own):
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 2))
    settings = MANY | own
    want = everything(run(workers=1, **settings))
    assert everything(run(workers=2, **settings)) == want
    with ThreadPoolExecutor(2) as pool:
        assert everything(run(executor=pool, **settings)) == want
    with ProcessPoolExecutor(2, get_context("fork")) as pool:  # the job travels as a pickle
        assert everything(run(executor=pool, **settings)) == want


@pytest.mark.parametrize("own", [{}, dict(model=CONV, data=IMAGES)], ids=["dense", "convolution"])
def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch, own):
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 2))
    path, settings = tmp_path / "runs.sweep", MANY | own
    add = SweepFile.add

    def add_and_stop(*arguments):
        add(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SweepFile, "add", add_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(resume=path, workers=1, **settings)
    with pytest.raises(SweepFileError, match="is not finished: 4 of 6"):
        Sweep.load(path)
    assert everything(run(resume=path, **settings)) == everything(run(**settings))


@pytest.mark.parametrize(
    "other",
    [plateau(0.5, 0, 0.06), dataclasses.replace(EAGER, end=0.1), RULES["restart"], cosine, None],
    ids=repr,
)
def test_a_file_of_another_rule_is_refused(tmp_path, other):
    path = tmp_path / "runs.sweep"
    run(resume=path, **MANY)
    with pytest.raises(SweepFileError, match="belongs to another sweep: its factors is ") as error:
        run(resume=path, **MANY | {"schedule": other})
    found, wanted = re.search(r"its factors is (.*), not (.*)\. Use", str(error.value)).groups()
    assert found != wanted


def test_a_file_of_a_schedule_is_no_file_of_a_rule(tmp_path):
    path = tmp_path / "runs.sweep"
    run(resume=path, **MANY | {"schedule": cosine})
    with pytest.raises(SweepFileError, match="its factors is"):
        run(resume=path, **MANY)


def test_a_saved_sweep_is_loaded_bit_for_bit(tmp_path):
    result = run(**MANY)
    result.save(tmp_path / "runs.sweep")
    loaded = Sweep.load(tmp_path / "runs.sweep")
    assert everything(loaded) == everything(result)
    assert loaded.factors is None
    assert loaded.config["factors"] == repr(EAGER)
    with pytest.raises(ValueError, match="no common rates"):
        _ = loaded.rates
    assert loaded.best == result.best and repr(loaded) == repr(result)
