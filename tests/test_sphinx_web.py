"""tools/sphinx_web.py and tools/sphinx_policy.py: a small book, built with an address and without."""

import re
import shutil
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

import sphinx_policy
import sphinx_web

ROOT = Path(__file__).parents[1]
ADDRESS = "https://example.org/the/rates"
PAGES = {
    "index": "# A small book\n\nOne number decides. It is the rate.\n\n![A cover that shows a line](cover.png)\n\n"
    "```{toctree}\npart/one\nreference/glossary\n```\n",
    "reference/glossary": "# Glossary\n\nNothing but words.\n",
    "part/one": "# One\n\n```{note}\nA note is no description of its page, however long.\n```\n\n"
    "Short.\n\nThe first sentence says it. The second has $\\frac{2}{L}$ in it. The third would fit.\n",
}


def build(folder):
    """The small book as pages, in the book's own theme and with its templates."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    source = folder / "source"
    for name, text in PAGES.items():
        path = source / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    shutil.copyfile(ROOT / "book/_static/cover.png", source / "cover.png")
    settings = {
        "extensions": ["myst_parser", "sphinx_book_theme", "sphinx_web", "sphinx_policy"],
        "myst_enable_extensions": ["dollarmath"],
        "html_theme": "sphinx_book_theme",
        "project": "A small book",
        "templates_path": [str(ROOT / "book/_templates")],
        "html_context": {"default_mode": "auto"},
        "html_theme_options": {"navbar_persistent": []},
    }
    places = [source, None, folder / "html", folder / "doctrees"]
    with docutils_namespace():
        app = Sphinx(*places, "html", settings, status=None, warningiserror=True)
        app.build()
        app.build(force_all=True)  # what a second build adds to pages is a mistake
    return folder / "html"


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """{whether the book has an address: the folder of its pages}."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for address in ("", ADDRESS):
            patch.setenv("BOOK_URL", address)
            found[bool(address)] = build(tmp_path_factory.mktemp("book"))
    return found


def soup(site, page):
    return BeautifulSoup((site / page).read_text("utf-8"), "html.parser")


def meta(site, page):
    """{name or property: content} of a page's meta tags."""
    tags = soup(site, page).find_all("meta", content=True)
    return {
        tag.get("name") or tag.get("property") or tag["http-equiv"]: tag["content"] for tag in tags
    }


# --- descriptions and addresses -------------------------------------------------------------


@pytest.mark.parametrize("address", [False, True])
def test_pages_are_described_by_their_first_sentences_up_to_a_formula(sites, address):
    described = {page: meta(sites[address], f"{page}.html") for page in PAGES}
    assert described["index"]["description"] == "One number decides. It is the rate."
    assert described["part/one"]["description"] == "The first sentence says it."
    assert described["part/one"]["og:title"] == "One"
    assert described["part/one"]["og:description"] == "The first sentence says it."


@pytest.mark.parametrize(
    ("tex", "text"), [("2/L", "2/L"), (r"\theta = 10", "θ = 10"), ("xy", "xy")]
)
def test_simple_formulas_are_text(tex, text):
    assert sphinx_web.plain_formula(tex) == text


@pytest.mark.parametrize("tex", ["2^{-10}", r"\sqrt t", "x_1", r"\lambda_{\max}", "a^2"])
def test_other_formulas_are_not(tex):
    assert sphinx_web.plain_formula(tex) == "\0"


def test_without_an_address_none_is_invented(sites):
    for page in ("index.html", "part/one.html", "404.html"):
        html = (sites[False] / page).read_text("utf-8")
        assert not {"og:image", "og:url"} & set(meta(sites[False], page))
        assert 'rel="canonical"' not in html
    assert not [
        f for f in ("sitemap.xml", "robots.txt", sphinx_web.PREVIEW) if (sites[False] / f).exists()
    ]


def test_with_an_address_pages_carry_it(sites):
    page = soup(sites[True], "part/one.html")
    assert page.find("link", rel="canonical")["href"] == f"{ADDRESS}/part/one.html"
    tags = meta(sites[True], "part/one.html")
    assert tags["og:url"] == f"{ADDRESS}/part/one.html"
    assert tags["og:image"] == f"{ADDRESS}/{sphinx_web.PREVIEW}"
    head = (sites[True] / sphinx_web.PREVIEW).read_bytes()[16:24]
    assert struct.unpack(">II", head) == sphinx_web.PREVIEW_SIZE


def test_the_sitemap_lists_the_books_pages_and_no_other(sites):
    tree = ElementTree.parse(sites[True] / "sitemap.xml")
    listed = {e.text for e in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")}
    assert listed == {f"{ADDRESS}/{page}.html" for page in PAGES}
    assert f"{ADDRESS}/sitemap.xml" in (sites[True] / "robots.txt").read_text("utf-8")
    for page in ("404.html", "search.html", "genindex.html"):
        assert meta(sites[True], page)["robots"] == "noindex"


@pytest.mark.parametrize(
    "address", ["example.org", "ftp://example.org", "https://", "https://a.b/?x=1"]
)
def test_an_address_that_is_none_stops_the_build(address, monkeypatch):
    from types import SimpleNamespace

    from sphinx.errors import ConfigError

    monkeypatch.setenv("BOOK_URL", address)
    with pytest.raises(ConfigError, match="BOOK_URL"):
        sphinx_web.read_address(None, SimpleNamespace())


@pytest.mark.parametrize(("address", "root"), [(False, "/"), (True, "/the/rates/")])
def test_the_page_for_dead_links_works_at_any_address(sites, address, root):
    page = soup(sites[address], "404.html")
    used = [tag[a] for a in ("href", "src", "action") for tag in page.find_all(attrs={a: True})]
    here = [url for url in used if not re.match(r"[a-z]+:|#", url)]
    assert len(here) > 10
    assert all(url.startswith(root) for url in here)
    assert all((sites[address] / url.removeprefix(root).split("?")[0]).exists() for url in here)
    assert page.html["data-content_root"] == root


# --- the last pass --------------------------------------------------------------------------


def test_pages_have_one_style_sheet_and_one_policy_and_no_search_index(sites):
    for name in PAGES:
        page = soup(sites[False], f"{name}.html")
        assert len(page.find_all("link", rel="stylesheet")) == 1
        assert len(page.find_all("meta", attrs={"http-equiv": "Content-Security-Policy"})) == 1
        scripts = [tag["src"] for tag in page.find_all("script", src=True)]
        assert not [src for src in scripts if "search" in src]
    scripts = [tag["src"] for tag in soup(sites[False], "search.html").find_all("script", src=True)]
    assert "searchindex.js" in scripts


def test_the_policy_comes_before_all_that_it_is_about(sites):
    head = (sites[False] / "index.html").read_text("utf-8")
    assert head.index("Content-Security-Policy") < min(
        head.index(tag) for tag in ("<script", "<link")
    )
    rules = dict(
        rule.split(" ", 1)
        for rule in meta(sites[False], "index.html")["Content-Security-Policy"].split("; ")
    )
    assert rules["default-src"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in rules["script-src"]
    assert "http" not in " ".join(rules.values())


def test_figures_have_their_size_and_all_but_the_first_wait(sites, tmp_path):
    (image,) = soup(sites[False], "index.html").article.find_all("img")
    assert (image["width"], image["height"]) == ("884", "534")
    assert not image.get("loading")
    shutil.copyfile(ROOT / "book/_static/cover.png", tmp_path / "a.png")
    html = '<img src="a.png"><img src="gone.png"><img alt="x" src="a.png"><img style="width: 9px" src="a.png">'
    html = sphinx_policy.with_measured_images(html, tmp_path / "page.html")
    assert html.count('width="884"') == 2
    assert html.count("lazy") == 2


def test_no_script_holds_up_the_page_and_settings_are_in_it(sites):
    page = soup(sites[False], "index.html")
    assert all(tag.has_attr("defer") for tag in page.find_all("script", src=True))
    assert [s for s in page.find_all("script") if "const DOCUMENTATION_OPTIONS" in (s.string or "")]
    theme = (sites[False] / "_static/scripts/pydata-sphinx-theme.js").read_text("utf-8")
    assert "tabIndex=e.scrollWidth" not in theme  # or its words are others: see ASKS_ALL_BOXES


def test_the_first_view_has_its_colours(sites):
    page = soup(sites[False], "index.html")
    assert page.html["data-theme"] == "light"  # what is shown without a script
    first = page.head.find("script").string
    assert "prefers-color-scheme" in first
    assert len([s for s in page.find_all("script") if "dataset.theme" in (s.string or "")]) == 1


def test_a_policy_knows_exactly_the_inline_parts_of_its_page():
    text = '<script>one()</script><script src="a.js"></script><script type="application/json">{}</script>'
    text += '<p style="color: &quot;red&quot;">x</p><style>p { }</style>'
    rules = sphinx_policy.policy(text)
    for part in ("one()", 'color: "red"', "p { }"):
        assert sphinx_policy.digest(part) in rules
    assert rules.count("sha256-") == 3
    assert "unsafe-inline" not in rules
    searching = sphinx_policy.policy("<p>", searches={"color: blue"})
    assert sphinx_policy.digest("color: blue") in searching


def test_hashes_are_those_that_browsers_compute():
    # the example of the recommendation Content Security Policy Level 2
    assert (
        sphinx_policy.digest("alert('Hello, world.');")
        == "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    )


CSS = """.used, .other:not(.gone) { a: b } .gone { a: b } .used .gone, p > .used { a: b }
:is(.gone, .used) { a: b } @media (min-width: 9px) { .gone { a: b } } @media print { .used { a: b } .gone { a: b } }
#here { a: b } #gone { a: b } .bs-tooltip-top { a: b } .w-1\\/2 { a: b } p[class~=".gone"] { a: b }
@font-face { font-family: x } @keyframes y { from { a: b } 50.5% { a: b } }"""


def test_only_rules_that_fit_nothing_are_dropped():
    css = sphinx_policy.drop_unused(CSS, {"used", "other", "here"}, ("bs-tooltip-",))
    kept = " ".join(css.split())
    for there in (".used, .other:not(.gone)", " p > .used", ":is(.gone, .used)", "print { .used", "#here", ".bs-tooltip-top",
                  ".w-1\\/2", 'p[class~=".gone"]', "@font-face", "50.5%"):  # fmt: skip
        assert there in kept, there
    for gone in ("} .gone {", ".used .gone", "min-width", "#gone"):
        assert gone not in kept, gone
    assert kept.count("{") == kept.count("}")


def test_a_style_sheet_takes_what_it_imports_and_keeps_addresses(tmp_path):
    (tmp_path / "_static/deep").mkdir(parents=True)
    (tmp_path / "_static/deep/a.css").write_text(
        '/*! licence */ @import "../b.css"; /* note */ p { c: url(x.png) }'
    )
    (tmp_path / "_static/b.css").write_text(
        "q { c: url('deep/y.png') } r { c: url(data:image/png,z) }"
    )
    css = sphinx_policy.bundle(tmp_path, ["_static/deep/a.css"], [])
    assert css.index('url("deep/y.png")') < css.index('url("deep/x.png")')
    assert "url(data:image/png,z)" in css
    assert "/*! licence */" in css
    assert "note" not in css
    assert "@import" not in css
