"""Sphinx extension: the directive `{mutants}`, what `make mutants` has found.

It reads benchmarks/mutants.json, which is committed: a build of the book tries no mutant.
"""

import hashlib
import json

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from mutants import RESULTS, ROOT, interval
from sphinx_benchmarks import table_row

COLUMNS = ("module", "mutants", "tried", "noticed", "share", "survivors")


def row_of(subject, result):
    low, high = interval(result["killed"], result["tried"])
    share = f"{100 * result['killed'] / result['tried']:.1f} %"
    if result["tried"] < result["mutants"]:
        share += f" ({100 * low:.0f}–{100 * high:.0f} %)"
    numbers = result["mutants"], result["tried"], result["killed"]
    changed = "" if is_current(subject, result) else ", in an earlier version"
    return [f"{subject}.py{changed}", *map(str, numbers), share, str(len(result["survivors"]))]


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
