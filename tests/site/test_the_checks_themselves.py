"""Each check finds its mistake: a good page passes, and the same page with the mistake does not."""

import base64
import random

import pytest
import site_checks

PIXELS = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4"
    b"\x89\x00\x00\x00\rIDATx\x9cc`\x00\x01\x00\x00\x05\x00\x01z^\xab?\x00\x00\x00\x00IEND\xaeB`\x82"
)

GOOD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="style.css">
</head><body><main><article>
<h1>A page</h1>
<p>The rate <math alttext="\\eta"><mi>η</mi></math> costs 5 $ and <code>x = "$a_1$ \\frac"</code>.</p>
<p><img src="figure.png" width="40" height="40" alt="Loss falls, then levels off"></p>
<p style="margin-top: 9000px"><img src="figure.png?3" loading="lazy" width="40" height="40" alt="Loss falls later"></p>
<p><a href="#claim-one">a claim</a> and <a href="reference/claims.html">all of them</a></p>
<div id="claim-one">✓ holds</div>
<!-- here -->
</article></main></body></html>
"""
STYLE = "body { color: #111; background: #fff } @media (prefers-color-scheme: dark) { body { color: #eee; background: #111 } a { color: #8cf } }"
LEDGER = """<!DOCTYPE html><html lang="en"><head><title>Claims</title></head><body><main><article><h1>Claims</h1>
<p><a href="../page.html#claim-one">one</a></p></article></main></body></html>"""

LONG = '<math display="block" alttext="long"><mtext>' + "long" * 60 + "</mtext></math>"

# mistakes that a browser must find, all on one page, and the problem that each must give
MISTAKES = {
    "script from elsewhere": (
        '<script src="https://example.invalid/a.js"></script>',
        "foreign request: https://example.invalid/a.js",
    ),
    "request made by a script": (
        "<script>fetch('https://example.invalid/b').catch(() => 0)</script>",
        "foreign request: https://example.invalid/b",
    ),
    "console error": ("<script>console.error('something')</script>", "console: something"),
    "exception": ("<script>missing()</script>", "console: missing is not defined"),
    "missing file": (
        '<script src="missing.js"></script>',
        "console: Failed to load resource: the server responded with a status of 404",
    ),
    "raw TeX": ("<p>where $x_1$ is</p>", "raw TeX: '$x_1$'"),
    "wide formula, cut off": (
        f'<div style="overflow: hidden">{LONG}</div>', "overflow at 390 px: math",
    ),
    "wide picture": (
        '<img src="figure.png" width="500" height="9" alt="A picture too wide">',
        "overflow at 390 px: img",
    ),
    "scrolling box out of the keyboard's reach": (
        '<div style="overflow-x: auto"><p style="width: 90rem">wide</p></div>',
        "keyboard: cannot scroll div",
    ),
    "no alternative text": (
        '<img src="figure.png" width="9" height="9">', "alternative text: none for figure.png",
    ),
    "file name as alternative text": (
        '<img src="figure.png" width="9" height="9" alt="figure.png">',
        "alternative text: 'figure.png' does not say",
    ),
    "picture that is not there": (
        '<img src="gone.png" alt="Nothing to be seen">', "image does not load: gone.png",
    ),
    "picture that is not there, far below": (
        '<div style="height: 20000px"></div>'
        '<img src="late.png" loading="lazy" width="9" height="9" alt="Nothing, later">',
        "image does not load: late.png",
    ),
    "picture from elsewhere, far below": (
        '<div style="height: 20000px"></div>'
        '<img src="https://example.invalid/c.png" loading="lazy" width="9" height="9" alt="Not ours">',
        "foreign request: https://example.invalid/c.png",
    ),
    "contrast in light": (
        '<p style="color: #ccc; background: #fff">pale</p>', "axe (light): color-contrast",
    ),
    "contrast in dark": ('<p style="color: #222">dark</p>', "axe (dark): color-contrast"),
    "button without a name, on a phone": (
        "<style>@media (min-width: 400px) { .small { display: none } }</style>"
        '<button class="small"></button>',
        "axe (390 px): button-name",
    ),
    "text only with JavaScript": (
        "<p id='js'></p><script>js.textContent = 'word '.repeat(99)</script>",
        "no JavaScript: ",
    ),
    "figure only with JavaScript": (
        '<span id="f" style="display: none"><img src="figure.png?2" alt="Only with a script"></span>'
        "<script>f.style.display = ''</script>",
        "no JavaScript: not shown: figure.png?2",
    ),
    "heavy page": ('<script src="heavy.js"></script>', "size: "),
}  # fmt: skip

# two that are found by the width of the whole page, so each needs a page of its own
WIDE_PAGES = {
    "formula": f"<div>{LONG}</div>",
    "in a fold": '<details><summary>more</summary><div style="width: 600px">wide</div></details>',
}

RAW_TEX = ["$x_1$", "$k$", "$a = b$", "$$ x", "\\( x \\)", "\\[ x", "\\frac12", "by \\eta"]
NO_RAW_TEX = ["5 $ or 6 $", "costs $5 and $6 a month", "C:\\ is a drive", "a_1 and x^2"]

BAD_ALT = [
    None, "", " ", "figure.png", "0a1b.png", "../_images/0a1b.png", "_images/0a1b", "a loss curve.png",
    "<Figure size 640x480 with 1 Axes>", "plot", "the plot", "Loss at $x_1$ falls", "Rate \\eta falls twice",
]  # fmt: skip

BROKEN_LINKS = {
    "dead link": (("reference/claims.html", "reference/gone.html"), "dead link: reference/gone"),
    "dead anchor": (("#claim-one", "#claim-two"), "dead anchor: #claim-two"),
    "dead anchor on another page": (
        ("reference/claims.html", "reference/claims.html#nothing"), "dead anchor: reference/claims",
    ),
    "dead picture": (('src="figure.png"', 'src="gone.png"'), "dead link: gone.png"),
    "repeated id": (("<!-- here -->", '<p id="claim-one">again</p>'), "repeated id: 'claim-one'"),
    "foreign script": (
        ("<!-- here -->", '<script src="//cdn.example.invalid/a.js"></script>'),
        "foreign address: //cdn.example.invalid/a.js",
    ),
    "foreign style": (
        ('<link rel="icon"', '<link rel="stylesheet" href="https://example.invalid/a.css"><link rel="icon"'),
        "foreign address: https://example.invalid/a.css",
    ),
    "foreign preconnect": (
        ('<link rel="icon"', '<link rel="preconnect" href="https://example.invalid"><link rel="icon"'),
        "foreign address: https://example.invalid",
    ),
    "foreign picture": (
        ('src="figure.png"', 'src="https://example.invalid/a.png"'),
        "foreign address: https://example.invalid/a.png",
    ),
    "foreign url in a style attribute": (
        ("<h1>", '<h1 style="background: url(https://example.invalid/a.png)">'),
        "foreign address: https://example.invalid/a.png",
    ),
    "foreign font": (
        ("STYLE", "@font-face { font-family: x; src: url('https://example.invalid/x.woff2') }"),
        "foreign address: https://example.invalid/x.woff2",
    ),
    "foreign import": (
        ("STYLE", "@import 'https://example.invalid/x.css';"),
        "foreign address: https://example.invalid/x.css",
    ),
    "missing font": (
        ("STYLE", "@font-face { font-family: x; src: url(fonts/x.woff2) }"), "dead link: fonts/x",
    ),
}  # fmt: skip


def write_site(folder, old="", new="", page=GOOD):
    """A site of two pages in `folder`, with `old` in the first page replaced by `new`."""
    if old not in ("", "STYLE"):
        assert old in page
        page = page.replace(old, new)
    (folder / "page.html").write_text(page, "utf-8")
    (folder / "style.css").write_text(STYLE + (new if old == "STYLE" else ""), "utf-8")
    (folder / "figure.png").write_bytes(PIXELS)
    if "heavy.js" in page:
        noise = random.Random(0).randbytes(600_000)  # cannot be compressed
        (folder / "heavy.js").write_text("//" + base64.b85encode(noise).decode())
    (folder / "reference").mkdir()
    (folder / "reference" / "claims.html").write_text(LEDGER, "utf-8")
    return folder


def in_browser(folder, browser):
    with site_checks.Server(folder) as base:
        return site_checks.check_page(browser, base, "page.html", folder)


def test_good_page_has_no_problems(tmp_path, browser):
    site = write_site(tmp_path)
    assert in_browser(site, browser) == []
    assert site_checks.check_links(site) == []
    assert site_checks.check_ledger(site, [{"chapter": "page", "id": "claim-one"}]) == []


@pytest.fixture(scope="module")
def problems_of_all_mistakes(tmp_path_factory, browser):
    mistakes = "".join(mistake for mistake, _ in MISTAKES.values())
    site = write_site(tmp_path_factory.mktemp("mistakes"), "<!-- here -->", mistakes)
    return in_browser(site, browser)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found(name, problems_of_all_mistakes):
    _, expected = MISTAKES[name]
    assert any(p.startswith(expected) for p in problems_of_all_mistakes), problems_of_all_mistakes


@pytest.mark.parametrize("name", WIDE_PAGES)
def test_wide_page_is_found(name, tmp_path, browser):
    problems = in_browser(write_site(tmp_path, "<!-- here -->", WIDE_PAGES[name]), browser)
    assert any(p.startswith("overflow at 390 px: the page is") for p in problems), problems


@pytest.mark.parametrize("text", RAW_TEX)
def test_raw_tex_is_found(text):
    assert len(site_checks.check_text(["all is well", f"where {text} is"])) == 1


@pytest.mark.parametrize("text", NO_RAW_TEX)
def test_other_text_is_not_raw_tex(text):
    assert site_checks.check_text([text]) == []


@pytest.mark.parametrize("alt", BAD_ALT)
def test_bad_alternative_text_is_found(alt):
    image = {"src": "../_images/0a1b.png", "alt": alt, "loaded": True, "decorative": False}
    assert len(site_checks.check_images([image])) == 1


def test_decoration_needs_no_text():
    image = {"src": "logo.svg", "alt": "", "loaded": True, "decorative": True}
    assert site_checks.check_images([image]) == []
    assert len(site_checks.check_images([{**image, "alt": None}])) == 1


@pytest.mark.parametrize("name", BROKEN_LINKS)
def test_broken_link_is_found(name, tmp_path):
    change, expected = BROKEN_LINKS[name]
    problems = site_checks.check_links(write_site(tmp_path, *change))
    assert any(p.startswith(expected) for p in problems), problems


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ({"chapter": "page", "id": "claim-two"}, "ledger: page.html has no claim-two"),
        ({"chapter": "gone", "id": "claim-one"}, "ledger: no page gone.html"),
        (
            {"chapter": "reference/claims", "id": "x"},
            "ledger: reference/claims.html#x is not linked",
        ),
    ],
)
def test_ledger_without_its_claim_is_found(claim, expected, tmp_path):
    assert expected in site_checks.check_ledger(write_site(tmp_path), [claim])
