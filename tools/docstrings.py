r"""What the docstring of a rule or a schedule says: read into its parts, for the reference cards.

One sentence, the summary.

.. math:: \eta_t = \eta_0

Further paragraphs.

:when: What it is good for.
:torch: its name there; a text may go on
    in indented lines
"""

import inspect
import re
from typing import NamedTuple


class Docstring(NamedTuple):
    """Parts of a docstring. The texts are plain, with `code` between backticks."""

    summary: str
    formulas: list  # of TeX
    paragraphs: list
    fields: dict  # in the order of the docstring


def parse(doc, name, known, required=()):
    """The parts of a docstring. ValueError, which names `name`, where it is not in its form.

    `known` are the fields it may have and `required` those it must have.
    """
    blocks = re.split(r"\n(?:[ \t]*\n)+", inspect.cleandoc(doc or ""))
    formulas, paragraphs, fields = [], [], {}
    below = False  # a formula, which may stand below its directive
    for block in blocks:
        if block.startswith(".. math::"):
            formulas.append(block.removeprefix(".. math::"))
        elif block.startswith(" ") and below:
            formulas[-1] += "\n" + block
        elif block.startswith(":"):
            for key, text in read_fields(block, name):
                if key not in known:
                    allowed = ", ".join(f":{field}:" for field in known)
                    raise ValueError(
                        f"{name}: the docstring has an unknown field :{key}: ({allowed} are known)"
                    )
                if key in fields:
                    raise ValueError(f"{name}: the docstring has the field :{key}: twice")
                fields[key] = text
        elif block:
            paragraphs.append(" ".join(block.split()))
        below = block.startswith(".. math::") or (below and block.startswith(" "))
    if not paragraphs:
        raise ValueError(f"{name}: the docstring has no first line that says what it is")
    for key in required:
        if key not in fields:
            raise ValueError(f"{name}: the docstring has no field :{key}:")
    return Docstring(paragraphs[0], [" ".join(f.split()) for f in formulas], paragraphs[1:], fields)


def read_fields(block, name):
    """(field, text) of each field in a list of them."""
    for item in re.split(r"\n(?=\S)", block):
        found = re.fullmatch(r":(\w+):\s+(\S.*)", item, re.DOTALL)
        if not found:
            raise ValueError(
                f"{name}: in the docstring's fields, not of the form `:field: text`: {item!r}"
            )
        yield found[1], " ".join(found[2].split())
