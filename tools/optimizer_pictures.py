"""The pictures on the card of optimizers: runs of the rules, and what they show, said in words.

All rules but a few walk down one valley, each at its best rate of a grid; the words for it are made
from the run. A rule that stands in no group here has no card, and tests/test_cards.py says so.
"""

import io
import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from lrteach import optimizers
from lrteach.optimizers import ema, sgd, tail_average

GROUPS = {
    "plain": ("sgd", "heavy_ball", "nesterov", "polyak"),
    "coordinates": ("adagrad", "rmsprop", "adadelta"),
    "adam": ("adam", "adamw", "amsgrad", "adamax", "nadam", "radam", "adabelief"),
    "signs": ("signsgd", "signum", "lion", "rprop"),
    "layers": ("lars", "lamb", "adafactor", "muon"),
    "without": (
        "schedule_free_sgd", "schedule_free_adamw", "dog", "dadapt_sgd", "dadapt_adam", "prodigy",
    ),
    "games": ("extragradient", "optimistic"),
    "averages": ("ema", "tail_average"),
}  # fmt: skip
PIXELS = (300, 156)  # of a picture on the page
WINDOW = (-0.15, 3.25, 0.33, 2.098)  # what part of the plane it shows
UPDATES, MORE = 120, 480  # ... for who does not arrive before
RATES = tuple(10 ** (k / 8) for k in range(-32, 17))
ENOUGH = 0.01  # of the first loss; and how near, of the first distance, a game has to come

# The valley: curvatures 1 and 50, turned by 25°, so that it lies along no axis. Its parameters
# are one row of two, a layer for the rules that look at layers.
CURVATURES = (1.0, 50.0)
TURN = np.array([[np.cos(a := np.radians(25)), -np.sin(a)], [np.sin(a), np.cos(a)]])
HESSIAN = TURN @ np.diag(CURVATURES) @ TURN.T
LOWEST = np.array([[2.0, 1.5]])
START = LOWEST + np.array([[-1.8, 0.4]]) @ TURN.T


def card_names():
    return [name for group in GROUPS.values() for name in group]


def rule_of(name):
    """The rule that a card is about; of an average, the rule that it is shown on."""
    if name == "ema":
        return ema(sgd, decay=0.9)
    if name == "tail_average":
        return tail_average(sgd, after=60)
    return getattr(optimizers, name)


def is_game(name):
    return name in GROUPS["games"]


def is_average(name):
    return name in GROUPS["averages"]


# --- Runs -------------------------------------------------------------------------------------


def valley_loss(theta):
    away = np.asarray(theta) - LOWEST
    return 0.5 * ((away @ HESSIAN) * away).sum((-1, -2))


def valley_slope(theta):
    return (theta - LOWEST) @ HESSIAN


def game_slope(theta):
    """f(x, y) = xy around the middle of the window: x goes down it, y goes up."""
    away = theta - MIDDLE
    return np.stack([away[:, 1], -away[:, 0]], axis=-1)


MIDDLE = np.array([[1.55, 1.21]])
GAME_START = MIDDLE + np.array([[-0.8, 0.0]])


@dataclass(frozen=True)
class Walk:
    """The points walked, (updates + 1, 2), what of them was evaluated, and how far from the aim."""

    lr: float
    points: np.ndarray
    evaluated: np.ndarray
    left: np.ndarray  # loss, or distance in a game, as a share of the first

    @property
    def needed(self):
        """The number of the update from which on it is near enough."""
        late = np.flatnonzero(~(self.left <= ENOUGH))
        return int(late[-1]) + 1 if len(late) else 0

    @property
    def arrived(self):
        return self.needed < len(self.left)


def walk(rule, lr, slope, start, share, updates=UPDATES, noise=0.0):
    rng = np.random.default_rng(0)
    hyper = {"weight_decay": 0.0} if "weight_decay" in rule.defaults else {}
    theta, state = start, rule.init(start)
    points, evaluated = [start], [start]
    with np.errstate(all="ignore"):  # a rate that is too large
        for _ in range(updates):
            asked = {"loss": float(valley_loss(theta)), "gradient": slope}
            asked = {name: asked[name] for name in asked.keys() & rule.asks}
            g = slope(theta) + noise * rng.normal(size=start.shape)
            theta, state = rule(theta, g, state, lr=lr, **asked, **hyper)
            points.append(theta)
            evaluated.append(rule.evaluated(theta, state))
        evaluated = np.array(evaluated)
        left = share(evaluated) / share(start)
    return Walk(lr, np.array(points)[:, 0], evaluated[:, 0], left)


def stays(walk):
    """Whether all that would be drawn is inside of the window."""
    x, y = walk.evaluated[: walk.needed + 1].T
    inside = (x >= WINDOW[0]) & (x <= WINDOW[1]) & (y >= WINDOW[2]) & (y <= WINDOW[3])
    return bool(inside.all())


def distance(theta):
    return np.linalg.norm(theta - MIDDLE, axis=(-1, -2))


@cache
def shown(name):
    """The walk on the picture: of the rates that stay in it the one that needs fewest updates."""
    rule = rule_of(name)
    if is_average(name):
        return walk(rule, 0.015, valley_slope, START, valley_loss, noise=12.0)
    where = (
        (game_slope, GAME_START, distance) if is_game(name) else (valley_slope, START, valley_loss)
    )
    for updates in (UPDATES, MORE):
        walks = [walk(rule, lr, *where, updates=updates) for lr in RATES]
        if arrived := [w for w in walks if w.arrived and stays(w)]:
            return min(arrived, key=lambda w: (w.needed, w.left[-1]))
    raise ValueError(f"{name}: no rate leads it to the lowest point in {MORE} updates")


@cache
def beside(name):
    """The walk in grey that it is compared with."""
    if is_average(name):
        return None
    if is_game(name):
        return walk(sgd, shown(name).lr, game_slope, GAME_START, distance, updates=24)
    return shown("sgd")


# --- Words --------------------------------------------------------------------------------------


def in_the_valley(points):
    """Coordinates of points along the valley and across it, the lowest point at 0."""
    return (points - LOWEST) @ TURN


def number(x):
    """Two digits of a number."""
    if 100 <= abs(x) < 1e4:
        return f"{x:.0f}"
    return f"{x:.2g}" if 1e-4 <= abs(x) < 1e4 else f"{x:.0e}"


def count(n, what):
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[n] if n < len(words) else n} {what}{'' if n == 1 else 's'}"


def crossings(walk):
    """How often the path crosses the floor of the valley before it is near enough."""
    across = in_the_valley(walk.evaluated[: walk.needed + 1])[:, 1]
    side = np.sign(across[np.abs(across) > 0.02])
    return int((side[1:] != side[:-1]).sum())


def detour(walk):
    """The length of the path, for the straight way."""
    points = walk.evaluated[: walk.needed + 1]
    way = np.linalg.norm(np.diff(points, axis=0), axis=-1).sum()
    return float(way / np.linalg.norm(points[-1] - points[0]))


def overshoot(walk):
    """How far the path runs past the lowest point along the valley, for its way there."""
    along = in_the_valley(walk.evaluated[: walk.needed + 1])[:, 0]
    return float(max(along.max(), 0) / -along[0])


def alt(name):
    """What the picture shows."""
    this = shown(name)
    if is_average(name):
        scatter = valley_loss(this.points[:, None])[-40:].mean()
        mean = valley_loss(this.evaluated[:, None])[-40:].mean()
        which = "moving average" if name == "ema" else "mean of the second half"
        return (
            f"A grey path jumps about in a valley without coming to rest. Its {which}, in blue, is "
            f"a smooth line near the lowest point: over the last 40 updates its loss is "
            f"{number(scatter / mean)} times smaller."
        )
    if is_game(name):
        turns = np.unwrap(np.arctan2(*(this.points[: this.needed + 1] - MIDDLE).T[::-1]))
        return (
            f"A spiral inwards: {number(abs(turns[-1] - turns[0]) / (2 * np.pi))} turns in "
            f"{this.needed} updates, to a hundredth of the first distance. Gradient descent at the "
            f"same rate, in grey, spirals outwards."
        )
    times, past = crossings(this), overshoot(this)
    shape = f"crosses the floor of the valley {'once' if times == 1 else 'twice' if times == 2 else f'{times} times'}"
    if not times:
        shape = "never crosses the floor of the valley"
    if past > 0.03:
        shape += f", runs past the lowest point by {100 * past:.0f} % of the way"
    words = (
        f"A path that {shape}, and is {number(detour(this))} times as long as the straight line. "
        f"It arrives after {count(this.needed, 'update')}"
    )
    if name == "sgd":
        return words + "."
    return words + f"; gradient descent, in grey, after {beside(name).needed}."


def caption(name):
    """The call, and what came of it."""
    this = shown(name)
    if is_average(name):
        call = "ema(sgd, decay=0.9)" if name == "ema" else "tail_average(sgd, after=60)"
        return call, f"{UPDATES} noisy updates"
    return f"lr={number(this.lr)}", count(this.needed, "update")


# --- Drawing ------------------------------------------------------------------------------------


def trace(ax, points, color, lw, size):
    ax.plot(
        *points.T, color=color, lw=lw, marker="o", markersize=size, markeredgewidth=0, clip_on=True
    )


def draw(name):
    """The picture as SVG."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Ellipse

    from lrteach import plots

    grey = "#8a8a93"
    this, other = shown(name), beside(name)
    color = plots.OPTIMIZER_COLORS[name if name in plots.OPTIMIZER_COLORS else "sgd"]
    style = plots.STYLE | {"svg.hashsalt": name, "figure.constrained_layout.use": False}
    with plt.rc_context(style):
        fig = plt.figure(figsize=(PIXELS[0] / 96, PIXELS[1] / 96))
        ax = fig.add_axes((0, 0, 1, 1))
        if is_game(name):
            center = MIDDLE[0]
            for radius in (0.2, 0.4, 0.6, 0.8):
                ax.add_patch(Ellipse(center, 2 * radius, 2 * radius, fill=False, ec=grey, lw=0.5))
        else:
            center = LOWEST[0]
            for share in (0.01, 0.1, 0.4, 1.0):
                level = share * valley_loss(START)
                axes = [2 * math.sqrt(2 * level / c) for c in CURVATURES]
                ax.add_patch(Ellipse(center, *axes, angle=25, fill=False, ec=grey, lw=0.5))
        ax.plot(*center, "+", color=plots.INK, markersize=7, markeredgewidth=1.2)
        if is_average(name):
            trace(ax, this.points, grey, 0.5, 1.2)
            trace(ax, this.evaluated[61 if name == "tail_average" else 1 :], color, 1.8, 0)
        else:
            if name != "sgd":
                trace(ax, other.evaluated[: other.needed + 1], grey, 0.8, 2)
            trace(ax, this.evaluated[: this.needed + 1], color, 1.2, 3.4)
            ax.plot(*this.evaluated[0], "o", color=color, markersize=5.5, markeredgewidth=0)
        ax.set(xlim=WINDOW[:2], ylim=WINDOW[2:])
        ax.set_axis_off()
        out = io.BytesIO()
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(fig)
    return re.sub(
        rb"(\d\.\d\d)\d+", rb"\1", out.getvalue()
    )  # a hundredth of a point is seen by nobody
