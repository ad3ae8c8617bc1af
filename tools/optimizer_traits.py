"""What the card of optimizers says of each rule by measuring it: nothing here knows a rule's name.

A rule is run on a random problem and on the same problem in other words: the loss in another
unit, the parameters in another unit, turned, and so on. If it is indifferent, the second path is
the first one in those words, and nothing else counts. State and cost are counted in one update.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

SHAPE, UPDATES, RATE = (3, 4), 30, 0.1
C = 10.0  # by what a unit changes
SAME, NEARLY = 4e-13, 5e-3  # the largest difference between two paths, for the longest way
# Weight decay has a unit of its own, and first guesses of the distance are here large enough to leave.
CHANGED = {"weight_decay": 0.0, "r0": 0.01, "d0": 0.01}
COUNTED = (48, 64)  # the matrix whose state and cost are counted


# --- One problem, and the same in other words -------------------------------------------------


@dataclass(frozen=True)
class Words:
    """How the problem is said: θ' = map θ, loss' = factor · loss + constant, g' = gain · g."""

    map: np.ndarray | float = 1.0
    factor: float = 1.0
    constant: float = 0.0
    gain: np.ndarray | float = 1.0

    def theta(self, theta):
        return self._by(self.map, theta)

    def back(self, theta):
        return self._by(np.linalg.inv(self.map) if np.ndim(self.map) else 1 / self.map, theta)

    def slope(self, g):
        """The gradient in these words: it goes the other way round than the parameters."""
        inverse = np.linalg.inv(self.map).T if np.ndim(self.map) else 1 / self.map
        return self.gain * self.factor * self._by(inverse, g)

    @staticmethod
    def _by(matrix, x):
        return (matrix @ x.ravel()).reshape(x.shape) if np.ndim(matrix) else matrix * x


PLAIN = Words()


@cache
def _batches():
    """For each update another loss of random examples, Σ log cosh(a·θ − b): smooth, not a parabola."""
    rng = np.random.default_rng(1)
    size = math.prod(SHAPE)
    return rng.normal(size=(UPDATES, 8, size)) / 4, rng.normal(size=(UPDATES, 8))


def start():
    return np.random.default_rng(2).normal(size=SHAPE)


def _loss(t, theta):
    a, b = (part[t] for part in _batches())
    x = a @ theta.ravel() - b
    return float((np.logaddexp(x, -x) - math.log(2)).sum())


def _gradient(t, theta):
    a, b = (part[t] for part in _batches())
    return (np.tanh(a @ theta.ravel() - b) @ a).reshape(SHAPE)


def path(rule, words=PLAIN, lr=RATE, updates=UPDATES, **hyper):
    """(updates + 1, ...) points of a run on the problem in these words."""
    hyper = {name: value for name, value in CHANGED.items() if name in rule.defaults} | hyper
    theta = words.theta(start())
    state, points = rule.init(theta), [theta]
    for t in range(updates):

        def gradient(point, t=t):
            return words.slope(_gradient(t, words.back(point)))

        asked = {
            "loss": words.factor * _loss(t, words.back(theta)) + words.constant,
            "gradient": gradient,
        }
        asked = {name: asked[name] for name in asked.keys() & rule.asks}
        theta, state = rule(theta, gradient(theta), state, lr=lr, **asked, **hyper)
        points.append(theta)
    return np.array(points)


def difference(rule, words, lr=RATE, **hyper):
    """How far the run in these words is from the plain one, for the longest way walked.

    `hyper` is of the run in these words alone.
    """
    plain = path(rule)
    want = np.array([words.theta(point) for point in plain])
    error = np.abs(path(rule, words, lr, **hyper) - want).max()
    rounding = 16 * np.finfo(float).eps * np.abs(want).max()
    return float(max(error - rounding, 0.0) / np.abs(want - want[0]).max())


# --- What is measured -------------------------------------------------------------------------


class Answer(NamedTuple):
    """Whether the path is the same, and what the rate has to be multiplied by for that: C**power."""

    verdict: str  # "same", "nearly" or "other"
    power: int | None = 0


def verdict(difference):
    return "same" if difference < SAME else "nearly" if difference < NEARLY else "other"


def _answer(rule, words, powers=(0,)):
    """The least change of the rate after which the path is the same."""
    found = [(verdict(difference(rule, words, RATE * C**p)), p) for p in powers]
    for wanted in ("same", "nearly"):
        for said, power in found:
            if said == wanted:
                return Answer(said, power)
    return Answer("other", None)


def _turn(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


WORDS = {
    "loss": Words(factor=C),
    "unit": Words(map=C),
    "turned": Words(map=_turn(math.prod(SHAPE), 3)),
    "turned as a matrix": Words(map=np.kron(_turn(SHAPE[0], 4), _turn(SHAPE[1], 5))),
    "slopes": Words(gain=np.geomspace(0.1, 10, math.prod(SHAPE)).reshape(SHAPE)[::-1]),
    "units": Words(map=np.diag(np.geomspace(0.1, 10, math.prod(SHAPE)))),
    "constant": Words(constant=C),
}
POWERS = {"loss": (0, -1, 1), "unit": (0, 1, 2)}


@cache
def answer(rule, question):
    """One of WORDS: an Answer."""
    return _answer(rule, WORDS[question], POWERS.get(question, (0,)))


@cache
def with_its_guess(rule):
    """The verdict on another unit of theta where the first guess of a distance is in it too."""
    if "d0" not in rule.defaults:
        return "other"
    return verdict(difference(rule, WORDS["unit"], d0=C * CHANGED["d0"]))


# --- The first step -----------------------------------------------------------------------------


class First(NamedTuple):
    """The first step at RATE: how it points, how long it is, and by what power of ‖g‖ that grows."""

    along: str  # "gradient", "signs", "matrix" or ""
    length: float  # of the step, of each coordinate, of each singular value: as it points
    in_gradients: float  # the same in units of the gradient
    in_weights: float  # ... and of the parameters
    power: int | None  # 1 in proportion to the gradient, 0 not at all, None in between
    weight_power: int | None


def _step(rule, g, theta):
    hyper = {"weight_decay": 0.0} if "weight_decay" in rule.defaults else {}
    asked = {"loss": 1.0, "gradient": lambda point: g}
    asked = {name: asked[name] for name in asked.keys() & rule.asks}
    return rule(theta, g, rule.init(theta), lr=RATE, **asked, **hyper)[0] - theta


def _cosine(x, y):
    return float((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))


def _power(length, longer):
    power = math.log10(longer / length)
    return round(power) if abs(power - round(power)) < 1e-3 else None


@cache
def first_step(rule):
    theta, g = start(), _gradient(0, start())
    step = _step(rule, g, theta)
    norm = float(np.linalg.norm(step))
    u, _, v = np.linalg.svd(g, full_matrices=False)
    if _cosine(step, -g) > 1 - 1e-6:
        along, length = "gradient", norm
    elif _cosine(step, -np.sign(g)) > 1 - 1e-6:
        along, length = "signs", float(np.abs(step).max())
    elif _cosine(step, -u @ v) > 0.97:
        along, length = "matrix", norm / min(g.shape) ** 0.5
    else:
        along, length = "", norm
    return First(
        along, length, norm / float(np.linalg.norm(g)), norm / float(np.linalg.norm(theta)),
        _power(norm, float(np.linalg.norm(_step(rule, C * g, theta)))),
        _power(norm, float(np.linalg.norm(_step(rule, g, C * theta)))),
    )  # fmt: skip


# --- State and cost -----------------------------------------------------------------------------


class Counting(np.ndarray):
    """An array that notes the floating-point operations made with it: (how many, by what)."""

    def __array_finalize__(self, other):
        self.made = getattr(other, "made", None)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        plain = [np.asarray(x) if isinstance(x, Counting) else x for x in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(np.asarray(x) for x in kwargs["out"])
        result = getattr(ufunc, method)(*plain, **kwargs)
        if ufunc is np.matmul:
            operations = 2 * result.size * plain[0].shape[-1]
        else:
            operations = max(np.size(result), *(np.size(x) for x in plain))
        self.made.append((operations, ufunc))
        return self._like(result)

    def __array_function__(self, function, types, args, kwargs):
        plain = [np.asarray(x) if isinstance(x, Counting) else x for x in args]
        result = function(*plain, **kwargs)
        if function is np.where:
            self.made.append((np.size(result), function))
        return self._like(result)

    def _like(self, result):
        result = np.asarray(result).view(Counting)
        result.made = self.made
        return result


def counting(array, made):
    array = np.asarray(array).view(Counting)
    array.made = made
    return array


@dataclass(frozen=True)
class Size:
    """The numbers of the state for a matrix with m rows and n columns, as multiples."""

    parameters: int = 0  # · m n
    rows: int = 0
    columns: int = 0
    numbers: int = 0

    def __str__(self):
        parts = [
            f"{self.parameters} per parameter" * bool(self.parameters),
            ("one per row" if self.rows == 1 else f"{self.rows} per row") * bool(self.rows),
            ("one per column" if self.columns == 1 else f"{self.columns} per column") * bool(self.columns),
            str(self.numbers) * bool(self.numbers),
        ]  # fmt: skip
        return " + ".join(part for part in parts if part) or "none"

    def briefly(self):
        """The same with n for the number of parameters."""
        counts = (self.parameters, "n"), (self.rows, "rows"), (self.columns, "columns")
        parts = [what if k == 1 else f"{k} {what}" for k, what in counts if k]
        return " + ".join(parts + [str(self.numbers)] * bool(self.numbers)) or "none"

    def of(self, rows, columns):
        """How many numbers that are."""
        matrix = self.parameters * rows * columns
        return matrix + self.rows * rows + self.columns * columns + self.numbers


class Cost(NamedTuple):
    state: Size
    shapes: dict  # of each slot
    operations: float  # per parameter
    products: float  # of these, in products of matrices
    gradients: int  # evaluations
    asks_loss: bool


@cache
def cost(rule):
    """Counted in the seventh update of a matrix of the shape COUNTED."""
    rng, made, asked_for = np.random.default_rng(0), [], []
    theta = rng.normal(size=COUNTED)
    state = rule.init(theta)

    def gradient(point):
        asked_for.append(1)
        return counting(rng.normal(size=COUNTED), made)

    asked = {"loss": 1.0, "gradient": gradient}
    asked = {name: asked[name] for name in asked.keys() & rule.asks}
    for t in range(7):
        g = rng.normal(size=COUNTED)
        if t == 6:
            made.clear(), asked_for.clear()
            theta, g = counting(theta, made), counting(g, made)
            state = {n: x if n == "t" else counting(x, made) for n, x in state.items()}
        theta, state = rule(theta, g, state, lr=0.01, **asked)
    shapes = {name: state[name].shape for name in rule.slots}
    sizes = list(shapes.values())
    m, n = COUNTED
    size = Size(sizes.count((m, n)), sizes.count((m, 1)), sizes.count((1, n)), sizes.count(()))
    if size.of(m, n) != sum(map(math.prod, sizes)):
        raise ValueError(f"{rule.__name__}: no words for a state of the shapes {sizes}")
    operations = sum(operations for operations, _ in made)
    products = sum(operations for operations, by in made if by is np.matmul)
    per = 1 / (m * n)
    asks = 1 + len(asked_for), "loss" in rule.asks
    return Cost(size, shapes, per * operations, per * products, *asks)
