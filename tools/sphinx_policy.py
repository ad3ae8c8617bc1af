"""Sphinx extension: the last pass over the pages, for fast first views and a strict policy.

- One style sheet instead of ten, without the rules that no page and no script has a use for.
- Scripts wait until the page is shown, and so do figures further down.
- The first view has its colours: without a script light, otherwise those of the reader's system.
- Figures say how large they are, so that nothing moves when they come.
- Each page says what it may load: only files of this site, and exactly the inline scripts and
  styles that it was built with, by their hashes. The browser refuses everything else.
"""

import base64
import hashlib
import html
import posixpath
import re
import struct
from pathlib import Path

from sphinx.errors import ExtensionError

STYLESHEET = re.compile(r'[ \t]*<link\b[^>]*\brel="stylesheet"[^>]*/?>\n?')
HREF = re.compile(r'\bhref="([^"?]*)(?:\?[^"]*)?"')
BUNDLE = "_static/site.css"


def pages_of(outdir):
    """The site's pages, without the templates that the theme keeps beside its scripts."""
    return [
        p for p in sorted(outdir.rglob("*.html")) if p.relative_to(outdir).parts[0] != "_static"
    ]


# --- one style sheet ------------------------------------------------------------------------


def names_in_use(outdir, texts):
    """Words that can be a class or an id: of the pages' attributes, and every word of a script."""
    names, starts = set(), set()
    for text in texts:
        for value in re.findall(r'\b(?:class|id)="([^"]*)"', text):
            names |= set(value.split())
    for script in sorted((outdir / "_static").rglob("*.js")):
        words = set(re.findall(r"[A-Za-z_][\w-]*", script.read_text("utf-8", "replace")))
        names |= words
        # scripts put names together: "bs-tooltip-" + side
        starts |= {w for w in words if re.fullmatch(r"[a-z]{2,}(-[a-z]+)*-", w)}
    return names, tuple(starts)


def is_needed(selector, names, starts):
    """Whether a selector may fit something. In doubt it does."""
    bare = re.sub(r"\[[^\]]*\]", "", selector)
    while "(" in bare and (flat := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = flat  # of :is(.a, .b) and :not(.c) nothing follows
    if "\\" in bare or bare.lstrip().startswith("@"):
        return True
    found = re.findall(r"[.#]([A-Za-z_][\w-]*)", bare)
    return all(name in names or name.startswith(starts or "\0") for name in found)


def split_selectors(text):
    """The selectors of a rule, parted at commas that are in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def drop_unused(css, names, starts):
    """The style sheet without the rules that fit nothing."""

    def rule(match):
        selectors = match[1]
        if selectors.lstrip().startswith("@") or ";" in selectors:
            return match[0]
        kept = [s for s in split_selectors(selectors) if is_needed(s, names, starts)]
        return ",".join(kept) + match[2] if kept else ""

    css = re.sub(r"([^{}]+)(\{[^{}]*\})", rule, css)
    return re.sub(r"@(?:media|supports)[^{};]*\{\s*\}", "", css)


def read_sheet(outdir, sheet):
    """A style sheet with those that it imports in it, and addresses as seen from BUNDLE."""
    css = re.sub(r'@charset "[^"]*";', "", (outdir / sheet).read_text("utf-8"))
    here, there = posixpath.dirname(sheet), posixpath.dirname(BUNDLE)

    def moved(match):
        path = posixpath.relpath(posixpath.join(here, match[2]), there)
        return f'url("{path}")'

    def imported(match):
        return read_sheet(outdir, posixpath.normpath(posixpath.join(here, match[1])))

    css = re.sub(r"url\(\s*(['\"]?)(?!data:|['\"]|#|/)([^'\")]+)\1\s*\)", moved, css)
    return re.sub(r"""@import\s+['"]([^'"]+)['"];""", imported, css)


def bundle(outdir, sheets, texts):
    """The text of these style sheets of the site as one, and the licences of what is in it."""
    css = "\n".join(read_sheet(outdir, sheet) for sheet in sheets)
    licences = re.findall(r"/\*!.*?\*/", css, re.DOTALL)
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    css = drop_unused(css, *names_in_use(outdir, texts))
    return "\n".join([*dict.fromkeys(licences), re.sub(r"\s*\n\s*", "\n", css)])


def sheets_of(text, page, outdir):
    """The style sheets that a page links, as paths in the site."""
    here = page.parent.relative_to(outdir).as_posix()
    links = [HREF.search(link)[1] for link in STYLESHEET.findall(text)]
    sheets = [posixpath.normpath(posixpath.join(here, link)) for link in links]
    return [sheet for sheet in sheets if sheet != BUNDLE]  # of an earlier build


# --- the policy -----------------------------------------------------------------------------


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def inline_styles(text):
    return {html.unescape(s) for s in re.findall(r'<[^<>]*\sstyle="([^"]*)"', text)}


def policy(text, searches=None):
    """The Content-Security-Policy of a page: this site's files, and the inline parts it now has.

    `searches`: the styles of all pages, for the page that reads the others to show extracts.
    """
    scripts = [
        code
        for attributes, code in re.findall(r"<script\b([^>]*)>(.*?)</script>", text, re.DOTALL)
        if "src=" not in attributes and "json" not in attributes and code
    ]
    styles = re.findall(r"<style\b[^>]*>(.*?)</style>", text, re.DOTALL)
    inline = inline_styles(text) | (searches or set())
    rules = {
        "default-src": ["'none'"],
        "script-src": ["'self'", *sorted({digest(s) for s in scripts})],
        # 'unsafe-hashes' lets hashes speak for attributes too: only for these very declarations
        "style-src": [
            "'self'",
            *["'unsafe-hashes'"] * bool(inline),
            *sorted({digest(s) for s in inline.union(styles)}),
        ],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in rules.items())


def add_policy(text, **options):
    text = re.sub(r'\n *<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    tag = f'<meta http-equiv="Content-Security-Policy" content="{policy(text, **options)}">'
    return re.sub(r"(<meta charset=[^>]*>)", lambda m: f"{m[0]}\n    {tag}", text, count=1)


def deferred(text, options):
    """The page with its scripts after it; the settings that inline scripts change are in the page."""
    text = re.sub(
        r'<script src="[^"]*documentation_options\.js[^"]*">',
        lambda match: f"<script>{options}",
        text,
    )
    scripts = r"<script (?=[^>]*\bsrc=)(?![^>]*\b(?:defer|async)\b)"
    return re.sub(scripts, "<script defer ", text)


# On load the theme asks each box whether it scrolls, which lays out the whole page at once.
ASKS_ALL_BOXES = "e.tabIndex=e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1"
LEFT_TO_BOOK_JS = "/*book.js*/0"


def leave_boxes_to_book_js(outdir):
    """Take this out of the theme's script: book.js does it for the boxes that are laid out."""
    script = outdir / "_static/scripts/pydata-sphinx-theme.js"
    text = script.read_text("utf-8")
    if ASKS_ALL_BOXES not in text and LEFT_TO_BOOK_JS not in text:
        raise ExtensionError(
            f"{script.name} is another: change ASKS_ALL_BOXES in tools/sphinx_policy.py"
        )
    script.write_text(text.replace(ASKS_ALL_BOXES, LEFT_TO_BOOK_JS), "utf-8")


# The theme leaves "auto" until all its scripts are there, then changes the colours of the whole page.
THEME = """
    const mode = localStorage.getItem("mode") || "auto";
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.mode = mode;
    document.documentElement.dataset.theme = mode === "auto" ? (dark ? "dark" : "light") : mode;
  """


def with_colours(text):
    """The page that has its colours before it is shown first."""
    text = re.sub(r'(<html\b[^>]*\bdata-theme=)"auto"', r'\1"light"', text, count=1)
    return re.sub(
        r"(<script data-cfasync=[^>]*>)[^<]*dataset\.theme[^<]*(?=</script>)",
        lambda match: match[1] + "{" + THEME + "}",
        text,
        count=1,
    )


def png_size(file):
    """(width, height) of a PNG, or None for other files."""
    head = file.read_bytes()[:24] if file.suffix == ".png" and file.is_file() else b""
    return struct.unpack(">II", head[16:24]) if len(head) == 24 else None


def with_measured_images(text, page):
    """The page whose figures have a width and a height; all but the first wait until they are near."""
    seen = 0

    def image(match):
        nonlocal seen
        attributes, source = match[1], re.search(r'\bsrc="([^"?]*)', match[1])
        if not source or not (size := png_size(page.parent / source[1])):
            return match[0]
        seen += 1
        extra = ""
        if not re.search(r"\b(width|height)=|style=", attributes):
            extra += f' width="{size[0]}" height="{size[1]}"'
        if seen > 1 and "loading=" not in attributes:
            extra += ' loading="lazy"'
        return f"<img{extra}{attributes}>"

    return re.sub(r"<img\b([^>]*)>", image, text)


def finish(app, error):
    if error or app.builder.name != "html":
        return
    outdir = Path(app.outdir)
    pages = {page: page.read_text("utf-8") for page in pages_of(outdir)}
    lists = [sheets_of(text, page, outdir) for page, text in pages.items()]
    sheets = list(dict.fromkeys(sheet for one in sorted(lists, key=len)[::-1] for sheet in one))
    if not sheets:  # no page is newer than the earlier build
        return
    css = bundle(outdir, sheets, pages.values())
    (outdir / BUNDLE).write_text(css, "utf-8")
    options = (outdir / "_static/documentation_options.js").read_text("utf-8")
    leave_boxes_to_book_js(outdir)
    styles = set().union(*map(inline_styles, pages.values()))
    version = hashlib.sha256(css.encode()).hexdigest()[:8]
    for page, text in pages.items():
        href = posixpath.relpath(BUNDLE, page.parent.relative_to(outdir).as_posix())
        link = f'    <link rel="stylesheet" href="{href}?v={version}">\n'
        text = STYLESHEET.sub(link, text, count=1)
        text = STYLESHEET.sub(lambda m, link=link: m[0] if m[0] == link else "", text)
        # the theme's button runs code of an attribute; book.js does it instead
        text = text.replace(' onclick="window.print()"', " data-print")
        text = with_measured_images(with_colours(deferred(text, options)), page)
        page.write_text(
            add_policy(text, searches=styles if page.name == "search.html" else None), "utf-8"
        )


def setup(app):
    app.connect("build-finished", finish, priority=800)  # nothing may change a page after it
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
