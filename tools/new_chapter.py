"""Scaffold a chapter: `python tools/new_chapter.py part/slug ["Its title"]`.

It writes the page with all sections, a figure and a claim, its first checked exercise, and the
entry in _toc.yml. The page builds as it is; the guards then say what is still to be written.
"""

import argparse
import re
import sys

import book
import exercises

SCAFFOLD = book.ROOT / "tools" / "scaffold"
NEXT = """
Next: write {page}, and look at it with `make book` and `make serve`.
`make exercises` says what its exercises lack. When the page says what it should: `make record`, `make test`.
"""


def filled(template, slug, title):
    text = (SCAFFOLD / template).read_text("utf-8")
    return text.replace("SLUG", slug).replace("TITLE", title)


def with_entry(toc, name):
    """The text of _toc.yml with a page: after the last of its part, or as a new part before Reference."""
    part = name.split("/")[0]
    entry = f"      - file: {name}\n"
    last = list(re.finditer(rf"^ +- file: {part}/.*\n", toc, re.MULTILINE))
    if last:
        return toc[: last[-1].end()] + entry + toc[last[-1].end() :]
    new = f"  - caption: {part.replace('-', ' ').capitalize()}\n    chapters:\n{entry}"
    before, reference, after = toc.partition("  - caption: Reference\n")
    return before + new + reference + after


def scaffold(name, title=""):
    """Write the files of a new chapter; returns their paths. Exits if the name cannot be used."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*/[a-z][a-z0-9-]*", name):
        sys.exit(f"NAME={name!r}: write part/slug, in small letters, e.g. practice/a-new-thing")
    slug = name.split("/")[1]
    page = book.BOOK / f"{name}.md"
    solved, toc = exercises.SOLVED / f"{slug}.md", book.ROOT / "_toc.yml"
    taken = [p for p in (*book.BOOK.glob(f"*/{slug}.md"), solved) if p.exists()]
    if taken:  # the exercises of all parts lie in one folder
        sys.exit(f"{taken[0].relative_to(book.ROOT)} is there already: take another name")
    title = title or slug.replace("-", " ").capitalize()
    book.write_atomically(page, filled("chapter.md", slug, title))
    book.write_atomically(solved, filled("exercises.md", slug, title))
    notebook = exercises.EXERCISES / f"{slug}.ipynb"
    book.write_atomically(notebook, exercises.notebook_of(exercises.read_solved(solved), name))
    book.write_atomically(toc, with_entry(toc.read_text("utf-8"), name))
    return [page, solved, notebook, toc]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="part/slug")
    parser.add_argument("title", nargs="?", default="")
    arguments = parser.parse_args()
    written = scaffold(arguments.name, arguments.title)
    for path in written:
        print(f"wrote {path.relative_to(book.ROOT)}")
    print(NEXT.format(page=written[0].relative_to(book.ROOT)))


if __name__ == "__main__":
    main()
