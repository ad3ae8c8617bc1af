"""Tests of lrteach.claims: what holds, what does not, and what cannot be checked at all."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from lrteach.claims import MIME, Claim, ClaimError, claim


def holds(**given):
    try:
        return isinstance(claim("a sentence", **given), Claim)
    except ClaimError:
        return False


UP, DOWN = np.inf, -np.inf


@pytest.mark.parametrize(
    "measured, given, inside",
    [
        (10.0, {"predicted": 8.0, "rtol": 0.25}, DOWN),
        (6.0, {"predicted": 8.0, "rtol": 0.25}, UP),
        (-10.0, {"predicted": -8.0, "rtol": 0.25}, UP),
        (8.5, {"predicted": 8.0, "atol": 0.5}, DOWN),
        (7.5, {"predicted": 8, "atol": 0.5}, UP),
        (10.5, {"predicted": 8.0, "rtol": 0.25, "atol": 0.5}, DOWN),
        (0.5, {"predicted": 0.0, "atol": 0.5}, DOWN),
        (8.0, {"predicted": 8.0, "rtol": 0.0}, None),
        (8.0, {"predicted": 8.0, "atol": 0}, None),
    ],
)
def test_holds_up_to_the_tolerances_edge_and_not_beyond(measured, given, inside):
    assert holds(measured=measured, **given)
    for direction in (UP, DOWN):
        assert holds(measured=np.nextafter(measured, direction), **given) == (direction == inside)


@pytest.mark.parametrize(
    "measured, given, expected",
    [
        (2.0, {"above": 2.0}, False),
        (np.nextafter(2.0, UP), {"above": 2.0}, True),
        (2.0, {"below": 2.0}, False),
        (np.nextafter(2.0, DOWN), {"below": 2}, True),
        (1.5, {"above": 1, "below": 2}, True),
        (0.5, {"above": 1, "below": 2}, False),
        (2.5, {"above": 1, "below": 2}, False),
        (-1, {"above": -2}, True),
        (0.5, {"above": 0.0}, True),
        ([1, 2], {"below": [2, 3]}, True),
        ([1, 2], {"below": [2, 2]}, False),
    ],
)
def test_bounds_may_not_be_reached(measured, given, expected):
    assert holds(measured=measured, **given) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "given",
    [
        {"predicted": 1.0, "rtol": 1e300},
        {"predicted": 1.0, "atol": 1e300},
        {"predicted": 1},
        {"above": 0},
        {"below": 0},
        {"above": -1e300, "below": 1e300},
    ],
    ids=repr,
)
def test_not_a_number_and_infinity_never_hold(bad, given):
    assert not holds(measured=bad, **given)
    assert not holds(measured=[1.0, bad], **given)
    assert not holds(measured=torch.tensor([bad], dtype=torch.float64), **given)


@pytest.mark.parametrize("given", [{"above": np.nan}, {"below": np.nan}])
def test_nothing_is_above_or_below_not_a_number(given):
    assert not holds(measured=1.0, **given)


@pytest.mark.parametrize(
    "measured, predicted, expected",
    [
        (True, True, True),
        (False, True, False),
        (np.bool_(True), True, True),
        (3, 3, True),
        (4, 3, False),
        (3.0, 3, True),
        (3.0000001, 3, False),
        ("adam", "adam", True),
        ("sgd", "adam", False),
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 4], [1, 2, 3], False),
        (["a", "b"], ["a", "b"], True),
        (np.array([True, False]), True, False),
    ],
    ids=repr,
)
def test_bools_ints_and_texts_must_be_equal(measured, predicted, expected):
    assert holds(measured=measured, predicted=predicted) == expected


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_one_bad_entry_of_many_fails(kind):
    good = [0.99, 1.0, 1.01]
    assert holds(measured=kind(good), predicted=1.0, rtol=0.02)
    assert holds(measured=kind(good), predicted=kind(good), rtol=0.0)
    assert not holds(measured=kind([*good, 1.1]), predicted=1.0, rtol=0.02)
    assert holds(measured=kind(good), above=0.9, below=1.1)
    assert not holds(measured=kind([*good, 1.2]), above=0.9, below=1.1)


def test_unsigned_integers_do_not_wrap_around():
    assert holds(measured=np.uint8(3), predicted=np.uint8(5), atol=2)
    assert not holds(measured=np.uint8(3), predicted=np.uint8(5), atol=1)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"measured": [], "predicted": 1.0, "rtol": 0.1}, "measured is empty"),
        ({"measured": np.zeros((0, 3)), "above": 1}, "measured is empty"),
        ({"measured": 1.0, "predicted": [], "rtol": 0.1}, "what is expected is empty"),
        ({"measured": 1.0, "above": []}, "what is expected is empty"),
        ({"measured": [1.0], "below": np.array([])}, "what is expected is empty"),
        ({"measured": 1.0}, "give either predicted, or above and/or below"),
        ({"measured": 1.0, "rtol": 0.1}, "give either predicted, or above and/or below"),
        ({"measured": 1.0, "predicted": 1.0, "rtol": 1, "above": 0}, "give either predicted, or"),
        ({"measured": 1.0, "predicted": 1, "below": 2}, "give either predicted, or above"),
        ({"measured": 1.0, "above": 0, "rtol": 0.1}, "rtol and atol go with predicted"),
        ({"measured": 1.0, "below": 2, "atol": 0.1}, "rtol and atol go with predicted"),
        ({"measured": 1.0, "predicted": 1.0}, "a predicted float needs rtol or atol"),
        ({"measured": 1, "predicted": [1.0, 2.0]}, "a predicted float needs rtol or atol"),
        ({"measured": 1.0, "predicted": 1.0, "rtol": -0.1}, "a tolerance of -0.1 is not allowed"),
        ({"measured": 1.0, "predicted": 1.0, "atol": -1}, "a tolerance of -1 is not allowed"),
        ({"measured": 1.0, "predicted": 1.0, "rtol": np.nan}, "a tolerance of nan is not allowed"),
        ({"measured": 1.0, "predicted": 1.0, "atol": np.inf}, "a tolerance of inf is not allowed"),
        ({"measured": 1.0, "predicted": np.nan, "rtol": 0.1}, "predicted is not finite"),
        ({"measured": np.inf, "predicted": np.inf, "rtol": 0.1}, "predicted is not finite"),
    ],
    ids=lambda v: repr(v)[:50],
)
def test_a_claim_that_cannot_be_checked_is_refused_with_its_name(given, words):
    with pytest.raises(ValueError, match=re.escape(f"claim 'a sentence': {words}")):
        claim("a sentence", **given)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_claim_needs_a_sentence(name):
    with pytest.raises(ValueError, match="a claim is a sentence"):
        claim(name, measured=1, predicted=1)


def test_what_fails_says_what_was_measured_and_what_was_expected():
    with pytest.raises(ClaimError) as error:
        claim("it converges", measured=2.5, predicted=1.0, rtol=0.05)
    assert str(error.value) == (
        "claim does not hold: it converges\n  measured: 2.5\n  expected: 1 ± 5 %"
    )
    assert issubclass(ClaimError, AssertionError)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"predicted": 0.5, "rtol": 0.1}, "0.5 ± 10 %"),
        ({"predicted": 0.5, "atol": 0.25}, "0.5 ± 0.25"),
        ({"predicted": 0.5, "rtol": 0.1, "atol": 0.25}, "0.5 ± 10 % ± 0.25"),
        ({"above": 0.25}, "above 0.25"),
        ({"above": 0, "below": 2 / 3}, "above 0 and below 0.666667"),
    ],
)
def test_the_text_form_is_the_same_whatever_was_measured(given, expected):
    texts = {repr(claim("a rate", measured=m, **given)) for m in (0.48, 0.5, np.float32(0.51))}
    texts.add(claim("a rate", measured=[0.49] * 9, **given)._repr_mimebundle_()["text/plain"])
    assert texts == {"✓ a rate (" + expected + ")"}


def test_the_text_of_an_exact_claim():
    assert repr(claim("three", measured=3, predicted=3)) == "✓ three (exactly 3)"
    assert repr(claim("yes", measured=True, predicted=True)) == "✓ yes (exactly True)"
    assert repr(claim("it", measured="adam", predicted="adam")) == "✓ it (exactly adam)"
    assert repr(claim("many", measured=range(9), predicted=range(9))) == (
        "✓ many (exactly 9 values in [0, 8])"
    )


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_notebook_gets_text_html_and_data():
    c = claim("L <b>\"&'</b> is small", measured=0.123456789, below=1, source="nesterov2004")
    bundle = c._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", MIME}
    assert bundle["text/plain"] == repr(c)
    page = Tags(bundle["text/html"])
    assert [tag for tag, _ in page.tags] == ["div", "span", "span", "dl", "dt", "dd", "dt", "dd"]
    assert page.tags[0][1] == {"class": "claim", "id": c.data["id"]}
    for words in ("L <b>\"&'</b> is small", "0.123457", "below 1", "✓ holds"):
        assert words in page.text
    assert json.loads(json.dumps(bundle[MIME])) == {
        "id": "claim-l-b-b-is-small",
        "name": "L <b>\"&'</b> is small",
        "measured": "0.123457",
        "expected": "below 1",
        "verdict": "holds",
        "source": "nesterov2004",
    }


@pytest.mark.parametrize(
    "name",
    [
        "Above 2/L it diverges",
        "η → 0",
        "η_t ≤ 2/λ²",
        "a" * 200,
        "x-" * 100,
        "  spaces\tand\nlines  ",
        '"><b>',
    ],
)
def test_ids_are_valid_in_html_and_in_links(name):
    identity = claim(name, measured=1, predicted=1).data["id"]
    assert re.fullmatch(r"claim(-\w+)+", identity)
    assert len(identity) <= 90


def test_ids_tell_greek_letters_apart():
    ids = {claim(f"{name} is large", measured=1, predicted=1).data["id"] for name in "ηλβμ"}
    assert len(ids) == 4
