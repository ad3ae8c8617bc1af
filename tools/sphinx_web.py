"""Sphinx extension: what pages tell search engines and messengers, a page for dead links, a sitemap.

The site's address is the environment variable BOOK_URL, e.g. https://example.org/rates/. Where it
is not set, nothing that needs an address is written: no sitemap, no canonical addresses, no preview
image. Nothing is asked of any server.
"""

import os
import re
import unicodedata
from html import escape, unescape
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.errors import ConfigError

UNLISTED = {"404", "search", "genindex"}  # no page for a search engine to show
DESCRIPTION = 200  # characters, about what search engines show
PREVIEW = "_static/preview.png"
PREVIEW_SIZE = (1200, 630)

NOT_FOUND = """<section id="not-found"><h1>This step led nowhere</h1>
<p>There is no page at this address. Perhaps it was renamed, perhaps the link that you followed has a mistake in it.</p>
<ul><li><a href="index.html">The map of the book</a></li>
<li><a href="search.html">Search the book</a></li>
<li><a href="reference/glossary.html">The glossary</a>, if you were looking for a term</li></ul></section>"""


def read_address(app, config):
    """BOOK_URL, checked and with a slash at its end, as Sphinx's own setting."""
    address = os.environ.get("BOOK_URL", "").strip()
    parts = urlsplit(address)
    if address and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query):
        raise ConfigError(f"BOOK_URL is no address of a site: {address!r}")
    config.html_baseurl = address and address.rstrip("/") + "/"


# --- descriptions ---------------------------------------------------------------------------


def plain_formula(tex):
    """A formula that text can show, such as η = 2/L; of others a character that no text has."""

    def letter(match):
        try:
            return unicodedata.lookup(f"GREEK SMALL LETTER {match[1].upper()}")
        except KeyError:
            return match[0]

    text = re.sub(r"\\([a-z]+)(?: (?=[a-z]))?", letter, tex)
    return text if re.fullmatch(r"[\w\s/+=<>(),.]+", text) and "_" not in text else "\0"


def plain(node):
    """The text of a node."""
    if isinstance(node, nodes.math):
        return plain_formula(node.astext())
    if isinstance(node, nodes.Text):
        return str(node)
    return "".join(plain(child) for child in node.children)


def describe(doctree):
    """The first sentences of a page, as many as fit, up to a formula that text cannot show."""
    places = (nodes.section, nodes.document)
    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, places):
            continue
        text = " ".join(plain(paragraph).split())
        found = ""
        for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z“\"*])", text):
            if "\0" in sentence or (found and len(found) + 1 + len(sentence) > DESCRIPTION):
                break
            found = f"{found} {sentence}".strip()
        if len(found) >= 25:
            return found
    return ""


def add_tags(app, pagename, templatename, context, doctree):
    address = app.config.html_baseurl
    tags = [("property", "og:site_name", app.config.html_title or app.config.project)]
    if pagename == app.config.root_doc:
        context["docstitle"] = ""  # the title of the first page is the title of the book
    title = re.sub(r"<[^>]*>", "", context.get("title") or "")
    tags.append(("property", "og:title", title))
    tags.append(("property", "og:type", "book" if pagename == "index" else "article"))
    description = describe(doctree) if doctree is not None else ""
    if description:
        tags.append(("name", "description", description))
        tags.append(("property", "og:description", description))
    if pagename in UNLISTED:
        tags.append(("name", "robots", "noindex"))
    elif address:
        width, height = PREVIEW_SIZE
        tags += [
            ("property", "og:url", context.get("pageurl") or address),
            ("property", "og:image", address + PREVIEW),
            ("property", "og:image:width", width),
            ("property", "og:image:height", height),
            ("property", "og:image:alt", "Where gradient descent ends up, over the learning rate"),
            ("name", "twitter:card", "summary_large_image"),
        ]
    context["head_tags"] = "\n".join(
        f'    <meta {kind}="{name}" content="{escape(unescape(str(value)))}">'
        for kind, name, value in tags
    )


# --- pages and files beside the book's own --------------------------------------------------


def not_found_page(app):
    if app.builder.name == "html":
        yield "404", {"title": "Not found", "body": NOT_FOUND}, "page.html"


def make_absolute(html, root):
    """The page with its own site's addresses from `root` on: a server shows it at any address."""
    html = re.sub(r'\b(href|src|action)="(?![a-z]+:|[/#])', rf'\1="{root}', html)
    return html.replace('data-content_root="./"', f'data-content_root="{root}"')


def sitemap(address, names):
    rows = [f"<url><loc>{escape(address + name)}</loc></url>" for name in sorted(names)]
    return "\n".join(
        ['<?xml version="1.0" encoding="utf-8"?>',
         '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">', *rows, "</urlset>\n"]
    )  # fmt: skip


def draw_preview(cover, target, title):
    """The cover figure with the book's name above it, in the size that messengers ask for."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    width, height = PREVIEW_SIZE
    page = Image.new("RGB", PREVIEW_SIZE, "white")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 60)
    ImageDraw.Draw(page).text((60, 38), title, fill="#1d2733", font=font)
    figure = Image.open(cover).convert("RGBA")
    scale = min((width - 120) / figure.width, (height - 150) / figure.height)
    figure = figure.resize((round(figure.width * scale), round(figure.height * scale)))
    page.paste(figure, ((width - figure.width) // 2, 130), figure)
    page.quantize(64).save(target, "PNG", optimize=True)


def finish(app, error):
    if error or app.builder.name != "html":
        return
    outdir, address = Path(app.outdir), app.config.html_baseurl
    page = outdir / "404.html"
    if page.exists():
        root = urlsplit(address).path or "/"
        page.write_text(make_absolute(page.read_text("utf-8"), root), "utf-8")
    if not address:
        return
    names = [app.builder.get_target_uri(name) for name in app.env.found_docs]
    (outdir / "sitemap.xml").write_text(sitemap(address, names), "utf-8")
    (outdir / "robots.txt").write_text(f"User-agent: *\nSitemap: {address}sitemap.xml\n", "utf-8")
    first = outdir / app.builder.get_target_uri(app.config.root_doc)
    cover = re.search(r'<img[^>]*src="(_images/[^"]*\.png)"', first.read_text("utf-8"))
    if cover:
        draw_preview(outdir / cover[1], outdir / PREVIEW, app.config.project)


def setup(app):
    app.connect("config-inited", read_address)
    app.connect("html-page-context", add_tags)
    app.connect("html-collect-pages", not_found_page)
    app.connect("build-finished", finish, priority=900)  # of the pages as they are in the end
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
