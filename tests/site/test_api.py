"""The page `api` of the built site: an anchor for every public name, and links to it that arrive."""

import re
from importlib import import_module

import pytest
from bs4 import BeautifulSoup

import lrteach
import sphinx_api


@pytest.fixture(scope="module")
def page(site):
    return BeautifulSoup((site / "reference/api.html").read_text("utf-8"), "html.parser")


def test_every_public_name_has_an_anchor_and_a_line_in_a_list(page):
    ids = {tag["id"] for tag in page.find_all(id=True)}
    linked = {a["href"][1:] for a in page.article.select(".api-names a[href^='#']")}
    for module in lrteach._MODULES:
        assert f"module-lrteach.{module}" in ids
        found, guests = sphinx_api.public_names(module)
        assert set(found) <= ids and set(found) <= linked
        assert len({*found, *guests}) == len(import_module(f"lrteach.{module}").__all__)


def test_each_entry_has_the_text_of_its_docstring(page):
    for path in (
        "lrteach.train",
        "lrteach.sweep",
        "lrteach.optimizers.adam",
        "lrteach.TorchOptimizer",
    ):
        entry = page.find(id=path).find_next_sibling("dd")
        value = (
            getattr(lrteach, path.split(".")[1])
            if path.count(".") == 1
            else lrteach.optimizers.adam
        )
        words = sphinx_api.first_sentence(value).replace("`", "")
        assert words in " ".join(entry.get_text().split())
    assert page.find(id="lrteach.optimizers.adam").find_next_sibling("dd").find("math")


def test_signatures_are_readable(page):
    for signature in page.select("dl.py > dt.sig"):
        text = " ".join(signature.get_text().split())
        assert len(text) <= 320, text
        assert not re.search(r"<(?!factory>)|0x", text), f"an object's repr in {text}"


def test_chapters_link_to_it(site):
    pages = [
        file
        for folder in ("practice", "schedules", "frontier")
        for file in (site / folder).glob("*.html")
    ]
    linked = [
        file for file in pages if 'href="../reference/api.html#lrteach.' in file.read_text("utf-8")
    ]
    assert len(linked) >= 4
