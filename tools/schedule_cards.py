"""The cards of schedules, for the extension sphinx_cards.

`{schedules} <group>` writes a card for each schedule of a group of schedule_pictures,
`{schedule-overview}` a table of all of them, `{schedule-names}` which names torch, optax, Keras and
transformers have for them. Each card is a section with its schedule's name as its anchor, and
`{ref}` knows it as `schedule-<name>`.
"""

import dataclasses

import numpy as np
from docutils import nodes

import card_parts as parts
import schedule_pictures as pictures
from docstrings import parse
from lrteach import schedules

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
FILES = (pictures.__file__, schedules.__file__, __file__)


# --- what the code says -----------------------------------------------------------------------


def described(name):
    """The docstring of a schedule, in its parts."""
    return parse(getattr(schedules, name).__doc__, name, FIELDS, required=("when",))


def what_is_allowed(schedule, argument):
    """What a schedule says may be given for this argument, when it is given nonsense."""
    try:
        dataclasses.replace(schedule, **{argument: object()})
    except ValueError as error:
        return parts.what_is_refused(error)
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
    texts = {ours: described(ours).fields for ours in pictures.card_names()}
    return parts.names_in_fields(texts, LIBRARIES, MAKESHIFTS)[library]


# --- what the page shows ----------------------------------------------------------------------


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


class Schedules(parts.Deck):
    """The cards of a group."""

    files, kind, groups = FILES, "schedule", pictures.GROUPS

    def card(self, name):
        said, picture = described(name), pictures.picture_of(name)
        elsewhere = [(FIELDS[lib], said.fields.get(lib, "none")) for lib in LIBRARIES]
        if not said.fields.keys() & LIBRARIES.keys():
            elsewhere = [("Elsewhere", "None of torch, optax, Keras and transformers has it.")]
        if "source" in said.fields:
            elsewhere.append(("Source", said.fields["source"]))
        figure = self.figure(
            name, pictures.draw(picture), picture.alt, pictures.size_of(picture),
            nodes.literal(picture.call, picture.call),
        )  # fmt: skip
        return self.section(
            name,
            parts.paragraph(said.summary, "card-summary"),
            nodes.container("", figure, parts.said_in_words(said), classes=["card-top"]),
            parts.parameters_table(parameters(name)),
            parts.field_list(elsewhere),
        )


class Overview(parts.Cards):
    """All schedules with their shapes, whether they need the length, and whether they end at zero."""

    files = FILES

    def cards(self):
        rows = []
        for name in pictures.card_names():
            first = nodes.paragraph("", "", spark(name), parts.link(name))
            rows.append((first, needs_length(name), ends_at_zero(name)))
        columns = ("Schedule", "Needs the length?", "Ends at zero?")
        return [parts.table(columns, rows, "card-overview")]


class Names(parts.Cards):
    """For each library its names, in alphabetical order, and ours."""

    files = FILES

    def cards(self):
        known = {library: names_elsewhere(library) for library in LIBRARIES}
        return [parts.names_list(known, FIELDS)]
