"""Sphinx extension: the directive `{statistics}`, what each page holds and how long it took.

It reads `_build/statistics.json`, which `make book` counts from the executed pages.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from kept import read_json

logger = logging.getLogger(__name__)

COLUMNS = ("Page", "Seconds", "Cells", "Lines of code", "Figures", "Claims")
KEYS = ("cells", "lines", "figures", "claims")
BUDGET = 300  # seconds for all chapters
BUDGET_AFTER_PROSE = 10  # seconds for a build that executes nothing


def thousands(number):
    return f"{number:,}".replace(",", "\u202f")


def seconds_of(pages):
    """The time that these pages took together on one core."""
    return sum(page["seconds"] or 0 for page in pages)


def compare(seconds, budget):
    return (
        f"within its budget of {budget} s"
        if seconds <= budget
        else f"over its budget of {budget} s"
    )


class Statistics(SphinxDirective):
    """A sentence with the sums, one with the time, then a table with a row for each page."""

    def run(self):
        file = Path(self.env.app.outdir).parent / "statistics.json"
        if not file.is_file():
            text = "the statistics are missing: run `make book`, which writes them"
            logger.warning(text, location=self.get_location())
            return []
        self.env.note_dependency(str(file))
        data = read_json(file, dict)
        return [*(nodes.paragraph("", text) for text in self.sentences(data)), self.table(data)]

    def sentences(self, data):
        pages, machine, builds = data["pages"], data["machine"], data.get("builds", {})
        sums = {key: thousands(sum(page[key] for page in pages)) for key in KEYS}
        core = seconds_of(pages)
        yield (
            f"{len(pages)} pages with code: {sums['cells']} cells, {sums['lines']} lines of code, "
            f"{sums['figures']} figures and {sums['claims']} claims."
        )
        text = (
            f"Executed one after the other they take {core:.0f} seconds. {machine['workers']} run side by "
            f"side, so on an idle machine all of it takes about {core / machine['workers']:.0f} seconds, "
            f"{compare(core / machine['workers'], BUDGET)}. This build ran on {machine['cores']} cores "
            f"with Python {machine['python']}; a page's time is that of its last execution here."
        )
        if "all" in builds:
            text += (
                f" The last build that executed everything took {builds['all']:.0f} seconds in all."
            )
        if "none" in builds:
            text += (
                f" The last that had nothing to execute, as after a change of the text, took "
                f"{builds['none']:.0f} seconds, {compare(builds['none'], BUDGET_AFTER_PROSE)}."
            )
        yield text

    def table(self, data):
        group = nodes.tgroup("", cols=len(COLUMNS))
        group.extend(nodes.colspec(colwidth=width) for width in (50, 10, 10, 10, 10, 10))
        body = nodes.tbody("")
        for page in data["pages"]:
            uri = self.env.app.builder.get_relative_uri(self.env.docname, page["page"])
            link = nodes.reference("", page["title"], refuri=uri, internal=True)
            took = "–" if page["seconds"] is None else f"{page['seconds']:.1f}"
            body.append(row(link, took, *(thousands(page[key]) for key in KEYS)))
        group.extend([nodes.thead("", row(*COLUMNS)), body])
        return nodes.table("", group, classes=["statistics"])


def row(*cells):
    contents = [cell if isinstance(cell, nodes.Node) else nodes.Text(cell) for cell in cells]
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", c)) for c in contents))


def setup(app):
    app.add_directive("statistics", Statistics)
    return {"version": "1", "parallel_read_safe": True}
