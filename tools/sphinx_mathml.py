"""Sphinx extension: formulas become MathML when the site is built, set in the book's own font.

No script runs in the reader's browser for them. TeX that math-core does not understand is a
warning with file and line, so with `-W` the build fails. At the end of the build the font in
tools/fonts is cut down to the characters that the formulas use.
"""

import hashlib
import html
import re
import shutil
from pathlib import Path

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from kept import kept

logger = logging.getLogger(__name__)
converter = LatexToMathML(fancy_error=False)

FONT = Path(__file__).parent / "fonts" / "latinmodern-math.otf"
FONT_LICENCE = FONT.with_name("GUST-FONT-LICENSE.txt")
FAMILY = "LRT Math"  # the licence asks derived fonts to carry another name

# Outer environments of LaTeX, whose numbers Sphinx gives: what is inside them, as an inner one.
INNER = {
    "align": "aligned", "alignat": "alignedat", "flalign": "aligned", "gather": "gathered",
    "multline": "gathered", "eqnarray": "aligned", "equation": None,
}  # fmt: skip


def normalize(tex):
    """The TeX of a display formula as one unnumbered formula that math-core understands."""
    tex = " \\\\\n".join(part.strip() for part in re.split(r"\n\s*\n", tex) if part.strip())
    outer = re.fullmatch(r"\\begin\{(\w+)\*?\}(.*)\\end\{\1\*?\}", tex, re.DOTALL)
    if outer and outer[1] in INNER:
        name, body = INNER[outer[1]], outer[2].strip()
        return rf"\begin{{{name}}}{body}\end{{{name}}}" if name else normalize(body)
    flat, nested = tex, re.compile(r"\\begin\{(\w+\*?)\}(?:(?!\\begin).)*?\\end\{\1\}", re.DOTALL)
    while nested.search(flat):
        flat = nested.sub("", flat)
    flat = re.sub(r"\\substack\{[^}]*\}|\\&", "", flat)
    if "&" in flat:
        return rf"\begin{{aligned}}{tex}\end{{aligned}}"
    if r"\\" in flat:
        return rf"\begin{{gathered}}{tex}\end{{gathered}}"
    return tex


def to_mathml(tex, display, label=False):
    """MathML of a formula, with its TeX as the alternative text; LatexError if TeX is bad.

    `label` makes the TeX its name too, for places where a formula alone counts as empty.
    """
    tex = normalize(tex) if display else tex
    mathml = converter.convert_with_local_state(tex, displaystyle=display)
    alt = html.escape(" ".join(tex.split()))
    name = f' aria-label="{alt}"' if label else ""
    return mathml.replace("<math", f'<math alttext="{alt}"{name}', 1)


def in_table_head(node):
    while node is not None and not isinstance(node, nodes.thead):
        node = node.parent
    return node is not None


def render(writer, node, display):
    tex = node.astext()
    try:
        writer.body.append(to_mathml(tex, display, label=in_table_head(node)))
    except LatexError as error:
        logger.warning("bad formula: %s\n    %s", error, tex.strip(), location=node)
        writer.body.append(f"<code>{html.escape(tex)}</code>")


def visit_math(writer, node):
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate"))
    render(writer, node, display=False)
    writer.body.append("</span>")
    raise nodes.SkipNode


def visit_displaymath(writer, node):
    """A row: the formula, which scrolls in its own box when it is wide, then its number."""
    writer.body.append(writer.starttag(node, "div", "", CLASS="math notranslate"))
    writer.body.append('<div class="math-scroll">')
    render(writer, node, display=True)
    writer.body.append("</div>")
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def characters(pages):
    """The characters in the formulas of these HTML files, with the letters' italic forms."""
    # √ stands in no text: browsers draw it for the elements msqrt and mroot
    used = set("0123456789+−=<>≤≥()[]{}|/,.;:!?'′√")
    letters = set()
    for page in pages:
        for formula in re.findall(r"<math\b.*?</math>", page.read_text("utf-8"), re.DOTALL):
            text = html.unescape(re.sub(r"<[^>]*>", "", formula))
            used |= set(text)
            letters |= {c for c in text if c.isalpha()}
    # a browser shows <mi>x</mi> as the italic letter of Unicode's mathematical alphabet
    italic = {chr(0x1D44E + ord(c) - ord("a")) for c in letters if "a" <= c <= "z"}
    italic |= {chr(0x1D434 + ord(c) - ord("A")) for c in letters if "A" <= c <= "Z"}
    italic |= {chr(0x1D6FC + ord(c) - ord("α")) for c in letters if "α" <= c <= "ω"}
    italic |= {chr(0x1D6E2 + ord(c) - ord("Α")) for c in letters if "Α" <= c <= "Ω"}
    variants = {"ϵ": "𝜖", "ϑ": "𝜗", "ϰ": "𝜘", "ϕ": "𝜙", "ϱ": "𝜚", "ϖ": "𝜛", "∂": "𝜕", "h": "ℎ"}
    italic |= {variants[c] for c in used & set(variants)}
    return "".join(sorted(c for c in used | italic if c.isprintable()))


def write_font(target, text):
    """Write the characters `text` of the font to `target` as woff2, under the name FAMILY."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    from webfont import save_subset

    font = TTFont(FONT, recalcTimestamp=False)  # the same characters give the same file
    for record in font["name"].names:
        if record.nameID in (0, 7, 13):  # copyright, trademark, licence: as they are
            continue
        renamed = record.toUnicode().replace("Latin Modern Math", FAMILY)
        renamed = renamed.replace("LatinModernMath", FAMILY.replace(" ", ""))
        record.string = renamed.encode(record.getEncoding())
    cff = font["CFF "].cff
    cff.fontNames[0] = FAMILY.replace(" ", "") + "-Regular"
    cff.topDictIndex[0].FullName = cff.topDictIndex[0].FamilyName = FAMILY
    # Primes stand in superscripts: take the form drawn for that, which browsers do not look for.
    for table in font["cmap"].tables:
        for prime in {0x2032, 0x2033, 0x2034} & set(table.cmap):
            script_form = table.cmap[prime] + ".st"
            if script_form in font.getReverseGlyphMap():
                table.cmap[prime] = script_form
    unneeded = [*subset.Options().drop_tables, "DSIG", "FFTM"]
    save_subset(font, text, target, layout_features=["*"], drop_tables=unneeded)


def finish(app, error):
    """When the site is built: put the book's own cut of the font beside its other files."""
    if error or app.builder.format != "html":
        return
    outdir = Path(app.outdir)
    text = characters(sorted(outdir.rglob("*.html")))
    key = hashlib.sha256(text.encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    font = kept(outdir.parent / ".slim", key, ".woff2", lambda path: write_font(path, text))
    target = outdir / "_static" / "fonts"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(font, target / "lrt-math.woff2")
    shutil.copyfile(FONT_LICENCE, target / FONT_LICENCE.name)


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
