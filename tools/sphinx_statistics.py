"""Sphinx extension: the directive `{statistics}`, what each page holds, how long it took, and the budgets.

It reads `_build/statistics.json`, which `make book` counts from the executed pages, and
benchmarks/budgets.json, which `make budgets` has measured from a fresh clone.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from kept import read_json

logger = logging.getLogger(__name__)

COLUMNS = ("Page", "Seconds", "Cells", "Lines of code", "Figures", "Claims")
KEYS = ("cells", "lines", "figures", "claims")
MEASURED = Path(__file__).resolve().parents[1] / "benchmarks" / "budgets.json"
# What `make budgets` measures, in words, and what it may take in seconds.
BUDGETS = {
    "chapters": ("Execute all chapters", 300),
    "edit": ("`make book` after an edit of the text", 10),
    "test": ("`make test`, with the book built", 480),
}
BUSY = 0.1  # processors that something else takes: from here on a machine is no quiet one


def thousands(number):
    return f"{number:,}".replace(",", "\u202f")


def seconds_of(pages):
    """The time that these pages took together on one core."""
    return sum(page["seconds"] or 0 for page in pages)


def read_budgets():
    return read_json(MEASURED, dict, "restore it from git") if MEASURED.is_file() else {}


def verdict(step, budget):
    """Whether a measured step kept its budget; on a loaded machine that is said, and nothing decided."""
    loaded = f"; {step['others']:.1f} processors were busy with something else"
    if step["seconds"] <= budget:
        return "within" + loaded * (step["others"] > BUSY)
    return f"over{loaded}" if step["others"] > BUSY else "over"


class Statistics(SphinxDirective):
    """A sentence with the sums, one with the time, then a table with a row for each page."""

    def run(self):
        file = Path(self.env.app.outdir).parent / "statistics.json"
        if not file.is_file():
            text = "the statistics are missing: run `make book`, which writes them"
            logger.warning(text, location=self.get_location())
            return []
        self.env.note_dependency(str(file))
        self.env.note_dependency(str(MEASURED))
        data, budgets = read_json(file, dict), read_budgets()
        parts = [nodes.paragraph("", text) for text in self.sentences(data, budgets)]
        if any(name in budgets for name in BUDGETS):
            parts.insert(1, self.budgets(budgets))
        return [*parts, self.table(data)]

    def sentences(self, data, budgets):
        pages, machine = data["pages"], data["machine"]
        sums = {key: thousands(sum(page[key] for page in pages)) for key in KEYS}
        yield (
            f"{len(pages)} pages with code: {sums['cells']} cells, {sums['lines']} lines of code, "
            f"{sums['figures']} figures and {sums['claims']} claims."
        )
        steps = [budgets[name] for name in BUDGETS if name in budgets]
        if not steps:
            yield "What the book costs has not been measured yet: make budgets does it."
        for words in dict.fromkeys(step["measured"] for step in steps):
            yield f"The budgets were measured from a fresh clone {words}."
        if any(step["others"] > BUSY for step in steps):
            yield (
                "That machine was not quiet: the times say what they were, and more than the book takes."
            )
        yield (
            f"The seconds of a page, in the table below, are those of its last execution where this site was built, on "
            f"{machine['cores']} cores with Python {machine['python']}, "
            f"{machine['workers']} pages side by side: {seconds_of(pages):.0f} in all. {self.load(machine)}"
        )

    def load(self, machine):
        """Whether the machine had something else to do when the pages were executed."""
        others = machine.get("others")
        if others is None:
            return "What else that machine had to do is not known."
        if others > BUSY:
            return f"Meanwhile {others:.1f} of its cores were busy with something else, so the book takes less."
        return "That machine had nothing else to do."

    def budgets(self, measured):
        """A table of the budgets: what was measured, and what is allowed."""
        columns = ("Step", "Seconds", "Seconds of a core", "Budget", "Verdict")
        group = nodes.tgroup("", cols=len(columns))
        group.extend(nodes.colspec(colwidth=width) for width in (40, 12, 12, 12, 24))
        body = nodes.tbody("")
        for name, (words, budget) in BUDGETS.items():
            if step := measured.get(name):
                took = (f"{step[key]:.1f}" for key in ("seconds", "processors"))
                what = words.replace("`", "")
                body.append(row(what, *took, str(budget), verdict(step, budget)))
        group.extend([nodes.thead("", row(*columns)), body])
        return nodes.table("", group, classes=["statistics"])

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
