"""Every page of the built site, in a real browser: desktop light and dark, phone, no JavaScript."""

import pytest
import site_checks
import yaml
from site_checks import ROOT


def pages():
    """The pages that _toc.yml lists, and the three that are added."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [toc["root"]]
    files += [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [f"{file}.html" for file in [*files, "genindex", "search", "404"]]


@pytest.mark.parametrize("page", pages())
def test_page(page, site, address, browser):
    problems = site_checks.check_page(browser, address, page, site)
    assert not problems, f"{page}:\n" + "\n".join(problems)


def test_every_page_is_checked(site):
    built = {str(f.relative_to(site)) for f in site_checks.html_files(site)}
    assert built == set(pages()), (
        "pages of _build/html that _toc.yml does not list, or missing ones"
    )
