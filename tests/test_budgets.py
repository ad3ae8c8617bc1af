"""tools/budgets.py and the page of statistics: what is measured, and what is said of it."""

import os
import sys

import pytest

import book
import budgets
import sphinx_statistics as statistics

PAGE = {"page": "a", "title": "A", "seconds": 3.0, "cells": 1, "lines": 2, "figures": 0, "claims": 1}  # fmt: skip
DATA = {"pages": [PAGE], "machine": {"python": "3.11", "cores": 2, "workers": 2, "others": 0.02}}


def step(seconds, others):
    return {"measured": "on a day", "seconds": seconds, "processors": seconds, "others": others}


def said(measured, **machine):
    data = DATA | {"machine": DATA["machine"] | machine}
    return " ".join(statistics.Statistics.sentences(statistics.Statistics, data, measured))


@pytest.fixture(autouse=True)
def sentences_without_a_document(monkeypatch):
    load = statistics.Statistics.load
    monkeypatch.setattr(statistics.Statistics, "load", lambda machine: load(None, machine))


def test_a_command_is_timed_and_one_that_fails_is_no_measurement(tmp_path):
    code = "import time\nwhile time.process_time() < 0.3: pass"
    times = budgets.measure([sys.executable, "-c", code], tmp_path, os.environ)
    assert times["processors"] >= 0.3
    assert times["seconds"] > 0 and times["others"] >= 0
    with pytest.raises(SystemExit, match="failed"):
        budgets.measure([sys.executable, "-c", "1 / 0"], tmp_path, os.environ)


def test_the_edit_changes_the_text_of_a_page_and_none_of_its_code(tmp_path):
    source = budgets.ROOT / budgets.EDITED
    copy = tmp_path / "page.md"
    copy.write_text(source.read_text("utf-8"), "utf-8")
    budgets.edit(copy)
    before, after = (file.read_text("utf-8").splitlines() for file in (source, copy))
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert [b for a, b in changed] == ["This sentence is new. " + changed[0][0]]
    code = [[c.source for c in book.read_notebook(f).cells if c.cell_type == "code"] for f in (source, copy)]  # fmt: skip
    assert code[0] == code[1] != []


@pytest.mark.parametrize(
    ("seconds", "others", "words"),
    [(9, 0, "within"), (11, 0, "over"), (9, 1.5, "within; 1.5"), (11, 1.5, "over; 1.5")],
)
def test_a_verdict_says_when_the_machine_was_busy_with_something_else(seconds, others, words):
    verdict = statistics.verdict(step(seconds, others), 10)
    assert verdict.startswith(words)
    assert ("something else" in verdict) == (others > 0)


def test_the_page_says_when_times_come_from_a_loaded_machine():
    quiet, loaded = said({"edit": step(9, 0)}), said({"edit": step(9, 1)}, others=1.2)
    assert "not quiet" not in quiet and "nothing else to do" in quiet
    assert "not quiet" in loaded and "1.2 of its cores" in loaded


def test_what_was_not_measured_is_not_made_up():
    assert "has not been measured" in said({})
    assert "is not known" in said({}, others=None)
