"""The learning-rate range test: raise the rate at every update, and see where training breaks.

    found = range_test(model, loader, adam)          # the model is left as it was
    found.lr                                         # a rate to start from
    print(found)                                     # four suggestions, each with its caveat
    found.plot()

The test is cheap (one short run for each seed) and rough: it sees a rate for one update where
training uses it for thousands. How far off each suggestion is, the chapter "Finding the rate"
measures against full sweeps.
"""

from __future__ import annotations

import copy
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.optim import Optimizer
from tqdm import tqdm

from lrteach.models import initialise as draw_parameters
from lrteach.rules import Hyper, Rule
from lrteach.torch_optimizer import TorchOptimizer
from lrteach.training import Dataset, Loss, batches, default_loss

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# How the loss of a model on a batch is computed.
Forward: TypeAlias = Callable[[torch.nn.Module, Any], torch.Tensor]

__all__ = ["RangeTest", "RangeTestError", "Suggestion", "range_test", "smoothed", "suggest"]

CAVEATS = {
    "cliff/4": "A quarter of the rate at which the loss is back where it began. Moves least with the "
    "test's length and first rate. Too high where a rate fails late (sign steps) and where there is "
    "no noise: on a parabola the cliff that a test sees is 6.3 times the limit.",
    "minimum/10": "A tenth of the rate with the lowest loss. Mostly too small by a factor of 10 or "
    "more. The minimum comes at smaller rates, the longer the test.",
    "steepest": "Where the loss falls fastest for a factor in the rate. Mostly several times too "
    "small, and the more so, the longer the test: it comes as soon as the first easy gain is made.",
    "valley": "The middle of the longest stretch over which the loss falls. Mostly far too small, for "
    "noise makes the flat beginning part of the stretch: a smaller first rate moves it down.",
}


class RangeTestError(RuntimeError):
    """The test cannot be run on this model and these data."""


@dataclass(frozen=True)
class Suggestion:
    """A rate that a curve suggests: median and range over the seeds, and what it is worth.

    `lr`, `low` and `high` are NaN where no curve shows what the suggestion looks for; `found` of
    `seeds` curves do.
    """

    name: str
    lr: float
    low: float
    high: float
    found: int
    seeds: int
    caveat: str

    def __str__(self) -> str:
        if not self.found:
            return f"{self.name}: nothing found"
        some = "" if self.found == self.seeds else f", on {self.found} of {self.seeds} seeds"
        return f"{self.name}: {self.lr:.2g} (from {self.low:.2g} to {self.high:.2g}{some})"


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test of T updates with S seeds saw.

    Attributes
    ----------
    rates : array (T,)
        The rate of each update, from the lowest to the highest.
    losses : array (S, T)
        The batch's loss before each update; NaN after the curve was stopped.
    smoothed : array (S, T)
        The losses after `smoothed(losses, window)`.
    window : int
        How many updates were averaged for it.
    suggestions : dict of str to Suggestion
        "cliff/4", "minimum/10", "steepest" and "valley".
    stopped : tuple of str
        For each seed, why its curve ends.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    window: int
    suggestions: dict[str, Suggestion]
    stopped: tuple[str, ...]
    rule: str = field(default="")

    @property
    def lr(self) -> float:
        """The rate of "cliff/4", or else of "steepest": those that miss least. NaN without both."""
        found = [self.suggestions[name].lr for name in ("cliff/4", "steepest")]
        return next((lr for lr in found if math.isfinite(lr)), math.nan)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each update of each seed, as a pandas DataFrame."""
        import pandas

        s, t = np.indices(self.losses.shape)
        return pandas.DataFrame(
            {
                "seed": s.ravel(), "update": t.ravel(), "lr": self.rates[t.ravel()],
                "loss": self.losses.ravel(), "smoothed": self.smoothed.ravel(),
            }
        )  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the smoothed curves and the four suggestions. Returns the axes."""
        from lrteach import plots

        if ax is None:
            _, ax = plots.figure(
                f"Range test of {self.rule}: the loss against a rising rate", height=3.8
            )
        for raw, curve in zip(self.losses, self.smoothed, strict=True):
            ax.plot(self.rates, raw, color=plots.MUTED, lw=0.5, alpha=0.35)
            ax.plot(self.rates, curve, color=plots.INK, lw=1.4)
        first, low = np.nanmedian(self.smoothed[:, 0]), np.nanmin(self.smoothed)
        room = max(first - low, 1e-12)
        ax.set_ylim(low - 0.08 * room, first + 0.5 * room)
        found = sorted((s for s in self.suggestions.values() if s.found), key=lambda s: s.lr)
        for i, one in enumerate(found):
            color = plots.PALETTE[list(self.suggestions).index(one.name)]
            ax.axvspan(one.low, one.high, color=color, alpha=0.12, lw=0)
            ax.axvline(one.lr, color=color, lw=1.6)
            ax.text(
                one.lr, 0.98 - 0.085 * i, f" {one.name}: {one.lr:.2g}", color=color, va="top",
                fontsize=9, transform=ax.get_xaxis_transform(),
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlim(self.rates[0], self.rates[-1])
        ax.set_xlabel("learning rate η")
        ax.set_ylabel("loss of the batch")
        return ax

    def __str__(self) -> str:
        T = len(self.rates)
        lines = [
            f"Range test of {self.rule}: {T} updates from {self.rates[0]:.2g} to "
            f"{self.rates[-1]:.2g}, {len(self.losses)} seeds, smoothed over {self.window} updates"
        ]
        for one in self.suggestions.values():
            lines += [f"  {one}", f"      {one.caveat}"]
        return "\n".join(lines + [f"  seed {i}: {why}" for i, why in enumerate(self.stopped)])

    def __repr__(self) -> str:
        return f"<RangeTest of {self.rule}: {'; '.join(map(str, self.suggestions.values()))}>"


def range_test(
    model: torch.nn.Module,
    data: Dataset | Iterable[Any],
    rule: Rule | Optimizer,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    seeds: int = 3,
    batch_size: int = 100,
    loss: Loss | None = None,
    forward: Forward | None = None,
    initialise: bool = False,
    stop: float = 2.0,
    window: int | None = None,
    clip: float | None = None,
    progress: bool | None = None,
    **hyper: Any,
) -> RangeTest:
    """Raise the rate from `low` to `high`, a constant factor each update, and watch the loss.

    Model, optimizer, loader and all random states are left as they were found, also after an
    error. Nothing is kept of the training.

    Parameters
    ----------
    model : torch.nn.Module
        Used where it is, on its device and in its dtype.
    data : lrteach.data.Data, or a DataLoader or another collection of batches
        A batch is a pair (inputs, targets). A collection that ends is begun again.
    rule : Rule, or torch.optim.Optimizer
        An optimizer must have been built on the parameters of `model`. Its groups keep the
        proportions of their rates; the rates of the test are those of the first group.
    low, high : float
        First and last rate.
    steps : int
        Updates of each curve.
    seeds : int
        Curves. Each has its own order of the batches, and its own draws of dropout.
    batch_size : int
        Of the batches that are drawn from a `Data`; a loader makes its own.
    loss : function(outputs, targets) -> scalar tensor, or None
        None is cross-entropy for integer targets and the mean squared error otherwise.
    forward : function(model, batch) -> scalar tensor, or None
        For batches that are no pairs, or a model that computes its loss: used in place of `loss`.
    initialise : bool
        True draws new parameters for each seed; otherwise each curve starts from those that the
        model has, as it should if they are pre-trained.
    stop : float
        End a curve when the smoothed loss has risen above the first by `stop` times as much as
        the first is away from the lowest, and by as much as the first itself; or when the loss is not finite.
    window : odd int, or None
        Updates over which the curve is averaged; None is a twentieth of `steps`.
    clip : float or None
        Scale a gradient that is longer than this down to this length.
    progress : bool or None
        Show a progress bar; None shows it in a terminal only.
    **hyper
        Hyperparameters of the rule.

    Returns
    -------
    RangeTest

    Raises
    ------
    TypeError, ValueError
        An argument that cannot be used; the message names it.
    RangeTestError
        No batch, a batch that is no pair, a first loss that is not finite.

    Source: Smith 2017, arXiv:1506.01186, there with a linear rise; with this one, Gugger 2018.
    """
    _check(low, high, steps, seeds, stop, window, clip)
    optimizer = _optimizer(model, rule, hyper)
    name = rule.__name__ if isinstance(rule, Rule) else type(rule).__name__
    window = window or max(1, steps // 20) // 2 * 2 + 1
    rates = np.geomspace(low, high, steps)
    losses, why = np.full((seeds, steps), np.nan), []
    with (
        tqdm(total=seeds * steps, desc=f"range test of {name}", leave=False,
             disable=None if progress is None else not progress) as bar,
    ):  # fmt: skip
        for seed in range(seeds):
            with _as_it_was(model, optimizer, data), _seeded(seed, data):
                if initialise:
                    draw_parameters(model, seed)
                feed = _Feed(model, data, batch_size, seed, loss, forward)
                why.append(
                    _one_curve(feed, optimizer, rates, losses[seed], stop, window, clip, bar)
                )
            bar.update((seed + 1) * steps - bar.n)
    curves = np.array([smoothed(curve, window) for curve in losses])
    return RangeTest(
        rates, losses, curves, window, _over_seeds(rates, losses, window), tuple(why), name
    )


def _one_curve(
    feed: _Feed,
    optimizer: Optimizer,
    rates: np.ndarray,
    losses: np.ndarray,
    stop: float,
    window: int,
    clip: float | None,
    bar: tqdm,
) -> str:
    """Train at rising rates until training breaks; fill in `losses`. Returns why it ended."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    shares = _shares(optimizer)
    feed.model.train()
    for t, rate in enumerate(rates):
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        batch = feed.next()
        seen: list[float] = []

        def closure(batch: Any = batch, seen: list[float] = seen) -> Any:  # torch says float
            optimizer.zero_grad(set_to_none=True)
            value = feed.loss_of(batch)
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            seen.append(value.item())
            return value

        closure()
        losses[t] = seen[0]
        if not math.isfinite(seen[0]):
            if t == 0:
                raise RangeTestError(
                    f"the loss of the first batch is {seen[0]}, before any update: look at the "
                    "inputs and the model before its rate"
                )
            losses[t] = np.nan
            return f"the loss was {seen[0]} at the rate {rate:.3g}"
        recent = np.mean(losses[max(0, t - window + 1) : t + 1])
        lowest = losses[:window].mean() if t < window else _lowest(losses[: t + 1], window)
        first = np.mean(losses[: min(t + 1, window)])
        if t >= window and recent > first + max(stop * (first - lowest), abs(first)):
            return f"the loss was far above its beginning at the rate {rate:.3g}"
        again = closure if _needs_closure(optimizer) else None
        optimizer.step(again) if again else optimizer.step()
        bar.update()
    return "the highest rate was reached"


def _lowest(losses: np.ndarray, window: int) -> float:
    sums = np.cumsum(np.concatenate([[0.0], losses]))
    return float((sums[window:] - sums[:-window]).min() / window)


def _needs_closure(optimizer: Optimizer) -> bool:
    if isinstance(optimizer, TorchOptimizer):
        return bool({"loss", "gradient"} & optimizer.rule.asks)
    return isinstance(optimizer, torch.optim.LBFGS)


def _shares(optimizer: Optimizer) -> list[float]:
    """What each group's rate is a multiple of, with the first group's as the unit."""
    first = float(optimizer.param_groups[0]["lr"])
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if first <= 0 and len(rates) > 1:
        raise ValueError(
            f"lr={first!r} of the first group is not allowed: it is the unit of the other groups' "
            "rates, so it must be > 0"
        )
    return [rate / first if first > 0 else 1.0 for rate in rates]


# --- Reading a curve -----------------------------------------------------------------------------


def smoothed(losses: ArrayLike, window: int) -> np.ndarray:
    """Mean over the `window` updates around each one, fewer at the ends; NaN stays NaN.

    It looks both ways, so it does not move the curve to later rates, as a running average does.
    Shape (T,) in and out.
    """
    losses = np.asarray(losses, float)
    finite = np.isfinite(losses)
    ones = np.ones(window)
    sums = np.convolve(np.where(finite, losses, 0.0), ones, "same")
    counts = np.convolve(finite.astype(float), ones, "same")
    with np.errstate(invalid="ignore"):
        return np.where(finite, sums / np.maximum(counts, 1), np.nan)


def suggest(rates: ArrayLike, losses: ArrayLike, window: int = 1) -> dict[str, float]:
    """The four rates that one curve suggests, as a dict; NaN for what it does not show.

    Parameters
    ----------
    rates, losses : arrays (T,)
        Rates that rise by a constant factor, and the loss at each; NaN after training broke.
    window : odd int
        The curve is first `smoothed` over so many updates.

    Returns
    -------
    dict
        "cliff/4", "minimum/10", "steepest", "valley": what the caveats in `CAVEATS` say.
    """
    rates = np.asarray(rates, float)
    curve = smoothed(losses, window)
    seen = np.flatnonzero(np.isfinite(curve))
    picks = dict.fromkeys(CAVEATS, math.nan)
    if len(seen) < 3:
        return picks
    end = int(seen[-1])
    curve = curve[: end + 1]
    lowest = int(np.argmin(curve))
    if end + 1 < len(rates):
        picks["cliff/4"] = rates[end + 1] / 4
    back = np.flatnonzero(curve[lowest:] >= curve[0])
    if lowest > 0 and len(back):
        picks["cliff/4"] = rates[lowest + back[0]] / 4
    if 0 < lowest < len(rates) - 1:
        picks["minimum/10"] = rates[lowest] / 10
    if lowest > 0:
        slopes = np.gradient(curve, np.log(rates[: end + 1]))[: lowest + 1]
        picks["steepest"] = rates[int(np.argmin(slopes))]
        first, last = _longest_fall(curve)
        picks["valley"] = math.sqrt(rates[first] * rates[last])
    return {name: float(value) for name, value in picks.items()}


def _longest_fall(curve: np.ndarray) -> tuple[int, int]:
    """First and last place of the longest subsequence that falls (by patience sorting)."""
    tops: list[float] = []
    places: list[int] = []
    before: list[int] = []
    for i, value in enumerate(-curve):
        pile = bisect_left(tops, value)
        before.append(places[pile - 1] if pile else -1)
        tops[pile : pile + 1], places[pile : pile + 1] = [value], [i]
    first = last = places[-1]
    while before[first] >= 0:
        first = before[first]
    return first, last


def _over_seeds(rates: np.ndarray, losses: np.ndarray, window: int) -> dict[str, Suggestion]:
    each = [suggest(rates, curve, window) for curve in losses]
    found = {}
    for name, caveat in CAVEATS.items():
        values = np.array([picks[name] for picks in each])
        values = values[np.isfinite(values)]
        three = (np.median(values), values.min(), values.max()) if len(values) else [math.nan] * 3
        lr, low, high = map(float, three)
        found[name] = Suggestion(name, lr, low, high, len(values), len(each), caveat)
    return found


# --- Batches, and everything as it was -----------------------------------------------------------


class _Feed:
    """Batches for ever, on the model's device, and the loss of one."""

    def __init__(
        self,
        model: torch.nn.Module,
        data: Any,
        batch_size: int,
        seed: int,
        loss: Loss | None,
        forward: Forward | None,
    ) -> None:
        self.model, self.loss, self.forward = model, loss, forward
        first = next((p for p in model.parameters() if p.is_floating_point()), None)
        self.where = first.device if first is not None else torch.device("cpu")
        self.dtype = first.dtype if first is not None else torch.float32
        if hasattr(data, "x_train"):
            self.batches = self._drawn(data, batch_size, seed)
        else:
            self.batches = self._for_ever(data)

    def _drawn(self, data: Any, batch_size: int, seed: int) -> Iterator[Any]:
        x, y = torch.as_tensor(data.x_train), torch.as_tensor(data.y_train)
        for rows in batches(len(x), min(batch_size, len(x)), seed):
            yield x[rows], y[rows]

    def _for_ever(self, data: Any) -> Iterator[Any]:
        while True:
            empty = True
            for batch in data:
                empty = False
                yield batch
            if empty:
                raise RangeTestError("data gives no batch")

    def next(self) -> Any:
        return next(self.batches)

    def loss_of(self, batch: Any) -> torch.Tensor:
        if self.forward is not None:
            return self.forward(self.model, batch)
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise RangeTestError(
                f"a batch must be a pair (inputs, targets), not {type(batch).__name__}"
                f"{f' of {len(batch)}' if hasattr(batch, '__len__') else ''}: say with forward="
                "function(model, batch) how its loss is computed"
            )
        x, y = (torch.as_tensor(part).to(self.where) for part in batch)
        x = x.to(self.dtype) if x.is_floating_point() else x
        y = y.to(self.dtype) if y.is_floating_point() else y
        return (self.loss or default_loss(y))(self.model(x), y)


def _generators(data: Any) -> list[torch.Generator]:
    """The random generators that a DataLoader and its sampler draw from."""
    owners = (data, getattr(data, "sampler", None), getattr(data, "batch_sampler", None))
    found = {id(g): g for g in (getattr(o, "generator", None) for o in owners) if g is not None}
    return [g for g in found.values() if isinstance(g, torch.Generator)]


@contextmanager
def _seeded(seed: int, data: Any) -> Iterator[None]:
    """Inside, all randomness comes from `seed`. `_as_it_was` around it puts it back."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (data sets that augment often draw from it)
    torch.manual_seed(seed)
    for generator in _generators(data):
        generator.manual_seed(seed)
    yield


@contextmanager
def _as_it_was(model: torch.nn.Module, optimizer: Optimizer, data: Any) -> Iterator[None]:
    """Put parameters, buffers, gradients, modes, the optimizer and all random states back."""
    in_groups = [p for group in optimizer.param_groups for p in group["params"]]
    tensors = {id(x): x for x in (*model.parameters(), *model.buffers(), *in_groups)}.values()
    values = [x.detach().clone() for x in tensors]
    grads = [(x, x.grad) for x in tensors]
    modes = [(module, module.training) for module in model.modules()]
    groups = [
        {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    state = {parameter: copy.deepcopy(kept) for parameter, kept in optimizer.state.items()}
    generators = [(g, g.get_state()) for g in _generators(data)]
    python, old_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            for x in tensors:
                x.grad = None
            yield
        finally:
            with torch.no_grad():
                for x, value in zip(tensors, values, strict=True):
                    x.copy_(value)
            for x, grad in grads:
                x.grad = grad
            for module, training in modes:
                module.training = training
            for group, kept in zip(optimizer.param_groups, groups, strict=True):
                for name in set(group) - set(kept) - {"params"}:
                    del group[name]
                group.update(kept)
            optimizer.state.clear()
            optimizer.state.update(state)
            for generator, drawn in generators:
                generator.set_state(drawn)
            random.setstate(python)
            np.random.set_state(old_numpy)  # noqa: NPY002


# --- Arguments -----------------------------------------------------------------------------------


def _optimizer(model: torch.nn.Module, rule: Rule | Optimizer, hyper: Hyper) -> Optimizer:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if isinstance(rule, Rule):
        return TorchOptimizer(
            [p for p in model.parameters() if p.requires_grad], rule, lr=1.0, **hyper
        )
    if not isinstance(rule, Optimizer):
        raise TypeError(
            "rule must be a rule such as lrteach.optimizers.adam, or a torch.optim.Optimizer, "
            f"not {rule!r}"
        )
    if hyper:
        raise TypeError(
            f"{next(iter(hyper))} is a hyperparameter of an optimizer that is built already"
        )
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in rule.param_groups for p in group["params"]):
        raise ValueError("rule holds no parameter of model: build it on model.parameters()")
    return rule


def _check(
    low: float,
    high: float,
    steps: int,
    seeds: int,
    stop: float,
    window: int | None,
    clip: float | None,
) -> None:
    for name, value in (("low", low), ("high", high), ("stop", stop)):
        if not _is_number(value) or not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is not allowed: {name} must be finite and > 0")
    if low >= high:
        raise ValueError(f"low={low!r} is not allowed: low must be smaller than high={high!r}")
    for name, value, least in (("steps", steps, 20), ("seeds", seeds, 1)):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} is not allowed: {name} must be an int >= {least}")
    if window is not None and not (
        isinstance(window, Integral) and 0 < window < steps and window % 2
    ):
        raise ValueError(
            f"window={window!r} is not allowed: window must be an odd int below steps={steps}"
        )
    if clip is not None and not (_is_number(clip) and clip > 0):
        raise ValueError(f"clip={clip!r} is not allowed: clip must be None or a number > 0")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
