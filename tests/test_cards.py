"""The reference cards: the parts of a docstring, and that every schedule has its card and picture."""

import re
from ast import literal_eval

import numpy as np
import pytest
from bs4 import BeautifulSoup

import book
import docstrings
import schedule_pictures as pictures
import sphinx_cards as cards
import sphinx_mathml
from lrteach import schedules

BASES = {"Schedule", "Feedback", "Online"}
NAMES = [name for name in schedules.__all__ if name not in BASES]
PAGE = book.BOOK / "reference" / "schedules-card.md"
KNOWN = ("when", "torch")

GOOD = r"""One sentence.

    .. math:: \eta_t = \eta_0, \qquad x = y

    A paragraph with `code`
    on two lines.

    Another one.

    :when: Always.
    :torch: `ConstantLR(1)`, and a text
        that goes on
    """


# --- docstrings -----------------------------------------------------------------------------


def test_a_docstring_is_read_into_its_parts():
    said = docstrings.parse(GOOD, "it", KNOWN, required=("when",))
    assert said.summary == "One sentence."
    assert said.formulas == [r"\eta_t = \eta_0, \qquad x = y"]
    assert said.paragraphs == ["A paragraph with `code` on two lines.", "Another one."]
    assert list(said.fields.items()) == [
        ("when", "Always."),
        ("torch", "`ConstantLR(1)`, and a text that goes on"),
    ]


def test_formulas_may_be_several_and_stand_below_their_directive():
    said = docstrings.parse("A.\n\n.. math:: a\n\n.. math::\n\n    b\n    + c\n\nEnd.", "it", ())
    assert said.formulas == ["a", "b + c"]
    assert said.paragraphs == ["End."]


def test_what_a_docstring_lacks_is_empty():
    assert docstrings.parse("A.", "it", KNOWN) == ("A.", [], [], {})


@pytest.mark.parametrize(
    "old, new, message",
    [
        (":torch:", ":tensorflow:", r"^it: .*unknown field :tensorflow: \(:when:, :torch: are known"),
        (":when: Always.\n", "", "^it: the docstring has no field :when:"),
        (":when: Always.", ":when: Always.\n    :when: Never.", "^it: .*field :when: twice"),
        (":when: Always.", ":when:", "^it: .*not of the form"),
        ("        that goes on", "    that goes on", "^it: .*not of the form"),
        (GOOD, "", "^it: .*no first line"),
    ],
)  # fmt: skip
def test_a_docstring_that_is_not_in_its_form_is_named(old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        docstrings.parse(GOOD.replace(old, new), "it", KNOWN, required=("when",))


def test_a_field_that_a_schedule_should_not_have_is_named(monkeypatch):
    monkeypatch.setattr(schedules.rex, "__doc__", schedules.rex.__doc__ + "\n    :jax: `rex`")
    with pytest.raises(ValueError, match=r"^rex: .* :jax:"):
        cards.described("rex")


# --- completeness ---------------------------------------------------------------------------


def test_every_schedule_has_one_card():
    assert sorted(pictures.card_names()) == sorted(NAMES), "see tools/schedule_pictures.py"


def test_the_page_shows_every_group_once_and_in_order():
    groups = re.findall(r"^```\{schedules\} (\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert groups == list(pictures.GROUPS)


def test_the_decision_table_links_only_to_cards():
    linked = re.findall(r"\(#schedule-(\w+)\)", PAGE.read_text("utf-8"))
    assert len(linked) >= 8
    assert set(linked) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_fills_its_card(name):
    said = cards.described(name)
    assert said.formulas
    for tex in said.formulas:
        for part in cards.formula(tex):
            sphinx_mathml.to_mathml(part.astext(), display=True)
    rows = {argument: row for argument, *row in cards.parameters(name)}
    assert len(rows) >= 2
    for default, allowed, _ in rows.values():
        assert allowed
        assert "object at 0x" not in f"{default} {allowed}"


def test_the_built_page_has_a_section_for_each():
    built = book.BUILD / "html" / "reference" / "schedules-card.html"
    if not built.exists():
        pytest.skip("the site is not built: run `make book`")
    soup = BeautifulSoup(built.read_text("utf-8"), "html.parser")
    for name in NAMES:
        section = soup.find("section", id=name)
        assert section is not None, f"no section for {name}"
        assert section.find("img")["alt"] == pictures.picture_of(name).alt
        assert section.find("math")
        assert section.find("table")


# --- pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_its_schedule_and_says_what_is_seen(name):
    picture = pictures.picture_of(name)
    assert type(picture.drawn).__name__ == name
    assert len(picture.alt.split()) >= 8
    assert not re.search(r"[`$\\]", picture.alt)
    for call, label, _ in picture.grey:
        given = re.findall(r'(\w+)=\n?("\w+"|[\d.]+)', label)
        assert given or label.strip('"') in call
        for argument, value in given:
            assert getattr(pictures.evaluate(call), argument) == literal_eval(value)
    for call in [picture.call, *(call for call, *_ in picture.grey)]:
        _, rates = pictures.rates_of(pictures.evaluate(call))
        assert rates.min() >= 0 and rates.max() <= 1.0001, "outside of the axes"


def test_alternative_texts_differ():
    texts = [pictures.picture_of(name).alt for name in NAMES]
    assert len(set(texts)) == len(texts)


def test_alternative_texts_of_feedback_rules_are_those_of_the_runs_shown():
    cuts = np.diff(pictures.told(pictures.picture_of("plateau").drawn).rates)
    assert (np.flatnonzero(cuts) + 1).tolist() == [22, 57]
    run = pictures.told(pictures.picture_of("restart_below").drawn)
    jumps = np.flatnonzero(np.diff(run.rates) > 0.1)
    assert len(jumps) == 4
    assert (run.rates[jumps + 1] == 1).all()
    assert (run.losses[jumps] < run.thresholds[jumps]).all()


def test_a_picture_is_the_same_file_each_time_and_small():
    for name in ("cosine", "plateau", "chebyshev"):
        svg = pictures.draw(pictures.picture_of(name))
        assert svg == pictures.draw(pictures.picture_of(name))
        assert len(svg) < 30_000


# --- what the tables say --------------------------------------------------------------------


def test_parameters_are_those_of_the_signature():
    assert list(cards.parameters("cosine")) == [
        ("steps", None, "an int ≥\xa01", "updates"),
        ("peak", "1.0", "a finite number ≥\xa00", "rate"),
        ("end", "0.0", "a finite number ≥\xa00", "rate"),
    ]
    (shape,) = [row for row in cards.parameters("wsd") if row[0] == "shape"]
    assert shape == ("shape", "'linear'", "`'linear'`, `'sqrt'` or `'cosine'`", "")


def test_the_length_and_the_end_are_those_of_the_schedule():
    table = {name: (cards.needs_length(name), cards.ends_at_zero(name)) for name in NAMES}
    assert table["linear"] == table["cosine"] == ("yes", "yes")
    assert table["one_cycle"] == ("yes", "nearly")
    assert table["exponential"] == table["constant"] == table["plateau"] == ("no", "no")
    assert table["chebyshev"] == ("yes", "no")


def test_names_of_other_libraries_lead_to_ours():
    torch, keras = cards.names_elsewhere("torch"), cards.names_elsewhere("keras")
    assert list(torch["CosineAnnealingWarmRestarts"]) == ["warm_restarts"]
    assert list(torch["StepLR"]) == ["step"]
    assert list(keras["CosineDecayRestarts"]) == ["warm_restarts"]
    assert set(keras["PolynomialDecay"]) == {"linear", "polynomial"}
    assert "sgdr_schedule" in cards.names_elsewhere("optax")
    assert "get_wsd_schedule" in cards.names_elsewhere("transformers")
    for library in cards.LIBRARIES:
        found = cards.names_elsewhere(library)
        assert not found.keys() & cards.MAKESHIFTS
        assert list(found) == sorted(found, key=str.lower)


def test_texts_keep_code_and_arxiv_numbers():
    nodes = list(cards.inline("See `a_b(c)` in arXiv:1608.03983, eq. (5)"))
    assert [type(node).__name__ for node in nodes] == [
        "Text",
        "literal",
        "Text",
        "reference",
        "Text",
    ]
    assert nodes[3]["refuri"] == "https://arxiv.org/abs/1608.03983"
