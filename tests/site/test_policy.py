"""The Content-Security-Policy of the built pages: nothing that readers do is against it."""

from urllib.parse import urljoin

import pytest
import site_checks
from bs4 import BeautifulSoup

# What only the browser's console would tell: every refusal, as the page reports it.
LISTEN = """() => { window.refused = []; addEventListener('securitypolicyviolation', e =>
    window.refused.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sample} ${e.sourceFile}:${e.lineNumber}`)) }"""
REFUSED = "() => window.refused"


def the_policy(file):
    tags = BeautifulSoup(file.read_text("utf-8"), "html.parser").find_all(
        "meta", attrs={"http-equiv": "Content-Security-Policy"}
    )
    return [tag["content"] for tag in tags]


def test_every_page_has_one_strict_policy(site):
    for file in site_checks.html_files(site):
        (policy,) = the_policy(file)
        rules = {name: values for name, *values in (rule.split() for rule in policy.split("; "))}
        assert rules["default-src"] == rules["base-uri"] == ["'none'"], file
        assert not {v for v in rules["script-src"] if not v.startswith(("'self'", "'sha256-"))}, (
            file
        )
        assert "'unsafe-inline'" not in rules["style-src"], file
        sources = {value for values in rules.values() for value in values}
        assert not [s for s in sources if s not in ("data:",) and not s.startswith("'")], file


def open_page(browser, address, path, **options):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.add_init_script(f"({LISTEN})()")
    page = context.new_page()
    page.goto(urljoin(address, path), wait_until="load")
    return page


# a chapter, cards, a ledger, pages that Sphinx or we add, and every kind of script among them
KINDS = ["index", "foundations/curvature", "practice/digits", "reference/optimizers-card",
         "reference/optimizers-table", "reference/claims", "genindex", "404"]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_nothing_a_reader_does_is_refused(name, browser, address):
    page = open_page(browser, address, f"{name}.html")
    page.evaluate("() => { window.printed = 0; window.print = () => { window.printed++ } }")
    for _ in range(3):  # auto, light, dark
        page.locator(".theme-switch-button").first.click()
    for summary in page.locator("article summary, .toggle-button").all()[:4]:
        summary.evaluate("e => e.click()")
    for button in page.locator("button.copybtn, .sd-tab-set > label").all()[:4]:
        button.evaluate("e => e.click()")
    if page.locator("[data-print]").count():
        page.locator("[data-print]").evaluate("e => e.click()")
        assert page.evaluate("() => window.printed") == 1
    page.keyboard.press("Control+k")
    assert page.locator("#pst-search-dialog input").is_visible()
    page.wait_for_timeout(100)
    assert page.evaluate(REFUSED) == []
    page.context.close()


def test_what_is_not_of_this_site_is_refused(browser, address):
    page = open_page(browser, address, "index.html")
    page.evaluate("""() => {
        const script = document.createElement('script'); script.textContent = 'window.ran = 1';
        const image = new Image(); image.src = 'https://example.invalid/a.png';
        document.body.append(script, image);
        fetch('https://example.invalid/').catch(() => 0);
    }""")
    page.wait_for_function("() => window.refused.length >= 3")
    assert page.evaluate("() => window.ran") is None
    page.context.close()
