"""Tests of lrteach.checks: it tells mistakes apart, helps, and never fails on a learner's bug."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

import lrteach
from lrteach import checks
from lrteach.checks import Report, check, probe, progress

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("away_from_the_repository")


def of(value, expect, **options):
    """The report on an answer that is a value."""
    return check("a-1", value, probe(expect=expect, **options))


# --- what is equal --------------------------------------------------------------------------

EQUAL = [
    (1.6, 1.6), (2, 2.0), (2.0, 2), (True, True), ("warmup", "warmup"), (None, None),
    (math.nan, math.nan), (math.inf, math.inf), (-math.inf, -math.inf), (1 + 2j, 1 + 2j),
    (complex(math.nan, 1), complex(math.nan, 1)), (Fraction(1, 4), 0.25), (10**400, 10**400),
    (np.float64(0.5), 0.5), (np.float32(0.1), 0.1), (np.int64(3), 3), (np.bool_(True), True),
    (np.array(0.5), 0.5), (torch.tensor(0.5), 0.5), (0.5, np.array(0.5)),
    ([1, 2.0], (1, 2)), ((0.5, [1, 2]), (0.5, [1, 2])), ([], []), (range(3), [0, 1, 2]),
    ([[1, 2], [3]], [[1, 2], [3]]), ({"lr": 0.1, "t": [1]}, {"t": [1], "lr": 0.1}),
    (np.array([1.0, math.nan]), np.array([1.0, math.nan])), (np.eye(2), [[1, 0], [0, 1]]),
    ([1.0, 0.0], np.array([1.0, 0.0])), (torch.ones(2, 3), np.ones((2, 3))),
    (torch.ones(2, requires_grad=True), torch.ones(2)), (torch.ones(2).bfloat16(), [1, 1]),
    ((np.ones(2), 0.5), (np.ones(2), 0.5)), ({1, 2}, {2, 1}), (np.array(["a"]), ["a"]),
    (np.array([True]), [True]), (np.zeros((0, 3)), np.zeros((0, 3))), (np.array([1j]), [1j]),
    (type("Name", (str,), {})("warmup"), "warmup"),
]  # fmt: skip


@pytest.mark.parametrize("value, expect", EQUAL)
def test_equal_values_pass_whatever_holds_them(value, expect):
    report = of(value, expect)
    assert report.passed, report
    assert check("a-1", lambda: value, probe(expect=expect)).outcome == "passed"


UNEQUAL = [
    (1.7, 1.6, "wrong value"), (math.nan, 1.0, "wrong value"), (1.0, math.nan, "wrong value"),
    (math.inf, -math.inf, "wrong value"), (math.inf, 1e308, "wrong value"),
    (1 + 2j, 1 - 2j, "wrong value"), (complex(math.nan, 1), complex(math.nan, 2), "wrong value"),
    (10_000_001, 10_000_000, "wrong value"), (1e-9, 0.0, "wrong value"), (10**400, 1.0, "wrong value"),
    ("warm", "warmup", "wrong value"), ([1, 2], [2, 1], "wrong value"), ({1}, {2}, "wrong value"),
    ({"lr": 1}, {"eta": 1}, "wrong value"), ({"lr": 1}, {"lr": 2}, "wrong value"),
    (True, 1, "wrong type"), (1, True, "wrong type"), (np.bool_(True), 1.0, "wrong type"),
    (np.array([True, False]), np.array([1, 0]), "wrong type"), ("1.6", 1.6, "wrong type"),
    ((1.6, 0), 1.6, "wrong type"), (1.6, (1.6, 0), "wrong type"), ([1, None], [1, 2], "wrong type"),
    (max, 1.6, "wrong type"), (float, 1.6, "wrong type"), ({"lr": 1}, 1, "wrong type"),
    ({"lr"}, {"lr": 1}, "wrong type"),
    ((x for x in [1]), [1], "wrong type"), (np.ones(2), "a", "wrong type"),
    (np.ones(2), 1.0, "wrong shape"), (1.0, np.ones(2), "wrong shape"),
    (np.ones((2, 1)), np.ones(2), "wrong shape"), (torch.ones(3), torch.ones(2), "wrong shape"),
    ([1], [1, 2], "wrong shape"), ([[1, 2], [3]], [[1, 2], [3, 4]], "wrong shape"),
    ((np.ones(2), 1), (np.ones(3), 1), "wrong shape"), (None, 1.0, "returned nothing"),
    (None, np.ones(2), "returned nothing"), (0, None, "wrong type"), (..., 1.0, "not written"),
]  # fmt: skip


@pytest.mark.parametrize("value, expect, outcome", UNEQUAL)
def test_every_difference_has_its_outcome(value, expect, outcome):
    report = check("a-1", lambda: value, probe(expect=expect))
    assert report.outcome == outcome
    assert not report.passed and report.probes == 1 and report.passed_probes == 0


numbers = st.floats() | st.integers() | st.complex_numbers() | st.booleans() | st.text(max_size=3)
nested = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)
)


@given(nested)
@settings(deadline=None, max_examples=60)
def test_every_value_equals_itself(value):
    assert of(value, value).passed


@given(nested, nested)
@settings(deadline=None, max_examples=100)
def test_any_two_values_can_be_compared(value, expect):
    report = of(value, expect)
    assert report.outcome in {"passed", "wrong value", "wrong type", "wrong shape"}
    assert report.id in repr(report)


@given(
    hnp.arrays(st.sampled_from([float, int, bool, complex, "f4"]), hnp.array_shapes()), st.data()
)
@settings(deadline=None, max_examples=60)
def test_one_changed_entry_of_an_array_is_found(array, data):
    assert of(array, array).passed
    index = data.draw(st.integers(0, array.size - 1))
    changed = array.copy()
    entry = changed.ravel()[index]
    changed.ravel()[index] = not entry if array.dtype == bool else (
        1 if not np.isfinite(entry) or abs(entry) > 1e6 else entry + max(1, abs(entry))
    )  # fmt: skip
    if array.dtype != bool and not np.array_equal(changed, array, equal_nan=True):
        assert of(changed, array).outcome == "wrong value"
    assert of(array[..., None], array).outcome == "wrong shape"


def test_tolerances_are_those_of_the_probe():
    assert of(1.05, 1.0, rtol=0.1).passed and not of(1.05, 1.0).passed
    assert of(1e-9, 0.0, atol=1e-8).passed
    assert of(1 + 0.95e-6, 1.0).passed and not of(1 + 1.05e-6, 1.0).passed
    assert of(101, 100, rtol=0.1).passed, "whole numbers have a tolerance if one is given"


# --- what a report says ---------------------------------------------------------------------


def sgd_step(theta, g, lr):
    return theta + lr * g


def test_a_wrong_value_is_shown_with_the_call_and_what_was_expected():
    text = repr(check("decay-1", sgd_step, probe(2.0, 4.0, 0.1, expect=1.6, hint="Which way?")))
    for part in ("✗ decay-1", "wrong value", "sgd_step(2, 4, 0.1)", "2.4", "1.6", "Which way?"):
        assert part in text


def test_the_first_fitting_mistake_gives_the_hint():
    mistakes = [(99.0, "no"), (lambda v: v.no_such, "no"), (2.4, "uphill"), (lambda v: True, "no")]
    one = probe(2.0, 4.0, 0.1, expect=1.6, mistakes=mistakes, hint="no")
    assert check("a-1", sgd_step, one).hint == "uphill"
    assert check("a-1", lambda *a: -3, one).hint == "no"


def test_only_the_first_failing_probe_is_explained():
    asked = []

    def answer(x):
        asked.append(x)
        return x

    probes = [probe(i, expect=i if i < 2 else -i, hint=f"hint {i}") for i in range(5)]
    report = check("a-1", answer, *probes)
    assert (report.passed_probes, report.probes, report.hint) == (2, 5, "hint 2")
    assert asked == [0, 1, 2]
    assert "2 of 5 probes passed" in repr(report)


def test_a_wrong_shape_names_both_shapes():
    text = repr(of(np.ones((2, 3)), torch.ones(3, 2)))
    assert "an array of shape (2, 3)" in text and "a tensor of shape (3, 2)" in text
    assert "a list of length 1" in repr(of([1], [1, 2]))


def test_a_wrong_type_names_both_types():
    text = repr(of("1.6", 1.6))
    assert "a str" in text and "a float" in text
    assert "at [1]" in repr(of((1, "2"), (1, 2)))


def test_the_place_of_the_first_difference_in_long_values_is_named():
    rates = np.linspace(0, 1, 1000)
    wrong = rates.copy()
    wrong[777] = -5
    report = of(wrong, rates)
    assert "[777]" in report.where and "-5" in report.where and len(report.returned) < 100
    assert "['lr'][1]" in of({"lr": [1, 2]}, {"lr": [1, 3]}).where


def test_numbers_that_differ_late_are_shown_with_all_digits():
    report = of(1.00001, 1.000001, rtol=1e-9)
    assert report.returned != report.expected
    report = of([1.0000001], [1.00000011], rtol=1e-12)
    assert re.search(r"1\.0000001\d*, expected 1\.00000011", report.where)


class Steps(IntEnum):
    MANY = 1000


SHOWN = [
    (2.0, "2"), (1.23456789, "1.23457"), (1.5 + 2j, "1.5+2j"), (np.array(0.5), "0.5"),
    (True, "True"), (Steps.MANY, "1000"), ([None, 10**5], "[None, 100000]"),
    ("a  b", "'a b'"), ("x" * 78, repr("x" * 78)), ("x" * 79, "'" + "x" * 78 + "…"),
    ([1] * 6, "[1, 1, 1, 1, 1, 1]"), ((1,) * 7, "(1, 1, 1, 1, 1, 1, …)"), (range(2), "[0, 1]"),
    (np.eye(2), "[[1, 0], [0, 1]]"), ({"lr": 0.5, 1: [2]}, "{'lr': 0.5, 1: [2]}"),
    ({i: i for i in range(7)}, "{0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, …}"),
    ([[[[1]]]], "[[[[1]]]]"), ([[[[[1]]]]], "[[[[…]]]]"),
    ({1: {1: {1: {1: {1: 1}}}}}, "{1: {1: {1: {1: …}}}}"),
    (max, "max"), (lambda: 1, "a function"), (float, "float"), (torch.nn.ReLU(), "ReLU()"),
]  # fmt: skip


@pytest.mark.parametrize("value, text", SHOWN)
def test_a_value_is_shown_short_and_without_its_storage(value, text):
    never = probe(holds=lambda value: False, says="no value will do")
    assert check("a-1", lambda: value, never).returned == text


SORTS = [
    (2, "an int: 2"), ({"lr": 1}, "a dict: {'lr': 1}"), (max, "a function: max"),
    (float, "a type: float"), (torch.nn.ReLU(), "a ReLU: ReLU()"),
    (type("Xarray", (), {"__repr__": lambda self: "it"})(), "a Xarray: it"),
    ([1, 2], "a list of length 2: [1, 2]"), ((), "a tuple of length 0: ()"),
    ([[1, 2], [3, 4]], "a list of shape (2, 2): [[1, 2], [3, 4]]"),
    ([[1, 2], [3]], "a list of length 2: [[1, 2], [3]]"),
    (np.ones((1, 2)), "an array of shape (1, 2): [[1, 1]]"),
    (torch.ones(1), "a tensor of shape (1,): [1]"),
]  # fmt: skip


@pytest.mark.parametrize("value, text", SORTS)
def test_a_value_of_another_type_is_shown_with_its_sort(value, text):
    report = check("a-1", lambda: value, probe(expect="linear"))
    assert (report.returned, report.expected) == (text, "a str")


def test_the_sort_of_a_value_is_shown_with_its_place():
    report = of([1, "2"], [1, 2])
    assert (report.returned, report.expected) == ("a str at [1]: '2'", "an int at [1]")


def test_a_wrong_number_is_shown_beside_the_right_one_whatever_their_types():
    assert (of(2, 1.6).returned, of(2, 1.6).expected) == ("2", "1.6")
    assert of(1.23456789, 2.0).returned == "1.23457"


def test_both_of_two_near_numbers_are_shown_with_all_digits():
    report = of(1 + 2**-30, 1 + 2**-31, rtol=1e-12)
    assert (report.returned, report.expected) == ("1.0000000009313226", "1.0000000004656613")


def test_a_report_is_these_lines_of_text():
    one = probe(2.0, 4.0, 0.1, expect=1.6, says="goes downhill", hint="Which way?")
    assert repr(check("decay-1", sgd_step, one)).splitlines() == [
        "✗ decay-1: wrong value (0 of 1 probe passed)",
        "  should     goes downhill",
        "  called     sgd_step(2, 4, 0.1)",
        "  returned   2.4",
        "  expected   1.6",
        "  hint       Which way?",
    ]
    assert repr(of([1, 2], [1, 3])).splitlines()[1:] == [
        "  returned   [1, 2]",
        "  expected   [1, 3]",
        "  differs at [1]: 2, expected 3",
    ]
    answer = run_cell("def answer(lr):\n    raise ValueError('too  large')\n")
    assert repr(check("a-1", answer, probe(kwargs={"lr": 2}, expect=1))).splitlines() == [
        "✗ a-1: raised (0 of 1 probe passed)",
        "  called     answer(lr=2)",
        "  raised     ValueError: too large",
        "  at         line 2 of answer: raise ValueError('too  large')",
    ]


def test_an_answer_without_a_name_is_called_by_its_type():
    assert check("a-1", torch.nn.ReLU(), probe(torch.ones(1), expect=2)).called == "ReLU([1])"


def test_what_does_not_apply_is_empty():
    assert repr(Report("a-1", "passed", 2, 2)) == "✓ a-1: passed (2 of 2 probes)"
    assert Report("a-1", "passed", 1, 1)._repr_html_().count("<d") == 1
    report = of(1, 2)
    assert (report.called, report.hint, report.says, report.note) == ("", "", "", "")
    assert of(..., 2).called == "" and probe(expect=1).known_mistake(2) == ""


def test_what_was_found_cannot_be_changed():
    report, one, done = of(1, 2), probe(expect=1), progress()
    for thing, name in ((report, "outcome"), (one, "expect"), (done, "chapters")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, "passed")
    assert not report.passed and one.judge(1) is None and done.count("passed") == 0


def test_returning_nothing_asks_for_the_return():
    report = check("a-1", lambda x: None, probe(1, expect=1, mistakes=[(lambda v: True, "no")]))
    assert report.outcome == "returned nothing" and "return" in report.hint
    assert check("a-1", lambda x: None, probe(1, holds=bool, says="x")).outcome == report.outcome


def run_cell(source, name="answer"):
    """The function that a notebook's cell defines, as IPython knows its lines."""
    import linecache

    file = f"/tmp/ipykernel_1/{abs(hash(source))}.py"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    space = {"np": np}
    exec(compile(source, file, "exec"), space)
    return space[name]


def test_an_exception_is_reported_with_the_learners_own_line():
    answer = run_cell("def answer(x):\n    y = x\n    return np.linalg.inv(y)\n")
    report = check("a-1", answer, probe(np.zeros((2, 2)), expect=1, hint="own hint"))
    assert report.outcome == "raised" and report.hint == "own hint"
    assert "LinAlgError: Singular matrix" in repr(report)
    assert "line 3 of answer: return np.linalg.inv(y)" in repr(report)


def test_the_words_of_an_exception_are_cut_at_300_characters():
    def answer(text):
        raise ValueError(text)

    def said(text):
        return check("a-1", answer, probe(text, expect=1)).message

    assert said("") == "ValueError"
    assert said("x" * 288) == "ValueError: " + "x" * 288
    assert said("x" * 289) == "ValueError: " + "x" * 287 + "…"


def test_a_line_whose_source_is_not_known_is_a_number():
    space = {}
    exec(compile("def answer():\n    return 1 / 0\n", "not-a-file", "exec"), space)
    assert check("a-1", space["answer"], probe(expect=1)).line == "line 2 of answer"


def test_the_wrong_number_of_parameters_is_recognised():
    report = check("a-1", lambda x: x, probe(1, 2, expect=1))
    assert report.outcome == "raised" and "arguments" in report.hint and not report.line


def test_what_is_not_written_says_so():
    for body in (
        "raise NotImplementedError('your answer')",
        "raise NotImplementedError",
        "return ...",
    ):
        report = check("a-1", run_cell(f"def answer(x):\n    {body}\n"), probe(1, expect=1))
        assert report.outcome == "not written" and "not written yet" in repr(report)
        assert not report.hint
    source = "def step(x):\n    raise NotImplementedError\n\ndef answer(x):\n    return step(x)\n"
    head = "… a-1: not written yet (it calls step, which is not written yet)"
    assert repr(check("a-1", run_cell(source), probe(1, expect=1))) == head
    module = check("a-1", torch.nn.Module(), probe(1, expect=1))
    assert module.outcome == "raised", "torch says NotImplementedError for other reasons"


def test_a_value_where_a_function_is_expected_is_a_wrong_type():
    report = check("a-1", 0.5, probe(1, expect=1))
    assert report.outcome == "wrong type" and "a function is expected" in repr(report)


def test_a_property_is_shown_in_its_words():
    one = probe(
        0.1, holds=lambda lr: 0 < lr < 0.1, says="the rate shrinks", mistakes=[(0.1, "same")]
    )
    assert check("a-1", lambda lr: lr / 2, one).passed
    report = check("a-1", lambda lr: lr, one)
    assert report.outcome == "wrong value" and report.hint == "same"
    assert "the rate shrinks" in repr(report)
    assert check("a-1", lambda lr: "no number", one).outcome == "wrong type"


# --- arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [np.array([1.0, -1.0]), torch.tensor([1.0, -1.0])])
def test_a_change_in_place_is_noticed_and_explained(theta):
    def answer(theta, lr):
        theta -= lr
        return theta

    one = probe(theta, 0.5, expect=[0.5, -1.5])
    report = check("a-1", answer, one)
    assert report.outcome == "wrong value" and "argument theta in place" in report.hint
    assert theta.tolist() == [1.0, -1.0], "the probe's own argument is untouched"
    assert check("a-1", answer, one).hint == report.hint
    assert check("a-1", answer, probe(theta, 0.5, expect=[0.5, -1.5], inplace=True)).passed
    assert check("a-1", lambda theta, lr: theta - lr, one).passed


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["rates"].append(1), lambda a: a["rates"].__setitem__(0, 5), lambda a: a.pop("t"),
        lambda a: a["m"].fill(2), lambda a: a["s"].add(1), lambda a: a.__setitem__("t", True),
    ],
)  # fmt: skip
def test_a_change_deep_inside_an_argument_is_noticed(change):
    state = {
        "rates": [0.1, math.nan],
        "t": 1,
        "m": np.array([math.nan, 1.0]),
        "s": {3},
        "none": None,
    }

    def answer(state):
        change(state)
        return 1

    assert "argument state in place" in check("a-1", answer, probe(state, expect=1)).hint
    named = check("a-1", answer, probe(expect=1, kwargs={"state": state}))
    assert "argument state in place" in named.hint
    assert check("a-1", lambda state: 1, probe(state, expect=1)).passed, "NaN is no change"


@pytest.mark.parametrize("theta", [np.array(1.0), torch.tensor(1.0)])
def test_a_change_of_an_array_without_axes_is_noticed(theta):
    def answer(theta):
        theta -= 1
        return 0

    assert "argument theta in place" in check("a-1", answer, probe(theta, expect=0)).hint
    assert check("a-1", lambda theta: 0, probe(theta, expect=0)).passed


def test_a_changed_argument_without_a_name_is_numbered():
    def answer(*lists):
        lists[1].append(3)
        return 1

    hint = check("a-1", answer, probe([1], [2], expect=1)).hint
    assert "argument number 2 in place" in hint


def test_a_known_mistake_is_explained_before_a_change_in_place():
    def answer(theta):
        theta += 1
        return theta

    one = probe(np.zeros(1), expect=[-1.0], mistakes=[([1.0], "uphill")], hint="no")
    assert check("a-1", answer, one).hint == "uphill"
    other = probe(np.zeros(1), expect=[-1.0], hint="no")
    assert "in place" in check("a-1", answer, other).hint


def test_training_a_model_in_place_is_no_fault():
    def answer(net):
        with torch.no_grad():
            net.weight.zero_()
        return net.weight.sum().item()

    net = torch.nn.Linear(2, 2)
    assert check("a-1", answer, probe(net, expect=0.0)).passed
    assert net.weight.abs().sum() > 0


# --- never raises ---------------------------------------------------------------------------


def forever(x):
    return forever(x)


def leaves(x):
    sys.exit(3)


def is_stopped(x):
    raise KeyboardInterrupt


class Odd(BaseException):
    def __str__(self):
        raise RuntimeError("no text")


def is_odd(x):
    raise Odd


@pytest.mark.parametrize(
    "answer, said",
    [
        (forever, "RecursionError"), (leaves, "SystemExit: 3"), (is_odd, "Odd"),
        (is_stopped, "interrupted: does it loop for ever?"), (lambda x: 1 / 0, "division by zero"),
        (lambda x: undefined, "NameError"), (lambda x: x.no_such, "AttributeError"),  # noqa: F821
    ],
)  # fmt: skip
def test_whatever_an_answer_raises_is_a_report(answer, said):
    report = check("a-1", answer, probe(1, expect=1))
    assert report.outcome == "raised" and said in repr(report)


def test_who_interrupts_an_answer_is_asked_one_thing_only():
    report = check("a-1", is_stopped, probe(1, expect=1, hint="Which way?"))
    assert report.message.endswith("does it loop for ever?") and report.hint == ""


def bad(*names):
    """An object some of whose methods raise, even with what is no Exception's usual form."""

    def fails(self, *args, **kwargs):
        raise RuntimeError("<b>bug</b>")

    return type("Bad", (), {name: fails for name in names})()


HOSTILE = [
    bad("__eq__"), bad("__repr__"), bad("__eq__", "__repr__", "__str__", "__bool__", "__len__"),
    bad("__getattr__"), bad("__getattribute__"), bad("__class__"),
    type("Array", (), {"shape": (2,), "dtype": "f", "tolist": lambda self: 1 / 0})(),
    type("Array", (), {"shape": None, "dtype": "f", "tolist": lambda self: 1})(),
    type("Array", (), {"shape": (2,), "dtype": "f", "tolist": lambda self: [self, self]})(),
    type("Array", (), {"shape": (), "dtype": "f", "tolist": lambda self: self})(),
    type("Number", (float,), {"__sub__": lambda a, b: 1 / 0, "__format__": lambda a, b: 1 / 0})(2),
    type("List", (list,), {"__iter__": lambda self: 1 / 0})([1, 2]),
    (loop := [], loop.append(loop))[0], torch.empty(2, device="meta"), np.ma.masked,
]  # fmt: skip


@pytest.mark.parametrize("expect", [1.0, [1.0, 2.0], np.ones(2), "a", {"a": 1}, True])
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_values_that_cannot_be_looked_at_are_a_report(number, expect):
    value = HOSTILE[number]  # pytest itself would look at it
    mistakes = [(3.0, "no"), (lambda v: v > 0, "no")]
    for answer in (value, lambda: value):
        one = probe(expect=expect, mistakes=mistakes)
        report = check("a-1", answer, one)
        assert report.outcome != "passed"
        assert repr(report) and report._repr_html_()


def test_a_value_that_cannot_be_shown_is_named_by_its_type():
    never = probe(holds=lambda value: False, says="no value will do")
    assert check("a-1", lambda: bad("__repr__"), never).returned == "a Bad that cannot be shown"


def test_why_a_value_cannot_be_looked_at_is_said():
    def fails(self, other):
        raise RuntimeError("x" * 60)

    value = type("Odd", (str,), {"__eq__": fails, "__hash__": str.__hash__})("a")
    report = of(value, "a")
    assert report.outcome == "wrong type"
    assert report.returned.startswith("an Odd, which could not be looked at (RuntimeError")
    assert "x" * 60 in report.returned


# --- the author's mistakes ------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, error, named",
    [
        ({}, ValueError, "either expect or holds"),
        ({"expect": 1, "holds": bool, "says": "x"}, ValueError, "either expect or holds"),
        ({"holds": 3, "says": "x"}, TypeError, "holds"),
        ({"holds": bool}, ValueError, "says"),
        ({"expect": 1, "rtol": -1}, ValueError, "probe: rtol=-1 is not allowed"),
        ({"expect": 1, "rtol": math.nan}, ValueError, "rtol"),
        ({"expect": 1, "rtol": math.inf}, ValueError, "rtol"),
        ({"expect": 1, "atol": "0"}, TypeError, "probe: atol='0' is not a number"),
        ({"expect": 1, "hint": None}, TypeError, "probe: hint=None is not a text"),
        ({"expect": 1, "says": 3}, TypeError, "probe: says=3 is not a text"),
        ({"expect": 1, "kwargs": [1]}, TypeError, "kwargs"),
        ({"expect": 1, "mistakes": {2: "x"}}, TypeError, "mistakes"),
        ({"expect": 1, "mistakes": [2]}, ValueError, "mistakes"),
        ({"expect": 1, "mistakes": [(2, "")]}, ValueError, "mistakes"),
        ({"expect": 1, "mistakes": [(2, "x", "y")]}, ValueError, "mistakes"),
        ({"expect": 1, "mistakes": [(1.0, "the answer itself")]}, ValueError, "mistakes"),
    ],
)
def test_a_probe_that_cannot_be_asked_names_the_parameter(arguments, error, named):
    with pytest.raises(error, match=named):
        probe(1, **arguments)


def test_a_function_among_the_mistakes_is_asked_and_not_compared():
    one = probe(expect=max, mistakes=[(max, "no"), (lambda value: value is min, "the least")])
    assert check("a-1", lambda: min, one).hint == "the least"


def test_a_check_that_cannot_be_made_names_the_parameter():
    for id in ("", "a b", 3):
        with pytest.raises(ValueError, match="id"):
            check(id, max, probe(1, 2, expect=2))
    with pytest.raises(ValueError, match="probes"):
        check("a-1", max)
    with pytest.raises(TypeError, match="probes"):
        check("a-1", max, (1, 2))
    with pytest.raises(ValueError, match="cannot be copied"):
        check("a-1", max, probe((x for x in "ab"), expect="b"))


# --- display --------------------------------------------------------------------------------


def test_html_says_what_the_text_says_and_escapes_it():
    evil = "<script>alert('x')</script>&"
    for report in (
        of(evil, "safe", hint=evil, says=evil), of(1, 1), of(..., 1), of([evil, 1], [1, 1]),
        check("a-1", run_cell(f"def answer():\n    raise ValueError({evil!r})\n"), probe(expect=1)),
    ):  # fmt: skip
        page = BeautifulSoup(report._repr_html_(), "html.parser")
        assert not page.find("script")
        shown = " ".join(page.get_text(" ").split())
        for word in re.findall(r"\S+", repr(report)):
            assert word.strip(":()") in shown


def test_html_sets_code_in_a_fixed_width_font_and_the_hint_in_bold():
    def rows(report):
        page = BeautifulSoup(report._repr_html_(), "html.parser")
        return [
            (term.text, entry.find().name, entry.text)
            for term, entry in zip(page("dt"), page("dd"), strict=True)
        ]

    one = probe(2.0, 4.0, 0.1, expect=1.6, says="goes downhill", hint="Which way?")
    assert rows(check("a-1", sgd_step, one)) == [
        ("should", "span", "goes downhill"),
        ("called", "code", "sgd_step(2, 4, 0.1)"),
        ("returned", "code", "2.4"),
        ("expected", "span", "1.6"),
        ("hint", "strong", "Which way?"),
    ]
    answer = run_cell("def answer():\n    return 1 / 0\n")
    assert rows(check("a-1", answer, probe(expect=1)))[1:] == [
        ("raised", "span", "ZeroDivisionError: division by zero"),
        ("at", "code", "line 2 of answer: return 1 / 0"),
    ]


def test_html_means_nothing_by_colour():
    for report in (of(1, 1), of(1, 2), of(..., 2)):
        assert not re.search(r"#[0-9a-f]{3}|rgb|(?<!-)color:|background", report._repr_html_())
    assert "✓ passed" in of(1, 1)._repr_html_() and "✗ wrong value" in of(1, 2)._repr_html_()


# --- progress -------------------------------------------------------------------------------


def write_notebook(path, title, *exercises):
    cells = [{"cell_type": "markdown", "source": [f"# Exercises: {title}\n", "\n", "Text."]}]
    for id, name in exercises:
        cells.append({"cell_type": "markdown", "source": f"## {name}\n\nText."})
        cells.append({"cell_type": "code", "source": ["def f(): ...\n"]})
        cells.append({"cell_type": "code", "source": [f'check("{id}", f,\n', "  probe(expect=1))"]})
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "b.ipynb", "Decay", ("decay-1", "Step <i>"), ("decay-2", "Cosine"))
    write_notebook(tmp_path / "a.ipynb", "Noise", ("noise-1", "A ball"))
    (tmp_path / "other.ipynb").write_text('{"cells": []}')
    return tmp_path


def test_progress_tells_done_tried_and_not_tried_apart_over_all_notebooks(folder):
    check("decay-1", 1, probe(expect=1))
    check("noise-1", 2, probe(expect=1))
    check("decay-2", ..., probe(expect=1))
    found = progress()
    assert found.chapters == [
        ("Noise", [("noise-1", "A ball", "tried")]),
        ("Decay", [("decay-1", "Step <i>", "done"), ("decay-2", "Cosine", "not tried")]),
    ]
    assert [found.count(state) for state in ("done", "tried", "not tried")] == [1, 1, 1]
    assert not found.messages
    page = BeautifulSoup(found._repr_html_(), "html.parser")
    assert not page.find("i")
    for text in (repr(found), page.get_text(" ")):
        for part in ("1 of 3 exercises done", "Step <i>", "✓ done", "✗ tried", "· not tried"):
            assert part in text


def test_nothing_is_noted_in_words_when_all_is_well(folder):
    assert progress().messages == []
    assert [check("decay-1", 1, probe(expect=1)).note for _ in range(2)] == ["", ""]
    assert check("decay-2", ..., probe(expect=1)).note == ""


def test_progress_is_these_lines_of_text_and_these_words_of_html(folder):
    check("noise-1", 2, probe(expect=1))
    check("decay-1", 1, probe(expect=1))
    (folder / "x.ipynb").write_text("{")
    head = "1 of 3 exercises done, 1 tried, 1 not tried"
    assert repr(progress()).splitlines() == [
        head,
        "",
        "Noise",
        "  ✗ tried      A ball",
        "",
        "Decay",
        "  ✓ done       Step <i>",
        "  · not tried  Cosine",
        "(x.ipynb cannot be read as a notebook)",
    ]
    page = BeautifulSoup(progress()._repr_html_(), "html.parser")
    assert list(page.stripped_strings) == [
        head,
        *("Noise", "A ball", "✗ tried"),
        *("Decay", "Step <i>", "✓ done", "Cosine", "· not tried"),
        "x.ipynb cannot be read as a notebook",
    ]


def test_the_file_of_results_has_a_line_for_each_exercise_in_their_order(folder):
    for id, answer in (("noise-1", 2), ("decay-1", 1)):
        check(id, answer, probe(expect=1))
    text = (folder / ".lrteach-progress.json").read_text(encoding="utf-8")
    assert text == '{\n "decay-1": "done",\n "noise-1": "tried"\n}\n'


def test_what_was_done_stays_done(folder):
    for answer in (2, 1, 2, ...):
        check("decay-1", answer, probe(expect=1))
    assert progress().count("done") == 1


def test_an_empty_folder_has_a_word_of_help(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "No exercises" in repr(progress()) and "No exercises" in progress()._repr_html_()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "3", '"x"', "\x00", '{"decay-1": 3}', "[" * 9999]
)
def test_a_damaged_file_is_a_message_and_is_kept(folder, content):
    (folder / checks.FILE).write_text(content)
    found = progress()
    assert found.count("done") == 0
    report = check("decay-1", 1, probe(expect=1))
    assert report.passed and progress().count("done") == 1 and not progress().messages
    if content != '{"decay-1": 3}':
        assert found.messages == [f"{checks.FILE} is damaged"]
        kept = f"your progress starts anew, and the old file is kept as {checks.FILE}.damaged"
        assert report.note == f"{checks.FILE} is damaged: {kept}"
        assert (folder / f"{checks.FILE}.damaged").read_text() == content


def test_a_file_that_cannot_be_written_or_read_is_a_message(folder, monkeypatch):
    (folder / checks.FILE).mkdir()
    report = check("decay-1", 1, probe(expect=1))
    assert report.passed and "not saved" in repr(report) and "not saved" in report._repr_html_()
    assert "cannot be read" in repr(progress())
    assert [p.name for p in folder.iterdir() if p.name.endswith(".tmp")] == []


def test_a_damaged_notebook_is_a_message(folder):
    for name, text in (("x.ipynb", "{"), ("y.ipynb", "[]"), ("z.ipynb", '{"cells": [3]}')):
        (folder / name).write_text(text)
    (folder / "w.ipynb").write_bytes(b"\xff\xfe")
    found = progress()
    assert len(found.messages) == 4 and "x.ipynb cannot be read" in repr(found)
    assert len(found.chapters) == 2


def test_a_crash_while_saving_leaves_the_old_file_whole(folder, monkeypatch):
    check("decay-1", 1, probe(expect=1))
    before = (folder / checks.FILE).read_text()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert "No space left" in repr(check("decay-2", 1, probe(expect=1)))
    assert (folder / checks.FILE).read_text() == before


# --- what it costs --------------------------------------------------------------------------


def test_importing_it_loads_neither_numpy_nor_torch(tmp_path):
    code = (
        "import sys\nfrom lrteach import check\nfrom lrteach.checks import probe, progress\n"
        "assert check('a-1', lambda x: x, probe(1, expect=1)).passed\nrepr(progress())\n"
        "print(sorted({'numpy', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.stdout.strip() == "[]"


def test_check_is_an_attribute_of_the_package():
    assert lrteach.check is check and lrteach.checks is checks
