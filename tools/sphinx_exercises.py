"""Sphinx extension: the directive `{checked-exercises} <chapter>`.

It shows the exercises of exercises/solved/<chapter>.md: what to write, the empty function, the
solution folded away, and the notebook to download.
"""

from pathlib import Path

from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from exercises import EXERCISES, SOLVED, FormError, read_solved, solution, student

logger = logging.getLogger(__name__)

BOX = """
`````{{exercise}} {title}
:label: {label}

{statement}

{code}
`````

`````{{solution}} {label}
:class: dropdown

{solution}
`````
"""


def fenced(sources):
    return "\n\n".join(f"````python\n{source}\n````" for source in sources)


def as_markdown(solved):
    """The exercises as sphinx-exercise's own directives."""
    return "\n".join(
        BOX.format(
            title=exercise.title,
            label=f"ex-{solved.slug}-code-{number}",
            statement=exercise.statement,
            code=fenced(map(student, exercise.code)),
            solution=fenced(solution(c) for c in exercise.code if solution(c) != c),
        )
        for number, exercise in enumerate(solved.exercises, 1)
    )


class CheckedExercises(SphinxDirective):
    """The exercises of a solved file, after a line that links to the notebook."""

    required_arguments = 1

    def run(self):
        slug = self.arguments[0]
        source, notebook = SOLVED / f"{slug}.md", EXERCISES / f"{slug}.ipynb"
        self.env.note_dependency(str(source))
        self.env.note_dependency(str(notebook))
        try:
            solved = read_solved(source)
        except (OSError, FormError) as error:
            logger.warning("checked exercises: %s", error, location=self.get_location())
            return []
        relative = Path("..", notebook.relative_to(EXERCISES.parent)).as_posix()
        download = f"Download the notebook: {{download}}`{notebook.name} </{relative}>`"
        return self.parse_text_to_nodes(f"{download}\n\n{as_markdown(solved)}")


def setup(app):
    app.add_directive("checked-exercises", CheckedExercises)
    return {"version": "1", "parallel_read_safe": True}
