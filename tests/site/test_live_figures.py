"""The interactive figures of the built site: live, by keyboard, on a phone, and without a script."""

import gzip
import json
from urllib.parse import urljoin

import pytest
import site_checks
from bs4 import BeautifulSoup
from site_checks import BEGIN, INTERACTIVE, MAX_INTERACTIVE_BYTES, ROOT, SITE

SCRIPT = f"**/{INTERACTIVE}*"
LIVE = ".interactive.is-live"
# What a live figure draws, what its controls say, and the sentence below it.
STATE = """figure => [
    figure.querySelector('.interactive-live svg').outerHTML,
    [...figure.querySelectorAll('.interactive-value, select')].map(e => e.value ?? e.textContent).join(),
    figure.querySelector('.interactive-says').textContent,
]"""
# Goes to a figure. On the way sections are laid out that were not, and it moves: go there again.
GO_TO = """async figure => {
    const there = () => {
        const box = figure.getBoundingClientRect();
        return figure.checkVisibility({contentVisibilityAuto: true}) && box.top < innerHeight && box.bottom > 0;
    };
    for (let i = 0; i < 100 && !there(); i++) {
        figure.scrollIntoView({block: 'center', behavior: 'instant'});
        await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    }
}"""
# The curves and marks of a picture, without the frame and the letters around them.
DRAWN = "picture => [...picture.querySelectorAll('.mark-line path, .mark-symbol path, .mark-rect path')].map(p => p.getAttribute('d'))"


def figures_of(file):
    return BeautifulSoup(file.read_text("utf-8"), "html.parser").select(".interactive")


PAGES = [
    str(file.relative_to(SITE))
    for file in (site_checks.html_files(SITE) if SITE.is_dir() else [])
    if 'class="interactive"' in file.read_text("utf-8")
]
each_page = pytest.mark.parametrize("path", PAGES)


@pytest.fixture
def open_page(browser, address):
    """A function that opens a page in a context of its own, goes to its figures and waits until they live."""
    contexts = []

    def open_(path, live=True, near=True, route=None, **options):
        contexts.append(
            browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        )
        page = contexts[-1].new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda r: page.requests.append(r.url))
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        if route:
            page.route(*route)
        page.goto(urljoin(address, path), wait_until="load")
        if near:
            for figure in page.locator(".interactive").all():
                figure.evaluate(GO_TO)
        if live:
            count = page.locator(".interactive").count()
            page.wait_for_function(
                "([s, n]) => document.querySelectorAll(s).length === n", arg=[LIVE, count]
            )
        return page

    yield open_
    for context in contexts:
        context.close()


def test_there_are_interactive_figures(site):
    sources = [path.read_text("utf-8") for path in (ROOT / "book").rglob("*.md")]
    written = sum("interactive.figure(" in text for text in sources)
    assert len(PAGES) == written > 0


def test_only_their_pages_load_the_script(site):
    for file in site_checks.html_files(site):
        text = file.read_text("utf-8")
        assert INTERACTIVE not in text, "it comes when its figure does"
        loads = BEGIN in text
        assert loads == (str(file.relative_to(site)) in PAGES), file
    licences = (site / INTERACTIVE).with_name("LICENCES.txt").read_text("utf-8")
    assert "University of Washington Interactive Data Lab" in licences


@each_page
@pytest.mark.parametrize("width", [1280, 390])
def test_vega_waits_until_its_figure_comes_near(path, width, open_page):
    size = {"viewport": {"width": width, "height": 844}}
    page = open_page(path, live=False, near=False, **size)
    page.evaluate("() => new Promise(done => requestIdleCallback(done))")
    assert any(BEGIN in url for url in page.requests)
    assert not any(INTERACTIVE in url for url in page.requests)
    with page.expect_request(lambda request: INTERACTIVE in request.url):
        page.locator(".interactive").first.evaluate(GO_TO)
    page.wait_for_selector(LIVE)
    assert page.errors == []


@each_page
def test_what_they_add_to_a_page_is_small(path, site):
    figures = figures_of(site / path)
    parts = [(site / INTERACTIVE).read_bytes(), *[str(figure).encode() for figure in figures]]
    assert sum(len(gzip.compress(part, 6)) for part in parts) <= MAX_INTERACTIVE_BYTES
    for figure in figures:
        assert len(str(figure.svg)) <= 60_000


@each_page
def test_without_javascript_there_is_a_picture_and_no_control(path, open_page):
    page = open_page(path, live=False, near=False, java_script_enabled=False)
    figures = page.locator(".interactive")
    for i in range(figures.count()):
        picture = figures.nth(i).locator(".interactive-picture")
        assert len(picture.get_attribute("aria-label").split()) >= 6
        box = picture.locator("svg").bounding_box()
        assert picture.locator("svg").is_visible() and box["width"] > 300 and box["height"] > 150
        assert not figures.nth(i).locator("input, select").first.is_visible()
    assert not any("interactive.js" in url for url in page.requests)


@each_page
def test_script_that_does_not_come_leaves_the_picture(path, open_page):
    page = open_page(path, live=False, route=(SCRIPT, lambda route: route.abort()))
    figure = page.locator(".interactive").first
    assert figure.locator(".interactive-picture > svg").is_visible()
    assert not figure.locator("input, select").first.is_visible()


@each_page
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_moves_when_a_figure_starts(path, width, open_page):
    size = {"viewport": {"width": width, "height": 900}}
    still = open_page(path, live=False, route=(SCRIPT, lambda route: route.abort()), **size)
    live = open_page(path, **size)
    boxes = "() => [...document.querySelectorAll('.interactive')].map(e => e.getBoundingClientRect().toJSON())"
    assert live.evaluate(boxes) == still.evaluate(boxes)


@each_page
def test_live_figure_first_draws_what_the_picture_shows(path, open_page):
    page = open_page(path)
    for figure in page.locator(".interactive").all():
        still = figure.locator(".interactive-picture > svg").evaluate(DRAWN)
        assert still and figure.locator(".interactive-live svg").evaluate(DRAWN) == still


@each_page
def test_keyboard_changes_what_is_drawn(path, open_page, address):
    page = open_page(path)
    for figure in page.locator(".interactive").all():
        for control in figure.locator("input, select").all():
            control.focus()
            outline = control.evaluate("e => getComputedStyle(e).outlineStyle")
            assert outline == "solid", "the focus is not seen"
            before = figure.evaluate(STATE)
            moves = "ArrowRight" if control.get_attribute("type") == "range" else "ArrowDown"
            page.keyboard.press(moves)
            if figure.evaluate(STATE)[1] == before[1]:  # it stood at its end
                page.keyboard.press(moves.replace("Right", "Left").replace("Down", "Up"))
            page.wait_for_function("([f, old]) => f.querySelector('.interactive-live svg').outerHTML !== old",
                                   arg=[figure.element_handle(), before[0]], timeout=3000)  # fmt: skip
            after = figure.evaluate(STATE)
            assert after[1] != before[1] and after[2] != before[2]
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith((address, "data:", "blob:"))] == []


@each_page
def test_every_state_of_a_slider_is_said(path, open_page):
    """Steps through the first slider: its text and the sentence are those of the data."""
    page = open_page(path)
    figure = page.locator(".interactive", has=page.locator("input")).first
    data = json.loads(figure.locator("script").text_content())
    slider = figure.locator("input").first
    kinds = figure.locator("input, select").evaluate_all("all => all.map(e => e.type)")
    control = data["controls"][kinds.index("range")]
    slider.focus()
    page.keyboard.press("Home")
    for text in control["texts"]:
        assert slider.get_attribute("aria-valuetext") == text
        assert figure.locator(".interactive-value").first.text_content() == text
        if len(data["controls"]) == 1:
            said = data["says"][control["texts"].index(text)]
            assert figure.locator(".interactive-says").text_content() == said
        page.keyboard.press("ArrowRight")


@each_page
def test_figures_fit_a_phone(path, open_page):
    page = open_page(path, viewport={"width": 390, "height": 844})
    assert page.evaluate(site_checks.OVERFLOW) == []
    for control in page.locator(".interactive").locator("input, select").all():
        box = control.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 60
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    letters = "() => Math.min(...[...document.querySelectorAll('.interactive-live text')].filter(e => e.textContent).map(e => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)))"
    assert page.evaluate(letters) >= 9.5


@each_page
def test_live_figures_are_accessible_in_both_themes(path, open_page):
    shade = "e => getComputedStyle(e).filter"
    page = open_page(path, color_scheme="light")
    assert site_checks.check_axe(page, "light") + site_checks.check_colours(page, "light") == []
    assert page.locator(".interactive-picture").first.evaluate(shade) == "none"
    page = open_page(path, color_scheme="dark")  # anew: the theme fades from one to the other
    picture = page.locator(".interactive-picture").first
    assert site_checks.check_colours(page, "dark") == []
    assert "invert" in picture.evaluate(shade)
    for part in (".interactive", ".interactive-picture", ".interactive-live svg"):
        behind = page.locator(part).first.evaluate("e => getComputedStyle(e).backgroundColor")
        assert behind == "rgba(0, 0, 0, 0)", f"{part} has a card behind it"


@each_page
def test_figures_need_no_eval_and_no_inline_script(path, open_page):
    policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'"

    def strict(route):
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": policy}
        route.fulfill(response=answer, headers=headers)

    page = open_page(path, route=(f"**/{path}", strict))
    slider = page.locator(".interactive input").first
    before = page.locator(".interactive").first.evaluate(STATE)
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function("([f, old]) => f.querySelector('.interactive-live svg').outerHTML !== old",
                           arg=[page.locator(".interactive").first.element_handle(), before[0]], timeout=3000)  # fmt: skip
