"""Learning-rate schedules, each one formula. A schedule is a pure function of the step.

    rate = warmup(100).then(cosine(steps=900))
    rate(0), rate(np.arange(1000))        # t = 0 is the first update; drawing changes nothing

With the default `peak=1` a schedule is a factor: `train(..., lr=0.1, schedule=cosine)` and
`cosine(steps=900).torch(optimizer)` multiply the rate you gave by it. With `peak=0.1` its values
are rates; use them with `lr=1`. Past its end a schedule holds its last value.

A feedback rule sets the rate by the losses it is told, and so is no function of the step. It is a
fold: `next(state, loss)` returns the next state, and nothing else is remembered.

    follow = plateau(patience=5).online()
    rate = follow.update(val_loss)            # after each evaluation
    plateau(patience=5).replay(run.val_losses)  # the same rates, from a recorded history

The field lists at the end of the docstrings are the page "All schedules on one card". Calls in
them make the same rates at every step, which tests/test_schedule_equivalents.py checks. There, the
`optimizer` was given the rate `peak`; the other names are the schedule's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from math import copysign, inf, isfinite
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler

    from lrteach.torch_optimizer import _Follower

__all__ = [
    "Schedule", "constant", "step", "multistep", "phases", "exponential", "inverse_time",
    "inverse_sqrt", "linear", "polynomial", "rex", "cosine", "warm_restarts", "cyclical",
    "one_cycle", "warmup", "wsd", "noam", "chebyshev", "log_uniform",
    "Feedback", "Online", "plateau", "restart_below",
]  # fmt: skip

Floats: TypeAlias = NDArray[np.float64]


def _require(condition: object, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name}={value!r} is not allowed: {name} must be {allowed}")


def _is_number(value: Any, low: float = -inf, high: float = inf) -> TypeGuard[float]:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and isfinite(value) and low <= value <= high


def _is_count(value: Any, low: int = 1) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= low


# What arguments of these names may be, in every schedule. One whose default is None may be None.
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("steps", "every", "cycles", "up", "down"), (_is_count, "an int >= 1")),
    **dict.fromkeys(("seed", "patience"), (lambda value: _is_count(value, low=0), "an int >= 0")),
    **dict.fromkeys(
        ("peak", "start", "end", "low", "mean", "decay"),
        (lambda value: _is_number(value, low=0), "a finite number >= 0"),
    ),
    "gamma": (lambda value: _is_number(value, low=0, high=1) and value > 0, "in (0, 1]"),
    **dict.fromkeys(
        ("power", "timescale"), (lambda value: _is_number(value) and value > 0, "a number > 0")
    ),
}


def _check_fields(schedule: Any) -> None:
    for argument in fields(schedule):
        name, value = argument.name, getattr(schedule, argument.name)
        if isinstance(value, np.generic):  # np.int8(127) + 1 would be -128
            object.__setattr__(schedule, name, value := value.item())
        if name in _ALLOWED and not (value is None and argument.default is None):
            allows, words = _ALLOWED[name]
            _require(
                allows(value), name, value, words + (" or None" if argument.default is None else "")
            )


class Schedule:
    """Base of all schedules. A subclass is a frozen dataclass with one method, `value`.

    `steps` is the number of updates the schedule lasts, or None when it has no end. At
    `t >= steps` every schedule returns `value(steps)`.
    """

    if TYPE_CHECKING:  # read only: a field of some schedules, and computed by others

        @property
        def steps(self) -> int | None: ...
    else:
        steps: int | None = None  # where it has to be given: `steps: int = field()`

    def __post_init__(self) -> None:
        _check_fields(self)

    def value(self, t: Floats) -> np.ndarray:
        """The formula: t is a float64 array within [0, steps]; returns an array of its shape."""
        raise NotImplementedError

    @overload
    def __call__(self, t: "int | np.integer") -> float: ...

    @overload
    def __call__(self, t: "np.ndarray | Sequence[int]") -> Floats: ...

    def __call__(self, t: ArrayLike) -> float | Floats:
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

    def then(self, other: "Schedule", after: int | None = None) -> "Schedule":
        """This schedule for its `steps` (or for `after` updates), then `other` from its t = 0.

        A `warmup` without a `peak` rises to the first rate of `other`.
        """
        _require(isinstance(other, Schedule), "other", other, "a schedule")
        after = self.steps if after is None else after
        _require(
            _is_count(after),
            "after", after, "an int >= 1, because this schedule has no end of its own",
        )  # fmt: skip
        assert after is not None  # which was refused
        return _Then(self._leading_to(other(0)), other, int(after))

    def _leading_to(self, rate: float) -> "Schedule":
        return self

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        """The product with another schedule, or with a number."""
        if _is_number(other):
            other = constant(float(other))
        return _Product(self, other) if isinstance(other, Schedule) else NotImplemented

    __rmul__ = __mul__

    def torch(self, optimizer: "torch.optim.Optimizer", last_step: int = -1) -> "LRScheduler":
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
    def steps(self) -> int | None:
        return None if self.second.steps is None else self.after + self.second.steps

    def _leading_to(self, rate: float) -> "_Then":
        return replace(self, second=self.second._leading_to(rate))

    def value(self, t: Floats) -> np.ndarray:
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
    def steps(self) -> int | None:
        ends = [end for end in (self.first.steps, self.second.steps) if end is not None]
        return max(ends) if len(ends) == 2 else None

    def value(self, t: Floats) -> np.ndarray:
        t = t.astype(np.int64)
        return self.first(t) * self.second(t)


@dataclass(frozen=True)
class constant(Schedule):
    r"""The same rate at every step.

    .. math:: \eta_t = \eta_0

    `steps` matters only to `then`.

    :when: The baseline of every comparison; the middle of a run whose length is open.
    :torch: `ConstantLR(optimizer, factor=1)`; another factor ends after `total_iters`, 5 by default
    :optax: `constant_schedule(peak)`
    :keras: a number
    :transformers: `get_constant_schedule(optimizer)`
    """

    peak: float = 1.0
    steps: int | None = None

    def value(self, t: Floats) -> np.ndarray:
        return np.full_like(t, self.peak)


@dataclass(frozen=True)
class step(Schedule):
    r"""Step decay: multiply the rate by `gamma` after every `every` updates.

    .. math:: \eta_t = \eta_0\, \gamma^{\lfloor t / s \rfloor}, \qquad s = \texttt{every}

    :when: You want few, visible cuts at even distances; old recipes are written so.
    :torch: `StepLR(optimizer, every, gamma)`
    :optax: `exponential_decay(peak, every, gamma, staircase=True)`
    :keras: `ExponentialDecay(peak, every, gamma, staircase=True)`
    """

    every: int
    gamma: float = 0.1
    peak: float = 1.0
    steps: int | None = None

    def value(self, t: Floats) -> np.ndarray:
        return self.peak * self.gamma ** (t // self.every)


@dataclass(frozen=True)
class multistep(Schedule):
    r"""Step decay at steps you choose: multiply by `gamma` at each milestone.

    .. math:: \eta_t = \eta_0\, \gamma^{\,\#\{i \,:\, m_i \le t\}}

    :when: You reproduce a recipe with cuts at chosen epochs, such as 30, 60 and 90 for ResNets.
    :torch: `MultiStepLR(optimizer, milestones, gamma)`
    :optax: `piecewise_constant_schedule(peak, {m: gamma for m in milestones})`
    :keras: `PiecewiseConstantDecay([m - 1 for m in milestones], [peak * gamma**i for i in range(len(milestones) + 1)])`;
        Keras keeps the old rate at its boundary itself, and changes one update later
    """

    milestones: Sequence[int]
    gamma: float = 0.1
    peak: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            milestones: tuple[Any, ...] = tuple(self.milestones)
        except TypeError:
            milestones = (None,)
        _require(
            milestones
            and all(_is_count(m) for m in milestones)
            and all(a < b for a, b in pairwise(milestones)),
            "milestones", self.milestones, "increasing ints >= 1",
        )  # fmt: skip
        object.__setattr__(self, "milestones", tuple(int(m) for m in milestones))

    def value(self, t: Floats) -> np.ndarray:
        return self.peak * float(self.gamma) ** np.searchsorted(self.milestones, t, side="right")


@dataclass(frozen=True)
class phases(Schedule):
    r"""A constant rate for each phase: `rates[i]` for `lengths[i]` updates, one after the other.

    .. math:: \eta_t = r_i \quad\text{while}\quad \ell_1 + \dots + \ell_{i-1} \le t < \ell_1 + \dots + \ell_i

    The values may rise and fall; the last one holds past the end.

    :when: Each phase has a rate of its own that no formula gives.
    :torch: `SequentialLR(optimizer, [ConstantLR(optimizer, r / max(rates), inf) for r in rates], [*accumulate(lengths[:-1])])`,
        with an optimizer of the highest rate
    :optax: `join_schedules([constant_schedule(r) for r in rates], [*accumulate(lengths[:-1])])`
    :keras: `PiecewiseConstantDecay([end - 1 for end in accumulate(lengths[:-1])], rates)`; Keras
        keeps the old rate at its boundary itself, and changes one update later
    """

    lengths: Sequence[int]
    rates: Sequence[float]

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[Callable[[Any], bool], str]] = {
            "lengths": (_is_count, "ints >= 1"),
            "rates": (lambda r: _is_number(r, low=0), "finite numbers >= 0"),
        }
        for name, (allows, words) in allowed.items():
            given = getattr(self, name)
            try:
                values = tuple(np.asarray(given).tolist())
            except (TypeError, ValueError):
                values = ()
            _require(
                values and all(allows(v) for v in values),
                name, given, f"a sequence of one or more {words}",
            )  # fmt: skip
            object.__setattr__(self, name, values)
        _require(
            len(self.rates) == len(self.lengths),
            "rates", self.rates, f"as many as lengths, which are {len(self.lengths)}",
        )  # fmt: skip

    @property
    def steps(self) -> int:
        return sum(self.lengths)

    def value(self, t: Floats) -> np.ndarray:
        ends = list(accumulate(self.lengths))
        phase = np.searchsorted(ends, t, side="right")
        return np.array(self.rates, np.float64)[np.minimum(phase, len(ends) - 1)]


@dataclass(frozen=True)
class exponential(Schedule):
    r"""Exponential decay: the same fraction is lost at every update.

    .. math:: \eta_t = \eta_0\, \gamma^t

    :when: Seldom: it spends most of the run at rates that are too small or too large.
    :torch: `ExponentialLR(optimizer, gamma)`
    :optax: `exponential_decay(peak, 1, gamma)`
    :keras: `ExponentialDecay(peak, 1, gamma)`
    """

    gamma: float
    peak: float = 1.0
    steps: int | None = None

    def value(self, t: Floats) -> np.ndarray:
        return self.peak * self.gamma**t


@dataclass(frozen=True)
class inverse_time(Schedule):
    r"""Decay like 1/t: never zero, infinite sum.

    .. math:: \eta_t = \frac{\eta_0}{1 + dt}, \qquad d = \texttt{decay}

    The rate has halved at t = 1 / decay.

    :when: The optimum on a noisy parabola whose curvature you know, and an open end.
    :torch: `LambdaLR(optimizer, lambda t: 1 / (1 + decay * t))`
    :keras: `InverseTimeDecay(peak, 1, decay)`
    :source: Robbins & Monro 1951
    """

    decay: float
    peak: float = 1.0
    steps: int | None = None

    def value(self, t: Floats) -> np.ndarray:
        return self.peak / (1 + self.decay * t)


@dataclass(frozen=True)
class inverse_sqrt(Schedule):
    r"""Decay like 1/√t: the classical rate for convex losses when the end is open.

    .. math:: \eta_t = \frac{\eta_0}{\sqrt{1 + t/\tau}}, \qquad \tau = \texttt{timescale}

    With `timescale=1` it is the textbook's η₀/√(t + 1) with t from 0.

    :when: The length of the run is open, and cutting it short at any time must be harmless.
    :torch: `LambdaLR(optimizer, lambda t: (1 + t / timescale) ** -0.5)`
    :transformers: `get_inverse_sqrt_schedule(optimizer, 0, timescale)`
    """

    timescale: float
    peak: float = 1.0
    steps: int | None = None

    def value(self, t: Floats) -> np.ndarray:
        return self.peak / np.sqrt(1 + t / self.timescale)


@dataclass(frozen=True)
class polynomial(Schedule):
    r"""From `peak` to `end` along a power of the time that is left.

    .. math:: \eta_t = \eta_T + (\eta_0 - \eta_T)\,(1 - t/T)^p, \qquad p = \texttt{power}

    :when: Linear decay, but gentler at the end (`power` above 1).
    :torch: `PolynomialLR(optimizer, steps, power)`, for `end=0` only
    :optax: `polynomial_schedule(peak, end, power, steps)`
    :keras: `PolynomialDecay(peak, steps, end, power)`; without the last two, 0.0001 and 1
    :transformers: `get_polynomial_decay_schedule_with_warmup(optimizer, 0, steps, end, power)`; without the
        last two, 1e-7 and 1; `end` must be below `peak`
    """

    steps: int = field()
    power: float = 2.0
    peak: float = 1.0
    end: float = 0.0

    def value(self, t: Floats) -> np.ndarray:
        return self.end + (self.peak - self.end) * (1 - t / self.steps) ** self.power


@dataclass(frozen=True)
class linear(Schedule):
    r"""A straight line from `peak` to `end`.

    .. math:: \eta_t = \eta_0 + (\eta_T - \eta_0)\, t/T

    :when: The length of the run is known. The first choice, with theory behind it.
    :torch: `LinearLR(optimizer, 1, end / peak, total_iters=steps)`
    :optax: `linear_schedule(peak, end, steps)`
    :keras: `PolynomialDecay(peak, steps, end)`, whose default end is 0.0001
    :transformers: `get_linear_schedule_with_warmup(optimizer, 0, steps)`, for `end=0` only
    """

    steps: int = field()
    peak: float = 1.0
    end: float = 0.0

    def value(self, t: Floats) -> np.ndarray:
        return self.end + (self.peak - self.end) * (1 - t / self.steps)


@dataclass(frozen=True)
class rex(Schedule):
    r"""Reflected exponential: stays high longer than a line, then falls faster.

    .. math:: \eta_t = \eta_T + (\eta_0 - \eta_T)\, \frac{1 - t/T}{\frac12 + \frac12 (1 - t/T)}

    :when: Like linear; it was proposed for runs with a small budget.
    :torch: `LambdaLR(optimizer, lambda t: (steps - t) / (steps - t / 2))`, for `end=0` up to t = steps
    :source: Chen, Wolfe & Kyrillidis 2021, arXiv:2107.04197
    """

    steps: int = field()
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order(self, "end", "peak")

    def value(self, t: Floats) -> np.ndarray:
        left = 1 - t / self.steps
        return self.end + (self.peak - self.end) * left / (0.5 + 0.5 * left)


@dataclass(frozen=True)
class cosine(Schedule):
    r"""Half a cosine from `peak` to `end`: flat at both ends.

    .. math:: \eta_t = \eta_T + \tfrac12 (\eta_0 - \eta_T)\,(1 + \cos \pi t/T)

    :when: The length of the run is known; as good as linear nearly everywhere.
    :torch: `CosineAnnealingLR(optimizer, steps, eta_min=end)`; it climbs again past t = steps, and
        its `eta_min` is a rate, also in a group whose rate is smaller
    :optax: `cosine_decay_schedule(peak, steps, alpha=end / peak)`
    :keras: `CosineDecay(peak, steps, alpha=end / peak)`
    :transformers: `get_cosine_schedule_with_warmup(optimizer, 0, steps)` for `end=0`, else
        `get_cosine_with_min_lr_schedule_with_warmup(optimizer, 0, steps, min_lr=end)`; both climb
        again past t = steps
    :source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5), without restarts
    """

    steps: int = field()
    peak: float = 1.0
    end: float = 0.0

    def value(self, t: Floats) -> np.ndarray:
        return self.end + 0.5 * (self.peak - self.end) * (1 + np.cos(np.pi * t / self.steps))


@dataclass(frozen=True)
class warm_restarts(Schedule):
    r"""Cosine cycles, one after the other: each starts again from the top (SGDR).

    .. math:: \eta_t = \eta_T + \tfrac12 (\gamma^i\eta_0 - \eta_T)\,(1 + \cos \pi (t - t_i)/\ell_i), \qquad \ell_i = g^i\,\ell_0

    `cycles` cycles fill `steps` updates; each is `growth` (g) times as long as the one before and
    starts `gamma` times as high. The last one ends at `end`, at t = steps. A cycle need not last a
    whole number of updates: the next one starts with the first update after its end.

    :when: You want usable models at the end of every cycle. As a way to a better last one: measure.
    :torch: `CosineAnnealingWarmRestarts(optimizer, int(lengths[0]), int(growth), eta_min=end)`, for whole
        numbers and `gamma=1`; it starts another cycle at t = steps
    :optax: `sgdr_schedule([dict(init_value=p, peak_value=p, warmup_steps=0, decay_steps=n, end_value=end) for n, p in zip(lengths, tops)])`
    :keras: `CosineDecayRestarts(peak, lengths[0], growth, gamma, alpha=end / peak)`; it starts another
        cycle at t = steps, and its `gamma` shrinks what is above `end` only; without a growth, 2
    :transformers: `get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, 0, steps, num_cycles=cycles)`,
        for `growth=1`, `gamma=1`, `end=0`
    :source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. (5)
    """

    steps: int = field()
    cycles: int = field()
    growth: float = 1.0
    peak: float = 1.0
    end: float = 0.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_is_number(self.growth, low=1), "growth", self.growth, "a finite number >= 1")
        _require(
            self.cycles <= self.steps and self.lengths[0] >= 1 - 1e-12,
            "cycles", self.cycles,
            f"so few that the first of them lasts at least 1 of {self.steps} steps, "
            f"with growth={self.growth!r}",
        )  # fmt: skip
        _require(
            self.end <= self.tops[-1],
            "end", self.end, f"at most the top of the last cycle, which is {float(self.tops[-1])!r}",
        )  # fmt: skip

    @property
    def lengths(self) -> Floats:
        """How many updates each cycle lasts: a float array (cycles,) whose sum is `steps`."""
        return _cycle_lengths(self.steps, self.cycles, self.growth)[0]

    @property
    def tops(self) -> np.ndarray:
        """The rate each cycle starts with, (cycles,)."""
        return self.peak * self.gamma ** np.arange(self.cycles)

    def value(self, t: Floats) -> np.ndarray:
        lengths, starts = _cycle_lengths(self.steps, self.cycles, self.growth)
        # A start that rounding put just behind its whole number still counts at that number.
        i = np.searchsorted(starts, t + 1e-12 * self.steps, side="right") - 1
        passed = np.clip((t - starts[i]) / lengths[i], 0, 1)
        height = self.peak * self.gamma**i - self.end
        return self.end + 0.5 * height * (1 + np.cos(np.pi * passed))


@lru_cache(maxsize=16)
def _cycle_lengths(steps: int, cycles: int, growth: float) -> tuple[Floats, Floats]:
    """The lengths of the cycles of `warm_restarts`, and where they start."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        lengths = growth ** np.arange(cycles, dtype=np.float64)
        lengths *= steps / lengths.sum()
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    lengths.flags.writeable = starts.flags.writeable = False
    return lengths, starts


@dataclass(frozen=True)
class cyclical(Schedule):
    r"""Straight up from `low` to `peak` in `up` updates, down again in `down`, and so on.

    .. math:: \eta_t = \eta_{\min} + s_t\,(\eta_{\max} - \eta_{\min})\,\Lambda_t

    Λ is the triangle between 0 and 1. The `mode` sets its height s: always 1 ("triangular"),
    halved after each cycle ("triangular2"), or γᵗ ("exp_range").

    :when: You look for the range of rates that work, more than for the best last loss.
    :torch: `CyclicLR(optimizer, low, peak, up, down, mode, gamma, cycle_momentum=False)`; without the last,
        it moves the momentum too, against the rate
    :source: Smith 2017, arXiv:1506.01186
    """

    up: int
    down: int | None = None
    low: float = 0.0
    peak: float = 1.0
    mode: str = "triangular"
    gamma: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order(self, "low", "peak")
        _check_choice(self, "mode", ("triangular", "triangular2", "exp_range"))
        _require(
            self.gamma == 1 or self.mode == "exp_range",
            "gamma", self.gamma, f"1 with mode={self.mode!r}: only 'exp_range' uses it",
        )  # fmt: skip

    def value(self, t: Floats) -> np.ndarray:
        up, down = self.up, self.down or self.up
        cycle, place = np.divmod(t, up + down)
        triangle = np.where(place <= up, place / up, (up + down - place) / down)
        scale: dict[str, float | np.ndarray] = {
            "triangular": 1.0,
            "triangular2": 0.5**cycle,
            "exp_range": self.gamma**t,
        }
        return self.low + (self.peak - self.low) * triangle * scale[self.mode]


@dataclass(frozen=True)
class one_cycle(Schedule):
    r"""One rise to `peak`, one long fall to nearly nothing.

    .. math:: \eta_s \;\to\; \eta_{\max} \text{ at } t = rT \;\to\; \eta_T \text{ at } t = T, \qquad r = \texttt{rise}

    With `phases=3` the fall has two parts: back to `start` at t = 2rT, then on to `end`. Each part
    is half a cosine, or a straight line with `shape="linear"`. `start` is peak / 25 and `end` is
    start / 10 000 unless given.

    :when: The length of the run is known and the peak is high enough to need a warm-up.
    :torch: `OneCycleLR(optimizer, peak, steps + 1, pct_start=(rise * steps + 1) / (steps + 1), anneal_strategy="cos", three_phase=phases == 3, cycle_momentum=False)`,
        or "linear"; with `total_steps=steps`, torch is at its end in the last update and one update
        early at each joint; without `cycle_momentum=False`, it moves the momentum too
    :optax: `cosine_onecycle_schedule(steps, peak, pct_start=rise)`, and for three straight phases
        `linear_onecycle_schedule(steps, peak, pct_start=rise, pct_final=2 * rise)`, whose own `pct_final` is
        0.85; optax rounds the joints down to whole updates
    :source: Smith & Topin 2018, arXiv:1708.07120
    """

    steps: int = field()
    peak: float = 1.0
    rise: float = 0.3
    start: float | None = None
    end: float | None = None
    phases: int = 2
    shape: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice(self, "phases", (2, 3))
        _check_choice(self, "shape", ("cosine", "linear"))
        most = 1 if self.phases == 2 else 0.5
        _require(
            _is_number(self.rise) and 0 < self.rise < most,
            "rise", self.rise, f"between 0 and {most}, without both",
        )  # fmt: skip
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                _check_order(self, name, "peak")

    def value(self, t: Floats) -> np.ndarray:
        start = self.peak / 25 if self.start is None else self.start
        end = start / 1e4 if self.end is None else self.end
        top = self.rise * self.steps
        joints = np.array(
            [0, top, self.steps] if self.phases == 2 else [0, top, 2 * top, self.steps]
        )
        rates = np.array(
            [start, self.peak, end] if self.phases == 2 else [start, self.peak, start, end]
        )
        i = np.clip(np.searchsorted(joints, t, side="right") - 1, 0, self.phases - 1)
        passed = (t - joints[i]) / (joints[i + 1] - joints[i])
        if self.shape == "cosine":
            passed = 0.5 - 0.5 * np.cos(np.pi * passed)
        return (1 - passed) * rates[i] + passed * rates[i + 1]


@dataclass(frozen=True)
class warmup(Schedule):
    r"""A straight rise to `peak`, reached at t = steps. Made to be followed: `.then(...)`.

    .. math:: \eta_t = \eta_s + (\eta_p - \eta_s)\, t / T, \qquad \eta_s = \frac{\eta_p}{T + 1} \text{ unless given}

    Without a `peak` it rises to the first rate of the schedule that follows (to 1 if none does).
    The default start makes the rate proportional to t + 1, so that no update is wasted at rate
    zero.

    :when: With Adam-like rules, large batches, or a peak near the cliff.
    :torch: `LinearLR(optimizer, start / peak, total_iters=steps)`, whose own start is peak / 3, in 5 updates
    :optax: `warmup_constant_schedule(start, peak, steps)`; followed by `cosine(n)`,
        `warmup_cosine_decay_schedule(start, peak, steps, steps + n)`
    :keras: followed by `cosine(n)`, `CosineDecay(start, n, warmup_target=peak, warmup_steps=steps)`
    :transformers: `get_constant_schedule_with_warmup(optimizer, steps)`, for `start=0` as in most of its
        schedules, whose first update so does nothing; for our start and followed by `cosine(n)`,
        `get_cosine_with_min_lr_schedule_with_warmup_lr_rate(optimizer, steps + 1, steps + 1 + n, min_lr_rate=0)`
    """

    steps: int = field()
    peak: float | None = None
    start: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if None not in (self.start, self.peak):
            _check_order(self, "start", "peak")

    def _leading_to(self, rate: float) -> "warmup":
        return replace(self, peak=rate) if self.peak is None else self

    def value(self, t: Floats) -> np.ndarray:
        peak = 1.0 if self.peak is None else self.peak
        start = peak / (self.steps + 1) if self.start is None else self.start
        return start + (peak - start) * (t / self.steps)


@dataclass(frozen=True)
class wsd(Schedule):
    r"""Warm-up, stable, decay: rise, hold, and come down in the last `cooldown` updates.

    .. math:: \eta_t = \eta_T + (\eta_{\max} - \eta_T)\, s(x), \qquad x = \frac{t - (T - c)}{c}, \qquad c = \texttt{cooldown}

    in the cooldown, where s(x) is 1 - x ("linear"), 1 - √x ("sqrt") or (1 + cos πx)/2 ("cosine").
    The rise is that of `warmup`: the rate is proportional to t + 1.

    :when: The end is open: keep the rate, and cool down from any checkpoint.
    :torch: `SequentialLR(optimizer, [LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup), ConstantLR(optimizer, 1), LinearLR(optimizer, 1, end / peak, cooldown)], [warmup, steps - cooldown])`,
        for the linear shape
    :optax: `join_schedules([linear_schedule(peak / (warmup + 1), peak, warmup), linear_schedule(peak, end, cooldown, steps - cooldown - warmup)], [warmup])`,
        for the linear shape
    :transformers: `get_wsd_schedule(optimizer, 0, cooldown, steps, decay_type=shape, min_lr_ratio=end / peak)`, where
        "sqrt" is "1-sqrt", and the default "cosine"; a warm-up of it starts at `end`
    :source: Hu et al. 2024, arXiv:2404.06395; "sqrt": Hägele et al. 2024, arXiv:2405.18392
    """

    steps: int = field()
    cooldown: int = field()
    warmup: int = 0
    peak: float = 1.0
    end: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_is_count(self.warmup, low=0), "warmup", self.warmup, "an int >= 0")
        _require(
            self.warmup < self.steps,
            "warmup", self.warmup, f"shorter than the run, which has {self.steps} steps",
        )  # fmt: skip
        _require(
            _is_count(self.cooldown) and self.cooldown <= self.steps - self.warmup,
            "cooldown", self.cooldown, f"an int from 1 to steps - warmup = {self.steps - self.warmup}",
        )  # fmt: skip
        _check_order(self, "end", "peak")
        _check_choice(self, "shape", ("linear", "sqrt", "cosine"))

    def value(self, t: Floats) -> np.ndarray:
        rising = self.peak * np.minimum(1, (t + 1) / (self.warmup + 1))
        x = np.maximum(0, (t - (self.steps - self.cooldown)) / self.cooldown)
        left = {"linear": 1 - x, "sqrt": 1 - np.sqrt(x), "cosine": 0.5 + 0.5 * np.cos(np.pi * x)}
        return np.where(x > 0, self.end + (self.peak - self.end) * left[self.shape], rising)


@dataclass(frozen=True)
class noam(Schedule):
    r"""The first transformer's schedule: linear warm-up, then 1/√t.

    .. math:: \eta_t = d^{-1/2} \min\big((t+1)^{-1/2},\; (t+1)\, w^{-3/2}\big), \qquad w = \texttt{warmup}

    Its values are rates, with their peak (d w)^-½ in update w (t = w - 1); d is the `width` of the
    model. With a `peak`, that is the highest rate, and the width does not matter: `peak=1` makes
    factors. `warmup(w - 1).then(inverse_sqrt(w))` are the same factors.

    :when: You reproduce the paper.
    :torch: `LambdaLR(optimizer, lambda t: width**-0.5 * min((t + 1) ** -0.5, (t + 1) * warmup**-1.5))`, with an
        optimizer of rate 1
    :source: Vaswani et al. 2017, arXiv:1706.03762, eq. (3), with step_num = t + 1
    """

    warmup: int
    peak: float | None = None
    width: int = 512
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("warmup", "width"):
            _require(_is_count(getattr(self, name)), name, getattr(self, name), "an int >= 1")

    def value(self, t: Floats) -> np.ndarray:
        scale = self.width**-0.5 if self.peak is None else self.peak * self.warmup**0.5
        return scale * np.minimum((t + 1) ** -0.5, (t + 1) * self.warmup**-1.5)


@dataclass(frozen=True)
class chebyshev(Schedule):
    r"""The best rates for a quadratic whose curvatures lie between `mu` and `L`.

    .. math:: 1/\eta_k = \frac{L + \mu}2 + \frac{L - \mu}2 \cos\frac{(2k + 1)\pi}{2T}, \qquad k = 0, \dots, T - 1

    In exact arithmetic their order does not matter; in floating point it does. `order` is
    "stable" (each long step soon meets those that undo it; needs steps = 2ⁿ), "falling" or
    "rising". The values are rates, in the units of 1 / L: use them with `lr=1`.

    :when: Linear systems and exact gradients. With noise or with networks: never as it is.
    :source: Young 1953; the stable order: Lebedev & Finogenov 1971
    """

    steps: int = field()
    mu: float = field()
    L: float = field()
    order: str = "stable"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mu", "L"):
            value = getattr(self, name)
            _require(_is_number(value) and value > 0, name, value, "a finite number > 0")
        _check_order(self, "mu", "L")
        _check_choice(self, "order", ("stable", "falling", "rising"))
        _require(
            self.order != "stable" or self.steps & (self.steps - 1) == 0,
            "steps", self.steps, "a power of 2 with order='stable'",
        )  # fmt: skip

    def value(self, t: Floats) -> np.ndarray:
        k = np.minimum(t.astype(int), self.steps - 1)
        if self.order == "falling":
            k = self.steps - 1 - k
        elif self.order == "stable":
            k = _stable_order(self.steps)[k]
        angle = (2 * k + 1) * np.pi / (2 * self.steps)
        return 1 / ((self.L + self.mu) / 2 + (self.L - self.mu) / 2 * np.cos(angle))


@lru_cache(maxsize=16)
def _stable_order(T: int) -> np.ndarray:
    """0 ... T-1 so that behind every index comes its mirror image, at every doubling."""
    order = np.zeros(1, int)
    while len(order) < T:
        order = np.stack([order, 2 * len(order) - 1 - order], axis=1).ravel()
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class log_uniform(Schedule):
    r"""Random rates: each drawn alone, log-uniformly from a range `width` wide, around `mean`.

    .. math:: \eta_t = \bar\eta\; \frac{\ln w}{\sqrt w - 1/\sqrt w}\; w^{u_t}, \qquad u_t \sim U[-\tfrac12, \tfrac12], \quad w = \texttt{width}

    The `seed` fixes all draws beforehand, so the schedule is a function of the step like the rest.

    :when: As a control in experiments: no order at all.
    """

    steps: int = field()
    width: float = 10.0
    seed: int = 0
    mean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            _is_number(self.width) and self.width > 1, "width", self.width, "a finite number > 1"
        )

    def value(self, t: Floats) -> np.ndarray:
        mean = (self.width**0.5 - self.width**-0.5) / np.log(self.width)
        return self.mean * self.width ** _draws(self.seed, self.steps)[t.astype(int)] / mean


@lru_cache(maxsize=16)
def _draws(seed: int, steps: int) -> Floats:
    u = np.random.default_rng(seed).uniform(-0.5, 0.5, steps + 1)
    u.flags.writeable = False
    return u


def _check_order(schedule: object, low: str, high: str) -> None:
    value, most = getattr(schedule, low), getattr(schedule, high)
    _require(value <= most, low, value, f"at most {high}, which is {most!r}")


def _check_choice(schedule: object, name: str, choices: tuple[str | int, ...]) -> None:
    value = getattr(schedule, name)
    words = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
    _require(type(value) is type(choices[0]) and value in choices, name, value, words)


# --- Feedback: folds over the losses seen --------------------------------------------------------


class Feedback:
    """Base of the rules that set the rate by the losses they are told.

    A subclass is a frozen dataclass with two methods: `start()` gives the first state and
    `next(state, loss)` the one after a further loss. A state is a named tuple; its `rate` is what
    to train with until the next loss is known. With the default `peak=1` it is a factor.
    """

    def __post_init__(self) -> None:
        _check_fields(self)

    def start(self) -> Any:
        """The state before the first loss."""
        raise NotImplementedError

    def next(self, state: Any, loss: float) -> Any:
        """The formula: the state after one more loss, a float. Changes nothing."""
        raise NotImplementedError

    def online(self) -> "Online":
        """An `Online` follower, to be told the losses of a run that is under way."""
        return Online(self)

    def replay(self, losses: ArrayLike) -> Floats:
        """The rates of a recorded history of N losses: a float64 array (N + 1,).

        Entry i was in force before loss i; the last one is for what comes next.
        """
        losses = np.asarray(losses, np.float64)
        if losses.ndim != 1:
            raise ValueError(f"losses must be a list of numbers, not of shape {losses.shape}")
        states = accumulate(losses.tolist(), self.next, initial=self.start())
        return np.array([state.rate for state in states])

    def torch(self, optimizer: "torch.optim.Optimizer") -> "_Follower":
        """A torch scheduler: call `.step(loss)` on it after each evaluation.

        Each parameter group runs at the rate it has now times what the losses say. `state_dict()`
        holds all that resuming needs.
        """
        from lrteach.torch_optimizer import make_follower

        return make_follower(self, optimizer)


class Online:
    """A feedback rule at work. `rate` is in force now; `state` is all it remembers.

    To resume, set `state` to a saved one.
    """

    def __init__(self, rule: Feedback) -> None:
        self.rule = rule
        self.state = rule.start()

    @property
    def rate(self) -> float:
        """The rate to train with until the next loss is known."""
        return self.state.rate

    def update(self, loss: float) -> float:
        """Take in one more loss (a number; NaN is never an improvement); returns the new rate."""
        self.state = self.rule.next(self.state, float(loss))
        return self.rate

    def __repr__(self) -> str:
        return f"<{self.rule!r} at {self.rate:g}>"


class PlateauState(NamedTuple):
    """What `plateau` remembers between two losses."""

    rate: float
    best: float = inf
    bad: int = 0  # losses in a row that were no improvement
    resting: int = 0  # losses still to let pass after a cut


@dataclass(frozen=True)
class plateau(Feedback):
    r"""Multiply the rate by `factor` once more than `patience` losses in a row are no improvement.

    .. math:: \eta \leftarrow \max(\eta_{\min},\; f\,\eta) \quad\text{after } p + 1 \text{ losses} \ge (1 - \epsilon)\,\text{best}

    An improvement is below `best` by more than the share `threshold` (ε) of it, or by more than
    `threshold` itself with `threshold_mode="abs"`. After a cut, `cooldown` losses are not counted.

    :when: You do not know how long training takes, and evaluate often enough to see a plateau.
    :torch: `ReduceLROnPlateau(optimizer, "min", factor, patience, threshold, threshold_mode, cooldown, end, eps=0)`;
        its own `eps` leaves out a cut of less than 1e-8; its `min_lr` is a rate, also in a group whose
        rate is smaller; for negative losses, its relative threshold is above the best
    :optax: `contrib.reduce_on_plateau(factor, patience + 1, rtol=threshold, cooldown=cooldown, min_scale=end / peak)`,
        and `rtol=0, atol=threshold` for "abs"; negative losses as in torch; with an `accumulation_size`
        of n, it hears of means of n losses
    :keras: `ReduceLROnPlateau("val_loss", factor, patience + 1, mode="min", min_delta=threshold, cooldown=cooldown + 1, min_lr=end)`,
        for "abs" only; the last loss of its own cooldown counts; a first loss of NaN stays the best
    :transformers: `get_reduce_on_plateau_schedule(optimizer, factor=factor, patience=patience, threshold=threshold, threshold_mode=threshold_mode, cooldown=cooldown, min_lr=end, eps=0)`,
        which is torch's
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(
            _is_number(self.factor) and 0 < self.factor < 1,
            "factor", self.factor, "between 0 and 1, without both",
        )  # fmt: skip
        _check_choice(self, "threshold_mode", ("rel", "abs"))
        relative = self.threshold_mode == "rel"
        _require(
            _is_number(self.threshold, low=0) and not (relative and self.threshold >= 1),
            "threshold", self.threshold,
            "in [0, 1) with threshold_mode='rel'" if relative else "a finite number >= 0",
        )  # fmt: skip
        _require(_is_count(self.cooldown, low=0), "cooldown", self.cooldown, "an int >= 0")
        _check_order(self, "end", "peak")

    def start(self) -> PlateauState:
        return PlateauState(rate=self.peak)

    def next(self, state: PlateauState, loss: float) -> PlateauState:
        rate, best, bad, resting = state
        if self.threshold_mode == "rel":
            enough = best * (1 - copysign(self.threshold, best))
        else:
            enough = best - self.threshold
        if loss < enough:
            best, bad = loss, 0
        else:
            bad += 1
        if resting > 0:
            bad, resting = 0, resting - 1
        if bad > self.patience:
            rate, bad, resting = max(self.end, rate * self.factor), 0, self.cooldown
        return PlateauState(rate, best, bad, resting)


class RestartState(NamedTuple):
    """What `restart_below` remembers between two losses."""

    rate: float
    threshold: float
    age: int = 0  # losses since the last restart
    loss: float = inf  # the last one


@dataclass(frozen=True)
class restart_below(Feedback):
    r"""Run a schedule, and start it again whenever the loss passes a threshold on its way down.

    .. math:: \eta = s(n), \qquad n \leftarrow 0 \;\text{ when }\; \ell_i < \epsilon \le \ell_{i-1}, \qquad n \leftarrow n + 1 \;\text{ otherwise}

    n counts losses, not updates; after a restart the threshold is multiplied by `shrink`. With
    "whenever the loss is below it" in place of "passes", the rate would stay at its first value
    once the loss is low.

    :when: To try what restarts do. As a way to train: see "Restarts and cycles".
    """

    threshold: float
    schedule: Schedule
    shrink: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_is_number(self.threshold), "threshold", self.threshold, "a finite number")
        _require(isinstance(self.schedule, Schedule), "schedule", self.schedule, "a schedule")
        _require(
            _is_number(self.shrink, low=0, high=1) and self.shrink > 0,
            "shrink", self.shrink, "in (0, 1]",
        )  # fmt: skip
        _require(
            self.shrink == 1 or self.threshold > 0,
            "shrink", self.shrink, "1 with a threshold that is not positive",
        )  # fmt: skip

    def start(self) -> RestartState:
        return RestartState(self.schedule(0), self.threshold)

    def next(self, state: RestartState, loss: float) -> RestartState:
        _, threshold, age, last = state
        if loss < threshold and not last < threshold:
            age, threshold = 0, threshold * self.shrink
        else:
            age += 1
        return RestartState(self.schedule(age), threshold, age, loss)
