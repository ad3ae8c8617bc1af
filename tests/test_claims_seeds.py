"""tools/claims_seeds.py: pages under other seeds, what fails there, and what the site says of it."""

import random
import re
import sys

import nbformat
import numpy as np
import pytest
import torch

import book
import claims_seeds
from sphinx_ledger import under_seeds

sys.path.append(str(claims_seeds.SHIFTER))
import seed_shift


@pytest.fixture
def shift(monkeypatch):
    """`seed_shift.install`, undone after the test."""
    for module, name in [
        (np.random, "default_rng"), (np.random, "seed"), (random, "seed"),
        (torch, "manual_seed"), (torch.random, "manual_seed"), (torch, "Generator"),
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, getattr(module, name))
    return seed_shift.install


def with_state(seed, draw):
    def drawn():
        seed()
        return draw()

    return drawn


DRAWS = {
    "int": lambda: np.random.default_rng(3).normal(),
    "list": lambda: np.random.default_rng([3, 1]).normal(),
    "NumPy's int": lambda: np.random.default_rng(np.int64(3)).normal(),
    "old NumPy": with_state(lambda: np.random.seed(3), lambda: np.random.normal()),  # noqa: NPY002
    "Python": with_state(lambda: random.seed(3), random.random),
    "torch": with_state(lambda: torch.manual_seed(3), lambda: torch.rand(()).item()),
    "torch's generator": lambda: torch.rand(
        (), generator=torch.Generator().manual_seed(3)
    ).item(),
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_shift_changes_what_a_seed_draws_and_draws_it_again(draw, shift):
    with torch.random.fork_rng():
        own = draw()
        assert draw() == own
        shift(1)
        other = draw()
        assert draw() == other != own


def test_the_shift_0_is_the_book(shift):
    own = {name: draw() for name, draw in DRAWS.items() if name != "list"}
    shift(0)
    assert {name: DRAWS[name]() for name in own} == own


def test_the_split_of_data_sets_stays(shift):
    split = np.random.RandomState(0).permutation(9).tolist()
    shift(1)
    assert np.random.RandomState(0).permutation(9).tolist() == split


def test_generators_pass_and_are_still_torchs(shift):
    made = torch.Generator()
    shift(1)
    rng = np.random.default_rng(0)
    assert np.random.default_rng(rng) is rng
    assert isinstance(made, torch.Generator) and isinstance(torch.Generator(), torch.Generator)
    assert len(torch.randperm(5, generator=torch.Generator().manual_seed(0))) == 5


@pytest.mark.parametrize("seed", [None, 0.5, np.random.PCG64(0)])
def test_what_is_no_seed_is_refused(seed, shift):
    shift(1)
    with pytest.raises(TypeError, match="cannot be shifted"):
        np.random.default_rng(seed)


# --- Pages ----------------------------------------------------------------------------------------

DRAWS_TWICE = """
import subprocess, sys
import numpy as np
from lrteach import claim
draw = np.random.default_rng(0).normal()
claim("the draw is that of seed 0", measured=draw, predicted=0.12573, rtol=1e-3)
---
1 / 0
---
code = "import numpy as np; print(np.random.default_rng(0).normal())"
worker = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
claim("a worker draws the same", measured=float(worker.stdout), predicted=draw, rtol=1e-12)
"""
ONLY_A_WORKER_DRAWS = """
import subprocess, sys
code = "import numpy as np; np.random.default_rng(0)"
subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Run pages, {name: cells}, under shifts; returns the report, which stays for the next call."""
    monkeypatch.setattr(claims_seeds, "REPORT", tmp_path / "claims-seeds.json")

    def cells(path):
        found = path.read_text(encoding="utf-8").split("---\n")
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in found])

    monkeypatch.setattr(book, "read_notebook", cells)

    def run(pages, shifts, **options):
        (tmp_path / "pages").mkdir(exist_ok=True)
        paths = {name: tmp_path / "pages" / f"{name}.md" for name in pages}
        for name, code in pages.items():
            paths[name].write_text(code, encoding="utf-8")
        report = claims_seeds.read(claims_seeds.REPORT)
        claims_seeds.run(paths, shifts, report, **options)
        assert claims_seeds.read(claims_seeds.REPORT) == report
        return report

    return run


def test_a_page_goes_on_after_what_fails_and_its_workers_are_reached(report):
    page = report({"page": DRAWS_TWICE}, [0, 2])["page"]
    verdicts = {k: [c["verdict"] for c in run["claims"]] for k, run in page["runs"].items()}
    assert verdicts == {"0": ["holds", "holds"], "2": ["fails", "holds"]}
    drawn = np.random.default_rng(2 * seed_shift.STEP).normal()
    assert claims_seeds.failures(page) == {
        "the draw is that of seed 0": {2: (f"{drawn:.6g}", "0.12573 ± 0.1 %")},
        "cell 2: ZeroDivisionError: division by zero at `1 / 0`": {0: None, 2: None},
    }


def test_a_page_without_a_seed_runs_once_and_one_whose_worker_has_one_does_not(report):
    found = report({"fixed": "1 + 1", "drawn": ONLY_A_WORKER_DRAWS}, [1, 2])
    assert {name: sorted(page["runs"]) for name, page in found.items()} == {
        "fixed": ["1"],
        "drawn": ["1", "2"],
    }
    assert claims_seeds.summary(found["fixed"])["seeded"] is False


def test_what_is_done_is_not_done_again_until_the_page_changes(report, monkeypatch):
    before = report({"page": "import numpy as np; np.random.default_rng(0)"}, [1])
    with monkeypatch.context() as patched:
        patched.delattr(claims_seeds, "Job")
        assert report({"page": "import numpy as np; np.random.default_rng(0)"}, [1]) == before
    after = report({"page": "1 / 0"}, [1])
    assert claims_seeds.failures(after["page"]) and after["page"]["code"] != before["page"]["code"]


@pytest.mark.parametrize(
    ("code", "limit", "why"),
    [
        ("import threading; threading.Event().wait()", 0, "not done within its time"),
        ("import os; os._exit(7)", 60, "exit code 7"),
    ],
)
def test_a_page_that_comes_to_no_end_fails_and_is_run_again(code, limit, why, report):
    page = report({"page": code}, [1], limit=limit)["page"]
    assert why in "".join(claims_seeds.failures(page))
    assert claims_seeds.to_do(page["runs"], 1)
    assert claims_seeds.summary(page)["seeds"] == 0


# --- What is said ---------------------------------------------------------------------------------


def test_a_summary_gives_way_to_one_of_more_seeds_or_of_other_code():
    old = {"a": {"code": "1", "seeds": 10}, "gone": {"code": "1", "seeds": 10}}
    for entry, stays in [(("1", 3), True), (("1", 10), False), (("2", 3), False)]:
        new = {"a": {"code": entry[0], "seeds": entry[1], "failed": {}}}
        kept = claims_seeds.renewed(old, new, known=["a"])
        assert kept == ({"a": old["a"]} if stays else new)


HOLDS = {"code": "1", "seeded": True, "seeds": 10, "claims": 20, "failed": {}}
FAILS = {**HOLDS, "seeds": 3, "failed": {"it is so": [1, 3]}}
FIXED = {**HOLDS, "seeded": False, "seeds": 1}


@pytest.mark.parametrize(
    ("found", "codes", "says"),
    [
        ({}, {"a": "1"}, "No page has been executed"),
        ({"a": HOLDS}, {"a": "1"}, "1 page that draws .* 10 times each: 20 claims. All of them held"),
        ({"a": HOLDS, "b": FAILS}, {}, "3 to 10 times.* “it is so” .b, failed 2 of 3 times"),
        ({"a": HOLDS, "b": FIXED}, {}, "20 claims. All of them held each time. 1 page uses no seed.$"),
        ({"a": HOLDS}, {"a": "2"}, "changed since: a."),
        ({"a": HOLDS}, {"a": "1", "b": "1"}, "Not executed in this way yet: b."),
    ],
)  # fmt: skip
def test_the_site_says_what_was_found_and_what_is_older_than_the_page(found, codes, says):
    assert re.search(says, under_seeds(found, codes))


def test_the_claims_about_recorded_results_are_made_by_some_page():
    pages = [path.read_text(encoding="utf-8") for path in book.chapters().values()]
    for name in claims_seeds.RECORDED:
        assert sum(name in page for page in pages) == 1


def test_the_committed_summary_is_of_pages_that_exist():
    found = claims_seeds.read(claims_seeds.SUMMARY)
    assert found and found.keys() <= book.chapters().keys()
