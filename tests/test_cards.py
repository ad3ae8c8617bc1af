"""The reference cards: the parts of a docstring, that every schedule and every rule has its card and
picture, and that what is measured of the rules agrees with theory.
"""

import json
import re
from ast import literal_eval

import numpy as np
import pytest
from bs4 import BeautifulSoup

import book
import card_parts
import docstrings
import optimizer_cards
import optimizer_pictures
import optimizer_traits as traits
import schedule_cards as cards
import schedule_pictures as pictures
import sphinx_mathml
from lrteach import optimizers, schedules
from lrteach.optimizers import Rule, adam, ema, muon, number, rule, sgd

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
        for part in card_parts.formula(tex):
            sphinx_mathml.to_mathml(part.astext(), display=True)
    rows = {argument: row for argument, *row in cards.parameters(name)}
    assert len(rows) >= 2
    for default, allowed, _ in rows.values():
        assert allowed
        assert "object at 0x" not in f"{default} {allowed}"


def built_page(name):
    built = book.BUILD / "html" / "reference" / f"{name}.html"
    if not built.exists():
        pytest.skip("the site is not built: run `make book`")
    return BeautifulSoup(built.read_text("utf-8"), "html.parser")


def test_the_built_page_has_a_section_for_each():
    soup = built_page("schedules-card")
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
    nodes = list(card_parts.inline("See `a_b(c)` in arXiv:1608.03983, eq. (5)"))
    assert [type(node).__name__ for node in nodes] == [
        "Text",
        "literal",
        "Text",
        "reference",
        "Text",
    ]
    assert nodes[3]["refuri"] == "https://arxiv.org/abs/1608.03983"


# --- The card of optimizers: completeness ---------------------------------------------------

RULES = [name for name in optimizers.__all__ if isinstance(getattr(optimizers, name), Rule)]
CARDS = [*RULES, "ema", "tail_average"]
OPTIMIZERS_PAGE = book.BOOK / "reference" / "optimizers-card.md"
each_rule = pytest.mark.parametrize("name", RULES)
each_card = pytest.mark.parametrize("name", CARDS)


def test_every_rule_has_one_card():
    assert len(RULES) >= 30
    assert sorted(optimizer_pictures.card_names()) == sorted(CARDS), (
        "see tools/optimizer_pictures.py"
    )


def test_the_page_of_optimizers_shows_every_group_once_and_in_order():
    text = OPTIMIZERS_PAGE.read_text("utf-8")
    groups = re.findall(r"^```\{optimizers\} (\S+)$", text, re.MULTILINE)
    assert groups == list(optimizer_pictures.GROUPS)
    linked = re.findall(r"\(#optimizer-(\w+)\)", text)
    assert len(linked) >= 12
    assert set(linked) <= set(CARDS)


@each_card
def test_every_field_of_a_card_is_there(name):
    said = optimizer_cards.described(name)
    assert said.summary and said.formulas and said.paragraphs
    for tex in said.formulas:
        for part in card_parts.formula(tex):
            sphinx_mathml.to_mathml(part.astext(), display=True)
    assert all(said.fields[field] for field in optimizer_cards.REQUIRED)
    for argument, default, allowed, _ in optimizer_cards.parameters(name):
        assert argument and default and allowed and "object at" not in allowed
    assert optimizer_cards.state_in_words(name)
    assert "operations per parameter" in optimizer_cards.cost_in_words(name)
    rows = optimizer_cards.traits_of(name)
    assert len(rows) == (1 if optimizer_pictures.is_average(name) else 6)
    assert all(all(row) for row in rows)


@each_card
def test_the_code_of_a_card_is_code_that_gives_what_the_rule_gives(name):
    code = optimizer_cards.code_of(name)
    assert "math::" not in code and '"""' not in code
    compile(
        code.replace("return ", "_ = ") if "def " not in code else code.split("\n\n")[-1],
        name,
        "exec",
    )


def test_types_are_not_on_a_card():
    assert optimizer_cards.code_of("ema").startswith("def _ema_share(t, decay):\n    return")
    assert not any(
        "->" in optimizer_cards.code_of(name) for name in optimizer_pictures.card_names()
    )


@each_rule
def test_the_body_on_a_card_run_by_itself_is_the_rule(name):
    each = getattr(optimizers, name)
    body, *helpers = re.split(r"\n\n(?=def )", optimizer_cards.code_of(name))
    theta, g = traits.start(), np.cos(traits.start())
    answers = {"loss": 2.0, "gradient": np.sin, "t": 1, "shape": g.shape}
    answers |= {"norm": lambda x, order=2: np.linalg.norm(x.ravel(), order)}
    answers |= {"dot": lambda x, y: (x * y).sum(), "mean": np.mean}
    state = each.init(theta)
    space = {
        **vars(optimizers),
        **answers,
        **each.defaults,
        **state,
        "t": 1,
        "lr": 0.1,
        "theta": theta,
        "g": g,
    }
    signature = "def step():\n    global " + ", ".join(["theta", "g", "lr", *each.slots]) + "\n"
    exec(
        "\n".join(helpers) + "\n" + signature + re.sub(r"^", "    ", body, flags=re.MULTILINE),
        space,
    )
    got = space["step"]()
    got = got[0] if each.slots else got
    asked = {key: answers[key] for key in ("loss", "gradient") if key in each.asks}
    want, _ = each(theta, g, state, lr=0.1, **asked)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_built_page_has_a_section_for_each_rule():
    soup = built_page("optimizers-card")
    for name in CARDS:
        section = soup.find("section", id=name)
        assert section is not None, f"no section for {name}"
        assert section.find("img")["alt"] == optimizer_pictures.alt(name)
        assert section.find("math") and section.find("pre")
        terms = [term.get_text().rstrip(":") for term in section.select("dl.card-fields > dt")]
        rate = [] if optimizer_pictures.is_average(name) else ["Rate", "Tuned"]
        assert terms == ["State", "Cost", *rate, "torch", "optax", "Keras", "Source"]
    signs = soup.select(".card-measured .card-sign")
    assert len(signs) == 6 * len(RULES)
    assert all(sign["role"] == "img" and len(sign["aria-label"]) > 5 for sign in signs)


# --- The card of optimizers: what is measured, against theory -------------------------------

ADAMS = [
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "amsgrad",
    "adamax",
    "nadam",
    "adabelief",
    "schedule_free_adamw",
]
SIGNS = ["signsgd", "signum", "lion", "rprop"]
DESCENTS = ["sgd", "heavy_ball", "nesterov", "schedule_free_sgd", "extragradient", "optimistic"]
LENGTHS = ["lars", "lamb", "adafactor"]


def answered(name, question):
    return tuple(traits.answer(getattr(optimizers, name), question))


@each_rule
def test_a_loss_in_another_unit_matters_to_gradient_descent_and_not_to_who_divides_by_the_gradient(
    name,
):
    want = ("same", -1) if name in DESCENTS else ("other", None) if name == "radam" else None
    got = answered(name, "loss")
    assert got == want if want else got[1] == 0
    exact = [*SIGNS, "muon", "lars", "adafactor", "polyak", "dadapt_sgd"]
    assert (got[0] == "same") == (name in [*DESCENTS, *exact])


@each_rule
def test_parameters_in_another_unit_want_the_rate_in_the_unit_that_theory_says(name):
    powers = dict.fromkeys(DESCENTS, 2) | dict.fromkeys([*ADAMS, *SIGNS, "muon"], 1)
    powers |= dict.fromkeys([*LENGTHS, "polyak"], 0)
    assert answered(name, "unit")[1] == powers.get(name)
    with_guess = traits.with_its_guess(getattr(optimizers, name))
    assert (with_guess != "other") == (name in ("dadapt_sgd", "dadapt_adam", "prodigy"))


@each_rule
def test_turned_axes_matter_to_who_looks_at_coordinates(name):
    turned = answered(name, "turned")[0] == "same"
    assert turned == (name in [*DESCENTS, "polyak", "lars", "dog", "dadapt_sgd"])
    as_matrix = answered(name, "turned as a matrix")[0] == "same"
    assert as_matrix == (turned or name == "muon")


@each_rule
def test_slopes_each_in_its_own_unit_matter_not_to_who_scales_each_coordinate(name):
    indifferent = answered(name, "slopes")[0] != "other"
    assert indifferent == (name in [*ADAMS, *SIGNS, "adadelta", "lamb"])


@each_rule
def test_no_rule_keeps_its_path_when_each_coordinate_has_its_own_unit(name):
    assert answered(name, "units") == ("other", None)


@each_rule
def test_a_constant_matters_only_to_who_asks_for_the_loss(name):
    asks = "loss" in getattr(optimizers, name).asks
    assert answered(name, "constant") == (("other", None) if asks else ("same", 0))
    assert asks == (name == "polyak")


def test_adam_without_eps_is_indifferent_to_rounding():
    assert 1e-9 < traits.difference(adam, traits.WORDS["loss"]) < traits.NEARLY
    bare = traits.Words(factor=traits.C)
    plain = traits.path(adam, eps=0.0)
    assert np.abs(traits.path(adam, bare, eps=0.0) - plain).max() < 1e-12 * np.abs(plain).max()


@each_rule
def test_no_difference_lies_near_a_limit_of_the_verdicts(name):
    each = getattr(optimizers, name)
    for question, words in traits.WORDS.items():
        for power in traits.POWERS.get(question, (0,)):
            found = traits.difference(each, words, traits.RATE * traits.C**power)
            assert not traits.SAME / 4 < found < traits.SAME * 4, (question, power, found)
            assert not traits.NEARLY / 4 < found < traits.NEARLY * 4, (question, power, found)


def test_first_steps_are_those_of_theory():
    first = {name: traits.first_step(getattr(optimizers, name)) for name in RULES}
    assert all(first[name].power == 1 for name in [*DESCENTS, "radam"])
    assert first["polyak"].power == -1
    assert all(first[n].power == 0 for n in RULES if n not in [*DESCENTS, "radam", "polyak"])
    assert first["nesterov"].in_gradients == pytest.approx(0.19)
    for name in ["adam", "adamw", "amsgrad", "adamax", "adagrad", *SIGNS]:
        assert first[name].along == "signs"
        assert first[name].length == pytest.approx(0.1, rel=1e-4)
    assert first["rmsprop"].length == pytest.approx(0.1 / (1 - 0.99) ** 0.5, rel=1e-6)
    assert first["lamb"].in_weights == pytest.approx(0.1) and first["lamb"].weight_power == 1
    assert (
        first["lars"].in_weights == pytest.approx(0.1 * 0.001) and first["lars"].weight_power == 1
    )
    assert first["muon"].along == "matrix" and 0.07 < first["muon"].length < 0.12


# --- The card of optimizers: a wrong declaration is found -----------------------------------


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("adam", "in units of theta:", "in units of theta² / loss:"),
        ("sgd", "in units of theta² / loss", "in units of theta"),
        ("lamb", "`lr` has no unit", "`lr` is in units of theta"),
        ("dog", "`lr` has no unit", "`lr` is in units of theta² / loss"),
        ("muon", "`lr` is in units of theta", "`lr` has no unit"),
        ("radam", "`lr` has two units", "`lr` is in units of theta"),
    ],
)
def test_a_docstring_with_another_unit_than_was_measured_is_refused(monkeypatch, name, old, new):
    each = getattr(optimizers, name)
    optimizer_cards.check_units(name)
    text = re.sub(r"(?<=\S)\s+(?=`lr`|in units|units of|unit\b)", " ", each.__doc__)
    assert old in text
    monkeypatch.setattr(each, "__doc__", text.replace(old, new))
    with pytest.raises(ValueError, match=f"^{name}: the docstring says that the rate goes with"):
        optimizer_cards.check_units(name)


@each_rule
def test_the_unit_that_a_docstring_says_is_the_one_that_is_measured(name):
    optimizer_cards.check_units(name)


def test_a_docstring_that_says_no_unit_is_refused(monkeypatch):
    monkeypatch.setattr(adam, "__doc__", adam.__doc__.replace("`lr` is in units of", "`lr`:"))
    with pytest.raises(ValueError, match=r"^adam: the docstring does not say"):
        optimizer_cards.check_units("adam")


# --- The card of optimizers: state and cost -------------------------------------------------


def test_state_and_cost_are_counted():
    @rule
    def mixture(theta, g, m, top: number, *, lr):
        """Multiplies (2), adds, takes a square root, compares, subtracts: six for a parameter."""
        m = 0.5 * m + optimizers.sqrt(g * g)
        top = optimizers.maximum(top, lr)
        return theta - optimizers.where(m > 0, m, g), m, top

    cost = traits.cost(mixture)
    assert cost.state == traits.Size(parameters=1, numbers=1)
    assert cost.operations == pytest.approx(7, abs=0.01)  # where counts as one
    assert (cost.gradients, cost.asks_loss, cost.products) == (1, False, 0)


def test_costs_of_known_rules():
    costs = {name: traits.cost(getattr(optimizers, name)) for name in RULES}
    assert costs["sgd"].operations == 2 and costs["heavy_ball"].operations == 4
    assert costs["adam"].state.of(3, 4) == 24 and costs["sgd"].state.of(3, 4) == 0
    assert costs["adafactor"].state == traits.Size(rows=1, columns=1)
    assert costs["prodigy"].state == traits.Size(parameters=4, numbers=2)
    assert [name for name, cost in costs.items() if cost.gradients > 1] == ["extragradient"]
    assert costs["extragradient"].gradients == 2
    m, n = sorted(traits.COUNTED)  # of each of five times: x xᵀ, its square, and that times x
    assert costs["muon"].products * m * n == 5 * (2 * m * m * n + 2 * m**3 + 2 * m * m * n)


def test_a_state_that_has_no_words_is_refused():
    @rule
    def odd(theta, g, s: number, *, lr):
        return theta, (g * g).sum(-1)[:5]

    with pytest.raises(ValueError, match=r"^odd: no words for a state"):
        traits.cost(odd)


def test_an_average_costs_one_array_and_walks_as_the_rule_inside():
    assert optimizer_cards.state_in_words("ema").startswith("1 per parameter more: `mean_theta`")
    assert optimizer_cards.cost_in_words("tail_average").startswith(
        "3 operations per parameter more"
    )
    assert np.array_equal(traits.path(ema(muon)), traits.path(muon))


# --- The card of optimizers: pictures -------------------------------------------------------


@each_card
def test_a_picture_of_a_rule_shows_a_walk_that_arrives_and_says_what_is_seen(name):
    words = optimizer_pictures.alt(name)
    assert len(words.split()) >= 12
    assert not re.search(r"[`$\\]|nan|inf\b", words)
    if optimizer_pictures.is_average(name):
        return
    walk = optimizer_pictures.shown(name)
    assert walk.arrived and walk.needed > 3
    assert optimizer_pictures.stays(walk)
    assert walk.left[walk.needed - 1] > optimizer_pictures.ENOUGH >= walk.left[walk.needed :].max()
    assert optimizer_pictures.RATES[0] < walk.lr < optimizer_pictures.RATES[-1]
    assert str(walk.needed) in words


def test_pictures_are_those_of_theory():
    shown = {name: optimizer_pictures.shown(name) for name in RULES}
    assert shown["sgd"].lr < 2 / optimizer_pictures.CURVATURES[1]  # else it would leave
    assert shown["nesterov"].needed < shown["heavy_ball"].needed < shown["sgd"].needed
    grey = optimizer_pictures.beside("extragradient")
    assert np.all(np.diff(grey.left) > 0)  # gradient descent spirals outwards


def test_the_words_for_a_path_are_true_of_a_made_one():
    turn, low = optimizer_pictures.TURN, optimizer_pictures.LOWEST
    across = np.array([0.4, -0.4, 0.4, -0.4, 0.0])
    along = np.array([-1.8, -1.0, 0.9, 0.5, 0.0])
    points = low + np.stack([along, across], axis=-1) @ turn.T
    walk = optimizer_pictures.Walk(0.1, points, points, np.array([1.0, 0.9, 0.8, 0.5, 0.0]))
    assert walk.needed == 4
    assert optimizer_pictures.crossings(walk) == 3
    assert optimizer_pictures.overshoot(walk) == pytest.approx(0.5)
    way = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    assert optimizer_pictures.detour(walk) == pytest.approx(way / np.hypot(1.8, 0.4))


def test_a_picture_of_a_rule_is_the_same_file_each_time_and_small():
    for name in ("adam", "ema", "extragradient", "radam"):
        svg = optimizer_pictures.draw(name)
        assert svg == optimizer_pictures.draw(name)
        assert len(svg) < 50_000
    assert {name: optimizer_pictures.is_game(name) for name in ("adam", "optimistic")} == {
        "adam": False, "optimistic": True,
    }  # fmt: skip


# --- The card of optimizers: names ----------------------------------------------------------


def test_names_of_other_libraries_lead_to_our_rules():
    known = {
        library: optimizer_cards.names_elsewhere(library) for library in optimizer_cards.LIBRARIES
    }
    assert set(known["torch"]["SGD"]) == {"sgd", "heavy_ball", "nesterov"}
    assert set(known["torch"]["Adam"]) == set(known["keras"]["Adam"]) == {"adam", "amsgrad"}
    assert list(known["optax"]["optimistic_gradient_descent"]) == ["optimistic"]
    assert list(known["optax"]["contrib.prodigy"]) == ["prodigy"]
    for names in known.values():
        assert list(names) == sorted(names, key=str.lower)
        assert "chain" not in names and "lr" not in names


def test_sgd_is_measured_as_it_is_on_the_page():
    rows = {label: (sign, words) for label, sign, words in optimizer_cards.traits_of("sgd")}
    assert rows["Loss × 10"] == ("η ÷ 10", "the same path at a tenth of the rate")
    assert rows["θ × 10"][0] == "η × 100" and rows["Axes turned"][0] == "●"
    assert rows["First step at 0.1"] == ("∝ g", "0.1 times the gradient")
    assert traits.answer(sgd, "slopes").verdict == "other"


def test_tuned_rates_stand_on_the_card_as_their_span():
    assert optimizer_cards.tuned_in_words([0.5, 0.012, 3.0]) == [
        ("Tuned", "0.012 to 3, on three problems")
    ]
    assert optimizer_cards.tuned_in_words([0.5]) == [("Tuned", "0.5, on one problem")]
    assert optimizer_cards.tuned_in_words(None) == []


def test_the_built_cards_have_the_rates_that_the_table_found():
    page = built_page("optimizers-card")
    rates = json.loads(book.LEDGER.read_text("utf-8"))["rates"]
    for name, found in rates.items():
        (words,) = [text for _, text in optimizer_cards.tuned_in_words(found)]
        assert words in page.find(id=name).get_text()
    assert len(rates) == 30
