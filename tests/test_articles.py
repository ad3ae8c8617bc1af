"""The reference pages that answer the articles: that nothing is left out, and that every answer
leads to the cell which settles it.

A broken link also stops the build of the site. Here the links are looked up in the sources and the
recordings, without a build.
"""

import io
import json
import re
from itertools import chain

import pytest
import yaml
from bs4 import BeautifulSoup

import book
import sphinx_articles
from sphinx_ledger import find_claim

REFERENCE = book.BOOK / "reference"
NUMBER_OF_ITEMS = {"A0": 14, "A1": 10, "A2": 9, "A3": 10, "A4": 18}

# A map, how to set up a machine, books, papers: there is nothing in them to measure.
NOTHING_TO_MEASURE = {"A4.1", "A4.12", "A4.15", "A4.16"}


def page(name):
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def items():
    blocks = re.findall(r"^```\{article-items\}\n(.*?)^```", page("articles"), re.S | re.M)
    return list(chain.from_iterable(map(sphinx_articles.read_items, blocks)))


ITEMS = items()


def claims():
    """The claims of all recordings, as rows of the ledger."""
    for path in book.RECORDED.rglob("*.ipynb"):
        name = path.relative_to(book.RECORDED).with_suffix("").as_posix()
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell["outputs"]:
                text = "".join(output.get("data", {}).get("text/plain", ""))
                if text.startswith("✓ "):
                    yield {"chapter": name, "name": text[2:]}


CLAIMS = list(claims())
SOURCES = {path.relative_to(book.BOOK).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
           for path in book.BOOK.rglob("*.md")}  # fmt: skip
LABELS = set(chain.from_iterable(
    re.findall(r"^\((\S+)\)=$|^:label: (\S+)$|\bname: ([\w-]+)", text, re.M) for text in SOURCES.values()
))  # fmt: skip
LABELS = {label for found in LABELS for label in found if label}
ROLE = re.compile(r"\{(claim|numref|prf:ref|ref|doc)\}`([^`]+)`")


def links(text):
    """(role, target) of every link, without the words that it shows."""
    for role, content in ROLE.findall(text):
        named = re.fullmatch(r".*?<(.+)>", content, re.S)
        yield role, " ".join((named[1] if named else content).split())


def broken(text):
    """What the links of a text call and nobody answers."""
    for role, target in links(text):
        if role == "claim":
            try:
                find_claim(CLAIMS, target)
            except LookupError as error:
                yield str(error)
        elif role == "doc":
            name = target.removeprefix("/") if target.startswith("/") else f"reference/{target}"
            if name not in SOURCES:
                yield f"no page {name}"
        elif target not in LABELS:
            yield f"no label {target}"


def test_every_item_of_the_five_articles_is_there_once_and_in_order():
    expected = [f"{a}.{i}" for a, count in NUMBER_OF_ITEMS.items() for i in range(1, count + 1)]
    assert [item["id"] for item in ITEMS] == expected


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["id"])
def test_links_of_an_item_lead_somewhere(item):
    assert list(broken(" ".join([item["says"], *item["settled"]]))) == []


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["id"])
def test_an_item_is_settled_by_a_cell_that_measures_it(item):
    to_a_cell = "claim" in {role for role, _ in links(" ".join(item["settled"]))}
    assert to_a_cell == (item["id"] not in NOTHING_TO_MEASURE)


@pytest.mark.parametrize("name", ["faq", "misconceptions", "articles", "further-reading"])
def test_links_of_a_page_lead_somewhere(name):
    assert list(broken(page(name))) == []


# --- questions ------------------------------------------------------------------------------

QUESTIONS = re.findall(r"^\*\*(.+?)\*\* (.+?)(?=\n\n|\Z)", page("faq"), re.M | re.S)


def test_the_questions_are_found():
    assert len(QUESTIONS) == len(re.findall(r"^\*\*", page("faq"), re.M)) >= 45
    assert len({question for question, _ in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=[q for q, _ in QUESTIONS])
def test_an_answer_is_short_and_led_by_a_link(question, answer):
    assert list(links(answer))
    assert len(re.sub(r"<[^>]*>`", "`", answer).split()) <= 90


CHAPTERS = [name for name, text in SOURCES.items() if "\n## FAQ\n" in text]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_questions_of_a_chapter_are_found(chapter):
    """All that stands in bold at the beginning of a paragraph of its FAQ."""
    section = SOURCES[chapter].split("\n## FAQ\n")[1].split("\n## ")[0]
    assert (
        len(sphinx_articles.questions(SOURCES[chapter]))
        == len(re.findall(r"^\*\*", section, re.M))
        >= 3
    )


# --- misconceptions -------------------------------------------------------------------------


def test_each_of_the_twelve_misconceptions_has_an_experiment_and_a_link():
    sections = re.split(r"^## ", page("misconceptions"), flags=re.M)[1:]
    assert [re.match(r"(\d+)\. ", section)[1] for section in sections] == [
        str(i) for i in range(1, 13)
    ]
    for section in sections:
        title = section.splitlines()[0]
        assert "claim(" in section, title
        assert list(links(section)), title
    assert page("misconceptions").count("figure: {name: fig-") <= 6


# --- further reading ------------------------------------------------------------------------


def test_every_entry_of_further_reading_says_for_whom():
    entries = re.findall(r"^- .+", page("further-reading"), re.M)
    assert 20 <= len(entries) <= 40
    for entry in entries:
        assert "{cite:t}`" in entry or "](https://" in entry or "Caffe" in entry, entry
        assert re.search(r"\b[Ff]or\b", entry), f"say for whom: {entry}"


# --- the glossary ---------------------------------------------------------------------------


def test_every_term_of_the_glossary_has_its_chinese_term():
    body = re.search(r":::\{glossary\}\n(.*?)^:::", page("glossary"), re.S | re.M)[1]
    entries = re.findall(r"^(\S.*)\n  (.+)", body, re.M)
    terms = re.findall(r"^\S.*", body, re.M)
    assert [term for term, _ in entries] == terms, "each term is one line, its meaning the next"
    for term, meaning in entries:
        chinese = re.match(r"\(([^)]+)\) ", meaning)
        assert chinese, f"{term}: begin with its Chinese term in parentheses"
        assert re.search(r"[\u4e00-\u9fff]", chinese[1]), f"{term}: {chinese[1]} is not Chinese"


# --- the form of an item --------------------------------------------------------------------

ITEM = {"id": "A9.1", "item": "x", "verdict": "wrong", "says": "y", "settled": ["{ref}`z`"]}


def as_yaml(**changes):
    return yaml.safe_dump([{k: v for k, v in (ITEM | changes).items() if v is not None}])


def test_an_item_as_it_should_be_is_read():
    assert sphinx_articles.read_items(as_yaml()) == [ITEM]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "perhaps"}, "'perhaps' is none of"),
        ({"says": None}, "no says"),
        ({"settled": None}, "no link to what settles it"),
        ({"settled": ["see there"]}, "no link in 'see there'"),
        ({"sais": "y"}, "unknown fields"),
    ],
)
def test_an_item_with_a_mistake_says_so(changes, message):
    with pytest.raises(sphinx_articles.FormError, match=message):
        sphinx_articles.read_items(as_yaml(**changes))


ROWS = [{"chapter": "a/b", "name": "one thing"}, {"chapter": "a/b", "name": "one thing more"}]


def test_a_claim_is_found_by_its_name_or_a_unique_beginning():
    assert find_claim(ROWS, "a/b: one thing more")["name"] == "one thing more"
    assert find_claim(ROWS, "a/b: one thing m")["name"] == "one thing more"
    assert find_claim(ROWS, "a/b: one thing")["name"] == "one thing"


@pytest.mark.parametrize("target", ["a/b: one", "a/b: two", "a/b: ", "a/c: one thing", "one thing"])
def test_a_claim_that_is_not_called_clearly_is_not_found(target):
    with pytest.raises(LookupError):
        find_claim(ROWS, target)


# --- a page built by Sphinx -----------------------------------------------------------------


def built(tmp_path, text):
    """(HTML, warnings) of a page with this text, beside a ledger with the claims of ROWS."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    ledger = {"claims": [row | {"id": f"claim-{i}"} for i, row in enumerate(ROWS)]}
    (tmp_path / "ledger.json").write_text(json.dumps(ledger), encoding="utf-8")
    warnings = io.StringIO()
    extensions = ["myst_parser", "sphinx_ledger", "sphinx_articles"]
    settings = {"extensions": extensions, "myst_enable_extensions": ["attrs_inline", "dollarmath"]}
    places = [tmp_path / "book", None, tmp_path / "html", tmp_path / "trees"]
    with docutils_namespace():  # what it registers is not left to the tests that come after
        Sphinx(*places, "html", settings, status=None, warning=warnings).build()
    return (tmp_path / "html" / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


def item_with(link):
    return "```{article-items}\n" + as_yaml(settled=[link]) + "```"


def test_an_item_becomes_a_block_with_an_anchor_and_a_link_to_the_cell(tmp_path):
    html, warnings = built(tmp_path, item_with("{claim}`seen here <a/b: one thing m>`"))
    assert warnings == ""
    block = BeautifulSoup(html, "html.parser").find(id="a9-1")
    assert "article-item" in block["class"]
    assert block.find("span", class_="verdict")["class"] == ["verdict", "wrong"]
    link = block.find("a")
    assert (link["href"], link.text) == ("a/b.html#claim-1", "seen here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{claim}`a/b: two`", "0 claims of a/b begin with 'two'"),
        ("{claim}`a/c: one thing`", "no claim is made on the page 'a/c'"),
        (item_with("{claim}`a/b: one`"), "2 claims of a/b begin with 'one'"),
        (item_with("see there"), "no link in 'see there'"),
    ],
)
def test_a_link_that_leads_nowhere_is_a_warning(tmp_path, text, message):
    _, warnings = built(tmp_path, text)
    assert message in warnings
