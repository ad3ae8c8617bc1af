"""Tests of lrteach.schedules: values, pure functions, bad arguments, as torch schedulers."""

import copy
import dataclasses
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrteach import TorchOptimizer, optimizers, schedules
from lrteach.schedules import (
    Feedback,
    Online,
    Schedule,
    chebyshev,
    constant,
    cosine,
    cyclical,
    exponential,
    inverse_sqrt,
    inverse_time,
    linear,
    log_uniform,
    multistep,
    noam,
    one_cycle,
    phases,
    plateau,
    polynomial,
    restart_below,
    rex,
    step,
    warm_restarts,
    warmup,
    wsd,
)

T = 20


# --- The formulas at the points that matter ------------------------------------------------------


@pytest.mark.parametrize(
    "schedule, values",
    [
        (constant(0.3), {0: 0.3, 10**9: 0.3}),
        (step(10, 0.5, peak=8), {0: 8, 9: 8, 10: 4, 19: 4, 20: 2, 30: 1}),
        (step(10, 0.5, peak=8, steps=20), {19: 4, 20: 2, 30: 2, 1000: 2}),
        (multistep([3, 4], 0.5, peak=8), {0: 8, 2: 8, 3: 4, 4: 2, 100: 2}),
        (exponential(0.5, peak=8), {0: 8, 1: 4, 3: 1}),
        (exponential(0.5, peak=8, steps=2), {2: 2, 3: 2}),
        (inverse_time(1.0, peak=6), {0: 6, 1: 3, 2: 2, 5: 1}),
        (linear(4, peak=4), {0: 4, 1: 3, 3: 1, 4: 0, 5: 0}),
        (linear(4, peak=1, end=3), {0: 1, 2: 2, 4: 3, 99: 3}),
        (polynomial(4, peak=16), {0: 16, 1: 9, 2: 4, 3: 1, 4: 0, 5: 0}),
        (polynomial(4, power=1, peak=5, end=1), {0: 5, 1: 4, 4: 1, 5: 1}),
        (cosine(4, peak=2), {0: 2, 2: 1, 4: 0, 5: 0}),
        (cosine(4, peak=3, end=1), {0: 3, 2: 2, 4: 1, 5: 1}),
        (warmup(4), {0: 0.2, 1: 0.4, 3: 0.8, 4: 1, 5: 1}),
        (warmup(4, peak=5), {0: 1, 1: 2, 4: 5}),
        (warmup(4, peak=8, start=0), {0: 0, 1: 2, 4: 8, 5: 8}),
        (linear(4, peak=4) * linear(2, peak=2), {0: 8, 1: 3, 2: 0, 5: 0}),
        (2 * linear(4, peak=4), {0: 8, 1: 6, 4: 0}),
        (linear(4, peak=4) * 0.5, {0: 2, 1: 1.5, 4: 0}),
        (np.float64(2) * linear(4, peak=4), {0: 8, 1: 6}),
    ],
    ids=repr,
)
def test_value_at_the_start_the_joints_and_the_end(schedule, values):
    for t, value in values.items():
        assert schedule(t) == pytest.approx(value, rel=1e-14, abs=1e-16)


def test_then_starts_the_second_schedule_from_its_own_zero():
    joined = linear(4, peak=4, end=2).then(linear(3, peak=9, end=6))
    assert joined(np.arange(10)).tolist() == [4, 3.5, 3, 2.5, 9, 8, 7, 6, 6, 6]
    assert joined.steps == 7


def test_then_after_cuts_the_first_schedule_or_holds_its_end():
    cut = linear(4, peak=4).then(constant(9), after=2)
    held = linear(4, peak=4).then(constant(9), after=6)
    assert cut(np.arange(5)).tolist() == [4, 3, 9, 9, 9]
    assert held(np.arange(8)).tolist() == [4, 3, 2, 1, 0, 0, 9, 9]


def test_then_is_associative():
    a, b, c = linear(3, end=0.5), cosine(4, peak=0.5, end=0.2), exponential(0.9, peak=0.2)
    t = np.arange(20)
    assert np.array_equal(a.then(b).then(c)(t), a.then(b.then(c))(t))


def test_a_warmup_leads_to_the_first_rate_of_what_follows():
    schedule = warmup(9).then(cosine(10, peak=0.1))
    assert schedule(0) == pytest.approx(0.01)
    assert schedule(np.arange(10)) == pytest.approx(0.01 * np.arange(1, 11))
    assert schedule(9) == 0.1


@pytest.mark.parametrize(
    "schedule",
    [
        warmup(10).then(constant(0.1), after=20),
        constant(0.1, steps=5).then(warmup(10)).then(constant(0.1)),
        constant(0.1, steps=5).then(warmup(10).then(constant(0.1))),
        warmup(10).then(warmup(10)).then(constant(0.1)),
    ],
    ids=range(4),
)
def test_a_warmup_inside_a_chain_never_rises_above_what_follows(schedule):
    assert schedule(np.arange(40)).max() <= 0.1 * (1 + 1e-15)
    assert schedule(39) == 0.1


def test_a_warmup_with_a_peak_keeps_it():
    schedule = warmup(4, peak=0.5).then(constant(0.1))
    assert schedule(3) == pytest.approx(0.4)
    assert schedule(4) == 0.1


@pytest.mark.parametrize(
    "schedule, steps",
    [
        (constant(), None),
        (constant(steps=3), 3),
        (cosine(5), 5),
        (warmup(2).then(cosine(5)), 7),
        (warmup(2).then(constant()), None),
        (cosine(5) * linear(8), 8),
        (cosine(5) * constant(), None),
    ],
    ids=repr,
)
def test_steps_is_how_long_it_lasts(schedule, steps):
    assert schedule.steps == steps


@pytest.mark.parametrize(
    "schedule",
    [step(7), multistep((5, 9)), exponential(0.9), inverse_time(0.1), linear(T), polynomial(T),
     polynomial(T, power=0.5, end=0.1), cosine(T), cosine(T, end=0.3), cosine(10_000),
     linear(T) * cosine(T)],
    ids=repr,
)  # fmt: skip
def test_decays_never_rise(schedule):
    rates = schedule(np.arange(2 * (schedule.steps or T)))
    assert np.all(np.diff(rates) <= 0)
    assert rates[-1] < rates[0]


@pytest.mark.parametrize("schedule", [warmup(T), warmup(T, peak=3, start=0.5), linear(T, 0.1, 1)])
def test_rises_never_fall(schedule):
    assert np.all(np.diff(schedule(np.arange(T + 1))) > 0)
    assert np.all(np.diff(schedule(np.arange(T, 2 * T))) == 0)


# --- Pure functions of the step ------------------------------------------------------------------

rates = st.floats(0, 10)
positive = st.floats(0.01, 10)
gammas = st.floats(0.01, 1)
shares = st.floats(0, 1)
counts = st.integers(1, 60)
ends = st.none() | counts


@st.composite
def some_phases(draw):
    n = draw(st.integers(1, 5))
    return phases(*(draw(st.lists(x, min_size=n, max_size=n)) for x in (counts, rates)))


@st.composite
def some_warm_restarts(draw):
    cycles = draw(st.integers(1, 5))
    growth = draw(st.just(1) | st.just(2) | st.floats(1, 3))
    gamma, peak = draw(gammas), draw(rates)
    least = math.ceil(sum(growth**i for i in range(cycles)))
    end = draw(shares) * peak * gamma ** (cycles - 1)
    return warm_restarts(least + draw(counts), cycles, growth, peak, 0.999 * end, gamma)


def bounded(make, low, **more):
    """`make` with a `peak`, and an argument `low` that is at most the peak."""
    return st.builds(
        lambda peak, share, **rest: make(peak=peak, **{low: share * peak}, **rest),
        rates,
        shares,
        **more,
    )


def cyclicals():
    ranges = st.sampled_from(["triangular", "triangular2"])
    return st.one_of(
        bounded(cyclical, "low", up=counts, down=ends, mode=ranges, steps=ends),
        bounded(
            cyclical,
            "low",
            up=counts,
            down=ends,
            mode=st.just("exp_range"),
            gamma=gammas,
            steps=ends,
        ),
    )


def one_cycles():
    more = {"steps": counts, "shape": st.sampled_from(["cosine", "linear"])}
    return st.one_of(
        bounded(one_cycle, low, rise=st.floats(0.01, most), phases=st.just(n), **more)
        for low in ("start", "end")
        for n, most in ((2, 0.99), (3, 0.49))
    )


@st.composite
def some_wsd(draw):
    warm, cool, more = draw(st.integers(0, 20)), draw(counts), draw(st.integers(0, 20))
    peak = draw(rates)
    shape = draw(st.sampled_from(["linear", "sqrt", "cosine"]))
    return wsd(warm + cool + more, cool, warm, peak, draw(shares) * peak, shape)


def chebyshevs():
    mu_and_L = st.tuples(positive, st.floats(1, 1000)).map(lambda p: (p[0], p[0] * p[1]))
    return st.one_of(
        st.builds(lambda n, p: chebyshev(2**n, *p), st.integers(0, 6), mu_and_L),
        st.builds(
            lambda n, p, order: chebyshev(n, *p, order),
            counts, mu_and_L, st.sampled_from(["falling", "rising"]),
        ),
    )  # fmt: skip


# every class of the module -> schedules of it
STRATEGIES = {
    constant: st.builds(constant, rates, ends),
    step: st.builds(step, counts, gammas, rates, ends),
    multistep: st.builds(
        multistep,
        st.sets(counts, min_size=1, max_size=4).map(lambda m: tuple(sorted(m))),
        gammas, rates, ends,
    ),
    phases: some_phases(),
    exponential: st.builds(exponential, gammas, rates, ends),
    inverse_time: st.builds(inverse_time, rates, rates, ends),
    inverse_sqrt: st.builds(inverse_sqrt, positive, rates, ends),
    linear: st.builds(linear, counts, rates, rates),
    polynomial: st.builds(polynomial, counts, st.floats(0.1, 5), rates, rates),
    rex: bounded(rex, "end", steps=counts),
    cosine: st.builds(cosine, counts, rates, rates),
    warm_restarts: some_warm_restarts(),
    cyclical: cyclicals(),
    one_cycle: one_cycles(),
    warmup: st.builds(warmup, counts, st.none(), st.none() | st.just(0))
    | bounded(warmup, "start", steps=counts),
    wsd: some_wsd(),
    noam: st.builds(noam, counts, st.none() | rates, counts, ends),
    chebyshev: chebyshevs(),
    log_uniform: st.builds(
        log_uniform, counts, st.floats(1.1, 1000), st.integers(0, 9), rates
    ),
}  # fmt: skip
simple = st.one_of(STRATEGIES.values())
any_schedule = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, c: c * a, inner, rates),
        st.builds(lambda a, b, n: a.then(b, after=n), inner, inner, counts),
    ),
    max_leaves=4,
)
property_settings = settings(max_examples=80, deadline=None, derandomize=True)


def test_every_schedule_of_the_module_is_in_the_strategy():
    public = {getattr(schedules, name) for name in schedules.__all__}
    assert public == {*STRATEGIES, Schedule, Feedback, Online, plateau, restart_below}


@property_settings
@given(schedule=any_schedule, start=st.integers(0, 70), length=st.integers(1, 70))
def test_an_int_gives_bit_for_bit_what_an_array_gives(schedule, start, length):
    t = np.arange(start, start + length)
    drawn = schedule(t)
    assert drawn.dtype == np.float64 and drawn.shape == t.shape
    one_by_one = [schedule(int(i)) for i in t]
    assert all(type(rate) is float for rate in one_by_one)
    assert np.array_equal(drawn, one_by_one)
    assert np.array_equal(schedule(t[::-1])[::-1], drawn)
    assert np.array_equal(schedule(np.stack([t, t])), np.stack([drawn, drawn]))


@property_settings
@given(schedule=any_schedule)
def test_calling_changes_nothing_and_repeats_itself(schedule):
    before, t = repr(schedule), np.arange(130)
    first = schedule(t)
    assert np.array_equal(t, np.arange(130))
    schedule(7)
    assert np.array_equal(schedule(t), first)
    assert repr(schedule) == before


@property_settings
@given(schedule=any_schedule)
def test_rates_are_finite_and_not_negative(schedule):
    drawn = schedule(np.arange(300))
    assert np.all(np.isfinite(drawn))
    assert drawn.min() >= 0


@property_settings
@given(schedule=any_schedule, beyond=st.integers(1, 10**12))
def test_past_its_end_it_holds_its_last_value(schedule, beyond):
    if schedule.steps is not None:
        assert schedule(schedule.steps + beyond) == schedule(schedule.steps)


@property_settings
@given(schedule=any_schedule)
def test_it_pickles_copies_and_hashes_as_a_value(schedule):
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert np.array_equal(twin(np.arange(99)), schedule(np.arange(99)))


@property_settings
@given(schedule=any_schedule)
def test_it_is_frozen(schedule):
    for name in [*(f.name for f in dataclasses.fields(schedule)), "new"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, name, 1)


@property_settings
@given(first=any_schedule, second=any_schedule, number=rates)
def test_a_product_multiplies_at_every_step(first, second, number):
    t = np.arange(150)
    assert np.array_equal((first * second)(t), first(t) * second(t))
    assert np.array_equal((number * first)(t), first(t) * number)


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_numpy_ints_are_as_good_as_ints(integer):
    pairs = [
        (warmup(integer(127)).then(cosine(integer(100))), warmup(127).then(cosine(100))),
        (step(integer(100)), step(100)),
        (multistep(np.array([3, 100], integer)), multistep((3, 100))),
        (constant(integer(2)).then(linear(9), after=integer(9)), constant(2).then(linear(9), 9)),
    ]
    for numpys, pythons in pairs:
        assert numpys == pythons and repr(numpys) == repr(pythons)
        assert numpys(integer(120)) == pythons(120)
        t = np.arange(127, dtype=integer)
        assert np.array_equal(numpys(t), pythons(np.arange(127)))


def test_a_warmup_of_255_steps_given_as_uint8_does_not_overflow():
    assert warmup(np.uint8(255))(3) == warmup(255)(3) == pytest.approx(4 / 256)


def test_an_empty_array_gives_an_empty_array():
    for schedule in (cosine(5), multistep((2, 3)), warmup(2).then(step(3))):
        assert schedule(np.array([], int)).shape == (0,)


# --- As a torch scheduler ------------------------------------------------------------------------

PLAN = warmup(5).then(cosine(12)) * step(8, 0.5)
GROUP_RATES = (0.1, 0.003, 2.0)


def make_optimizer(kind, rates=GROUP_RATES):
    parameters = [torch.nn.Parameter(torch.full((2,), 1.0 + i)) for i in range(len(rates))]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)]
    if kind == "TorchOptimizer":
        return TorchOptimizer(groups, optimizers.adam, lr=1.0), parameters
    return getattr(torch.optim, kind)(groups, lr=1.0), parameters


def train_step(optimizer, parameters):
    optimizer.zero_grad()
    sum((p**4).sum() for p in parameters).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["SGD", "Adam", "TorchOptimizer"])
def test_torch_rates_equal_the_plan_in_every_group_of_a_real_loop(kind):
    optimizer, parameters = make_optimizer(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of a wrong order of calls
        scheduler = PLAN.torch(optimizer)
        for t in range(25):
            used = [group["lr"] for group in optimizer.param_groups]
            assert used == [lr * PLAN(t) for lr in GROUP_RATES]
            assert scheduler.get_last_lr() == used
            assert scheduler.state_dict() == {"step": t}
            train_step(optimizer, parameters)
            scheduler.step()


@pytest.mark.parametrize("scheduler_first", [True, False])
@pytest.mark.parametrize("kind", ["Adam", "TorchOptimizer"])
def test_a_resumed_run_continues_bit_for_bit(kind, scheduler_first):
    optimizer, parameters = make_optimizer(kind)
    scheduler = PLAN.torch(optimizer)
    for t in range(20):
        if t == 9:
            saved = copy.deepcopy(
                (scheduler.state_dict(), optimizer.state_dict(), [p.data for p in parameters])
            )
        train_step(optimizer, parameters)
        scheduler.step()

    resumed, others = make_optimizer(kind)
    for p, value in zip(others, saved[2], strict=True):
        p.data.copy_(value)
    if scheduler_first:
        scheduler = PLAN.torch(resumed)
        resumed.load_state_dict(saved[1])
    else:
        resumed.load_state_dict(saved[1])
        scheduler = PLAN.torch(resumed)
    scheduler.load_state_dict(saved[0])
    for t in range(9, 20):
        assert [g["lr"] for g in resumed.param_groups] == [lr * PLAN(t) for lr in GROUP_RATES]
        train_step(resumed, others)
        scheduler.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_last_step_resumes_like_torchs_last_epoch():
    optimizer, _ = make_optimizer("SGD")
    with pytest.raises(KeyError, match="initial_lr"):
        PLAN.torch(optimizer, last_step=8)
    PLAN.torch(optimizer)
    scheduler = PLAN.torch(optimizer, last_step=8)
    assert scheduler.state_dict() == {"step": 9}
    assert [g["lr"] for g in optimizer.param_groups] == [lr * PLAN(9) for lr in GROUP_RATES]


def test_drawing_the_schedule_does_not_move_the_scheduler():
    optimizer, _ = make_optimizer("SGD")
    scheduler = PLAN.torch(optimizer)
    PLAN(np.arange(100))
    assert scheduler.state_dict() == {"step": 0}
    assert optimizer.param_groups[0]["lr"] == 0.1 * PLAN(0)


def test_the_scheduler_refuses_what_is_no_optimizer_and_a_foreign_state():
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer, not .*list"):
        PLAN.torch([torch.zeros(1)])
    scheduler = PLAN.torch(make_optimizer("SGD")[0])
    with pytest.raises(ValueError, match=r"must hold only 'step', not \['last_epoch'\]"):
        scheduler.load_state_dict({"last_epoch": 3})


@pytest.mark.parametrize("make", [cosine, linear, polynomial, warmup, step, multistep, exponential])
def test_an_argument_that_has_no_default_must_be_given(make):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        make()


# --- Bad input -----------------------------------------------------------------------------------

COUNT = "an int >= 1"
COUNT_OR_NONE = "an int >= 1 or None"
RATE = "a finite number >= 0"
NOT_COUNTS = (0, -1, 1.0, 2.5, "3", True, np.nan)
BAD = [
    *((make, {"steps": v}, COUNT) for make in (linear, polynomial, cosine, warmup)
      for v in (*NOT_COUNTS, None)),
    *((make, {"steps": v}, COUNT_OR_NONE) for make in (constant,) for v in NOT_COUNTS),
    (exponential, {"gamma": 0.5, "steps": 0}, COUNT_OR_NONE),
    *((cosine, {"steps": 9, name: v}, RATE) for name in ("peak", "end")
      for v in (-0.1, np.nan, np.inf, "1", True, np.array([1.0]))),
    *((make, {"peak": -1}, RATE) for make in (constant,)),
    *((step, {"every": v}, COUNT) for v in (*NOT_COUNTS, None)),
    *((step, {"every": 3, "gamma": v}, "in (0, 1]") for v in (0, -0.5, 1.1, np.nan, None)),
    *((exponential, {"gamma": v}, "in (0, 1]") for v in (0.0, 2, np.inf)),
    *((multistep, {"milestones": v}, "increasing ints >= 1")
      for v in ((), (5, 5), (5, 3), (0, 3), (1.5,), 7, None, "ab")),
    *((inverse_time, {"decay": v}, RATE) for v in (-1, np.nan, None)),
    *((polynomial, {"steps": 9, "power": v}, "a number > 0") for v in (0, -1, np.nan, np.inf)),
    *((warmup, {"steps": 9, name: v}, "a finite number >= 0 or None")
      for name in ("peak", "start") for v in (-0.1, np.inf, True)),
]  # fmt: skip


@pytest.mark.parametrize(
    "make, arguments, words", BAD, ids=lambda v: getattr(v, "__name__", repr(v))
)
def test_a_bad_value_is_refused_with_its_name_its_value_and_the_range(make, arguments, words):
    name, value = list(arguments.items())[-1]
    message = f"{name}={value!r} is not allowed: {name} must be {words}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**arguments)


@pytest.mark.parametrize(
    "t", [1.0, 0.5, "3", None, True, [1.0, 2.0], np.array([], float)], ids=repr
)
def test_a_step_that_is_no_int_is_a_type_error(t):
    with pytest.raises(TypeError, match="t must be an int or an array of ints, not "):
        cosine(5)(t)


@pytest.mark.parametrize("t", [-1, np.array([0, 1, -2]), [-3]], ids=repr)
def test_a_negative_step_is_a_value_error(t):
    with pytest.raises(ValueError, match="is not allowed: t counts updates from 0"):
        cosine(5)(t)


def test_then_needs_a_schedule_and_an_end():
    with pytest.raises(ValueError, match=r"other=0\.1 is not allowed: other must be a schedule"):
        warmup(5).then(0.1)
    with pytest.raises(ValueError, match=r"other=.* is not allowed: other must be a schedule"):
        warmup(5).then(cosine)
    with pytest.raises(ValueError, match=r"after=None .* this schedule has no end of its own"):
        constant().then(cosine(5))
    for after in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"after={after} is not allowed"):
            cosine(5).then(constant(), after=after)


@pytest.mark.parametrize("other", ["2", None, np.nan, np.inf, True, [1, 2]], ids=repr)
def test_a_product_with_something_else_is_refused(other):
    with pytest.raises(TypeError):
        cosine(5) * other


def test_a_product_with_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="must be a finite number >= 0"):
        cosine(5) * -1.0
