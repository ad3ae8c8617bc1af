"""The site's pages as one document for paper: what `make pdf` prints.

The pages are those of the built site, so numbers, formulas and figures are the site's own. Here each
page's ids get the page's name, links follow them, and what a mouse opens is laid out for paper:
solutions and folded code are gathered at the end of each chapter.

A number of a page is not known before it is printed. It stands in the document as
`<span class="page" data-of="id">000</span>`, and pdf.py fills it in.
"""

import hashlib
import posixpath
import re
import tomllib
from html import escape
from urllib.parse import unquote, urldefrag

import yaml
from bs4 import BeautifulSoup

# What makes no sense on paper. Links to these pages become plain text.
LEFT_OUT = {"reference/statistics"}
LONGEST = 110  # characters of an id: a name in a PDF has at most 127
UNLISTED = {"reference/claims"}  # its sections are the chapters again: not in the contents
MOST_COLUMNS = 12  # of a table that can be read on an upright page
CONTENTS, PREFACE = "contents", "index"
ROMAN = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X"]
REMOVED = (
    "a.headerlink, script, button, .interactive-controls, .book-doors, .toctree-wrapper, "
    ".sd-tab-set > input, summary"
)
# Attributes that name ids of the same page.
POINTERS = ("for", "aria-controls", "aria-labelledby", "aria-describedby")
# Tokens of code in the colour of text. Each element becomes an object of the PDF, and they are half of all.
COLOURLESS = re.compile(r'<span class="(?:n|p|w|nn)">([^<]*)</span>|<span></span>')
PICTURE = re.compile(r'<img\b[^<>]*\ssrc="[^"]*_images/([^"]+)"')
PLACE = '<span class="page" data-of="{}">{}</span>'


def anchor(page, name=""):
    """The id, in the document of all pages, of a page or of what has this id on it."""
    whole = f"{page}..{name}" if name else page
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", whole)
    if len(readable) <= LONGEST and whole.isascii():
        return readable
    return f"{readable[: LONGEST - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def parts_of(toc):
    """[(caption, [page, …]), …] of the text of _toc.yml."""
    parts = yaml.safe_load(toc)["parts"]
    return [
        (part["caption"], [c["file"] for c in part["chapters"] if c["file"] not in LEFT_OUT])
        for part in parts
    ]


def edition(pyproject, changelog):
    """'Version 0.1.0, 2026-12-01': of the package, and its date in the changelog."""
    version = tomllib.loads(pyproject)["project"]["version"]
    heading = re.search(rf"^## {re.escape(version)} \((.+)\)", changelog, re.MULTILINE)
    return version, heading[1] if heading else "unreleased"


# --- one page -------------------------------------------------------------------------------


class Page:
    """The article of a page of the site, being changed into its part of the document."""

    def __init__(self, name, html):
        self.name = name
        self.code = []  # nothing changes in code, which is most of a page's elements: set aside
        html = re.sub(r"(<pre[^>]*>)(.*?)</pre>", self.set_aside, html, flags=re.DOTALL)
        self.soup = BeautifulSoup(html, "html.parser")
        self.article = self.soup.select_one("article.bd-article")
        heading = self.article.h1
        for link in heading.select("a.headerlink"):
            link.decompose()
        self.title = " ".join(heading.get_text().split())

    def set_aside(self, match):
        self.code.append(COLOURLESS.sub(r"\1", match[2]))
        return f"{match[1]}\ue000{len(self.code) - 1}\ue000</pre>"

    def __str__(self):
        return re.sub(
            "\ue000(\\d+)\ue000", lambda match: self.code[int(match[1])], str(self.article)
        )

    def tag(self, name, text="", **attributes):
        attributes = {key.rstrip("_").replace("_", "-"): v for key, v in attributes.items()}
        tag = self.soup.new_tag(name, attrs=attributes)
        if text:
            tag.string = text
        return tag

    def place(self, name):
        """Where the number of the page with this id will stand."""
        return BeautifulSoup(PLACE.format(name, "000"), "html.parser").span

    def make(self, pages, images, address=""):
        """Change it. `images`: where the site's root is, from the document."""
        self.article.name = "section"
        for element in self.article.select(REMOVED):
            element.decompose()
        self.lay_open()
        self.rename()
        self.redirect(pages, images, address)
        self.move_code()
        self.move_solutions()
        self.shift_headings()
        self.article["id"] = anchor(self.name)
        return self

    def lay_open(self):
        """What a click shows is shown, what a click changes is a picture."""
        for figure in self.article.select(".interactive"):
            figure.append(self.tag("p", "Interactive on the site.", class_="only-on-site"))
        for details in self.article.select("details"):
            details["open"] = ""
        for link in self.article.select("a.download"):
            name = link.get_text()
            text = "The exercises in code are also a notebook, which checks your answers: "
            line = self.tag("p", text, class_="notebook")
            line.append(self.tag("code", f"exercises/{name}"))
            link.find_parent("p").replace_with(line)
        for image in self.article.select("img"):
            image.attrs.pop("loading", None)
        for table in self.article.select(".rules-table"):
            row = table.select_one("tbody tr")
            if row and len(row.find_all(["th", "td"])) > MOST_COLUMNS:
                table["class"].append("across")

    def rename(self):
        """Give each id the page's name, and whatever points to it."""
        for element in self.article.select("[id]"):
            element["id"] = anchor(self.name, element["id"])
        for attribute in POINTERS:
            for element in self.article.select(f"[{attribute}]"):
                ids = element[attribute].split()
                element[attribute] = " ".join(anchor(self.name, name) for name in ids)
        for picture in self.article.select("svg"):
            for element in picture.find_all(True):
                for key, value in element.attrs.items():
                    if isinstance(value, str) and "url(#" in value:
                        element[key] = re.sub(
                            r"url\(#([^)]*)\)", lambda m: f"url(#{anchor(self.name, m[1])})", value
                        )

    def redirect(self, pages, images, address):
        """Links lead to places in the document; where there is none, to the site, or nowhere."""
        folder = posixpath.dirname(self.name)
        for image in self.article.select("img[src]"):
            image["src"] = posixpath.normpath(posixpath.join(images, folder, image["src"]))
        for link in self.article.select("a[href]"):
            if re.match(r"[a-z]+:", link["href"]):
                continue
            path, name = urldefrag(link["href"])
            path = posixpath.normpath(posixpath.join(folder, path)) if path else f"{self.name}.html"
            page = path.removesuffix(".html")
            if (page, name) == (PREFACE, "the-map-of-the-book"):
                link["href"] = f"#{CONTENTS}"
                continue
            if page in pages and path.endswith(".html"):
                link["href"] = "#" + anchor(page, unquote(name))
                if page != self.name and not re.search(r"glossary|bibliography", page):
                    number = self.tag("span", " (p.\u00a0", class_="at")
                    number.append(self.place(link["href"][1:]))
                    number.append(")")
                    link.insert_after(number)
            elif path.endswith(".html") and address:
                link["href"] = address + path + (f"#{name}" if name else "")
            else:
                link.unwrap()

    def appendix(self, name, title):
        section = self.tag("section", id=anchor(self.name, name), class_=f"gathered {name}")
        section.append(self.tag("h2", title))
        return section

    def move_code(self):
        """Folded code goes to the end of the chapter; a line says where, and there where from."""
        folded = self.article.select("details.hide")
        if not folded:
            return
        section = self.appendix("folded-code", "Code that is folded on the site")
        for number, details in enumerate(folded, 1):
            here, there = (anchor(self.name, f"{kind}-{number}") for kind in ("cell", "code"))
            cell = details.find_parent(class_="cell") or details
            caption = cell.select_one(".caption-number")
            shown = cell.select_one(".cell_output")
            subject = (
                caption.get_text().strip()
                if caption
                else ["this step", "what is shown"][bool(shown)]
            )
            note = self.tag("p", class_="code-note", id=here)
            link = self.tag("a", f"Code of {subject}: page\u00a0", href=f"#{there}")
            link.append(self.place(there))
            note.append(link)
            head = self.tag("p", class_="code-head", id=there)
            back = self.tag("a", f"Code of {subject} on page\u00a0", href=f"#{here}")
            back.append(self.place(here))
            head.append(back)
            listing = self.tag("div", class_="listing")
            listing.append(head)
            for block in details.select(".cell_input"):
                listing.append(block.extract())
            section.append(listing)
            details.decompose()
            cell.append(note)
        self.body().append(section)

    def move_solutions(self):
        """Solutions go to the end of the chapter, before the code."""
        found = self.article.select("div.solution")
        if not found:
            return
        section = self.appendix("solutions", "Solutions")
        for solution in found:
            link = solution.select_one(".admonition-title a[href^='#']")
            exercise = link and self.article.find(id=link["href"][1:])
            if exercise and solution.get("id"):
                note = self.tag("p", class_="solution-note")
                there = self.tag("a", "Solution: page\u00a0", href=f"#{solution['id']}")
                there.append(self.place(solution["id"]))
                note.append(there)
                exercise.append(note)
            section.append(solution.extract())
        code = self.article.select_one(".gathered.folded-code")
        code.insert_before(section) if code else self.body().append(section)

    def body(self):
        return self.article.select_one("section") or self.article

    def shift_headings(self):
        """Parts have h1, so chapters have h2, their sections h3; the preface stands beside parts."""
        for level in (5, 4, 3, 2, 1):
            for heading in self.article.select(f"h{level}"):
                heading.name = f"h{level + (self.name != PREFACE)}"
                if not heading.get("id"):
                    section = heading.find_parent("section", id=True)
                    heading["id"] = section["id"] + "..head"

    def sections(self):
        """[(id, title), …] of the page's sections."""
        return [
            (heading["id"], " ".join(heading.get_text().split()))
            for heading in self.article.select("h3")
        ]


def preface(page):
    """The landing page without what only a screen needs: map, doors, its figure."""
    page.article["class"] = ["bd-article", "preface"]
    for section in page.article.select("section[id$='the-map-of-the-book']"):
        section.decompose()
    for cell in page.article.select(".cell"):
        emphasis = cell.find_next_sibling("p")
        if emphasis:
            emphasis.decompose()
        cell.decompose()
    page.article.h1.string = page.title = "Before you begin"


# --- the document ---------------------------------------------------------------------------


def entry(name, title, kind):
    number = PLACE.format(name, "000")
    return f'<a class="{kind}" href="#{name}"><span class="entry">{escape(title)}</span><span class="dots"></span>{number}</a>'


def contents(parts, pages):
    """The table of contents: each chapter, and its sections run in below it."""
    lines = [f'<nav class="contents" id="{CONTENTS}"><h1>Contents</h1>']
    lines.append(entry(anchor(PREFACE), pages[PREFACE].title, "chapter"))
    for number, (caption, names) in enumerate(parts, 1):
        lines.append(entry(f"part-{number}", f"{ROMAN[number]}. {caption}", "part"))
        for name in names:
            lines.append(entry(anchor(name), pages[name].title, "chapter"))
            within = [
                f'<a href="#{id_}">{escape(title)}&#160;{PLACE.format(id_, "000")}</a>'
                for id_, title in pages[name].sections()
            ]
            if within and name not in UNLISTED:
                lines.append(f'<p class="within">{" · ".join(within)}</p>')
    return "\n".join([*lines, "</nav>"])


def part_page(number, caption, names, pages):
    rows = "\n".join(entry(anchor(name), pages[name].title, "chapter") for name in names)
    return (
        f'<section class="part" id="part-{number}"><p class="part-number">Part {ROMAN[number]}</p>'
        f"<h1>{escape(caption)}</h1>\n{rows}</section>"
    )


def running_heads(parts, pages):
    """A named page for each chapter, whose margin has the titles of the part and the chapter."""
    rules = []
    for caption, names in [("", [PREFACE]), *parts]:
        for name in names:
            page = anchor(name).replace(".", "-")
            left, right = (
                text.replace("\\", "").replace('"', "\\22 ")
                for text in (caption, pages[name].title)
            )
            rules.append(
                f'@page {page} {{ @top-left {{ content: "{left}" }} @top-right {{ content: "{right}" }} }}\n'
                f'[id="{anchor(name)}"] {{ page: {page} }}'
            )  # fmt: skip
    return "\n".join(rules)


def document(read, parts, *, title, author, description, version, date, sheets, images, address=""):
    """The whole HTML document. `read(name)` gives the HTML of a page of the site."""
    names = [PREFACE, *(name for _, names in parts for name in names)]
    pages = {}
    for name in names:
        pages[name] = Page(name, read(name))
        if name == PREFACE:
            cover = pages[name].article.select_one(".cell_output img")
            cover = cover and posixpath.join(images, cover["src"])
            preface(pages[name])
        pages[name].make(names, images, address)
    body = [
        f'<header class="title-page"><p class="book-title">{escape(title)}</p>',
        f'<p class="book-line">{escape(description)}</p>',
        f'<img src="{cover}" alt="">' if cover else "",
        f'<p class="book-edition">Version {version}, {date}<br>{escape(author)}</p></header>',
        contents(parts, pages),
        str(pages[PREFACE]),
    ]
    for number, (caption, members) in enumerate(parts, 1):
        body.append(part_page(number, caption, members, pages))
        body += [str(pages[name]) for name in members]
    links = "\n".join(f'<link rel="stylesheet" href="{sheet}">' for sheet in sheets)
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8">
<title>{escape(title)}</title><meta name="author" content="{escape(author)}">
{links}
<style>{running_heads(parts, pages)}</style></head>
<body>
{chr(10).join(body)}
</body></html>
"""


def problems_of_pictures(sources, html):
    """Pictures of the site's pages, given as HTML, that the document does not show, as sentences."""
    found = [name for text in sources for name in PICTURE.findall(text)]
    there = set(PICTURE.findall(html))
    return [f"the picture {name} is missing" for name in dict.fromkeys(found) if name not in there]


def problems_of_links(html):
    """Ids that are not unique, and links that lead to none, as sentences."""
    ids = re.findall(r'<[^<>]*\sid="([^"]*)"', html)
    targets = set(re.findall(r'<a\b[^<>]*\shref="#([^"]*)"', html))
    targets |= set(re.findall(r'data-of="([^"]*)"', html))
    twice = (
        sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    )
    return [f"two places have the id {name!r}" for name in twice] + [
        f"a link leads to {name!r}, which is nowhere" for name in sorted(targets - set(ids))
    ]
