"""Sphinx extension: `{article-items}`, what an article says and what became of it, and
`{chapter-questions}`, the questions that the chapters answer themselves.

The body of `{article-items}` is a list in YAML:

    - id: A1.4
      item: "step decay, printed as a formula"     what the article has, in our own words
      verdict: wrong                               right, thin, wrong or broken
      says: |                                      what is wrong, or what was added
        It compounds.
      settled:                                     links to the cells that settle it
        - "{claim}`schedules/decay: At t = 60`"
        - "{numref}`fig-decay-printed`"

A link that leads nowhere is a warning, and warnings stop the build.
"""

import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import book

logger = logging.getLogger(__name__)

VERDICTS = ("right", "thin", "wrong", "broken")
FIELDS = {"id", "item", "verdict", "says", "settled"}
LINK = re.compile(r"\{(claim|numref|prf:ref|ref|doc)\}`[^`]+`")


class FormError(ValueError):
    """An item is not written as it has to be."""


def read_items(text):
    """The items of a directive's body, complete and checked."""
    items = yaml.safe_load(text) or []
    for item in items:
        name = item.get("id", "an item without id")
        if set(item) - FIELDS:
            raise FormError(f"{name}: unknown fields {sorted(set(item) - FIELDS)}")
        for field in ("id", "item", "verdict", "says"):
            if not isinstance(item.get(field), str) or not item[field].strip():
                raise FormError(f"{name}: no {field}")
        if item["verdict"] not in VERDICTS:
            raise FormError(f"{name}: {item['verdict']!r} is none of {', '.join(VERDICTS)}")
        if not item.get("settled"):
            raise FormError(f"{name}: no link to what settles it")
        for link in item["settled"]:
            if not LINK.search(link):
                raise FormError(f"{name}: no link in {link!r}")
    return items


def as_markdown(item):
    """The paragraphs of an item: head, text, links."""
    head = f"**{item['id']}** {item['item']} [{item['verdict']}]{{.verdict .{item['verdict']}}}"
    return [head, item["says"].strip(), "→ " + " · ".join(item["settled"])]


class ArticleItems(SphinxDirective):
    """One block for each item, with an anchor such as `a1-4`."""

    has_content = True

    def run(self):
        try:
            items = read_items("\n".join(self.content))
        except (yaml.YAMLError, FormError) as error:
            logger.warning("items of an article: %s", error, location=self.get_location())
            return []
        found = []
        for item in items:
            anchor = item["id"].lower().replace(".", "-")
            block = nodes.container("", ids=[anchor], classes=["article-item"])
            for part, paragraph in zip(("head", "says", "links"), as_markdown(item), strict=True):
                for node in self.parse_text_to_nodes(paragraph):
                    node["classes"] = [*node.get("classes", []), f"article-{part}"]
                    block.append(node)
            found.append(block)
        return found


QUESTION = re.compile(r"^\*\*(.+?[?.])\*\*", re.M)  # "The loss is NaN." asks as well


def questions(text):
    """What a chapter asks under FAQ, as Markdown."""
    faq = re.search(r"^## FAQ$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return QUESTION.findall(faq[1]) if faq else []


class ChapterQuestions(SphinxDirective):
    """For each chapter, in the order of reading, its questions and a link to its answers."""

    def run(self):
        found = []
        for name in book.reading_order():
            path = Path(self.env.doc2path(name))
            if not (asked := questions(path.read_text("utf-8"))):
                continue
            self.env.note_dependency(str(path))
            answers = self.env.app.builder.get_relative_uri(self.env.docname, name) + "#faq"
            found += self.parse_text_to_nodes(f"{{doc}}`/{name}`")
            found.append(
                nodes.bullet_list("", *(self.line(question, answers) for question in asked))
            )
        return found

    def line(self, question, answers):
        """A question as a link; its own formulas and code stay."""
        (paragraph,) = self.parse_text_to_nodes(question)
        link = nodes.reference("", "", *paragraph.children, refuri=answers, internal=True)
        return nodes.list_item("", nodes.paragraph("", "", link))


def setup(app):
    app.add_directive("chapter-questions", ChapterQuestions)
    app.add_directive("article-items", ArticleItems)
    return {"version": "1", "parallel_read_safe": True}
