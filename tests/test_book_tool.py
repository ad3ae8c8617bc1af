"""tools/book.py: what is executed again, what is recorded, what goes into the ledger."""

import json

import nbformat
import pytest

import book

CHAPTER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3}
---
# A title

```{code-cell} ipython3
:tags: [hide-input]
%s
```
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small copy of the project: one chapter, two modules, data and a lock."""
    for name in ("book/part", "lrteach/data", "tests/recorded"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    (tmp_path / "lrteach/__init__.py").write_text("")
    (tmp_path / "lrteach/claims.py").write_text("x = 1\n")
    (tmp_path / "lrteach/plots.py").write_text("x = 1\n")
    (tmp_path / "lrteach/training.py").write_text("from lrteach.models import f\n")
    (tmp_path / "lrteach/models.py").write_text("x = 1\n")
    (tmp_path / "lrteach/data/__init__.py").write_text("x = 1\n")
    (tmp_path / "lrteach/data/digits.npz").write_bytes(b"1")
    for name, value in {
        "ROOT": tmp_path,
        "BOOK": tmp_path / "book",
        "BUILD": tmp_path / "_build",
        "CACHE": tmp_path / "_build/.jupyter_cache",
        "STATE": tmp_path / "_build/executed.json",
        "LEDGER": tmp_path / "_build/ledger.json",
        "STATISTICS": tmp_path / "_build/statistics.json",
        "OTHERS": tmp_path / "_build/others.json",
        "RECORDED": tmp_path / "tests/recorded",
    }.items():
        monkeypatch.setattr(book, name, value)
    return tmp_path


def write_chapter(tree, code, name="one"):
    path = tree / "book/part" / f"{name}.md"
    path.write_text(CHAPTER % code)
    return path


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("from lrteach import claim", {"claims"}),
        ("from lrteach import train, plots", {"training", "models", "plots"}),
        ("import lrteach\nlrteach.train", {"training", "models"}),
        ("import lrteach.plots", {"plots"}),
        ("from lrteach.claims import claim", {"claims"}),
        ("import numpy", set()),
        (
            "if TYPE_CHECKING:\n    from lrteach import plots\nelse:\n    import lrteach.claims",
            {"claims"},
        ),
    ],
)
def test_reachable_modules_are_found_by_name_and_through_each_other(tree, code, modules):
    assert book.reachable_modules(code) == modules


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("lrteach/training.py", True),
        ("lrteach/models.py", True),  # only through training
        ("lrteach/__init__.py", True),
        ("requirements.lock", True),
        ("book/part/recorded_result.json", True),
        ("lrteach/plots.py", False),  # the chapter cannot reach it
        ("lrteach/data/digits.npz", False),
    ],
)
def test_fingerprint_changes_exactly_when_a_result_could(tree, file, changes):
    chapter = write_chapter(tree, "from lrteach import train")
    before = book.fingerprint(chapter)
    assert book.fingerprint(chapter) == before
    with (tree / file).open("a") as handle:
        handle.write("# more\n")
    assert (book.fingerprint(chapter) != before) == changes


def test_fingerprint_sees_the_data_of_chapters_that_use_data(tree):
    chapter = write_chapter(tree, "from lrteach import data")
    before = book.fingerprint(chapter)
    (tree / "lrteach/data/digits.npz").write_bytes(b"2")
    assert book.fingerprint(chapter) != before


def test_fingerprint_ignores_prose(tree):
    chapter = write_chapter(tree, "1 + 1")
    before = book.fingerprint(chapter)
    chapter.write_text(chapter.read_text().replace("# A title", "# Another title"))
    assert book.fingerprint(chapter) == before


def test_a_chapter_is_executed_once_and_again_when_it_changed(tree, capfd):
    write_chapter(tree, "print(6 * 7)")
    first = book.execute()
    assert "Executing 1 of 1" in capfd.readouterr().out
    assert first["part/one"].cells[-1].outputs[0].text == "42\n"
    assert book.execute()["part/one"].cells[-1].outputs == first["part/one"].cells[-1].outputs
    assert "Executing" not in capfd.readouterr().out
    write_chapter(tree, "print(6 * 8)")
    assert book.execute()["part/one"].cells[-1].outputs[0].text == "48\n"


@pytest.mark.parametrize(
    "code", ["1 / 0", "import sys; print('careless', file=sys.stderr)", "import os; os._exit(1)"]
)
def test_a_failing_chapter_stops_the_build_and_is_tried_again(tree, code, capfd):
    write_chapter(tree, code)
    for _ in range(2):
        with pytest.raises(SystemExit, match="1 chapter"):
            book.execute()
        assert "part/one.md failed" in capfd.readouterr().err


def test_a_chapter_that_failed_leaves_the_others_results(tree, capfd):
    write_chapter(tree, "1 / 0", "bad")
    write_chapter(tree, "print('good')", "good")
    with pytest.raises(SystemExit):
        book.execute()
    (tree / "book/part/bad.md").unlink()
    capfd.readouterr()
    book.execute()
    assert "Executing" not in capfd.readouterr().out


def command(monkeypatch, *arguments):
    """Run `python tools/book.py ARGUMENTS`."""
    monkeypatch.setattr(book.sys, "argv", ["book.py", *arguments])
    book.main()


def test_execute_with_a_page_executes_only_it_and_forgets_no_other(tree, monkeypatch, capfd):
    write_chapter(tree, "print(1)", "one")
    write_chapter(tree, "print(2)", "two")
    book.execute()
    before = book.read_state()
    write_chapter(tree, "print(3)", "one")
    write_chapter(tree, "print(4)", "two")
    capfd.readouterr()
    command(monkeypatch, "execute", "part/one")
    said, after = capfd.readouterr().out, book.read_state()
    assert "Executing 1 of 1" in said
    assert "part/one" in said and "part/two" not in said
    assert after["part/two"] == before["part/two"]
    assert after["part/one"]["fingerprint"] != before["part/one"]["fingerprint"]
    assert not book.LEDGER.exists()  # it is about the whole book
    command(monkeypatch, "execute")
    assert "Executing 1 of 2" in capfd.readouterr().out  # what was done alone is not done again


def test_a_page_that_is_not_there_is_refused_before_anything_is_executed(tree, monkeypatch, capfd):
    write_chapter(tree, "print(1)", "one")
    with pytest.raises(SystemExit, match=r"part/three.*there are part/one"):
        command(monkeypatch, "execute", "part/one", "part/three")
    assert "Executing" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["build", "record"])
def test_commands_about_the_whole_book_take_no_page(tree, monkeypatch, capfd, name):
    write_chapter(tree, "print(1)", "one")
    with pytest.raises(SystemExit):
        command(monkeypatch, name, "part/one")
    streams = capfd.readouterr()
    assert f"{name} takes no pages" in streams.err
    assert "Executing" not in streams.out


def test_recordings_are_byte_identical_when_made_again(tree):
    write_chapter(
        tree, "print(1)\ndisplay({'image/png': 'aaaa', 'text/plain': '<Figure>'}, raw=True)"
    )
    book.record(book.execute())
    path = tree / "tests/recorded/part/one.ipynb"
    first = path.read_bytes()
    (tree / "_build/executed.json").unlink()
    book.record(book.execute())
    assert path.read_bytes() == first
    cell = json.loads(first)["cells"][0]
    assert cell["metadata"]["tags"] == ["hide-input"]
    assert cell["outputs"][1]["data"] == {"text/plain": ["<Figure>"]}
    nbformat.validate(json.loads(first))


def test_a_recording_does_not_depend_on_how_often_the_kernel_flushed():
    def stream(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    flushes = [stream("stdout", "a\n"), stream("stdout", "b\n"), stream("stderr", "c\n")]
    cell = nbformat.v4.new_code_cell("print()", outputs=flushes)
    (recorded,) = book.recorded_form(nbformat.v4.new_notebook(cells=[cell])).cells
    assert [(o.name, o.text) for o in recorded.outputs] == [("stdout", "a\nb\n"), ("stderr", "c\n")]


def test_recordings_of_chapters_that_are_gone_go_too(tree):
    write_chapter(tree, "1")
    book.record(book.execute())
    (tree / "book/part/one.md").rename(tree / "book/part/two.md")
    book.record(book.execute())
    assert [p.name for p in (tree / "tests/recorded").rglob("*.ipynb")] == ["two.ipynb"]


def test_ledger_has_every_claim_with_its_chapter(tree):
    claim = "from lrteach.claims import claim\nclaim('x is %d', measured=1, above=0)"
    write_chapter(tree, claim % 1)
    rows = book.write_ledger(book.execute())
    assert [(r["chapter"], r["title"], r["name"]) for r in rows] == [
        ("part/one", "A title", "x is 1")
    ]
    assert json.loads((tree / "_build/ledger.json").read_text())["claims"] == rows


def test_ledger_keeps_tuned_rates_for_the_cards(tree):
    rates = {"sgd": [0.1, 0.5]}
    show = "from IPython.display import display\ndisplay({%r: %r, 'text/plain': 'x'}, raw=True)"
    write_chapter(tree, show % (book.RATES_MIME, rates))
    book.write_ledger(book.execute())
    assert json.loads((tree / "_build/ledger.json").read_text())["rates"] == rates


def test_statistics_count_what_pages_hold(tree):
    cells = [
        "# a remark\nx = 1\n\ny = 2",
        "from lrteach.claims import claim\nclaim('a', measured=1, above=0)",
    ]
    text = write_chapter(tree, cells[0]).read_text("utf-8")
    (tree / "book/part/one.md").write_text(f"{text}\n```{{code-cell}}\n{cells[1]}\n```\n", "utf-8")
    book.write_statistics(book.execute())
    (row,) = json.loads(book.STATISTICS.read_text("utf-8"))["pages"]
    counted = [row[key] for key in ("page", "cells", "lines", "figures", "claims")]
    assert counted == ["part/one", 2, 4, 0, 1]
    assert row["seconds"] > 0


def test_statistics_say_how_busy_the_machine_was_with_something_else(tree, monkeypatch):
    write_chapter(tree, "print(1)")
    times = iter([(1.0, 10.0), (3.0, 1e6)])  # of child processes, and of the machine
    monkeypatch.setattr(book, "processor_time", lambda: next(times))
    book.write_statistics(book.execute())
    others = json.loads(book.STATISTICS.read_text("utf-8"))["machine"]["others"]
    assert others > 1
    monkeypatch.setattr(book, "processor_time", lambda: (3.0, 17.0))
    assert book.others_since((1.0, 10.0), 2) == 2.5


def test_pages_are_listed_in_the_order_in_which_they_are_read(tree):
    (tree / "_toc.yml").write_text("parts:\n  - chapters:\n    - file: b/two\n    - file: a/one\n")
    assert book.in_reading_order(["a/one", "x/new", "b/two"]) == ["b/two", "a/one", "x/new"]


def test_two_claims_with_one_anchor_are_refused(tree):
    row = "display(claim('x is small', measured=1, above=0))\n"
    write_chapter(tree, "from lrteach.claims import claim\n" + row * 2)
    with pytest.raises(SystemExit, match="claim-x-is-small"):
        book.write_ledger(book.execute())


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text('{"cells": [')])
def test_a_damaged_cache_is_made_again(tree, damage):
    write_chapter(tree, "print(1)")
    book.execute()
    for path in (tree / "_build/.jupyter_cache").rglob("base.ipynb"):
        damage(path)
    (tree / "_build/executed.json").write_text("{half")
    assert book.execute()["part/one"].cells[-1].outputs[0].text == "1\n"


def test_writing_is_all_or_nothing(tree, monkeypatch):
    target = tree / "file.json"
    book.write_atomically(target, "old")
    monkeypatch.setattr(book.Path, "replace", lambda self, other: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        book.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [p for p in tree.iterdir() if p.name.endswith(".tmp")] == []
