"""Sphinx extension: mends and slims what the book's theme and extensions write.

Each mended fault is named with the check of tests/site that finds it. Slimming: figures get a
palette (a quarter of the bytes), the theme's icon font only the icons that are used.
"""

import hashlib
import re
import shutil
from functools import partial
from pathlib import Path

from kept import kept


def mend(app, pagename, templatename, context, doctree):
    body = context.get("body")
    if not body:
        return
    # sphinx-proof and sphinx-exercise give every box the same id (repeated id)
    body = re.sub(r' id="(proof|(proof|exercise|solution)-content)"', "", body)
    # sphinxcontrib-bibtex: a role that is deprecated, in a list that then has no items (axe)
    body = body.replace(' role="doc-biblioentry"', ' role="listitem"')
    # myst-nb: a name that differs from the visible "Show code" (axe)
    body = re.sub(r'(<summary\b[^>]*?) aria-label="[^"]*"', r"\1", body)
    # a formula keeps its punctuation: browsers would break the line between them
    body = re.sub(
        r'([(\[“"]*)(<span class="math notranslate">.*?</span>)((?:[.,;:!?)\]”"%]|-\w+|th\b)*)',
        lambda m: f'<span class="together">{m[0]}</span>' if m[1] or m[3] else m[0],
        body,
        flags=re.DOTALL,
    )
    context["body"] = body


def with_palette(source, target):
    """Write the PNG `source` with at most 256 colours to `target`, unless that is no smaller."""
    from PIL import Image

    image = Image.open(source)
    if image.mode != "P":
        small = image.convert("RGBA").quantize(
            256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        )
        small.save(target, "PNG", optimize=True)
    if not target.exists() or target.stat().st_size >= source.stat().st_size:
        shutil.copyfile(source, target)


def used_icons(css, pages):
    """The characters of the icon font that the theme's own rules or the pages' classes name."""
    classes = set(re.findall(r"fa-[a-z0-9-]+", "".join(page.read_text("utf-8") for page in pages)))
    classes |= {"fa-xmark"}  # the theme's script makes it
    icons = set()
    for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", css):
        names = set(re.findall(r"\.(fa-[a-z0-9-]+)", selector))
        if not names or names & classes:
            icons |= {chr(int(code, 16)) for code in re.findall(r'"\\(f[0-9a-f]{3})"', rule)}
    return "".join(sorted(icons))


def write_icons(source, target, icons):
    """Write these icons of the font `source` to `target`, under another name (its licence asks)."""
    from fontTools.ttLib import TTFont

    from webfont import save_subset

    font = TTFont(source, recalcTimestamp=False)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16, 18):
            record.string = "BookIcons".encode(record.getEncoding())
    save_subset(font, icons, target)


def slim(app, error):
    if error or app.builder.format != "html":
        return
    outdir = Path(app.outdir)
    # Results of earlier builds, by the hash of what they are made of.
    folder = outdir.parent / ".slim"
    for image in sorted((outdir / "_images").glob("*.png")):
        key = hashlib.sha256(image.read_bytes()).hexdigest()
        small = kept(folder, key, ".png", partial(with_palette, image))
        shutil.copyfile(small, image)

    static = outdir / "_static"
    css = (static / "styles" / "pydata-sphinx-theme.css").read_text("utf-8")
    icons = used_icons(css, sorted(outdir.rglob("*.html")))
    font = static / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.woff2"
    key = hashlib.sha256(font.read_bytes() + icons.encode()).hexdigest()
    source = font.with_suffix(".ttf")
    small = kept(folder, key, ".woff2", lambda target: write_icons(source, target, icons))
    shutil.copyfile(small, font)


def setup(app):
    app.connect("html-page-context", mend)
    app.connect("build-finished", slim)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
