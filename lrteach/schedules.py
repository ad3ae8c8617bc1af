"""Learning-rate schedules, each one formula. A schedule is a pure function of the step.

    rate = warmup(100).then(cosine(steps=900))
    rate(0), rate(np.arange(1000))        # t = 0 is the first update; drawing changes nothing

With the default `peak=1` a schedule is a factor: `train(..., lr=0.1, schedule=cosine)` and
`cosine(steps=900).torch(optimizer)` multiply the rate you gave by it. With `peak=0.1` its values
are rates; use them with `lr=1`. Past its end a schedule holds its last value.
"""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, isfinite
from numbers import Integral, Real

import numpy as np

__all__ = [
    "Schedule", "constant", "step", "multistep", "exponential", "inverse_time", "linear",
    "polynomial", "cosine", "warmup",
]  # fmt: skip


def _require(condition, name, value, allowed):
    if not condition:
        raise ValueError(f"{name}={value!r} is not allowed: {name} must be {allowed}")


def _is_number(value, low=-inf, high=inf):
    return (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and isfinite(value)
        and low <= value <= high
    )


def _is_count(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1


class Schedule:
    """Base of all schedules. A subclass is a frozen dataclass with one method, `value`.

    `steps` is the number of updates the schedule lasts, or None when it has no end. At
    `t >= steps` every schedule returns `value(steps)`.
    """

    steps: int | None = None  # where it has to be given: `steps: int = field()`

    def value(self, t):
        """The formula: t is a float64 array within [0, steps]; returns an array of its shape."""
        raise NotImplementedError

    def __call__(self, t):
        """The rate of update t: a float for an int, an array for an array of ints.

        Parameters
        ----------
        t : int or integer array, >= 0
            Number of updates done before; 0 is the first update.

        Raises
        ------
        TypeError
            t is not integer.
        ValueError
            t is negative.
        """
        steps = np.asarray(t)
        if steps.dtype.kind not in "iu":
            raise TypeError(f"t must be an int or an array of ints, not {t!r}")
        steps = steps.astype(np.int64)
        if steps.size and steps.min() < 0:
            raise ValueError(f"t={t!r} is not allowed: t counts updates from 0")
        if self.steps is not None:
            steps = np.minimum(steps, self.steps)
        rate = np.asarray(self.value(np.atleast_1d(steps).astype(np.float64)), np.float64)
        return float(rate[0]) if steps.ndim == 0 else rate

    def then(self, other, after=None):
        """This schedule for its `steps` (or for `after` updates), then `other` from its t = 0.

        A `warmup` without a `peak` rises to the first rate of `other`.
        """
        _require(isinstance(other, Schedule), "other", other, "a schedule")
        after = self.steps if after is None else after
        _require(
            _is_count(after),
            "after", after, "an int >= 1, because this schedule has no end of its own",
        )  # fmt: skip
        return _Then(self._leading_to(other(0)), other, int(after))

    def _leading_to(self, rate):
        return self

    def __mul__(self, other):
        """The product with another schedule, or with a number."""
        if _is_number(other):
            other = constant(float(other))
        return _Product(self, other) if isinstance(other, Schedule) else NotImplemented

    __rmul__ = __mul__

    def torch(self, optimizer, last_step=-1):
        """A torch scheduler: call `.step()` on it after each `optimizer.step()`.

        Update t of each parameter group runs at the group's own rate times `self(t)`. The only
        state is the step: save `state_dict()` to resume.
        """
        from lrteach.torch_optimizer import make_scheduler

        return make_scheduler(self, optimizer, last_step)


@dataclass(frozen=True)
class _Then(Schedule):
    first: Schedule
    second: Schedule
    after: int

    @property
    def steps(self):
        return None if self.second.steps is None else self.after + self.second.steps

    def _leading_to(self, rate):
        return replace(self, second=self.second._leading_to(rate))

    def value(self, t):
        t = t.astype(np.int64)
        return np.where(
            t < self.after,
            self.first(np.minimum(t, self.after)),
            self.second(np.maximum(t - self.after, 0)),
        )


@dataclass(frozen=True)
class _Product(Schedule):
    first: Schedule
    second: Schedule

    @property
    def steps(self):
        ends = (self.first.steps, self.second.steps)
        return None if None in ends else max(ends)

    def value(self, t):
        t = t.astype(np.int64)
        return self.first(t) * self.second(t)


@dataclass(frozen=True)
class constant(Schedule):
    r"""The same rate at every step.

    .. math:: \eta_t = \eta_0

    `steps` matters only to `then`. torch: `ConstantLR(factor=1)`; optax: `constant_schedule`.
    """

    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self):
        _check(self)

    def value(self, t):
        return np.full_like(t, self.peak)


@dataclass(frozen=True)
class step(Schedule):
    r"""Step decay: multiply the rate by `gamma` after every `every` updates.

    .. math:: \eta_t = \eta_0\, \gamma^{\lfloor t / T \rfloor}, \qquad T = \texttt{every}

    torch: `StepLR(step_size=every, gamma=gamma)`.
    """

    every: int
    gamma: float = 0.1
    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self):
        _require(_is_count(self.every), "every", self.every, "an int >= 1")
        _check(self)

    def value(self, t):
        return self.peak * self.gamma ** (t // self.every)


@dataclass(frozen=True)
class multistep(Schedule):
    r"""Step decay at steps you choose: multiply by `gamma` at each milestone.

    .. math:: \eta_t = \eta_0\, \gamma^{\,\#\{i : m_i \le t\}}

    torch: `MultiStepLR(milestones, gamma)`; optax: `piecewise_constant_schedule`.
    """

    milestones: tuple
    gamma: float = 0.1
    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self):
        try:
            milestones = tuple(self.milestones)
        except TypeError:
            milestones = (None,)
        _require(
            milestones
            and all(_is_count(m) for m in milestones)
            and all(a < b for a, b in pairwise(milestones)),
            "milestones", self.milestones, "increasing ints >= 1",
        )  # fmt: skip
        object.__setattr__(self, "milestones", tuple(int(m) for m in milestones))
        _check(self)

    def value(self, t):
        passed = np.array([bisect_right(self.milestones, step) for step in t.ravel()])
        return self.peak * float(self.gamma) ** passed.reshape(t.shape)


@dataclass(frozen=True)
class exponential(Schedule):
    r"""Exponential decay: the same fraction is lost at every update.

    .. math:: \eta_t = \eta_0\, \gamma^t

    torch: `ExponentialLR(gamma)`.
    """

    gamma: float
    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self):
        _check(self)

    def value(self, t):
        return self.peak * self.gamma**t


@dataclass(frozen=True)
class inverse_time(Schedule):
    r"""Decay like 1/t, the rate of Robbins and Monro (1951): never zero, infinite sum.

    .. math:: \eta_t = \frac{\eta_0}{1 + \lambda t}, \qquad \lambda = \texttt{decay}

    The rate has halved at t = 1 / decay. Keras: `InverseTimeDecay(decay_steps=1, decay)`.
    """

    decay: float
    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self):
        _require(_is_number(self.decay, low=0), "decay", self.decay, "a finite number >= 0")
        _check(self)

    def value(self, t):
        return self.peak / (1 + self.decay * t)


@dataclass(frozen=True)
class polynomial(Schedule):
    r"""From `peak` to `end` along a power of the time that is left.

    .. math:: \eta_t = \eta_T + (\eta_0 - \eta_T)\,(1 - t/T)^p, \qquad p = \texttt{power}

    torch: `PolynomialLR(total_iters=steps, power=power)` for end = 0; optax: `polynomial_schedule`.
    """

    steps: int = field()
    power: float = 2.0
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        _require(_is_number(self.power) and self.power > 0, "power", self.power, "a number > 0")
        _check(self)

    def value(self, t):
        return self.end + (self.peak - self.end) * (1 - t / self.steps) ** self.power


@dataclass(frozen=True)
class linear(Schedule):
    r"""A straight line from `peak` to `end`.

    .. math:: \eta_t = \eta_0 + (\eta_T - \eta_0)\, t/T

    torch: `LinearLR(1, end, total_iters=steps)`, whose value after T steps of floating-point
    recursion agrees to rounding; optax: `linear_schedule`.
    """

    steps: int = field()
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        _check(self)

    def value(self, t):
        return self.end + (self.peak - self.end) * (1 - t / self.steps)


@dataclass(frozen=True)
class cosine(Schedule):
    r"""Half a cosine from `peak` to `end`: flat at both ends.

    .. math:: \eta_t = \eta_T + \tfrac12 (\eta_0 - \eta_T)\,(1 + \cos \pi t/T)

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5), without restarts. torch:
    `CosineAnnealingLR(T_max=steps, eta_min=end)`, which climbs again past T; this one stays. There
    `eta_min` is a rate; here `end` is in the units of `peak`.
    """

    steps: int = field()
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self):
        _check(self)

    def value(self, t):
        return self.end + 0.5 * (self.peak - self.end) * (1 + np.cos(np.pi * t / self.steps))


@dataclass(frozen=True)
class warmup(Schedule):
    r"""A straight rise to `peak`, reached at t = steps. Made to be followed: `.then(...)`.

    .. math:: \eta_t = \eta_s + (\eta_p - \eta_s)\, t / T, \qquad \eta_s = \frac{\eta_p}{T + 1} \text{ unless given}

    Without a `peak` it rises to the first rate of the schedule that follows (to 1 if none does).
    The default start makes the rate proportional to t + 1, so that no update is wasted at rate
    zero. torch: `LinearLR(start_factor, 1, total_iters=steps)` for `start=start_factor`;
    transformers starts at 0.
    """

    steps: int = field()
    peak: float | None = None
    start: float | None = None

    def __post_init__(self):
        for name in ("peak", "start"):
            value = getattr(self, name)
            _require(
                value is None or _is_number(value, low=0),
                name, value, "None or a finite number >= 0",
            )  # fmt: skip
        _check(self)

    def _leading_to(self, rate):
        return replace(self, peak=rate) if self.peak is None else self

    def value(self, t):
        peak = 1.0 if self.peak is None else self.peak
        start = peak / (self.steps + 1) if self.start is None else self.start
        return start + (peak - start) * (t / self.steps)


def _check(schedule):
    """Check the arguments that schedules share: steps, peak, end, gamma."""
    for name, value in vars(schedule).items():
        if isinstance(value, np.generic):  # np.int8(127) + 1 would be -128
            object.__setattr__(schedule, name, value.item())
    endless = type(schedule).__dataclass_fields__["steps"].default is None
    _require(
        _is_count(schedule.steps) or (endless and schedule.steps is None),
        "steps", schedule.steps, "an int >= 1" + (" or None" if endless else ""),
    )  # fmt: skip
    for name in ("peak", "end"):
        value = getattr(schedule, name, None)
        if value is not None:
            _require(_is_number(value, low=0), name, value, "a finite number >= 0")
    gamma = getattr(schedule, "gamma", 1.0)
    _require(_is_number(gamma, low=0, high=1) and gamma > 0, "gamma", gamma, "in (0, 1]")
