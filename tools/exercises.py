"""Write exercises/<chapter>.ipynb, the notebooks with the exercises, from exercises/solved/*.md.

A solved file is a MyST notebook: for each exercise a heading, what to write, an answer whose
solution stands between `# BEGIN SOLUTION` and `# END SOLUTION`, its check (tag `check`), and wrong
answers (tag `wrong`) that the check must catch. The notebooks have neither solutions nor wrong
answers. They are committed, so that they can be opened without building anything; a test compares
them with what this program would write.
"""

import ast
import re
import sys
from dataclasses import dataclass, field

import nbformat

from book import BOOK, ROOT, chapters, read_notebook, update_notebooks

EXERCISES = ROOT / "exercises"
SOLVED = EXERCISES / "solved"
LEAST_EXERCISES, LEAST_WRONG_ANSWERS = 4, 3
REGION = re.compile(
    r"^(?P<indent>[ ]*)# BEGIN SOLUTION\n(?P<body>.*?)^[ ]*# END SOLUTION\n?",
    re.MULTILINE | re.DOTALL,
)
MINUTES = re.compile(r"^\*\((\d+) minutes?\)\*")


class FormError(ValueError):
    """A solved file is not in its form."""


@dataclass
class Exercise:
    """One exercise of a solved file; `code` is what the reader sees and fills in."""

    title: str
    statement: str
    code: list = field(default_factory=list)
    check: str = ""
    wrong: list = field(default_factory=list)

    @property
    def id(self):
        found = re.search(r"\bcheck\(\s*[\"']([\w-]+)[\"']", self.check)
        return found[1] if found else ""

    @property
    def minutes(self):
        found = MINUTES.match(self.statement)
        return int(found[1]) if found else 0


@dataclass
class Solved:
    """A solved file: the exercises of one chapter."""

    slug: str
    title: str
    intro: str
    setup: list
    exercises: list


def read_solved(path):
    """The exercises of a solved file. Raises FormError, which says where it is not in its form."""
    slug, solved, exercise = path.stem, None, None

    def wrong_form(what, cell):
        start = cell.source.strip().splitlines()[:1]
        return FormError(f"exercises/solved/{path.name}: {what}, at {start}")

    for cell in read_notebook(path).cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            if solved is None:
                match = re.fullmatch(r"# Exercises: (.+?)\n\s*(.*)", cell.source.strip(), re.DOTALL)
                if not match or re.search(r"^## ", match[2], re.MULTILINE):
                    raise wrong_form(
                        "must begin with `# Exercises: title`, then a setup cell", cell
                    )
                solved = Solved(slug, match[1].strip(), match[2].strip(), [], [])
                continue
            match = re.fullmatch(r"## (.+?)\n\s*(.+)", cell.source.strip(), re.DOTALL)
            if not match or re.search(r"^#+ ", match[2], re.MULTILINE):
                raise wrong_form("an exercise is one heading `## title` and its text", cell)
            exercise = Exercise(match[1].strip(), match[2].strip())
            solved.exercises.append(exercise)
        elif solved is None:
            raise wrong_form("must begin with `# Exercises: title`", cell)
        elif "setup" in tags and exercise is None:
            solved.setup.append(cell.source.rstrip())
        elif exercise is None or "setup" in tags:
            raise wrong_form("setup cells, tagged so, come before the first exercise", cell)
        elif "check" in tags:
            exercise.check = exercise.check or cell.source.rstrip()
            expected = f"{slug}-{len(solved.exercises)}"
            if exercise.check != cell.source.rstrip() or exercise.id != expected:
                raise wrong_form(f"an exercise has one check, here check({expected!r}, …)", cell)
        elif "wrong" in tags:
            if not re.match(r"# hint: *\S", cell.source):
                raise wrong_form("a wrong answer begins with `# hint: …`", cell)
            exercise.wrong.append(cell.source.rstrip())
        elif exercise.check:
            raise wrong_form("what comes after a check is tagged `wrong`", cell)
        else:
            if not len(re.findall("# (?:BEGIN|END) SOLUTION", cell.source)) == 2 * len(
                REGION.findall(cell.source + "\n")
            ):
                raise wrong_form("`# BEGIN SOLUTION` and `# END SOLUTION` come in pairs", cell)
            exercise.code.append(cell.source.rstrip())
    for exercise in solved.exercises if solved else []:
        if not exercise.check or not any(REGION.search(code + "\n") for code in exercise.code):
            raise FormError(f"exercises/solved/{path.name}: {exercise.title!r} needs an answer with a "
                            "solution between its two marks, and a check")  # fmt: skip
    if solved is None:
        raise FormError(f"exercises/solved/{path.name} is empty")
    return solved


def solution(code):
    """An answer's code without the marks around the solution."""
    return REGION.sub(lambda match: match["body"], code + "\n").rstrip()


def student(code):
    """An answer's code with `raise NotImplementedError` in place of the solution.

    Outside functions a solution defines values; there `name = ...` stands for each.
    """

    def empty(match):
        if match["indent"]:
            return f'{match["indent"]}raise NotImplementedError("your answer")\n'
        names = [
            target.id
            for statement in ast.parse(match["body"]).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        ]
        return "".join(f"{name} = ...  # your answer\n" for name in dict.fromkeys(names))

    return REGION.sub(empty, code + "\n").rstrip()


def plain_markdown(text):
    """MyST's roles as plain text: {term}`learning rate` is read as learning rate."""
    text = re.sub(r"\{math\}`([^`]+)`", r"$\1$", text)
    text = re.sub(r"\{[\w:-]+\}`([^`<]+?)\s*(?:<[^>]*>)?`", r"\1", text)
    return re.sub(r"\[([^\]]+)\]\{[^}]*\}", r"\1", text).strip()


def notebook_of(solved, chapter):
    """The student notebook as text; `chapter` is 'schedules/decay' or the like."""
    new = nbformat.v4
    intro = (
        f"# Exercises: {solved.title}\n\n{plain_markdown(solved.intro)}\n\n"
        f"From the chapter [{solved.title}](../book/{chapter}.md), whose page has every solution, folded. "
        "Try first: write your answer where it says so, run the cell, then run the folded check "
        "below it. It says what is right, and if something is not, what."
    )
    cells = [new.new_markdown_cell(intro), *map(new.new_code_cell, solved.setup)]
    for number, exercise in enumerate(solved.exercises, 1):
        text = f"## {number}. {exercise.title}\n\n{plain_markdown(exercise.statement)}"
        cells.append(new.new_markdown_cell(text))
        cells += [new.new_code_cell(student(code)) for code in exercise.code]
        cells.append(new.new_code_cell(exercise.check))
        cells[-1].metadata["jupyter"] = {"source_hidden": True}
    cells.append(new.new_markdown_cell("## How far you are"))
    cells.append(new.new_code_cell("from lrteach.checks import progress\n\nprogress()"))
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    notebook.nbformat_minor = 5
    return nbformat.writes(notebook, indent=1) + "\n"


def solved_files():
    """{slug: path} of all solved files."""
    return {path.stem: path for path in sorted(SOLVED.glob("*.md"))}


def chapters_with_exercises():
    """{slug: name} of all pages with a section `Exercises`."""
    return {
        name.split("/")[-1]: name
        for name, path in chapters().items()
        if re.search(r"^## Exercises$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def wanted():
    """{path: text} of all exercise notebooks as they should be."""
    names = chapters_with_exercises()
    files = {}
    for slug, path in solved_files().items():
        if slug not in names:
            raise FormError(f"exercises/solved/{path.name}: no chapter has this name")
        files[EXERCISES / f"{slug}.ipynb"] = notebook_of(read_solved(path), names[slug])
    return files


def missing():
    """What the chapters' exercises lack, a sentence each."""
    lacks, files = [], solved_files()
    for slug, name in chapters_with_exercises().items():
        if slug not in files:
            lacks.append(f"{name}: exercises/solved/{slug}.md is not written")
            continue
        exercises = read_solved(files[slug]).exercises
        if len(exercises) < LEAST_EXERCISES:
            lacks.append(f"{name}: {len(exercises)} checked exercises, not {LEAST_EXERCISES}")
        for exercise in exercises:
            if len(exercise.wrong) < LEAST_WRONG_ANSWERS:
                count = f"{len(exercise.wrong)} wrong answers, not {LEAST_WRONG_ANSWERS}"
                lacks.append(f"{exercise.id}: {count}")
            if not exercise.minutes:
                lacks.append(
                    f"{exercise.id}: the text must begin with how long it takes, *(5 minutes)*"
                )
        text = (BOOK / f"{name}.md").read_text(encoding="utf-8")
        if not re.search(rf"^`{{3,}}\{{checked-exercises\}} {slug}$", text, re.MULTILINE):
            lacks.append(f"{name}: does not show its exercises with {{checked-exercises}} {slug}")
    return lacks


def main():
    files = wanted()
    update_notebooks(EXERCISES, files)
    print(f"{len(files)} exercise notebooks are current: open one with Jupyter")
    for sentence in missing():
        print(f"still to do: {sentence}")


if __name__ == "__main__":
    sys.exit(main())
