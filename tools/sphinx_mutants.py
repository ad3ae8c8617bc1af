"""Sphinx extension: the directive `{mutants}`, what `make mutants` has found.

It reads benchmarks/mutants.json, which is committed: a build of the book tries no mutant.
"""

import hashlib
import json

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mutants import RESULTS, ROOT, interval
from sphinx_benchmarks import table_row

COLUMNS = ("module", "mutants", "tried", "noticed at first", "noticed now", "left")


def row_of(subject, result):
    first, now, tried = result["killed_at_first"], result["killed"], result["tried"]
    shown = percent(first / tried)
    if tried < result["mutants"]:
        low, high = interval(first, tried)
        shown += f" ({percent(low)} to {percent(high)})"
    changed = "" if is_current(subject, result) else ", in an earlier version"
    counts = f"{result['mutants']}", f"{tried}"
    return [f"{subject}.py{changed}", *counts, shown, percent(now / tried), f"{tried - now}"]


def percent(share):
    return f"{100 * share:.1f} %"


def is_current(subject, result):
    source = (ROOT / "lrteach" / f"{subject}.py").read_bytes()
    return hashlib.sha256(source).hexdigest().startswith(result["source"])


class Mutants(SphinxDirective):
    """A table of all modules, and each survivor with its judgement."""

    def run(self):
        results = json.loads(RESULTS.read_text("utf-8"))
        self.env.note_dependency(str(RESULTS))
        for subject in results:
            self.env.note_dependency(str(ROOT / "lrteach" / f"{subject}.py"))
        group = nodes.tgroup("", cols=len(COLUMNS))
        group.extend(nodes.colspec(colwidth=20) for _ in COLUMNS)
        body = nodes.tbody("", *(table_row(row_of(*each)) for each in results.items()))
        group.extend([nodes.thead("", table_row(COLUMNS)), body])
        survivors = nodes.bullet_list("")
        for subject, result in results.items():
            survivors.extend(item(subject, survivor) for survivor in result["survivors"])
        return [nodes.table("", group, classes=["benchmarks"]), survivors]


def item(subject, survivor):
    place = ".".join(part for part in (subject, survivor["where"]) if part)
    paragraph = nodes.paragraph("")
    paragraph += nodes.literal("", place)
    paragraph += nodes.Text(": ")
    paragraph += nodes.literal("", survivor["was"])
    paragraph += nodes.Text(" → ")
    paragraph += nodes.literal("", survivor["now"])
    paragraph += nodes.Text(". " + survivor["judgement"])
    return nodes.list_item("", paragraph)


def setup(app):
    app.add_directive("mutants", Mutants)
    return {"version": "1", "parallel_read_safe": True}
