"""Sphinx extension: the directive `{import-diagram}`, which modules of lrteach need which.

Read from the code when the site is built, imports inside functions included. The picture leaves
out an arrow where a longer way says the same; the list below it has every import.
"""

import ast
from html import escape
from itertools import pairwise
from statistics import mean

import networkx as nx
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import book

logger = logging.getLogger(__name__)

# All in units of the drawing, which is as wide as the text on a phone, and readable there.
WIDTH, FONT, CHARACTER, HEIGHT, GAP, STEP = 350, 11, 6.65, 22, 6, 50


def module_names():
    """All modules of the package, as their files say."""
    paths = [p for p in (book.ROOT / "lrteach").iterdir() if not p.name.startswith("_")]
    return sorted(p.stem for p in paths if p.suffix == ".py" or (p / "__init__.py").exists())


def import_graph():
    """A graph with an arrow from each module to each that it imports."""
    names = module_names()
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    for name in names:
        for path in book.module_files(name):
            if path.suffix == ".py":
                found = book.imported_modules(path.read_text("utf-8"))
                graph.add_edges_from((name, other) for other in found & set(names) - {name})
    return graph


def purpose(name):
    """The first line of a module's docstring."""
    code = next(p for p in book.module_files(name) if p.name in (f"{name}.py", "__init__.py"))
    return ast.get_docstring(ast.parse(code.read_text("utf-8"))).splitlines()[0]


def width(name):
    """How much room a module takes in its row, or the bend of an arrow that passes."""
    return CHARACTER * len(name) + 8 if isinstance(name, str) else 5


def rows_of(graph):
    """The modules in rows: each below all that need it, a row no wider than the drawing."""
    rows = []
    for generation in nx.topological_generations(graph.reverse()):
        row = []
        for name in sorted(generation):
            if row and sum(map(width, [*row, name])) + GAP * len(row) > WIDTH:
                rows.append(row)
                row = []
            row.append(name)
        rows.append(row)
    return rows[::-1]


def threaded(graph):
    """(rows, threads): in the rows a bend for each arrow that passes; {arrow: its way down}."""
    rows = rows_of(graph)
    level = {name: i for i, row in enumerate(rows) for name in row}
    threads = {}
    for arrow in sorted(graph.edges):
        start, end = (level[name] for name in arrow)
        bends = [(*arrow, i) for i in range(start + 1, end)]
        for bend in bends:
            rows[bend[-1]].append(bend)
        threads[arrow] = [arrow[0], *bends, arrow[1]]
    return rows, threads


def places_of(rows, threads):
    """{module or bend: (middle, top)}: in each row by the middle of what they hang together with."""
    ways = [pair for way in threads.values() for pair in pairwise(way)]
    joined = nx.Graph(ways)
    joined.add_nodes_from(name for row in rows for name in row)
    middle, top = {}, {name: i * STEP + 1 for i, row in enumerate(rows) for name in row}
    for order in (rows[::-1], rows, rows[::-1]):
        for row in order:
            around = {name: [middle[n] for n in joined[name] if n in middle] for name in row}
            wanted = {name: mean(xs) if xs else WIDTH / 2 for name, xs in around.items()}
            row.sort(key=lambda name: (wanted[name], str(name)))
            space = (WIDTH - sum(map(width, row))) / (len(row) + 1)
            right = 0
            for name in row:
                middle[name] = right + space + width(name) / 2
                right += space + width(name)
    return {name: (middle[name], top[name]) for name in middle}


def alternative_text(graph):
    """The picture in words."""
    needs = [
        f"{name} needs {', '.join(sorted(graph[name]))}" for name in sorted(graph) if graph[name]
    ]
    return "Modules as boxes, arrows down to what they need: " + "; ".join(needs) + "."


def drawing(graph):
    """The picture as SVG; its colours are the style sheet's."""
    reduced = nx.transitive_reduction(graph)
    rows, threads = threaded(reduced)
    places = places_of(rows, threads)
    height = (len(rows) - 1) * STEP + HEIGHT + 2
    parts = [
        f'<svg class="imports" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(alternative_text(reduced))}">'
    ]
    for way in threads.values():
        x, y = places[way[0]]
        path = f"M{x:.1f} {y + HEIGHT}"
        for stop in way[1:]:
            (u, v), start = places[stop], y + HEIGHT
            v -= 4 * (stop == way[-1])
            half = (start + v) / 2
            path += f"C{x:.1f} {half:.1f} {u:.1f} {half:.1f} {u:.1f} {v}"
            path += f"V{v + HEIGHT}" * (stop != way[-1])
            x, y = u, v
        parts.append(f'<path d="{path}"/>')
        parts.append(f'<path class="tip" d="M{x - 3:.1f} {y - 1}h6l-3 5z"/>')
    for name in sorted(reduced):
        x, y = places[name]
        parts.append(
            f'<rect x="{x - width(name) / 2:.1f}" y="{y}" width="{width(name):.1f}" height="{HEIGHT}" rx="4"/>'
            f'<text x="{x:.1f}" y="{y + 15}" font-size="{FONT}">{name}</text>'
        )
    return "".join([*parts, "</svg>"])


def as_markdown(graph):
    """Each module with what it is for and all that it imports; the lowest level first."""
    lines = []
    for name in (name for row in rows_of(graph)[::-1] for name in row):
        needs = ", ".join(f"`{other}`" for other in sorted(graph[name]))
        lines.append(f"- `{name}`: {purpose(name)}" + (f" Needs {needs}." if needs else ""))
    return "\n".join(lines)


class ImportDiagram(SphinxDirective):
    """The picture of the imports, and the list of the modules."""

    def run(self):
        graph = import_graph()
        for name in graph:
            for path in book.module_files(name):
                self.env.note_dependency(str(path))
        if not nx.is_directed_acyclic_graph(graph):
            circle = " → ".join(edge[0] for edge in nx.find_cycle(graph))
            message = "modules of lrteach import each other in a circle: %s"
            logger.warning(message, circle, location=self.get_location())
            return []
        alone = sorted(nx.isolates(graph))
        joined = graph.subgraph(set(graph) - set(alone)).copy()
        caption = "An arrow leads from a module to one that it needs."
        if alone:
            caption += (
                f" Not drawn, as they need no other and no other needs them: {', '.join(alone)}."
            )
        picture = nodes.raw("", drawing(joined), format="html")
        note = nodes.paragraph("", caption, classes=["imports-note"])
        return [picture, note, *self.parse_text_to_nodes(as_markdown(graph))]


def setup(app):
    app.add_directive("import-diagram", ImportDiagram)
    return {"version": "1", "parallel_read_safe": True}
