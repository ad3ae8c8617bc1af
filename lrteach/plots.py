"""The book's figures in one style.

    fig, ax = plots.figure("Above 2/L every step is larger than the one before")
    plots.line(ax, x, y, label="η = 0.1", color=plots.rate_color(0.1, lrs))

Backgrounds are transparent and the ink dark; the site inverts figures in its dark theme.
"""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.rcsetup import cycler
from numpy.typing import ArrayLike

__all__ = [
    "figure", "rate_color", "rate_colors", "OPTIMIZER_COLORS", "PALETTE", "line", "label_lines",
    "loss_against_rate", "against_rate", "contours", "INK", "MUTED", "ACCENT",
]  # fmt: skip

# A name, or red, green, blue and perhaps opacity.
Color: TypeAlias = str | tuple[float, float, float] | tuple[float, float, float, float]

INK = "#1b1b1f"
MUTED = "#6f6f78"
ACCENT = "#b3003b"  # the one thing a reader must not miss

# The first eight are Okabe and Ito's palette, which people with any colour vision can tell apart,
# and what figures take that have no rules in them. No figure needs all the others at once: those
# that a chapter compares differ in lightness too.
OPTIMIZER_COLORS = {
    "sgd": "#0072b2",
    "heavy_ball": "#56b4e9",
    "nesterov": "#009e73",
    "adagrad": "#cc79a7",
    "rmsprop": "#e69f00",
    "adadelta": "#8a6d00",
    "adam": "#d55e00",
    "adamw": "#7a3e9d",
    "polyak": "#3a2a8c",
    "signsgd": "#2b8f83",
    "signum": "#0f5f2c",
    "lion": "#a8501a",
    "rprop": "#8c8c2a",
    "amsgrad": "#7d1f4d",
    "adamax": "#cc6677",
    "nadam": "#5b4bb5",
    "radam": "#228b3c",
    "adabelief": "#3f77ad",
    "lars": "#5f9a1c",
    "lamb": "#7a4a12",
    "adafactor": "#5c6f80",
    "muon": "#c2185b",
    "schedule_free_sgd": "#1f7f9c",
    "schedule_free_adamw": "#8f3d1b",
    "dog": "#a3327a",
    "dadapt_sgd": "#4a9d94",
    "dadapt_adam": "#b5632b",
    "prodigy": "#d81f5f",
    "extragradient": "#5e4fa2",
    "optimistic": "#1a8f52",
}
PALETTE = list(OPTIMIZER_COLORS.values())[:8]

STYLE: dict[Any, Any] = {  # from names that matplotlib lists in a type of its own
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.figsize": (6.2, 3.5),
    "figure.dpi": 140,
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "axes.prop_cycle": cycler(color=PALETTE),
}


def figure(
    title: str,
    ncols: int = 1,
    nrows: int = 1,
    height: float | None = None,
    width: float | None = None,
    titles: Iterable[str] | None = None,
    **kwargs: Any,
) -> tuple[Figure, Any]:
    """A figure whose title is the sentence it shows. Returns (fig, ax) or (fig, array of axes).

    `titles` names the panels. Other keywords go to `matplotlib.pyplot.subplots`.
    """
    if not title or not title.strip():
        raise ValueError("title must say, as a sentence, what the figure shows")
    plt.rcParams.update(STYLE)
    width = width or STYLE["figure.figsize"][0]
    height = height or STYLE["figure.figsize"][1] * (1 + 0.75 * (nrows - 1))
    fig, axes = plt.subplots(nrows, ncols, figsize=(width, height), **kwargs)
    wrapped = "\n".join(textwrap.wrap(title, int(width * 10.5)))
    if ncols * nrows == 1:
        axes.set_title(wrapped, pad=10)
    else:
        fig.suptitle(wrapped, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        for ax, name in zip(axes.flat, titles or [], strict=False):
            ax.set_title(name, fontsize=10.5, fontweight="normal")
    return fig, axes


def rate_color(lr: float, lrs: ArrayLike) -> tuple[float, float, float, float]:
    """The colour of rate `lr` among all rates of a figure: small is dark and cool, large is warm."""
    low, high = np.log(np.min(lrs)), np.log(np.max(lrs))
    place = 0.5 if high == low else (np.log(lr) - low) / (high - low)
    return plt.get_cmap("plasma")(0.84 * float(np.clip(place, 0, 1)))


def rate_colors(lrs: Sequence[float] | np.ndarray) -> list[tuple[float, float, float, float]]:
    """One colour for each rate, small to large, as in every figure of the book."""
    return [rate_color(lr, lrs) for lr in lrs]


def line(ax: Axes, x: ArrayLike, y: ArrayLike, label: str | None = None, **kwargs: Any) -> Line2D:
    """Draw y over x. Where the curve first leaves the axes' limits, or ends in NaN, is a mark.

    Set the limits of `ax` first. The mark is a triangle at the edge, at the first x whose y is
    not seen. A curve that comes in from outside has not left. Returns the line.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    low, high = sorted(ax.get_ylim())
    outside = ~np.isfinite(y) | (y > high) | (y < low)
    (drawn,) = ax.plot(x, np.where(np.isfinite(y), y, np.nan), label=label, **kwargs)
    leaves = outside & ~np.concatenate([[not outside.all()], outside[:-1]])
    if leaves.any():
        first = int(np.argmax(leaves))
        up = not (np.isfinite(y[first]) and y[first] < low)
        ax.plot(
            x[first], high if up else low, marker="^" if up else "v", markersize=9,
            color=drawn.get_color(), clip_on=False, zorder=5,
        )  # fmt: skip
    return drawn


def label_lines(
    ax: Axes, entries: Sequence[tuple[float, str, Color]], x: float = 1.01, gap: float = 0.055
) -> None:
    """Write labels beside the axes, at the height of what they name, kept apart.

    `entries`: list of (y in data units, text, colour). `x` and `gap` are shares of the axes.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(np.clip(to_axes.transform((1, y))[1], 0, 1)) for y, _, _ in entries]
    last = -np.inf
    for i in np.argsort(heights):
        last = max(heights[i], last + gap)
        _, text, color = entries[i]
        ax.text(x, last, text, color=color, transform=ax.transAxes, va="center", fontsize=9.5)


def against_rate(
    ax: Axes,
    lrs: ArrayLike,
    values: ArrayLike,
    label: str | None = None,
    color: Color | None = None,
    lower_is_better: bool = True,
    **kwargs: Any,
) -> Line2D:
    """A result against the rate: median over seeds as a line, the full range as a thin bar.

    Parameters
    ----------
    lrs : (K,) rates; values : (K,) or (K, S), one column per seed. A run that diverged is a
        value that is not finite: it is drawn as a cross in the band at the edge.
    """
    lrs, values = np.asarray(lrs, float), np.asarray(values, float)
    values = values.reshape(len(lrs), -1)
    finite = np.isfinite(values)
    whole = finite.all(axis=1)
    median = np.array(
        [np.median(row) if ok else np.nan for row, ok in zip(values, whole, strict=True)]
    )
    style: dict[str, Any] = {"marker": "o", "markersize": 4} | kwargs
    (drawn,) = ax.plot(lrs, median, label=label, color=color, **style)
    for lr, row, ok in zip(lrs, values, finite, strict=True):
        if ok.any():
            ax.plot([lr, lr], [row[ok].min(), row[ok].max()], color=drawn.get_color(), lw=1)
    lost = lrs[~whole]
    if len(lost):  # an empty line outside of the axes would upset the layout
        edge = 1.02 if lower_is_better else -0.02
        ax.plot(
            lost, np.full(len(lost), edge), "x", color=drawn.get_color(), clip_on=False,
            transform=ax.get_xaxis_transform(), markersize=7, mew=2,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlabel("learning rate η")
    return drawn


def loss_against_rate(
    ax: Axes,
    lrs: ArrayLike,
    losses: ArrayLike,
    label: str | None = None,
    color: Color | None = None,
    **kwargs: Any,
) -> Line2D:
    """`against_rate` on a logarithmic loss axis."""
    ax.set_yscale("log")
    drawn = against_rate(ax, lrs, losses, label, color, **kwargs)
    ax.set_ylabel("loss")
    return drawn


def contours(
    ax: Axes,
    loss: Callable[[np.ndarray], np.ndarray],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    levels: int | Sequence[float] = 14,
    points: int = 160,
) -> None:
    """Level lines of a loss of points (..., 2), spaced in the logarithm of the loss."""
    x, y = np.meshgrid(np.linspace(*xlim, points), np.linspace(*ylim, points))
    z = loss(np.stack([x, y], axis=-1))
    z = np.log(z - z.min() + 1e-3 * (z.max() - z.min()))
    ax.contour(x, y, z, levels, colors=MUTED, linestyles="solid", linewidths=0.6, alpha=0.6)
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
