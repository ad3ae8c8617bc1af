"""Sphinx extension: the directive `{ledger}`, a table of all claims of the book, the role `{claim}`,
a link to one of them, and the directive `{claims-under-seeds}`, what `make claims-seeds` found.

    {claim}`schedules/decay: At t = 60 the compounding formula`
    {claim}`both drawn <schedules/decay: At t = 60 the compounding formula>`

A claim is called by its page and its name, or a beginning of the name that no other claim of the
page has. Both read `_build/ledger.json`, which `make book` gathers from the executed chapters; what
was found under other seeds is in `benchmarks/claims-seeds.json`, which is committed.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import ReferenceRole, SphinxDirective

import book
import claims_seeds
from kept import read_json

logger = logging.getLogger(__name__)

COLUMNS = ("Claim", "Measured", "Expected", "Source")


MISSING = "the ledger of claims is missing: run `make book`, which writes it"


def read_claims(env):
    """The rows of the ledger, on which the present page then depends; None if there is none."""
    file = Path(env.app.outdir).parent / "ledger.json"
    if not file.is_file():
        return None
    env.note_dependency(str(file))
    return read_json(file, dict)["claims"]


def find_claim(claims, target):
    """The row that `page: name` calls. Raises LookupError, which says what is wrong."""
    page, _, name = target.partition(": ")
    there = [claim for claim in claims if claim["chapter"] == page]
    if not there:
        raise LookupError(f"no claim is made on the page {page!r}")
    exact = [claim for claim in there if claim["name"] == name]
    found = exact or [claim for claim in there if name and claim["name"].startswith(name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} claims of {page} begin with {name!r}")
    return found[0]


class ClaimRole(ReferenceRole):
    """A link to a claim: the text that is given, or the name of the claim."""

    def run(self):
        claims = read_claims(self.env)
        try:
            if claims is None:
                raise LookupError(MISSING)
            claim = find_claim(claims, self.target)
        except LookupError as error:
            logger.warning("%s", error, location=self.get_location())
            return [nodes.inline("", self.title)], []
        page = self.env.app.builder.get_relative_uri(self.env.docname, claim["chapter"])
        text = self.title if self.has_explicit_title else claim["name"]
        uri = f"{page}#{claim['id']}"
        return [nodes.reference("", text, refuri=uri, internal=True, classes=["to-claim"])], []


class Ledger(SphinxDirective):
    """A sentence that counts, then a section with a table for each chapter."""

    def run(self):
        rows = read_claims(self.env)
        if rows is None:
            logger.warning(MISSING, location=self.get_location())
            return []
        chapters = {}
        for claim in rows:
            chapters.setdefault(claim["chapter"], []).append(claim)
        count = sum(len(claims) for claims in chapters.values())
        failed = sum(c["verdict"] != "holds" for claims in chapters.values() for c in claims)
        verdict = "All of them hold." if not failed else f"{failed} of them do not hold."
        text = f"{count} claims in {len(chapters)} chapters. {verdict}"
        found = [nodes.paragraph("", text, classes=["ledger-count"])]
        return found + [self.section(name, claims) for name, claims in chapters.items()]

    def section(self, chapter, claims):
        if chapter not in self.env.found_docs:
            logger.warning(
                "the ledger names a chapter that is not in the book: %s (run `make book`)",
                chapter, location=self.get_location(),
            )  # fmt: skip
        title = claims[0].get("title") or chapter
        section = nodes.section("", nodes.title("", title), names=["ledger " + chapter])
        self.state.document.note_implicit_target(section)
        head = nodes.row("", *(nodes.entry("", nodes.paragraph("", c)) for c in COLUMNS))
        body = nodes.tbody("", *(self.row(claim) for claim in claims))
        group = nodes.tgroup("", cols=len(COLUMNS))
        group.extend(nodes.colspec(colwidth=width) for width in (46, 18, 22, 14))
        group.extend([nodes.thead("", head), body])
        section.append(nodes.table("", group, classes=["ledger"]))
        return section

    def row(self, claim):
        page = self.env.app.builder.get_relative_uri(self.env.docname, claim["chapter"])
        link = nodes.reference("", claim["name"], refuri=f"{page}#{claim['id']}", internal=True)
        cells = [
            [nodes.paragraph("", "", link)],
            [nodes.paragraph("", str(claim["measured"]))],
            [nodes.paragraph("", claim["expected"])],
            [],
        ]
        if claim.get("source"):
            cells[3] = self.parse_text_to_nodes(f"{{cite:t}}`{claim['source']}`")
        return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


class ClaimsUnderSeeds(SphinxDirective):
    """What `make claims-seeds` found when it last ran on each page, and which pages changed since."""

    def run(self):
        self.env.note_dependency(str(claims_seeds.SUMMARY))
        known = book.chapters()
        codes = {name: claims_seeds.code_of(path) for name, path in known.items()}
        return [nodes.paragraph("", under_seeds(claims_seeds.read(claims_seeds.SUMMARY), codes))]


def under_seeds(found, codes):
    """Sentences about the summaries that were `found`, where `codes` are the pages as they are now."""
    seeded = [page for page in found.values() if page["seeded"]]
    if not seeded:
        return "No page has been executed under other seeds yet."
    claims = sum(page["claims"] for page in seeded)
    failed = [(name, what, page["seeds"], shifts) for name, page in found.items()
              for what, shifts in page["failed"].items()]  # fmt: skip
    least, most = min(p["seeds"] for p in seeded), max(p["seeds"] for p in seeded)
    often = f"{least}" if least == most else f"{least} to {most}"
    pages = (
        "1 page that draws random numbers was"
        if len(seeded) == 1
        else (f"{len(seeded)} pages that draw random numbers were")
    )
    text = f"{pages} executed again with all seeds replaced, {often} times each: {claims} claims. "
    if failed:
        text += "Not under all seeds held: " + "; ".join(
            f"“{what}” ({name}, failed {len(shifts)} of {seeds} times)"
            for name, what, seeds, shifts in failed
        )
    else:
        text += "All of them held each time"
    text += "."
    if fixed := len(found) - len(seeded):
        text += f" {fixed} {'page uses' if fixed == 1 else 'pages use'} no seed."
    if changed := [name for name in found if name in codes and codes[name] != found[name]["code"]]:
        text += f" The code of these pages has changed since: {', '.join(changed)}."
    if new := sorted(codes.keys() - found.keys()):
        text += f" Not executed in this way yet: {', '.join(new)}."
    return text


def setup(app):
    app.add_directive("ledger", Ledger)
    app.add_directive("claims-under-seeds", ClaimsUnderSeeds)
    app.add_role("claim", ClaimRole())
    return {"version": "1", "parallel_read_safe": True}
