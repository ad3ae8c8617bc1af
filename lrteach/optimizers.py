"""The update rules, each one formula.

A rule is a function whose signature is its declaration: the positional names after
`theta, g` are its state, the keyword defaults are its hyperparameters, and the body is what
the book prints. The `rule` decorator turns it into an object:

    state = adam.init(theta)                          # {'t': 0, 'm': 0·theta, 'v': 0·theta}
    theta, state = adam(theta, g, state, lr=0.001)    # one update, nothing changed in place

The bodies are plain arithmetic, so the same rule runs on NumPy arrays and on torch tensors. A
`lr` of shape (K,) with a `theta` of shape (K, ...) makes K runs side by side, one rate each, and
each bit for bit what it is alone (hence `g * g`: NumPy rounds `g**2` of a scalar differently).
Weight decay in its L2 form belongs to the loss: add `weight_decay * theta` to `g`.
"""

import inspect
import math
from numbers import Real

import numpy as np

__all__ = [
    "Rule", "rule", "sgd", "heavy_ball", "nesterov", "adagrad", "rmsprop", "adadelta", "adam",
    "adamw",
]  # fmt: skip


# name: (lower bound, upper bound, the range in words); the upper bound itself is never allowed
_RANGES = {
    "lr": (0.0, math.inf, "finite and >= 0"),
    "momentum": (0.0, 1.0, "in [0, 1)"),
    "alpha": (0.0, 1.0, "in [0, 1)"),
    "rho": (0.0, 1.0, "in [0, 1)"),
    "betas": (0.0, 1.0, "a pair of numbers in [0, 1)"),
    "eps": (0.0, math.inf, "finite and >= 0"),
    "weight_decay": (0.0, math.inf, "finite and >= 0"),
}


def _check_range(name, value):
    """Raise ValueError unless hyperparameter `name` may have this value."""
    if name not in _RANGES:
        return
    low, high, words = _RANGES[name]
    if name == "betas":
        allowed = isinstance(value, (tuple, list)) and len(value) == 2
        parts = value if allowed else ()
    else:
        allowed, parts = True, (value,)
    for part in parts:
        if isinstance(part, Real) and not isinstance(part, bool):
            allowed &= bool(low <= part < high)  # NaN fails both comparisons
        elif name == "lr" and _is_array(part):
            allowed &= bool(((part >= low) & (part < high)).all())
        else:
            allowed = False
    if not allowed:
        raise ValueError(f"{name}={value!r} is not allowed: {name} must be {words}")


def _is_array(value):
    return hasattr(value, "shape") and hasattr(value, "ndim")


def _require_array(name, value):
    if not _is_array(value):
        raise TypeError(
            f"{name} must be a NumPy array or a torch tensor, not {type(value).__name__}"
        )


def plain(value):
    """NumPy scalars as Python numbers, which never turn float32 arrays into float64."""
    if isinstance(value, (tuple, list)):
        return tuple(plain(part) for part in value)
    scalar = isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0
    return value.item() if scalar else value


def sqrt(x):
    """The square root in the library that `x` comes from."""
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)


def _zeros_like(x):
    return x.new_zeros(x.shape) if hasattr(x, "new_zeros") else np.zeros_like(x)


class Rule:
    """An update rule: a formula with its state and its hyperparameters. Made by `rule`.

    Attributes
    ----------
    slots : tuple of str
        Names of the state arrays, each of the shape of theta, in the formula's order.
    defaults : dict
        Hyperparameters with their defaults. `lr` has none: you choose the rate.
    formula : function
        The function as written in this module: `formula(theta, g, *slots, lr=..., ...)`
        returns `(theta, *slots)`, or only theta where there is no state.
    uses_t : bool
        Whether the formula needs the number of the update, counted from 1.
    """

    def __init__(self, formula):
        parameters = list(inspect.signature(formula).parameters.values())
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        if positional[:2] != ["theta", "g"] or "lr" not in [p.name for p in keywords]:
            raise TypeError(
                f"{formula.__name__} is no update rule: its signature must be "
                "(theta, g, <state> ..., *, lr, <hyperparameter>=<default> ...)"
            )
        if "t" in positional:
            raise TypeError(f"{formula.__name__}: t counts updates, so no state can be named t")
        self.formula = formula
        self.slots = tuple(positional[2:])
        self.uses_t = "t" in [p.name for p in keywords]
        self.defaults = {p.name: p.default for p in keywords if p.name not in ("t", "lr")}
        missing = [name for name, default in self.defaults.items() if default is inspect._empty]
        if missing:
            raise TypeError(f"{formula.__name__}: hyperparameter {missing[0]} needs a default")
        self.__name__ = formula.__name__
        self.__qualname__ = formula.__qualname__
        self.__module__ = formula.__module__
        self.__doc__ = formula.__doc__
        self.__signature__ = inspect.signature(formula)

    def init(self, theta):
        """The state before the first update: `t` = 0 and every slot zero, shaped as theta."""
        _require_array("theta", theta)
        return {"t": 0} | {name: _zeros_like(theta) for name in self.slots}

    def __call__(self, theta, g, state, *, lr, **hyper):
        """One update. Returns the new theta and the new state; the arguments stay as they are.

        Parameters
        ----------
        theta, g : array or tensor of one shape
            Parameters and the gradient of the loss there.
        state : dict
            From `init` or from the call before.
        lr : float, or array of shape (K,)
            The rate; K rates for a theta of shape (K, ...), one per run.
        **hyper
            Hyperparameters that differ from `defaults`.

        Raises
        ------
        TypeError
            A keyword that is not a hyperparameter of this rule; theta or g is no array.
        ValueError
            A value out of range, or shapes that do not fit.
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
        if any(slot.shape != theta.shape for slot in slots):
            raise ValueError(
                f"state and theta must have one shape: start from {self.__name__}.init(theta)"
            )
        t = state["t"] + 1
        hyper = self.defaults | {name: plain(value) for name, value in hyper.items()}
        new = self.update(theta, g, slots, t, _per_run(plain(lr), theta), hyper)
        return new[0], {"t": t} | dict(zip(self.slots, new[1:], strict=True))

    def update(self, theta, g, slots, t, lr, hyper):
        """The formula on checked arguments, for callers that call it very often.

        Returns the tuple (theta, *slots) after update number `t`.
        """
        if self.uses_t:
            hyper = hyper | {"t": t}
        new = self.formula(theta, g, *slots, lr=lr, **hyper)
        new = new if isinstance(new, tuple) else (new,)
        if len(new) != 1 + len(self.slots):
            raise TypeError(
                f"{self.__name__} must return {', '.join(('theta', *self.slots))}, "
                f"not {len(new)} values"
            )
        return new

    def check(self, lr, **hyper):
        """Raise TypeError for an unknown hyperparameter, ValueError for a value out of range."""
        unknown = sorted(set(hyper) - set(self.defaults))
        if unknown:
            known = ", ".join(["lr", *self.defaults])
            raise TypeError(f"{self.__name__} has no hyperparameter {unknown[0]!r}: it has {known}")
        _check_range("lr", lr)
        for name, value in hyper.items():
            _check_range(name, value)

    def __repr__(self):
        return f"<rule {self.__name__}>"

    def __reduce__(self):
        # A rule is pickled by its name, like a function.
        return self.__qualname__


def _per_run(lr, theta):
    """Shape a rate of shape (K,) so that it multiplies the runs of a theta of shape (K, ...)."""
    if not _is_array(lr) or lr.ndim == 0:
        return lr
    if lr.ndim != 1 or theta.ndim == 0 or lr.shape[0] != theta.shape[0]:
        raise ValueError(
            f"lr has shape {tuple(lr.shape)} and theta {tuple(theta.shape)}: lr must be one "
            "number, or one number for each run along theta's first axis"
        )
    if hasattr(theta, "new_tensor"):
        lr = lr.to(theta) if hasattr(lr, "to") else theta.new_tensor(lr)
    else:
        lr = np.asarray(lr, theta.dtype)  # a float64 rate must not turn float32 runs into float64
    return lr.reshape((-1,) + (1,) * (theta.ndim - 1))


def rule(formula):
    """Make a `Rule` of a formula. Use as a decorator.

    The signature declares everything: `def name(theta, g, *state, t, lr, hyper=default)`. Put
    the state names as plain positional arguments, then `*`, then the keywords; ask for `t` only
    if the formula needs it. Return the new theta, followed by the new state in the same order.
    """
    return Rule(formula)


@rule
def sgd(theta, g, *, lr):
    r"""Gradient descent: one step against the gradient. On a batch's gradient it is SGD.

    .. math:: \theta_t = \theta_{t-1} - \eta\, g_t

    `lr` is in units of theta² / loss. `theta`, `g` share one shape.
    Source: Cauchy 1847; stochastic gradients: Robbins & Monro 1951.
    """
    return theta - lr * g


@rule
def heavy_ball(theta, g, b, *, lr, momentum=0.9):
    r"""Gradient descent with momentum: step along a decaying sum of past gradients.

    .. math:: b_t = \beta\, b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\, b_t

    `theta`, `g`, `b` share one shape; `lr` is in units of theta² / loss. As in torch, the rate
    multiplies the sum. Sutskever et al. 2013 put it inside the sum: the same path while the rate
    is constant, another one after it changes. Steady slopes are walked at lr / (1 − momentum).
    Source: Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), eq. (9).
    """
    b = momentum * b + g
    return theta - lr * b, b


@rule
def nesterov(theta, g, b, *, lr, momentum=0.9):
    r"""Momentum with Nesterov's look-ahead, in the form torch uses.

    .. math:: b_t = \beta\, b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\,(g_t + \beta\, b_t)

    `theta`, `g`, `b` share one shape; `lr` is in units of theta² / loss. `theta` here is
    Nesterov's look-ahead point, where the gradient is taken.
    Source: Nesterov 1983; this form: Sutskever et al. 2013, section 2.
    """
    b = momentum * b + g
    return theta - lr * (g + momentum * b), b


@rule
def adagrad(theta, g, s, *, lr, eps=1e-10):
    r"""AdaGrad: divide each coordinate's rate by the root of its summed squared gradients.

    .. math:: s_t = s_{t-1} + g_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, g_t / (\sqrt{s_t} + \epsilon)

    `theta`, `g`, `s` share one shape; `lr` is in units of theta (the ratio g/√s has none).
    Starts with s = 0, as torch does (optax and Keras start at 0.1).
    Source: Duchi, Hazan & Singer 2011, JMLR 12, the diagonal form.
    """
    s = s + g * g
    return theta - lr * g / (sqrt(s) + eps), s


@rule
def rmsprop(theta, g, v, *, lr, alpha=0.99, eps=1e-8):
    r"""RMSprop: divide by the root of a moving average of the squared gradient.

    .. math:: v_t = \alpha v_{t-1} + (1-\alpha) g_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, g_t / (\sqrt{v_t} + \epsilon)

    `theta`, `g`, `v` share one shape; `lr` is in units of theta. No bias correction: the first
    step is lr / √(1 − alpha). `eps` stands outside the root and `alpha` is 0.99, as in torch
    (the lecture uses 0.9; optax by default puts eps inside the root).
    Source: Tieleman & Hinton 2012, Coursera lecture 6.5 (there is no paper).
    """
    v = alpha * v + (1 - alpha) * g * g
    return theta - lr * g / (sqrt(v) + eps), v


@rule
def adadelta(theta, g, v, u, *, lr, rho=0.9, eps=1e-6):
    r"""Adadelta: a step in the units of theta, from the ratio of two moving averages.

    .. math:: v_t = \rho v_{t-1} + (1-\rho) g_t^2, \qquad \Delta_t = \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}}\, g_t

    .. math:: u_t = \rho u_{t-1} + (1-\rho) \Delta_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, \Delta_t

    `theta`, `g`, `v`, `u` share one shape; `lr` has no unit and is 1 in the paper, which has no
    rate at all. Both `eps` stand inside the root, as in the paper and in torch.
    Source: Zeiler 2012, arXiv:1212.5701, algorithm 1.
    """
    v = rho * v + (1 - rho) * g * g
    delta = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + (1 - rho) * delta * delta
    return theta - lr * delta, v, u


@rule
def adam(theta, g, m, v, *, t, lr, betas=(0.9, 0.999), eps=1e-8):
    r"""Adam: momentum divided by the root mean square of the gradient, both bias-corrected.

    .. math:: m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2

    .. math:: \theta_t = \theta_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}

    `theta`, `g`, `m`, `v` share one shape; `lr` is in units of theta: about the size of a step,
    whatever the scale of the gradient. `eps` is outside the root and after the correction, as in
    the paper's algorithm 1 and in torch.
    Source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - lr * m_hat / (sqrt(v_hat) + eps), m, v


@rule
def adamw(theta, g, m, v, *, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    r"""AdamW: Adam, with the weights shrunk beside the adaptive step and not through it.

    .. math:: \theta_t = (1 - \eta\lambda)\,\theta_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    Shapes, units and `eps` as in `adam`. The weights shrink by lr · weight_decay a step, as in
    torch; in the paper the shrinkage is multiplied by the schedule but not by the base rate.
    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - lr * weight_decay * theta
    return theta - lr * m_hat / (sqrt(v_hat) + eps), m, v
