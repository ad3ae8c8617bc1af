"""What an update rule is: a formula whose signature declares what it keeps and what it asks for.

    @rule
    def heavy_ball(theta, g, b, *, lr, momentum=0.9):
        b = momentum * b + g
        return theta - lr * b, b

- Names after `theta, g` are **state**. An array like theta that starts at zero needs no more than
  its name. `r: number` is one number for each run, which starts at 0 and broadcasts against theta;
  `z: point` is like theta and starts where theta starts; `x: average` is a `point` that is to be
  evaluated in theta's place.
- Keywords with a default are **hyperparameters**.
- Keywords without a default are **asked for**: `lr`, the rate; `t`, the number of the update from
  1; `loss`, of the batch, before the update; `gradient`, the function θ → gradient of the same
  batch there; `norm(x)`, `norm(x, 1)`, `dot(x, y)` and `mean(x)` over all numbers of a run, one
  result for each run; `shape`, the shape of one run's theta.

A formula with a norm sees all parameters at once. `layer_rule` is for one that is applied to each
layer by itself: there theta, the norms and the numbers are those of a layer.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = [
    "Rule", "rule", "layer_rule", "number", "point", "average", "plain", "ema", "tail_average",
    "sqrt", "sign", "where", "maximum", "minimum", "nonzero",
]  # fmt: skip


class _Slot(Enum):
    ARRAY = "array"
    NUMBER = "number"
    POINT = "point"
    AVERAGE = "average"


# In a formula's signature they say what is kept; to a type checker, as annotations, nothing.
if TYPE_CHECKING:
    number: TypeAlias = Any
    point: TypeAlias = Any
    average: TypeAlias = Any
else:
    number, point, average = _Slot.NUMBER, _Slot.POINT, _Slot.AVERAGE

# --- Types ---------------------------------------------------------------------------------------

# Arrays of one call: all of NumPy, or all of torch.
A = TypeVar("A", np.ndarray, "torch.Tensor")
# One for all runs, or one for each; an array where theta is one of NumPy, and either for torch.
Rate: TypeAlias = "float | np.ndarray | torch.Tensor"
# "t", an int, and the slots, arrays like theta: what a slot is only the rule knows.
State: TypeAlias = dict[str, Any]
# Hyperparameters: numbers, pairs of numbers, None; which, only the rule knows.
Hyper: TypeAlias = dict[str, Any]


# --- What hyperparameters may be -----------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _within(low: float, high: float) -> Callable[[Any], bool]:
    """A test for numbers in [low, high); NaN fails both comparisons."""
    return lambda value: (type(value) is float or _is_number(value)) and low <= value < high


def _above(low: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low < value < math.inf


def _count(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Integral) and _is_number(value) and int(value) >= low


def _pair(allows: Callable[[Any, Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (tuple, list)) and len(value) == 2 and allows(*value)


def _is_rate(value: Any) -> bool:
    if type(value) is float or not _is_array(value):
        return _in_range(value)
    return bool(((value >= 0) & (value < math.inf)).all())


_in_range = _within(0.0, math.inf)
_FINITE = _in_range, "finite and >= 0"
_UNIT = _within(0.0, 1.0), "in [0, 1)"
_POSITIVE = _above(0.0), "finite and > 0"

# name: (test, the range in words)
_RANGES: dict[str, tuple[Callable[..., bool], str]] = {
    "lr": (_is_rate, "finite and >= 0"),
    **dict.fromkeys(("momentum", "alpha", "rho", "decay"), _UNIT),
    "betas": (_pair(lambda a, b: _UNIT[0](a) and _UNIT[0](b)), "a pair of numbers in [0, 1)"),
    **dict.fromkeys(
        ("eps", "eps1", "eps2", "weight_decay", "momentum_decay", "trust", "others"), _FINITE
    ),
    **dict.fromkeys(("r0", "d0", "d_coef"), _POSITIVE),
    "f_min": (lambda value: _is_number(value) and math.isfinite(value), "a finite number"),
    "cap": (lambda value: value is None or _above(0.0)(value), "finite and > 0, or None"),
    "etas": (
        _pair(lambda low, high: _within(0.0, 1.0)(low) and _above(1.0)(high)),
        "a pair of numbers, the first in [0, 1) and the second > 1",
    ),
    "step_sizes": (
        _pair(lambda low, high: _in_range(low) and _in_range(high) and low <= high),
        "a pair of finite numbers, 0 <= smallest <= largest",
    ),
    "beta2_decay": (_within(-math.inf, 1e-300), "a number <= 0"),
    "d": (_within(1.0, math.inf), "finite and >= 1"),
    "ns_steps": (_count(1), "an int >= 1"),
    "after": (_count(0), "an int >= 0"),
}


def _check_range(name: str, value: Any) -> None:
    """Raise ValueError unless hyperparameter `name` may have this value."""
    if name not in _RANGES:
        return
    allows, words = _RANGES[name]
    if not allows(value):
        raise ValueError(f"{name}={value!r} is not allowed: {name} must be {words}")


def _is_array(value: Any) -> TypeGuard[np.ndarray | torch.Tensor]:
    return hasattr(value, "shape") and hasattr(value, "ndim")


def _require_array(name: str, value: Any) -> None:
    if not _is_array(value):
        raise TypeError(
            f"{name} must be a NumPy array or a torch tensor, not {type(value).__name__}"
        )


def plain(value: Any) -> Any:
    """NumPy scalars as Python numbers, which never turn float32 arrays into float64."""
    if isinstance(value, (tuple, list)):
        return tuple(plain(part) for part in value)
    scalar = isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0
    return value.item() if scalar else value


# --- What formulas are written with, for NumPy and torch alike -----------------------------------


def sqrt(x: A) -> A:
    """The square root in the library that `x` comes from."""
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)  # type: ignore[return-value]  # no tensor


def sign(x: A) -> A:
    """The sign, -1, 0 or 1, of an array."""
    return x.sign() if hasattr(x, "sign") else np.sign(x)  # type: ignore[return-value]  # no tensor


def where(condition: A, x: A, y: A) -> A:
    """The array `x` where the condition holds, and the array `y` elsewhere."""
    return x.where(condition, y) if hasattr(x, "where") else np.where(condition, x, y)  # type: ignore[return-value]  # no tensor


def maximum(x: Any, y: Any) -> Any:
    """The larger of two, element by element; one of them may be a number."""
    return _larger(x, y, "maximum", "min", max)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two, element by element; one of them may be a number."""
    return _larger(x, y, "minimum", "max", min)


def _larger(
    x: Any, y: Any, name: str, bound: str, of_numbers: Callable[[float, float], float]
) -> Any:
    if isinstance(x, (int, float)) and not _is_array(x):
        x, y = y, x
    y_is_plain = isinstance(y, (int, float)) and not _is_array(y)
    if y_is_plain and isinstance(x, (int, float)) and not _is_array(x):
        return of_numbers(x, y)
    if not hasattr(x, name):
        return getattr(np, name)(x, y)
    return x.clamp(**{bound: y}) if y_is_plain else getattr(x, name)(y)


def nonzero(x: A) -> A:
    """`x` with 1 in the place of 0: a divisor that is harmless where what it divides is 0 too."""
    return x + (x == 0)


def _rows(x: A) -> A:
    return x.reshape(x.shape[0], -1)


def _norms(x: A, order: int = 2) -> A:
    x = _rows(x)
    return abs(x).sum(-1) if order == 1 else sqrt((x * x).sum(-1))


def _dots(x: A, y: A) -> A:
    return (_rows(x) * _rows(y)).sum(-1)


def _means(x: A) -> A:
    return _rows(x).mean(-1)


# Alone, a run is added up as a row is, so that it gives the same bits.
_OF_ONE = {
    "norm": lambda x, order=2: _norms(x[None], order)[0],
    "dot": lambda x, y: _dots(x[None], y[None])[0],
    "mean": lambda x: _means(x[None])[0],
}
_OF_RUNS = {
    "norm": lambda x, order=2: _as_runs(_norms(x, order), x),
    "dot": lambda x, y: _as_runs(_dots(x, y), x),
    "mean": lambda x: _as_runs(_means(x), x),
}
_ASKABLE = {"t", "loss", "gradient", "shape", *_OF_ONE}


def _as_runs(x: A, theta: A) -> A:
    """Shape (K,) numbers so that each meets its run in a theta of shape (K, ...)."""
    return x.reshape((-1,) + (1,) * (theta.ndim - 1))


# --- Rules ---------------------------------------------------------------------------------------


class Rule:
    """An update rule: a formula with its state and its hyperparameters. Made by `rule`.

    Attributes
    ----------
    slots : tuple of str
        Names of the state, in the formula's order.
    kinds : dict
        For each slot, whether it is an array like theta, a `number`, a `point` or an `average`.
    defaults : dict
        Hyperparameters with their defaults. `lr` has none: you choose the rate.
    formula : function
        The function as written in its module: `formula(theta, g, *slots, lr=..., ...)`
        returns `(theta, *slots)`, or only theta where there is no state.
    uses_t : bool
        Whether the formula needs the number of the update, counted from 1.
    asks : frozenset of str
        What else it asks for by keyword: `loss`, `gradient`, `norm`, `dot`, `mean`, `shape`.
    layerwise : bool
        Whether it is applied to each layer by itself.
    average : str or None
        The slot that is evaluated in theta's place.
    """

    def __init__(self, formula: Callable[..., Any], layerwise: bool = False) -> None:
        signature = inspect.signature(formula)
        parameters = list(signature.parameters.values())
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        names = [p.name for p in positional]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        if names[:2] != ["theta", "g"] or "lr" not in [p.name for p in keywords]:
            raise TypeError(
                f"{formula.__name__} is no update rule: its signature must be "
                "(theta, g, <state> ..., *, lr, <hyperparameter>=<default> ...)"
            )
        if "t" in names:
            raise TypeError(f"{formula.__name__}: t counts updates, so no state can be named t")
        self.formula = formula
        self.layerwise = layerwise
        self.slots = tuple(names[2:])
        self.kinds = {p.name: _kind_of(p.annotation) for p in positional[2:]}
        self._like_theta = [name for name, kind in self.kinds.items() if kind is not number]
        averages = [name for name, kind in self.kinds.items() if kind is average]
        if len(averages) > 1:
            raise TypeError(f"{formula.__name__}: only one average can be evaluated")
        self.average = averages[0] if averages else None
        given = {p.name for p in keywords if p.default is p.empty}
        self.uses_t = "t" in given
        self.asks = frozenset(given & _ASKABLE - {"t"})
        if layerwise and "gradient" in self.asks:
            raise TypeError(
                f"{formula.__name__}: the gradient at another point is of all layers, so a "
                "layer-wise rule cannot ask for it"
            )
        missing = [p.name for p in keywords if p.name in given - _ASKABLE - {"lr"}]
        if missing:
            raise TypeError(f"{formula.__name__}: hyperparameter {missing[0]} needs a default")
        self.defaults = {p.name: p.default for p in keywords if p.name not in given}
        self.__name__ = formula.__name__
        self.__qualname__ = formula.__qualname__
        self.__module__ = formula.__module__
        self.__doc__ = formula.__doc__
        self.__signature__ = signature

    @property
    def elementwise(self) -> bool:
        """Whether every element could be updated by itself, as far as the signature tells."""
        return not self.asks and number not in self.kinds.values()

    def init(self, theta: A, runs: bool = False) -> State:
        """The state before the first update: `t` = 0, and every slot at its start.

        With `runs`, theta has shape (K, ...) and its rows are runs; a `number` is then one for
        each from the beginning.
        """
        _require_array("theta", theta)
        return {"t": 0} | {
            name: self._start(kind, theta, runs) for name, kind in self.kinds.items()
        }

    def _start(self, kind: _Slot, theta: Any, runs: bool) -> Any:
        if kind in (point, average):
            return theta.clone() if hasattr(theta, "clone") else theta.copy()
        shape = theta.shape
        if kind is number:
            shape = (shape[0],) + (1,) * (len(shape) - 1) if runs else ()
        return (
            theta.new_zeros(shape) if hasattr(theta, "new_zeros") else np.zeros(shape, theta.dtype)
        )

    def __call__(
        self,
        theta: A,
        g: A,
        state: State,
        *,
        lr: Rate,
        loss: Rate | None = None,
        gradient: Callable[[A], A] | None = None,
        **hyper: Any,
    ) -> tuple[A, State]:
        """One update. Returns the new theta and the new state; the arguments stay as they are.

        Parameters
        ----------
        theta, g : array or tensor of one shape
            Parameters and the gradient of the loss there.
        state : dict
            From `init` or from the call before.
        lr : float, or array of shape (K,)
            The rate; K rates for a theta of shape (K, ...), one per run. For a rule that asks
            for a norm this says what a run is: with one rate, all of theta.
        loss : float, or array of shape (K,)
            For a rule that asks for it: the loss at theta.
        gradient : function of an array like theta
            For a rule that asks for it: the gradient of the same loss at another point.
        **hyper
            Hyperparameters that differ from `defaults`.

        Raises
        ------
        TypeError
            A keyword that is not a hyperparameter of this rule; theta or g is no array.
        ValueError
            A value out of range, shapes that do not fit, or something asked for is missing.
        """
        self.check(lr=lr, **hyper)
        _require_array("theta", theta)
        _require_array("g", g)
        if theta.shape != g.shape:
            raise ValueError(
                f"theta and g must have one shape, not {tuple(theta.shape)} and {tuple(g.shape)}"
            )
        if set(state) != {"t", *self.slots}:
            raise ValueError(
                f"state has {sorted(state)}, but {self.__name__} keeps "
                f"{sorted(['t', *self.slots])}: start from {self.__name__}.init(theta)"
            )
        slots = [state[name] for name in self.slots]
        if any(state[name].shape != theta.shape for name in self._like_theta):
            raise ValueError(
                f"state and theta must have one shape: start from {self.__name__}.init(theta)"
            )
        t = state["t"] + 1
        hyper = self.defaults | {name: plain(value) for name, value in hyper.items()}
        lr = _per_run("lr", plain(lr), theta)
        runs = _is_array(lr) and lr.ndim > 0
        if loss is not None:
            loss = _per_run("loss", plain(loss), theta)
        new = self.update(theta, g, slots, t, lr, hyper, runs=runs, loss=loss, gradient=gradient)
        return new[0], {"t": t} | dict(zip(self.slots, new[1:], strict=True))

    def update(
        self,
        theta: A,
        g: A,
        slots: Sequence[A],
        t: int,
        lr: Rate,
        hyper: Hyper,
        *,
        runs: bool = False,
        loss: Rate | None = None,
        gradient: Callable[[A], A] | None = None,
    ) -> tuple[A, ...]:
        """The formula on checked arguments, for callers that call it very often.

        Returns the tuple (theta, *slots) after update number `t`. With `runs`, the first axis of
        theta counts runs, and `lr` and `loss` are shaped to broadcast against it.
        """
        if self.uses_t:
            hyper = hyper | {"t": t}
        if self.asks:
            hyper = hyper | self._answers(theta, runs, loss, gradient)
        new = self.formula(theta, g, *slots, lr=lr, **hyper)
        new = new if isinstance(new, tuple) else (new,)
        if len(new) != 1 + len(self.slots):
            raise TypeError(
                f"{self.__name__} must return {', '.join(('theta', *self.slots))}, "
                f"not {len(new)} values"
            )
        return new

    def _answers(
        self, theta: A, runs: bool, loss: Rate | None, gradient: Callable[[A], A] | None
    ) -> Hyper:
        """What the formula asks for, by name."""
        shape = tuple(theta.shape[1:] if runs else theta.shape)
        answers: Hyper = {"shape": shape, "loss": loss, "gradient": gradient}
        answers |= _OF_RUNS if runs else _OF_ONE
        for name in self.asks:
            if answers[name] is None:
                raise ValueError(f"{self.__name__} asks for {name}, which is missing: {_HOW[name]}")
        return {name: answers[name] for name in self.asks}

    def evaluated(self, theta: A, state: State) -> A:
        """The parameters to evaluate after an update: theta, or its average if the rule has one."""
        return theta if self.average is None else state[self.average]

    def check(self, lr: Rate, **hyper: Any) -> None:
        """Raise TypeError for an unknown hyperparameter, ValueError for a value out of range."""
        unknown = sorted(set(hyper) - set(self.defaults))
        if unknown:
            known = ", ".join(["lr", *self.defaults])
            raise TypeError(f"{self.__name__} has no hyperparameter {unknown[0]!r}: it has {known}")
        _check_range("lr", lr)
        for name, value in hyper.items():
            _check_range(name, value)

    def __repr__(self) -> str:
        return f"<rule {self.__name__}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A rule is pickled by its name, like a function.
        return self.__qualname__


_HOW = {
    "loss": (
        "pass loss=..., to a TorchOptimizer a closure that computes the loss, calls backward and "
        "returns it: step(closure)"
    ),
    "gradient": (
        "pass gradient=..., the function θ → gradient, to a TorchOptimizer a closure that zeroes "
        "the gradients, computes the loss and calls backward: step(closure)"
    ),
}


def _kind_of(annotation: object) -> _Slot:
    """The kind of slot that an annotation says; with postponed annotations it is a name."""
    if isinstance(annotation, str):
        annotation = {kind.value: kind for kind in _Slot}.get(annotation)
    return annotation if isinstance(annotation, _Slot) else _Slot.ARRAY


def _per_run(name: str, value: Any, theta: Any) -> Any:
    """Shape `value` (K,) so that it multiplies the runs of a theta of shape (K, ...)."""
    if not _is_array(value) or value.ndim == 0:
        return value
    if value.ndim != 1 or theta.ndim == 0 or value.shape[0] != theta.shape[0]:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} and theta {tuple(theta.shape)}: {name} must "
            "be one number, or one number for each run along theta's first axis"
        )
    if hasattr(theta, "new_tensor"):
        value = value.to(theta) if hasattr(value, "to") else theta.new_tensor(value)
    else:
        # a float64 rate must not turn float32 runs into float64
        value = np.asarray(value, theta.dtype)
    return _as_runs(value, theta)


def rule(formula: Callable[..., Any]) -> Rule:
    """Make a `Rule` of a formula. Use as a decorator.

    The signature declares everything, as the module says: `def name(theta, g, *state, t, lr,
    hyper=default)`. Put the state names as plain positional arguments, then `*`, then the
    keywords; ask for `t`, `norm` and the like only if the formula needs them. Return the new
    theta, followed by the new state in the same order.
    """
    return Rule(formula)


def layer_rule(formula: Callable[..., Any]) -> Rule:
    """Make a `Rule` of a formula for one layer's parameters. Use as a decorator.

    `train`, `sweep` and `TorchOptimizer` apply it to every weight and bias by itself. A direct
    call takes theta to be one layer.
    """
    return Rule(formula, layerwise=True)


# --- Averages of any rule's path -----------------------------------------------------------------


class _Averaged(Rule):
    """A rule with an average beside it; `make(rule, value)` makes it anew after pickling."""

    def __init__(
        self,
        make: Callable[..., Rule],
        rule: Rule,
        keyword: str,
        value: Any,
        fresh: Callable[[int, Any], float],
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be a rule such as lrteach.optimizers.sgd, not {rule!r}")
        if rule.average:
            raise TypeError(f"{rule.__name__} has an average already, which is evaluated")
        if keyword in rule.defaults:
            raise TypeError(f"{rule.__name__} has a hyperparameter {keyword!r} of its own")
        _check_range(keyword, value)

        def formula(theta: Any, g: Any, *state: Any, t: int, **more: Any) -> tuple[Any, ...]:
            *slots, mean = state
            share = fresh(t, more.pop(keyword))
            given = {"t": t} if rule.uses_t else {}
            new = rule.formula(theta, g, *slots, **given, **more)
            theta, *slots = new if isinstance(new, tuple) else (new,)
            return theta, *slots, (1 - share) * mean + share * theta

        old = rule.__signature__.parameters.values()
        kinds = inspect.Parameter
        keywords = [p for p in old if p.kind is p.KEYWORD_ONLY and p.name != "t"]
        formula.__signature__ = inspect.Signature([  # type: ignore[attr-defined]  # for `inspect`
            *(p for p in old if p.kind is not p.KEYWORD_ONLY),
            kinds("mean_theta", kinds.POSITIONAL_OR_KEYWORD, annotation=average),
            kinds("t", kinds.KEYWORD_ONLY),
            *keywords,
            kinds(keyword, kinds.KEYWORD_ONLY, default=value),
        ])  # fmt: skip
        formula.__name__ = formula.__qualname__ = f"{make.__name__}({rule.__name__})"
        formula.__module__ = rule.__module__
        formula.__doc__ = make.__doc__
        super().__init__(formula, layerwise=rule.layerwise)
        self._made_by = make, (rule, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_by


def ema(rule: Rule, decay: float = 0.999) -> Rule:
    r"""Any rule, with an exponential moving average of its path, which is what is evaluated.

    .. math:: a_1 = \theta_1, \qquad a_t = \beta\, a_{t-1} + (1-\beta)\,\theta_t, \qquad \beta = \texttt{decay}

    `ema(adam)` is a rule like any other: it walks as adam does, and `evaluated` gives the average
    a, of the shape of theta. `lr` means what it means for the rule inside. `decay` is a
    hyperparameter more. The average remembers about 1 / (1 − decay) updates and starts with the
    parameters after the first, as in torch; optax instead starts at zero and corrects the bias.

    :when: The end of a run is noisy and you cannot, or will not, let the rate decay.
    :torch: `swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))`
    :optax: `ema(decay)` on the parameters (it starts at zero, with a correction)
    :keras: `use_ema=True, ema_momentum=decay`
    :source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4), for the plain mean; as a moving average: Tarvainen & Valpola 2017, arXiv:1703.01780
    """
    return _averaged(ema, rule, "decay", decay, _ema_share)


def tail_average(rule: Rule, after: int = 0) -> Rule:
    r"""Any rule, with the mean of its path after update number `after`, which is what is evaluated.

    .. math:: a_t = \theta_t \;\; (t \le s), \qquad a_t = a_{t-1} + \frac{\theta_t - a_{t-1}}{t - s}, \qquad s = \texttt{after}

    `tail_average(sgd, after=500)` walks as sgd does; up to and with update 501 the average is
    theta itself, then the mean of θ₅₀₁ … θₜ, of the shape of theta. With `after=0` it is the mean
    of the whole path but its start. `lr` means what it means for the rule inside. torch's ASGD
    averages so too, and decays the rate beside it.

    :when: A constant rate and a known end: average the last quarter or half of the run.
    :torch: `swa_utils.AveragedModel(model)`, updated after update `after`
    :optax: not there
    :keras: not there
    :source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); the tail: Rakhlin, Shamir & Sridharan 2012, arXiv:1109.5647
    """
    return _averaged(tail_average, rule, "after", after, _tail_share)


@lru_cache(maxsize=None, typed=True)
def _averaged_once(*arguments: Any) -> Rule:
    return _Averaged(*arguments)


def _averaged(
    make: Callable[..., Rule],
    rule: Rule,
    keyword: str,
    value: Any,
    fresh: Callable[[int, Any], float],
) -> Rule:
    try:
        return _averaged_once(make, rule, keyword, plain(value), fresh)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _Averaged(make, rule, keyword, value, fresh)


def _ema_share(t: int, decay: float) -> float:
    return 1 - decay * (t > 1)


def _tail_share(t: int, after: int) -> float:
    return 1 / ((t - after) * (t > after) + (t <= after))
