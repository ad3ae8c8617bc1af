"""Guards: each catches one known way for the book to become untrue, and says how to mend it."""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import book
from lock import NOT_LOCKED

ROOT = Path(__file__).resolve().parents[1]
PAGES = book.chapters()
CHAPTERS = [name for name in PAGES if "/" in name and not name.startswith("reference/")]
LARGEST_OUTPUT = 5_000  # bytes of text that a recording adds to the code of its page
HEADINGS = [
    "Concepts", "Derivation", "Code", "Experiment", "In practice", "FAQ", "Exercises",
    "Further reading",
]  # fmt: skip
RECORD_AGAIN = "run `make record`, read the difference, and commit it"


def text_of(name):
    return PAGES[name].read_text(encoding="utf-8")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def recording(name):
    path = book.RECORDED / f"{name}.ipynb"
    if not path.exists():
        pytest.fail(f"{path.relative_to(ROOT)} is missing: {RECORD_AGAIN}")
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def texts(cell):
    """The text outputs of a recorded cell."""
    for output in cell["outputs"]:
        yield "".join(output["text"] if "text" in output else output["data"]["text/plain"])


def test_there_are_chapters_to_guard():
    assert len(CHAPTERS) >= 4


def test_every_recording_belongs_to_a_page():
    recorded = {p.relative_to(book.RECORDED).with_suffix("").as_posix()
                for p in book.RECORDED.rglob("*.ipynb")}  # fmt: skip
    assert recorded == set(PAGES), RECORD_AGAIN


@pytest.mark.parametrize("name", PAGES)
def test_recording_has_the_code_and_tags_of_its_page(name):
    cells = code_cells(book.read_notebook(PAGES[name]))
    here = [(cell.source, list(cell.metadata.get("tags", []))) for cell in cells]
    there = [(source(c), c["metadata"].get("tags", [])) for c in recording(name)["cells"]]
    assert there == here, RECORD_AGAIN


@pytest.mark.parametrize("name", PAGES)
def test_recording_is_small_and_holds_only_text(name):
    cells = recording(name)["cells"]
    for number, cell in enumerate(cells, 1):
        assert cell["id"] == f"cell-{number}"
        assert cell["execution_count"] == number
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            assert set(output.get("data", {})) <= {"text/plain"}
    printed = sum(len(text.encode()) for cell in cells for text in texts(cell))
    assert printed <= LARGEST_OUTPUT, "print less: a verdict, an interval, a few digits"


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_claim_of_a_chapter_was_made_when_it_was_recorded(name):
    """A claim inside a branch that never runs, or one that is never shown, proves nothing."""
    cells = recording(name)["cells"]
    written = sum(len(re.findall(r"\bclaim\(", source(cell))) for cell in cells)
    shown = sum(text.startswith("✓ ") for cell in cells for text in texts(cell))
    assert written >= 3, "a chapter makes three claims or more"
    assert shown >= written, "make each claim the last expression of its cell, or display() it"


@pytest.mark.parametrize("name", PAGES)
def test_recorded_text_has_no_digits_that_other_machines_would_change(name):
    """Four significant digits or fewer, except in what a claim expects and whole numbers."""
    for cell in recording(name)["cells"]:
        for text in texts(cell):
            if text.startswith("✓ "):
                continue
            for number in re.findall(r"(?<![\w.])\d+\.\d+(?:e[-+]?\d+)?", text):
                digits = re.sub(r"e.*|\.", "", number).strip("0")
                assert len(digits) <= 4, f"{number}: print 2-3 digits, in:\n{text}"


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_its_sections_in_order(name):
    headings = re.findall(r"^## (.+)$", text_of(name), re.MULTILINE)
    assert headings == HEADINGS


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_is_neither_a_stub_nor_a_book(name):
    prose = re.sub(r"^(`{3,}).*?^\1", "", text_of(name), flags=re.MULTILINE | re.DOTALL)
    assert 1400 <= len(prose.split()) <= 3400


@pytest.mark.parametrize("name", PAGES)
def test_code_cells_are_short(name):
    for cell in code_cells(book.read_notebook(PAGES[name])):
        assert len(cell.source.splitlines()) <= 25, f"split this cell:\n{cell.source}"


def alternative_texts(code):
    """What a cell gives as `alt=` to the calls of `figure`, of lrteach.interactive."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "figure":
            for word in node.keywords:
                if word.arg == "alt" and isinstance(word.value, ast.Constant):
                    yield word.value.value


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_says_what_it_shows(name):
    """The recording knows which cells draw; their alternative text must be a sentence."""
    cells = code_cells(book.read_notebook(PAGES[name]))
    recorded = recording(name)["cells"]
    assert len(cells) == len(recorded), RECORD_AGAIN
    for cell, outputs in zip(cells, recorded, strict=True):
        options = cell.metadata.get("mystnb", {})
        figures = sum(text.startswith("<Figure") for text in texts(outputs))
        live = sum(text.startswith("<Interactive figure") for text in texts(outputs))
        assert figures + live <= 1, "one figure a cell, so that each has its own alternative text"
        if figures:
            alt = options.get("image", {}).get("alt", "")
            assert len(alt.split()) >= 6, f"write mystnb: {{image: {{alt: …}}}} for:\n{cell.source}"
        if live:
            alts = list(alternative_texts(cell.source))
            assert len(alts) == 1, f"write the text itself as `alt=` of `figure` in:\n{cell.source}"
            assert len(alts[0].split()) >= 6, f"say what one sees in `alt=` of:\n{cell.source}"
            caption = options.get("figure", {}).get("caption", "")
            assert caption, f"write mystnb: {{figure: {{name: …, caption: …}}}} for:\n{cell.source}"


def test_table_of_contents_lists_every_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {toc["root"]}
    for part in toc["parts"]:
        listed |= {chapter["file"] for chapter in part["chapters"]}
    pages = {p.relative_to(book.BOOK).with_suffix("").as_posix() for p in book.BOOK.rglob("*.md")}
    assert listed == pages


def test_every_bibliography_entry_is_cited_and_says_where_it_is():
    entries = re.findall(r"^@\w+\{([^,\s]+),(.*?)^\}", (book.BOOK / "references.bib").read_text(
        encoding="utf-8"), re.MULTILINE | re.DOTALL)  # fmt: skip
    assert entries
    prose = "\n".join(p.read_text(encoding="utf-8") for p in book.BOOK.rglob("*.md"))
    cited = {
        key for keys in re.findall(r"\{cite[:\w]*\}`([^`]+)`", prose) for key in keys.split(",")
    }
    cited |= set(re.findall(r"source=\"([^\"]+)\"", prose))
    for key, fields in entries:
        assert key in cited, f"{key} is cited nowhere: cite it or remove it"
        for field in ("author", "year", "title"):
            assert re.search(rf"\b{field}\s*=", fields), f"{key} has no {field}"
        identifier = r"\b(doi|eprint|isbn|url|publisher|pages|note)\s*="
        assert re.search(identifier, fields), f"{key}: say where it can be found"
    assert cited - {key for key, _ in entries} == set()


def test_lock_satisfies_the_requirements_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for name, extra in project["optional-dependencies"].items():
        wanted += [] if name in NOT_LOCKED else extra
    locked = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        assert str(requirement.specifier).startswith("=="), f"not an exact version: {line}"
        locked.setdefault(canonical(requirement.name), []).append(str(requirement.specifier)[2:])
    for text in wanted:
        requirement = Requirement(text)
        versions = locked.get(canonical(requirement.name))
        assert versions, f"{requirement.name} is not in the lock: run `make lock`"
        assert all(requirement.specifier.contains(v) for v in versions), f"{text}: {versions}"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_nothing_names_a_place_outside_the_repository():
    """The project stands alone: no path of the machine it was written on."""
    forbidden = re.compile(r"/(?:work|root|home)/\w|\.\./shared")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    for path in map(ROOT.joinpath, tracked.stdout.splitlines()):
        if path.suffix not in (".gz", ".npz", ".otf", ".png") and path != Path(__file__):
            found = forbidden.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_benchmarks_that_the_site_shows_are_of_every_subject():
    """`make bench` writes benchmarks/results.json; a subject without rows was never measured."""
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    helpers = {"__init__", "__main__", "networks", "timing"}
    subjects = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers
    assert {row["subject"] for row in rows} == subjects, "run `make bench` and commit the result"
    for row in rows:
        values = [*row.get("variants", {}).values(), *row.get("megabytes", {}).values()]
        assert values
        assert all(value >= 0 for value in values), row
