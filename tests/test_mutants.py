"""Tests of `make mutants`: what it counts, and that nothing it changes reaches a file."""

import importlib
import json
import random
import signal
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from scipy.stats import binomtest

import lrteach.curve_shapes
import mutants
from mutants import InPlaceOf, Tests, chosen_tests, interval, judge
from sphinx_mutants import row_of

Tests.__test__ = False
RECORDED = mutants.read_results()


@pytest.mark.parametrize("killed, tried", [(0, 5), (9, 10), (237, 250), (250, 250)])
def test_the_interval_of_a_sample_is_wilsons(killed, tried):
    theirs = binomtest(killed, tried).proportion_ci(0.95, method="wilson")
    assert interval(killed, tried) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


@pytest.mark.parametrize(
    "code, outcome", [(0, "survived"), (1, "killed"), (2, "killed"), (3, "error"), (5, "error")]
)
def test_only_a_failed_test_or_tests_that_cannot_be_loaded_count(code, outcome):
    answer = json.dumps({"code": code, "failed": ["a"] if code == 1 else []}).encode()
    assert judge(0, answer) == (outcome, "a" if code == 1 else None)


def test_a_mutant_without_end_is_a_timeout():
    assert judge(signal.SIGXCPU, b"") == ("timeout", None)


def test_tests_that_reach_the_statement_run_and_those_that_noticed_before_come_first():
    tests = Tests(
        seconds={"slow": 3, "quick": 1, "elsewhere": 0.1, "knows": 9},
        lines={"slow": [7], "quick": [7], "elsewhere": [20], "knows": [6, 7]},
    )
    place = {"where": "f", "lines": range(7, 8), "scope": range(5, 9)}
    inside = SimpleNamespace(**place, runs_on_import=False)
    assert chosen_tests(inside, tests, Counter({("f", "knows"): 1})) == ["knows", "quick", "slow"]
    inside.lines = range(8, 9)
    assert chosen_tests(inside, tests, Counter()) == []
    default = SimpleNamespace(**place, runs_on_import=True)
    assert chosen_tests(default, tests, Counter()) == ["quick", "slow", "knows"]
    default.scope = range(0)
    assert chosen_tests(default, tests, Counter())[0] == "elsewhere"


def test_another_text_is_imported_in_place_of_a_module_and_its_file_stays(monkeypatch):
    path = mutants.ROOT / "lrteach" / "curve_shapes.py"
    text, before = path.read_text("utf-8"), sys.modules.get("lrteach.curve_shapes")
    subject = SimpleNamespace(name="lrteach.curve_shapes", path=path)
    with monkeypatch.context() as patch:
        patch.setattr(lrteach, "curve_shapes", None, raising=False)
        patch.setattr(sys, "meta_path", [InPlaceOf(subject, "CHANGED = 1"), *sys.meta_path])
        patch.delitem(sys.modules, subject.name, raising=False)
        changed = importlib.import_module(subject.name)
        assert changed.CHANGED == 1 and changed.__file__ == str(path)
        patch.setitem(sys.modules, subject.name, before)
    assert path.read_text("utf-8") == text
    assert not hasattr(importlib.import_module(subject.name), "CHANGED")


@pytest.mark.parametrize("subject", RECORDED)
def test_tests_notice_nine_of_ten_mutants_and_the_others_are_judged(subject):
    found = RECORDED[subject]
    assert found["killed"] + len(found["survivors"]) == found["tried"]
    assert found["tried"] >= min(250, found["mutants"])
    assert found["killed"] / found["tried"] >= 0.9
    assert [each for each in found["survivors"] if len(each["judgement"]) < 20] == []


def test_the_table_has_the_interval_of_the_first_run_and_the_share_of_the_last():
    result = {"source": "0", "mutants": 900, "tried": 250, "killed_at_first": 237, "killed": 240}
    shown = [
        "rules.py, in an earlier version",
        "900",
        "250",
        "94.8 % (91.3 % to 96.9 %)",
        "96.0 %",
        "10",
    ]
    assert row_of("rules", result) == shown
    result["mutants"] = 250
    assert row_of("rules", result)[3] == "94.8 %"


def test_mutants_change_code_and_no_wording():
    pytest.importorskip("mutmut")
    from mutations import mutants_of

    source = (
        '__all__ = ["f"]\n\n\ndef f(x, low=0.5):\n    """Says 1."""\n'
        '    if x < low:\n        raise ValueError(f"{x + 1} is less than 3")\n    return x + 2\n'
    )
    found = {tuple(mutant.change(source)) for mutant in mutants_of(source)}
    assert found == {
        ("def f(x, low=0.5):", "def f(x, low=1.5):"),
        ("def f(x, low=0.5):", "def f(x, low=0.55):"),
        ("if x < low:", "if x <= low:"),
        ("if x < low:", "if not (x < low):"),
        ('raise ValueError(f"{x + 1} is less than 3")', "pass"),
        ("return x + 2", "return None"),
        ("return x + 2", "return x - 2"),
        ("return x + 2", "return x + 3"),
        ("return x + 2", "return x + 1"),
    }


def test_the_sample_is_drawn_by_a_seed():
    options = SimpleNamespace(again=False, sample=5)
    drawn = mutants.choose(list(range(100)), options, None, None)
    assert drawn == mutants.choose(list(range(100)), options, None, None)
    assert drawn == random.Random(mutants.SEED).sample(range(100), 5)
