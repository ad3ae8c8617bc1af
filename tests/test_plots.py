"""Tests of lrteach.plots: titles, colours and marks, on a canvas that nobody sees."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb, to_rgba

from lrteach import optimizers, plots


@pytest.fixture(autouse=True)
def own_style():
    with mpl.rc_context():
        yield
    plt.close("all")


def lightness(color):
    """CIE L* of a colour: 0 is black, 100 white."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(y) - 16 if y > 0.008856 else 903.3 * y


def axes(ylim=(0, 10), xlim=(0, 4)):
    _, ax = plots.figure("A sentence about the curve")
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    return ax


def marks(ax):
    return [
        (line.get_marker(), *line.get_xydata()[0]) for line in ax.lines if line.get_marker() in "^v"
    ]


# --- figure --------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["", "  ", None])
def test_a_figure_needs_a_title(title):
    before = plt.get_fignums()  # other tests' figures
    with pytest.raises(ValueError, match="title must say, as a sentence, what the figure shows"):
        plots.figure(title)
    assert plt.get_fignums() == before


def test_one_panel_carries_the_title_itself():
    fig, ax = plots.figure("Above 2/L it diverges")
    assert ax.get_title(loc="left") == "Above 2/L it diverges"
    assert fig.get_size_inches().tolist() == list(plots.STYLE["figure.figsize"])


def test_several_panels_share_the_title_and_have_names():
    fig, grid = plots.figure("Two views of one run", ncols=2, titles=["loss", "rate"], sharey=True)
    assert fig.get_suptitle() == "Two views of one run"
    assert [ax.get_title(loc="left") for ax in grid] == ["loss", "rate"]
    assert grid[0].get_shared_y_axes().joined(*grid)
    tall, _ = plots.figure("Four", ncols=2, nrows=2)
    assert tall.get_figheight() > fig.get_figheight()


def test_a_long_title_is_wrapped_to_the_width():
    title = "A sentence that goes on and on about what this figure shows " * 3
    _, ax = plots.figure(title, width=4)
    lines = ax.get_title(loc="left").split("\n")
    assert " ".join(lines) == title.strip()
    assert max(map(len, lines)) <= 42


def test_backgrounds_are_transparent():
    fig, ax = plots.figure("Nothing behind")
    ax.plot([0, 1], [0, 1])
    assert fig.get_facecolor()[3] == ax.get_facecolor()[3] == 0
    fig.canvas.draw()
    pixels = np.asarray(fig.canvas.buffer_rgba())
    assert pixels[0, 0, 3] == 0
    assert pixels[..., 3].max() == 255


# --- Colours -------------------------------------------------------------------------------------


def test_a_larger_rate_has_a_lighter_colour():
    lrs = np.geomspace(1e-4, 10, 30)
    shades = [lightness(color) for color in plots.rate_colors(lrs)]
    assert np.all(np.diff(shades) > 0)
    assert shades[-1] - shades[0] > 50
    assert shades[-1] < 85  # still seen on white


def test_small_rates_are_cool_and_large_ones_warm():
    small, large = plots.rate_colors([0.01, 1.0])
    assert small[2] > small[0]
    assert large[0] > large[2]


def test_the_colour_of_a_rate_does_not_depend_on_the_order_or_the_number_of_rates():
    lrs = [0.001, 0.1, 0.01]
    assert plots.rate_colors(lrs) == [plots.rate_color(lr, sorted(lrs)) for lr in lrs]
    assert plots.rate_color(0.01, [0.001, 0.1]) == plots.rate_color(0.01, lrs)


def test_rates_outside_are_coloured_like_the_nearest_and_a_single_rate_has_a_colour():
    lrs = [0.01, 1.0]
    assert plots.rate_color(1e-9, lrs) == plots.rate_color(0.01, lrs)
    assert plots.rate_color(99.0, lrs) == plots.rate_color(1.0, lrs)
    assert to_rgba(plots.rate_color(0.1, [0.1]))[3] == 1


def test_every_rule_has_a_colour_of_its_own():
    rules = {n for n in optimizers.__all__ if isinstance(getattr(optimizers, n), optimizers.Rule)}
    assert rules <= set(plots.OPTIMIZER_COLORS)
    assert len(set(plots.OPTIMIZER_COLORS.values())) == len(plots.OPTIMIZER_COLORS)


# --- line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y, expected",
    [
        ([1, 2, 3, 4], []),
        ([0, 10, 0, 10], []),  # the limits themselves are inside
        ([1, 5, 20, 90], [("^", 2, 10)]),
        ([1, 5, -3, -9], [("v", 2, 0)]),
        ([1, 20, 5, 20], [("^", 1, 10)]),  # only the first time
        ([1, 5, np.nan, np.nan], [("^", 2, 10)]),
        ([1, 5, 9, np.inf], [("^", 3, 10)]),
        ([1, 5, 9, -np.inf], [("^", 3, 10)]),
        ([99, 20, 5, 1], []),  # comes in from outside
        ([99, 5, 1, 20], [("^", 3, 10)]),
        ([99, 99, 99, 99], [("^", 0, 10)]),  # never seen
        ([np.nan] * 4, [("^", 0, 10)]),
    ],
    ids=repr,
)
def test_a_mark_stands_where_the_curve_leaves_and_nowhere_else(y, expected):
    ax = axes()
    drawn = plots.line(ax, range(4), y, label="a run", color="#123456")
    assert marks(ax) == expected
    assert drawn.get_label() == "a run"
    assert all(line.get_color() == "#123456" for line in ax.lines)
    assert ax.get_ylim() == (0, 10)


def test_marks_respect_an_axis_that_points_down():
    ax = axes(ylim=(10, 0))
    plots.line(ax, range(4), [1, 2, 30, 40])
    assert marks(ax) == [("^", 2, 10)]


def test_labels_beside_the_lines_are_kept_apart():
    ax = axes()
    plots.label_lines(ax, [(5.0, "b", "k"), (5.01, "c", "k"), (1.0, "a", "k"), (99.0, "d", "k")])
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert sorted(heights, key=heights.get) == ["a", "b", "c", "d"]
    assert np.all(np.diff(sorted(heights.values())) > 0.05)


# --- against_rate --------------------------------------------------------------------------------


def crosses(ax):
    return [tuple(p) for line in ax.lines if line.get_marker() == "x" for p in line.get_xydata()]


def test_a_diverged_run_is_drawn_as_a_cross_and_not_dropped():
    ax = axes()
    lrs = [0.01, 0.1, 1.0, 10.0]
    losses = np.array([[3.0, 4.0, 5.0], [1.0, 2.0, 9.0], [1.0, np.nan, 2.0], [np.inf] * 3])
    drawn = plots.against_rate(ax, lrs, losses, label="sgd", color="k")
    assert crosses(ax) == [(1.0, 1.02), (10.0, 1.02)]
    np.testing.assert_array_equal(drawn.get_ydata(), [4.0, 2.0, np.nan, np.nan])
    ranges = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2][:3]
    assert [list(r) for r in ranges] == [[3.0, 5.0], [1.0, 9.0], [1.0, 2.0]]
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "learning rate η"


def test_no_cross_without_divergence_and_one_value_a_rate_is_enough():
    ax = axes()
    drawn = plots.against_rate(ax, [0.1, 1.0], [2.0, 1.0])
    assert crosses(ax) == []
    assert drawn.get_ydata().tolist() == [2.0, 1.0]


def test_where_higher_is_better_crosses_stand_below():
    ax = axes()
    plots.against_rate(ax, [0.1, 1.0], [0.9, np.nan], lower_is_better=False)
    assert crosses(ax) == [(1.0, -0.02)]


def test_losses_against_rates_have_logarithmic_axes_and_names():
    ax = axes(ylim=(0.1, 10))
    plots.loss_against_rate(ax, [0.1, 1.0], [2.0, 1.0])
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "log", "loss")


def test_contours_fill_the_given_window():
    ax = axes()
    plots.contours(ax, lambda p: (p**2).sum(-1), (-2, 2), (-1, 3))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-2, 2), (-1, 3))
    assert len(ax.collections[0].get_paths()) > 3
