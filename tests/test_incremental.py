"""tools/sphinx_incremental.py: a build after an edit gives the site that a build from nothing gives."""

import os
import shutil
from pathlib import Path

import pytest

import sphinx_incremental

PAGES = {
    "index": "# A small book\n\nIt begins.\n\n```{toctree}\npart/one\npart/two\n```\n",
    "part/one": "# One\n\n(there)=\n## A place\n\n```{index} ! rate\n```\n\nUncommon words. See {ref}`here`.\n",
    "part/two": "# Two\n\n(here)=\n## Another place\n\n```{index} ! slope\n```\n\nPlain. See {ref}`there`.\n",
}
EDITS = {
    "prose": ("part/one", "Uncommon words", "Other letters", {"part/one", "index"}),
    "heading that another page names": ("part/one", "## A place", "## A town", set(PAGES)),
}


def build(folder):
    """What tools/book.py does around jupyter-book. Returns the pages that were written."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    sphinx_incremental.begin(folder, "the same")
    settings = {
        "extensions": ["myst_parser", "sphinx_incremental"],
        "html_theme": "basic",
        "html_last_updated_fmt": None,
    }
    places = [folder / "source", None, folder / "html", folder / ".doctrees"]
    written = set()
    with docutils_namespace():
        app = Sphinx(*places, "html", settings, status=None, warningiserror=True)
        app.connect("html-page-context", lambda app, name, *rest: written.add(name))
        app.build()
    assert app.statuscode == 0
    sphinx_incremental.keep(folder, "the same")
    return written & set(PAGES)


def write(folder, pages):
    for name, text in pages.items():
        path = folder / "source" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def files(folder):
    found = {p.relative_to(folder / "html"): p for p in (folder / "html").rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.mark.parametrize("name", EDITS)
def test_the_site_after_an_edit_is_that_of_a_build_from_nothing(name, tmp_path):
    page, old, new, expected = EDITS[name]
    write(tmp_path, PAGES)
    assert build(tmp_path) == set(PAGES)
    edited = tmp_path / "source" / f"{page}.md"
    time = edited.stat().st_mtime
    write(tmp_path, {page: PAGES[page].replace(old, new)})
    os.utime(edited, (time, time))  # as some tools leave it: the text tells, not the time
    assert build(tmp_path) == expected
    after = files(tmp_path)
    shutil.rmtree(tmp_path / ".last")
    assert build(tmp_path) == set(PAGES)
    whole = files(tmp_path)
    assert after.keys() == whole.keys()
    assert [str(file) for file in whole if after[file] != whole[file]] == []


def test_a_build_that_did_not_end_well_changes_nothing_of_the_last(tmp_path):
    write(tmp_path, PAGES)
    build(tmp_path)
    before = files(tmp_path)
    (tmp_path / "html" / "index.html").write_text("half a page", "utf-8")
    (tmp_path / ".doctrees" / "environment.pickle").write_bytes(b"half")
    assert build(tmp_path) <= {"index"}
    assert files(tmp_path) == before


def test_half_of_a_last_build_is_not_taken_for_whole(tmp_path, monkeypatch):
    write(tmp_path, PAGES)
    build(tmp_path)
    with pytest.MonkeyPatch.context() as patch:  # as if it were killed while it tidies up
        patch.setattr(sphinx_incremental.shutil, "rmtree", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sphinx_incremental.keep(tmp_path, "the same")
    assert not sphinx_incremental.begin(tmp_path, "the same")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("book/part/one.md", False),
        ("book/_static/a.css", True),
        ("tools/a.py", True),
        ("lrteach/a.py", True),
        ("_toc.yml", True),
        ("tools/__pycache__/a.pyc", False),
    ],
)
def test_all_but_the_text_of_pages_counts_as_surroundings(file, counts, tmp_path):
    path = Path(tmp_path, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("before")
    before = sphinx_incremental.surroundings(tmp_path)
    path.write_text("after")
    assert (sphinx_incremental.surroundings(tmp_path) != before) == counts
