"""What a page of the site must be: functions that return a list of problems, empty when all is well.

`test_pages` and `test_links` apply them to the built site, `test_the_checks_themselves` to pages
that are broken on purpose. A problem is one line: the check's name, a colon, what is wrong.
"""

import gzip
import http.server
import re
import shutil
import threading
from functools import cache, partial
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
MAX_BYTES = 400_000  # compressed, of everything that a first view of a page loads
INTERACTIVE = "_static/interactive/interactive.js"
BEGIN = "_static/interactive/begin.js"  # loads it when its figure comes near
MAX_INTERACTIVE_BYTES = 300_000  # compressed, what interactive figures may add to a page
BROWSER_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing is asked outside
]  # fmt: skip


class Server:
    """Serves a folder on this machine while the `with` block lasts; its value is the address."""

    def __init__(self, folder):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass

        handler = partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}/"

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def start_browser(playwright):
    """The system's Chromium, or playwright's own. Raises playwright's Error where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    return playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)


# Everything that can be folded away is shown, so that what is inside is checked too.
UNFOLD = """() => {
    document.querySelectorAll('details').forEach(d => { d.open = true });
    document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden'));
    const style = new CSSStyleSheet();  // a style element would be against the page's policy
    style.replaceSync('.sd-tab-content { display: block !important } section { content-visibility: visible !important }' +
        ' * { transition: none !important; animation: none !important }');
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, style];
    return new Promise(done => requestAnimationFrame(() => setTimeout(done, 60)));
}"""

# A page has thousands of words of code and parts of formulas, whose contrast takes axe minutes.
# This marks one of each kind and place: with the same colour on the same ground, in the same size.
MARK_LOOKS = """() => {
    const seen = new Set();
    document.querySelectorAll('[data-look]').forEach(e => e.removeAttribute('data-look'));
    for (const e of document.body.querySelectorAll('*')) {
        const words = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!words && !e.matches('input, select, textarea')) continue;
        const look = getComputedStyle(e), around = [];
        let behind = e, colour = '';
        while (behind) {
            const style = getComputedStyle(behind);
            if (behind !== e) around.push(behind.localName + '.' + behind.className.toString());
            if (style.opacity !== '1' || style.backgroundImage !== 'none')
                colour += style.opacity + style.backgroundImage;
            if (style.backgroundColor !== 'rgba(0, 0, 0, 0)') {
                colour += style.backgroundColor;
                if (!/^rgba/.test(style.backgroundColor)) break;
            }
            behind = behind.parentElement;
        }
        const key = [e.localName, e.className.toString(), look.color, look.fontSize, look.fontWeight,
                     look.textDecorationLine, colour, e.closest('math, pre') ? '' : around[0]].join();
        if (!seen.has(key)) e.setAttribute('data-look', '');
        seen.add(key);
    }
}"""
COLOURS = ["color-contrast", "link-in-text-block"]

# The text that a reader sees, without code and formulas.
TEXT = """() => {
    const left = [], skip = 'script, style, code, pre, kbd, math, noscript, template';
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const blocks = new Map();
    while (walk.nextNode()) {
        if (walk.currentNode.parentElement.closest(skip)) continue;
        const block = walk.currentNode.parentElement.closest('p, li, td, th, dd, dt, h1, h2, h3, h4, div');
        blocks.set(block, (blocks.get(block) || '') + walk.currentNode.data);
    }
    return [...blocks.values()].map(t => t.trim()).filter(t => t);
}"""

# Formulas, figures, tables and code that reach beyond the window and not inside a scrolling box.
OVERFLOW = """() => {
    const width = window.innerWidth, found = [];
    const page = document.scrollingElement.scrollWidth;
    if (page > width) found.push(`the page is ${page} px wide in a window of ${width}`);
    for (const e of document.querySelectorAll('math, math > *, img, svg, table, pre, mjx-container, iframe, video, p, li')) {
        const box = e.getBoundingClientRect();
        if (!box.width || box.right <= width + 1 || box.left >= width) continue;
        let scroller = e.parentElement;
        while (scroller && !/auto|scroll/.test(getComputedStyle(scroller).overflowX)) scroller = scroller.parentElement;
        if (scroller && scroller !== document.body && scroller.getBoundingClientRect().right <= width + 1) continue;
        if (/auto|scroll/.test(getComputedStyle(e).overflowX) && box.right <= width + 1) continue;
        const it = e.closest('math') || e;
        found.push(`${it.tagName.toLowerCase()} "${(it.getAttribute('alttext') || it.innerText || it.id || '').slice(0, 60)}" ends at ${Math.round(box.right)} px`);
    }
    return found.slice(0, 10);
}"""

# Boxes that scroll sideways and that the keyboard cannot reach (axe leaves this to the browser).
UNREACHABLE = """() => [...document.querySelectorAll('body *')].filter(e =>
    e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 &&
    /auto|scroll/.test(getComputedStyle(e).overflowX) && e.checkVisibility() &&
    e.getAttribute('tabindex') === null && !e.querySelector('a[href], button, [tabindex="0"]')
).map(e => `${e.tagName.toLowerCase()}.${e.className} "${e.textContent.trim().slice(0, 40)}"`)"""

# Images that wait until they come into sight are called for.
IMAGES = """async () => {
    const images = [...document.images];
    const lazy = images.filter(i => i.loading === 'lazy');
    for (const image of lazy) image.loading = 'eager';
    await Promise.all(lazy.map(image => image.decode().catch(() => 0)));
    return images.map(i => ({
        src: i.getAttribute('src') || '', alt: i.getAttribute('alt'), loaded: i.complete && i.naturalWidth > 0,
        decorative: !!i.closest('[aria-hidden=true], [role=presentation], [role=none], .navbar-brand'),
    }));
}"""


# What a page shows: the letters of its main text, and the parts of it that cannot be seen.
SHOWN = """() => {
    const article = document.querySelector('article') || document.querySelector('main');
    const folded = 'details:not([open]), .sd-tab-content, script, style, noscript, .toggle-hidden';
    const parts = [...article.querySelectorAll('p, li, td, th, dt, dd, pre, h1, h2, h3, h4, img, math')];
    const outside = parts.filter(e => !e.closest(folded) && !e.closest('table.ledger thead'));
    const letters = outside.filter(e => !e.querySelector('p, li, pre'))
        .reduce((n, e) => n + e.textContent.replace(/\\s/g, '').length, 0);
    const hidden = outside.filter(e => {
        const box = e.getBoundingClientRect();
        return (e.textContent.trim() || e.tagName === 'IMG') &&
            !(e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && box.width > 0);
    });
    return {letters, hidden: hidden.map(e => e.getAttribute('src') || e.textContent.trim().slice(0, 60))};
}"""


def check_page(browser, base, path, folder):
    """Problems of one page: at 1280 px in light and dark, at 390 px, and without JavaScript."""
    problems, requests = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: m.type == "error" and problems.append(f"console: {m.text}"))
    page.on("pageerror", lambda e: problems.append(f"console: {e}"))
    page.goto(urljoin(base, path), wait_until="load")
    page.wait_for_timeout(100)  # what scripts ask for after the load

    asked = sorted({url for url in requests if not url.startswith(("data:", "blob:"))})
    problems += check_size(folder, [url for url in asked if url.startswith(base)], base)
    shown = page.evaluate(SHOWN)
    page.evaluate(UNFOLD)
    problems += check_text(page.evaluate(TEXT))
    problems += check_images(page.evaluate(IMAGES))
    foreign = [url for url in requests if not url.startswith((base, "data:", "blob:"))]
    problems += [f"foreign request: {url}" for url in sorted(set(foreign))]
    problems += check_axe(page, "light") + check_colours(page, "light")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(50)
    problems += check_colours(page, "dark")  # for the other rules nothing has changed
    page.close()

    phone = context.new_page()
    phone.set_viewport_size({"width": 390, "height": 844})
    phone.goto(urljoin(base, path), wait_until="load")
    phone.evaluate(UNFOLD)
    problems += [f"overflow at 390 px: {what}" for what in phone.evaluate(OVERFLOW)]
    problems += [f"keyboard: cannot scroll {what}" for what in phone.evaluate(UNREACHABLE)]
    problems += check_axe(phone, "390 px")
    context.close()

    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(urljoin(base, path), wait_until="load")
    bare = plain.evaluate(SHOWN)
    if bare["hidden"]:  # a section that is out of sight may not be laid out yet
        plain.wait_for_timeout(300)
        bare = plain.evaluate(SHOWN)
    problems += [f"no JavaScript: not shown: {part}" for part in bare["hidden"][:5]]
    if bare["letters"] < 0.95 * shown["letters"]:
        problems.append(
            f"no JavaScript: {bare['letters']} letters of text, {shown['letters']} with it"
        )
    plain.context.close()
    return list(dict.fromkeys(problems))


def check_text(blocks):
    """Raw TeX left in the text. `blocks` are paragraphs without code and formulas."""
    raw = re.compile(r"\\[a-zA-Z]+|\\[()\[\]]|\$\$|\$[^$]*[\\_^{}=<>+][^$]*\$|\$\s?\w{1,3}\$")
    return [
        f"raw TeX: {found[0]!r} in {block[:80]!r}"
        for block in blocks
        if (found := raw.search(block))
    ]


def check_images(images):
    """Images that do not load, or without an alternative text that says something."""
    problems = []
    for image in images:
        name = unquote(image["src"]).rsplit("/", 1)[-1]
        alt = (image["alt"] or "").strip()
        if not image["loaded"]:
            problems.append(f"image does not load: {image['src']}")
        if image["decorative"] and image["alt"] == "":
            continue
        if not alt:
            problems.append(f"alternative text: none for {name}")
        elif (
            alt in unquote(image["src"])
            or re.fullmatch(r".*\.(png|svg|jpe?g|gif|webp)", alt)
            or alt.startswith("<Figure")
            or len(alt.split()) < 3
        ):
            problems.append(f"alternative text: {alt!r} does not say what {name} shows")
        elif check_text([alt]):
            problems.append(f"alternative text: raw TeX in {alt!r}")
    return problems


def check_axe(page, mode):
    """Violations that axe finds, one line for each rule, with the first element; not those of colours."""
    return _axe(page, mode, "document", {"rules": {rule: {"enabled": False} for rule in COLOURS}})


def check_colours(page, mode):
    """Violations of axe's rules about colours, which it is asked once for each look of a text."""
    page.evaluate(MARK_LOOKS)
    return _axe(page, mode, {"include": [["[data-look]"]]}, {"runOnly": COLOURS})


def _axe(page, mode, context, options):
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(Axe().axe_script)
    # preloading would ask for files itself
    options = {"resultTypes": ["violations"], "preload": False, **options}
    ask = "([c, o]) => axe.run(c === 'document' ? document : c, o).then(found => found.violations)"
    return [
        f"axe ({mode}): {v['id']}, {len(v['nodes'])} times: {v['nodes'][0]['html'][:160]}"
        for v in page.evaluate(ask, [context, options])
    ]


@cache
def _compressed(file):
    data = file.read_bytes()
    return min(len(data), len(gzip.compress(data, 6)))


def check_size(folder, urls, base):
    """More bytes, compressed, than a page may load. `urls` are what the browser asked for."""
    files = {Path(folder) / unquote(urlsplit(url).path).lstrip("/") for url in urls}
    files = {file / "index.html" if file.is_dir() else file for file in files}
    sizes = {file: _compressed(file) for file in files if file.is_file()}
    total = sum(sizes.values())
    allowed = MAX_BYTES + MAX_INTERACTIVE_BYTES * any(INTERACTIVE in url for url in urls)
    if total <= allowed:
        return []
    largest = sorted(sizes, key=sizes.get, reverse=True)[:4]
    parts = ", ".join(f"{file.name} {sizes[file] // 1000} kB" for file in largest)
    return [f"size: {total // 1000} kB, more than {allowed // 1000} kB ({parts})"]


# ---- links, without a browser ------------------------------------------------------------------

LOADED = [  # elements that load something, and the attribute that says what
    ("script", "src"), ("img", "src"), ("img", "srcset"), ("source", "src"), ("source", "srcset"),
    ("video", "src"), ("audio", "src"), ("iframe", "src"), ("embed", "src"), ("object", "data"),
    ("image", "href"), ("use", "href"),
]  # fmt: skip
LOADING_RELS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
}
CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)|@import\s+['\"]([^'\"]+)")


def is_foreign(url):
    """Whether an address is on another server; what is inside the page (data:) is not."""
    return bool(urlsplit(url).netloc) or urlsplit(url).scheme in ("http", "https", "ftp")


def html_files(folder):
    """The site's pages, without the templates that themes keep beside their scripts."""
    folder = Path(folder)
    return [
        f for f in sorted(folder.rglob("*.html")) if f.relative_to(folder).parts[0] != "_static"
    ]


def check_links(folder):
    """Dead links and anchors, repeated ids, and anything that would be loaded from elsewhere."""
    folder, problems = Path(folder).resolve(), []
    soups = {
        f.resolve(): BeautifulSoup(f.read_text("utf-8"), "html.parser") for f in html_files(folder)
    }
    anchors = {}
    for file, soup in soups.items():
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        anchors[file] = {*ids, *(tag["name"] for tag in soup.find_all("a", attrs={"name": True}))}
        for twice in {i for i in ids if ids.count(i) > 1}:
            problems.append(f"repeated id: {twice!r} in {file.relative_to(folder)}")

    for file, soup in soups.items():
        name = file.relative_to(folder)
        for tag, attribute in LOADED:
            for element in soup.find_all(tag, attrs={attribute: True}):
                value = element[attribute]
                urls = (
                    [p.split()[0] for p in value.split(",")] if attribute == "srcset" else [value]
                )
                for url in urls:
                    problems += _check_loaded(url, file, folder, f"{name}: <{tag}>")
        for element in soup.find_all("link", href=True):
            if LOADING_RELS & set(element.get("rel", [])):
                problems += _check_loaded(element["href"], file, folder, f"{name}: <link>")
        styles = [tag.string or "" for tag in soup.find_all("style")]
        styles += [tag["style"] for tag in soup.find_all(style=True)]
        for style in styles:
            problems += _check_css(style, file, folder, f"{name}: style")
        for element in [*soup.find_all("a", href=True), *soup.find_all("area", href=True)]:
            problems += _check_target(element["href"], file, folder, anchors, name)

    for css in sorted(folder.rglob("*.css")):
        problems += _check_css(css.read_text("utf-8"), css, folder, str(css.relative_to(folder)))
    return list(dict.fromkeys(problems))


def _check_css(text, file, folder, where):
    problems = []
    for match in CSS_URL.finditer(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)):
        problems += _check_loaded(match[1] or match[2], file, folder, where)
    return problems


def _check_loaded(url, file, folder, where):
    if is_foreign(url):
        return [f"foreign address: {url} in {where}"]
    if urlsplit(url).scheme or url.startswith("#"):  # data:, or a part of the same file
        return []
    target = _resolve(url, file, folder)
    return [] if target.is_file() else [f"dead link: {url} in {where}"]


def _check_target(url, file, folder, anchors, name):
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:  # another site, or mailto:
        return []
    target = _resolve(url, file, folder) if parts.path else file
    if not target.is_file():
        return [f"dead link: {url} in {name}"]
    anchor = unquote(parts.fragment)
    if anchor and anchor != "top" and target in anchors and anchor not in anchors[target]:
        return [f"dead anchor: {url} in {name}"]
    return []


def _resolve(url, file, folder):
    path = unquote(urlsplit(url).path)
    target = (folder / path.lstrip("/") if path.startswith("/") else file.parent / path).resolve()
    return target / "index.html" if target.is_dir() else target


def check_ledger(folder, claims):
    """Claims of the ledger that its page does not link, or whose anchor is not on their page."""
    folder, problems = Path(folder), []
    page = "reference/claims.html"
    ledger = BeautifulSoup((folder / page).read_text("utf-8"), "html.parser")
    linked = {urljoin(page, a["href"]) for a in ledger.find_all("a", href=True)}
    ids = {}
    for claim in claims:
        chapter = claim["chapter"] + ".html"
        if not (folder / chapter).is_file():
            problems.append(f"ledger: no page {chapter}")
            continue
        if chapter not in ids:
            soup = BeautifulSoup((folder / chapter).read_text("utf-8"), "html.parser")
            ids[chapter] = {tag["id"] for tag in soup.find_all(id=True)}
        if claim["id"] not in ids[chapter]:
            problems.append(f"ledger: {chapter} has no {claim['id']}")
        if f"{chapter}#{claim['id']}" not in linked:
            problems.append(f"ledger: {chapter}#{claim['id']} is not linked")
    return problems
