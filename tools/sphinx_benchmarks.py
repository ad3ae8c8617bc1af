"""Sphinx extension: the directive `{benchmarks}`, the tables that `make bench` has measured.

It reads benchmarks/results.json, which is committed: a build of the book times nothing.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from kept import DamagedError, read_json

logger = logging.getLogger(__name__)

ORDER = ["sweeps", "optimizer_step", "training", "quadratics", "memory"]
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results.json"


def duration(seconds):
    """Three digits of a time, in the unit that suits it."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"


def cells_of(row):
    """{column: text} of one row: its times, with how they compare with the first, or megabytes."""
    if "megabytes" in row:
        return {name: f"{value:.0f} MB" for name, value in row["megabytes"].items()}
    cells = {}
    for name, seconds in row["variants"].items():
        ratio = row["ratios"].get(name)
        cells[name] = duration(seconds) + (f" ({ratio:.3g}×)" if ratio else "")
    return cells


def place(row):
    """Where a row comes; subjects that ORDER does not know come last."""
    return ORDER.index(row["subject"]) if row["subject"] in ORDER else len(ORDER)


class Benchmarks(SphinxDirective):
    """When and on what it was measured, once where it is the same, and a section a table."""

    def run(self):
        self.env.note_dependency(str(RESULTS))
        try:
            results = read_json(RESULTS, list, "run `git checkout -- benchmarks/results.json`")
        except DamagedError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        tables = {}
        for row in sorted(results, key=place):
            tables.setdefault(row["table"], []).append(row)
        everywhere = {row["measured"] for row in results}
        head = [measured(*everywhere)] if len(everywhere) == 1 else []
        sections = [self.section(title, rows, not head) for title, rows in tables.items()]
        return [*head, *sections]

    def section(self, title, rows, dated):
        section = nodes.section("", nodes.title("", title), names=["benchmark " + title])
        self.state.document.note_implicit_target(section)
        if dated:
            section.append(measured(rows[0]["measured"]))
        columns = list(dict.fromkeys(name for row in rows for name in cells_of(row)))
        group = nodes.tgroup("", cols=1 + len(columns))
        group.extend(nodes.colspec(colwidth=20) for _ in range(1 + len(columns)))
        body = nodes.tbody("")
        for row in rows:
            cells = cells_of(row)
            body.append(table_row([row["name"], *(cells.get(name, "–") for name in columns)]))
        group.extend([nodes.thead("", table_row(["case", *columns])), body])
        section.append(nodes.table("", group, classes=["benchmarks"]))
        return section


def measured(text):
    return nodes.paragraph("", f"Measured {text}.")


def table_row(texts):
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts))


def setup(app):
    app.add_directive("benchmarks", Benchmarks)
    return {"version": "1", "parallel_read_safe": True}
