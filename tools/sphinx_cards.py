"""Sphinx extension: the reference cards, made from the docstrings and signatures of the code.

`{schedules} <group>` writes a card for each schedule of a group of tools/schedule_pictures.py,
`{schedule-overview}` a table of all of them, `{schedule-names}` which names torch, optax, Keras and
transformers have for them. Each card is a section with its schedule's name as its anchor, and
`{ref}` knows it as `schedule-<name>`.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import schedule_pictures as pictures
from docstrings import parse
from lrteach import schedules

logger = logging.getLogger(__name__)

FIELDS = {
    "when": "When", "torch": "torch", "optax": "optax", "keras": "Keras",
    "transformers": "transformers", "source": "Source",
}  # fmt: skip
# The libraries, and what a name in them looks like.
LIBRARIES = {
    "torch": r"[A-Z]\w+",
    "optax": r"(?=[\w.]*(?:schedule|decay|plateau))[a-z][\w.]+",
    "keras": r"[A-Z]\w+",
    "transformers": r"get_\w+",
}
# Ways to write a schedule down in a library that has no name for it.
MAKESHIFTS = {"LambdaLR", "SequentialLR", "LearningRateSchedule", "join_schedules"}

UPDATES, RATE, LOSSES = "updates", "rate", "losses"
UNITS = {
    **dict.fromkeys(
        ("steps", "every", "up", "down", "warmup", "timescale", "lengths", "milestones"), UPDATES
    ),
    **dict.fromkeys(("peak", "start", "end", "low", "mean", "rates"), RATE),
    "decay": "per update", "rise": "share of steps", "cooldown": UPDATES, "patience": LOSSES,
    "mu": "curvature", "L": "curvature",
    "plateau.cooldown": LOSSES, "plateau.threshold": "share of the best loss",
    "restart_below.threshold": "loss",
}  # fmt: skip
FILES = tuple(map(Path, (pictures.__file__, schedules.__file__, __file__)))


# --- what the code says -----------------------------------------------------------------------


def described(name):
    """The docstring of a schedule, in its parts."""
    return parse(getattr(schedules, name).__doc__, name, FIELDS, required=("when",))


def what_is_allowed(schedule, argument):
    """What a schedule says may be given for this argument, when it is given nonsense."""
    try:
        dataclasses.replace(schedule, **{argument: object()})
    except ValueError as error:
        words = str(error).rpartition(" must be ")[2]
        words = re.sub(r" = \d+$", "", words)  # what an expression is for these arguments
        words = re.sub("(≥|>) ", "\\1\N{NO-BREAK SPACE}", words.replace(">=", "≥"))
        return re.sub(r"((?:\w+=)?'\w+'|\bNone$)", r"`\1`", words)
    raise ValueError(f"{type(schedule).__name__}: takes anything for {argument}")


def parameters(name):
    """(parameter, default or None, what is allowed, unit) of each parameter of a schedule."""
    drawn = pictures.picture_of(name).drawn
    for argument in dataclasses.fields(drawn):
        required = argument.default is dataclasses.MISSING
        unit = UNITS.get(f"{name}.{argument.name}", UNITS.get(argument.name, ""))
        default = None if required else repr(argument.default)
        yield argument.name, default, what_is_allowed(drawn, argument.name), unit


def needs_length(name):
    picture, needed = pictures.picture_of(name), False
    for argument, default, *_ in parameters(name):
        needed |= argument == "steps" and default is None
    return picture.length or ("yes" if needed else "no")


def ends_at_zero(name):
    """Whether the last rate is zero, with the default end."""
    plan = pictures.picture_of(name).drawn
    if pictures.is_feedback(plan) or plan.steps is None:
        return "no"
    last = plan(plan.steps)
    return "yes" if last < 1e-12 else "nearly" if last < 1e-3 else "no"


def names_elsewhere(library):
    """{its name: our names} of all schedules that this library has a name for."""
    found = {}
    for ours in pictures.card_names():
        text = described(ours).fields.get(library, "")
        for theirs in re.findall(rf"`({LIBRARIES[library]})(?=[(`])", text):
            if theirs not in MAKESHIFTS:
                found.setdefault(theirs, {})[ours] = True
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


# --- what the page shows ----------------------------------------------------------------------


def inline(text):
    """Nodes of a text with `code` and arXiv numbers in it."""
    for part in re.split(r"(`+[^`]+`+|arXiv:[\d.]+\d)", text):
        if part.startswith("`"):
            code = part.strip("`")
            yield nodes.literal(code, code)
        elif part.startswith("arXiv:"):
            yield nodes.reference("", part, refuri=f"https://arxiv.org/abs/{part[6:]}")
        elif part:
            yield nodes.Text(part)


def paragraph(text, *classes):
    return nodes.paragraph("", "", *inline(text), classes=list(classes))


def formula(tex):
    """The parts of a formula, which stand in one line where there is room."""
    parts = [part.strip() for part in re.split(r"\\qquad|(?<=,)\s*\\quad|\\quad(?=\\text)", tex)]
    blocks = [nodes.math_block(part, part, number=None, label=None, nowrap=False) for part in parts]
    return nodes.container("", *blocks, classes=["card-formula"])


def table(columns, rows, *classes):
    """A table of cells, each a list of nodes or a text."""

    def row(cells):
        cells = [paragraph(cell) if isinstance(cell, str) else cell for cell in cells]
        return nodes.row("", *(nodes.entry("", cell) for cell in cells))

    group = nodes.tgroup("", cols=len(columns))
    group.extend(nodes.colspec(colwidth=10) for _ in columns)
    group.extend([nodes.thead("", row(columns)), nodes.tbody("", *map(row, rows))])
    return nodes.table("", group, classes=list(classes))


def field_list(items):
    return nodes.field_list("", *(
        nodes.field("", nodes.field_name("", name), nodes.field_body("", paragraph(text)))
        for name, text in items
    ), classes=["card-fields"])  # fmt: skip


def spark(name):
    """The shape alone, a thumbnail: decoration beside a name, so it is hidden from readers aloud."""
    picture = pictures.picture_of(name)
    t, rates = pictures.rates_of(picture.drawn)
    if picture.form == "steps" or pictures.is_feedback(picture.drawn):
        t, rates = np.repeat(t, 2)[1:], np.repeat(rates, 2)[:-1]
    points = " ".join(f"{0.6 * x + 2:.3g},{22 - 20 * y:.3g}" for x, y in zip(t, rates, strict=True))
    if picture.form == "points":
        dots = "".join(f"M{point}h0" for point in points.split()[: picture.drawn.steps])
        shape = f'<path d="{dots}" stroke-linecap="round"/>'
    else:
        shape = f'<polyline points="{points}"/>'
    svg = f'<svg class="card-spark" viewBox="0 0 64 24" width="64" height="24" aria-hidden="true">{shape}</svg>'
    return nodes.raw("", svg, format="html")


def link(name):
    return nodes.reference("", "", nodes.literal(name, name), refid=name, internal=True)


class Cards(SphinxDirective):
    """What the directives have in common: a mistake in the code is a warning that names it."""

    def run(self):
        for file in FILES:
            self.env.note_dependency(str(file))
        try:
            return self.cards()
        except ValueError as error:
            logger.warning("cards: %s", error, location=self.get_location())
            return []


class Schedules(Cards):
    """The cards of a group."""

    required_arguments = 1

    def cards(self):
        group = self.arguments[0]
        if group not in pictures.GROUPS:
            raise ValueError(f"no group {group!r}: there are {', '.join(pictures.GROUPS)}")
        return [self.card(name) for name in pictures.GROUPS[group]]

    def card(self, name):
        said, picture = described(name), pictures.picture_of(name)
        section = nodes.section(
            "", nodes.title("", "", nodes.literal(name, name)),
            ids=[name], names=[f"schedule-{name}"], classes=["card"],
        )  # fmt: skip
        self.state.document.note_explicit_target(section)
        words = nodes.container("", *map(formula, said.formulas), classes=["card-words"])
        words += [paragraph(text) for text in said.paragraphs]
        words += nodes.paragraph("", "", nodes.strong("", "When: "), *inline(said.fields["when"]))
        rows = [
            (nodes.paragraph("", "", nodes.literal(argument, argument)),
             nodes.paragraph("", "", nodes.literal(default, default)) if default else "required",
             nodes.paragraph("", "", *inline(allowed), *([nodes.inline("", f" {unit}", classes=["card-unit"])] if unit else [])))
            for argument, default, allowed, unit in parameters(name)
        ]  # fmt: skip
        elsewhere = [(FIELDS[lib], said.fields.get(lib, "none")) for lib in LIBRARIES]
        if not said.fields.keys() & LIBRARIES.keys():
            elsewhere = [("Elsewhere", "None of torch, optax, Keras and transformers has it.")]
        if "source" in said.fields:
            elsewhere.append(("Source", said.fields["source"]))
        section += [
            paragraph(said.summary, "card-summary"),
            nodes.container("", self.figure(name, picture), words, classes=["card-top"]),
            table(("Parameter", "Default", "Allowed"), rows, "card-parameters"),
            field_list(elsewhere),
        ]
        return section

    def figure(self, name, picture):
        """The picture with the call that it shows. Its file lies where Sphinx writes none."""
        folder = Path(self.env.doctreedir).parent / "cards"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"schedule-{name}.svg"
        file.write_bytes(pictures.draw(picture))
        width, height = pictures.size_of(picture)
        svg = f"/../{file.relative_to(Path(self.env.srcdir).parent).as_posix()}"
        image = nodes.image("", uri=svg, alt=picture.alt, width=f"{width}", height=f"{height}")
        caption = nodes.paragraph(
            "", "", nodes.literal(picture.call, picture.call), classes=["caption"]
        )
        return nodes.container("", image, caption, classes=["card-picture"])


class Overview(Cards):
    """All schedules with their shapes, whether they need the length, and whether they end at zero."""

    def cards(self):
        rows = []
        for name in pictures.card_names():
            first = nodes.paragraph("", "", spark(name), link(name))
            rows.append((first, needs_length(name), ends_at_zero(name)))
        return [table(("Schedule", "Needs the length?", "Ends at zero?"), rows, "card-overview")]


class Names(Cards):
    """For each library its names, in alphabetical order, and ours."""

    def cards(self):
        items = []
        for library in LIBRARIES:
            known = names_elsewhere(library)
            long = max(map(len, known)) > 36
            names = nodes.bullet_list("", classes=["card-names"] + ["long"] * long)
            for theirs, ours in known.items():
                line = nodes.paragraph("", "", nodes.literal(theirs, theirs), nodes.Text(" → "))
                for name in ours:
                    line += ([nodes.Text(", ")] if name != next(iter(ours)) else []) + [link(name)]
                names += nodes.list_item("", line)
            term = nodes.term("", FIELDS[library])
            items.append(nodes.definition_list_item("", term, nodes.definition("", names)))
        return [nodes.definition_list("", *items)]


def setup(app):
    app.add_directive("schedules", Schedules)
    app.add_directive("schedule-overview", Overview)
    app.add_directive("schedule-names", Names)
    return {"version": "1", "parallel_read_safe": True}
