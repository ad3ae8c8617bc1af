"""tools/sphinx_api.py: every public name is in the page `api`, and docstrings become what they mean."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import lrteach
import sphinx_api

PAGE = (Path(__file__).parents[1] / "book/reference/api.md").read_text("utf-8")
MODULES = re.findall(r"^```\{api\} (\w+)$", PAGE, re.M)


def test_the_page_has_every_module_once_and_all_names_of_the_package():
    assert sorted(MODULES) == sorted(["lrteach", *lrteach._MODULES])


@pytest.mark.parametrize("module", lrteach._MODULES)
def test_every_public_name_stands_with_its_module_or_is_linked_there(module):
    found, guests = sphinx_api.public_names(module)
    names = [path.rpartition(".")[2] for path in [*found, *guests]]
    assert sorted(names) == sorted(import_module(f"lrteach.{module}").__all__)
    page = sphinx_api.page_of(module)
    for path in found:
        assert re.search(rf"^\.\. auto\w+:: {re.escape(path)}$", page, re.M)
    for path in guests:
        home = path.split(".")[1]
        assert path.rpartition(".")[2] in import_module(f"lrteach.{home}").__all__
        assert f"<{path}>`" in page


def test_names_of_the_package_itself_stand_under_that_name():
    found = {path for module in lrteach._MODULES for path in sphinx_api.public_names(module)[0]}
    assert {f"lrteach.{name}" for name in lrteach._HOMES} <= found


def test_every_function_and_class_says_in_a_sentence_what_it_is():
    for module in lrteach._MODULES:
        for path, value in sphinx_api.public_names(module)[0].items():
            said = sphinx_api.first_sentence(value)
            assert said or sphinx_api.is_constant(value), path
            assert len(said) <= 160, f"{path}: {said}"


def test_the_first_sentence_ends_where_it_ends():
    def step(x):
        """One step of Eq. 3, of `x`
        units. Then more.

        And more.
        """

    assert sphinx_api.first_sentence(step) == "One step of Eq. 3, of `x` units."


def test_indented_blocks_are_code_and_formulas_are_not():
    lines = [
        "Words:",
        "",
        "    a * b",
        "",
        "    c",
        "",
        ".. math::",
        "",
        "    a * b",
        "",
        "x*y",
        "",
    ]
    rst = sphinx_api.as_rst(lines)
    assert rst == ["Words:", "", "::", "", *lines[2:-2], r"x\*y", ""]


def test_only_what_stands_between_backticks_has_a_meaning():
    assert sphinx_api.escaped("|λ| and `a*b` and **hyper") == r"\|λ\| and `a*b` and \*\*hyper"


def test_a_constant_is_explained_by_the_comment_above_it():
    assert sphinx_api.comment_above("lrteach.plots.OPTIMIZER_COLORS")[0].startswith(
        "The first eight"
    )
    assert sphinx_api.comment_above("lrteach.plots.INK") == []
