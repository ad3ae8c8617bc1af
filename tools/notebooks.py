"""Write _build/notebooks: every chapter as a notebook that any Jupyter can run.

It needs the built site, which knows the numbers of figures and theorems, and where everything is.
The code is the chapter's; the text becomes plain Markdown. What MyST would make of a role or a
directive that is not known here stops the program.

On GitHub, GITHUB_REPOSITORY says who publishes the site and the branch `notebooks`; then links
lead to the site, and Colab and Binder can open the notebooks. SITE_URL is for a site elsewhere.
"""

import ast
import os
import pickle
import posixpath
import re
import shutil
import sys
from pathlib import Path

import nbformat
import yaml
from pybtex.database import parse_file
from pybtex.plugin import find_plugin

import book
import exercises
from kept import DamagedError, read_json
from sphinx_ledger import find_claim

FOLDER = book.BUILD / "notebooks"
BRANCH = "notebooks"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
FENCE = re.compile(r"^(`{3,}|~{3,})(.*)\n((?:.*\n)*?)\1[ ]*$", re.MULTILINE)
TO_PAGE = re.compile(r"\[([^\]]+)\]\((?!https?:)([^()#\s]+)\.md(?:#([\w-]+))?\)")
MATH = re.compile(r"^\$\$(.*?)\$\$[ ]*(?:\(([\w-]+)\))?[ ]*$", re.MULTILINE | re.DOTALL)
KINDS = {"figure": "Fig.", "displaymath": "", "solution": ""}  # others are their own name


class Unknown(ValueError):
    """Something of MyST's that has no plain form here."""


def pages():
    """{name: path} of the chapters and of the other pages with code, without the landing page."""
    return {name: path for name, path in book.chapters().items() if "/" in name}


class Site:
    """What the built site knows, and where it and the notebooks are published, if they are."""

    def __init__(self, environment=os.environ):
        built = book.BUILD / ".doctrees" / "environment.pickle"
        try:
            self.sphinx = pickle.loads(built.read_bytes())
        except Exception as error:  # what was damaged decides which
            raise DamagedError(
                f"{built} is damaged ({error}): run `make clean`, then `make book`"
            ) from None
        self.claims = read_json(book.LEDGER, dict)["claims"]
        self.works = parse_file(str(book.BOOK / "references.bib")).entries
        self.style = find_plugin("pybtex.style.formatting", "plain")()
        self.markdown = find_plugin("pybtex.backends", "markdown")("utf-8")
        self.pages = pages()
        self.repository = environment.get("GITHUB_REPOSITORY", "")
        owner, _, name = self.repository.partition("/")
        published = f"https://{owner.lower()}.github.io/{name}/" if name else ""
        self.url = environment.get("SITE_URL", published)
        self.numbers = {}  # label: (page, anchor, kind, number)
        for page, kinds in self.sphinx.toc_fignumbers.items():
            for kind, anchors in kinds.items():
                for anchor, number in anchors.items():
                    label = anchor.removeprefix("equation-")
                    where = (page, anchor, KINDS.get(kind, kind.title()))
                    self.numbers[label] = (*where, ".".join(map(str, number)))

    def link(self, text, here, page, anchor=""):
        """A link to a page from the notebook of another; within a notebook only its text."""
        if page == here:
            return text
        if self.url:
            return f"[{text}]({self.url}{page}.html{'#' * bool(anchor)}{anchor})"
        return f"[{text}](../{page}.ipynb)" if page in self.pages else text

    def numbered(self, label, here, title=""):
        """What has a number on the site: `Fig. 10.1`, or the text that is given."""
        if label not in self.numbers:
            raise Unknown(f"{label} has no number on the site")
        page, anchor, kind, number = self.numbers[label]
        return self.link(title or f"{kind} {number}".strip(), here, page, anchor)

    def reference(self, label, title, here):
        """What {ref} shows: the text that is given, or the title of the place."""
        if label in self.numbers:
            return self.numbered(label, here, title)
        labels = self.sphinx.domaindata["std"]
        page, anchor, *name = labels["labels"].get(label) or labels["anonlabels"][label]
        return self.link(title or name[0], here, page, anchor)

    def citation(self, keys, textual):
        found = []
        for key in keys.split(","):
            people = self.works[key.strip()].persons.get("author", [])
            names = [
                " ".join(map(str, person.rich_prelast_names + person.rich_last_names))
                for person in people
            ]
            who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
            year = self.works[key.strip()].fields["year"]
            found.append(f"{who} ({year})" if textual else f"{who}, {year}")
        return ", ".join(found) if textual else f"({'; '.join(found)})"

    def bibliography(self, keys):
        """The cited works as a list, in pybtex's words."""
        entries = self.style.format_entries([self.works[key] for key in sorted(keys)])
        works = [entry.text.render(self.markdown) for entry in entries]
        return "## References\n\n" + "\n".join("- " + " ".join(work.split()) for work in works)


class Page:
    """Turns the text of one page into plain Markdown."""

    def __init__(self, site, name):
        self.site, self.name, self.cited = site, name, set()

    def plain(self, text):
        """Markdown without MyST: its fences first, then what stands between them."""
        parts, end = [], 0
        for fence in FENCE.finditer(text):
            parts.append(self.prose(text[end : fence.start()]))
            directive = re.fullmatch(r"\{([\w:-]+)\}[ ]*(.*)", fence[2].strip())
            parts.append(self.directive(*directive.groups(), fence[3]) if directive else fence[0])
            end = fence.end()
        return "".join([*parts, self.prose(text[end:])])

    def prose(self, text):
        text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)  # a label
        text = re.sub(r"\[([^\]]+)\]\{\.[^}]*\}", r"\1", text)  # a class
        text = MATH.sub(self.display, text)
        text = TO_PAGE.sub(lambda link: self.to_page(*link.groups()), text)
        return ROLE.sub(lambda role: self.role(*role.groups()), text)

    def resolved(self, target):
        """The page that a path in this page's text means."""
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(self.name), target))[1:]

    def to_page(self, text, target, anchor):
        return self.site.link(text, self.name, self.resolved(target), anchor or "")

    def display(self, match):
        """A formula with the number that it has on the site; rows want an environment."""
        formula, label = match.groups()
        if r"\\" in formula and r"\begin" not in formula:
            formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
        tag = rf"\tag{{{self.site.numbers[label][3]}}} " if label else ""
        return f"$${formula}{tag}$$"

    def role(self, name, content):
        titled = re.fullmatch(r"(.+?)\s*<(.+)>", content, re.DOTALL)
        title, target = titled.groups() if titled else ("", content)
        site, here = self.site, self.name
        if name == "math":
            return f"${content}$"
        if name == "term":
            return title or content
        if name == "doc":
            page = self.resolved(target)
            return site.link(title or site.sphinx.titles[page].astext(), here, page)
        if name == "eq":
            return site.numbered(target, here, f"({site.numbers[target][3]})")
        if name in ("numref", "prf:ref", "ref"):
            return site.reference(target, title, here)
        if name in ("cite:p", "cite:t"):
            self.cited |= {key.strip() for key in content.split(",")}
            return site.citation(content, textual=name == "cite:t")
        if name.startswith("py:"):
            return site.link(f"`{title or target}`", here, "reference/api", target)
        if name == "claim":
            claim = find_claim(site.claims, target)
            return site.link(title or claim["name"], here, claim["chapter"], claim["id"])
        raise Unknown(f"{here}: the role {name} of {content!r}")

    def directive(self, name, argument, body):
        options = {}
        while option := re.match(r":([\w-]+):[ ]*(.*)\n", body):
            options[option[1]], body = option[2].strip(), body[option.end() :]
        label = options.get("label", argument)
        if name == "prf:proof":
            return f"*Proof.* {self.plain(body.strip())} ∎"
        if name.startswith("prf:") or name == "exercise":
            title = f" ({argument})" if argument else ""
            head = f"**{self.site.numbered(label, self.name)}**{self.plain(title)}"
            return f"{head}\n\n{self.plain(body.strip())}"
        if name == "solution":
            head = self.site.numbered(label, self.name)
            return (f"<details><summary>Solution of {head}</summary>\n\n"
                    f"{self.plain(body.strip())}\n\n</details>")  # fmt: skip
        if name == "index":  # terms for the site's search
            return ""
        if name == "checked-exercises":
            return f"They are in [a notebook of their own](../exercises/{argument}.ipynb)."
        if name == "tab-set":
            return self.plain(body)
        if name == "tab-item":
            return f"**{argument}**\n\n{self.plain(body)}"
        if name == "literalinclude":
            code = book.BOOK.joinpath(self.name).with_name(argument).read_text("utf-8")
            (found,) = [node for node in ast.parse(code).body
                        if getattr(node, "name", "") == options["pyobject"]]  # fmt: skip
            return f"```python\n{ast.get_source_segment(code, found)}\n```\n"
        raise Unknown(f"{self.name}: the directive {name}")


def needed_files(code, folder):
    """Files beside a page that its code names: they travel with its notebook."""
    return [path for path in sorted(folder.iterdir())
            if path.is_file() and path.suffix not in (".md", ".py") and path.name in code]  # fmt: skip


def setup_code(site, name, files):
    """The first cell: it installs the package where it is missing, and fetches missing files."""
    wanted = ("lrteach", "altair", "scipy", "vl_convert")
    package = "lrteach[notebooks]"
    if site.repository:
        package += f" @ git+https://github.com/{site.repository}"
    lines = [
        "# What this notebook needs: the package lrteach. Where it is missing, this installs it.",
        "from importlib.util import find_spec",
        "",
        f"if not all(map(find_spec, {wanted})):",
        f'    %pip install --quiet "{package}"',
    ]
    if files and site.repository:
        base = f"https://raw.githubusercontent.com/{site.repository}/{BRANCH}/{Path(name).parent}/"
        lines += ["", "from pathlib import Path", "from urllib.request import urlretrieve", ""]
        for file in files:
            lines += [
                f'if not Path("{file.name}").exists():  # in Colab',
                f'    urlretrieve("{base}{file.name}", "{file.name}")',
            ]
    return "\n".join(lines)


def launchers(site, path):
    """Links that open a notebook of the published branch, in Markdown."""
    if not site.repository:
        return ""
    colab = f"https://colab.research.google.com/github/{site.repository}/blob/{BRANCH}/{path}"
    binder = f"https://mybinder.org/v2/gh/{site.repository}/{BRANCH}?labpath={path}"
    return f"[Colab]({colab}) · [Binder]({binder})"


def finished(cells):
    """A notebook of these cells, the same bytes every time."""
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1) + "\n"


def convert(site, name):
    """A page's notebook, as text."""
    source, page, new = book.read_notebook(site.pages[name]), Page(site, name), nbformat.v4
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    files = needed_files(code, site.pages[name].parent)
    head = "From *The Learning Rate*, an executable book."
    if site.url:
        head += f" Its site has [this page]({site.url}{name}.html) with all results."
    if launchers(site, f"{name}.ipynb"):
        head += f" Open this notebook in {launchers(site, f'{name}.ipynb')}."
    cells = [new.new_markdown_cell(head), new.new_code_cell(setup_code(site, name, files))]
    for cell in source.cells:
        if cell.cell_type == "markdown":
            cells.append(new.new_markdown_cell(page.plain(cell.source).strip()))
            continue
        tags = list(cell.metadata.get("tags", []))
        cells.append(new.new_code_cell(cell.source, metadata={"tags": tags} if tags else {}))
        if "hide-input" in tags:
            cells[-1].metadata["jupyter"] = {"source_hidden": True}
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("caption"):
            number = site.numbered(figure["name"], name) if "name" in figure else ""
            caption = f"*{number}* {page.plain(figure['caption'])}".strip()
            cells.append(new.new_markdown_cell(caption))
    if page.cited:
        cells.append(new.new_markdown_cell(site.bibliography(page.cited)))
    return finished(cells)


def convert_exercises(site, path, chapter):
    """An exercise notebook, which finds its chapter's and installs the package like it."""
    notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(f"../book/{chapter}.md", f"../{chapter}.ipynb")
    setup = nbformat.v4.new_code_cell(setup_code(site, f"exercises/{path.stem}", []))
    return finished([notebook.cells[0], setup, *notebook.cells[1:]])


def readme(site):
    """The list of all notebooks: what the branch shows first."""
    lines = ["# The Learning Rate, as notebooks", "",
             "Each page of the book that has code, and the exercises, made by `make notebooks`. They run in any "
             "Jupyter: the first cell installs the package `lrteach` where it is missing.", ""]  # fmt: skip
    if site.url:
        lines += [f"The book itself, with all results: {site.url}", ""]
    chapters = {name: slug for slug, name in exercises.chapters_with_exercises().items()}
    toc = yaml.safe_load((book.ROOT / "_toc.yml").read_text("utf-8"))
    for part in toc["parts"]:
        names = [chapter["file"] for chapter in part["chapters"] if chapter["file"] in site.pages]
        lines += [f"## {part['caption']}", ""] if names else []
        for name in names:
            line = f"- [{site.sphinx.titles[name].astext()}]({name}.ipynb) {launchers(site, f'{name}.ipynb')}"
            lines.append(line.rstrip())
            if (exercises.EXERCISES / f"{chapters.get(name)}.ipynb").exists():
                path = f"exercises/{chapters[name]}.ipynb"
                lines.append(f"  - [exercises]({path}) {launchers(site, path)}".rstrip())
        lines += [""] if names else []
    return "\n".join(lines)


def write(site, folder=FOLDER):
    """Write everything into a fresh folder; returns the paths of the notebooks."""
    shutil.rmtree(folder, ignore_errors=True)
    files = {f"{name}.ipynb": convert(site, name) for name in site.pages}
    for slug, chapter in exercises.chapters_with_exercises().items():
        path = exercises.EXERCISES / f"{slug}.ipynb"
        if path.exists():
            files[f"exercises/{slug}.ipynb"] = convert_exercises(site, path, chapter)
    notebooks = [folder / name for name in files]
    files["README.md"] = readme(site)
    if site.repository:  # what Binder installs
        package = f"lrteach[notebooks] @ git+https://github.com/{site.repository}"
        files["requirements.txt"] = f"--extra-index-url {CPU_TORCH}\n{package}\n"
    for name, text in files.items():
        book.write_atomically(folder / name, text)
    for name, path in site.pages.items():
        for file in needed_files(path.read_text("utf-8"), path.parent):
            shutil.copy(file, folder / Path(name).parent)
    return notebooks


def main():
    if not book.WHOLE.exists():
        sys.exit("The site is not built: run `make book` first")
    try:
        site = Site()
    except DamagedError as error:
        sys.exit(str(error))
    print(f"{len(write(site))} notebooks are in {FOLDER.relative_to(book.ROOT)}")


if __name__ == "__main__":
    main()
