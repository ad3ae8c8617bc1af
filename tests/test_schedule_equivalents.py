"""Tests of what the docstrings of lrteach.schedules call the same in other libraries.

Each call in a field list, such as `StepLR(optimizer, every, gamma)`, is run as it stands there and
compared at every step; each difference that a field mentions has a test below. The libraries are
loaded by this file only, because that takes seconds.
"""

import ast
import inspect
import os
import re
import warnings
from itertools import accumulate
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from other_libraries import double_precision
from torch.optim import lr_scheduler

from lrteach import schedules
from lrteach.schedules import (
    constant,
    cosine,
    cyclical,
    exponential,
    inverse_sqrt,
    inverse_time,
    linear,
    multistep,
    noam,
    one_cycle,
    phases,
    plateau,
    polynomial,
    rex,
    step,
    warm_restarts,
    warmup,
    wsd,
)

# --- The field lists ------------------------------------------------------------------------------

LIBRARIES = ("torch", "optax", "keras", "transformers")
FIELDS = ("when", *LIBRARIES, "source")
BASES = ("Schedule", "Feedback", "Online")
CLASSES = [getattr(schedules, name) for name in schedules.__all__ if name not in BASES]


def fields_of(cls):
    """The field list at the end of a docstring: {name: text}."""
    lines = inspect.getdoc(cls).splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(":")), len(lines))
    found = {}
    for line in lines[start:]:
        if match := re.fullmatch(r":(\w+): (.+)", line):
            name = match[1]
            assert name not in found, f"{cls.__name__} has the field {name} twice"
            found[name] = match[2]
        else:
            assert re.match(r" {4}\S", line), (
                f"{cls.__name__}: no field and no continuation: {line}"
            )
            found[name] += " " + line.strip()
    return found


def calls_of(cls, library):
    """The calls of that library which a field names: [(function, code)]."""
    codes = re.findall(r"`([\w.]+\([^`]*\))`", fields_of(cls).get(library, ""))
    calls = [(ast.unparse(ast.parse(code, mode="eval").body.func), code) for code in codes]
    return [(function, code) for function, code in calls if function not in schedules.__all__]


EQUIVALENTS = {
    (cls, library, function): code
    for cls in CLASSES
    for library in LIBRARIES
    for function, code in calls_of(cls, library)
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_docstring_ends_with_its_fields_in_order(cls):
    found = fields_of(cls)
    assert found.get("when"), "say in :when: when to use it"
    assert list(found) == [name for name in FIELDS if name in found]
    assert all(text.count("`") % 2 == 0 for text in found.values())


def test_a_field_names_a_call_or_is_left_out():
    without = {
        (cls.__name__, library)
        for cls in CLASSES
        for library in LIBRARIES
        if library in fields_of(cls) and not calls_of(cls, library)
    }
    assert without == {("constant", "keras")}  # "a number"


# --- Running them ---------------------------------------------------------------------------------


def library(name):
    """The names that a library's calls may use."""
    if name == "torch":
        return vars(lr_scheduler)
    if name == "optax":
        contrib = pytest.importorskip("optax.contrib")
        from optax import schedules as theirs

        return {**vars(theirs), "contrib": contrib}
    if name == "keras":
        os.environ.setdefault("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras")
        callback = keras.callbacks.ReduceLROnPlateau
        return {**vars(keras.optimizers.schedules), "ReduceLROnPlateau": callback}
    os.environ["HF_HUB_OFFLINE"] = "1"
    return vars(pytest.importorskip("transformers.optimization"))


def sgd(lr, **more):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, **more)


def run_scheduler(make, steps, lr=1.0, read="lr", **more):
    """What a torch scheduler really sets: at steps 0, 1, ... of a loop."""
    optimizer = sgd(lr, **more)
    scheduler = make(optimizer)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SequentialLR calls step(0) itself
        for t in range(steps):
            values.append(optimizer.param_groups[0][read])
            if t + 1 < steps:  # OneCycleLR refuses to go on
                optimizer.step()
                scheduler.step()
    return np.array(values)


def run(name, code, names, steps, lr=1.0):
    """The rates of steps 0, 1, ... that a library makes of a call."""
    names = {"accumulate": accumulate, "inf": inf, **library(name), **names}
    if name in ("torch", "transformers"):
        make = lambda optimizer: eval(code, {**names, "optimizer": optimizer})  # noqa: E731
        return run_scheduler(make, steps, lr)
    with double_precision(name):
        theirs = eval(code, names)
        return np.array([float(theirs(t)) for t in range(steps)])


def names_of(schedule):
    """A schedule's own names: its arguments and properties."""
    return {name: getattr(schedule, name) for name in dir(schedule) if not name.startswith("_")}


class Case:
    """A schedule, and what else a call needs to make the same rates in steps 0 ... until - 1."""

    def __init__(self, ours, until, base=None, lr=None, **names):
        self.ours, self.until = ours, until
        self.base = ours if base is None else base  # whose names the call uses
        self.names = names_of(self.base) | names
        peak = self.names.get("peak")  # None where it has no part in the values
        self.lr = lr if lr is not None else 1.0 if peak is None else peak


def each(until, *ours):
    return [Case(schedule, until) for schedule in ours]


POLYNOMIALS = (
    polynomial(20), polynomial(20, 1), polynomial(7, 0.5, 3.0, 0.1), polynomial(20, 3.5, 0.01, 1e-4),
)  # fmt: skip
LINES = (linear(20), linear(7, 0.3, 0.1), linear(1, 0.5), linear(50, 2.0, 1e-3))
COSINES = (cosine(20), cosine(7, 0.3, 0.1), cosine(1, 0.5), cosine(50, 2.0, 1e-3))
STEPS = (step(7), step(1, 0.5, 0.3), step(10, 0.9, 2.0), step(100))
MULTISTEPS = (
    multistep((1, 5, 19), 0.5), multistep((7,), peak=0.3), multistep((3, 4, 5, 6), 0.7, 2.0)
)  # fmt: skip
PHASES = (phases((3, 1, 6), (0.1, 0.5, 0.02)), phases((1, 20), (2.0, 1.0)))
RESTARTS = (
    warm_restarts(30, 3), warm_restarts(70, 3, 2, 0.3, 0.1), warm_restarts(40, 4, 3, end=0.5),
    warm_restarts(9, 1), warm_restarts(62, 5, 2, 0.5),
)  # fmt: skip
WSDS = (
    wsd(30, 10), wsd(40, 7, peak=0.3, end=0.03), wsd(9, 9), wsd(25, 1, peak=2.0),
)  # fmt: skip
WARM_WSDS = (wsd(30, 10, 5), wsd(40, 7, 33, 0.3, 0.03), wsd(9, 1, 1))
ONE_CYCLES = (
    one_cycle(60), one_cycle(37, 0.3, 0.25), one_cycle(50, rise=0.9), one_cycle(60, phases=3),
    one_cycle(47, 2.0, 0.45, phases=3), one_cycle(100, 0.5, 0.11, phases=3),
)  # fmt: skip
WARMUPS = (warmup(5, 1.0, 0.2), warmup(20, 0.3, 0.1), warmup(1, 2.0, 0.5), warmup(9, 0.4, 0.4))

# every call of a field list -> the schedules to compare it with
CASES = {
    (constant, "torch", "ConstantLR"): each(40, constant(), constant(0.3)),
    (constant, "optax", "constant_schedule"): each(40, constant(), constant(0.3)),
    (constant, "transformers", "get_constant_schedule"): each(40, constant(), constant(0.3)),
    (step, "torch", "StepLR"): each(120, *STEPS),
    (step, "optax", "exponential_decay"): each(120, *STEPS),
    (step, "keras", "ExponentialDecay"): each(120, *STEPS),
    (multistep, "torch", "MultiStepLR"): each(40, *MULTISTEPS),
    (multistep, "optax", "piecewise_constant_schedule"): each(40, *MULTISTEPS),
    (multistep, "keras", "PiecewiseConstantDecay"): each(40, *MULTISTEPS),
    (phases, "torch", "SequentialLR"): [Case(p, 30, lr=max(p.rates)) for p in PHASES],
    (phases, "optax", "join_schedules"): each(30, *PHASES),
    (phases, "keras", "PiecewiseConstantDecay"): each(30, *PHASES),
    **{
        (exponential, name, function): each(
            100, exponential(0.9), exponential(0.5, 0.3), exponential(1.0, 2.0)
        )
        for name, function in (
            ("torch", "ExponentialLR"), ("optax", "exponential_decay"), ("keras", "ExponentialDecay"),
        )
    },
    **{
        (inverse_time, name, function): each(
            60, inverse_time(0.1), inverse_time(3.0, 0.3), inverse_time(0.0)
        )
        for name, function in (("torch", "LambdaLR"), ("keras", "InverseTimeDecay"))
    },
    **{
        (inverse_sqrt, name, function): each(
            60, inverse_sqrt(1), inverse_sqrt(10.0, 0.3), inverse_sqrt(1000)
        )
        for name, function in (("torch", "LambdaLR"), ("transformers", "get_inverse_sqrt_schedule"))
    },
    (polynomial, "torch", "PolynomialLR"): each(
        60, polynomial(20), polynomial(7, 0.5, 0.3), polynomial(30, 1.0, 2.0)
    ),
    (polynomial, "optax", "polynomial_schedule"): each(60, *POLYNOMIALS, polynomial(9, 2.0, 0.0, 1.0)),
    (polynomial, "keras", "PolynomialDecay"): each(60, *POLYNOMIALS, polynomial(9, 2.0, 0.0, 1.0)),
    (polynomial, "transformers", "get_polynomial_decay_schedule_with_warmup"): each(
        60, *POLYNOMIALS
    ),
    (linear, "torch", "LinearLR"): each(120, *LINES, linear(9, 1.0, 0.0)),
    (linear, "optax", "linear_schedule"): each(120, *LINES, linear(9, 0.0, 1.0)),
    (linear, "keras", "PolynomialDecay"): each(120, *LINES, linear(9, 0.0, 1.0)),
    (linear, "transformers", "get_linear_schedule_with_warmup"): each(
        60, linear(20), linear(7, 0.3), linear(1, 2.0)
    ),
    (rex, "torch", "LambdaLR"): [Case(r, r.steps + 1) for r in (rex(20), rex(7, 0.3), rex(1))],
    (cosine, "torch", "CosineAnnealingLR"): [Case(c, c.steps + 1) for c in COSINES],
    (cosine, "optax", "cosine_decay_schedule"): each(120, *COSINES, cosine(9, 0.1, 0.2)),
    (cosine, "keras", "CosineDecay"): each(120, *COSINES, cosine(9, 0.1, 0.2)),
    (cosine, "transformers", "get_cosine_schedule_with_warmup"): [
        Case(c, c.steps + 1) for c in (cosine(20), cosine(7, 0.3), cosine(1))
    ],
    (cosine, "transformers", "get_cosine_with_min_lr_schedule_with_warmup"): [
        Case(c, c.steps + 1) for c in COSINES
    ],
    (warm_restarts, "torch", "CosineAnnealingWarmRestarts"): [Case(r, r.steps) for r in RESTARTS],
    (warm_restarts, "optax", "sgdr_schedule"): each(
        150, *RESTARTS, warm_restarts(70, 3, 2, gamma=0.5, end=0.1), warm_restarts(65, 3, 1.5)
    ),
    (warm_restarts, "keras", "CosineDecayRestarts"): [
        Case(r, r.steps)
        for r in (*RESTARTS, warm_restarts(70, 3, 2, gamma=0.5), warm_restarts(65, 3, 1.5))
    ],
    (
        warm_restarts, "transformers", "get_cosine_with_hard_restarts_schedule_with_warmup",
    ): each(60, warm_restarts(30, 3), warm_restarts(50, 7, peak=0.3), warm_restarts(9, 9)),
    (cyclical, "torch", "CyclicLR"): each(
        150, cyclical(10), cyclical(7, 3, 0.1, 0.5), cyclical(1, 1, peak=2.0),
        cyclical(4, 9, mode="triangular2"), cyclical(10, low=0.3, mode="triangular2"),
        cyclical(8, mode="exp_range", gamma=0.97), cyclical(3, 5, 0.2, 3.0, "exp_range", 0.9),
    ),
    (one_cycle, "torch", "OneCycleLR"): [Case(c, c.steps + 1) for c in ONE_CYCLES],
    (one_cycle, "optax", "cosine_onecycle_schedule"): each(
        45, one_cycle(30), one_cycle(40, 0.3, 0.25), one_cycle(20, rise=0.9)
    ),
    (one_cycle, "optax", "linear_onecycle_schedule"): each(
        45,
        one_cycle(30, phases=3, shape="linear"),
        one_cycle(40, 0.3, 0.25, phases=3, shape="linear"),
        one_cycle(20, 2.0, 0.4, phases=3, shape="linear"),
    ),
    (warmup, "torch", "LinearLR"): each(40, *WARMUPS),
    (warmup, "optax", "warmup_constant_schedule"): each(40, *WARMUPS, warmup(9, 0.4, 0)),
    (warmup, "optax", "warmup_cosine_decay_schedule"): [
        Case(w.then(cosine(30, w.peak)), 80, base=w, n=30) for w in WARMUPS
    ],
    (warmup, "keras", "CosineDecay"): [
        Case(w.then(cosine(30, w.peak)), 80, base=w, n=30) for w in WARMUPS
    ],
    (warmup, "transformers", "get_constant_schedule_with_warmup"): each(
        40, warmup(5, start=0), warmup(20, 0.3, 0), warmup(1, 2.0, 0)
    ),
    (warmup, "transformers", "get_cosine_with_min_lr_schedule_with_warmup_lr_rate"): [
        Case(w.then(cosine(n)), w.steps + n + 1, base=w, lr=1.0, n=n)
        for w, n in ((warmup(5), 30), (warmup(20), 7), (warmup(1), 1))
    ],
    (wsd, "torch", "SequentialLR"): each(60, *WSDS, *WARM_WSDS),
    (wsd, "optax", "join_schedules"): each(60, *WSDS, *WARM_WSDS),
    (wsd, "transformers", "get_wsd_schedule"): [
        *each(60, *WSDS, *(wsd(s.steps, s.cooldown, 0, s.peak, s.end, "cosine") for s in WSDS)),
        *(
            Case(wsd(s.steps, s.cooldown, 0, s.peak, s.end, "sqrt"), 60, shape="1-sqrt")
            for s in WSDS
        ),
    ],
    (noam, "torch", "LambdaLR"): each(
        60, noam(10), noam(1, width=64), noam(4000), noam(7, width=1)
    ),
}  # fmt: skip


# A feedback rule's calls are compared below, on streams of losses.
PLATEAU_CASES = {
    (plateau, "torch", "ReduceLROnPlateau"),
    (plateau, "optax", "contrib.reduce_on_plateau"),
    (plateau, "keras", "ReduceLROnPlateau"),
    (plateau, "transformers", "get_reduce_on_plateau_schedule"),
}


def test_every_call_of_a_field_list_is_compared_with_ours():
    assert set(EQUIVALENTS) == set(CASES) | PLATEAU_CASES


@pytest.mark.parametrize("key", CASES, ids=lambda key: "-".join([key[0].__name__, key[1], key[2]]))
def test_a_call_of_a_field_list_makes_our_rates_at_every_step(key):
    code = EQUIVALENTS[key]
    for case in CASES[key]:
        want = run(key[1], code, case.names, case.until, case.lr)
        got = case.ours(np.arange(case.until))
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-15, err_msg=repr(case.ours))


# --- What the fields say is different -------------------------------------------------------------

T = 20


def torchs(function, *arguments, steps=T, lr=1.0, **more):
    """The rates that a scheduler of torch makes."""
    return run_scheduler(
        lambda o: getattr(lr_scheduler, function)(o, *arguments, **more), steps, lr
    )


def transformers(function, *arguments, steps=T, lr=1.0, **more):
    make = library("transformers")[function]
    return run_scheduler(lambda o: make(o, *arguments, **more), steps, lr)


def optaxs(code, steps=T, **names):
    return run("optax", code, names, steps)


def keras(code, steps=T, **names):
    return run("keras", code, names, steps)


def equal(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-15)


def test_torchs_constant_returns_to_one_after_five_updates():
    assert torchs("ConstantLR", 0.5, steps=7).tolist() == [0.5] * 5 + [1.0] * 2
    assert torchs("ConstantLR", 0.5, 3, steps=5).tolist() == [0.5] * 3 + [1.0] * 2
    assert constant(0.5, steps=3)(np.arange(5)).tolist() == [0.5] * 5


def test_keras_changes_one_update_after_its_boundary():
    assert keras("PiecewiseConstantDecay([3], [1.0, 0.5])", 6).tolist() == [1, 1, 1, 1, 0.5, 0.5]
    assert multistep((3,), 0.5)(np.arange(6)).tolist() == [1, 1, 1, 0.5, 0.5, 0.5]
    assert phases((3, 3), (1, 0.5))(np.arange(6)).tolist() == [1, 1, 1, 0.5, 0.5, 0.5]


def test_torchs_polynomial_and_our_default_power_differ():
    equal(torchs("PolynomialLR", T), polynomial(T, 1)(np.arange(T)))
    assert polynomial(T)(1) != polynomial(T, 1)(1)


def test_keras_polynomial_ends_by_default_at_a_ten_thousandth():
    equal(keras("PolynomialDecay(1.0, 10)"), polynomial(10, 1, end=0.0001)(np.arange(T)))
    equal(keras("PolynomialDecay(1.0, 10)"), linear(10, end=0.0001)(np.arange(T)))


def test_transformers_polynomial_ends_by_default_at_1e_7_and_must_fall():
    name = "get_polynomial_decay_schedule_with_warmup"
    equal(transformers(name, 0, 10), polynomial(10, 1, end=1e-7)(np.arange(T)))
    with pytest.raises(ValueError, match="must be smaller than initial lr"):
        transformers(name, 0, 10, 1.5)


def test_the_lambda_for_rex_is_for_the_run_only():
    code = dict(calls_of(rex, "torch"))["LambdaLR"]
    assert run("torch", code, {"steps": 10}, 13)[-1] < 0
    assert rex(10)(12) == 0


def test_torchs_cosine_climbs_again_where_ours_stays():
    theirs, t = torchs("CosineAnnealingLR", T, steps=2 * T + 1), np.arange(2 * T + 1)
    assert np.all(cosine(T)(t[T:]) == 0)
    assert np.all(np.diff(theirs[T:]) > 0)
    assert theirs[2 * T] == pytest.approx(1.0)


def test_transformers_cosines_climb_again_where_ours_stays():
    for theirs in (
        transformers("get_cosine_schedule_with_warmup", 0, T, steps=2 * T + 1),
        transformers(
            "get_cosine_with_min_lr_schedule_with_warmup", 0, T, min_lr=0, steps=2 * T + 1
        ),
    ):
        assert np.all(np.diff(theirs[T:]) > 0)
        assert theirs[2 * T] == pytest.approx(1.0)


def test_torchs_eta_min_is_a_rate_also_in_a_group_whose_rate_is_smaller():
    def groups():
        rates = (1.0, 0.05)
        return torch.optim.SGD(
            [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates], lr=1.0
        )

    lasts = []
    for make in (
        lambda o: lr_scheduler.CosineAnnealingLR(o, T, eta_min=0.1),
        cosine(T, end=0.1).torch,
    ):
        optimizer = groups()
        scheduler = make(optimizer)
        for _ in range(T):
            optimizer.step()
            scheduler.step()
        lasts.append([group["lr"] for group in optimizer.param_groups])
    assert lasts[0] == pytest.approx([0.1, 0.1])  # the second group has risen
    assert lasts[1] == pytest.approx([0.1, 0.005])


@pytest.mark.parametrize("growth", [1, 2])
def test_torch_and_keras_start_another_cycle_where_ours_holds_its_end(growth):
    ours = warm_restarts(21, 3 if growth == 1 else 2, growth, end=0.1)
    t = np.arange(30)
    for name in ("torch", "keras"):
        ((_, code),) = calls_of(warm_restarts, name)
        theirs = run(name, code, names_of(ours), 30)
        assert ours(21) == pytest.approx(0.1) and theirs[21] == pytest.approx(1.0)
        equal(theirs[:21], ours(t[:21]))
        longer = warm_restarts(28 if growth == 1 else 49, ours.cycles + 1, growth, end=0.1)
        equal(theirs, longer(t) if growth == 2 else np.append(longer(t[:28]), longer(t[:2])))


def test_keras_shrinks_only_what_is_above_the_end():
    theirs = keras("CosineDecayRestarts(1.0, 10, 1.0, 0.5, alpha=0.2)", 11)
    assert theirs[10] == pytest.approx(0.2 + 0.5 * 0.8)
    assert warm_restarts(20, 2, end=0.2, gamma=0.5)(10) == 0.5


def test_keras_cycles_double_by_default():
    theirs = keras("CosineDecayRestarts(1.0, 10)", 30)
    equal(theirs, warm_restarts(30, 2, 2)(np.arange(30)))


@pytest.mark.parametrize("function", ["CyclicLR", "OneCycleLR"])
def test_torch_moves_the_momentum_too_against_the_rate(function):
    arguments = (0.1, 1.0, 10) if function == "CyclicLR" else (1.0, 21)
    make = lambda o: getattr(lr_scheduler, function)(o, *arguments)  # noqa: E731
    rates, momenta = (
        run_scheduler(make, 20, read=read, momentum=0.5) for read in ("lr", "momentum")
    )
    assert len(set(momenta)) > 5
    rises, falls = np.diff(rates) > 0, np.diff(momenta) < 0
    assert np.array_equal(rises, falls)
    assert np.argmax(rates) == np.argmin(momenta)


@pytest.mark.parametrize("n", [2, 3])
def test_torchs_one_cycle_of_as_many_steps_is_early(n):
    three = n == 3
    theirs = torchs("OneCycleLR", 1.0, T, pct_start=0.3, three_phase=three, cycle_momentum=False)
    ours = one_cycle(T, phases=n)(np.arange(T + 1))
    assert np.argmax(theirs) == 5 and np.argmax(ours) == 6
    assert theirs[T - 1] == pytest.approx(ours[T]) == pytest.approx(4e-6)
    if three:
        assert theirs[10] == pytest.approx(0.04)  # 2 updates before ours is there
        assert ours[12] == pytest.approx(0.04)


def test_one_cycles_start_and_end_are_torchs_and_optaxs_factors():
    ours = one_cycle(40, 0.5, start=0.1, end=0.001)(np.arange(41))
    factors = {"div_factor": 5.0, "final_div_factor": 100.0}
    pct = (0.3 * 40 + 1) / 41
    equal(
        torchs("OneCycleLR", 0.5, 41, pct_start=pct, cycle_momentum=False, steps=41, **factors),
        ours,
    )
    equal(
        optaxs("cosine_onecycle_schedule(40, 0.5, div_factor=5.0, final_div_factor=100.0)", 41),
        ours,
    )


def test_straight_parts_are_torchs_linear_strategy():
    ((_, code),) = calls_of(one_cycle, "torch")
    for c in ONE_CYCLES:
        ours = one_cycle(c.steps, c.peak, c.rise, phases=c.phases, shape="linear")
        equal(
            run("torch", code.replace('"cos"', '"linear"'), names_of(c), c.steps + 1),
            ours(np.arange(c.steps + 1)),
        )


def test_optaxs_straight_one_cycle_has_its_second_joint_at_85_percent():
    theirs = optaxs("linear_onecycle_schedule(100, 1.0)", 101)
    ours = one_cycle(100, phases=3, shape="linear")(np.arange(101))
    assert theirs[85] == pytest.approx(0.04) == pytest.approx(ours[60])
    assert theirs[60] > 0.4


def test_optax_rounds_joints_down_to_whole_updates():
    theirs = optaxs("cosine_onecycle_schedule(11, 1.0)", 12)  # 0.3 * 11 = 3.3
    assert theirs[3] == 1.0
    assert one_cycle(11)(3) < 1.0
    equal(theirs, one_cycle(11, rise=3 / 11)(np.arange(12)))


def test_torchs_warmup_starts_by_default_at_a_third_and_lasts_five_updates():
    equal(torchs("LinearLR"), warmup(5, 1.0, 1 / 3)(np.arange(T)))


def test_a_warmup_of_optax_is_part_of_the_decay_steps_and_one_of_keras_is_not():
    ours = warmup(5, 1.0, 0.2).then(cosine(10))(np.arange(T))
    equal(optaxs("warmup_cosine_decay_schedule(0.2, 1.0, 5, 15)"), ours)
    equal(keras("CosineDecay(0.2, 10, warmup_target=1.0, warmup_steps=5)"), ours)


WARM = {
    "get_constant_schedule_with_warmup": ((5,), constant()),
    "get_linear_schedule_with_warmup": ((5, 15), linear(10)),
    "get_cosine_schedule_with_warmup": ((5, 15), cosine(10)),
    "get_polynomial_decay_schedule_with_warmup": ((5, 15, 0.0, 2.0), polynomial(10)),
    "get_cosine_with_hard_restarts_schedule_with_warmup": ((5, 15, 2), warm_restarts(10, 2)),
    "get_inverse_sqrt_schedule": ((5, 7), inverse_sqrt(7)),
    "get_wsd_schedule": ((5, 4, 15), constant(steps=6).then(cosine(4))),
}


@pytest.mark.parametrize("name", WARM)
def test_transformers_warms_up_from_zero_so_that_the_first_update_does_nothing(name):
    arguments, after = WARM[name]
    theirs = transformers(name, *arguments, steps=16)
    assert theirs[0] == 0.0
    assert warmup(5).then(after)(0) == 1 / 6
    equal(theirs, warmup(5, start=0).then(after)(np.arange(16)))


def test_transformers_wsd_warms_up_from_its_end_and_comes_down_on_a_cosine():
    theirs = transformers("get_wsd_schedule", 5, 4, 15, min_lr_ratio=0.1)
    ours = warmup(5, start=0.1).then(wsd(10, 4, end=0.1, shape="cosine"))
    equal(theirs, ours(np.arange(T)))


# --- plateau --------------------------------------------------------------------------------------

finite = st.floats(0, 4) | st.sampled_from([0.5, 1.0, 1.0 - 1e-4, 2.0])
strange = st.sampled_from([nan, inf])


@st.composite
def plateaus(draw, mode):
    peak = draw(st.sampled_from([1.0, 0.3]))
    return plateau(
        factor=draw(st.sampled_from([0.1, 0.5, 0.9])),
        patience=draw(st.integers(0, 4)),
        threshold=draw(st.sampled_from([0.0, 1e-4, 0.1, 0.5])),
        threshold_mode=mode,
        cooldown=draw(st.integers(0, 3)),
        peak=peak,
        end=draw(st.sampled_from([0.0, 0.02, 0.5])) * peak,
    )


def fed_scheduler(make, losses, lr):
    """The rates of a torch scheduler that is told losses: before each, and after the last."""
    optimizer = sgd(lr)
    scheduler = make(optimizer)
    rates = [lr]
    for loss in losses:
        optimizer.step()
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def fed_torch(library_name, rule, losses):
    ((_, code),) = calls_of(plateau, library_name)
    names = {**library(library_name), **names_of(rule)}
    make = lambda optimizer: eval(code, {**names, "optimizer": optimizer})  # noqa: E731
    return fed_scheduler(make, losses, rule.peak)


def fed_optax(rule, losses, code=None):
    import jax

    if code is None:
        ((_, code),) = calls_of(plateau, "optax")
    if rule.threshold_mode == "abs":
        code = code.replace("rtol=threshold", "rtol=0, atol=threshold")
    with double_precision("optax"):
        tx = eval(code, {**library("optax"), **names_of(rule)})
        state = tx.init(jax.numpy.zeros(1))
        update = jax.jit(lambda state, loss: tx.update(jax.numpy.zeros(1), state, value=loss)[1])
        rates = [rule.peak]
        for loss in losses:
            state = update(state, loss)
            rates.append(rule.peak * float(state.scale))
    return rates


def fed_keras(rule, losses, code=None):
    if code is None:
        ((_, code),) = calls_of(plateau, "keras")
    with double_precision("keras"):
        callback = eval(code, {**library("keras"), **names_of(rule)})
        optimizer = SimpleNamespace(learning_rate=rule.peak)
        callback.set_model(SimpleNamespace(optimizer=optimizer))
        callback.on_train_begin()
        rates = [rule.peak]
        for epoch, loss in enumerate(losses):
            callback.on_epoch_end(epoch, {"val_loss": loss})
            rates.append(optimizer.learning_rate)
    return rates


streams = settings(max_examples=150, deadline=None, derandomize=True)


@streams
@given(rule=plateaus("rel"), losses=st.lists(finite | strange, max_size=60))
def test_a_relative_plateau_is_torchs_bit_for_bit(rule, losses):
    assert rule.replay(losses).tolist() == fed_torch("torch", rule, losses)


@streams
@given(
    rule=plateaus("abs"),
    losses=st.lists(finite | strange | st.floats(-2, 0) | st.just(-inf), max_size=60),
)
def test_an_absolute_plateau_is_torchs_bit_for_bit(rule, losses):
    assert rule.replay(losses).tolist() == fed_torch("torch", rule, losses)


RULES = (
    plateau(0.5, 2), plateau(0.1, 0, 0.01, cooldown=2), plateau(0.5, 3, 0.2, "abs", 1, 0.3, 0.01),
    plateau(0.9, 1, 1e-4, "rel", 4, 2.0, 0.5), plateau(0.3, 0, 0.05, "abs"),
)  # fmt: skip


def noisy_decay(seed, n=80, strange=True):
    """Losses that fall, reach a plateau and jump about; some are no numbers."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + 3 * np.exp(-np.arange(n) / 8) + rng.normal(0, 0.05, n)
    if strange:
        losses[rng.integers(1, n, 6)] = [nan, inf, nan, inf, nan, nan]
    return losses.tolist()


@pytest.mark.parametrize("rule", RULES, ids=range(len(RULES)))
def test_plateau_equals_every_librarys(rule):
    for seed in range(4):
        losses = noisy_decay(seed)
        ours = rule.replay(losses)
        assert len(set(ours)) >= 3
        np.testing.assert_allclose(fed_optax(rule, losses), ours, rtol=1e-12)
        assert fed_torch("transformers", rule, losses) == ours.tolist()
        if rule.threshold_mode == "abs":
            assert fed_keras(rule, losses) == ours.tolist()


def test_torch_leaves_out_a_cut_of_less_than_1e_8():
    make = lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0)  # noqa: E731
    theirs = fed_scheduler(make, [1.0] * 12, 1.0)
    assert min(theirs) == pytest.approx(1e-8)
    assert plateau(patience=0).replay([1.0] * 12)[-1] == pytest.approx(1e-11)


def test_the_relative_threshold_of_torch_and_optax_is_above_a_negative_best():
    rule = plateau(patience=1, threshold=0.1)
    losses = [-1.0, -0.95, -0.92, -0.88]  # each worse than the one before
    assert fed_torch("torch", rule, losses) == [1.0] * 5
    assert fed_optax(rule, losses) == [1.0] * 5
    assert rule.replay(losses).tolist() == [1.0, 1.0, 1.0, 0.1, 0.1]
    better = [-1.0, -1.05, -1.09, -1.11]  # the last one by more than a tenth
    assert rule.replay(better).tolist() == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert rule.replay([-1.0, -1.05, -1.11, -1.11]).tolist() == [1.0] * 5


def test_patience_is_one_more_in_optax_and_keras():
    rule = plateau(0.5, 2, 1e-4, "abs")
    losses = [1.0] * 4
    assert rule.replay(losses).tolist() == [1, 1, 1, 1, 0.5]
    same = {name: calls_of(plateau, name)[0][1] for name in ("optax", "keras")}
    codes = {name: code.replace("patience + 1", "patience") for name, code in same.items()}
    assert codes != same
    assert fed_optax(rule, losses, codes["optax"]) == [1, 1, 1, 0.5, 0.5]
    assert fed_keras(rule, losses, codes["keras"]) == [1, 1, 1, 0.5, 0.5]


def test_the_last_loss_of_keras_cooldown_counts():
    rule = plateau(0.5, 0, 1e-4, "abs", cooldown=1)
    ((_, same),) = calls_of(plateau, "keras")
    code = same.replace("cooldown + 1", "cooldown")
    assert code != same
    assert rule.replay([1.0] * 5).tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert fed_keras(rule, [1.0] * 5, code) == [1, 1, 0.5, 0.25, 0.125, 0.0625]


def test_a_first_loss_that_is_nan_stays_keras_best():
    rule = plateau(0.5, 1, 1e-4, "abs")
    losses = [nan, 3.0, 2.0, 1.0, 0.5]
    assert rule.replay(losses).tolist() == [1.0] * 6
    assert fed_keras(rule, losses) == [1, 1, 1, 0.5, 0.5, 0.25]


def test_optax_hears_of_means_with_an_accumulation_size():
    rule = plateau(0.5, 1)
    losses = noisy_decay(5, strange=False)
    ((_, code),) = calls_of(plateau, "optax")
    theirs = fed_optax(rule, losses, code.replace("cooldown=", "accumulation_size=4, cooldown="))
    ours = rule.replay(np.reshape(losses, (-1, 4)).mean(1))
    assert len(set(ours)) > 2
    np.testing.assert_allclose(theirs[::4], ours, rtol=1e-12)


# --- Composed schedules, against torch's ----------------------------------------------------------

# our schedule, torch's scheduler
COMPOSED = {
    "constant for a while, then another": (
        constant(0.25, steps=T).then(constant()),
        lambda o: lr_scheduler.ConstantLR(o, 0.25, T),
    ),
    "linear, upwards": (
        linear(T, peak=0.2, end=0.8), lambda o: lr_scheduler.LinearLR(o, 0.2, 0.8, T)
    ),
    "warmup from its own start": (
        warmup(T), lambda o: lr_scheduler.LambdaLR(o, lambda t: min(1, (t + 1) / (T + 1))),
    ),
    "warmup, then cosine": (
        warmup(5, start=0.2).then(cosine(2 * T)),
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, 0.2, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 2 * T)],
            [5],
        ),
    ),
    "constant, exponential, step": (
        constant(0.5).then(exponential(0.9), after=4).then(step(3), after=9),
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.ConstantLR(o, 0.5, 100),
                lr_scheduler.ExponentialLR(o, 0.9),
                lr_scheduler.StepLR(o, 3),
            ],
            [4, 9],
        ),
    ),
    "a product": (
        exponential(0.95) * linear(T, end=0.5),
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ExponentialLR(o, 0.95), lr_scheduler.LinearLR(o, 1.0, 0.5, T)]
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_a_composed_schedule_equals_torchs_at_every_step(name):
    ours, theirs = COMPOSED[name]
    want = run_scheduler(theirs, 2 * T)
    equal(ours(np.arange(2 * T)), want)
    assert want.std() > 0
    equal(run_scheduler(ours.torch, 2 * T, lr=0.3), run_scheduler(theirs, 2 * T, lr=0.3))
