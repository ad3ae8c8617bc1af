"""Tests of lrteach.interactive: what a figure must have, its tables, and the page it makes."""

import json
import re
import sys

import altair as alt
import numpy as np
import pytest
from bs4 import BeautifulSoup

from lrteach import interactive, plots

RATES = [0.1, 0.5, 2.5]
STEPS = [0, 1, 2]
LOSSES = np.array([[4.0, 3.0, 2.0], [4.0, 1.0, 0.5], [4.0, 9.0, 80.0]])
TITLE, ALT = "The largest rate leaves", "Three losses fall & one < rises at the largest rate"


@pytest.fixture
def rate():
    return interactive.slider("rate", RATES, "learning rate η", start=0.5)


@pytest.fixture
def table():
    return interactive.rows({"rate": RATES, "step": STEPS}, loss=LOSSES)


@pytest.fixture
def chart(rate, table):
    return alt.Chart(table).mark_line().transform_filter(rate.chosen).encode(x="step", y="loss")


@pytest.fixture
def page(chart, rate):
    shown = interactive.figure(chart, rate, title=TITLE, alt=ALT, says=lambda lr: f"rate <{lr}>")
    return BeautifulSoup(shown._repr_mimebundle_()["text/html"], "html.parser")


def data(page):
    return json.loads(page.find("script", type="application/json").string)


def test_text_form_is_stable_and_names_the_figure(chart, rate):
    shown = interactive.figure(chart, rate, title=TITLE, alt=ALT)
    assert repr(shown) == '<Interactive figure "The largest rate leaves">'
    assert shown._repr_mimebundle_()["text/plain"] == repr(shown)


def test_the_same_figure_is_the_same_page(chart, rate):
    pages = [interactive.figure(chart, rate, title=TITLE, alt=ALT).page for _ in range(2)]
    assert pages[0] == pages[1]


def test_page_has_a_still_picture_with_the_alternative_text(page):
    picture = page.select_one(".interactive-picture")
    assert picture["role"] == "img"
    assert picture["aria-label"] == ALT
    assert picture.svg["aria-hidden"] == "true"
    assert picture.svg.select_one(".mark-line path")["d"].count("L") == 2
    assert len(str(picture.svg)) < 60_000
    assert "is-live" not in str(page)


def test_still_picture_has_no_roles_and_no_id_of_another_figure(page):
    svg = page.select_one("svg")
    inside = svg.find_all(True)
    assert not any(tag.has_attr("role") or tag.has_attr("aria-label") for tag in inside)
    assert all(tag["id"].startswith("the-largest-rate-leaves-") for tag in inside if tag.get("id"))


def test_controls_are_native_named_and_hidden_until_the_script_runs(page):
    controls = page.select_one(".interactive-controls")
    assert controls.has_attr("hidden")
    slider = controls.find("input")
    assert slider["type"] == "range"
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    assert slider["aria-valuetext"] == "0.5"
    assert slider.find_parent("label").get_text(strip=True) == "learning rate η"
    assert controls.select_one(".interactive-value").get_text() == "0.5"


def test_choice_is_a_list(chart):
    which = interactive.choice("rate", RATES, "rate", start=2.5, texts=["a", "b", "c & d"])
    shown = interactive.figure(chart, which, title=TITLE, alt=ALT)
    options = BeautifulSoup(shown.page, "html.parser").select("label > select > option")
    assert [option.get_text() for option in options] == ["a", "b", "c & d"]
    assert [option.has_attr("selected") for option in options] == [False, False, True]


def test_data_are_vega_with_the_values_of_the_controls_and_no_markup(page):
    found = data(page)
    assert "vega/v" in found["spec"]["$schema"]
    assert {"name": "rate", "value": 0.5} in found["spec"]["signals"]
    assert found["controls"] == [{"name": "rate", "values": RATES, "texts": ["0.1", "0.5", "2.5"]}]
    assert "<" not in page.find("script").string


def test_sentence_of_each_state_is_in_the_data_and_the_first_is_shown(page):
    assert data(page)["says"] == ["rate <0.1>", "rate <0.5>", "rate <2.5>"]
    line = page.select_one(".interactive-says")
    assert line["aria-live"] == "polite"
    assert line.get_text() == "rate <0.5>"


def test_sentences_of_two_controls_follow_the_last_one_first(rate):
    table = interactive.rows({"rate": RATES, "kind": ["a", "b"]}, loss=LOSSES[:, :2])
    kind = interactive.choice("kind", ["a", "b"], "kind", start="b")
    both = alt.Chart(table).mark_point().encode(x="loss")
    both = both.transform_filter(rate.chosen).transform_filter(kind.chosen)
    shown = interactive.figure(both, rate, kind, title=TITLE, alt=ALT, says="{} {}".format)
    page = BeautifulSoup(shown.page, "html.parser")
    assert data(page)["says"] == ["0.1 a", "0.1 b", "0.5 a", "0.5 b", "2.5 a", "2.5 b"]
    assert page.select_one(".interactive-says").get_text() == "0.5 b"


def test_the_figure_has_the_books_style_unless_the_chart_says_otherwise(chart, rate):
    own = chart.configure_axis(labelFontSize=20).properties(width=111)
    spec = interactive._specification(own)
    assert spec["config"]["axis"]["labelFontSize"] == 20
    assert spec["config"]["axis"]["titleColor"] == plots.INK
    assert spec["config"]["background"] is None
    assert spec["width"] == 111


def test_panels_keep_their_places(chart):
    assert interactive._specification(chart & chart)["bounds"] == "flush"
    assert "bounds" not in interactive._specification(chart)


@pytest.mark.parametrize("title", ["", "  ", None, 3])
def test_a_figure_needs_a_title(chart, rate, title):
    with pytest.raises(ValueError, match="title must say"):
        interactive.figure(chart, rate, title=title, alt=ALT)


@pytest.mark.parametrize("text", ["", None, "a loss curve", "five words are not enough"])
def test_a_figure_needs_an_alternative_text(chart, rate, text):
    with pytest.raises(ValueError, match=r"alt=.* in six words or more"):
        interactive.figure(chart, rate, title=TITLE, alt=text)


def test_a_figure_needs_controls_with_different_names(chart, rate):
    with pytest.raises(ValueError, match="controls: give one or more"):
        interactive.figure(chart, title=TITLE, alt=ALT)
    with pytest.raises(ValueError, match="controls: give one or more"):
        interactive.figure(chart, rate, rate, title=TITLE, alt=ALT)


def test_a_chart_must_use_every_control(table, rate):
    still = alt.Chart(table).mark_line().encode(x="step", y="loss")
    with pytest.raises(ValueError, match="does not use 'rate'"):
        interactive.figure(still, rate, title=TITLE, alt=ALT)


def test_every_value_of_a_control_must_have_rows(chart):
    other = interactive.slider("rate", [0.1, 0.2, 0.5], "rate")
    with pytest.raises(ValueError, match="no table has rows for every value of 'rate'"):
        interactive.figure(chart, other, title=TITLE, alt=ALT)


@pytest.mark.parametrize("says", [lambda lr: "", lambda lr: None])
def test_every_state_must_have_a_sentence(chart, rate, says):
    with pytest.raises(ValueError, match="says must return a sentence"):
        interactive.figure(chart, rate, title=TITLE, alt=ALT, says=says)


@pytest.mark.parametrize("make", [interactive.slider, interactive.choice])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "two words"}, "name='two words' is not allowed"),
        ({"name": "width"}, "name='width' is not allowed"),
        ({"name": 3}, "name=3 is not allowed"),
        ({"values": [1]}, "values of 'rate': give two different ones"),
        ({"values": [1, 1]}, "values of 'rate': give two different ones"),
        ({"values": [1, np.nan]}, "values of 'rate': nan is neither"),
        ({"values": [1, None]}, "values of 'rate': None is neither"),
        ({"label": " "}, "label=' ' is not allowed"),
        ({"start": 7}, "start=7 is not one of the values of 'rate'"),
        ({"texts": ["a"]}, "texts of 'rate': give one text for each"),
        ({"texts": ["a", ""]}, "texts of 'rate': give one text for each"),
        ({"texts": [1, 2]}, "texts of 'rate': give one text for each"),
    ],
)
def test_bad_controls_are_refused(make, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**{"name": "rate", "values": [1, 2], "label": "rate", **change})


def test_values_of_numpy_become_plain():
    values = interactive.slider("n", np.arange(3), "n").values
    assert values == (0, 1, 2)
    assert all(type(value) is int for value in values)


def test_rows_repeat_what_is_the_same_for_several(table):
    more = interactive.rows(
        {"rate": RATES, "step": STEPS},
        loss=LOSSES,
        border=[1 / 3, 2e-9, 123456.0],
        name=list("abc"),
    )
    assert more[["rate", "step", "loss"]].equals(table)
    assert more.border.tolist() == [0.3333] * 3 + [2e-9] * 3 + [123500.0] * 3
    assert more.name.tolist() == list("aaabbbccc")
    assert interactive.rows({"x": [1, 2]}, y=[np.nan, 0.0]).y.isna().tolist() == [True, False]


def test_rows_hold_curves_as_lists():
    curves = np.arange(12.0).reshape(2, 2, 3) / 7
    table = interactive.rows({"a": [1, 2], "b": ["x", "y"]}, curve=curves)
    four_digits = [[float(f"{v:.4g}") for v in curve] for curve in curves.reshape(4, 3)]
    assert table.curve.tolist() == four_digits
    assert interactive.rows({"a": [1, 2]}, c=[[1, 2], [3, 4]]).c.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("over", "columns", "message"),
    [
        ({}, {}, "name at least one coordinate"),
        ({"a": [1, 2]}, {"a": [1, 2]}, "column 'a' is a coordinate already"),
        ({"a": [1, 2]}, {"b": [1, 2, 3]}, r"column 'b' has shape \(3,\)"),
        ({"a": [1, 2], "b": [1, 2, 3]}, {"c": [1, 2, 3]}, r"over has \(2, 3\)"),
        ({"a": [1, 2]}, {"b": 1.0}, r"column 'b' has shape \(\)"),
        ({"a": [1, 2]}, {"b": np.ones((2, 2, 2))}, "column 'b' has shape"),
    ],
)
def test_bad_columns_are_refused(over, columns, message):
    with pytest.raises(ValueError, match=message):
        interactive.rows(over, **columns)


def test_leaving_finds_the_first_row_outside_of_each_run():
    losses = np.array([[1.0, 5.0, 2.0, 7.0], [1.0, 1.0, 1.0, 1.0], [1.0, np.nan, 1.0, 9.0]])
    table = interactive.rows({"rate": RATES, "step": range(4)}, loss=losses)
    gone = interactive.leaving(table, "rate", "loss", top=4)
    assert gone[["rate", "step", "loss"]].to_numpy().tolist() == [[0.1, 1, 4], [2.5, 1, 4]]
    assert table.loss.max() == 9


def test_powers_label_what_a_logarithmic_axis_shows():
    axis = interactive.powers([-12, 0, 1, 3])
    assert axis["values"] == [1e-12, 1.0, 10.0, 1000.0]
    assert re.findall("'([^']*)'", axis["labelExpr"]) == ["10⁻¹²", "1", "10", "10³", ""]


def test_rate_colours_are_those_of_the_other_figures():
    from matplotlib.colors import to_hex

    scale = interactive.rate_color([0.01, 0.1, 1.0]).to_dict()["scale"]
    assert scale["domain"][0] == 0.01
    assert scale["range"][0] == to_hex(plots.rate_color(0.01, [0.01, 1.0]))
    assert scale["range"][4] == to_hex(plots.rate_color(0.1, [0.01, 1.0]))
    assert scale["range"][-1] == to_hex(plots.rate_color(1.0, [0.01, 1.0]))


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, chart, rate, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ImportError, match=re.escape('pip install "lrteach[notebooks]"')) as error:
        interactive.figure(chart, rate, title=TITLE, alt=ALT)
    assert error.value.name == package
