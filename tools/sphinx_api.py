"""Sphinx extension: the directive `{api} MODULE`, all public names of a module of lrteach.

Which names there are says `__all__`; what they are, their docstrings, by autodoc. A name that users
find in `lrteach` itself stands under that name. One that belongs to another module is only linked.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.util.docutils import SphinxDirective

import book
import lrteach

# A field of a docstring that is the name of a library keeps that library's spelling.
LIBRARIES = {name.capitalize(): name for name in ("torch", "optax", "transformers")}


# --- which names, and where they are --------------------------------------------------------


def home_of(value, module):
    """The module of lrteach that a value belongs to, or `module` for a constant, which cannot say."""
    path = getattr(value, "__module__", None) or ""
    return path.split(".")[1] if path.startswith("lrteach.") else module


def public_names(module):
    """{name as the page has it: value} of the names that a module defines, and {…} of its guests."""
    found, guests = {}, {}
    for name in import_module(f"lrteach.{module}").__all__:
        value = getattr(import_module(f"lrteach.{module}"), name)
        home = home_of(value, module)
        if home != module and name in import_module(f"lrteach.{home}").__all__:
            guests[f"lrteach.{home}.{name}"] = value
        elif lrteach._HOMES.get(name) == module:
            found[f"lrteach.{name}"] = value
        else:
            found[f"lrteach.{module}.{name}"] = value
    return found, guests


def is_constant(value):
    return not (inspect.isclass(value) or callable(value))


def first_sentence(value):
    """What a list says of a name in one line."""
    text = "" if is_constant(value) else inspect.getdoc(value) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.?!])\s+(?=[A-Z`])", paragraph)[0]


def entry(path, value):
    """The directive of autodoc for a name."""
    if inspect.isclass(value):
        return f".. autoclass:: {path}\n   :members:\n   :special-members: __call__\n"
    if callable(value):  # a rule is a function to its users
        return f".. autofunction:: {path}\n"
    hidden = "   :no-value:\n" if isinstance(value, dict) else ""
    return f".. autodata:: {path}\n{hidden}"


def list_of(values, within=""):
    """Each name with a link and a first sentence, in Markdown; `within` is not repeated."""
    lines = ["```{div} api-names"]
    for path, value in values.items():
        said = first_sentence(value)
        lines.append(f"- {{py:obj}}`{path.removeprefix(within)} <{path}>`{said and ': ' + said}")
    return "\n".join([*lines, "```"])


def page_of(module):
    """What the page says of a module, in Markdown."""
    found, guests = public_names(module)
    text = ["```{eval-rst}", f".. automodule:: lrteach.{module}", "   :no-members:", "```", ""]
    text += [list_of(found, within=f"lrteach.{module}."), ""]
    if guests:
        links = ", ".join(f"{{py:obj}}`{path.rpartition('.')[2]} <{path}>`" for path in guests)
        text += [f"And from other modules: {links}.", ""]
    text += ["```{eval-rst}", *(entry(*item) for item in found.items()), "```"]
    return "\n".join(text)


class Api(SphinxDirective):
    """The docstring of a module, a list of its names, and each with its own docstring.

    Of `lrteach` itself, whose names stand with the modules that define them, only the list.
    """

    required_arguments = 1

    def run(self):
        (module,) = self.arguments
        if module == "lrteach":
            names = {f"lrteach.{name}": getattr(lrteach, name) for name in lrteach._HOMES}
            return self.parse_text_to_nodes(list_of(names))
        for path in book.module_files(module):
            if path.suffix == ".py":
                self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(page_of(module))


# --- docstrings as reStructuredText ---------------------------------------------------------


def comment_above(name):
    """The comment above a constant in its module, as lines."""
    module, _, constant = name.rpartition(".")
    source = inspect.getsource(import_module(module))
    found = re.search(rf"^((?:#.*\n)*){constant}\b.*=", source, re.MULTILINE)
    return [line.removeprefix("#").strip() for line in found[1].splitlines()] if found else []


def escaped(line):
    """A line of words in which only what stands between backticks has a meaning."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*|])", r"\\\1", part) for part in parts
    )


def as_rst(lines):
    """A docstring of ours: below a directive as it is, other indented blocks code, the rest words."""
    done, inside = [], None  # what an indented line belongs to: a directive, code, or None, words
    for i, line in enumerate(lines):
        begins = i == 0 or not lines[i - 1].strip()
        if line and not line.startswith(" "):
            inside = "directive" if line.startswith(".. ") else None
        elif begins and line.startswith("    ") and inside is None:
            done += ["::", ""]
            inside = "code"
        done.append(line if inside or line.startswith(".. ") else escaped(line))
    return done


# The types of parameters are words for readers, no names to be looked up.
SECTIONS = [(name, "params_style") for name in ("Parameters", "Attributes", "Raises")]
NAPOLEON = Config(napoleon_use_rtype=False, napoleon_custom_sections=SECTIONS)


def prepare(app, what, name, value, options, lines):
    """Our docstrings, in the form that docutils reads."""
    if what == "data":
        lines[:] = comment_above(name)
    # of a property napoleon would take the first words for its type
    kind = "function" if what in ("property", "attribute", "data") else what
    lines[:] = NumpyDocstring(as_rst(lines), NAPOLEON, app, kind, name, value, options).lines()


def polish(app, domain, kind, content):
    """Libraries keep their small letters in the lists below docstrings, and dashes are dashes."""
    for field in content.findall(nodes.field_name):
        text = field.astext()
        if text in LIBRARIES:
            field.children[:] = [nodes.Text(LIBRARIES[text])]
    for text in list(content.findall(nodes.Text)):
        if text.startswith((" -- ", ") -- ")):  # napoleon, between a name and what is said of it
            text.parent.replace(text, nodes.Text(text.replace(" -- ", ": ", 1)))


# Sphinx's search finds an object by any part of its path: "lr" would find all of lrteach.
ANY_PART = "if (fullnameLower.indexOf(object) < 0) return;"
ITS_NAME = "if (!name.toLowerCase().includes(object) && !`.${fullnameLower}`.endsWith(`.${object}`)) return;"


def search_names_only(app, error):
    """Let the search look at the names of objects, and not at the modules that they are in."""
    script = Path(app.outdir, "_static", "searchtools.js")
    if error or app.builder.name != "html":
        return
    text = script.read_text("utf-8")
    if ANY_PART not in text and ITS_NAME not in text:
        raise ExtensionError("Sphinx's searchtools.js is another: change ANY_PART in sphinx_api.py")
    script.write_text(text.replace(ANY_PART, ITS_NAME), "utf-8")


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", prepare)
    app.connect("object-description-transform", polish)
    app.connect("build-finished", search_names_only)
    app.add_directive("api", Api)
    return {"version": "1", "parallel_read_safe": True}
