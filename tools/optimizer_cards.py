"""The cards of optimizers, for the extension sphinx_cards.

`{optimizers} <group>` writes a card for each rule of a group of optimizer_pictures,
`{optimizer-overview}` a table of all of them with what was measured, `{optimizer-names}` which
names torch, optax and Keras have for them. Each card is a section with its rule's name as its
anchor, and `{ref}` knows it as `optimizer-<name>`.
"""

import ast
import inspect
import re
import textwrap
import types
from pathlib import Path

import numpy as np
from docutils import nodes

import card_parts as parts
import optimizer_pictures as pictures
import optimizer_traits as traits
from docstrings import parse
from kept import read_json
from lrteach import optimizers, rules
from lrteach.optimizers import sgd

FIELDS = {
    "when": "When", "rate": "Rate", "torch": "torch", "optax": "optax", "keras": "Keras",
    "source": "Source",
}  # fmt: skip
REQUIRED = [field for field in FIELDS if field != "rate"]
# The libraries, and what a name in them looks like.
LIBRARIES = {"torch": r"(?:\w+\.)?[A-Z]\w+", "optax": r"[a-z][\w.]+(?=\()", "keras": r"[A-Z]\w+"}
MAKESHIFTS = {"chain"}
FILES = (
    pictures.__file__, traits.__file__, optimizers.__file__, rules.__file__, __file__,
)  # fmt: skip


# --- what the code says -----------------------------------------------------------------------


def described(name):
    """The docstring of a rule, in its parts."""
    return parse(getattr(optimizers, name).__doc__, name, FIELDS, required=REQUIRED)


def parameters(name):
    """(hyperparameter, default, what is allowed, "") of each; of an average its own alone."""
    rule = pictures.rule_of(name)
    defaults = rule.defaults
    if pictures.is_average(name):
        signature = inspect.signature(getattr(optimizers, name))
        defaults = {p.name: p.default for p in signature.parameters.values() if p.name != "rule"}
    for argument, default in defaults.items():
        try:
            rule.check(lr=1.0, **{argument: object()})
        except ValueError as error:
            yield argument, repr(default), parts.what_is_refused(error), ""
        else:
            raise ValueError(f"{name}: takes anything for {argument}")


def without_docstring(function):
    """The source of a function; of one without a decorator, the first line without types too."""
    source = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(source).body
    lines, first = source.splitlines(), tree.body[0]
    if lines[0].startswith("def "):
        for each in ast.walk(tree.args):
            if isinstance(each, ast.arg):
                each.annotation = None
        lines[0] = f"def {tree.name}({ast.unparse(tree.args)}):"
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def code_of(name):
    """What a rule computes, as it stands in its module: its body, and the functions it calls."""
    if pictures.is_average(name):
        share = without_docstring(vars(rules)[f"_{name.removesuffix('_average')}_share"])
        (line,) = re.findall(
            r"return theta, \*slots, (\(1 - share.*)", inspect.getsource(rules._Averaged)
        )
        return f"{share}\n\nmean_theta = {line}"
    formula = getattr(optimizers, name).formula
    text = without_docstring(formula)
    end = re.search(r"\):.*\n", text).end()  # of the signature
    helpers = [optimizers.__dict__.get(called) for called in formula.__code__.co_names]
    helpers = [
        each for each in helpers
        if isinstance(each, types.FunctionType) and each.__module__ == optimizers.__name__
    ]  # fmt: skip
    return "\n\n".join([textwrap.dedent(text[end:]), *map(without_docstring, helpers)])


def names_elsewhere(library):
    """{its name: our names} of all rules that this library has a name for."""
    texts = {ours: described(ours).fields for ours in pictures.card_names()}
    return parts.names_in_fields(texts, LIBRARIES, MAKESHIFTS)[library]


# What a docstring may say of the unit of `lr`, and the powers that were then measured: of the
# unit of the loss, and of the unit of theta. None: no rate makes the same path.
UNITS = {
    r"`lr` is in units of theta² / loss": (-1, 2),
    r"`lr` is in units of theta(?! ²| /|²)": (0, 1),
    r"units of `lr` and `eps` are those of `adam`": (0, 1),
    r"`lr` (?:multiplies the step and )?has no unit": (0, 0),
    r"`lr` has two units": (None, None),
}
# Theirs is a first guess with a unit of its own, or ε: the rate has none, and still in other units
# of theta the path is another one.
GUESSES = {"adadelta": "eps", "dog": "r0", "dadapt_sgd": "d0", "dadapt_adam": "d0", "prodigy": "d0"}


def check_units(name):
    """ValueError where a docstring says another unit of the rate than was measured."""
    text = " ".join(described(name).paragraphs)
    said = [powers for words, powers in UNITS.items() if re.search(words, text)]
    if len(said) != 1:
        raise ValueError(
            f"{name}: the docstring does not say in one of the known forms what unit `lr` has"
        )
    found = tuple(traits.answer(pictures.rule_of(name), each).power for each in ("loss", "unit"))
    if said[0] == (0, 0) and name in GUESSES:
        said = [(0, None)]
    if found != said[0]:
        raise ValueError(
            f"{name}: the docstring says that the rate goes with the units of loss and theta as "
            f"{said[0]}, and measured are {found}"
        )


# --- what was measured, in words ----------------------------------------------------------------

PATHS = {
    ("same", 0): ("●", "the same path"),
    ("nearly", 0): ("◐", "the same path, but for ε"),
    ("same", -1): ("η ÷ 10", "the same path at a tenth of the rate"),
    ("nearly", -1): ("≈ η ÷ 10", "the same path at a tenth of the rate, but for ε"),
    ("same", 1): ("η × 10", "the same path at 10 times the rate"),
    ("nearly", 1): ("≈ η × 10", "the same path at 10 times the rate, but for ε"),
    ("same", 2): ("η × 100", "the same path at 100 times the rate"),
    ("nearly", 2): ("≈ η × 100", "the same path at 100 times the rate, but for ε"),
    ("other", None): ("○", "another path"),
}  # fmt: skip
QUESTIONS = {
    "loss": "Loss × 10", "unit": "θ × 10", "turned": "Axes turned", "slopes": "Each slope × its own",
    "constant": "Loss + 10",
}  # fmt: skip


def path_in_words(rule, question):
    """(symbol, words) for what becomes of the path."""
    answer = traits.answer(rule, question)
    symbol, words = PATHS[tuple(answer)]
    if question == "unit" and answer.verdict == "other":
        with_guess = traits.with_its_guess(rule)
        if with_guess != "other":
            same = PATHS[with_guess, 0][1]
            return "d₀ × 10", f"{same} if its first guess d₀ is 10 times as large too"
    if question == "turned":
        if answer.verdict != "other" and rule.layerwise:
            return symbol, f"{words}, within a layer"
        as_matrix = traits.answer(rule, "turned as a matrix")
        if answer.verdict == "other" and as_matrix.verdict != "other":
            return (
                "◧",
                f"{PATHS[tuple(as_matrix)][1]} if rows and columns are turned, another one if they mix",
            )
    return symbol, words


def first_step_in_words(rule):
    """(symbol, words) for the first step at a rate of 0.1."""
    first = traits.first_step(rule)
    number = pictures.number
    along = {"gradient": "along the gradient, ", "signs": "equal in all coordinates, "}.get(
        first.along, ""
    )
    if first.power == 1 and first.along == "gradient":
        return "∝ g", f"{number(first.in_gradients)} times the gradient"
    if first.power == -1:
        return "∝ 1/g", f"{along}and ten times shorter where the gradient is ten times longer"
    if first.power != 0:
        raise ValueError(f"{rule.__name__}: no words for a first step like {first}")
    if first.weight_power == 1:
        return (
            "∝ θ",
            f"{along}{number(first.in_weights)} of the length of θ, whatever the gradient's length",
        )
    if first.along == "signs":
        return "fixed", f"each coordinate by {number(first.length)}, whatever its slope"
    if first.along == "matrix":
        return (
            "fixed",
            f"all singular values about {number(first.length)}, whatever the gradient's length",
        )
    return "fixed", f"{along}{number(first.length)} long, whatever the gradient's length"


def state_size(name):
    size = traits.cost(pictures.rule_of(name)).state
    return str(size) + " more" * pictures.is_average(name)


def state_in_words(name):
    """How many numbers a rule keeps, and slot by slot what they are."""
    rule = pictures.rule_of(name)
    kinds = {
        "array": "like θ, from 0", "point": "like θ, from θ₀", "number": "a number",
        "average": "like θ, from θ₀, and evaluated in its place",
    }  # fmt: skip
    rows, columns = traits.COUNTED
    shapes = {(rows, 1): "for each row", (1, columns): "for each column"}
    said = {}
    for slot, kind in rule.kinds.items():
        words = shapes.get(traits.cost(rule).shapes[slot], kinds[kind.value])
        said.setdefault(words, []).append(f"`{slot}`")
    slots = "; ".join(f"{', '.join(names)} {words}" for words, names in said.items())
    return f"{state_size(name)}: {slots}" if slots else state_size(name)


def cost_in_words(name):
    """Operations, and what is asked for."""
    cost = traits.cost(pictures.rule_of(name))
    if pictures.is_average(name):
        more = cost.operations - traits.cost(sgd).operations
        return f"{more:.0f} operations per parameter more than the rule alone"
    words = f"{parts.thousands(cost.operations)} operations per parameter"
    if cost.products:
        words += f" of a {traits.COUNTED[0]} × {traits.COUNTED[1]} matrix, {parts.thousands(cost.products)} of them in products of matrices"
    words += f"; {'one gradient' if cost.gradients == 1 else f'{cost.gradients} gradients'}"
    return words + " and the loss" * cost.asks_loss


def traits_of(name):
    """(question, symbol, words) of all that was measured."""
    rule = pictures.rule_of(name)
    if pictures.is_average(name):
        inside = np.array_equal(traits.path(rule), traits.path(sgd))
        if not inside:
            raise ValueError(f"{name}: does not walk as the rule inside")
        return [("Path", "●", "that of the rule inside, bit for bit")]
    rows = [(label, *path_in_words(rule, each)) for each, label in QUESTIONS.items()]
    return [*rows, ("First step at 0.1", *first_step_in_words(rule))]


# --- what the page shows ----------------------------------------------------------------------


def symbol(sign, words):
    """A sign that is said in words to those who cannot see it."""
    return nodes.raw(
        "", f'<span class="card-sign" role="img" aria-label="{words}">{sign}</span>', format="html"
    )


def traits_list(name):
    items = nodes.bullet_list("", classes=["card-traits"])
    for label, sign, words in traits_of(name):
        mark = nodes.raw("", f'<span class="card-sign" aria-hidden="true">{sign if len(sign) == 1 else "◇"}</span>', format="html")  # fmt: skip
        line = nodes.paragraph("", "", mark, nodes.strong("", label), nodes.Text(f" {words}"))
        items += nodes.list_item("", line)
    return items


class Optimizers(parts.Deck):
    """The cards of a group."""

    files, kind, groups = FILES, "optimizer", pictures.GROUPS

    def card(self, name):
        said = described(name)
        if not pictures.is_average(name):
            check_units(name)
        call, outcome = pictures.caption(name)
        caption = [nodes.literal(call, call), nodes.Text(f" · {outcome}")]
        figure = self.figure(
            name, pictures.draw(name), pictures.alt(name), pictures.PIXELS, *caption
        )
        code = nodes.literal_block(code_of(name), code_of(name), language="python")
        fields = [("State", state_in_words(name)), ("Cost", cost_in_words(name))]
        if not pictures.is_average(name):
            fields.append(("Rate", said.fields.get("rate", "no default in torch, optax and Keras")))
            fields += self.tuned(name)
        fields += [(FIELDS[lib], said.fields[lib]) for lib in [*LIBRARIES, "source"]]
        rows = list(parameters(name))
        return self.section(
            name,
            parts.paragraph(said.summary, "card-summary"),
            nodes.container(
                "", figure, parts.said_in_words(said), traits_list(name), classes=["card-top"]
            ),
            nodes.container("", code, classes=["card-code"]),
            *([parts.parameters_table(rows)] if rows else []),
            parts.field_list(fields),
        )

    def tuned(self, name):
        """The rates that the page with the table of results has found, if it has been executed."""
        file = Path(self.env.app.outdir).parent / "ledger.json"  # as for the ledger of claims
        if not file.is_file():
            return []
        self.env.note_dependency(str(file))
        return tuned_in_words(read_json(file, dict).get("rates", {}).get(name))


def tuned_in_words(rates):
    """[("Tuned", words)] for the best rates on several problems; [] if there are none."""
    if not rates:
        return []
    low, high = (pictures.number(rate) for rate in (min(rates), max(rates)))
    span = low if low == high else f"{low} to {high}"
    return [("Tuned", f"{span}, on {pictures.count(len(rates), 'problem')}")]


class Overview(parts.Cards):
    """All rules with the size of their state, their cost, and what was measured."""

    files = FILES

    def cards(self):
        rows = []
        for name in pictures.card_names():
            if pictures.is_average(name):
                continue
            rule = pictures.rule_of(name)
            cells = [path_in_words(rule, each) for each in QUESTIONS]
            rows.append((
                nodes.paragraph("", "", parts.link(name)),
                traits.cost(rule).state.briefly(),
                parts.thousands(traits.cost(rule).operations),
                *(nodes.paragraph("", "", symbol(*cell)) for cell in [*cells, first_step_in_words(rule)]),
            ))  # fmt: skip
        columns = ("Rule", "State", "Operations", *QUESTIONS.values(), "First step")
        return [parts.table(columns, rows, "card-overview", "card-measured")]


class Names(parts.Cards):
    """For each library its names, in alphabetical order, and ours."""

    files = FILES

    def cards(self):
        known = {library: names_elsewhere(library) for library in LIBRARIES}
        return [parts.names_list(known, FIELDS)]
