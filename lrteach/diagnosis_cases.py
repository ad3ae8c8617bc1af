"""Training runs whose trouble is known, because they were made to have it and compared with twins.

    cases = labelled_runs("held out")            # a list of Case: a log and what is wrong with it
    table = confusion(cases)                     # what `diagnose` says of them

Nobody looks at a curve to label it. A rate is too low or too high by the sweep that found the best
one; a decay came too early, or never, if a twin with another schedule ended lower; and so on: each
recipe below says by which comparison. Runs in between, of which neither is clearly true, are left
out. The runs of the part "fit" were used to choose the thresholds of `lrteach.diagnosis`; those
held out are of other data and other models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from lrteach import data
from lrteach.diagnosis import (
    DECAYED_TOO_EARLY,
    DIVERGING,
    EXPLODING_GRADIENTS,
    NEVER_DECAYED,
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
from lrteach.logs import Log, Series
from lrteach.models import initialise, linear_model, mlp
from lrteach.optimizers import adam, heavy_ball, rmsprop, sgd
from lrteach.rules import Hyper, Rule
from lrteach.schedules import Schedule, constant, cosine, linear, multistep, warm_restarts, warmup
from lrteach.sweeps import sweep

if TYPE_CHECKING:
    import pandas

__all__ = ["Case", "confusion", "labelled_runs", "sampled"]

STEPS = 240
EVERY = 12  # updates between two measurements of the validation loss
END = 36  # updates whose mean loss is that of the end
WARM = 36  # updates of warm-up of a twin
RATES = {  # from far too small to divergence, on every task
    sgd: np.geomspace(1e-3, 30, 16),
    heavy_ball: np.geomspace(1e-4, 3, 16),
    adam: np.geomspace(1e-5, 1, 16),
    rmsprop: np.geomspace(1e-5, 1, 16),
}
# Shares of what the best run gained. Above the first a run has lost, below the second it has not.
LOST, NOT_LOST = 0.10, 0.03
ONE_CURE = {DIVERGING, RATE_TOO_HIGH}  # a smaller rate
COOLED = 0.05  # and what a cooldown must gain, to say that it was missing


# name: (rates, schedule)
Plans: TypeAlias = Mapping[Any, tuple[np.ndarray, Schedule]]


@dataclass(frozen=True, eq=False)
class Case:
    """A run and what is wrong with it: `labels`, any of which `diagnose` may put first.

    `why` is the comparison that the labels come from, as a sentence with its number.
    """

    log: Log
    labels: tuple[str, ...]
    task: str
    recipe: str
    why: str
    classes: int | None  # None for a regression


@dataclass(frozen=True)
class Task:
    """A model and its data."""

    name: str
    part: str
    model: Callable[[], nn.Sequential]
    data: Callable[[], Any]


# --- Data and models -------------------------------------------------------------------------------


@lru_cache
def _teacher(
    inputs: int, width: int, activation: Callable[[np.ndarray], np.ndarray], noise: float, seed: int
) -> SimpleNamespace:
    """A regression: the outputs of a random network, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2000, inputs))
    y = activation(x @ rng.normal(size=(inputs, width)) / np.sqrt(inputs)) @ rng.normal(size=width)
    y = (y - y.mean()) / y.std() + noise * rng.normal(size=len(y))
    return _parts(x.astype(np.float32), y.astype(np.float32))


@lru_cache
def _letters(context: int = 3, count: int = 4000) -> SimpleNamespace:
    """The next letter of Moby-Dick after `context` letters, each one of 27 (one-hot)."""
    text = data.moby_dick().lower()[20_000 : 20_000 + count + context]
    codes = np.array([ord(c) - 96 if "a" <= c <= "z" else 0 for c in text])
    x = np.concatenate(
        [np.eye(27, dtype=np.float32)[codes[i : i + count]] for i in range(context)], axis=1
    )
    return _parts(x, codes[context:].astype(np.int64))


def _parts(x: np.ndarray, y: np.ndarray) -> SimpleNamespace:
    a, b = int(0.8 * len(x)), int(0.9 * len(x))
    return SimpleNamespace(
        x_train=x[:a], y_train=y[:a], x_val=x[a:b], y_val=y[a:b], x_test=x[b:], y_test=y[b:]
    )


def _relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0)


TASKS = [
    Task("mnist1d, ReLU 32", "fit", partial(mlp, (40, 32, 10)), lru_cache(data.mnist1d)),
    Task("mnist1d, tanh 24-24", "fit", partial(mlp, (40, 24, 24, 10), "tanh"), lru_cache(data.mnist1d)),
    Task("mnist1d, linear", "fit", partial(linear_model, 40, 10), lru_cache(data.mnist1d)),
    Task("spambase, ReLU 16", "fit", partial(mlp, (57, 16, 2)), lru_cache(data.spambase)),
    Task("spambase, linear", "fit", partial(linear_model, 57, 2), lru_cache(data.spambase)),
    Task("regression, tanh 20", "fit", partial(mlp, (12, 20, 1), "tanh"), partial(_teacher, 12, 8, np.tanh, 0.2, 0)),
    Task("digits8, ReLU 40", "held out", partial(mlp, (64, 40, 10)), lru_cache(data.digits8)),
    Task("digits8, tanh 20-20-20", "held out", partial(mlp, (64, 20, 20, 20, 10), "tanh"), lru_cache(data.digits8)),
    Task("letters, ReLU 32", "held out", partial(mlp, (81, 32, 27)), _letters),
    Task("letters, linear", "held out", partial(linear_model, 81, 27), _letters),
    Task("regression, ReLU 24-24", "held out", partial(mlp, (8, 24, 24, 1)), partial(_teacher, 8, 30, _relu, 0.1, 1)),
]  # fmt: skip


# --- Recipes ---------------------------------------------------------------------------------------


class _Planned(Rule):
    """A rule whose "rate" is the number of a plan, 1, 2, …: a row of rates, one for each update.

    So runs under different schedules go through one sweep, which costs hardly more than the longest.
    """

    def __init__(self, rule: Rule, plans: np.ndarray) -> None:
        super().__init__(rule.formula, rule.layerwise)
        self.plans = torch.from_numpy(plans)

    def update(
        self,
        theta: Any,
        g: Any,
        slots: Any,
        t: int,
        lr: Any,
        hyper: Hyper,
        *,
        runs: bool = False,
        **more: Any,
    ) -> tuple[Any, ...]:
        if runs:  # not when the sweep tries the rule out
            lr = self.plans[lr.long().squeeze(1) - 1, t - 1].to(theta).unsqueeze(1)
        return super().update(theta, g, slots, t, lr, hyper, runs=runs, **more)


def _train(
    task: Task,
    rule: Rule,
    plans: Plans,
    batch: int,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    seeds: int = 2,
    **more: Any,
) -> dict[Any, SimpleNamespace]:
    """Train under several schedules: `plans` is {name: (rates (K,), schedule)}.

    Returns {name: what a sweep has, and its `lrs` and `factors`}.
    """
    factors = {name: schedule(np.arange(STEPS)) for name, (_, schedule) in plans.items()}
    table = np.concatenate([np.multiply.outer(plans[n][0], factors[n]) for n in plans])
    whole = sweep(
        model or task.model(), data or task.data(), _Planned(rule, table),
        np.arange(1, len(table) + 1), seeds=seeds, steps=STEPS, batch_size=batch, eval_every=EVERY,
        workers=1, progress=False, **more,
    )  # fmt: skip
    results, first = {}, 0
    for name, (lrs, _) in plans.items():
        rows = slice(first, first + len(lrs))
        measured = {
            what: getattr(whole, what)[rows]
            for what in ("losses", "val_losses", "grad_norms", "diverged", "updates")
        }
        results[name] = SimpleNamespace(
            lrs=lrs, factors=factors[name], eval_steps=whole.eval_steps, **measured
        )
        first += len(lrs)
    return results


def _ends(result: SimpleNamespace) -> np.ndarray:
    """Mean training loss of the last END updates, (K, S); infinite for a diverged run."""
    return np.where(result.diverged, np.inf, result.losses[:, :, -END:].mean(axis=2))


def _finite(ends: np.ndarray) -> np.ndarray:
    """Infinite ends as very large numbers, whose differences are numbers."""
    return np.minimum(ends, 1e30)


def _gain(result: SimpleNamespace, twin: SimpleNamespace, total: float) -> np.ndarray:
    return (_finite(_ends(result)) - _finite(_ends(twin))) / total


def _family(task: Task, rule: Rule, batch: int) -> list[Case]:
    """The rates of one model under three schedules, and what else one learns from the best one.

    - Too low, too high: the median run ends LOST above the best rate of the same schedule, the
      rate being smaller or larger. Diverging: not finite, or it ends above its start.
    - Never decayed: the twin whose last fifth is cooled down ends COOLED lower.
    - Warm-up missing: the twin with a warm-up ends LOST lower.
    - Decayed too early: the rate falls to a hundredth after a fifth of the run, and the run ends
      LOST above the best one under a cosine.
    - Restart artefacts: warm restarts, after which the loss rises by LOST.
    - Nothing wrong: it ends less than NOT_LOST above the best one, and under a constant rate the
      twin that is cooled down ends less than NOT_LOST lower.
    """
    lrs = RATES[rule]
    high = lrs[len(lrs) * 5 // 8 :]
    plans = {
        "constant": (lrs, constant(steps=STEPS)),
        "cosine": (lrs, cosine(STEPS)),
        "cooled down": (lrs, constant(steps=STEPS * 4 // 5).then(linear(steps=STEPS // 5))),
        "warmed up": (high, warmup(WARM).then(constant(steps=STEPS))),
    }
    results = _train(task, rule, plans, batch)
    warm, plain = results.pop("warmed up"), results["constant"]
    start = plain.losses[0, :, :END].mean()  # of the smallest rate: nothing has moved yet
    best_of_all = min(np.median(_ends(r), axis=1).min() for r in results.values())
    total = start - best_of_all
    gain = _gain(plain, results["cooled down"], total)
    warm_gain = np.full(gain.shape, -np.inf)
    warm_gain[-len(high) :] = (_finite(_ends(plain))[-len(high) :] - _finite(_ends(warm))) / total
    cases = []
    for name, result in results.items():
        typical = np.median(_ends(result), axis=1)
        k0 = int(np.argmin(typical))
        for k, s in np.ndindex(result.diverged.shape):
            regret = (typical[k] - typical[k0]) / total
            loss = (_ends(result)[k, s] - typical[k0]) / total
            labels = []
            ratio = f"{lrs[k] / lrs[k0]:.2g} of the best rate, {loss:.0%} lost"
            if result.diverged[k, s] or (k > k0 and _ends(result)[k, s] > start + LOST * total):
                labels = [DIVERGING] + [RATE_TOO_HIGH] * (not result.diverged[k, s])
            elif regret > LOST and loss > LOST and k != k0:
                labels = [RATE_TOO_LOW if k < k0 else RATE_TOO_HIGH]
            if name == "constant" and warm_gain[k, s] > LOST:
                labels.insert(0, WARMUP_MISSING)
                ratio += f", {warm_gain[k, s]:.0%} better with a warm-up"
            if name == "constant" and RATE_TOO_LOW not in labels and gain[k, s] > COOLED:
                if not result.diverged[k, s]:
                    labels.append(NEVER_DECAYED)
                ratio += f", {gain[k, s]:.0%} better cooled down"
            sound = max(regret, loss) < NOT_LOST and (name != "constant" or gain[k, s] < NOT_LOST)
            if not labels and sound:
                labels = [NOTHING_WRONG]
            if labels:
                recipe = f"{rule.__name__}, {name}"
                cases.append(_case(result, k, s, labels, task, recipe, ratio))
    k0 = int(np.argmin(np.median(_ends(results["cosine"]), axis=1)))
    least = np.median(_ends(results["cosine"]), axis=1)[k0]
    near = lrs[max(k0 - 1, 0) : k0 + 2]
    other_plans: Plans = {
        "early cut": (near, multistep((STEPS // 5,), 0.01)),
        "restarts": (near, warm_restarts(STEPS, cycles=3)),
    }
    others = _train(task, rule, other_plans, batch)
    early, again = others["early cut"], others["restarts"]
    for k, s in np.ndindex(early.diverged.shape):
        loss = (_ends(early)[k, s] - least) / total
        if LOST < loss < np.inf:
            why = f"{loss:.0%} lost against the best cosine"
            recipe = f"{rule.__name__}, early cut"
            cases.append(_case(early, k, s, [DECAYED_TOO_EARLY], task, recipe, why))
    for k, s in np.ndindex(again.diverged.shape):
        if again.diverged[k, s]:
            continue
        curve = again.losses[k, s]
        cuts = [STEPS // 3 + 1, 2 * STEPS // 3 + 1]
        jumps = [curve[c : c + END // 2].mean() - curve[c - END // 2 : c].mean() for c in cuts]
        if max(jumps) > LOST * total:
            why = f"the loss rises by {max(jumps) / total:.0%} after a restart"
            recipe = f"{rule.__name__}, restarts"
            cases.append(_case(again, k, s, [RESTART_ARTEFACTS], task, recipe, why))
    return cases


def _overfitted(task: Task, rule: Rule, batch: int) -> list[Case]:
    """Overfitting: 120 examples, and the validation loss ends LOST above its minimum.

    The comparison: with all examples, the same rate and batch, it does not.
    """
    full = task.data()
    few = SimpleNamespace(**{n: getattr(full, n) for n in ("x_val", "y_val", "x_test", "y_test")})
    few.x_train, few.y_train = full.x_train[:120], full.y_train[:120]
    lrs = RATES[rule][7:13]
    plan = {"cosine": (lrs, cosine(STEPS))}
    result = _train(task, rule, plan, batch, data=few)["cosine"]
    twin = _train(task, rule, plan, batch)["cosine"]
    cases = []
    for k, s in np.ndindex(result.diverged.shape):
        here, there = result.val_losses[k, s], twin.val_losses[k, s]
        if result.diverged[k, s] or twin.diverged[k, s]:
            continue
        rise, other = here[-1] / here.min() - 1, there[-1] / there.min() - 1
        middle = min(int(result.eval_steps[np.argmin(here)]), STEPS - EVERY)
        falls = (
            result.losses[k, s][-END:].mean() < result.losses[k, s][middle : middle + EVERY].mean()
        )
        if rise > LOST and other < NOT_LOST and falls:
            why = f"validation loss {rise:.0%} above its minimum, {other:.0%} with all examples"
            recipe = f"{rule.__name__}, 120 examples"
            cases.append(_case(result, k, s, [OVERFITTING], task, recipe, why))
    return cases


def _badly_scaled(task: Task, rule: Rule, batch: int) -> list[Case]:
    """Vanishing and exploding gradients: ten layers, whose weights are drawn too small or too large.

    The comparison: drawn in proportion, the same network at the same rate ends LOST lower, and its
    first gradient is 100 times longer, or 30 times shorter.
    """
    first: Any = task.model()[0].in_features
    last = [m for m in task.model() if isinstance(m, nn.Linear)][-1].out_features
    widths = (first, *[20] * 9, last)
    activation = nn.ReLU if "ReLU" in task.name else nn.Tanh
    deep = [
        layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b, bias=False), activation())
    ]
    deep = deep[:-1]  # biases of the last layer would have a gradient whatever lies below them
    gain = np.sqrt(6) if "ReLU" in task.name else np.sqrt(3)
    lrs = RATES[rule][4:12]
    results: dict[Any, SimpleNamespace] = {}
    for scale in (0.2, 1.0, 4.0):
        model = initialise(nn.Sequential(*deep), 0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(gain * scale)
        plan = {scale: (lrs, constant(steps=STEPS))}
        results |= _train(task, rule, plan, batch, model=model, seeds=1, initialise=False)
    cases, good = [], results[1.0]
    for scale, label in ((0.2, VANISHING_GRADIENTS), (4.0, EXPLODING_GRADIENTS)):
        bad = results[scale]
        for k in range(len(lrs)):
            start = good.losses[k, 0, 0]
            total = start - _ends(good)[k, 0]
            if not total > 0.1 * start:
                continue
            factor = bad.grad_norms[k, 0, 0] / good.grad_norms[k, 0, 0]
            lost = (_ends(bad)[k, 0] - _ends(good)[k, 0]) / total
            if lost > LOST and (factor < 0.01 if scale < 1 else factor > 30):
                why = (
                    f"first gradient {factor:.1g} times that of a twin drawn in proportion, "
                    f"{lost:.0%} lost"
                )
                labels = [label] + ([DIVERGING] if bad.diverged[k, 0] else [])
                recipe = f"{rule.__name__}, weights × {scale:g}"
                cases.append(_case(bad, k, 0, labels, task, recipe, why))
    return cases


# --- All of them -----------------------------------------------------------------------------------


def labelled_runs(
    part: str = "held out", only: str = "", *, whole: bool = False, progress: bool | None = None
) -> list[Case]:
    """Make the labelled runs of a part. The same call makes the same runs.

    Parameters
    ----------
    part : "fit" or "held out"
        The data and models that the thresholds were chosen on, or the others.
    only : str
        The beginning of the tasks' names, such as "letters": the others are left out.
    whole : bool
        False: each model with one rule, some 580 runs held out, about 9 s of one core.
        True: with all four, about 35 s.
    progress : bool or None
        Show a progress bar; None shows it in a terminal only.

    Returns
    -------
    list of Case
    """
    tasks = [task for task in TASKS if task.part == part]
    if not tasks:
        raise ValueError(f"part={part!r} is not allowed: part must be 'fit' or 'held out'")
    if not any(task.name.startswith(only) for task in tasks):
        raise ValueError(f"only={only!r} fits none of {[task.name for task in tasks]}")
    plan = []
    for i, task in enumerate(tasks):
        if not task.name.startswith(only):
            continue
        for j, rule in enumerate(RATES):
            if whole or i % len(RATES) == j or (i, j) == (4, 2):  # the cheapest with two rules
                plan.append(partial(_family, task, rule, (16, 64)[(i + j) % 2]))
        if whole or i in (0, 2):
            plan += [partial(_overfitted, task, adam, 16), partial(_badly_scaled, task, adam, 16)]
        if whole:
            plan += [partial(_overfitted, task, sgd, 16), partial(_badly_scaled, task, sgd, 16)]
    bar = tqdm(plan, desc="labelled runs", disable=None if progress is None else not progress)
    return [case for make in bar for case in make()]


def sampled(log: Log, every: int = 1, without: Sequence[str] = ()) -> Log:
    """The log as it would be with every so-manieth update, and without some of its columns."""
    series = {}
    for name, one in log.series.items():
        if name not in without:
            step = 1 if name == "val_loss" else every
            steps, values = one.steps[::step], one.values[::step]
            series[name] = Series(steps, values, len(steps), one.broken_at, one.lost_at)
    return Log(log.source, series)


def confusion(
    cases: Iterable[Case], every: int = 1, without: Sequence[str] = (), classes: bool = False
) -> pandas.DataFrame:
    """What `diagnose` puts first, for each case: a table of counts.

    Parameters
    ----------
    cases : list of Case
    every, without
        How the logs are sampled first; see `sampled`.
    classes : bool
        Tell `diagnose` how many classes there are.

    Returns
    -------
    pandas.DataFrame
        One row for each first label, one column for each symptom that was put first. A case of
        two troubles is on the diagonal if the first of them is put first, or the other where both
        have one cure.
    """
    import pandas

    rows, said = [], []
    for case in cases:
        log = sampled(case.log, every, without)
        symptom = diagnose(log, classes=case.classes if classes else None).symptom
        first = case.labels[0]
        same = symptom in case.labels and {symptom, first} <= ONE_CURE
        said.append(first if same else symptom)
        rows.append(first)
    order = [s for s in SYMPTOMS if s in {*rows, *said}]
    table = pandas.crosstab(pandas.Series(rows, name="made"), pandas.Series(said, name="diagnosed"))
    return table.reindex(index=[s for s in order if s in rows], columns=order, fill_value=0)


def _case(
    result: SimpleNamespace, k: int, s: int, labels: list[str], task: Task, recipe: str, why: str
) -> Case:
    made = int(result.updates[k, s]) + bool(result.diverged[k, s])
    made = min(made, STEPS)
    steps = np.arange(made, dtype=float)
    series = {
        "loss": _series(steps, result.losses[k, s][:made]),
        "val_loss": _series(result.eval_steps.astype(float), result.val_losses[k, s]),
        "lr": _series(steps, result.lrs[k] * result.factors[:made]),
        "grad_norm": _series(steps, result.grad_norms[k, s][:made]),
    }
    y = task.data().y_train
    classes = int(y.max()) + 1 if np.issubdtype(y.dtype, np.integer) else None
    log = Log(f"{task.name}: {recipe}", series)
    return Case(log, tuple(labels), task.name, recipe, why, classes)


def _series(steps: np.ndarray, values: np.ndarray) -> Series:
    finite = np.isfinite(values)
    broken = None if finite.all() else float(steps[~finite][0])
    return Series(steps[finite], np.asarray(values, float)[finite], int(finite.sum()), broken)
