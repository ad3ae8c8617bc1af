"""The pictures on the card of schedules: what is drawn, and what it shows, said in words.

A schedule without an entry here has no card, and tests/test_cards.py says so.
"""

import io
import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from lrteach import schedules

UPDATES = 100
PIXELS = (300, 156)  # of a picture on the page
FONT = "Helvetica Neue, Segoe UI, Roboto, Noto Sans, Liberation Sans, Arial, sans-serif"
LOSSES = 70  # pixels more, for the losses that a feedback rule is told


@dataclass(frozen=True)
class Picture:
    """A call drawn in blue, variants of it in grey with their labels, and the words for all that.

    `grey` has (call, label, place of the label) of each variant. The places are in the units of
    the axes: updates, and the rate.
    """

    call: str
    alt: str
    grey: tuple = ()
    length: str | None = None  # where the signature does not say whether the length is needed
    form: str = "line"  # or "steps", or "points": rates that are no curve

    @property
    def drawn(self):
        return evaluate(self.call)


def evaluate(call):
    return eval(call, dict(vars(schedules)))


GROUPS = {
    "held": {
        "constant": Picture(
            "constant()",
            "A horizontal line at 1 over all 100 updates, and in grey one at 0.5.",
            grey=(("constant(0.5)", "peak=0.5", (2, 0.56)),),
        ),
        "phases": Picture(
            "phases((30, 50, 20), (1, 0.3, 0.6))",
            "Three levels: 1 for 30 updates, 0.3 for the next 50, and up again to 0.6 for the last 20.",
            length="yes, of each phase",
            form="steps",
        ),
    },
    "known": {
        "linear": Picture(
            "linear(100)",
            "A straight line from 1 at the first update to 0 after 100. A grey one ends at 0.2.",
            grey=(("linear(100, end=0.2)", "end=0.2", (72, 0.49)),),
        ),
        "cosine": Picture(
            "cosine(100)",
            "Half a wave from 1 to 0: flat at first, steepest in the middle where it is 0.5, flat at the end. A grey one ends at 0.2.",
            grey=(("cosine(100, end=0.2)", "end=0.2", (71, 0.47)),),
        ),
        "polynomial": Picture(
            "polynomial(100)",
            "A curve that falls from 1 to 0, fast at first and flat at the end. Of the grey ones, power 4 sags more and power one half stays above the diagonal and drops at the end.",
            grey=(
                ("polynomial(100, power=0.5)", "power=0.5", (60, 0.72)),
                ("polynomial(100, power=4)", "power=4", (9, 0.2)),
            ),
        ),
        "rex": Picture(
            "rex(100)",
            "A curve from 1 to 0 that bulges above the straight grey line of linear decay and falls fastest at the end.",
            grey=(("linear(100)", "linear", (30, 0.5)),),
        ),
    },
    "open": {
        "step": Picture(
            "step(30, gamma=0.5)",
            "Levels of 30 updates each, every one half of the level before: 1, 0.5, 0.25, 0.125. With gamma 0.1, in grey, the second level is 0.1 and the third next to 0.",
            grey=(("step(30, gamma=0.1)", "gamma=0.1", (32, 0.15)),),
            form="steps",
        ),
        "multistep": Picture(
            "multistep((40, 75), gamma=0.3)",
            "Three levels of different lengths: 1 up to update 40, 0.3 up to update 75, 0.09 after it. With gamma 0.1, in grey, the second level is 0.1.",
            grey=(("multistep((40, 75), gamma=0.1)", "gamma=0.1", (42, 0.14)),),
            form="steps",
        ),
        "exponential": Picture(
            "exponential(0.955)",
            "A curve that loses half of what is left every 15 updates, from 1 down to 0.01 at the end. With gamma 0.98, in grey, it ends at 0.13.",
            grey=(("exponential(0.98)", "gamma=0.98", (40, 0.52)),),
        ),
        "inverse_time": Picture(
            "inverse_time(0.1)",
            "A curve that falls steeply from 1, is at 0.5 after 10 updates, and then levels out at 0.09 with a long tail. With decay 0.02, in grey, it is at 0.5 after 50 updates.",
            grey=(("inverse_time(0.02)", "decay=0.02", (40, 0.63)),),
        ),
        "inverse_sqrt": Picture(
            "inverse_sqrt(10)",
            "A curve that falls from 1 with a heavy tail: 0.58 after 20 updates, still 0.3 after 100. With timescale 1, in grey, it falls to 0.3 within ten updates and ends at 0.1.",
            grey=(("inverse_sqrt(1)", "timescale=1", (42, 0.21)),),
        ),
    },
    "warm-up": {
        "warmup": Picture(
            "warmup(20)",
            "A straight rise from nearly 0 to 1 within 20 updates, then flat. In grey, a cosine decay follows the rise and ends at 0.",
            grey=(("warmup(20).then(cosine(80))", ".then(cosine(80))", (64, 0.62)),),
            length="only its own",
        ),
        "wsd": Picture(
            "wsd(100, cooldown=40, warmup=10)",
            "A short rise to 1 in 10 updates, flat up to update 60, then a straight fall to 0 at 100. In grey, the fall as one minus a square root drops at once and then flattens; the cosine starts and ends flat.",
            grey=(
                ('wsd(100, cooldown=40, warmup=10, shape="sqrt")', '"sqrt"', (56, 0.38)),
                ('wsd(100, cooldown=40, warmup=10, shape="cosine")', '"cosine"', (75, 0.87)),
            ),
            length="to start the fall",
        ),
        "one_cycle": Picture(
            "one_cycle(100)",
            "A smooth rise from 0.04 to 1 at update 30, then a long smooth fall to nearly 0 at 100. In grey, three straight phases: up to update 30, down to the start at 60, then on to nearly 0.",
            grey=(('one_cycle(100, phases=3, shape="linear")', 'phases=3,\nshape="linear"', (60, 0.72)),),
        ),
        "noam": Picture(
            "noam(20, peak=1)",
            "A straight rise to 1 in 20 updates, a sharp peak, then a slow fall like one over the square root, to 0.45 at 100. With a warm-up of 40, in grey, the peak comes at 40.",
            grey=(("noam(40, peak=1)", "warmup=40", (56, 0.92)),),
        ),
    },
    "cycles": {
        "warm_restarts": Picture(
            "warm_restarts(100, 3, growth=2)",
            "Three half waves, each falling from 1 to 0, jumping back to 1, and twice as long as the one before. In grey the jumps go back to 0.5 and to 0.25 only.",
            grey=(("warm_restarts(100, 3, growth=2, gamma=0.5)", "gamma=0.5", (46, 0.05)),),
        ),
        "cyclical": Picture(
            "cyclical(25, low=0.1)",
            "A zigzag of straight lines between 0.1 and 1, with peaks at updates 25 and 75. In grey, the second peak of mode triangular2 is half as high above the lowest rate, and the peaks of mode exp_range are lower from the first on.",
            grey=(
                ('cyclical(25, low=0.1, mode="triangular2")', '"triangular2"', (61, 0.13)),
                ('cyclical(25, low=0.1, mode="exp_range", gamma=0.985)', '"exp_range"', (9, 0.14)),
            ),
        ),
    },
    "special": {
        "chebyshev": Picture(
            "chebyshev(64, mu=1, L=20)",
            "64 points in an order that looks random: half lie below 0.1, a few reach up to 1, and between two large ones there are small ones. In grey the same rates in falling order: a steep curve from 1 to 0.05.",
            grey=(('chebyshev(64, mu=1, L=20, order="falling")', 'order=\n"falling"', (68, 0.4)),),
            form="points",
        ),
        "log_uniform": Picture(
            "log_uniform(100, mean=0.35)",
            "A cloud of 100 points without any order between 0.09 and 0.9, denser at the bottom.",
            form="points",
        ),
    },
    "feedback": {
        "plateau": Picture(
            "plateau(factor=0.3, patience=8)",
            "Two strips over 100 evaluations. Above, a loss that falls at once, then stays, and falls further after each cut of the rate. Below, the rate in steps: 1, from evaluation 22 on 0.3, from 57 on 0.09.",
        ),
        "restart_below": Picture(
            "restart_below(0.25, cosine(30), shrink=0.8)",
            "Two strips over 100 evaluations. Above, a loss that falls with the rate and rises with it, and a dotted threshold that sinks. Below, the rate: half a wave from 1 down, which starts again at 1 four times, each time when the loss has passed the threshold.",
        ),
    },
}  # fmt: skip


def card_names():
    return [name for group in GROUPS.values() for name in group]


def picture_of(name):
    return next(group[name] for group in GROUPS.values() if name in group)


class Told(NamedTuple):
    """A run whose rate a feedback rule set: what it said, and what it was told."""

    rates: np.ndarray  # (N + 1,)
    losses: np.ndarray  # (N,)
    thresholds: np.ndarray  # (N,), nan where the rule has none


@cache
def told(rule):
    """SGD on 300 noisy parabolas, two updates between two evaluations."""
    rng, follow = np.random.default_rng(0), rule.online()
    curvature = np.geomspace(0.2, 1, 300)
    theta, rates, losses, thresholds = np.full(300, 6.0), [follow.rate], [], []
    for _ in range(UPDATES):
        for _ in range(2):
            slope = curvature * theta + 2 * rng.normal(size=300)
            theta = theta - 0.4 * follow.rate * slope
        losses.append(float(np.mean(curvature * theta**2)) / 2)
        thresholds.append(getattr(follow.state, "threshold", np.nan))
        rates.append(follow.update(losses[-1]))
    return Told(np.array(rates), np.array(losses), np.array(thresholds))


def is_feedback(plan):
    return isinstance(plan, schedules.Feedback)


def rates_of(plan):
    """(t, rates) as they are drawn."""
    if is_feedback(plan):
        rates = told(plan).rates
        return np.arange(len(rates)), rates
    t = np.arange(UPDATES + 1)
    return t, plan(t)


def size_of(picture):
    """Width and height in pixels."""
    return PIXELS[0], PIXELS[1] + LOSSES * is_feedback(picture.drawn)


def trace(ax, plan, form, color, lw, ms=None):
    t, rates = rates_of(plan)
    if isinstance(plan, schedules.chebyshev):  # past its end it has nothing to say
        t, rates = t[: plan.steps], rates[: plan.steps]
    if form == "points":
        ax.plot(t, rates, "o", color=color, markersize=ms, clip_on=False)
    else:
        drawstyle = "steps-post" if form == "steps" else "default"
        ax.plot(t, rates, color=color, lw=lw, drawstyle=drawstyle, clip_on=False)


def draw(picture):
    """The picture as SVG."""
    import matplotlib.pyplot as plt

    from lrteach import plots

    plan = picture.drawn
    blue, grey = plots.OPTIMIZER_COLORS["sgd"], "#8a8a93"
    style = plots.STYLE | {"font.size": 9, "svg.hashsalt": picture.call, "axes.linewidth": 0.8}
    # Letters stay letters, in the site's own sans: a third of the bytes.
    style |= {"svg.fonttype": "none", "font.family": "sans-serif"}
    style |= {"figure.constrained_layout.use": False, "xtick.major.pad": 2, "ytick.major.pad": 2}
    with plt.rc_context(style):
        width, height = PIXELS
        extra = LOSSES * is_feedback(plan)
        fig = plt.figure(figsize=(width / 96, (height + extra) / 96))
        # The same axes on every picture, so that shapes can be compared.
        ax = fig.add_axes(
            (22 / width, 22 / (height + extra), 1 - 30 / width, (height - 40) / (height + extra))
        )
        if extra:
            above = fig.add_axes(
                (
                    22 / width,
                    (height + 6) / (height + extra),
                    1 - 30 / width,
                    (LOSSES - 24) / (height + extra),
                )
            )
            run = told(plan)
            above.semilogy(run.losses, color=grey, lw=1.2)
            above.plot(run.thresholds, ":", color=grey, lw=1, drawstyle="steps-post")
            above.set(xlim=(0, UPDATES), xticks=(), yticks=())
            above.set_yticks((), minor=True)
            above.set_title(
                "loss", loc="left", x=-0.06, y=0.98, pad=2, fontsize=9, fontweight="normal"
            )
        for call, label, place in picture.grey:
            trace(
                ax,
                evaluate(call),
                "steps" if picture.form == "steps" else "line",
                color=grey,
                lw=1.2,
            )
            ax.text(*place, label, color=plots.MUTED, fontsize=8.5)
        trace(ax, plan, "steps" if extra else picture.form, color=blue, lw=2, ms=2.6)
        ax.set(xlim=(0, UPDATES), ylim=(0, 1.04), xticks=(0, 50, 100), yticks=(0, 0.5, 1))
        ax.set_yticklabels(["0", "½", "1"])
        ax.set_xticklabels(["0", "50", "evaluation 100" if extra else "update 100"])
        ax.get_xticklabels()[-1].set_ha("right")
        ax.set_title("rate", loc="left", x=-0.06, pad=4, fontsize=9, fontweight="normal")
        out = io.BytesIO()
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        plt.close(fig)
    return re.sub(rb"(font-family:) [^;\"]*", rb"\1 " + FONT.encode(), out.getvalue())
