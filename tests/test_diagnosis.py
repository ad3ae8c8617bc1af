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
