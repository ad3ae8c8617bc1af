"""The diagram of imports on the page `architecture`."""

import re

import networkx as nx
import pytest

import book
import lrteach
import sphinx_imports


@pytest.fixture(scope="module")
def graph():
    return sphinx_imports.import_graph()


@pytest.fixture(scope="module")
def joined(graph):
    return graph.subgraph(set(graph) - set(nx.isolates(graph))).copy()


def test_it_has_every_module_of_the_package(graph):
    assert set(graph) == set(lrteach._MODULES)


def test_it_has_the_imports_that_the_code_has(graph):
    assert set(graph["training"]) >= {"models", "rules", "schedules"}
    assert set(graph["diagnosis"]) == {"curve_shapes", "logs", "plots"}
    assert not graph["rules"]  # NumPy only


def test_modules_need_each_other_in_one_direction_only(graph):
    assert nx.is_directed_acyclic_graph(graph), nx.find_cycle(graph)


def test_every_module_stands_above_what_it_needs(joined):
    level = {name: i for i, row in enumerate(sphinx_imports.rows_of(joined)) for name in row}
    assert set(level) == set(joined)
    assert all(level[name] < level[other] for name, other in joined.edges)


def boxes(svg):
    found = re.findall(
        r'<rect x="([\d.-]+)" y="([\d.]+)" width="([\d.]+)" height="(\d+)".*?<text[^>]*>(\w+)<', svg
    )
    return {name: tuple(map(float, numbers)) for *numbers, name in found}


def test_boxes_are_inside_the_drawing_and_do_not_overlap(joined):
    found = boxes(sphinx_imports.drawing(joined))
    assert set(found) == set(joined)
    placed = list(found.values())
    for i, (x, y, wide, high) in enumerate(placed):
        assert x >= 0 and x + wide <= sphinx_imports.WIDTH
        for u, v, w, _ in placed[:i]:
            assert y != v or x + wide < u or u + w < x
        assert high == sphinx_imports.HEIGHT


def test_no_arrow_passes_behind_a_box(joined):
    """Where an arrow passes a row it goes straight down, beside the boxes."""
    svg = sphinx_imports.drawing(joined)
    for path in re.findall(r'<path d="([^"]+)"', svg):
        for x, y in re.findall(r"([\d.]+) ([\d.]+)V", path):
            for left, top, wide, _ in boxes(svg).values():
                assert float(y) != top or not left < float(x) < left + wide


def test_it_can_be_read_without_seeing_it(joined):
    svg = sphinx_imports.drawing(joined)
    alternative = re.search(r'role="img" aria-label="([^"]+)"', svg)[1]
    assert all(name in alternative for name in joined)


def test_the_list_says_what_each_module_is_for_and_all_that_it_needs(graph):
    lines = sphinx_imports.as_markdown(graph).splitlines()
    assert len(lines) == len(graph)
    for line in lines:
        name, said = re.fullmatch(r"- `(\w+)`: (.+)", line).groups()
        assert len(said.split()) >= 4
        assert set(graph[name]) == set(re.findall(r"`(\w+)`", said.partition(" Needs ")[2]))


def test_colours_come_from_the_style_sheet_and_follow_the_theme(joined):
    assert not re.search(r"style=|fill=|stroke=|#[0-9a-f]{3}", sphinx_imports.drawing(joined))
    css = (book.BOOK / "_static" / "book.css").read_text("utf-8")
    for part in ("path", "rect", "text"):
        (rule,) = re.findall(rf"svg\.imports {part} \{{([^}}]*)\}}", css)
        assert "var(--pst-color-" in rule
