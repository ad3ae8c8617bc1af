"""Fixtures of the site's tests: the built site and a headless Chromium.

Where there is no built site or no browser these tests are skipped, with the reason; on a
server (CI=true) that is a failure.
"""

import os

import pytest
import site_checks
from site_checks import SITE


def skip_or_fail(reason):
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason} (an error because CI=true)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").is_file() or not SITE.with_suffix(".whole").exists():
        skip_or_fail("the site is not built: run `make book` first")
    return SITE


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, for the whole session."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = site_checks.start_browser(playwright)
        except Error as error:
            reason = str(error).strip().splitlines()[0]
            skip_or_fail(f"no Chromium for the site's tests ({reason})")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(site):
    """Where the built site is served while the tests run."""
    with site_checks.Server(site) as base:
        yield base
