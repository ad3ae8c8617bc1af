"""tools/sphinx_mathml.py: formulas as MathML, and the characters that their font must have."""

import pytest
from fontTools.ttLib import TTFont
from math_core import LatexError

import sphinx_mathml


def page_with(tmp_path, *formulas):
    page = tmp_path / "page.html"
    page.write_text("".join(sphinx_mathml.to_mathml(tex, True) for tex in formulas), "utf-8")
    return page


def test_a_formula_keeps_its_tex_as_alternative_text():
    assert 'alttext="x &lt; 1"' in sphinx_mathml.to_mathml("x < 1", display=False)


@pytest.mark.parametrize("tex", [r"\frac{1", r"\unknowncommand x", r"x^"])
def test_bad_tex_is_an_error(tex):
    with pytest.raises(LatexError):
        sphinx_mathml.to_mathml(tex, display=True)


@pytest.mark.parametrize(
    "tex",
    [
        "a &= b \\\\ c &= d",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{align} a &= b \\ c &= d \end{align}",
        r"\begin{align*} a &= b \\ c &= d \end{align*}",
    ],
)
def test_several_rows_become_a_table_of_two_rows(tex):
    assert sphinx_mathml.to_mathml(tex, display=True).count("<mtr") == 2


@pytest.mark.parametrize(
    ("tex", "needed"),
    [
        (r"\sqrt 2", "√2"),
        (r"\theta", "𝜃"),
        ("x", "𝑥"),
        ("h", "ℎ"),
        (r"\sum_i a_i", "∑"),
    ],
)
def test_the_font_gets_what_a_formula_needs(tmp_path, tex, needed):
    text = sphinx_mathml.characters([page_with(tmp_path, tex)])
    assert set(needed) <= set(text)


def test_the_font_that_is_written_can_draw_these_characters_and_has_another_name(tmp_path):
    target = tmp_path / "font.woff2"
    sphinx_mathml.write_font(target, "√𝑥∑")
    font = TTFont(target)
    assert {ord(c) for c in "√𝑥∑"} <= set(font.getBestCmap())
    assert "MATH" in font
    names = [record.toUnicode() for record in font["name"].names if record.nameID in (1, 4, 6)]
    assert names
    assert not any("Latin Modern" in name or "LatinModern" in name for name in names)


def test_the_font_has_every_character_of_the_book_s_formulas():
    site = sphinx_mathml.FONT.parents[2] / "_build" / "html"
    if not (site / "index.html").exists():
        pytest.skip("the site is not built: run `make book`")
    text = sphinx_mathml.characters(sorted(site.rglob("*.html")))
    drawn = TTFont(sphinx_mathml.FONT).getBestCmap()
    missing = {c for c in text if ord(c) not in drawn}
    assert not missing, "browsers will take these from another font"
