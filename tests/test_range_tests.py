import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrteach import range_tests
from lrteach.data import mnist1d
from lrteach.models import initialise, mlp
from lrteach.optimizers import adam, ema, extragradient, heavy_ball, polyak, sgd
from lrteach.range_tests import CAVEATS, RangeTestError, range_test, smoothed, suggest

QUICK = {"steps": 60, "seeds": 2, "low": 1e-4, "high": 100.0}


def loader(n=256, generator=None, batch_size=16):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(n, 5)), dtype=torch.float32)
    y = (x.sum(1) > 0).long()
    return DataLoader(TensorDataset(x, y), batch_size, shuffle=True, generator=generator)


def network():
    model = nn.Sequential(
        nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)
    )
    return initialise(model, 0)


def everything(model, optimizer=None):
    kept = [model.state_dict(), [p.grad for p in model.parameters()], model.training]
    if optimizer is not None:
        kept.append(optimizer.state_dict())
    return copy.deepcopy(kept)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if torch.is_tensor(a):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b


# --- It leaves no trace --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, None], ids=str)
def test_model_and_optimizer_are_as_before(make):
    model, data = network(), loader()
    optimizer = make(model.parameters(), lr=0.1) if make else None
    if optimizer:
        for x, y in data:  # so that there is state to lose
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.eval()
    model[0].train()
    before = everything(model, optimizer)
    range_test(model, data, optimizer or adam, **QUICK)
    assert same(everything(model, optimizer), before)
    assert [m.training for m in model] == [True, False, False, False, False]


def test_all_random_states_are_as_before():
    generator = torch.Generator().manual_seed(3)
    model, data = network(), loader(generator=generator)

    def draws():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def seed():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002

    seed()
    range_test(model, data, sgd, **QUICK)
    after = draws()
    seed()
    assert after == draws()
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_an_error_in_the_middle_leaves_no_trace_either():
    model, calls = network(), []

    def forward(model, batch):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = everything(model, optimizer)
    with pytest.raises(KeyboardInterrupt):
        range_test(model, loader(), optimizer, forward=forward, **QUICK)
    assert same(everything(model, optimizer), before)


def test_a_scheduler_goes_on_as_if_nothing_had_been():
    def rates(interrupted):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
        used = []
        for i in range(10):
            if interrupted and i == 5:
                range_test(model, loader(), optimizer, **QUICK)
            optimizer.step()
            scheduler.step()
            used.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        return used

    assert rates(True) == rates(False)


# --- What it does --------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_curves():
    first, second = (range_test(network(), loader(), adam, **QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    assert not np.array_equal(first.losses[0], first.losses[1])


def test_every_update_uses_the_rate_it_is_drawn_at():
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    model = network()
    optimizer = Watched(
        [{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 0.03}], lr=0.01
    )
    found = range_test(model, loader(), optimizer, steps=40, seeds=1, low=1e-5, high=1e-2)
    np.testing.assert_array_equal(np.array(seen)[:, 0], found.rates)
    np.testing.assert_allclose(np.array(seen)[:, 1], 3 * found.rates, rtol=1e-12)
    np.testing.assert_allclose(found.rates[1:] / found.rates[:-1], 1000 ** (1 / 39))


def test_a_rule_and_torch_s_optimizer_give_one_curve():
    model = network()
    ours = range_test(model, loader(), heavy_ball, **QUICK)
    theirs = range_test(
        model, loader(), torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9), **QUICK
    )
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)


@pytest.mark.parametrize("rule", [polyak, extragradient, ema(adam)], ids=lambda r: r.__name__)
def test_rules_that_ask_for_more_are_served(rule):
    found = range_test(network(), loader(), rule, steps=40, seeds=1, low=1e-4, high=1.0)
    assert np.isfinite(found.losses).sum() > 20


def test_a_loss_that_is_not_finite_ends_the_curve():
    found = range_test(network(), loader(), sgd, steps=60, seeds=2, low=1e3, high=1e30)
    assert np.isnan(found.losses[:, -1]).all()
    assert not np.isinf(found.losses).any()
    assert all("at the rate" in why for why in found.stopped)


def test_after_the_stop_nothing_is_computed():
    calls = []

    def forward(model, batch):
        calls.append(1)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = range_test(
        network(), loader(), sgd, forward=forward, steps=200, seeds=1, low=1, high=1e12
    )
    assert len(calls) < 200
    assert len(calls) - np.isfinite(found.losses).sum() <= 1


def test_embedded_data_are_taken_as_they_are():
    found = range_test(mlp(), mnist1d(), adam, initialise=True, steps=60, seeds=2)
    assert 1e-4 < found.lr < 1
    assert found.losses.shape == (2, 60)
    assert abs(found.losses[0, 0] - math.log(10)) < 0.1


def test_a_threshold_of_a_parabola_is_found_too_high_but_near():
    """Experiment 25: on a noise-free bowl the cliff of the test lies above 2/L."""

    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

    def forward(model, batch):
        return (torch.tensor([1.0, 0.01], dtype=torch.float64) * model.x**2).sum() / 2

    found = range_test(
        Bowl(), [0], sgd, forward=forward, seeds=1, steps=300, low=0.01, high=100, window=1
    )
    assert 2 < 4 * found.suggestions["cliff/4"].lr < 20


# --- Reading a curve -----------------------------------------------------------------------------

RATES = np.geomspace(1e-4, 1.0, 81)  # 20 a decade


def well(at, breaks):
    """A curve that falls from 2 to 1 around `at`, and comes back steeply at `breaks`."""
    x = np.log10(RATES)
    return 2 - 1 / (1 + np.exp(-4 * (x - np.log10(at)))) + np.exp(12 * (x - np.log10(breaks)))


def test_suggestions_are_where_the_curve_says():
    picks = suggest(RATES, well(1e-2, 0.5))
    assert picks["steepest"] == pytest.approx(1e-2, rel=0.15)
    assert picks["cliff/4"] == pytest.approx(0.5 / 4, rel=0.2)
    lowest = RATES[np.argmin(well(1e-2, 0.5))]
    assert picks["minimum/10"] == pytest.approx(lowest / 10)
    assert picks["valley"] == pytest.approx(np.sqrt(RATES[0] * lowest), rel=0.07)  # half a step


def test_a_curve_that_was_stopped_has_its_cliff_there():
    curve = well(1e-2, 50.0)
    curve[70:] = np.nan
    assert suggest(RATES, curve)["cliff/4"] == RATES[70] / 4


def test_suggestions_do_not_change_when_the_loss_gets_another_scale_or_zero():
    curve = well(1e-2, 0.5) + 0.01 * np.random.default_rng(0).normal(size=81)
    assert suggest(RATES, curve, 5) == suggest(RATES, 1000 * curve - 5000, 5)


@pytest.mark.parametrize(
    "curve, missing",
    [
        (np.linspace(1, 2, 81), {"minimum/10", "steepest", "valley", "cliff/4"}),
        (np.linspace(2, 1, 81), {"minimum/10", "cliff/4"}),
        (np.full(81, np.nan), {"minimum/10", "steepest", "valley", "cliff/4"}),
    ],
    ids=["only rises", "only falls", "nothing"],
)
def test_what_a_curve_does_not_show_is_not_suggested(curve, missing):
    picks = suggest(RATES, curve)
    assert {name for name, value in picks.items() if math.isnan(value)} == missing


def test_smoothing_does_not_move_the_curve():
    bump = np.exp(-((np.arange(101) - 50.0) ** 2) / 50)
    assert np.argmax(smoothed(bump, 15)) == 50
    np.testing.assert_allclose(smoothed(np.full(40, 3.0), 9), 3.0)
    line = np.arange(50.0)
    np.testing.assert_allclose(smoothed(line, 5)[2:-2], line[2:-2])


def test_smoothing_leaves_nan_where_it_is():
    curve = np.array([1.0, 2.0, np.nan, np.nan])
    np.testing.assert_array_equal(smoothed(curve, 3), [1.5, 1.5, np.nan, np.nan])


def test_the_longest_fall_ignores_a_bump():
    curve = np.array([5, 6, 4, 4.5, 3, 9, 2, 1, 8], float)
    rates = np.geomspace(1, 256, 9)
    assert suggest(rates, curve)["valley"] == pytest.approx(math.sqrt(rates[1] * rates[7]))


@pytest.mark.parametrize("steps", [100, 400])
def test_without_noise_the_cliff_is_seen_at_12_6_over_the_curvature(steps):
    # ∫ ln|1 − s| ds/s from 0 to x is zero at x = 12.595, and least at x = 2.
    rates, theta, losses = np.geomspace(2e-5, 40, steps), 1.0, []
    for lr in rates:
        losses.append(theta**2 / 2)
        theta -= lr * theta
    picks, rise = suggest(rates, losses), rates[1] / rates[0]
    assert 12.595 / rise < 4 * picks["cliff/4"] < 12.595 * rise
    assert 2 / rise < 10 * picks["minimum/10"] < 2 * rise


def test_only_the_valley_follows_the_first_rate():
    """Its caveat: a smaller first rate moves it down, for noise is part of the longest fall."""
    rng, seen = np.random.default_rng(0), []
    for low in (1e-4, 1e-8):
        rates = np.geomspace(low, 1.0, 200)
        x = np.log10(rates)
        curve = 2 - 1 / (1 + np.exp(-4 * (x + 2))) + np.exp(12 * (x + 0.3))
        seen.append(suggest(rates, curve + 0.02 * rng.normal(size=200), 11))
    assert seen[0]["valley"] > 5 * seen[1]["valley"]
    for name in ("cliff/4", "minimum/10", "steepest"):
        assert seen[0][name] == pytest.approx(seen[1][name], rel=0.5)
    assert "a smaller first rate moves it down" in CAVEATS["valley"]


@pytest.mark.parametrize(
    ("cliff", "steepest", "lr"),
    [(0.5, 0.1, 0.5), (math.nan, 0.1, 0.1), (0.5, math.nan, 0.5), (math.nan, math.nan, math.nan)],
)
def test_the_rate_to_start_from_is_a_quarter_of_the_cliff_or_else_the_steepest(cliff, steepest, lr):
    rates = {"cliff/4": cliff, "minimum/10": 0.2, "steepest": steepest, "valley": 0.3}
    readings = {
        name: range_tests.Suggestion(name, rate, rate, rate, int(rate == rate), 1, CAVEATS[name])
        for name, rate in rates.items()
    }
    nothing = np.zeros((1, 2))
    found = range_tests.RangeTest(np.array([0.1, 1.0]), nothing, nothing, 1, readings, ("end",))
    assert found.lr == pytest.approx(lr, nan_ok=True)


def test_an_interval_covers_the_seeds():
    found = range_test(network(), loader(), adam, **(QUICK | {"seeds": 4}))
    one = found.suggestions["steepest"]
    each = [suggest(found.rates, curve, found.window)["steepest"] for curve in found.losses]
    assert (one.low, one.lr, one.high) == (min(each), np.median(each), max(each))
    assert one.seeds == 4
    assert one.caveat in str(found)


def test_a_plot_shows_each_suggestion():
    found = range_test(network(), loader(), adam, **QUICK)
    ax = found.plot()
    shown = [text.get_text().split(":")[0].strip() for text in ax.texts]
    assert set(shown) == {name for name, one in found.suggestions.items() if one.found}


def test_a_table_has_one_row_an_update():
    found = range_test(network(), loader(), adam, **QUICK)
    table = found.to_dataframe()
    assert len(table) == 120
    np.testing.assert_array_equal(table[table.seed == 1].loss, found.losses[1])


# --- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"low": 0}, {"low": -1}, {"low": math.nan}, {"high": math.inf}, {"low": True},
        {"low": 2.0, "high": 1.0}, {"steps": 3}, {"steps": 50.0}, {"seeds": 0}, {"stop": 0},
        {"window": 4}, {"window": 99}, {"clip": 0},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_argument_is_named_with_its_value_and_what_is_allowed(bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=rf"{name}={value!r} is not allowed: {name} must be"):
        range_test(network(), loader(), sgd, **{"steps": 50, **bad})


@pytest.mark.parametrize(
    "data, words",
    [
        ([], "no batch"),
        ([torch.ones(2, 5)], "pair"),
        ([{"x": 1}], "forward="),
        ([(torch.full((2, 5), math.nan), torch.zeros(2, dtype=torch.long))], "before any update"),
    ],
    ids=["empty", "no targets", "a dict", "NaN"],
)
def test_data_that_cannot_be_used_are_refused(data, words):
    with pytest.raises(RangeTestError, match=words):
        range_test(network(), data, sgd, **QUICK)


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="no parameter of model"):
        range_test(network(), loader(), torch.optim.SGD(network().parameters(), lr=1.0))


def test_what_is_no_rule_is_refused():
    with pytest.raises(TypeError, match="rule must be"):
        range_test(network(), loader(), "adam")
    with pytest.raises(TypeError, match="model must be"):
        range_test(sgd, loader(), sgd)


def test_the_progress_bar_is_plain():
    """tqdm.auto warns in a notebook without ipywidgets, and a chapter that warns is not built."""
    import tqdm

    assert range_tests.tqdm is tqdm.tqdm
