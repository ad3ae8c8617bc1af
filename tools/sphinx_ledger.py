"""Sphinx extension: the directive `{ledger}`, a table of all claims of the book.

It reads `_build/ledger.json`, which `make book` gathers from the executed chapters.
"""

import json
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

COLUMNS = ("Claim", "Measured", "Expected", "Source")


class Ledger(SphinxDirective):
    """A sentence that counts, then a section with a table for each chapter."""

    def run(self):
        file = Path(self.env.app.outdir).parent / "ledger.json"
        if not file.is_file():
            message = "the ledger of claims is missing (%s): run `make book`, which writes it"
            logger.warning(message, file.name, location=self.get_location())
            return []
        self.env.note_dependency(str(file))
        chapters = {}
        for claim in json.loads(file.read_text("utf-8"))["claims"]:
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


def setup(app):
    app.add_directive("ledger", Ledger)
    return {"version": "1", "parallel_read_safe": True}
