"""What is wrong with a training run, from its log alone.

    found = diagnose("metrics.csv")      # or a Run, a DataFrame, a list of records
    print(found)                         # symptoms, evidence, the next experiment
    found.symptom, found.confidence      # the likeliest one
    found.plot()

How often this is right was measured on runs whose trouble is known: the chapter on diagnosis has
the table, `lrteach.diagnosis_cases` the runs. What a log does not hold is not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from lrteach.curve_shapes import HUGE, POINTS, WINDOWS, Look, noise, shape
from lrteach.logs import Log, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Diagnosis", "SYMPTOMS", "Verdict", "diagnose"]

RATE_TOO_LOW = "rate too low"
RATE_TOO_HIGH = "rate too high"
DIVERGING = "diverging"
WARMUP_MISSING = "warm-up missing"
DECAYED_TOO_EARLY = "decayed too early"
NEVER_DECAYED = "decayed too late or never"
EXPLODING_GRADIENTS = "exploding gradients"
VANISHING_GRADIENTS = "vanishing gradients"
OVERFITTING = "overfitting"
RESTART_ARTEFACTS = "restart artefacts"
NOTHING_WRONG = "nothing wrong found"
NOT_ENOUGH = "not enough evidence"
SYMPTOMS = (
    RATE_TOO_LOW, RATE_TOO_HIGH, DIVERGING, WARMUP_MISSING, DECAYED_TOO_EARLY, NEVER_DECAYED,
    EXPLODING_GRADIENTS, VANISHING_GRADIENTS, OVERFITTING, RESTART_ARTEFACTS, NOTHING_WRONG, NOT_ENOUGH,
)  # fmt: skip

# Every limit of this module. "Fit" are the runs of `labelled_runs("fit")`; a range is that of the
# middle 80 % of those runs.
MENTIONED = 0.35  # odds below it are not mentioned: the likeliest of three has more
LEFT = 0.8  # sure that a loss which ends before its table was NaN: the logging may have stopped
RISEN = 0.05  # ends this share of the start above it: diverging. Runs that learn end below
EARLY_SHARE = 0.4  # of the run below SMALL: fit, early cuts 0.8, cosines and cooldowns at most 0.15
SMALL = 0.05  # of the highest rate: what is done below it is little
OVERFIT = 0.10  # validation loss above its minimum, as in the definition of the cases
OVERFIT_NOISE = 3.0  # and at least so many times what it goes up and down
RESTART = 2.0  # the rate rises by this factor between two values, and was as high before
RESTART_JUMP = 0.05  # and the loss rises by this share of its fall
LARGE = 0.5  # of the highest rate: the last value is above it where nothing was decayed
QUIET = 0.01  # of the fall, between batches: fit, no run that a cooldown mends varies less
JUMP = 0.5  # the loss rises by this share of its start in the first twentieth
WARMED = 0.4  # of such runs a warm-up helps: fit, at large constant rates, 42 of 105
AWAY = 0.1  # of the run until it is back: fit, warm-up missing 0.10 and more, other rates 0 to 0.08
HIGH_START = 2.0  # first loss over ln(classes): fit, at most 1.35 unless the weights are too large
STEEP = 5.0  # gradient over loss at the start: fit, tuned 0.4 to 2.3, badly scaled 8 to 30
GROWN = 100.0  # times its first length: fit, tuned 1.2 to 3.4
FLAT = 1e-3  # gradient over loss: fit, tuned 0.7 to 6, rate too low 0.2 to 1.8
SLOW = 1e-4  # length of an update over that of the weights; usual values are near 1e-3

ADVICE = {
    RATE_TOO_LOW: "Run again at 3 times the rate, and at 10 times; keep what ends lower.",
    RATE_TOO_HIGH: "Run again at a third of the rate, and at a tenth; keep what ends lower.",
    DIVERGING: "Run again at a tenth of the rate. If that diverges too, look at the data and at the "
    "first gradients.",
    WARMUP_MISSING: "Run again at the same rate with a warm-up over the first tenth of the run.",
    DECAYED_TOO_EARLY: "Run again and let the rate fall over the whole run: linear or cosine.",
    NEVER_DECAYED: "Go on from the last checkpoint and take the rate to zero, over a fifth of the "
    "updates so far.",
    EXPLODING_GRADIENTS: "Clip the gradient at its median length, and draw the weights in proportion "
    "to 1/√fan_in.",
    VANISHING_GRADIENTS: "Print the gradient's length for each layer; draw the weights in proportion "
    "to 1/√fan_in, or add normalisation or skip connections.",
    OVERFITTING: "Stop where the validation loss was lowest. Then try more data, weight decay or a "
    "smaller model; the rate is not the cure.",
    RESTART_ARTEFACTS: "Run again with one cycle of the same length and compare the ends, not the jumps.",
    NOTHING_WRONG: "If you have a run to spare: half and twice the rate, to see that both end higher.",
    NOT_ENOUGH: "Log more: the loss of every update, or the validation loss 20 times in the run.",
}

# Log-odds of "rate too low" and "rate too high" against a sound rate, from the features of `shape`
# in its order and a constant. A logistic regression on the runs of the part "fit", every kind of
# run with the same weight, sampled in three ways each.
WEIGHTS = {
    "validation": (
        (-1.66, -1.85, 1.08, -3.15, -6.42, -1.10, -6.07),
        (-2.36, -2.25, 5.37, 0.27, -3.03, 0.30, 9.03),
    ),
    "batches": (
        (-2.81, -0.69, 0.27, -0.06, 1.46, -1.42, -4.72, -4.60, 3.41, -3.42),
        (-1.86, -0.21, 0.59, -0.18, -0.86, 0.49, -0.42, 3.21, 3.98, 4.25),
    ),
}
# The same of "never decayed" against a sound rate, where the rate is still large at the end: a
# cooldown gains where the loss of the batches still falls, and where their noise is large beside
# what was learned.
COOLDOWN = {"late": 4.7, "noise": -3.6, "spread": 2.5, "constant": -0.8}


@dataclass(frozen=True)
class Verdict:
    """A symptom, how sure it is (0 to 1), the evidence in sentences, and what to try next."""

    symptom: str
    confidence: float
    evidence: tuple[str, ...]
    advice: str


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found in a log: `verdicts`, most confident first, at least one.

    `marks` are the places that the evidence speaks of: (step, words).
    """

    log: Log = field(repr=False)
    verdicts: tuple[Verdict, ...]
    marks: tuple[tuple[float, str], ...] = ()

    @property
    def symptom(self) -> str:
        """The first verdict's symptom."""
        return self.verdicts[0].symptom

    @property
    def confidence(self) -> float:
        """The first verdict's confidence."""
        return self.verdicts[0].confidence

    def summary(self) -> str:
        """All verdicts as text, and what could not be read of the log."""
        lines = []
        for verdict in self.verdicts:
            lines.append(f"{verdict.symptom} (confidence {verdict.confidence:.0%})")
            lines += [f"  - {sentence}" for sentence in verdict.evidence]
            lines.append(f"  next: {verdict.advice}")
        lines += [f"note: {note}" for note in self.log.notes]
        return "\n".join(lines)

    __str__ = summary

    def to_dict(self) -> dict[str, Any]:
        """The same as numbers and text that JSON can hold."""
        return {
            "symptom": self.symptom,
            "confidence": self.confidence,
            "verdicts": [asdict(v) | {"evidence": list(v.evidence)} for v in self.verdicts],
            "marks": [{"step": step, "says": says} for step, says in self.marks],
            "points": {name: one.count for name, one in self.log.series.items()},
            "notes": list(self.log.notes),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses, and where the evidence is. Returns the axes."""
        from lrteach import plots

        if ax is None:
            _, ax = plots.figure(f"{self.symptom[0].upper()}{self.symptom[1:]}")
        for name, words, color, style in (
            ("loss", "training loss", plots.MUTED, {"lw": 0.8, "alpha": 0.7}),
            ("val_loss", "validation loss", plots.PALETTE[0], {"marker": "o", "ms": 3}),
        ):
            one = self.log.series.get(name)
            if one is not None and len(one):
                shown = np.where(np.abs(one.values) < HUGE, one.values, np.nan)
                ax.plot(one.steps, shown, color=color, label=words, **style)
        values = np.concatenate(
            [s.values for n, s in self.log.series.items() if n in ("loss", "val_loss")]
            or [np.ones(1)]
        )
        values = values[np.abs(values) < HUGE]
        if len(values) and values.min() > 0 and values.max() > 20 * np.median(values):
            ax.set_yscale("log")
        middle = np.mean(ax.get_xlim())
        for step, says in self.marks:
            ax.axvline(step, color=plots.ACCENT, lw=1, ls=":")
            late = step > middle  # then its words go to the left
            ax.annotate(
                says, (step, 0.97), xycoords=("data", "axes fraction"), color=plots.ACCENT,
                fontsize=9, ha="right" if late else "left", va="top", xytext=(-3 if late else 3, 0),
                textcoords="offset points",
            )  # fmt: skip
        ax.set_xlabel("update")
        ax.set_ylabel("loss")
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend()
        return ax


def diagnose(
    source: Any, columns: dict[str, str] | None = None, classes: int | None = None
) -> Diagnosis:
    """Say what is wrong with a run.

    Parameters
    ----------
    source : Log, Run, pandas.DataFrame, path, or list of dicts
        A Log as it is; the others as in `lrteach.logs.read_log`.
    columns : dict of str to str, or None
        As in `read_log`: where things are that are not recognised by their names.
    classes : int or None
        For a classifier whose loss is the mean cross-entropy in nats: how many classes there are.
        One that knows nothing has the loss ln(classes), so a first loss far above it means
        outputs, and so weights, that are too large. No other sign of that is in the loss.

    Returns
    -------
    Diagnosis

    Raises
    ------
    LogError
        The log cannot be read, or holds no loss.
    ValueError
        `classes` is no whole number above 1.
    """
    if classes is not None and not (isinstance(classes, Integral) and classes > 1):
        raise ValueError(f"classes={classes!r} is not allowed: classes must be an int above 1")
    log = source if isinstance(source, Log) else read_log(source, columns)
    with np.errstate(all="ignore"):  # a log may hold any numbers
        return _diagnosed(Look(log, classes))


def _diagnosed(look: Look) -> Diagnosis:
    reason = look.unusable()
    if reason is not None:
        found = [v for v in _gradients(look) if v.symptom == VANISHING_GRADIENTS]
        found = found or [_verdict(NOT_ENOUGH, 1.0, [reason])]
        return Diagnosis(look.log, tuple(found), tuple(look.marks))
    if look.broken:
        found = [*_broken(look), *_gradients(look), *_warmup(look)]
    else:
        found = []
        for rule in (_diverging, _gradients, _overfitting, _restarts, _too_early, _warmup):
            found += rule(look)
        found += _low_or_high(look, {verdict.symptom for verdict in found})
    found.sort(key=lambda verdict: -verdict.confidence)
    if not found:
        found = [_verdict(NOT_ENOUGH, 0.5, ["The curve fits no symptom, and a sound run neither."])]
    if missing := look.missing():
        found[0] = replace(found[0], evidence=(*found[0].evidence, *missing))
    return Diagnosis(look.log, tuple(found), tuple(look.marks))


# --- Rules -----------------------------------------------------------------------------------------


def _verdict(symptom: str, confidence: float, evidence: Iterable[str]) -> Verdict:
    return Verdict(
        symptom, round(float(min(confidence, 0.99)), 2), tuple(evidence), ADVICE[symptom]
    )


def _sure(ratio: float) -> float:
    """Confidence in what exceeds its limit by a factor: 0.5 at 1, 0.8 at 2, 0.94 at 4."""
    return ratio**2 / (1 + ratio**2) if ratio < 1e6 else 1.0


def _broken(look: Look) -> list[Verdict]:
    """A loss that is not finite, or that ends where other columns go on."""
    at = look.main.broken_at
    if at is None:
        at = look.main.lost_at
        assert at is not None  # or it would not be broken
        look.marks.append((at, "no loss any more"))
        says = (
            f"From step {at:g} on there is no loss, which nearly every row before has: a table "
            "looks so where the loss is NaN."
        )
        return [_verdict(DIVERGING, LEFT, [says])]
    after = int((look.main.steps > at).sum())
    says = f"The loss is not finite at step {at:g}"
    if math.isfinite(at):
        look.marks.append((at, "not finite"))
    return [
        _verdict(DIVERGING, 0.7, [f"{says}; {after} values after it are."])
        if after
        else _verdict(DIVERGING, 1.0, [f"{says}, and no value follows that is."])
    ]


def _diverging(look: Look) -> list[Verdict]:
    """The loss ends above its start: both losses, so that it is neither noise nor overfitting."""
    says, least = [], math.inf
    for one in (look.loss, look.val):
        if len(one) < POINTS:
            continue
        start = one.values[0] if one is look.val else max(one.values[0], np.median(one.values[:3]))
        means, errors = look.windows(one)
        end = means[-2:].mean()
        rise = (end - start) / max(abs(start), 1e-300)
        if rise < RISEN or end - start < 3 * errors[-2:].mean() * (one is look.loss):
            return []
        of = "training" if one is look.loss else "validation"
        says.append(f"The {of} loss is at {end:.3g} in the last tenth, {rise:.0%} above its start.")
        least = min(least, rise)
    return [_verdict(DIVERGING, _sure(2 * least / RISEN), says)] if says else []


def _gradients(look: Look) -> list[Verdict]:
    """Vanishing and exploding gradients: their length over the loss, which has the loss's units.

    Where all weights are too large the loss may be as steep as it is high; `classes` tells.
    """
    g, curve = look.grads, look.main
    start = abs(np.median(curve.values[:3])) if len(curve) else 0.0
    if look.classes and curve.values[:1].sum() > HIGH_START * math.log(look.classes):
        high = curve.values[0] / math.log(look.classes)
        says = (
            f"The first loss is {high:.3g} times ln {look.classes}, which knowing nothing costs: "
            "the outputs are too large from the start, and the gradients with them."
        )
        return [_verdict(EXPLODING_GRADIENTS, _sure(2 * high / HIGH_START), [says])]
    if len(g) < 2 and g.broken_at is None:
        return []
    found = []
    first = np.median(g.values[: max(len(g) // 100, 3)]) if len(g) else 0.0
    steep = first / start if start > 0 else 0.0
    grown = g.values.max() / first if first > 0 else 0.0
    if steep > STEEP:
        says = f"The first gradients are {steep:.3g} times the loss; {STEEP:g} is much."
        found.append(_verdict(EXPLODING_GRADIENTS, _sure(2 * steep / STEEP), [says]))
    elif grown > GROWN and g.values.max() > STEEP * start:  # not from a plateau
        at = g.steps[np.argmax(g.values)]
        look.marks.append((at, "longest gradient"))
        says = f"At step {at:g} the gradient is {grown:.3g} times as long as at first."
        found.append(_verdict(EXPLODING_GRADIENTS, 0.9 * _sure(grown / GROWN), [says]))
    level = np.median(np.abs(curve.values)) if len(curve) >= POINTS else 0.0
    if len(g) >= POINTS and level > 0:
        early = g.values[look.share(g.steps) <= 0.1]
        flat = np.median(early if len(early) else g.values) / level
        calm = curve.values.max() < 2 * abs(curve.values[0])  # and not because the loss is huge
        if flat < FLAT and calm:
            says = f"In the first tenth of the run the gradient is {flat:.1g} times the loss."
            found.append(_verdict(VANISHING_GRADIENTS, _sure(2 * FLAT / max(flat, 1e-12)), [says]))
    return found


def _overfitting(look: Look) -> list[Verdict]:
    """The validation loss rises while the training loss falls. A large rate lets both be high."""
    val, loss = look.val, look.loss
    if len(val) < POINTS or len(loss) < POINTS:
        return []
    best = int(np.argmin(val.values))
    low, end = val.values[best], np.median(val.values[-3:])
    rise = (end - low) / max(abs(low), 1e-300)
    after = np.diff(val.values[best:])
    wobble = np.sqrt(-after[after < 0]).mean() ** 2 if (after < 0).any() else 0.0
    if rise < OVERFIT or end - low < OVERFIT_NOISE * wobble or len(after) < 3:
        return []
    means, errors = look.windows(loss)
    k = min(int(look.share(val.steps[best]) * WINDOWS), WINDOWS - 3)
    fell = means[k] - means[-2:].mean()
    calm = means[k:].max() <= loss.values[0] + 3 * errors[k:].max()
    if fell <= 2 * (errors[k] + errors[-2:].mean()) or not calm:
        return []
    look.marks.append((val.steps[best], "lowest validation loss"))
    says = (
        f"The validation loss was lowest at step {val.steps[best]:g} and ends {rise:.0%} higher; "
        f"meanwhile the training loss fell from {means[k]:.3g} to {means[-2:].mean():.3g}."
    )
    return [_verdict(OVERFITTING, _sure(2 * rise / OVERFIT), [says])]


def _restarts(look: Look) -> list[Verdict]:
    """The loss jumps up where the logged rate does, which had been as high before."""
    r = look.rates
    if len(r) < POINTS or len(look.main) < POINTS:
        return []
    positive = np.maximum(r.values, 1e-300)
    before = np.maximum.accumulate(r.values)
    rises = (r.values[1:] > RESTART * positive[:-1]) & (before[:-1] > RESTART * positive[:-1])
    if not rises.any():
        return []
    _, features = shape(look, look.main)
    x, y = look.share(look.main.steps), look.main.values
    fall = features["drop"] * abs(np.mean(y[: max(len(y) // 30, 1)]))
    jumps = []
    for at in r.steps[1:][rises]:
        u = look.share(at)
        left, right = y[(x > u - 0.05) & (x <= u)], y[(x > u) & (x <= u + 0.08)]
        if len(left) >= 2 and len(right) >= 2:
            error = math.hypot(
                noise(left) / math.sqrt(len(left)), noise(right) / math.sqrt(len(right))
            )
            jumps.append((at, right.mean() - left.mean(), error))
    mean, usual = np.mean([j for _, j, _ in jumps] or 0), np.mean([e for _, _, e in jumps] or 0)
    together = mean > 2 * usual / math.sqrt(max(len(jumps), 1))
    large = [
        (at, j / fall) for at, j, e in jumps if j > RESTART_JUMP * fall and (j > 2 * e or together)
    ]
    if not large:
        return []
    look.marks += [(at, "restart") for at, _ in large]
    at, jump = max(large, key=lambda one: one[1])
    says = (
        f"The rate jumps up at step {at:g}, and the loss rises by {jump:.0%} of what it had fallen."
    )
    return [_verdict(RESTART_ARTEFACTS, _sure(2 * jump / RESTART_JUMP), [says])]


def _too_early(look: Look) -> list[Verdict]:
    """Most of the run is spent at a rate that does little."""
    if len(look.rates) < 2:
        return []
    grid = np.linspace(look.first, look.last, 1001)
    rates = look.rate_at(grid)
    peak = rates.max()
    if peak <= 0:
        return []
    above = np.flatnonzero(rates >= SMALL * peak)
    share = 1 - above[-1] / (len(grid) - 1)
    if share < EARLY_SHARE:
        return []
    at = grid[above[-1]]
    look.marks.append((at, f"rate below {SMALL:.0%} of its peak"))
    says = (
        f"From step {at:g} on, {share:.0%} of the run, the rate is below {SMALL:.0%} of its peak."
    )
    return [_verdict(DECAYED_TOO_EARLY, _sure(2 * share / EARLY_SHARE), [says])]


def _warmup(look: Look) -> list[Verdict]:
    """The loss jumps above its start in the first updates at full rate, and comes back.

    Too high a rate does the same, so this is a second opinion, as sure as its share of such runs.
    """
    curve = look.loss if len(look.loss) >= 5 * WINDOWS else look.main
    if len(curve) < POINTS:
        return []
    if len(look.rates) >= 2:
        rates = look.rate_at(np.linspace(look.first, look.last, 1001))
        if rates[:5].max() < LARGE * rates.max():
            return []
    x, y = look.share(curve.steps), curve.values
    head = y[x <= 0.05]
    if not len(head):
        return []
    start, top, at = y[0], head.max(), int(np.argmax(head))
    jump = (top - start) / max(abs(start), 1e-300)
    means, _ = look.windows(curve)
    under = np.flatnonzero(means[1:] <= start)
    away = (under[0] + 1) / WINDOWS if len(under) else 1.0
    if jump < JUMP or away < AWAY or means[-1] > (start + top) / 2:
        return []
    look.marks.append((curve.steps[at], "jump"))
    says = (
        f"In the first twentieth the loss rises from {start:.3g} to {top:.3g}, at full rate, and is "
        f"not back before {away:.0%} of the run."
    )
    doubt = "A curve cannot show what helps: of such runs two in five ended lower with a warm-up."
    return [_verdict(WARMUP_MISSING, WARMED, [says, doubt])]


def _low_or_high(look: Look, names: set[str]) -> list[Verdict]:
    """The shape of the curve: too low, too high, or as tuned runs have it."""
    curve = look.val if len(look.val) >= POINTS and OVERFITTING not in names else look.main
    if names & {DIVERGING, VANISHING_GRADIENTS, RESTART_ARTEFACTS, DECAYED_TOO_EARLY}:
        return []  # they bend the curve in their own ways
    kind, f = shape(look, curve)
    low, high = np.exp(np.clip(np.array(WEIGHTS[kind]) @ [*f.values(), 1.0], -50, 50))
    low, fine, high = np.array([low, 1.0, high]) / (1.0 + low + high)
    never, says_never = _never(look)
    never, fine = fine * never, fine * (1 - never)
    of = "validation" if kind == "validation" else "training"
    spent = "sum of all rates" if len(look.rates) else "run"
    first = f"After a tenth of the {spent}, {f['first']:.0%} of the fall of the {of} loss was made"
    found = []
    if low > MENTIONED:
        says = [first + ("; tuned runs have made 60 to 90 %." if f["first"] < 0.6 else ".")]
        if f["back"] < -2.5:
            says.append("After a fifth it rises nowhere: no sign of a rate that is large.")
        if f["late"] > 0.05:
            says.append(f"The second half still brought {f['late']:.0%} of the fall.")
        ratios = look.log.update_ratios.values
        if len(ratios):
            usual = np.median(ratios)
            low = (1 + low) / 2 if usual < SLOW else low
            says.append(f"An update is {usual:.1g} of the weights; 1e-3 is usual.")
        found.append(_verdict(RATE_TOO_LOW, low, says))
    if high > MENTIONED:
        size = 10 ** f["rough"]
        says = [
            f"After a fifth the loss moves up and down by {size:.0%} of its fall between looks."
        ]
        if f["jump"] > -1:
            says.append(f"In the first tenth it jumps {10 ** f['jump']:.0%} above its start.")
        if f["late"] < 0.1:
            says.append(f"The second half brought {max(f['late'], 0):.0%} of the fall: a plateau.")
        found.append(_verdict(RATE_TOO_HIGH, high, says))
    if never > MENTIONED:
        found.append(_verdict(NEVER_DECAYED, never, says_never))
    if fine > MENTIONED and not names:
        early = f["first"] < 0.6
        usual = (
            "; most tuned runs have made 60 to 90 %, but the rest fits."
            if early
            else ", as in tuned runs."
        )
        says = [first + usual, f"The loss fell by {f['drop']:.0%} of its start."]
        found.append(_verdict(NOTHING_WRONG, fine, says))
    return found


def _never(look: Look) -> tuple[float, list[str]]:
    """How sure it is that a sound rate should have been decayed, and why: (0 to 1, sentences)."""
    if len(look.rates) < 2 or len(look.loss) < POINTS:
        return 0.0, []
    rates = look.rate_at(np.linspace(look.first, look.last, 1001))
    if rates.max() <= 0 or rates[-20:].mean() < LARGE * rates.max():
        return 0.0, []
    _, f = shape(look, look.loss)
    if 10 ** f["spread"] < QUIET:
        return 0.0, []  # there is no noise that a cooldown could take out
    odds = COOLDOWN["constant"] + sum(
        COOLDOWN[name] * f[name] for name in ("late", "noise", "spread")
    )
    says = [
        f"At the end the rate is at {rates[-20:].mean() / rates.max():.0%} of its highest value.",
        f"Losses of single batches differ by {10 ** f['spread']:.0%} of the whole fall, of which the "
        f"second half brought {f['late']:.0%}: a cooldown gains most in such runs.",
    ]
    return 1 / (1 + math.exp(-np.clip(odds, -50, 50))), says
