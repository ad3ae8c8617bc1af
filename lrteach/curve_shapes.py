"""What `diagnose` sees of a log: a clock that runs from 0 to 1, and the features of a curve.

None of them changes with the units of the loss, of the steps or of the rate, with the length of the
run, or, as far as that can be, with how often the curve was logged.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lrteach.logs import Log, Series

__all__ = ["Look", "noise", "points", "shape", "windows"]

Floats: TypeAlias = NDArray[np.float64]

POINTS = 8  # fewer say nothing about a shape
WINDOWS = 20  # parts of a curve: enough for "after a tenth", few enough to average
HUGE = 1e100  # no loss: squares of larger ones are no numbers
STILL = 1e-6  # a loss that spans less of itself than this is constant


class Look:
    """A log on a clock that runs from 0 to 1, and the features of its curves."""

    def __init__(self, log: Log, classes: int | None = None) -> None:
        self.log, self.classes = log, classes
        self.marks: list[tuple[float, str]] = []
        self._windows: dict[int, tuple[Floats, Floats]] = {}
        self.loss, self.val = _ordered(log.losses), _ordered(log.val_losses)
        self.rates, self.grads = _ordered(log.rates), _ordered(log.grad_norms)
        # Without a training loss, the validation loss is the curve.
        self.main = self.loss if len(self.loss) >= POINTS or len(self.val) < POINTS else self.val
        steps = np.concatenate([s.steps for s in (self.loss, self.val) if len(s)] or [np.zeros(1)])
        self.first, self.last = float(steps.min()), float(steps.max())
        for one in (self.loss, self.val):
            for at in (one.broken_at, one.lost_at):
                if at is not None and math.isfinite(at):
                    self.last = max(self.last, at)

    @property
    def broken(self) -> bool:
        """Whether the loss is not finite somewhere, or missing to the end."""
        return self.main.broken_at is not None or self.main.lost_at is not None

    def unusable(self) -> str | None:
        """Why nothing can be said, or None."""
        if self.broken:
            return None
        if len(self.main) < POINTS:
            return f"Finite losses: {len(self.main)}. At least {POINTS} are needed."
        low, high = self.main.values.min(), self.main.values.max()
        if max(abs(low), abs(high)) > HUGE:
            return f"Losses of up to {max(abs(low), abs(high)):.2g} are no numbers to compute with."
        if high - low <= STILL * max(abs(low), abs(high)):
            return f"The loss is {high:.4g} all the time: nothing was learned, or nothing logged."
        if self.last <= self.first:
            return "All losses belong to one step."
        return None

    def missing(self) -> list[str]:
        """What could not be looked at, in sentences."""
        lacks = []
        if not len(self.rates):
            lacks.append("learning rate (decay and restarts)")
        if not len(self.grads):
            lacks.append("gradient norm (vanishing and exploding)")
        if len(self.val) < POINTS:
            lacks.append("validation loss (overfitting; and it shows the rate best)")
        says = [f"Not looked at, because it is not logged: {'; '.join(lacks)}."] if lacks else []
        return [*says, *self.log.notes]

    def share(self, steps: Floats | float) -> Floats:
        """How much of the run is over: 0 to 1."""
        return (np.asarray(steps, float) - self.first) / max(self.last - self.first, 1e-300)

    def clock(self, steps: Floats) -> Floats:
        """How much of the sum of all rates is spent: a decayed run ends at 1, as a constant one.

        Without rates, how much of the run is over.
        """
        if len(self.rates) < 2 or self.rates.values.max() <= 0:
            return np.clip(self.share(steps), 0, 1)
        grid = np.linspace(self.first, self.last, 2001)
        rates = np.maximum(np.interp(grid, self.rates.steps, self.rates.values), 0)
        spent = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2)])
        return np.interp(steps, grid, spent / spent[-1]) if spent[-1] > 0 else self.share(steps)

    def windows(self, series: Series) -> tuple[Floats, Floats]:
        """`windows` over the whole run of one of the losses here, computed once."""
        if id(series) not in self._windows:
            self._windows[id(series)] = windows(self.share(series.steps), series.values)
        return self._windows[id(series)]

    def rate_at(self, steps: Floats) -> Floats:
        """The rates at some steps."""
        return np.interp(steps, self.rates.steps, self.rates.values)


def _ordered(series: Series) -> Series:
    """By step, whatever the order of the log; by row where all steps are the same."""
    keep = np.isfinite(series.steps)
    series = replace(series, steps=series.steps[keep], values=series.values[keep])
    if len(series) < 2:
        return series
    steps = series.steps if np.ptp(series.steps) > 0 else np.arange(len(series), dtype=float)
    order = np.argsort(steps, kind="stable")
    return replace(series, steps=steps[order], values=series.values[order])


def noise(values: Floats) -> float:
    """How much values change beside their trend: from second differences, outliers cut at 3 σ."""
    if len(values) < 4:
        return 0.0
    square = np.diff(values, 2) ** 2
    usual = np.median(square) / 0.455  # the median of a squared normal number
    return math.sqrt(np.mean(np.minimum(square, 9 * usual)) / 6) if usual > 0 else 0.0


def windows(clock: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Means over WINDOWS equal parts of the clock, and their standard errors; gaps interpolated."""
    part = np.minimum((clock * WINDOWS).astype(int), WINDOWS - 1)
    means, errors, of_all = np.full(WINDOWS, np.nan), np.zeros(WINDOWS), noise(values)
    for k in range(WINDOWS):
        here = values[part == k]
        if len(here):
            means[k] = here.mean()
            errors[k] = (noise(here) if len(here) >= 5 else of_all) / math.sqrt(len(here))
    there = np.flatnonzero(np.isfinite(means))
    every = np.arange(WINDOWS)
    return np.interp(every, there, means[there]), np.interp(every, there, errors[there])


def points(clock: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Single values, nearest to WINDOWS + 1 equal distances on the clock: they keep their ups and
    downs, however often the curve was sampled.
    """
    at = np.linspace(0, 1, WINDOWS + 1)
    after = np.clip(np.searchsorted(clock, at), 1, len(clock) - 1)
    chosen = np.unique(after - (at - clock[after - 1] < clock[after] - at))
    return clock[chosen], values[chosen]


def shape(look: Look, series: Series) -> tuple[str, dict[str, float]]:
    """Features of a curve that do not change with its units, its length or how often it is logged.

    Returns (kind, features): "validation" for a curve without the noise of batches, or "batches".
    """
    clock, values = look.clock(series.steps), series.values
    means, errors = windows(clock, values)
    start = values[0]  # one batch, but before training they differ little
    level, low = abs(start) or 1.0, means.min()
    fall = max(start - low, 1e-9 * level)
    later = values[clock > 0.3]
    wobble = noise(later if len(later) >= 4 else values)
    head = values[clock <= 0.1]
    jump = head.max() - start if len(head) else 0.0
    if series is look.val:
        at, single = points(clock, values)
        moves = np.diff(single[at >= 0.2])
    else:  # moves of the means, less what noise does to means
        moves = np.diff(means[4:])
        extra = moves**2 - 2 * (errors[5:] ** 2 + errors[4:-1] ** 2)
        moves = np.sign(moves) * np.sqrt(np.maximum(extra, 0))
        jump -= 3 * wobble
    count = max(len(moves), 1)
    features = {
        # Share of the fall made after a tenth of the clock: little if the rate is small.
        "first": float(np.clip((start - means[1]) / fall, -1, 1)),
        # Share of the fall made in the second half: much if it is still going on.
        "late": float(np.clip((means[9:11].mean() - means[-2:].mean()) / fall, -1, 1)),
        # Mean size of the moves after a fifth, over the fall. Large rates move to and fro.
        "rough": _log(np.abs(moves).sum() / count / fall, -3.5, 1),
        # The same of moves upwards only. Small rates go down all the time.
        "back": _log(moves[moves > 0].sum() / count / fall, -3.5, 1),
        # The fall over the start: how much was learned at all.
        "drop": float(np.clip(fall / level, 0, 1)),
        # How far the first tenth rises above the start, over the start.
        "jump": _log(jump / level, -2, 2),
    }
    if series is look.val:
        return "validation", features
    floor, error = max(abs(means[8:].mean()), 1e-9 * level), max(errors[8:].mean(), 1e-9 * level)
    line = np.polyval(np.polyfit(np.arange(8, WINDOWS), means[8:], 1), np.arange(8, WINDOWS))
    return "batches", features | {
        # How much neighbours differ, over the level: grows with the rate, falls with the batch.
        "noise": _log(wobble / floor, -3, 1),
        # Deviation of the means from a line, over their standard error: slow ups and downs.
        "slow": _log(np.std(means[8:] - line) / error, -1, 2),
        # How much neighbours differ, over the fall: where it is large, "first" is uncertain.
        "spread": _log(wobble / fall, -3, 1),
    }


def _log(value: float, low: float, high: float) -> float:
    return float(np.clip(math.log10(max(value, 10.0**low)), low, high))
