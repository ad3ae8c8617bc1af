"""`make notebooks`: every chapter as a notebook that runs with lrteach alone, far from the book."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

import book
import notebooks

PAGES = notebooks.pages()
LIGHT = "foundations/gradients"  # the quickest; it has claims, figures and theorems
MYST = re.compile(
    r"\{[a-z:-]+\}`|^ *(`{3,}|~{3,})\{|^:{3,}|^\([\w-]+\)=$|\]\{|^\+\+\+|^:\w+:", re.M
)


@pytest.fixture(scope="module")
def at_home(site, tmp_path_factory):
    """The notebooks as a reader of the repository makes them."""
    folder = tmp_path_factory.mktemp("notebooks")
    notebooks.write(notebooks.Site({}), folder)
    return folder


@pytest.fixture(scope="module")
def published(site, tmp_path_factory):
    """The notebooks as GitHub makes them for someone's copy."""
    folder = tmp_path_factory.mktemp("published")
    notebooks.write(notebooks.Site({"GITHUB_REPOSITORY": "Someone/the-book"}), folder)
    return folder


@cache
def read(path):
    return nbformat.read(path, as_version=4)


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_every_page_with_code_and_every_exercise_has_a_notebook(at_home):
    found = {p.relative_to(at_home).with_suffix("").as_posix() for p in at_home.rglob("*.ipynb")}
    wanted = {f"exercises/{path.stem}" for path in (book.ROOT / "exercises").glob("*.ipynb")}
    assert found == wanted | set(PAGES)
    assert len(PAGES) >= 22


@pytest.mark.parametrize("name", PAGES)
def test_the_code_is_the_chapters_after_a_cell_that_installs_the_package(at_home, name):
    setup, *cells = sources(read(at_home / f"{name}.ipynb"), "code")
    assert cells == sources(book.read_notebook(PAGES[name]), "code")
    assert '%pip install --quiet "lrteach[notebooks]"' in setup


@pytest.mark.parametrize("name", PAGES)
def test_the_text_is_plain_markdown(at_home, published, name):
    for folder in (at_home, published):
        for text in sources(read(folder / f"{name}.ipynb"), "markdown"):
            leftover = MYST.search(text)
            assert leftover is None, text[max(0, leftover.start() - 200) : leftover.end() + 200]


@pytest.mark.parametrize("name", PAGES)
def test_no_word_of_the_prose_is_lost(at_home, name):
    """Words of four letters or more, but for what MyST's own marks say."""
    prose = "\n".join(sources(book.read_notebook(PAGES[name]), "markdown"))
    marks = r"\{[a-z:]+\}`[^`]+`|^ *(?:`{3,}|~{3,}|:).*$|\]\{[^}]*\}|\((?:[\w/.]+-)+[\w.#-]+\)|\]\(\S+\)"
    prose = re.sub(marks, " ", prose, flags=re.MULTILINE)
    text = "\n".join(sources(read(at_home / f"{name}.ipynb"), "markdown"))
    lost = set(re.findall(r"[^\W\d_]{4,}", prose)) - set(re.findall(r"[^\W\d_]{4,}", text))
    assert lost == set()


def test_what_myst_says_that_is_not_known_stops_the_program(site):
    page = notebooks.Page(notebooks.Site({}), LIGHT)
    for text in ("{kbd}`x`", "```{margin}\nx\n```\n", "{numref}`fig-of-nobody`"):
        with pytest.raises((notebooks.Unknown, LookupError)):
            page.plain(text)


def test_numbers_are_those_of_the_site(site, at_home):
    """Figures, theorems and formulas are numbered as the built page numbers them."""
    page = (site / f"{LIGHT}.html").read_text("utf-8")
    text = "\n".join(sources(read(at_home / f"{LIGHT}.ipynb"), "markdown"))
    figures = re.findall(r'caption-number">(Fig\. [\d.]+\d)', page)
    theorems = re.findall(r'caption-number">(\w+ [\d.]+\d) ?</span>', page)
    equations = re.findall(r'eqno">\(([\d.]+)\)', page)
    assert figures and theorems and equations
    assert re.findall(r"^\*(Fig\. .*?)\*", text, re.M) == figures
    assert set(re.findall(r"^\*\*(Theorem [\d.]+|Algorithm [\d.]+)\*\*", text, re.M)) == {
        t for t in theorems if t.startswith(("Theorem", "Algorithm"))
    }
    assert re.findall(r"\\tag\{([\d.]+)\}", text) == equations


def test_links_between_notebooks_lead_somewhere(at_home):
    for path in at_home.rglob("*.ipynb"):
        for text in sources(read(path), "markdown"):
            for target in re.findall(r"\]\((\.\.?/[^)]+)\)", text):
                assert (path.parent / target).exists(), (path.name, target)


def test_links_to_the_site_lead_to_pages_and_places_that_it_has(site, published):
    base, anchors = "https://someone.github.io/the-book/", {}
    for path in published.rglob("*.ipynb"):
        text = "\n".join(sources(read(path), "markdown"))
        for page, anchor in re.findall(
            re.escape(base) + r"([\w/-]+\.html)(?:#([\w-]+(?:\.\w+)*))?", text
        ):
            if page not in anchors:
                html = (site / page).read_text("utf-8")
                anchors[page] = set(re.findall(r'\bid="([^"]+)"', html))
            assert not anchor or anchor in anchors[page], (path.name, page, anchor)
    assert anchors


def test_colab_and_binder_open_notebooks_that_exist(published):
    texts = [(published / "README.md").read_text("utf-8")]
    texts += ["\n".join(sources(read(p), "markdown")) for p in published.rglob("*.ipynb")]
    links = re.findall(
        r"(?:colab\.research\.google\.com/github/Someone/the-book/blob/notebooks/"
        r"|mybinder\.org/v2/gh/Someone/the-book/notebooks\?labpath=)([^)]+)\)",
        "\n".join(texts),
    )
    opened = {link for link in links if (published / link).is_file()}
    assert opened == set(links)
    assert opened == {p.relative_to(published).as_posix() for p in published.rglob("*.ipynb")}
    assert "git+https://github.com/Someone/the-book" in (published / "requirements.txt").read_text()


def test_what_is_installed_is_all_that_the_chapters_import(at_home):
    project = tomllib.loads((book.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["notebooks"]
    modules = {Requirement(line).name.removesuffix("-python").replace("-", "_")
               for line in project["dependencies"] + extra}  # fmt: skip
    known = modules | {"lrteach", "IPython"} | set(notebooks.sys.stdlib_module_names)
    for path in at_home.rglob("*.ipynb"):
        for code in sources(read(path), "code"):
            for name in re.findall(r"^ *(?:import|from) (\w+)", code, re.M):
                assert name in known, f"{path.name} imports {name}"


def execute(path):
    """Run a notebook in its folder, without the book. Returns what it showed as text."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_a_notebook_runs_in_a_folder_of_its_own(at_home, monkeypatch):
    assert not any((parent / "_toc.yml").exists() for parent in at_home.parents)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    outputs = execute(at_home / f"{LIGHT}.ipynb")
    shown = [output["data"]["text/plain"] for output in outputs if "data" in output]
    assert sum(text.startswith("✓ ") for text in shown) >= 3
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_a_chapter_that_reads_a_file_finds_it_beside_its_notebook(at_home, tmp_path):
    """The cell of `digits` that reads Keras' record, alone."""
    folder = at_home / "practice"
    assert (folder / "keras_digits.json").is_file()
    code = "\n".join(sources(read(folder / "digits.ipynb"), "code"))
    lines = re.findall(
        r"^(?:import json|from pathlib import Path|places = .*|record = .*)$", code, re.M
    )
    assert len(lines) == 4
    script = "\n".join([*lines, 'assert record["results"]'])
    subprocess.run([notebooks.sys.executable, "-c", script], cwd=folder, check=True)


def test_files_that_colab_lacks_are_fetched_from_the_branch(published):
    setup = sources(read(published / "practice/digits.ipynb"), "code")[0]
    (address,) = re.findall(r'"(https://raw\S+)"', setup)
    base = "https://raw.githubusercontent.com/Someone/the-book/notebooks/"
    assert (published / address.removeprefix(base)).is_file()


def test_the_notebooks_are_not_committed():
    folder = notebooks.FOLDER.relative_to(book.ROOT)
    ignored = subprocess.run(["git", "check-ignore", folder], cwd=book.ROOT, capture_output=True)
    assert ignored.returncode in (0, 128)  # 128: not a git checkout
    assert isinstance(folder, Path)
