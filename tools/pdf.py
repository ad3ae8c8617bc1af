"""Print the built book as `_build/the-learning-rate.pdf`: what `make pdf` runs after `make book`.

pdf_pages.py makes one document of the site's pages, Chromium prints it. Where headings and other
targets of links came to lie is read from that print; their page numbers are filled in, and it is
printed again until no number changes. Then the PDF is checked; if anything is wrong, none is written.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import book
import pdf_pages

TARGET = book.BUILD / "the-learning-rate.pdf"
SITE = book.BUILD / "html"
FOLDER = book.BUILD / "pdf"  # the document that is printed, and its style sheets and fonts
STYLE = Path(__file__).with_name("pdf.css")
DESCRIPTION = (
    "The one number that decides whether a network learns, crawls or explodes. "
    "Every sentence that can be checked is checked each time the book is built."
)
FONTS = [
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf"),
    *("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSansMono-Oblique.ttf"),
]
START = time.perf_counter()
TEXT_WIDTH = 156  # mm, between the margins that pdf.css sets
PRINTS = 6  # that it takes at most until page numbers are stable
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip

# Makes formulas and tables that are wider than the text as small as they must be; returns what
# still reaches out of it, or is cut off.
FIT = """() => {
  const limit = (element) => (element.closest(".across") ?? document.body).getBoundingClientRect().right + 1;
  const wide = (box) => {
    const range = document.createRange();
    range.selectNodeContents(box);
    return range.getBoundingClientRect().right - limit(box);
  };
  for (const box of document.querySelectorAll(".math-scroll, table, pre, .card-formula .math")) {
    const start = parseFloat(getComputedStyle(box).fontSize);
    for (let size = 0.96; size > 0.5 && Math.max(wide(box), box.scrollWidth - box.clientWidth - 1) > 0; size -= 0.04) {
      box.style.fontSize = `${start * size}px`;
      box.querySelectorAll("math, td, th, p, code").forEach((inner) => {
        if (!inner.dataset.size) inner.dataset.size = parseFloat(getComputedStyle(inner).fontSize) / start;
        if (!inner.matches("math")) inner.style.fontSize = `${start * size * inner.dataset.size}px`;
      });
    }
  }
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("svg") && element.localName !== "svg") continue;
    const right = element.getBoundingClientRect().right;
    const cut = element.scrollWidth > element.clientWidth + 2 && getComputedStyle(element).overflowX !== "visible";
    if (right > limit(element) + 1 || cut)
      found.push(`${element.localName}.${element.className} in ${element.closest("[id]")?.id}: ${element.textContent.slice(0, 60)}`);
  }
  const broken = [...document.images].filter((image) => !image.complete || !image.naturalWidth).map((image) => image.src);
  return { found, broken };
}"""


def say(text):
    print(f"{time.perf_counter() - START:6.1f} s  {text}", flush=True)


# --- the document ---------------------------------------------------------------------------


def edition():
    """(version, date) of the package; the date is the changelog's, so that it is always the same."""
    texts = [(book.ROOT / name).read_text("utf-8") for name in ("pyproject.toml", "CHANGELOG.md")]
    return pdf_pages.edition(*texts)


def site_parts():
    parts = pdf_pages.parts_of((book.ROOT / "_toc.yml").read_text("utf-8"))
    missing = [n for _, names in parts for n in names if not (SITE / f"{n}.html").is_file()]
    if missing:
        sys.exit(f"The built site lacks {', '.join(missing)}: run `make book` first")
    return parts


def write_document(html, folder, sheets=()):
    """Put the document, its style sheets and the fonts that matplotlib carries into a folder."""
    import matplotlib

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "fonts").mkdir(parents=True)
    for font in FONTS:
        shutil.copy(Path(matplotlib.get_data_path(), "fonts", "ttf", font), folder / "fonts")
    for sheet in (STYLE, *sheets):
        shutil.copy(sheet, folder)
    target = folder / "book.html"
    target.write_text(html, "utf-8")
    return target


# --- printing -------------------------------------------------------------------------------


def start_browser(playwright):
    """Chromium of this system where there is one, otherwise playwright's own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")  # fmt: skip
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def open_document(browser, document, numbers=None):
    """(the document as it will be printed, what of it is missing or too wide, as sentences).

    `numbers`: {id: number of its page}, as far as they are known.
    """
    page = browser.new_page(viewport={"width": round(TEXT_WIDTH / 25.4 * 96), "height": 900})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.emulate_media(media="print", color_scheme="light")
    page.goto(document.as_uri(), timeout=0)
    page.evaluate("document.fonts.ready.then(() => true)")
    page.evaluate(
        """(numbers) => document.querySelectorAll(".page").forEach((place) => {
             place.textContent = numbers[place.dataset.of] ?? "000"; })""",
        numbers or {},
    )
    seen = page.evaluate(FIT)
    problems = [f"reaches out of the text, or is cut off: {text}" for text in seen["found"]]
    problems += [f"is no image: {source}" for source in seen["broken"]]
    problems += [f"asks a server: {url}" for url in asked if not url.startswith(("file:", "data:"))]
    return page, problems


def places(reader):
    """{id: number of the page it is on}, of all that a link leads to."""
    pages = {page.indirect_reference.idnum: n for n, page in enumerate(reader.pages, 1)}
    found = reader.named_destinations.items()
    return {name.removeprefix("/"): pages[place.page.idnum] for name, place in found}


# Headings in their order, their text without what formulas only carry for machines.
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((heading) => ({
  level: Number(heading.localName[1]), id: heading.id,
  text: heading.textContent.replace(/[\\u2061-\\u2064]/g, "").replace(/\\s+/g, " ").trim() }))"""

# Pixel pictures; drawings become lines of the page.
PICTURES = """() => new Set([...document.images].map((image) => image.src).filter((source) => /png$/.test(source))).size"""

UNKNOWN = """() => [...document.querySelectorAll(".page")].filter((place) => !(place.textContent > 0))
  .map((place) => `the page of ${place.dataset.of} is not known`)"""


def print_until_stable(browser, document, target):
    """Print until the numbers that are printed are those of the print.

    Each print lays the document out anew: one that was printed before breaks a few pages elsewhere.
    Returns the numbers, the headings, and how many pictures there are.
    """
    from pypdf import PdfReader

    numbers = {}
    for _ in range(PRINTS):
        page, problems = open_document(browser, document, numbers)
        stop_at(problems)
        page.pdf(path=target, outline=True, tagged=True, prefer_css_page_size=True, print_background=True)  # fmt: skip
        reader = PdfReader(target)
        before, numbers = numbers, places(reader)
        moved = [name for name in numbers if numbers[name] != before.get(name)]
        say(f"printed {len(reader.pages)} pages, on which {len(moved)} numbers are not yet right")
        if not moved:
            stop_at(page.evaluate(UNKNOWN))
            found = numbers, page.evaluate(HEADINGS), page.evaluate(PICTURES)
            page.close()
            return found
        page.close()
    sys.exit(f"Page numbers are not stable after {PRINTS} prints: {moved[:5]}")


# --- what Chromium leaves to be mended, in place: nothing in the file moves -----------------


def literal(text):
    """A text as PDF writes it: ASCII where that is enough."""
    raw = text.encode("ascii") if text.isascii() else b"\xfe\xff" + text.encode("utf-16-be")
    escaped = re.sub(rb"[()\\]", lambda match: b"\\" + match[0], raw)
    return b"(" + escaped.replace(b"\r", b"\\r") + b")"


def put(data, place, old, new):
    """Write over a piece of the file. What is shorter is followed by spaces."""
    if len(new) > len(old) or data[place : place + len(old)] != old:
        raise ValueError(f"{new!r} does not fit where {old!r} is")
    data[place : place + len(old)] = new.ljust(len(old))


def outline(reader):
    """[(level, title, page number, object number), …] of the bookmarks, in their order."""
    pages = {page.indirect_reference.idnum: n for n, page in enumerate(reader.pages, 1)}
    found = []

    def walk(parent, level):
        reference = parent.get("/First") and parent.raw_get("/First")
        while reference:
            item = reference.get_object()
            page = pages[item["/Dest"][0].idnum]
            found.append((level, str(item["/Title"]), page, reference.idnum))
            walk(item, level + 1)
            reference = item.get("/Next") and item.raw_get("/Next")

    walk(reader.root_object["/Outlines"], 1)
    return found


def mend(file, headings, *, title, author, description, date):
    """Bookmarks with the headings' own words, chapters closed; the book's data instead of Chromium's.

    Chromium writes a heading twice where it begins a page that has a running head.
    """
    from pypdf import PdfReader

    data, reader = bytearray(file.read_bytes()), PdfReader(file)
    items = outline(reader)
    if len(items) != len(headings):
        sys.exit(f"{len(headings)} headings, but {len(items)} bookmarks")
    for (level, _, _, number), heading in zip(items, headings, strict=True):
        start = reader.xref[0][number]
        old = bytes(data[start : data.index(b"endobj", start)])
        before, after = old.split(b"/Title ", 1)[0], old[old.index(b"\n/Dest") :]
        new = before + b"/Title " + literal(heading["text"]) + after
        if level > 1:  # a negative count: its parts are shown when the reader asks for them
            new = re.sub(rb"/Count (\d+)", rb"/Count -\1", new)
            new = re.sub(rb"(/XYZ [\d.]+)\d ", rb"\1 ", new, count=1)  # makes room for the sign
        put(data, start, old, new)
    facts = {"Title": title, "Author": author, "Subject": description}
    if re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        facts["CreationDate"] = f"D:{date.replace('-', '')}000000Z"
    old = re.search(rb"<</Title.*?>>", data, re.DOTALL)
    lines = [b"/%s %s" % (key.encode(), literal(value)) for key, value in facts.items()]
    put(data, old.start(), old[0], b"<<" + b"\n".join(lines) + b">>")
    file.write_bytes(data)


# --- the check ------------------------------------------------------------------------------


def pictures(reader):
    """How many different pictures the pages show."""
    seen = set()
    for page in reader.pages:
        objects = page["/Resources"].get("/XObject", {})
        for name in objects:
            reference = objects.raw_get(name)
            if reference.get_object().get("/Subtype") == "/Image":
                seen.add(reference.idnum)
    return len(seen)


def problems_of_print(file, numbers, headings, images):
    """What is wrong with the PDF, as sentences."""
    from pypdf import PdfReader

    reader = PdfReader(file)
    found = []
    there = places(reader)
    for number, page in enumerate(reader.pages, 1):
        width, height = page.mediabox.upper_right
        if b"/MCID" not in page.get_contents().get_data():
            found.append(f"page {number} is empty")
        for annotation in page.get("/Annots", []):
            link = annotation.get_object()
            left, bottom, right, top = link["/Rect"]
            if not (0 <= left <= right <= width and 0 <= bottom <= top <= height):
                found.append(f"page {number}: a link lies outside of the page")
            if "/Dest" in link and str(link["/Dest"]).removeprefix("/") not in there:
                found.append(f"page {number}: a link leads to {link['/Dest']}, which is nowhere")
            if str(link.get("/A", {}).get("/URI", "")).startswith("file:"):
                found.append(f"page {number}: a link leads to a file of the building machine")
    for name, printed in numbers.items():
        if there.get(name) != printed:
            found.append(f"{name!r} is said to be on page {printed}, but is on {there.get(name)}")
    bookmarks = outline(reader)
    for (level, title, page, _), heading in zip(bookmarks, headings, strict=True):
        if (level, title) != (heading["level"], heading["text"]):
            found.append(f"the bookmark {title!r} is not the heading {heading['text']!r}")
        if heading["id"] in there and there[heading["id"]] != page:
            found.append(f"the bookmark {title!r} leads to page {page}, not {there[heading['id']]}")
    if (shown := pictures(reader)) < images:
        found.append(f"{images} different pictures are in the document, but {shown} on the pages")
    return found


# --- make pdf -------------------------------------------------------------------------------


def make(browser, document, target, facts):
    """Print a document, with numbers and checks. `facts`: title, author, description and date."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pdf-") as folder:
        draft = Path(folder) / target.name
        numbers, headings, images = print_until_stable(browser, document, draft)
        mend(draft, headings, **facts)
        stop_at(problems_of_print(draft, numbers, headings, images))
        say(f"checked: links, bookmarks, {images} pictures, no page is empty")
        draft.replace(target)


def stop_at(problems):
    if problems:
        lines = "\n  ".join(problems[:40])
        sys.exit(f"The PDF is not written: {len(problems)} problem(s)\n  {lines}")


def main():
    import yaml
    from playwright.sync_api import sync_playwright

    config = yaml.safe_load((book.ROOT / "_config.yml").read_text("utf-8"))
    version, date = edition()
    facts = {"title": config["title"], "author": config["author"], "description": DESCRIPTION, "date": date}  # fmt: skip
    address = os.environ.get("BOOK_URL", "").strip()
    parts = site_parts()
    names = [pdf_pages.PREFACE, *(name for _, names in parts for name in names)]
    sources = {name: (SITE / f"{name}.html").read_text("utf-8") for name in names}
    html = pdf_pages.document(
        sources.get,
        parts,
        **facts,
        version=version,
        sheets=["pygments.css", "book.css", STYLE.name],
        images=os.path.relpath(SITE, FOLDER),
        address=address and address.rstrip("/") + "/",
    )
    say(f"{len(names)} pages of the site are one document")
    stop_at(pdf_pages.problems_of_links(html))
    stop_at(pdf_pages.problems_of_pictures(sources.values(), html))
    sheets = [SITE / "_static" / "pygments.css", book.BOOK / "_static" / "book.css"]
    with sync_playwright() as playwright:
        make(start_browser(playwright), write_document(html, FOLDER, sheets), TARGET, facts)
    say(f"{TARGET.relative_to(book.ROOT)}: {TARGET.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
