"""Tests of lrteach.schedules: values, pure functions, bad arguments, as torch schedulers."""

import copy
import dataclasses
import inspect
import math
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import GROUP_RATES, assert_refused, make_optimizer, train_step

from lrteach import schedules
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
        (phases((2, 1, 3), (5, 7, 1)), {0: 5, 1: 5, 2: 7, 3: 1, 5: 1, 6: 1, 99: 1}),
        (phases([4], [0.5]), {0: 0.5, 4: 0.5, 5: 0.5}),
        (inverse_sqrt(1, peak=6), {0: 6, 3: 3, 8: 2}),
        (inverse_sqrt(4, peak=6, steps=12), {0: 6, 12: 3, 13: 3}),
        (rex(4, peak=6), {0: 6, 2: 4, 3: 2.4, 4: 0, 5: 0}),
        (rex(4, peak=7, end=1), {0: 7, 2: 5, 4: 1, 5: 1}),
        (warm_restarts(8, 2, peak=2), {0: 2, 2: 1, 4: 2, 6: 1, 8: 0, 9: 0}),
        (warm_restarts(12, 2, 2, 4, 1, 0.5), {0: 4, 2: 2.5, 4: 2, 8: 1.5, 12: 1, 13: 1}),
        (cyclical(4, peak=8), {0: 0, 1: 2, 4: 8, 5: 6, 8: 0, 9: 2, 12: 8}),
        (cyclical(4, 2, 1, 9), {0: 1, 2: 5, 4: 9, 5: 5, 6: 1, 10: 9}),
        (cyclical(2, low=1, peak=9, mode="triangular2"), {2: 9, 4: 1, 6: 5, 8: 1, 10: 3}),
        (cyclical(2, peak=8, mode="exp_range", gamma=0.5), {0: 0, 1: 2, 2: 2, 3: 0.5, 6: 0.125}),
        (cyclical(4, peak=8, steps=4), {4: 8, 5: 8, 9: 8}),
        (one_cycle(10, 25, 0.4), {0: 1, 2: 13, 4: 25, 7: (25 + 1e-4) / 2, 10: 1e-4, 11: 1e-4}),
        (one_cycle(10, 8, 0.5, 0, 2), {0: 0, 5: 8, 10: 2, 11: 2}),
        (one_cycle(10, 9, 0.3, 3, 1, 3), {0: 3, 3: 9, 6: 3, 8: 2, 10: 1, 11: 1}),
        (one_cycle(10, 9, 0.3, 3, 1, 3, "linear"), {0: 3, 1: 5, 3: 9, 4: 7, 6: 3, 7: 2.5, 10: 1}),
        (wsd(10, 4), {0: 1, 6: 1, 7: 0.75, 9: 0.25, 10: 0, 11: 0}),
        (wsd(10, 4, 3, 8, 4), {0: 2, 1: 4, 2: 6, 3: 8, 6: 8, 8: 6, 10: 4, 11: 4}),
        (wsd(10, 4, shape="sqrt"), {6: 1, 7: 0.5, 10: 0}),
        (wsd(10, 4, shape="cosine"), {6: 1, 8: 0.5, 10: 0}),
        (noam(4, width=1), {0: 0.125, 1: 0.25, 3: 0.5, 8: 1 / 3, 15: 0.25}),
        (noam(4, peak=1), {0: 0.25, 3: 1, 15: 0.5}),
        (noam(4000), {0: 512**-0.5 * 4000**-1.5, 3999: (512 * 4000) ** -0.5}),
        (noam(4, peak=1, steps=15), {15: 0.5, 16: 0.5}),
        (chebyshev(1, 1, 3), {0: 0.5, 1: 0.5}),
        (chebyshev(8, 2, 2), {0: 0.5, 5: 0.5}),
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


def test_wsd_is_a_warmup_a_constant_and_a_decay():
    t = np.arange(70)
    for shape, decay in (("linear", linear), ("cosine", cosine)):
        parts = warmup(7).then(constant(0.3, steps=33)).then(decay(20, 0.3, 0.02))
        whole = wsd(60, 20, 7, 0.3, 0.02, shape)
        assert whole.steps == parts.steps == 60
        np.testing.assert_allclose(whole(t), parts(t), rtol=1e-14)
    root = wsd(60, 20, 7, 0.3, 0.02, "sqrt")(t)
    assert np.array_equal(root[:41], wsd(60, 20, 7, 0.3, 0.02)(t[:41]))
    np.testing.assert_allclose(
        root[40:61], 0.02 + 0.28 * (1 - (np.arange(21) / 20) ** 0.5), rtol=1e-13
    )


def test_a_longer_wsd_is_the_same_until_the_cooldown_of_the_shorter():
    t = np.arange(80)
    assert np.array_equal(wsd(100, 20, 5)(t), wsd(300, 20, 5)(t))


@pytest.mark.parametrize("w", [2, 7, 4000])
def test_noam_is_a_warmup_and_an_inverse_square_root(w):
    t = np.arange(3 * w)
    np.testing.assert_allclose(
        noam(w, peak=1)(t), warmup(w - 1).then(inverse_sqrt(w))(t), rtol=1e-14
    )
    np.testing.assert_allclose(noam(w, width=64)(t), noam(w, peak=(64 * w) ** -0.5)(t), rtol=1e-14)
    assert np.argmax(noam(w)(t)) == w - 1


def test_warm_restarts_that_do_not_grow_are_one_cosine_again_and_again():
    t = np.arange(1, 40)
    ours = warm_restarts(40, 4, peak=0.3, end=0.1)
    assert np.array_equal(ours.lengths, [10] * 4) and np.array_equal(ours.tops, [0.3] * 4)
    np.testing.assert_allclose(ours(t), cosine(10, 0.3, 0.1)(t % 10), rtol=1e-13)
    np.testing.assert_allclose(warm_restarts(40, 1)(t), cosine(40)(t), rtol=1e-13)


@pytest.mark.parametrize("growth", [1.1, 1.5, 2, 3, math.e])
@pytest.mark.parametrize("cycles", [2, 5])
def test_cycles_grow_and_fill_the_run(growth, cycles):
    ours = warm_restarts(1000, cycles, growth, gamma=0.8)
    lengths, t = ours.lengths, np.arange(1001)
    np.testing.assert_allclose(lengths[1:] / lengths[:-1], growth)
    assert lengths.sum() == pytest.approx(1000, rel=1e-14)
    rises = np.flatnonzero(np.diff(ours(t)) > 0) + 1
    assert rises.tolist() == np.ceil(np.cumsum(lengths)[:-1] - 1e-9).tolist()
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for start, end, top in zip(starts, starts[1:], 0.8 ** np.arange(cycles), strict=False):
        inside = t[(t >= start - 1e-9) & (t < end - 1e-9)]
        want = top * (1 + np.cos(np.pi * (inside - start) / (end - start))) / 2
        np.testing.assert_allclose(ours(inside), want, rtol=1e-9, atol=1e-12)
    assert ours(1000) == 0


def test_a_start_that_rounding_moves_counts_at_its_own_update():
    for steps, cycles, growth, start in ((21, 9, 1, 14), (351, 4, 1.5, 108), (275, 10, 1.5, 32)):
        ours = warm_restarts(steps, cycles, growth)
        assert np.isclose(np.cumsum(ours.lengths), start, rtol=1e-14, atol=0).any()
        assert start not in np.cumsum(ours.lengths)
        assert ours(start) == 1 > ours(start - 1)


@pytest.mark.parametrize("cycles", [3, 7, 9, 100, 1000])
def test_cycles_of_whole_updates_start_at_their_top(cycles):
    for growth, steps in ((1, 7 * cycles), (2, 5 * (2**cycles - 1)), (3, 3**cycles - 1)):
        if steps < 1e7:
            ours = warm_restarts(steps, cycles, growth)
            starts = np.round(np.cumsum(ours.lengths)[:-1]).astype(int)
            np.testing.assert_allclose(ours(starts), 1, rtol=1e-12)
            assert np.all(ours(starts - 1) < ours(starts))


def test_one_cycle_has_its_peak_and_its_joints_where_they_are_said_to_be():
    t = np.arange(101)
    for shape in ("cosine", "linear"):
        two, three = one_cycle(100, shape=shape)(t), one_cycle(100, phases=3, shape=shape)(t)
        assert two[30] == three[30] == 1
        assert two[0] == three[0] == three[60] == 0.04
        assert two[100] == three[100] == 4e-6
        for rates in (two, three):
            assert np.all(np.diff(rates[:31]) > 0) and np.all(np.diff(rates[30:]) < 0)


# --- chebyshev -------------------------------------------------------------------------------------


ORDERS = ("stable", "falling", "rising")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("T", [1, 2, 8, 32])
@pytest.mark.parametrize("kappa", [1.5, 10, 400])
def test_chebyshevs_rates_shrink_all_curvatures_by_the_factor_of_the_theory(order, T, kappa):
    mu, L = 0.3, 0.3 * kappa
    rates = chebyshev(T, mu, L, order)(np.arange(T))
    curvatures = np.linspace(mu, L, 20_001)
    left = np.prod(1 - np.multiply.outer(rates, curvatures), axis=0)
    c = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    assert np.abs(left).max() == pytest.approx(2 * c**T / (1 + c ** (2 * T)), rel=1e-6)
    # No polynomial of this degree does better, because the largest value has T + 1 signs in turn.
    extremes = left[np.abs(left) > 0.99 * np.abs(left).max()]
    assert np.count_nonzero(np.diff(np.sign(extremes))) == T


@pytest.mark.parametrize("T", [1, 2, 8, 64])
def test_chebyshevs_orders_are_one_set_of_rates(T):
    stable, falling, rising = (chebyshev(T, 0.1, 10, order)(np.arange(T)) for order in ORDERS)
    assert np.all(np.diff(falling) < 0) and np.all(np.diff(rising) > 0)
    assert np.array_equal(falling[::-1], rising)
    assert np.array_equal(np.sort(stable), rising)
    assert rising[0] > 1 / 10 and rising[-1] < 1 / 0.1


def test_the_stable_order_is_that_of_lebedev_and_finogenov():
    rising = chebyshev(8, 0.1, 10, "rising")(np.arange(8)).tolist()
    order = [rising.index(rate) for rate in chebyshev(8, 0.1, 10)(np.arange(8))]
    assert [2 * k + 1 for k in order] == [1, 15, 7, 9, 3, 13, 5, 11]


def test_only_the_stable_order_keeps_every_part_of_the_product_bounded():
    curvatures = np.linspace(0.01, 10, 2001)
    largest = {}
    for order in ORDERS:
        rates = chebyshev(64, 0.01, 10, order)(np.arange(64))
        factors = 1 - np.multiply.outer(rates, curvatures)
        befores = np.abs(np.cumprod(factors, axis=0)).max()
        afters = np.abs(np.cumprod(factors[::-1], axis=0)).max()
        largest[order] = befores, afters
    assert max(largest["stable"]) < 1e3
    assert largest["falling"][0] > 1e20
    assert largest["rising"][1] > 1e20


# --- log_uniform -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1.5, 10.0, 1000.0])
@pytest.mark.parametrize("mean", [1.0, 0.3])
def test_log_uniform_has_its_mean_its_width_and_its_distribution(width, mean):
    n = 100_000
    rates = log_uniform(n, width, seed=1, mean=mean)(np.arange(n))
    assert rates.mean() == pytest.approx(mean, abs=5 * rates.std() / n**0.5)
    assert rates.max() / rates.min() == pytest.approx(width, rel=0.01)
    assert rates.max() / rates.min() <= width
    logs = np.sort(np.log(rates))
    uniform = np.linspace(logs[0], logs[-1], n)
    assert np.abs(logs - uniform).max() < 0.01 * np.log(width)


def test_log_uniform_draws_by_its_seed_and_alone():
    t = np.arange(10_000)
    first = log_uniform(10_000, seed=3)(t)
    assert np.array_equal(first, log_uniform(10_000, seed=3)(t))
    assert np.array_equal(first, log_uniform(20_000, seed=3)(t))  # longer, and the same start
    other = log_uniform(10_000, seed=4)(t)
    for a, b in ((first, other), (first[1:], first[:-1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_the_bases_have_no_formula_of_their_own():
    with pytest.raises(NotImplementedError):
        Schedule()(0)
    for ask in (lambda: Feedback().start(), lambda: Feedback().next(None, 1.0)):
        with pytest.raises(NotImplementedError):
            ask()


def test_draws_are_kept_by_nobody_who_could_change_them():
    schedule = log_uniform(10)
    before = schedule(np.arange(10))
    schedule(np.arange(10))[:] = 0
    chebyshev(8, 1, 9)(np.arange(8))[:] = 0
    warm_restarts(9, 3)(np.arange(8))[:] = 0
    assert np.array_equal(schedule(np.arange(10)), before)
    with pytest.raises(ValueError, match="read-only"):
        warm_restarts(9, 3).lengths[0] = 5


# --- then ------------------------------------------------------------------------------------------


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
     inverse_sqrt(3), rex(T), rex(T, end=0.2), wsd(T, 7), wsd(T, T, shape="sqrt"),
     chebyshev(T, 1, 9, "falling"),
     polynomial(T, power=0.5, end=0.1), cosine(T), cosine(T, end=0.3), cosine(10_000),
     linear(T) * cosine(T)],
    ids=repr,
)  # fmt: skip
def test_decays_never_rise(schedule):
    rates = schedule(np.arange(2 * (schedule.steps or T)))
    assert np.all(np.diff(rates) <= 0)
    assert rates[-1] < rates[0]


@pytest.mark.parametrize(
    "schedule", [warmup(T), warmup(T, peak=3, start=0.5), linear(T, 0.1, 1), cyclical(T, steps=T)]
)
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
each_kind = pytest.mark.parametrize(
    "strategy",
    [*STRATEGIES.values(), any_schedule],
    ids=[*(make.__name__ for make in STRATEGIES), "composed"],
)
few_of_each = settings(max_examples=25, deadline=None, derandomize=True)


def test_every_schedule_of_the_module_is_in_the_strategy():
    public = {getattr(schedules, name) for name in schedules.__all__}
    assert public == {*STRATEGIES, Schedule, Feedback, Online, plateau, restart_below}


@each_kind
@few_of_each
@given(data=st.data(), start=st.integers(0, 70), length=st.integers(1, 70))
def test_an_int_gives_bit_for_bit_what_an_array_gives(strategy, data, start, length):
    schedule = data.draw(strategy)
    t = np.arange(start, start + length)
    drawn = schedule(t)
    assert drawn.dtype == np.float64 and drawn.shape == t.shape
    one_by_one = [schedule(int(i)) for i in t]
    assert all(type(rate) is float for rate in one_by_one)
    assert np.array_equal(drawn, one_by_one)
    assert np.array_equal(schedule(t[::-1])[::-1], drawn)
    assert np.array_equal(schedule(np.stack([t, t])), np.stack([drawn, drawn]))


@each_kind
@few_of_each
@given(data=st.data())
def test_calling_changes_nothing_and_repeats_itself(strategy, data):
    schedule = data.draw(strategy)
    before, t = repr(schedule), np.arange(130)
    first = schedule(t)
    assert np.array_equal(t, np.arange(130))
    schedule(7)
    assert np.array_equal(schedule(t), first)
    assert repr(schedule) == before


@each_kind
@few_of_each
@given(data=st.data())
def test_rates_are_finite_and_not_negative(strategy, data):
    schedule = data.draw(strategy)
    drawn = schedule(np.arange(300))
    assert np.all(np.isfinite(drawn))
    assert drawn.min() >= 0


@each_kind
@few_of_each
@given(data=st.data(), beyond=st.integers(1, 10**12))
def test_past_its_end_it_holds_its_last_value(strategy, data, beyond):
    schedule = data.draw(strategy)
    if schedule.steps is not None:
        assert schedule(schedule.steps + beyond) == schedule(schedule.steps)


@each_kind
@few_of_each
@given(data=st.data())
def test_it_pickles_copies_and_hashes_as_a_value(strategy, data):
    schedule = data.draw(strategy)
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert np.array_equal(twin(np.arange(99)), schedule(np.arange(99)))


@each_kind
@few_of_each
@given(data=st.data())
def test_it_is_frozen(strategy, data):
    schedule = data.draw(strategy)
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
        (phases(np.array([100, 3], integer), np.array([1, 2], integer)), phases((100, 3), (1, 2))),
        (wsd(integer(120), integer(9), integer(100)), wsd(120, 9, 100)),
        (one_cycle(integer(127), phases=integer(3)), one_cycle(127, phases=3)),
        (warm_restarts(integer(127), integer(3), integer(2)), warm_restarts(127, 3, 2)),
        (cyclical(integer(100), integer(100)), cyclical(100, 100)),
        (noam(integer(100), width=integer(64)), noam(100, width=64)),
        (chebyshev(integer(64), integer(1), integer(100)), chebyshev(64, 1, 100)),
        (log_uniform(integer(120), seed=integer(9)), log_uniform(120, seed=9)),
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


LONG = 2**20
# a schedule of LONG updates, and the same one that is short
SIZES = {
    constant: lambda T: constant(steps=T),
    step: lambda T: step(T // 9, steps=T),
    multistep: lambda T: multistep((T // 3, T // 2), steps=T),
    phases: lambda T: phases((T // 2, T // 2), (1, 2)),
    exponential: lambda T: exponential(0.99, steps=T),
    inverse_time: lambda T: inverse_time(0.01, steps=T),
    inverse_sqrt: lambda T: inverse_sqrt(T, steps=T),
    linear: linear,
    polynomial: polynomial,
    rex: rex,
    cosine: cosine,
    warm_restarts: lambda T: warm_restarts(T, T // 8),
    cyclical: lambda T: cyclical(T // 8, steps=T),
    one_cycle: one_cycle,
    warmup: warmup,
    wsd: lambda T: wsd(T, T // 4, T // 4),
    noam: lambda T: noam(T // 9, steps=T),
    chebyshev: lambda T: chebyshev(T, 1, 9),
    log_uniform: log_uniform,
}


@pytest.mark.parametrize(
    "make", sorted({*SIZES} - {phases, noam, chebyshev, log_uniform}, key=lambda c: c.__name__)
)
def test_with_the_default_peak_a_schedule_is_a_factor_whose_highest_value_is_1(make):
    assert SIZES[make](100)(np.arange(101)).max() == pytest.approx(1, rel=1e-14)


def test_the_default_rates_of_log_uniform_are_around_1_and_10_wide():
    rates = log_uniform(100_000)(np.arange(100_000))
    assert rates.mean() == pytest.approx(1, abs=5 * rates.std() / 100_000**0.5)
    assert 9.9 < rates.max() / rates.min() <= 10


def test_as_many_restarts_as_updates_are_a_constant_rate():
    assert warm_restarts(5, 5, peak=0.3)(np.arange(5)).tolist() == [0.3] * 5


def test_log_uniform_draws_with_seed_0_unless_told_otherwise():
    assert log_uniform(9) == log_uniform(9, width=10.0, seed=0, mean=1.0)


def test_cycles_that_overflow_are_refused_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="cycles=900 is not allowed"):
            warm_restarts(999, 900, 10.0)


@pytest.mark.parametrize("ours, theirs", [(step(5), "StepLR"), (multistep((3,)), "MultiStepLR")])
def test_step_decays_cut_by_the_factor_of_torch_unless_told_otherwise(ours, theirs):
    theirs = inspect.signature(getattr(torch.optim.lr_scheduler, theirs))
    assert ours.gamma == theirs.parameters["gamma"].default


@pytest.mark.parametrize("make", STRATEGIES, ids=lambda c: c.__name__)
def test_drawing_makes_no_warning(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SIZES[make](64)(np.arange(70))


def memory_of_a_call(schedule):
    """The most bytes that are in use during a call, above those before it."""
    tracemalloc.start()
    schedule(3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("make", STRATEGIES, ids=lambda c: c.__name__)
def test_a_call_touches_no_more_the_longer_the_schedule_is(make):
    long = SIZES[make](LONG)
    long(0)  # what is remembered is computed now
    assert memory_of_a_call(long) < LONG // 100  # an array over all updates has 8 * LONG bytes


def test_the_measure_of_a_call_sees_an_array_over_all_updates():
    class Slow(Schedule):
        def value(self, t):
            return np.arange(LONG)[t.astype(int)]

    assert memory_of_a_call(Slow()) > 7 * LONG


# --- As a torch scheduler ------------------------------------------------------------------------

PLAN = warmup(5).then(cosine(12)) * step(8, 0.5)


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


@pytest.mark.parametrize("kind", ["SGD", "TorchOptimizer"])
@pytest.mark.parametrize(
    "schedule",
    [PLAN, one_cycle(20), wsd(20, 5, 3, end=0.1), cosine(20, end=0.1), log_uniform(20),
     phases((5, 9), (1, 0.1)), cyclical(3, low=0.2)],
    ids=repr,
)  # fmt: skip
def test_a_schedule_keeps_the_ratios_of_discriminative_rates(kind, schedule):
    optimizer, parameters = make_optimizer(kind)
    scheduler = schedule.torch(optimizer)
    apart = [make_optimizer(kind, (lr,)) for lr in GROUP_RATES]  # each group in its own optimizer
    for (_, (own,)), p in zip(apart, parameters, strict=True):
        own.data.copy_(p.data)
    apart = [(o, own, schedule.torch(o)) for o, own in apart]
    for t in range(25):
        rates = np.array([group["lr"] for group in optimizer.param_groups])
        np.testing.assert_allclose(rates, np.array(GROUP_RATES) * schedule(t), rtol=1e-15)
        train_step(optimizer, parameters)
        scheduler.step()
        for other, own, follow in apart:
            train_step(other, own)
            follow.step()
    for (_, (own,), _), p in zip(apart, parameters, strict=True):
        assert torch.isfinite(p).all() and torch.equal(own, p)


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


@pytest.mark.parametrize("make", sorted(set(STRATEGIES) - {constant}, key=lambda c: c.__name__))
def test_an_argument_that_has_no_default_must_be_given(make):
    with pytest.raises(TypeError, match=r"missing [123] required positional argument"):
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
    (warmup, {"steps": 9, "peak": 0.1, "start": 0.2}, "at most peak, which is 0.1"),
    *((phases, {"rates": (1, 2), "lengths": v}, "a sequence of one or more ints >= 1")
      for v in ((), (0, 3), (-1, 3), (1.5, 2), 7, None, "ab", ((1, 2), (3, 4)))),
    *((phases, {"lengths": (3, 2), "rates": v}, "a sequence of one or more finite numbers >= 0")
      for v in ((), (-1, 3), (1, np.inf), (np.nan, 1), 0.1, None, "ab")),
    *((phases, {"lengths": (3, 2), "rates": v}, "as many as lengths, which are 2")
      for v in ((1,), (1, 2, 3))),
    *((inverse_sqrt, {"timescale": v}, "a number > 0") for v in (0, -1, np.nan, np.inf, None)),
    *((make, {"steps": 9, **more, "end": 1.5}, "at most peak, which is 1.0")
      for make, more in ((rex, {}), (one_cycle, {}), (wsd, {"cooldown": 3}))),
    *((make, {**more, "steps": v}, COUNT)
      for make, more in ((rex, {}), (one_cycle, {}), (log_uniform, {}), (wsd, {"cooldown": 1}),
                         (warm_restarts, {"cycles": 1}), (chebyshev, {"mu": 1, "L": 2}))
      for v in NOT_COUNTS),
    *((warm_restarts, {"steps": 9, "cycles": v}, COUNT) for v in NOT_COUNTS),
    *((warm_restarts, {"steps": 9, "cycles": 3, "growth": v}, "a finite number >= 1")
      for v in (0.9, 0, -2, np.nan, np.inf, None)),
    (warm_restarts, {"steps": 9, "growth": 1.0, "cycles": 10},
     "so few that the first of them lasts at least 1 of 9 steps, with growth=1.0"),
    (warm_restarts, {"steps": 14, "growth": 2, "cycles": 4},
     "so few that the first of them lasts at least 1 of 14 steps, with growth=2"),
    (warm_restarts, {"steps": 999, "growth": 10.0, "cycles": 900},
     "so few that the first of them lasts at least 1 of 999 steps, with growth=10.0"),
    (warm_restarts, {"steps": 9, "cycles": 1, "end": 1.5},
     "at most the top of the last cycle, which is 1.0"),
    (warm_restarts, {"steps": 9, "cycles": 3, "gamma": 0.5, "end": 0.3},
     "at most the top of the last cycle, which is 0.25"),
    *((warm_restarts, {"steps": 9, "cycles": 3, "gamma": v}, "in (0, 1]") for v in (0, 1.1, -1)),
    *((cyclical, {"up": v}, COUNT) for v in (*NOT_COUNTS, None)),
    *((cyclical, {"up": 3, "down": v}, COUNT_OR_NONE) for v in NOT_COUNTS),
    *((cyclical, {"up": 3, "low": v}, RATE) for v in (-0.1, np.nan)),
    (cyclical, {"up": 3, "low": 1.5}, "at most peak, which is 1.0"),
    *((cyclical, {"up": 3, "mode": v}, "'triangular', 'triangular2' or 'exp_range'")
      for v in ("sine", None, 2, ["triangular"])),
    (cyclical, {"up": 3, "gamma": 0.5},
     "1 with mode='triangular': only 'exp_range' uses it"),
    *((one_cycle, {"steps": 9, "rise": v}, "between 0 and 1, without both")
      for v in (0, 1, -0.1, 1.5, np.nan, None)),
    *((one_cycle, {"steps": 9, "phases": 3, "rise": v}, "between 0 and 0.5, without both")
      for v in (0.5, 0.7)),
    *((one_cycle, {"steps": 9, "phases": v}, "2 or 3") for v in (1, 4, 2.0, True, "2", None)),
    *((make, {"steps": 9, **more, "shape": v}, words)
      for make, more, words in ((one_cycle, {}, "'cosine' or 'linear'"),
                                (wsd, {"cooldown": 3}, "'linear', 'sqrt' or 'cosine'"))
      for v in ("cos", None, 1)),
    *((one_cycle, {"steps": 9, "peak": 0.1, name: 0.2}, "at most peak, which is 0.1")
      for name in ("start", "end")),
    *((wsd, {"steps": 9, "cooldown": 3, "warmup": v}, "an int >= 0") for v in (-1, 1.5, True, None)),
    *((wsd, {"steps": 9, "cooldown": 3, "warmup": v}, "shorter than the run, which has 9 steps")
      for v in (9, 10)),
    *((wsd, {"steps": 9, "warmup": 4, "cooldown": v}, "an int from 1 to steps - warmup = 5")
      for v in (6, 10, *NOT_COUNTS, None)),
    *((noam, {"warmup": v}, COUNT) for v in (*NOT_COUNTS, None)),
    *((noam, {"warmup": 3, "width": v}, COUNT) for v in (*NOT_COUNTS, None)),
    *((chebyshev, {"steps": 8, "L": 9, "mu": v}, "a finite number > 0")
      for v in (0, -1, np.nan, np.inf, None)),
    *((chebyshev, {"steps": 8, "mu": 9, "L": v}, "a finite number > 0") for v in (0, -1, np.inf)),
    (chebyshev, {"steps": 8, "L": 1, "mu": 2}, "at most L, which is 1"),
    *((chebyshev, {"steps": 8, "mu": 1, "L": 2, "order": v}, "'stable', 'falling' or 'rising'")
      for v in ("random", None)),
    *((chebyshev, {"mu": 1, "L": 2, "steps": v}, "a power of 2 with order='stable'")
      for v in (3, 6, 1000)),
    *((log_uniform, {"steps": 9, "width": v}, "a finite number > 1")
      for v in (1, 0.5, 0, -1, np.nan, np.inf, None)),
    *((log_uniform, {"steps": 9, "seed": v}, "an int >= 0") for v in (-1, 0.5, None, True)),
    *((log_uniform, {"steps": 9, "mean": v}, RATE) for v in (-1, np.nan, None)),
]  # fmt: skip


@pytest.mark.parametrize(
    "make, arguments, words", BAD, ids=lambda v: getattr(v, "__name__", repr(v))
)
def test_a_bad_value_is_refused_with_its_name_its_value_and_the_range(make, arguments, words):
    assert_refused(make, arguments, words)


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


def test_a_warmup_that_would_fall_to_what_follows_is_refused():
    with pytest.raises(ValueError, match=r"start=0\.5 is not allowed: start must be at most peak"):
        warmup(5, start=0.5).then(constant(0.1))


def test_a_product_with_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="must be a finite number >= 0"):
        cosine(5) * -1.0
