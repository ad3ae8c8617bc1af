"""The book on paper, with a book of two short chapters. `make pdf` checks the real one itself."""

import pytest
from matplotlib import pyplot as plt
from pypdf import PdfReader

import pdf
import pdf_pages

FACTS = {"title": "A book", "author": "Somebody", "description": "On rates (η).", "date": "2026-01-31"}  # fmt: skip
LANDING = """<article class="bd-article"><section id="a-book"><h1>A book</h1><p>Words.</p>
<section id="the-map-of-the-book"><h2>The map of the book</h2></section></section></article>"""
# The ids are those of the other chapter too, as on the site.
CHAPTER = """<article class="bd-article"><section id="chapter"><h1>{number}. The {name} chapter</h1>
<p>See <a class="to-other" href="{other}.html#result">the other result</a>, <a href="#result">this one</a>,
<a href="../index.html#the-map-of-the-book">the map</a> and <a href="../gone.html">what is only on the site</a>.</p>
<section id="concepts"><h2>Concepts of the {name} chapter</h2>
<div class="cell"><details class="hide"><summary>Show code</summary>
<div class="cell_input"><div class="highlight"><pre><span></span><span class="n">x</span> <span class="o">=</span> 1</pre></div></div></details>
<figure id="fig"><img alt="" loading="lazy" src="../{name}.png"><figcaption><span class="caption-number">Fig. {number}.1 </span></figcaption></figure></div>
<p style="height: 250mm"></p><div class="claim" id="result">The result of the {name} chapter</div>
<div class="exercise admonition" id="ex-1"><p class="admonition-title">Exercise {number}.1</p></div>
<div class="solution admonition" id="{name}/solution-1"><p class="admonition-title">Solution to<a href="#ex-1"> Exercise {number}.1</a></p></div>
</section><section id="more"><h2>A heading whose η = ½ is no ASCII</h2></section></section></article>"""
NAMES = {"part/first": ("first", 1, "second"), "part/second": ("second", 2, "first")}


def read(name):
    if name == pdf_pages.PREFACE:
        return LANDING
    name, number, other = NAMES[name]
    return CHAPTER.format(name=name, number=number, other=other)


@pytest.fixture(scope="module")
def html():
    return pdf_pages.document(
        read, [("Part", list(NAMES))], **FACTS, version="1.0", sheets=["pdf.css"], images="pictures"
    )


@pytest.fixture(scope="module")
def document(html, tmp_path_factory):
    file = pdf.write_document(html, tmp_path_factory.mktemp("pdf") / "document")
    (file.parent / "pictures").mkdir()
    for name, color in (("first", "red"), ("second", "blue")):
        plt.imsave(file.parent / "pictures" / f"{name}.png", [[0.0, 1.0]], cmap=f"{color.title()}s")
    return file


@pytest.fixture(scope="module")
def book(browser, document):
    """(the file, its page numbers by id, its headings)."""
    file = document.parent / "book.pdf"
    pdf.make(browser, document, file, FACTS)
    return file


def text_of(reader, number):
    return reader.pages[number - 1].extract_text()


def test_ids_that_chapters_share_lead_to_their_own_chapter(html):
    assert pdf_pages.problems_of_links(html) == []
    first, second = html.split('" id="part-first"')[1].split('" id="part-second"')
    assert 'class="to-other" href="#part-second..result"' in first
    assert 'class="to-other" href="#part-first..result"' in second
    assert 'href="#contents"' in first and "gone" not in first


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<p id="a"></p><p id="a"></p>', "two places have the id 'a'"),
        ('<a href="#nowhere">x</a>', "a link leads to 'nowhere', which is nowhere"),
        ('<span class="page" data-of="b">000</span>', "a link leads to 'b', which is nowhere"),
    ],
)
def test_a_dead_link_or_an_id_of_two_places_is_found(body, problem):
    assert pdf_pages.problems_of_links(body) == [problem]


def test_a_picture_of_the_site_that_the_document_lacks_is_found():
    site = '<img alt="" src="../_images/one.png" /><img src="../_images/two.svg">'
    problems = pdf_pages.problems_of_pictures([site], '<img src="../html/_images/one.png">')
    assert problems == ["the picture two.svg is missing"]


def test_long_ids_are_cut_and_stay_different():
    one, two = (pdf_pages.anchor("part/page", "claim-" + "x" * 120 + end) for end in "ab")
    assert one != two
    assert len(one) == len(two) == pdf_pages.LONGEST


def test_what_a_click_opens_on_the_site_stands_at_the_end_of_its_chapter(html):
    first = html.split('" id="part-first"')[1].split('" id="part-second"')[0]
    assert "<details" not in first and "Show code" not in first
    places = [first.index(text) for text in ("Exercise 1.1<", "Solution to", "x <span", "Code of Fig. 1.1 on")]  # fmt: skip
    assert places[0] < places[1] < min(places[2:])


def test_the_contents_have_the_pages_on_which_the_headings_are(book):
    reader = PdfReader(book)
    contents = text_of(reader, 2)
    assert "000" not in contents
    for heading in ("1. The first chapter", "2. The second chapter", "Before you begin"):
        number = int(contents.split(heading)[1].split()[0])
        assert heading in text_of(reader, number)
    section = "Concepts of the second chapter"
    number = int(contents.split(section)[1].split()[0])
    pages = range(3, len(reader.pages) + 1)
    assert [page for page in pages if section in text_of(reader, page)] == [number]


def test_links_of_the_pdf_lead_to_the_page_of_the_right_chapter(book):
    reader = PdfReader(book)
    places = pdf.places(reader)
    for name in ("first", "second"):
        assert f"The result of the {name} chapter" in text_of(
            reader, places[f"part-{name}..result"]
        )
    links = [a.get_object().get("/Dest") for page in reader.pages for a in page.get("/Annots", [])]
    assert "/part-second..result" in links


def test_bookmarks_say_what_the_headings_say_and_chapters_are_closed(book):
    reader = PdfReader(book)
    titles = [title for _, title, _, _ in pdf.outline(reader)]
    assert titles[:4] == ["Contents", "Before you begin", "Part", "1. The first chapter"]
    assert titles.count("A heading whose η = ½ is no ASCII") == 2
    assert {item["/Title"]: item["/%is_open%"] for item in reader.outline[2:] if isinstance(item, dict)} == {"Part": True}  # fmt: skip
    chapters = [item for item in reader.outline[3] if isinstance(item, dict)]
    assert [item["/%is_open%"] for item in chapters] == [False, False]


def test_the_pdf_carries_the_books_title_author_language_and_date(book):
    reader = PdfReader(book)
    facts = reader.metadata
    assert (facts.title, facts.author, facts.subject) == ("A book", "Somebody", "On rates (η).")
    assert str(facts.creation_date)[:10] == "2026-01-31"
    assert reader.root_object["/Lang"] == "en" and reader.root_object["/MarkInfo"]["/Marked"]


def test_the_same_document_gives_the_same_bytes(book, browser, document):
    again = document.parent / "again.pdf"
    pdf.make(browser, document, again, FACTS)
    assert again.read_bytes() == book.read_bytes()


def test_a_page_number_that_is_not_true_is_found(book):
    headings = [{"level": level, "text": title, "id": ""} for level, title, _, _ in pdf.outline(PdfReader(book))]  # fmt: skip
    numbers = pdf.places(PdfReader(book))
    assert pdf.problems_of_print(book, numbers, headings, images=2) == []
    wrong = {**numbers, "part-second": numbers["part-second"] + 1}
    (problem,) = pdf.problems_of_print(book, wrong, headings, images=2)
    assert problem.startswith("'part-second' is said to be on page")


def test_a_missing_picture_and_a_bookmark_to_another_page_are_found(book):
    items = pdf.outline(PdfReader(book))
    headings = [{"level": level, "text": title, "id": ""} for level, title, _, _ in items]
    headings[3]["id"] = "part-second"  # is the first chapter's
    problems = pdf.problems_of_print(book, {}, headings, images=3)
    assert len(problems) == 2
    assert "leads to page" in problems[0] and "3 different pictures" in problems[1]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<p style="width: 300mm">wide</p>', "reaches out of the text, or is cut off: p"),
        ('<p style="overflow: hidden; width: 20mm; white-space: nowrap">cut off at its right side</p>', "reaches out of the text, or is cut off: p"),
        ('<img src="nothing.png">', "is no image"),
        ('<img src="http://127.0.0.1:9/one.png">', "asks a server: http://127.0.0.1:9/one.png"),
    ],
)  # fmt: skip
def test_what_is_too_wide_or_missing_is_found_before_printing(browser, tmp_path, body, problem):
    document = tmp_path / "book.html"
    document.write_text(f"<!DOCTYPE html><style>body {{ margin: 0 }}</style>{body}", "utf-8")
    page, problems = pdf.open_document(browser, document)
    page.close()
    assert any(text.startswith(problem) for text in problems)


def test_a_formula_that_is_too_wide_is_made_smaller(browser, tmp_path):
    document = tmp_path / "book.html"
    formula = "<math display=block>" + "<mi>x</mi><mo>+</mo>" * 30 + "</math>"
    document.write_text(f"<!DOCTYPE html><style>body {{ margin: 0 }} math {{ width: max-content }}</style><div class=math-scroll>{formula}</div>", "utf-8")  # fmt: skip
    page, problems = pdf.open_document(browser, document)
    size = page.evaluate("document.querySelector('.math-scroll').style.fontSize")
    page.close()
    assert problems == [] and 8 < float(size.removesuffix("px")) < 16


def test_an_empty_page_is_found(browser, tmp_path):
    document = tmp_path / "book.html"
    document.write_text(
        "<!DOCTYPE html><h1>One</h1><div style='break-before: page; height: 1px'></div>"
    )
    page, _ = pdf.open_document(browser, document)
    page.pdf(path=tmp_path / "book.pdf", outline=True, tagged=True)
    page.close()
    headings = [{"level": 1, "text": "One", "id": ""}]
    assert pdf.problems_of_print(tmp_path / "book.pdf", {}, headings, 0) == ["page 2 is empty"]


def test_the_edition_is_that_of_the_changelog():
    project, log = (
        '[project]\nversion = "0.2.0"',
        "# Changelog\n\n## 0.2.0 ({})\n\n## 0.1.0 (2026-01-01)",
    )
    assert pdf_pages.edition(project, log.format("2026-05-01")) == ("0.2.0", "2026-05-01")
    assert pdf_pages.edition(project, log.format("unreleased")) == ("0.2.0", "unreleased")
