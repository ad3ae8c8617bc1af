import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrteach import diagnosis, logs
from lrteach.diagnosis import (
    DECAYED_TOO_EARLY,
    DIVERGING,
    EXPLODING_GRADIENTS,
    NEVER_DECAYED,
    NOT_ENOUGH,
    NOTHING_WRONG,
    OVERFITTING,
    RATE_TOO_HIGH,
    RATE_TOO_LOW,
    RESTART_ARTEFACTS,
    SYMPTOMS,
    VANISHING_GRADIENTS,
    WARMUP_MISSING,
    diagnose,
)
from lrteach.logs import LogError, read_log

T, EVALS = 1000, 40


def cosine(u):
    return 0.5 + 0.5 * np.cos(np.pi * u)


def made(loss, val=None, lr=cosine, grad=None, steps=T, noise=0.05, seed=0):
    """A log of functions of u, the share of the run that is over."""
    rng = np.random.default_rng(seed)
    u = np.arange(steps) / steps
    at = np.round(np.linspace(0, steps - 1, EVALS)).astype(int)
    level = loss(u)
    rows = pd.DataFrame({"step": np.arange(steps), "loss": level + noise * rng.normal(size=steps)})
    values = (val or loss)(u)[at]
    rows["val_loss"] = pd.Series(values, index=at)
    if lr is not None:
        rows["lr"] = 0.1 * lr(u)
    if grad is not None:
        rows["grad_norm"] = grad(u) * np.exp(0.1 * rng.normal(size=steps))
    return rows


def sound(u):
    return 0.4 + 1.9 / (1 + 100 * u)


def flat(u):
    return np.ones_like(u)


def shaking(size, seed=1):
    """Ups and downs that no batch explains: they are in the validation loss too."""
    return lambda u: size * np.abs(np.random.default_rng(seed).normal(size=len(u)))


def diverged(u):
    return np.where(u > 0.5, np.inf, sound(u))


def cut(u):
    return np.where(u < 0.2, 1.0, 0.01)


def restarts(u):
    return cosine((3 * u) % 1)


def jumping(u):
    """Above the start in the first twentieth, back after 30 % of the run."""
    return np.where(u < 0.01, 2.3 + 400 * u, 0.5 + 5.8 * np.exp(-((u - 0.01) / 0.3)))


CASES = {
    NOTHING_WRONG: made(sound),
    RATE_TOO_LOW: made(lambda u: 2.3 - 0.3 * u),
    RATE_TOO_HIGH: made(lambda u: 1.5 + 0.8 / (1 + 100 * u) + shaking(0.6)(u), noise=0.0),
    DIVERGING: made(diverged),
    WARMUP_MISSING: made(jumping, lr=flat, noise=0.02),
    DECAYED_TOO_EARLY: made(lambda u: 1.2 + 1.1 / (1 + 20 * np.minimum(u, 0.2)), lr=cut),
    NEVER_DECAYED: made(lambda u: 1.2 + 1.1 / (1 + 12 * u), lambda u: 1.25 + 1.1 / (1 + 12 * u) + shaking(0.05)(u), lr=flat, noise=0.12),
    EXPLODING_GRADIENTS: made(sound, grad=lambda u: 30 * flat(u)),
    VANISHING_GRADIENTS: made(lambda u: 2.3 - 0.001 * u, grad=lambda u: 1e-5 * flat(u), noise=0.01),
    OVERFITTING: made(lambda u: 2 / (1 + 100 * u), lambda u: 0.8 + 1.5 / (1 + 100 * u) + u, noise=0.02),
    RESTART_ARTEFACTS: made(lambda u: sound(u) + 0.5 * restarts(u) * (u > 1 / 3), lr=restarts),
    NOT_ENOUGH: made(sound).head(5),
}  # fmt: skip

RULES = {
    DIVERGING: "_broken",
    WARMUP_MISSING: "_warmup",
    DECAYED_TOO_EARLY: "_too_early",
    EXPLODING_GRADIENTS: "_gradients",
    VANISHING_GRADIENTS: "_gradients",
    OVERFITTING: "_overfitting",
    RESTART_ARTEFACTS: "_restarts",
    RATE_TOO_LOW: "_low_or_high",
    RATE_TOO_HIGH: "_low_or_high",
    NEVER_DECAYED: "_low_or_high",
    NOTHING_WRONG: "_low_or_high",
}


def symptoms(found):
    return [verdict.symptom for verdict in found.verdicts]


# --- Every symptom ---------------------------------------------------------------------------------


def test_every_symptom_has_a_case():
    assert set(CASES) == set(SYMPTOMS)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_clear_case_is_seen(symptom):
    found = diagnose(CASES[symptom])
    assert symptom in symptoms(found), found
    if symptom != WARMUP_MISSING:  # such a rate is too high as well
        assert found.symptom == symptom, found
    assert found.confidence >= 0.5
    (verdict,) = [v for v in found.verdicts if v.symptom == symptom]
    assert verdict.advice
    assert any(character.isdigit() for character in " ".join(verdict.evidence))


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_what_is_not_there_is_not_seen(symptom):
    """A clear case has no symptom that contradicts it."""
    allowed = {
        RATE_TOO_HIGH: {NEVER_DECAYED, WARMUP_MISSING},
        NEVER_DECAYED: {RATE_TOO_HIGH},
        WARMUP_MISSING: {RATE_TOO_HIGH, RATE_TOO_LOW, NEVER_DECAYED},
        EXPLODING_GRADIENTS: {NOTHING_WRONG},
    }
    assert set(symptoms(diagnose(CASES[symptom]))) <= {symptom} | allowed.get(symptom, set())


@pytest.mark.parametrize("symptom", RULES)
def test_without_its_rule_a_symptom_is_not_seen(symptom, monkeypatch):
    monkeypatch.setattr(diagnosis, RULES[symptom], lambda *_: [])
    assert symptom not in symptoms(diagnose(CASES[symptom]))


# --- Each part of a rule ---------------------------------------------------------------------------


def test_a_loss_that_ends_above_its_start_diverges_without_being_infinite():
    found = diagnose(made(lambda u: 1 + u, lr=flat))
    assert found.symptom == DIVERGING
    assert "100%" in str(found) or "9" in str(found)
    assert DIVERGING not in symptoms(diagnose(made(lambda u: 1 + 0.01 * u, noise=0.2)))


def test_a_divergence_is_seen_in_three_losses():
    assert diagnose([{"loss": 1.0}, {"loss": 5.0}, {"loss": math.nan}]).symptom == DIVERGING


def test_one_value_that_is_not_finite_is_less_sure_than_an_end():
    rows = [{"step": t, "loss": math.inf if t == 50 else 1 / (t + 1)} for t in range(100)]
    once, ended = diagnose(rows), diagnose(rows[:51])
    assert once.symptom == ended.symptom == DIVERGING
    assert once.confidence < ended.confidence
    assert "49 values after it are" in str(once)


def test_a_loss_that_ends_before_its_table_has_diverged():
    table = made(sound).drop(columns="val_loss")
    table.loc[600:, "loss"] = np.nan
    found = diagnose(table)
    assert found.symptom == DIVERGING
    assert "From step 600 on there is no loss" in str(found)
    assert found.confidence < diagnose(CASES[DIVERGING]).confidence
    assert diagnose(table.head(600)).symptom == NOTHING_WRONG


def test_a_first_loss_far_above_that_of_knowing_nothing_explodes():
    high = made(lambda u: 1000 * sound(u), grad=flat)  # sound(0) is 2.3
    assert EXPLODING_GRADIENTS not in symptoms(diagnose(high))
    found = diagnose(high, classes=10)
    assert found.symptom == EXPLODING_GRADIENTS
    assert "times ln 10" in str(found)
    assert EXPLODING_GRADIENTS not in symptoms(diagnose(CASES[NOTHING_WRONG], classes=10))
    assert diagnose([{"loss": 1e9}, {"loss": math.inf}], classes=10).verdicts[1].symptom == (
        EXPLODING_GRADIENTS
    )


@pytest.mark.parametrize("classes", [1, 0, -3, 2.5, "10"])
def test_classes_are_a_whole_number(classes):
    with pytest.raises(ValueError, match="classes must be an int above 1"):
        diagnose(CASES[NOTHING_WRONG], classes=classes)


def test_a_missing_warm_up_is_a_second_opinion():
    found = diagnose(CASES[WARMUP_MISSING])
    (verdict,) = [v for v in found.verdicts if v.symptom == WARMUP_MISSING]
    assert verdict.confidence == diagnosis.WARMED < found.confidence
    assert "two in five" in str(found)


def test_what_is_low_for_a_tuned_run_is_not_called_as_in_tuned_runs():
    slow = str(diagnose(made(lambda u: 0.4 + 1.9 * np.exp(-5 * u))))
    assert "as in tuned runs" not in slow


def test_noise_of_the_validation_loss_is_no_overfitting():
    noisy = made(sound, lambda u: sound(u) + shaking(0.3)(u), lr=flat)
    assert OVERFITTING not in symptoms(diagnose(noisy))


def test_a_training_loss_that_rises_too_is_no_overfitting():
    def both(u):
        return 0.5 + 1.5 / (1 + 100 * u) + 0.5 * u

    assert OVERFITTING not in symptoms(diagnose(made(both)))


def test_a_large_rate_that_calms_down_is_no_overfitting():
    def loss(u):
        return np.where(u < 0.02, 2.3, 30 * np.exp(-u) + shaking(3)(u))

    found = diagnose(
        made(loss, lambda u: np.where(u < 0.02, 2.3, 40 + 0 * u) + shaking(3)(u), lr=flat)
    )
    assert OVERFITTING not in symptoms(found)


def test_a_first_rise_of_the_rate_is_no_restart():
    def warmed(u):
        return np.where(u < 0.02, 0.01, cosine(u))

    def loss(u):
        return sound(u) + 0.3 * np.exp(-(((u - 0.05) / 0.02) ** 2))

    assert RESTART_ARTEFACTS not in symptoms(diagnose(made(loss, lr=warmed)))


def test_a_restart_without_a_jump_of_the_loss_is_none():
    assert RESTART_ARTEFACTS not in symptoms(diagnose(made(sound, lr=restarts)))


def test_a_jump_without_a_restart_is_none():
    jump = made(lambda u: sound(u) + 0.5 * restarts(u) * (u > 1 / 3))
    assert RESTART_ARTEFACTS not in symptoms(diagnose(jump))


def test_a_cosine_is_not_decayed_too_early():
    for lr in (cosine, flat, lambda u: 1 - u, lambda u: np.where(u < 0.8, 1, 0.01)):
        assert DECAYED_TOO_EARLY not in symptoms(diagnose(made(sound, lr=lr)))


def test_with_a_warm_up_no_warm_up_is_missing():
    def warmed(u):
        return np.minimum(1, (u + 0.001) / 0.1)

    assert WARMUP_MISSING not in symptoms(diagnose(made(jumping, lr=warmed, noise=0.02)))


def test_a_short_jump_is_no_missing_warm_up():
    short = made(lambda u: np.where((u > 0) & (u < 0.01), 6.0, sound(u)), lr=flat)
    assert WARMUP_MISSING not in symptoms(diagnose(short))


def test_a_cooldown_at_the_end_is_decay():
    def cooled(u):
        return np.minimum(1, (1 - u) / 0.2)

    assert NEVER_DECAYED not in symptoms(
        diagnose(CASES[NEVER_DECAYED].assign(lr=cooled(np.arange(T) / T)))
    )


def test_where_there_is_no_noise_no_cooldown_is_advised():
    def curve(u):
        return 0.5 + 2 * np.exp(-12 * u)

    assert NEVER_DECAYED not in symptoms(diagnose(made(curve, curve, lr=flat, noise=0.0)))


def test_a_gradient_that_grows_explodes():
    def grows(u):
        return np.where((u > 0.5) & (u < 0.51), 1000.0, 1.0)

    found = diagnose(made(sound, grad=grows))
    assert EXPLODING_GRADIENTS in symptoms(found)
    assert EXPLODING_GRADIENTS not in symptoms(diagnose(made(sound, grad=flat)))


def test_a_small_gradient_after_a_fall_is_success():
    good = made(lambda u: 1e-3 + 2.3 * np.exp(-100 * u), grad=lambda u: np.exp(-100 * u), noise=0)
    assert VANISHING_GRADIENTS not in symptoms(diagnose(good))


def test_vanished_gradients_are_seen_where_the_loss_does_not_move_at_all():
    table = pd.DataFrame({"loss": [2.3] * 50, "grad_norm": [1e-9] * 50})
    assert diagnose(table).symptom == VANISHING_GRADIENTS
    assert diagnose(table[["loss"]]).symptom == NOT_ENOUGH


def test_a_gradient_that_was_next_to_nothing_first_has_vanished_and_not_exploded():
    def late(u):
        return 2.3 - np.maximum(u - 0.7, 0)

    found = diagnose(made(late, grad=lambda u: np.where(u < 0.7, 1e-6, 0.5), noise=0.01))
    assert found.symptom == VANISHING_GRADIENTS
    assert EXPLODING_GRADIENTS not in symptoms(found)


def test_small_updates_make_a_low_rate_surer():
    low = made(lambda u: 2.3 - 0.6 * u**0.6)
    small = diagnose(low.assign(update_ratio=1e-6))
    usual = diagnose(low.assign(update_ratio=1e-3))
    assert small.symptom == usual.symptom == RATE_TOO_LOW
    assert small.confidence > usual.confidence
    assert "1e-06 of the weights" in str(small)


def test_several_symptoms_hold_at_once():
    both = CASES[OVERFITTING].assign(lr=cut(np.arange(T) / T))
    assert {OVERFITTING, DECAYED_TOO_EARLY} <= set(symptoms(diagnose(both)))


# --- On both sides of each limit -------------------------------------------------------------------

U = np.arange(T) / T
SHARES = np.arange(T) / (T - 1)  # of the run, as `diagnose` counts it: the last update is at 1


def exact(loss, val=None, **others):
    """A log without noise: arrays of T values; `val` is there at every 25th update and the last."""
    at = np.append(np.arange(0, T - 1, 25), T - 1)
    rows = pd.DataFrame({"step": np.arange(T), "loss": loss, **others})
    if val is not None:
        rows["val_loss"] = pd.Series(val[at], index=at)
    return rows


def confidence_in(symptom, rows, **options):
    """0 where the symptom is not named."""
    found = diagnose(rows, **options)
    return max([v.confidence for v in found.verdicts if v.symptom == symptom], default=0)


def evidence_of(symptom, rows, **options):
    (verdict,) = [v for v in diagnose(rows, **options).verdicts if v.symptom == symptom]
    return " ".join(verdict.evidence)


FELL = 0.5 + 1.5 / (1 + 100 * SHARES)  # a loss from 2.0 that nothing is wrong with


def test_twice_a_limit_is_believed_with_four_to_one():
    assert [round(diagnosis._sure(ratio), 2) for ratio in (0.5, 1, 2, 4)] == [0.2, 0.5, 0.8, 0.94]
    assert diagnosis._sure(1e300) == 1.0  # its square is no number


def test_no_confidence_is_above_99_percent():
    assert confidence_in(DIVERGING, exact(1 + 1e4 * SHARES)) == 0.99


@pytest.mark.parametrize("rise, confidence", [(0.0, 0), (0.049, 0), (0.051, 0.81), (0.1, 0.94)])
def test_a_loss_that_ends_5_percent_above_its_start_diverges(rise, confidence):
    loss = 2 * np.where(SHARES < 0.5, 1.0 - 0.1 * SHARES, 1 + rise)
    assert confidence_in(DIVERGING, exact(loss)) == confidence
    assert confidence_in(DIVERGING, exact(loss, loss)) == confidence
    assert confidence_in(DIVERGING, exact(loss, FELL)) == 0
    assert confidence_in(DIVERGING, exact(FELL, loss)) == 0


def test_the_smaller_rise_of_the_two_losses_is_what_a_divergence_is_judged_by():
    rows = exact(1 + 1.0 * (SHARES > 0.5), 1 + 0.06 * (SHARES > 0.5))
    other = exact(1 + 0.06 * (SHARES > 0.5), 1 + 1.0 * (SHARES > 0.5))
    assert confidence_in(DIVERGING, rows) == confidence_in(DIVERGING, other) == 0.85
    assert "training loss is at 2 in the last tenth, 100% above" in evidence_of(DIVERGING, rows)
    assert "validation loss is at 1.06 in the last tenth, 6% above" in evidence_of(DIVERGING, rows)


def test_the_last_tenth_is_what_ends_above_the_start():
    late, early = 1 + 0.2 * (SHARES > 0.9), 1 + 0.2 * (SHARES > 0.4) * (SHARES < 0.9)
    assert "at 1.2 in the last tenth, 20% above" in evidence_of(DIVERGING, exact(late))
    assert confidence_in(DIVERGING, exact(early)) == 0


def test_a_first_batch_that_was_easy_is_no_start():
    easy = np.where(np.arange(T) == 0, 0.9, np.where(SHARES < 0.5, 1.0, 1.03))
    assert confidence_in(DIVERGING, exact(easy)) == 0
    hard = np.where(np.arange(T) == 0, 1.0, np.where(SHARES < 0.5, 0.9, 1.03))
    assert confidence_in(DIVERGING, exact(hard)) == 0


def test_a_rise_within_the_noise_is_none():
    shakes = np.resize([1.0, -1.0], T)
    # Of means of 50 that go up and down by 1 the error is √(16/6/50) = 0.23; the start is at 6.
    assert confidence_in(DIVERGING, exact(5 + 1.68 * (SHARES > 0.5) + shakes)) == 0
    assert confidence_in(DIVERGING, exact(5 + 1.71 * (SHARES > 0.5) + shakes)) > 0.9


@pytest.mark.parametrize("rise, confidence", [(0.099, 0), (0.101, 0.8), (0.2, 0.94)])
def test_a_validation_loss_10_percent_above_its_minimum_overfits(rise, confidence):
    val = np.where(SHARES < 0.3, 2 - SHARES, 1.0) + rise * (SHARES > 0.4)
    assert confidence_in(OVERFITTING, exact(2 - 1.5 * SHARES, val)) == confidence
    doubled = exact(2 - 1.5 * SHARES, 3 * val)
    assert confidence_in(OVERFITTING, doubled) == confidence


def test_the_evidence_of_overfitting_is_where_the_minimum_was_and_what_came_after():
    val = np.where(SHARES < 0.5, 2 - 2 * SHARES, 1 + (SHARES - 0.5))
    rows = exact(2 - SHARES, val)
    says = evidence_of(OVERFITTING, rows)
    assert "lowest at step 500 and ends 48% higher" in says
    assert "training loss fell from 1.47 to 1.05" in says
    assert (500, "lowest validation loss") in diagnose(rows).marks


@pytest.mark.parametrize("down, seen", [(0.34, False), (0.32, True)])
def test_a_rise_of_three_times_the_ups_and_downs_is_none_of_them(down, seen):
    """After its minimum at 1 the validation loss falls twice by `down`, and ends at 2."""
    val = np.full(T, 3.0)
    val[250:] = 1.0
    val[300:] = 1.7
    val[375:] = 1.7 - down
    val[450:] = 1.9
    val[525:] = 1.9 - down
    val[600:] = 2.0
    assert (confidence_in(OVERFITTING, exact(2 - 1.5 * SHARES, val)) > 0) == seen


@pytest.mark.parametrize("share, confidence", [(0.39, 0), (0.41, 0.81), (0.8, 0.94)])
def test_two_fifths_of_the_run_at_next_to_no_rate_are_decayed_too_early(share, confidence):
    lr = np.where(1 - share > SHARES, 0.3, 0.001)
    assert confidence_in(DECAYED_TOO_EARLY, exact(FELL, lr=lr)) == confidence


@pytest.mark.parametrize("rate, seen", [(0.051, False), (0.049, True), (0.0, True)])
def test_next_to_no_rate_is_a_twentieth_of_the_highest(rate, seen):
    rows = exact(FELL, lr=np.where(SHARES < 0.3, 1.0, rate))
    assert (confidence_in(DECAYED_TOO_EARLY, rows) > 0) == seen
    if seen:
        assert "70% of the run, the rate is below 5%" in evidence_of(DECAYED_TOO_EARLY, rows)
        ((step, says),) = diagnose(rows).marks
        assert step == pytest.approx(300, abs=2)
        assert says == "rate below 5% of its peak"


def test_a_rate_of_zero_is_not_decayed():
    assert DECAYED_TOO_EARLY not in symptoms(diagnose(exact(FELL, lr=0.0)))


def restarted(before=0.4, after=1.0, jump=0.2, earlier=1.0):
    """The rate goes from `earlier` to `before`, and to `after` at step 500; the loss then rises."""
    lr = np.where(SHARES < 0.2, earlier, before)
    lr[500:] = after
    loss = np.where(SHARES < 0.05, 2.0, 1.5)
    loss[451:] = 1.0  # what counts is the twentieth before
    loss[501:580] += jump  # and 8 % of the run after it
    return exact(loss, lr=lr)


@pytest.mark.parametrize("before, seen", [(0.51, False), (0.49, True)])
def test_a_restart_doubles_the_rate(before, seen):
    assert (confidence_in(RESTART_ARTEFACTS, restarted(before)) > 0) == seen
    # And the rate had been as high before.
    rows = restarted(0.2, earlier=0.2 / before)
    assert (confidence_in(RESTART_ARTEFACTS, rows) > 0) == seen


@pytest.mark.parametrize("jump, confidence", [(0.049, 0), (0.051, 0.81), (0.1, 0.94)])
def test_a_restart_that_costs_a_twentieth_of_the_fall_is_an_artefact(jump, confidence):
    assert confidence_in(RESTART_ARTEFACTS, restarted(jump=jump)) == confidence


def test_the_evidence_of_a_restart_is_the_largest_jump():
    rows = restarted(jump=0.2)
    assert "step 500, and the loss rises by 20%" in evidence_of(RESTART_ARTEFACTS, rows)
    assert diagnose(rows).marks == ((500, "restart"),)


def jumped(jump=2.0, away=0.3, end=0.5, at=10, lr=1.0):
    """The loss starts at 1, is at 1 + jump from step `at`, and at `end` after `away` of the run."""
    loss = np.where(away > SHARES, 1 + jump, end)
    loss[:at] = 1.0
    return exact(loss, lr=lr)


@pytest.mark.parametrize("jump, seen", [(0.49, False), (0.51, True)])
def test_a_jump_by_half_of_the_start_may_lack_a_warm_up(jump, seen):
    assert (confidence_in(WARMUP_MISSING, jumped(jump)) == 0.4) == seen
    assert (confidence_in(WARMUP_MISSING, jumped(jump)) > 0) == seen


@pytest.mark.parametrize("away, seen", [(0.055, False), (0.07, True), (0.9, True)])
def test_a_loss_that_is_back_within_a_tenth_lacks_no_warm_up(away, seen):
    assert (confidence_in(WARMUP_MISSING, jumped(away=away)) > 0) == seen


@pytest.mark.parametrize("end, seen", [(1.95, True), (2.05, False)])
def test_a_loss_that_does_not_come_half_way_back_lacks_more_than_a_warm_up(end, seen):
    """Its start is at 1, its top at 3."""
    assert bool(diagnosis._warmup(diagnosis.Look(read_log(jumped(end=end)), None))) == seen


@pytest.mark.parametrize("at, seen", [(48, True), (52, False)])
def test_the_jump_of_a_missing_warm_up_is_in_the_first_twentieth(at, seen):
    assert (confidence_in(WARMUP_MISSING, jumped(at=at)) > 0) == seen


@pytest.mark.parametrize("rate, seen", [(0.49, False), (0.51, True)])
def test_a_start_at_half_the_rate_is_no_warm_up(rate, seen):
    rows = jumped(lr=np.where(SHARES < 0.1, rate, 1.0))
    assert (confidence_in(WARMUP_MISSING, rows) > 0) == seen


def test_the_evidence_of_a_missing_warm_up_is_the_jump_and_the_way_back():
    says = evidence_of(WARMUP_MISSING, jumped())
    assert "rises from 1 to 3, at full rate, and is not back before 30% of the run" in says
    assert (10, "jump") in diagnose(jumped()).marks


@pytest.mark.parametrize("times, confidence", [(1.98, 0), (2.02, 0.8), (4, 0.94)])
def test_twice_the_loss_of_knowing_nothing_is_too_much_at_the_start(times, confidence):
    rows = exact(FELL / 2 * times * math.log(10))
    assert confidence_in(EXPLODING_GRADIENTS, rows, classes=10) == confidence
    assert confidence_in(EXPLODING_GRADIENTS, exact(FELL), classes=2) == 0.89
    if confidence:
        says = evidence_of(EXPLODING_GRADIENTS, rows, classes=10)
        assert f"The first loss is {times:.3g} times ln 10" in says


@pytest.mark.parametrize("times, confidence", [(4.9, 0), (5.1, 0.81), (10, 0.94)])
def test_a_first_gradient_five_times_the_loss_is_steep(times, confidence):
    loss = 2 - SHARES
    gradient = np.where(np.arange(T) < 10, 2 * times, 1.0)  # the loss starts at 2
    assert confidence_in(EXPLODING_GRADIENTS, exact(loss, grad_norm=gradient)) == confidence
    short = np.where(np.arange(T) < 4, 2 * times, 1.0)  # not the median of the first hundredth
    assert confidence_in(EXPLODING_GRADIENTS, exact(loss, grad_norm=short)) == 0


@pytest.mark.parametrize("times, confidence", [(98, 0), (102, 0.46), (200, 0.72)])
def test_a_gradient_that_grows_a_hundredfold_explodes(times, confidence):
    gradient = np.where((SHARES > 0.5) & (SHARES < 0.51), float(times), 1.0)
    rows = exact(2 - SHARES, grad_norm=gradient)
    assert confidence_in(EXPLODING_GRADIENTS, rows) == confidence
    if confidence:
        says = evidence_of(EXPLODING_GRADIENTS, rows)
        assert f"At step 500 the gradient is {times} times as long as at first" in says
        assert (500, "longest gradient") in diagnose(rows).marks


@pytest.mark.parametrize("longest, seen", [(9.9, False), (10.1, True)])
def test_a_gradient_that_grows_from_next_to_nothing_explodes_where_it_is_steep(longest, seen):
    gradient = np.where(SHARES < 0.5, 0.01, longest)  # five times the start of the loss is 10
    rows = exact(2 - SHARES, grad_norm=gradient)
    assert (confidence_in(EXPLODING_GRADIENTS, rows) > 0) == seen


@pytest.mark.parametrize("length, confidence", [(1.02e-3, 0), (0.98e-3, 0.81), (0.5e-3, 0.94)])
def test_a_gradient_of_a_thousandth_of_the_loss_has_vanished(length, confidence):
    loss = np.where(SHARES < 0.3, 2.1, 2.0)
    early = np.where(SHARES <= 0.1, 2.0 * length, 1.0)
    late = np.where(SHARES <= 0.09, 1.0, 2.0 * length)
    assert confidence_in(VANISHING_GRADIENTS, exact(loss, grad_norm=early)) == confidence
    assert confidence_in(VANISHING_GRADIENTS, exact(loss, grad_norm=late)) == 0


@pytest.mark.parametrize("top, seen", [(1.98, True), (2.02, False)])
def test_a_gradient_is_not_small_beside_a_loss_that_doubled(top, seen):
    loss = np.where((SHARES > 0.4) & (SHARES < 0.8), top, 1 - 0.5 * SHARES)
    rows = exact(loss, grad_norm=1e-5)
    assert (confidence_in(VANISHING_GRADIENTS, rows) > 0) == seen


@pytest.mark.parametrize("ratio, surer", [(1.02e-4, False), (0.98e-4, True)])
def test_an_update_of_a_ten_thousandth_of_the_weights_is_small(ratio, surer):
    table = made(lambda u: 2.3 - 0.6 * u**0.6)
    usual = confidence_in(RATE_TOO_LOW, table)
    expected = (1 + usual) / 2 if surer else usual
    found = confidence_in(RATE_TOO_LOW, table.assign(update_ratio=ratio))
    assert found == pytest.approx(expected, abs=0.006)


def test_a_loss_that_is_lost_is_sure_by_how_it_was_lost():
    rows = [{"step": t, "loss": 1 / (t + 1)} for t in range(100)]
    gap = rows[:60] + [{"step": t, "loss": None, "lr": 0.1} for t in range(60, 100)]
    once = [row | {"loss": math.nan} if row["step"] == 50 else row for row in rows]
    assert confidence_in(DIVERGING, gap) == 0.8
    assert confidence_in(DIVERGING, once) == 0.7
    assert confidence_in(DIVERGING, once[:51]) == 0.99
    assert diagnose(once).marks == ((50, "not finite"),)
    assert diagnose(gap).marks == ((60, "no loss any more"),)


@pytest.mark.parametrize("last, seen", [(0.49, False), (0.51, True)])
def test_a_rate_that_ends_at_half_its_highest_was_never_decayed(last, seen):
    lr = np.where(SHARES < 0.97, 1.0, last)
    rows = CASES[NEVER_DECAYED].assign(lr=lr)
    assert (confidence_in(NEVER_DECAYED, rows) > 0) == seen
    if seen:
        assert "At the end the rate is at 51% of its highest" in evidence_of(NEVER_DECAYED, rows)


@pytest.fixture
def with_features(monkeypatch):
    """Everything is mentioned, and curves have the features that a test gives them."""
    monkeypatch.setattr(diagnosis, "MENTIONED", -1.0)

    def says(symptom, kind="validation", **features):
        usual = {"first": 0.7, "late": 0.2, "rough": -1.0, "back": -3.0, "drop": 0.5, "jump": -2.0}
        monkeypatch.setattr(diagnosis, "shape", lambda look, series: (kind, usual | features))
        return evidence_of(symptom, exact(FELL, FELL))

    return says


def test_a_first_tenth_of_less_than_60_percent_is_less_than_tuned_runs_make(with_features):
    assert "run, 59% of the fall of the validation loss" in with_features(RATE_TOO_LOW, first=0.59)
    assert "; tuned runs have made 60 to 90 %." in with_features(RATE_TOO_LOW, first=0.59)
    plain = with_features(RATE_TOO_LOW, first=0.61)
    assert "run, 61% of the fall of the validation loss was made." in plain
    assert "; most tuned runs" in with_features(NOTHING_WRONG, first=0.59)
    assert ", as in tuned runs." in with_features(NOTHING_WRONG, first=0.61)
    assert "The loss fell by 50% of its start" in with_features(NOTHING_WRONG)


def test_the_evidence_of_a_low_rate_is_that_nothing_rises_and_much_is_left(with_features):
    assert "rises nowhere" in with_features(RATE_TOO_LOW, back=-2.51)
    assert "rises nowhere" not in with_features(RATE_TOO_LOW, back=-2.49)
    assert "second half still brought 5%" in with_features(RATE_TOO_LOW, late=0.051)
    assert "second half" not in with_features(RATE_TOO_LOW, late=0.049)


def test_the_evidence_of_a_high_rate_is_how_the_loss_moves_and_a_plateau(with_features):
    assert "up and down by 10% of its fall" in with_features(RATE_TOO_HIGH, rough=-1.0)
    assert "it jumps 10% above its start" in with_features(RATE_TOO_HIGH, jump=-0.99)
    assert "jumps" not in with_features(RATE_TOO_HIGH, jump=-1.01)
    assert "brought 10% of the fall: a plateau" in with_features(RATE_TOO_HIGH, late=0.099)
    assert "brought 0% of the fall: a plateau" in with_features(RATE_TOO_HIGH, late=-0.5)
    assert "plateau" not in with_features(RATE_TOO_HIGH, late=0.101)


NEVER = {"late": 0.1, "noise": -0.5, "spread": -0.5}


@pytest.mark.parametrize(
    "features, odds",
    [({}, 0.22), ({"late": 0.3}, 1.16), ({"noise": -1.5}, 3.82), ({"spread": -1.5}, -2.28)],
)
def test_a_cooldown_gains_where_the_loss_still_falls_and_the_noise_is_large(
    features, odds, monkeypatch
):
    monkeypatch.setattr(diagnosis, "shape", lambda *_: ("batches", NEVER | features))
    share, says = diagnosis._never(diagnosis.Look(read_log(exact(FELL, lr=0.1)), None))
    assert math.log(share / (1 - share)) == pytest.approx(odds)
    assert says[0] == "At the end the rate is at 100% of its highest value."


@pytest.mark.parametrize("spread, seen", [(0.0099, False), (0.0101, True)])
def test_a_hundredth_of_the_fall_is_enough_noise_for_a_cooldown(spread, seen, monkeypatch):
    features = NEVER | {"spread": math.log10(spread)}
    monkeypatch.setattr(diagnosis, "shape", lambda *_: ("batches", features))
    share, says = diagnosis._never(diagnosis.Look(read_log(exact(FELL, lr=0.1)), None))
    assert (share > 0) == seen
    if seen:
        assert "differ by 1% of the whole fall, of which the second half brought 10%" in says[1]


def in_between(seed):
    """A curve on which more than one thing may be wrong, or nothing."""
    rng = np.random.default_rng(seed)
    speed, size, shakes = 10 ** rng.uniform(0.3, 2), rng.uniform(0.3, 1.9), rng.uniform(0, 0.15)

    def loss(u):
        return 2.3 - size * speed * u / (1 + speed * u) + shaking(shakes, seed)(u) * (u > 0)

    table = made(loss, lr=[cosine, flat][seed % 2], noise=10 ** rng.uniform(-2.5, -0.8), seed=seed)
    return table if seed % 4 < 2 else table.drop(columns="val_loss")


BETWEEN = [  # too low, too high, never decayed, nothing wrong
    (1, (0.0636, 0.0034, 0.3017, 0.6313)),
    (3, (0.5916, 0.2519, 0.15, 0.0065)),
    (4, (0.0052, 0.2516, 0.0, 0.7432)),
    (5, (0.0083, 0.013, 0.497, 0.4816)),
    (9, (0.0133, 0.3215, 0.5694, 0.0957)),
    (12, (0.6817, 0.0144, 0.0, 0.3039)),
    (15, (0.1502, 0.0054, 0.4848, 0.3597)),
    (16, (0.8806, 0.0026, 0.0, 0.1168)),
    (17, (0.009, 0.6981, 0.2646, 0.0283)),
    (18, (0.4873, 0.0198, 0.0, 0.4929)),
    (23, (0.1773, 0.0039, 0.0, 0.8188)),
    (24, (0.1964, 0.2443, 0.0, 0.5593)),
    (25, (0.0355, 0.8431, 0.1202, 0.0011)),
    (27, (0.621, 0.004, 0.3395, 0.0355)),
    (32, (0.5122, 0.0809, 0.0, 0.4069)),
    (33, (0.0038, 0.6125, 0.2961, 0.0876)),
    (34, (0.2217, 0.2801, 0.0, 0.4982)),
    (35, (0.4935, 0.2539, 0.2168, 0.0358)),
    (37, (0.2827, 0.0007, 0.434, 0.2827)),
    (40, (0.0034, 0.3737, 0.0, 0.6229)),
    (42, (0.6691, 0.0078, 0.0, 0.3231)),
    (44, (0.1672, 0.4386, 0.0, 0.3942)),
    (45, (0.0076, 0.406, 0.4291, 0.1573)),
    (46, (0.7492, 0.0512, 0.0, 0.1996)),
    (47, (0.4247, 0.0021, 0.3355, 0.2377)),
    (50, (0.0937, 0.0453, 0.0, 0.8609)),
    (51, (0.5968, 0.0034, 0.3544, 0.0454)),
    (53, (0.455, 0.083, 0.4065, 0.0555)),
    (54, (0.8071, 0.0205, 0.0, 0.1724)),
    (57, (0.0079, 0.3702, 0.4729, 0.149)),
    (58, (0.2883, 0.0366, 0.0, 0.6751)),
]


@pytest.mark.parametrize("seed, confidences", BETWEEN)
def test_curves_in_between_keep_their_confidences(seed, confidences, monkeypatch):
    """Recorded. They change with each fitted weight: fit and measure again, then record again."""
    monkeypatch.setattr(diagnosis, "MENTIONED", -1.0)
    monkeypatch.setattr(diagnosis, "round", lambda value, digits: value, raising=False)
    rows, named = in_between(seed), (RATE_TOO_LOW, RATE_TOO_HIGH, NEVER_DECAYED, NOTHING_WRONG)
    found = tuple(confidence_in(symptom, rows) for symptom in named)
    assert found == pytest.approx(confidences, abs=2e-4)


def test_what_is_not_sure_to_35_percent_is_not_mentioned():
    seen = set()
    for slow in np.linspace(0, 1, 40):  # from a sound rate to one that is too low
        found = diagnose(made(lambda u, s=slow: (1 - s) * sound(u) + s * (2.3 - 0.6 * u)))
        seen |= {v.confidence for v in found.verdicts}
    assert 0.35 <= min(seen) < 0.4


def test_noise_that_is_over_hides_no_rise_at_the_end():
    shakes = np.resize([1.0, -1.0], T) * (SHARES < 0.5) * (SHARES > 0.01)
    assert confidence_in(DIVERGING, exact(5 + 0.5 * (SHARES > 0.8) + 2 * shakes)) == 0.94


def test_the_last_twentieth_says_whether_the_loss_came_back():
    late = jumped()
    late.loc[955:, "loss"] = 2.9  # its top is at 3, its start at 1
    assert not diagnosis._warmup(diagnosis.Look(read_log(late), None))
    early = jumped()
    early.loc[900:945, "loss"] = 2.9
    assert diagnosis._warmup(diagnosis.Look(read_log(early), None))


def test_eight_values_are_enough_for_every_rule():
    """`POINTS`: with one less nothing is said."""
    eight = np.arange(8.0)

    def rules(count, rule, **columns):
        rows = pd.DataFrame({name: values[:count] for name, values in columns.items()})
        return bool(rule(diagnosis.Look(read_log(rows), None)))

    high = np.where(eight > 3, 2.0, 1.0)
    for count, seen in ((8, True), (7, False)):
        assert rules(count, diagnosis._diverging, loss=high) == seen
        assert rules(count, diagnosis._gradients, loss=2 + high, grad_norm=1e-9 * high) == seen
        lowest = np.where(eight < 3, 3.0, 1 + eight / 8)
        assert rules(count, diagnosis._overfitting, loss=9 - eight, val_loss=lowest) == seen
        assert rules(count, diagnosis._warmup, loss=np.array([1, 9, 0, 0, 0, 0, 0, 0.0])) is False
        far = diagnosis.Look(read_log(exact(FELL[:T], lr=0.1).head(1000)), None)
        far.loss = far.main = diagnosis.replace(
            far.loss, steps=far.loss.steps[:count], values=far.loss.values[:count]
        )
        assert bool(diagnosis._never(far)[1]) == seen


def test_few_training_losses_leave_the_validation_loss_to_show_the_jump():
    rows = jumped(at=10).rename(columns={"loss": "val_loss"})
    rows["loss"] = pd.Series([1.0, 3.0, 0.5], index=[0, 300, 999])
    assert confidence_in(WARMUP_MISSING, rows) == 0.4


def test_what_was_not_looked_at_is_said_once_and_with_the_first_verdict():
    rows = CASES[OVERFITTING].assign(lr=cut(np.arange(T) / T))
    first, second = diagnose(rows).verdicts[:2]
    says = diagnosis.Look(read_log(rows), None).missing()
    assert first.evidence[-1:] == tuple(says)
    assert len(first.evidence) == len(second.evidence) + 1
    assert {first.evidence[0], second.evidence[0]} == {
        evidence.evidence[0] for evidence in (first, second)
    }
    assert "below 5% of its peak" in " ".join(
        v.evidence[0] for v in (first, second) if v.symptom == DECAYED_TOO_EARLY
    )


def test_diagnoses_can_be_in_a_set():
    found, other = diagnose(CASES[OVERFITTING]), diagnose(CASES[OVERFITTING])
    assert len({found, other}) == 2


def test_the_largest_of_several_jumps_is_the_evidence_and_all_are_marked():
    lr = np.interp(SHARES % 0.25, [0, 0.25], [1.0, 0.1])
    loss = np.interp(SHARES, [0, 0.05, 0.2], [2, 2, 1])
    for at, jump in ((250, 0.1), (500, 0.3), (750, 0.2)):
        loss[at + 1 : at + 90] += jump
    found = diagnose(exact(loss, lr=lr))
    assert [step for step, says in found.marks if says == "restart"] == [250, 500, 750]
    says = evidence_of(RESTART_ARTEFACTS, exact(loss, lr=lr))
    assert "at step 500, and the loss rises by 30%" in says


@pytest.mark.parametrize("noisy", [slice(440, 501), slice(501, 590)])
def test_a_jump_within_the_noise_on_either_side_of_a_restart_is_none(noisy):
    """40 to 80 values that go up and down by 1: their mean's error is 0.2 to 0.25."""
    rows = restarted(jump=0.3)
    loss = rows["loss"].to_numpy(copy=True)
    loss[noisy] += np.resize([1.0, -1.0], len(loss[noisy]))
    assert confidence_in(RESTART_ARTEFACTS, rows) > 0.9
    assert confidence_in(RESTART_ARTEFACTS, rows.assign(loss=loss)) == 0


def test_a_rate_of_zero_at_the_end_of_zeros_needs_no_cooldown():
    look = diagnosis.Look(read_log(CASES[NEVER_DECAYED].assign(lr=0.0)), None)
    assert diagnosis._never(look) == (0.0, [])


@pytest.mark.parametrize("count, of", [(8, "validation"), (7, "training")])
def test_the_shape_is_that_of_the_validation_loss_if_there_are_eight(count, of, monkeypatch):
    monkeypatch.setattr(diagnosis, "MENTIONED", -1.0)
    at = np.linspace(0, T - 1, count).astype(int)
    rows = exact(FELL).assign(val_loss=pd.Series(FELL[at], index=at))
    assert f"of the fall of the {of} loss" in evidence_of(NOTHING_WRONG, rows)


def test_the_shape_of_a_run_that_overfits_is_that_of_its_training_loss(monkeypatch):
    monkeypatch.setattr(diagnosis, "MENTIONED", -1.0)
    assert "fall of the training loss" in evidence_of(RATE_TOO_LOW, CASES[OVERFITTING])


def test_symptoms_have_the_names_that_readers_know():
    assert SYMPTOMS == (
        "rate too low", "rate too high", "diverging", "warm-up missing", "decayed too early",
        "decayed too late or never", "exploding gradients", "vanishing gradients", "overfitting",
        "restart artefacts", "nothing wrong found", "not enough evidence",
    )  # fmt: skip


def test_each_symptom_has_its_own_advice():
    assert set(diagnosis.ADVICE) == set(SYMPTOMS)
    assert len(set(diagnosis.ADVICE.values())) == len(SYMPTOMS)
    for symptom in SYMPTOMS:
        (verdict,) = [v for v in diagnose(CASES[symptom]).verdicts if v.symptom == symptom]
        assert verdict.advice == diagnosis.ADVICE[symptom]


def test_one_last_value_is_not_the_end_of_a_validation_loss():
    val = np.where(SHARES < 0.3, 2.0, 1.0) + 0.2 * (SHARES > 0.4)
    rows = exact(2 - 1.5 * SHARES, val + 5 * (SHARES == 1))
    assert "ends 20% higher" in evidence_of(OVERFITTING, rows)


def test_two_logged_rates_are_a_schedule_and_one_is_none():
    two = exact(FELL).assign(lr=pd.Series([1.0, 0.0], index=[0, 100]))
    assert confidence_in(DECAYED_TOO_EARLY, two) > 0.9
    one = exact(FELL).assign(lr=pd.Series([1.0], index=[0]))
    assert confidence_in(DECAYED_TOO_EARLY, one) == 0
    table = CASES[NEVER_DECAYED]
    assert confidence_in(NEVER_DECAYED, table.assign(lr=pd.Series([0.1, 0.1], [0, 500]))) > 0.4
    assert confidence_in(NEVER_DECAYED, table.assign(lr=pd.Series([0.1], [0]))) == 0


def test_columns_of_other_names_are_read_where_they_are_said_to_be():
    rows = CASES[OVERFITTING].rename(columns={"loss": "q", "val_loss": "z"})
    assert diagnose(rows, columns={"loss": "q", "val_loss": "z"}).symptom == OVERFITTING


def test_a_curve_that_fits_nothing_is_not_enough(monkeypatch):
    monkeypatch.setattr(diagnosis, "MENTIONED", 2.0)
    found = diagnose(exact(FELL))
    assert (found.symptom, found.confidence) == (NOT_ENOUGH, 0.5)


def test_what_another_symptom_bends_is_not_judged_by_its_shape(monkeypatch):
    monkeypatch.setattr(diagnosis, "MENTIONED", -1.0)
    shapes = {RATE_TOO_LOW, RATE_TOO_HIGH, NEVER_DECAYED, NOTHING_WRONG}
    look = diagnosis.Look(read_log(exact(FELL, FELL)), None)
    for symptom in SYMPTOMS:
        named = {v.symptom for v in diagnosis._low_or_high(look, {symptom})}
        bends = symptom in (DIVERGING, VANISHING_GRADIENTS, RESTART_ARTEFACTS, DECAYED_TOO_EARLY)
        assert named == (set() if bends else shapes - {NOTHING_WRONG})
    assert {v.symptom for v in diagnosis._low_or_high(look, set())} == shapes


@pytest.mark.parametrize("places", [(500,), (250, 500, 750)])
def test_several_restarts_that_agree_are_seen_in_more_noise(places):
    """The error of a jump is 0.29; of the mean of three it is 0.17. Twice that is no chance."""

    def seen(jump):
        lr, loss = np.full(T, 0.2), np.where(SHARES < 0.05, 15.0, 10.0)
        lr[:100] = 1.0
        loss[100:] += np.resize([1.0, -1.0], T - 100)
        for at in places:
            lr[at : at + 80] = 1.0
            loss[at + 1 : at + 80] += jump
        return confidence_in(RESTART_ARTEFACTS, exact(loss, lr=lr)) > 0

    limit = 0.59 / math.sqrt(len(places))
    assert not seen(limit - 0.05)
    assert seen(limit + 0.05)


@pytest.mark.parametrize("fall, seen", [(0.90, False), (0.95, True)])
def test_a_training_loss_that_falls_by_noise_only_is_no_overfitting(fall, seen):
    """Of each mean the error is 0.23: four of them are 0.92."""
    val = np.where(SHARES < 0.3, 2.0, 1.0) + 0.2 * (SHARES > 0.4)
    loss = 5 - fall * (SHARES > 0.6) + np.resize([1.0, -1.0], T)
    assert (confidence_in(OVERFITTING, exact(loss, val)) > 0) == seen


def test_a_late_minimum_is_compared_with_the_last_tenth():
    val = np.where(SHARES < 0.9, 3 - SHARES, 2.5)
    assert "fell from 1.25 to 1.1." in evidence_of(OVERFITTING, exact(3 - 2 * SHARES, val))


# --- Plots -----------------------------------------------------------------------------------------


def test_a_picture_has_both_losses_the_marks_and_their_words():
    import matplotlib.pyplot as plt

    found = diagnose(CASES[OVERFITTING])
    ax = found.plot()
    assert ax.get_title(loc="left") + ax.get_title() == "Overfitting"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("update", "loss")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "training loss", "validation loss",
    ]  # fmt: skip
    assert [t.get_text() for t in ax.texts] == [says for _, says in found.marks]
    assert [line.get_xdata()[0] for line in ax.lines[2:]] == [step for step, _ in found.marks]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.log.losses.values)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), found.log.val_losses.values)
    plt.close("all")


@pytest.mark.parametrize("step, side", [(300, "left"), (700, "right")])
def test_the_words_of_a_mark_stay_in_the_picture(step, side):
    import matplotlib.pyplot as plt

    found = diagnosis.Diagnosis(
        read_log(exact(FELL)), diagnose(exact(FELL)).verdicts, ((step, "x"),)
    )
    ax = found.plot()
    (text,) = ax.texts
    ax.figure.canvas.draw()
    in_axes = ax.transAxes.inverted().transform(text.get_window_extent())
    assert in_axes.min() > 0
    assert in_axes.max() < 1
    assert text.xy == (step, 0.97)
    assert text.get_ha() == side
    assert (text.xyann[0] < 0) == (side == "right")  # beside the line, not on it
    plt.close("all")


def test_a_picture_of_one_loss_needs_no_legend():
    import matplotlib.pyplot as plt

    assert diagnose(exact(FELL)).plot().get_legend() is None
    plt.close("all")


@pytest.mark.parametrize("top, scale", [(19.0, "linear"), (21.0, "log")])
def test_a_loss_twenty_times_its_median_is_drawn_on_a_logarithmic_scale(top, scale):
    import matplotlib.pyplot as plt

    loss = np.where(np.arange(T) == 3, top, 1 - 0.001 * (np.arange(T) % 2 == 0))
    loss = 10 * np.where(np.arange(T) == 4, 1.0, loss)
    assert diagnose(exact(loss)).plot().get_yscale() == scale
    assert diagnose(exact(np.where(np.arange(T) == 9, 0.0, loss))).plot().get_yscale() == "linear"
    plt.close("all")


def test_a_picture_leaves_out_what_is_no_number():
    import matplotlib.pyplot as plt

    rows = [{"loss": 1e120 if t == 9 else 2.0 - t / 100} for t in range(50)]
    drawn = diagnose(rows).plot().lines[0].get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [9]
    plt.close("all")


def test_a_diagnosis_as_numbers_and_as_text_says_all_of_it():
    found = diagnose(CASES[OVERFITTING])
    said = found.to_dict()
    assert said["confidence"] == found.confidence == found.verdicts[0].confidence
    assert said["marks"] == [{"step": s, "says": w} for s, w in found.marks]
    assert said["points"]["loss"] == T
    assert said["points"]["val_loss"] == EVALS
    assert said["notes"] == list(found.log.notes)
    first = said["verdicts"][0]
    assert first["evidence"] == list(found.verdicts[0].evidence)
    assert first["advice"] == found.verdicts[0].advice
    text = str(found).splitlines()
    assert text[0] == f"overfitting (confidence {found.confidence:.0%})"
    assert text[1] == f"  - {found.verdicts[0].evidence[0]}"
    assert f"  next: {found.verdicts[0].advice}" in text


# --- What cannot be said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [{"loss": 1.0}],
        [{"loss": 1.0}] * 100,
        [{"loss": 0.0}] * 100,
        [{"loss": float(t)} for t in range(7, 0, -1)],
        [{"step": 3, "val_loss": 1.0}] * 5,
    ],
)
def test_too_little_is_not_enough(rows):
    found = diagnose(rows)
    assert found.symptom == NOT_ENOUGH
    assert len(found.verdicts) == 1


def test_what_is_not_logged_is_said_and_not_guessed():
    found = diagnose(CASES[RESTART_ARTEFACTS][["step", "loss"]])
    text = " ".join(found.verdicts[0].evidence)
    for word in ("learning rate", "gradient norm", "validation loss"):
        assert word in text
    assert not {RESTART_ARTEFACTS, DECAYED_TOO_EARLY, OVERFITTING, NEVER_DECAYED} & set(
        symptoms(found)
    )
    whole = diagnose(CASES[NOTHING_WRONG].assign(grad_norm=1.0))
    assert "Not looked at" not in str(whole)


def test_a_log_without_a_loss_is_an_error():
    with pytest.raises(LogError, match="no loss was recognised"):
        diagnose(pd.DataFrame({"step": [1, 2], "speed": [1.0, 2.0]}))


# --- Invariances -----------------------------------------------------------------------------------

LEARNING = [s for s in SYMPTOMS if s not in (NOT_ENOUGH,)]


@given(st.sampled_from(LEARNING), st.floats(-8, 8))
@settings(max_examples=60, deadline=None)
def test_units_of_the_loss_do_not_matter(symptom, power):
    table = CASES[symptom]
    columns = [c for c in ("loss", "val_loss", "grad_norm") if c in table]  # a gradient scales too
    scaled = table.assign(**{c: table[c] * 10.0**power for c in columns})
    assert symptoms(diagnose(scaled)) == symptoms(diagnose(table))
    assert diagnose(scaled).confidence == pytest.approx(diagnose(table).confidence, abs=0.02)


@given(st.sampled_from(LEARNING), st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(-6, 6))
@settings(max_examples=60, deadline=None)
def test_units_of_steps_and_rates_do_not_matter(symptom, scale, first, power):
    table = CASES[symptom]
    moved = table.assign(step=first + scale * table["step"])
    if "lr" in table:
        moved = moved.assign(lr=table["lr"] * 10.0**power)
    assert symptoms(diagnose(moved)) == symptoms(diagnose(table))
    assert diagnose(moved).confidence == pytest.approx(diagnose(table).confidence, abs=0.03)


@given(st.sampled_from(LEARNING), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_rows_does_not_matter(symptom, seed):
    table = CASES[symptom]
    shuffled = table.sample(frac=1, random_state=seed)
    if symptom != DIVERGING:  # the first value that is not finite is the first of the file
        assert symptoms(diagnose(shuffled)) == symptoms(diagnose(table))


@pytest.mark.parametrize("symptom", LEARNING)
@pytest.mark.parametrize("every", [5, 10])
def test_a_log_of_every_tenth_update_says_the_same(symptom, every):
    table = CASES[symptom]
    keep = (table["step"] % every == 0) | table["val_loss"].notna()
    thin = table.assign(loss=table["loss"].where(table["step"] % every == 0))[keep]
    first = symptoms(diagnose(thin))
    assert symptom in first[:1] or (symptom == WARMUP_MISSING and symptom in first)


@pytest.mark.parametrize("steps", [300, 3000, 30_000])
def test_the_length_of_the_run_does_not_matter(steps):
    for symptom, loss, lr in (
        (NOTHING_WRONG, sound, cosine),
        (RATE_TOO_LOW, lambda u: 2.3 - 0.3 * u, cosine),
        (DECAYED_TOO_EARLY, lambda u: 1.2 + 1.1 / (1 + 20 * np.minimum(u, 0.2)), cut),
    ):
        assert diagnose(made(loss, lr=lr, steps=steps)).symptom == symptom


@pytest.mark.parametrize("symptom", [NOTHING_WRONG, RATE_TOO_LOW, RATE_TOO_HIGH])
def test_a_validation_loss_alone_is_enough(symptom):
    table = CASES[symptom][["step", "val_loss"]].dropna()
    assert diagnose(table).symptom == symptom


def test_a_long_log_is_thinned_and_says_the_same(monkeypatch):
    table = made(sound, steps=300_000)
    whole = diagnose(table)
    monkeypatch.setattr(logs, "MOST", 1000)
    log = read_log(table)
    assert len(log.losses) <= 2000
    assert log.losses.count == 300_000
    thin = diagnose(log)
    assert symptoms(thin) == symptoms(whole) == [NOTHING_WRONG]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"loss": st.one_of(st.floats(), st.none())},
            optional={
                "step": st.floats(allow_nan=False), "val_loss": st.floats(), "lr": st.floats(),
                "grad_norm": st.floats(), "update_ratio": st.floats(),
            },
        ),
        min_size=1, max_size=40,
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_numbers_get_an_answer_or_a_clear_error(rows):
    try:
        found = diagnose(rows)
    except LogError:
        return
    assert found.symptom in SYMPTOMS
    json.dumps(found.to_dict(), allow_nan=False)
    assert all(0 <= verdict.confidence <= 1 for verdict in found.verdicts)


# --- What comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_diagnosis_is_text_json_and_a_picture(symptom):
    import matplotlib.pyplot as plt

    found = diagnose(CASES[symptom])
    assert str(found) == found.summary()
    assert found.summary().startswith(found.symptom)
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["symptom"] == found.symptom
    assert [v["symptom"] for v in again["verdicts"]] == symptoms(found)
    confidences = [v.confidence for v in found.verdicts]
    assert confidences == sorted(confidences, reverse=True)
    ax = found.plot()
    assert len(ax.lines) >= 1 + len(found.marks)
    _, other = plt.subplots()
    assert found.plot(other) is other
    plt.close("all")


def test_a_diagnosis_can_be_pickled():
    found = diagnose(CASES[RATE_TOO_LOW])
    assert pickle.loads(pickle.dumps(found)).to_dict() == found.to_dict()


def test_a_run_is_diagnosed():
    from lrteach import data, train
    from lrteach.models import linear_model
    from lrteach.optimizers import sgd
    from lrteach.schedules import cosine as decay

    runs = {
        lr: train(
            linear_model(64, 10), data.digits8(), sgd, lr, schedule=decay, steps=300,
            batch_size=50, eval_every=10, progress=False,
        )
        for lr in (1e-3, 1e9)
    }  # fmt: skip
    assert diagnose(runs[1e-3]).symptom == RATE_TOO_LOW
    assert diagnose(runs[1e9]).symptom in (DIVERGING, RATE_TOO_HIGH)


# --- How often it is right -------------------------------------------------------------------------


def test_runs_that_were_held_out_are_diagnosed():
    """A few of the runs that the chapter measures with: other data and models than were used here."""
    from lrteach import diagnosis_cases as cases
    from lrteach.optimizers import adam

    task = next(t for t in cases.TASKS if t.part == "held out")
    runs = cases._family(task, adam, 16) + cases._overfitted(task, adam, 16)
    assert len(runs) > 80
    assert all(case.labels and set(case.labels) <= set(SYMPTOMS) and case.why for case in runs)
    assert {RATE_TOO_LOW, RATE_TOO_HIGH, NOTHING_WRONG, OVERFITTING} <= {c.labels[0] for c in runs}
    table = cases.confusion(runs)
    assert table.to_numpy().sum() == len(runs)
    right = sum(table.loc[symptom, symptom] for symptom in table.index if symptom in table)
    assert right / len(runs) > 0.85
    both = [
        c for c in runs if {DIVERGING, RATE_TOO_HIGH} <= set(c.labels) and c.labels[0] == DIVERGING
    ]
    if both:  # one cure, so one is as good as the other
        assert cases.confusion(both).loc[DIVERGING, DIVERGING] >= len(both) - 1
    blind = cases.confusion(runs, without=("lr", "val_loss"))
    assert sum(blind.loc[s, s] for s in blind.index if s in blind) < right


def test_no_data_and_no_model_are_in_both_parts():
    from lrteach.diagnosis_cases import TASKS, labelled_runs

    for part, other in (("fit", "held out"), ("held out", "fit")):
        data = {t.name.split(",")[0] for t in TASKS if t.part == part} - {"regression"}
        assert not data & {t.name.split(",")[0] for t in TASKS if t.part == other}
    shapes = {p: {str(t.model()) for t in TASKS if t.part == p} for p in ("fit", "held out")}
    assert not shapes["fit"] & shapes["held out"]
    with pytest.raises(ValueError, match="part='all' is not allowed"):
        labelled_runs("all")
    with pytest.raises(ValueError, match="only='mnist' fits none of"):
        labelled_runs("held out", "mnist")


def test_schedules_that_share_a_sweep_are_as_if_each_had_its_own():
    from lrteach import diagnosis_cases as cases
    from lrteach.optimizers import adam
    from lrteach.schedules import constant, linear
    from lrteach.sweeps import sweep

    task, lrs = cases.TASKS[6], np.array([1e-3, 1e-2])
    plans = {"a": (lrs, constant(steps=cases.STEPS)), "b": (lrs[1:], linear(steps=cases.STEPS))}
    made = cases._train(task, adam, plans, 16, seeds=1)
    for name, (rates, schedule) in plans.items():
        alone = sweep(
            task.model(), task.data(), adam, rates, schedule=schedule, steps=cases.STEPS,
            batch_size=16, eval_every=cases.EVERY, progress=False,
        )  # fmt: skip
        np.testing.assert_array_equal(made[name].losses, alone.losses)
        np.testing.assert_array_equal(made[name].val_losses, alone.val_losses)
