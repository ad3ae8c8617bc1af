"""The search page of the built site, in a browser: formulas are found by their names."""

from urllib.parse import quote, urljoin

import pytest

# what a reader types, and a page that must be among the first five that are found
WANTED = {
    "2/L": "foundations/curvature",
    "AdamW": "optimizers/weight-decay",
    "adamw": "optimizers/weight-decay",
    "cosine": "schedules/decay",
    "Lanczos": "frontier/edge-of-stability",
    "1cycle": "schedules/restarts-and-cycles",
    "muP": "frontier/scaling",
    "heavy ball": "optimizers/momentum",
    "loss scaling": "practice/precision",
    "linear scaling rule": "practice/batch-size",
    "ReduceLROnPlateau": "schedules/feedback",
    "Chebyshev": "foundations/curvature",
    "lr/(1-β)": "optimizers/momentum",
    "eta": "foundations/what-is-a-learning-rate",
    "lr": "foundations/what-is-a-learning-rate",
    "λ_max": "foundations/curvature",
    "warm-up": "schedules/warmup-and-cooldown",
    "edge of stability": "frontier/edge-of-stability",
    "Nesterov": "optimizers/momentum",
    "learning rate too high": "practice/diagnosis",
    "loss is NaN": "practice/diagnosis",
    "range_test": "reference/api",
    "lrteach.sweep": "reference/api",
}
DONE = "() => /found|did not/.test(document.querySelector('.search-summary')?.innerText || '')"


@pytest.fixture(scope="module")
def found(browser, address):
    """A function: the addresses that a search finds, in their order, and what went wrong."""
    context = browser.new_context()
    page = context.new_page()
    errors = []
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    page.on("pageerror", lambda e: errors.append(str(e)))

    def search(words):
        page.goto(urljoin(address, f"search.html?q={quote(words, safe='')}"))
        page.wait_for_function(DONE)
        links = page.locator("#search-results ul.search > li > a")
        return links.evaluate_all("links => links.map(a => a.getAttribute('href'))"), errors

    yield search
    context.close()


@pytest.mark.parametrize("words", WANTED)
def test_a_formula_is_found_by_its_name(words, found):
    links, errors = found(words)
    pages = list(dict.fromkeys(link.split("#")[0].split("?")[0] for link in links))
    assert f"{WANTED[words]}.html" in pages[:5], pages[:8]
    assert errors == []


def test_the_name_of_the_package_is_not_found_in_all_its_names(found):
    links, _ = found("lr")
    assert len([link for link in links if "api.html#" in link]) <= 5


def test_a_search_without_a_result_says_so(found, browser):
    links, errors = found("zzzzqqqq")
    assert (links, errors) == ([], [])
