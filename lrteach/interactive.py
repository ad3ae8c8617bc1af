"""Interactive figures that need no kernel: charts whose every state a cell has computed.

    rate = interactive.slider("rate", rates, "learning rate η", start=0.6)
    table = interactive.rows({"rate": rates, "step": steps}, loss=losses)
    chart = alt.Chart(table).mark_line().transform_filter(rate.chosen).encode(x="step", y="loss")
    interactive.figure(chart, rate, title="A sentence", alt="What it shows", says=outcome)

A control chooses rows of the table; the page computes nothing. What a page holds is a picture of the
first state, complete without JavaScript, and the chart as data, which the site's script makes live.
Needs Altair and vl-convert, which the extra `book` installs.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lrteach import plots

if TYPE_CHECKING:
    import altair
    import pandas as pd

__all__ = [
    "slider", "choice", "rows", "leaving", "powers", "rate_color", "figure", "Control",
    "InteractiveFigure", "CONFIG",
]  # fmt: skip

# The book's figure style, as a theme of Vega-Lite. Sizes are those of a figure 450 wide; the page
# scales it, on a phone to 0.8 of that.
CONFIG = {
    "background": None,
    "padding": 2,
    "aria": False,  # the picture has one alternative text instead of one for each mark
    "font": "Liberation Sans, Arial, sans-serif",  # the same metrics; the site puts its own
    "view": {"stroke": None, "continuousWidth": 390, "continuousHeight": 170},
    "concat": {"spacing": 56},  # room for an axis and its title, see _specification
    "axis": {
        "grid": False,
        "domainColor": plots.MUTED,
        "tickColor": plots.MUTED,
        "tickSize": 4,
        "labelColor": plots.INK,
        "labelFontSize": 11.5,
        "titleColor": plots.INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 6,
    },
    "title": {"anchor": "start", "color": plots.INK, "fontSize": 12, "fontWeight": "normal"},
    "line": {"strokeWidth": 2, "strokeCap": "round"},
    "rule": {"color": plots.MUTED},
    "text": {"fontSize": 12, "color": plots.INK},
    "range": {"category": plots.PALETTE},
}
RESERVED = {"width", "height", "padding", "autosize", "background", "datum", "event", "item"}


@dataclass(frozen=True)
class Control:
    """A slider or a list to choose from. `chosen` is the filter for the rows of its value."""

    kind: str
    name: str
    label: str
    values: tuple[Any, ...]  # numbers or strings
    texts: tuple[str, ...]
    start: int

    @property
    def chosen(self) -> str:
        """For `transform_filter`: the rows whose column `name` has the chosen value."""
        return f"datum.{self.name} === {self.name}"

    def _html(self) -> str:
        label = html.escape(self.label)
        if self.kind == "choice":
            options = "".join(
                f'<option value="{i}"{" selected" if i == self.start else ""}>{html.escape(text)}</option>'
                for i, text in enumerate(self.texts)
            )
            return f"<div><label><span>{label}</span> <select>{options}</select></label></div>"
        text = html.escape(self.texts[self.start])
        return (
            f'<div><label><span>{label}</span> <input type="range" min="0" max="{len(self.values) - 1}" '
            f'step="1" value="{self.start}" aria-valuetext="{text}"></label> '
            f'<span class="interactive-value" aria-hidden="true">{text}</span></div>'
        )


def _needed(module: str) -> Any:
    """A module that lrteach itself does without."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            'interactive figures need `pip install "lrteach[notebooks]"`', name=module
        ) from error


def slider(
    name: str,
    values: Iterable[Any],
    label: str,
    start: Any = None,
    texts: Iterable[str] | None = None,
) -> Control:
    """A slider over `values`, which stand in the column `name` of a table.

    Parameters
    ----------
    name : str
        A word: the column, and the name of the choice in the chart's expressions.
    values : sequence of numbers, bools or strings, in the slider's order
    label : str
        What readers see beside it: "learning rate η".
    start : one of `values`, optional
        What the picture shows at first; otherwise the first value.
    texts : sequence of str, optional
        What readers see for each value. Short: a sentence belongs into `says` of `figure`.
    """
    return _control("slider", name, values, label, start, texts)


def choice(
    name: str,
    values: Iterable[Any],
    label: str,
    start: Any = None,
    texts: Iterable[str] | None = None,
) -> Control:
    """A list to choose one of `values` from; otherwise like `slider`."""
    return _control("choice", name, values, label, start, texts)


def _control(
    kind: str, name: str, values: Iterable[Any], label: str, start: Any, texts: Iterable[str] | None
) -> Control:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED:
        raise ValueError(
            f"name={name!r} is not allowed: one word of letters and digits, none of {sorted(RESERVED)}"
        )
    values = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if len(values) < 2 or len(set(values)) < len(values):
        raise ValueError(f"values of {name!r}: give two different ones or more, none twice")
    for value in values:
        if not isinstance(value, int | float | str) or not np.isfinite(
            0 if isinstance(value, str) else value
        ):
            raise ValueError(
                f"values of {name!r}: {value!r} is neither a finite number nor a string"
            )
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label={label!r} is not allowed: say what {name!r} is")
    if start is None:
        start = values[0]
    if start not in values:
        raise ValueError(f"start={start!r} is not one of the values of {name!r}")
    if texts is None:
        texts = [v if isinstance(v, str) else f"{v:.4g}" for v in values]
    texts = tuple(texts)
    if len(texts) != len(values) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise ValueError(f"texts of {name!r}: give one text for each of its {len(values)} values")
    return Control(kind, name, label, values, texts, values.index(start))


def rows(over: Mapping[str, Sequence[Any] | np.ndarray], **columns: ArrayLike) -> pd.DataFrame:
    """Arrays as a table with one row for each combination of the coordinates `over`.

    Parameters
    ----------
    over : dict
        The coordinates' names and values, in the order of the arrays' dimensions.
    columns : arrays
        One column each; the shape is that of all coordinates, or of the first one or ones. With one
        dimension more than there are coordinates each row holds a list, for `transform_flatten`:
        curves take a fifth of the space so. Floats are kept to four digits.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> rows({"rate": [0.1, 1.0], "step": [0, 1]}, loss=[[4, 3], [4, 9]], color=["b", "r"])
       rate  step  loss color
    0   0.1     0     4     b
    1   0.1     1     3     b
    2   1.0     0     4     r
    3   1.0     1     9     r
    """
    import pandas as pd

    shape = tuple(len(values) for values in over.values())
    if not shape:
        raise ValueError("over: name at least one coordinate")
    grids = np.meshgrid(*[np.asarray(v) for v in over.values()], indexing="ij")
    table = dict(zip(over, grids, strict=True))
    for name, values in columns.items():
        if name in table:
            raise ValueError(f"column {name!r} is a coordinate already")
        values = np.asarray(values)
        listed = values.ndim == len(shape) + 1
        fits = 1 <= values.ndim <= len(shape) + 1
        if not fits or values.shape[: len(shape)] != shape[: values.ndim]:
            raise ValueError(
                f"column {name!r} has shape {values.shape}; over has {shape}, or begin like it"
            )
        if values.dtype.kind == "f":
            values = _four_digits(values)
        if listed:
            lists = np.empty(shape, object)
            lists.ravel()[:] = values.reshape(-1, values.shape[-1]).tolist()
            values = lists
        values = values.reshape(values.shape + (1,) * (len(shape) - values.ndim))
        table[name] = np.broadcast_to(values, shape)
    return pd.DataFrame({name: values.ravel() for name, values in table.items()})


def _four_digits(values: np.ndarray) -> np.ndarray:
    size = np.where((values == 0) | ~np.isfinite(values), 1.0, np.abs(values))
    places = 3 - np.floor(np.log10(size)).astype(int)
    flat = [round(float(v), int(p)) for v, p in zip(values.ravel(), places.ravel(), strict=True)]
    return np.array(flat).reshape(values.shape)


def leaving(table: pd.DataFrame, by: str | list[str], column: str, top: float) -> pd.DataFrame:
    """The row at which each run first exceeds `top` (or is no number), with `column` set to `top`.

    Drawn as triangles they are the marks of runs that leave the frame. `by` names the column, or a
    list of columns, that tells runs apart; the rows of a run are in their order.
    """
    gone = table[~(table[column] <= top)]
    return gone.groupby(by, sort=False).head(1).assign(**{column: top})


def powers(exponents: Iterable[int]) -> dict[str, Any]:
    """Keywords for `.axis(...)` of a logarithmic scale: labels 10⁻², 1, 10² … and no other ticks."""
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    names = {10.0**k: {0: "1", 1: "10"}.get(k, "10" + str(k).translate(raised)) for k in exponents}
    label = "".join(f"datum.value < {2 * value!r} ? '{name}' : " for value, name in names.items())
    return {"values": list(names), "labelExpr": f"{label}''"}


def rate_color(rates: ArrayLike, column: str = "rate") -> altair.Color:
    """The encoding that gives each rate in `column` its colour, as in every figure of the book."""
    from matplotlib.colors import to_hex

    altair = _needed("altair")
    low, high = float(np.min(rates)), float(np.max(rates))
    stops = [to_hex(plots.rate_color(lr, [low, high])) for lr in np.geomspace(low, high, 9)]
    scale = altair.Scale(type="log", domain=np.geomspace(low, high, 9).tolist(), range=stops)
    return altair.Color(column, type="quantitative", scale=scale, legend=None)


class InteractiveFigure:
    """What `figure` returns. Notebooks show it: as the picture of its first state, on the site live."""

    def __init__(self, title: str, page: str) -> None:
        self.title = title
        self.page = page

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.page}

    def __repr__(self) -> str:
        return f'<Interactive figure "{self.title}">'


def figure(
    chart: Any, *controls: Control, title: str, alt: str, says: Callable[..., str] | None = None
) -> InteractiveFigure:
    """Make a chart of Altair and its controls a figure of the page.

    Parameters
    ----------
    chart : altair chart
        Filtered by the `chosen` of each control. Fix the domains of its scales, so that nothing but
        the data moves.
    controls : of `slider` and `choice`
    title : str
        The sentence that the figure shows.
    alt : str
        The alternative text: what one sees, in any state and at first. Six words or more.
    says : function, optional
        Takes one value of each control, returns the sentence on that state. It is called for every
        combination here; readers see the one they have chosen, and screen readers say it.

    Returns
    -------
    InteractiveFigure

    Raises
    ------
    ValueError
        Something is missing that some reader needs, or a control that the chart does not use.
    """
    if not isinstance(title, str) or not title.strip():
        raise ValueError("title must say, as a sentence, what the figure shows")
    if not isinstance(alt, str) or len(alt.split()) < 6:
        raise ValueError(f"alt={alt!r} is not allowed: say in six words or more what one sees")
    names = [control.name for control in controls]
    if not controls or len(set(names)) < len(names):
        raise ValueError(f"controls: give one or more, each with a name of its own, not {names}")
    spec = _specification(chart)
    _check_controls(spec, controls)
    sentences = []
    if says is not None:
        combinations = itertools.product(*[control.values for control in controls])
        sentences = [says(*values) for values in combinations]
        if not all(isinstance(s, str) and s.strip() for s in sentences):
            raise ValueError("says must return a sentence for every combination of values")
    spec["params"] = [{"name": c.name, "value": c.values[c.start]} for c in controls] + spec.get(
        "params", []
    )
    return InteractiveFigure(title, _page(spec, controls, title, alt, sentences))


def _specification(chart: Any) -> dict[str, Any]:
    """The chart as Vega-Lite, in the book's style; what the chart itself configures goes first."""
    altair = _needed("altair")
    with altair.theme.enable("none"), altair.data_transformers.disable_max_rows():
        spec = chart.to_dict()
    if "vconcat" in spec:
        spec.setdefault("bounds", "flush")  # panels keep their places, whatever is drawn in them
    own = spec.get("config", {})
    spec["config"] = {
        key: {**value, **own.get(key, {})} if isinstance(value, dict) else own.get(key, value)
        for key, value in {**own, **CONFIG}.items()
    }
    return spec


def _check_controls(spec: dict[str, Any], controls: Sequence[Control]) -> None:
    """Whether the chart filters by each control, and has rows for each of its values."""
    tables = list(spec.get("datasets", {}).values())
    without_data = json.dumps({key: value for key, value in spec.items() if key != "datasets"})
    for control in controls:
        if not re.search(rf"\b{control.name}\b", without_data):
            raise ValueError(f"the chart does not use {control.name!r}: filter by its `chosen`")
        found = [{row[control.name] for row in t if control.name in row} for t in tables]
        if not any(set(control.values) <= values for values in found):
            raise ValueError(f"no table has rows for every value of {control.name!r}")


def _page(
    spec: dict[str, Any], controls: Sequence[Control], title: str, alt: str, sentences: list[str]
) -> str:
    """The figure's HTML."""
    vl_convert = _needed("vl_convert")

    data = {
        # compiled here, so that the page needs no compiler
        "spec": vl_convert.vegalite_to_vega(spec),
        "controls": [{"name": c.name, "values": c.values, "texts": c.texts} for c in controls],
        "says": sentences,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    first = 0
    for control in controls:
        first = first * len(control.values) + control.start
    says = html.escape(sentences[first]) if sentences else ""
    inputs = "".join(control._html() for control in controls)
    return (
        f'<div class="interactive"><p class="interactive-title">{html.escape(title)}</p>'
        f'<div class="interactive-controls" hidden>{inputs}</div>'
        f'<div class="interactive-picture" role="img" aria-label="{html.escape(alt)}">'
        f"{_still(vl_convert.vegalite_to_svg(spec), title)}</div>"
        f'<p class="interactive-says" aria-live="polite">{says}</p>'
        f'<script type="application/json">{text}</script></div>'
    )


def _still(svg: str, title: str) -> str:
    """The picture of the first state: no roles of its own, no id that another picture has."""
    svg = re.sub(r' (role|aria-[a-z]+|version|xmlns(:xlink)?)="[^"]*"', "", svg)
    prefix = re.sub(r"\W+", "-", title.lower()).strip("-")[:40]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1)
