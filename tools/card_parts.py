"""What the reference cards of schedules and of optimizers are made of: nodes, and what is common to all cards."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


# --- What the code says -----------------------------------------------------------------------


def what_is_refused(error):
    """What a message `x=1 is not allowed: x must be ...` says is allowed."""
    words = str(error).rpartition(" must be ")[2]
    words = re.sub(r" = \d+$", "", words)  # what an expression is for these arguments
    words = re.sub(
        "(≥|>|≤|<) ", "\\1\N{NO-BREAK SPACE}", words.replace(">=", "≥").replace("<=", "≤")
    )
    return re.sub(r"((?:\w+=)?'\w+'|\bNone$)", r"`\1`", words)


def names_in_fields(texts, patterns, makeshifts=()):
    """{library: {its name: our names}} from {our name: fields}, by what a name there looks like."""
    found = {library: {} for library in patterns}
    for ours, fields in texts.items():
        for library, pattern in patterns.items():
            for theirs in re.findall(rf"`({pattern})(?=[(`])", fields.get(library, "")):
                if theirs not in makeshifts:
                    found[library].setdefault(theirs, {})[ours] = True
    return {
        library: dict(sorted(names.items(), key=lambda item: item[0].lower()))
        for library, names in found.items()
    }


# --- What the page shows ----------------------------------------------------------------------


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


def thousands(number):
    """A whole number, with thin spaces between its thousands."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def link(name):
    return nodes.reference("", "", nodes.literal(name, name), refid=name, internal=True)


def parameters_table(rows):
    """Rows (parameter, default or None, what is allowed, unit)."""
    rows = [
        (nodes.paragraph("", "", nodes.literal(argument, argument)),
         nodes.paragraph("", "", nodes.literal(default, default)) if default else "required",
         nodes.paragraph("", "", *inline(allowed), *([nodes.inline("", f" {unit}", classes=["card-unit"])] if unit else [])))
        for argument, default, allowed, unit in rows
    ]  # fmt: skip
    return table(("Parameter", "Default", "Allowed"), rows, "card-parameters")


def said_in_words(said):
    """A docstring's formulas and paragraphs, and when to use what it is about."""
    words = nodes.container("", *map(formula, said.formulas), classes=["card-words"])
    words += [paragraph(text) for text in said.paragraphs]
    words += nodes.paragraph("", "", nodes.strong("", "When: "), *inline(said.fields["when"]))
    return words


def names_list(known, labels):
    """For each library its names and ours: {library: {its name: our names}}, {library: label}."""
    items = []
    for library, names in known.items():
        long = max(map(len, names)) > 36
        entries = nodes.bullet_list("", classes=["card-names"] + ["long"] * long)
        for theirs, ours in names.items():
            line = nodes.paragraph("", "", nodes.literal(theirs, theirs), nodes.Text(" → "))
            for name in ours:
                line += ([nodes.Text(", ")] if name != next(iter(ours)) else []) + [link(name)]
            entries += nodes.list_item("", line)
        term = nodes.term("", labels[library])
        items.append(nodes.definition_list_item("", term, nodes.definition("", entries)))
    return nodes.definition_list("", *items)


class Cards(SphinxDirective):
    """What the directives have in common: a mistake in the code is a warning that names it."""

    files = ()

    def run(self):
        for file in (*self.files, __file__):
            self.env.note_dependency(str(file))
        try:
            return self.cards()
        except ValueError as error:
            logger.warning("cards: %s", error, location=self.get_location())
            return []


class Deck(Cards):
    """The cards of a group. `kind` is the first word of their anchors and files."""

    required_arguments = 1
    kind, groups = "", {}

    def cards(self):
        group = self.arguments[0]
        if group not in self.groups:
            raise ValueError(f"no group {group!r}: there are {', '.join(self.groups)}")
        return [self.card(name) for name in self.groups[group]]

    def section(self, name, *content):
        section = nodes.section(
            "", nodes.title("", "", nodes.literal(name, name)), *content,
            ids=[name], names=[f"{self.kind}-{name}"], classes=["card"],
        )  # fmt: skip
        self.state.document.note_explicit_target(section)
        return section

    def figure(self, name, svg, alt, size, *caption):
        """A picture with its caption. Its file lies where Sphinx writes none."""
        folder = Path(self.env.doctreedir).parent / "cards"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.kind}-{name}.svg"
        file.write_bytes(svg)
        uri = f"/../{file.relative_to(Path(self.env.srcdir).parent).as_posix()}"
        width, height = map(str, size)
        image = nodes.image(
            "", uri=uri, alt=alt, width=width, height=height, loading="lazy"
        )  # fmt: skip
        line = nodes.paragraph("", "", *caption, classes=["caption"])
        return nodes.container("", image, line, classes=["card-picture"])
