"""`make new-chapter`: what it writes builds, and only the guards against a stub complain."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from test_exercises import faults, prepared

import book
import exercises
import new_chapter

NAME, SLUG = "practice/a-new-thing", "a-new-thing"
TOC = """format: jb-book
root: index
defaults: {numbered: 1}
parts:
  - caption: Reference
    numbered: false
    chapters:
      - file: reference/glossary
"""
GLOSSARY = "# Glossary\n\n:::{glossary}\nlearning rate\n: The number.\n:::\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A small copy of the book: one page, no chapter, all tools."""
    root = tmp_path_factory.mktemp("copy")
    no_caches = shutil.ignore_patterns("__pycache__")
    for folder in ("tools", "lrteach", "book/_static", "book/_extra"):
        shutil.copytree(book.ROOT / folder, root / folder, ignore=no_caches)
    for file in ("_config.yml", "requirements.lock", "pyproject.toml", "tests/test_guards.py"):
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(book.ROOT / file, root / file)
    (root / "_toc.yml").write_text(TOC)
    (root / "book/reference").mkdir()
    (root / "book/reference/glossary.md").write_text(GLOSSARY)
    (root / "book/index.md").write_text(
        "# A small book\n\nIts glossary is {doc}`reference/glossary`.\n"
    )
    (root / "book/references.bib").write_text("")
    (root / "exercises/solved").mkdir(parents=True)
    return root


def run(root, *command):
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)  # fmt: skip
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def scaffolded(copy):
    code, said = run(copy, "tools/new_chapter.py", NAME, "What is new?")
    assert code == 0, said
    return copy


@pytest.fixture(scope="module")
def built(scaffolded):
    code, said = run(scaffolded, "tools/book.py", "build")
    assert code == 0, said[-4000:]
    return scaffolded


def test_it_writes_page_exercise_notebook_and_entry(scaffolded):
    assert (scaffolded / f"book/{NAME}.md").read_text("utf-8").count("# What is new?") == 1
    assert (scaffolded / f"exercises/{SLUG}.ipynb").is_file()
    toc = yaml.safe_load((scaffolded / "_toc.yml").read_text())
    assert [part["caption"] for part in toc["parts"]] == ["Practice", "Reference"]
    assert toc["parts"][0]["chapters"] == [{"file": NAME}]


def test_its_exercise_is_sound(scaffolded, away_from_the_repository):
    solved = exercises.read_solved(scaffolded / f"exercises/solved/{SLUG}.md")
    notebook = (scaffolded / f"exercises/{SLUG}.ipynb").read_text("utf-8")
    (exercise,) = solved.exercises
    assert faults(solved, exercise, prepared(solved), notebook) == []
    assert len(exercise.wrong) >= exercises.LEAST_WRONG_ANSWERS


def test_it_executes_and_builds_without_a_warning(built):
    page = (built / f"_build/html/{NAME}.html").read_text("utf-8")
    for text in ("Fig. 1.1", "Theorem 1.1", "✓ holds", "Exercise 1.1", "One update"):
        assert text in page


def test_only_the_guards_against_a_stub_complain(built):
    """It has too few words and claims: that is what its author is to write."""
    code, said = run(built, "tools/book.py", "record")
    assert code == 0, said
    _, said = run(built, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_guards.py", "-k", "a-new-thing or contents")  # fmt: skip
    assert set(re.findall(r"FAILED \S+::(\w+)", said)) == {
        "test_every_claim_of_a_chapter_was_made_when_it_was_recorded",
        "test_chapter_is_neither_a_stub_nor_a_book",
    }
    assert re.search(r"2 failed, ([6-9]|\d\d) passed", said), said


@pytest.mark.parametrize(
    "name", ["one-word", "Practice/x", "practice/x.md", "../x", "practice/digits"]
)
def test_a_name_that_cannot_be_used_writes_nothing(name, capsys):
    before = (book.ROOT / "_toc.yml").read_text("utf-8")
    with pytest.raises(SystemExit) as stopped:
        new_chapter.scaffold(name)
    assert re.search("write part/slug|take another name", str(stopped.value))
    assert (book.ROOT / "_toc.yml").read_text("utf-8") == before


def test_an_entry_goes_to_the_end_of_its_part():
    toc = (book.ROOT / "_toc.yml").read_text("utf-8")
    for name in ("schedules/new", "practice/new", "elsewhere/new"):
        parts = yaml.safe_load(new_chapter.with_entry(toc, name))["parts"]
        files = {part["caption"]: [c["file"] for c in part["chapters"]] for part in parts}
        assert files[name.split("/")[0].capitalize()][-1] == name
        assert list(files)[-1] == "Reference"
        assert sum(map(len, files.values())) == toc.count("file:") + 1
