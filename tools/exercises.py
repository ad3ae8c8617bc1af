"""Write exercises/<chapter>.ipynb: the exercises of each chapter, with a cell for your answer.

The chapters are the only source. The notebooks are committed, so that they can be opened without
building anything; a test compares them with what this program would write.
"""

import re
import sys

import nbformat

from book import BOOK, ROOT, chapters, update_notebooks

EXERCISES = ROOT / "exercises"
BLOCK = re.compile(r"^(?P<fence>`{3,})\{exercise\}[ ]*(?P<title>.*?)\n(?P<body>.*?)^(?P=fence)\s*$",
                   re.MULTILINE | re.DOTALL)  # fmt: skip


def plain_markdown(text):
    """MyST's roles as plain text: {term}`learning rate` is read as learning rate."""
    text = re.sub(r"\{[\w:]+\}`([^`<]+?)\s*(?:<[^>]*>)?`", r"\1", text)
    return re.sub(r"^:\w+:.*\n", "", text, flags=re.MULTILINE).strip()


def exercises_of(text):
    """[(title, text)] of all exercises in a chapter's source."""
    return [(m["title"].strip(), plain_markdown(m["body"])) for m in BLOCK.finditer(text)]


def notebook_of(name, text):
    """The exercise notebook of a chapter as text, or None where it has no exercises."""
    exercises = exercises_of(text)
    if not exercises:
        return None
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
    intro = (
        f"# Exercises: {title}\n\nFrom the chapter `book/{name}.md`, where each exercise has its "
        "solution in a dropdown. Try first."
    )
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(intro),
        new.new_code_cell("import numpy as np\n\nimport lrteach\nfrom lrteach import claim"),
    ]
    for number, (heading, body) in enumerate(exercises, 1):
        cells.append(new.new_markdown_cell(f"## {number}. {heading}\n\n{body}"))
        cells.append(new.new_code_cell("# your answer"))
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    notebook.nbformat_minor = 5
    return nbformat.writes(notebook, indent=1) + "\n"


def wanted():
    """{path: text} of all exercise notebooks as they should be."""
    files = {}
    for name in chapters():
        text = notebook_of(name, (BOOK / f"{name}.md").read_text(encoding="utf-8"))
        if text:
            files[EXERCISES / f"{name.split('/')[-1]}.ipynb"] = text
    return files


def main():
    files = wanted()
    update_notebooks(EXERCISES, files)
    print(f"{len(files)} exercise notebooks are current: open one with Jupyter")


if __name__ == "__main__":
    sys.exit(main())
