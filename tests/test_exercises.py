"""Tests of the exercises: every solution passes, every wrong answer is caught with its own hint.

`faults` says what is wrong with an exercise; the end of this file proves that it finds each fault.
"""

import json
import re
import time

import pytest

import exercises
from lrteach import checks

SOLVED = {slug: exercises.read_solved(path) for slug, path in exercises.solved_files().items()}
CASES = [(slug, i) for slug, solved in SOLVED.items() for i in range(len(solved.exercises))]
SECONDS = 2  # for the solution and all wrong answers of an exercise, on one core


pytestmark = pytest.mark.usefixtures("away_from_the_repository")


# --- running --------------------------------------------------------------------------------


def execute(source, space):
    exec(compile(source, "<exercise>", "exec"), space)


def prepared(solved):
    """The names that a file's setup cells define."""
    space = {"__name__": "exercise"}
    for source in solved.setup:
        execute(source, space)
    return space


def asked(source, space):
    """What a check cell asks: (id, answer, probes)."""
    seen = []
    space = {**space, "check": lambda id, answer, *probes: seen.append((id, answer, probes))}
    execute(source, space)
    assert len(seen) == 1, "a check cell calls check once"
    return seen[0]


def report_of(exercise, code, space):
    """(report, [does each probe alone pass]) of an exercise with some code as the answer."""
    space = dict(space)
    for source in code:
        execute(source, space)
    id, answer, probes = asked(exercise.check, space)
    alone = [checks.check(id, answer, probe).passed for probe in probes]
    return checks.check(id, answer, *probes), alone


def leaks(solved, text):
    """Lines of the solutions, other than what any program contains, that a text has."""
    given = "\n".join(
        [*solved.setup, *(exercises.student(c) for e in solved.exercises for c in e.code)]
    )
    lines = {line.strip() for line in text.splitlines()} | {
        line.strip() for line in given.splitlines()
    }
    flat = re.sub(r"\s", "", text)
    found = []
    for exercise in solved.exercises:
        for code in exercise.code:
            for region in exercises.REGION.finditer(code + "\n"):
                for line in map(str.strip, region["body"].splitlines()):
                    trivial = re.fullmatch(
                        r"|#.*|.*:|(return )?[\w.,\s]+|[\w, ]+ = [\w.\[\], -]+|(from|import) .*|\W*",
                        line,
                    )
                    if not trivial and (line in lines or re.sub(r"\s", "", line) in flat):
                        found.append(line)
    return found


def faults(solved, exercise, space, notebook):
    """What is wrong with an exercise, a sentence each. `space` is that of its file's setup."""
    found = []
    report, _ = report_of(exercise, [exercises.solution(c) for c in exercise.code], space)
    if not report.passed:
        found.append(f"the solution does not pass: {report!r}")
    report, _ = report_of(exercise, [exercises.student(c) for c in exercise.code], space)
    if report.outcome != "not written":
        found.append(f"the student version is {report.outcome!r}, not 'not written'")
    found += [
        f"the notebook contains a line of the solution: {line}" for line in leaks(solved, notebook)
    ]

    hints = [re.match(r"# hint: *(.+)", source)[1].strip() for source in exercise.wrong]
    reports = []
    for source, hint in zip(exercise.wrong, hints, strict=True):
        code = [
            exercises.solution(c) for c in exercise.code if not exercises.REGION.search(c + "\n")
        ]
        report, alone = report_of(exercise, [*code, source], space)
        reports.append((report, alone))
        if report.passed:
            found.append(f"the wrong answer {hint!r} passes")
        elif hint not in " ".join(repr(report).split()):
            found.append(f"the hint {hint!r} is not shown: {report!r}")
        for other in hints:
            if other != hint and other in report.hint:
                found.append(f"the hint {other!r} is shown for the wrong answer {hint!r}, too")
    if len(set(hints)) < len(hints):
        found.append("two wrong answers share a hint")
    for i in range(report.probes):
        others_pass = [alone[:i] + alone[i + 1 :] for _, alone in reports if not alone[i]]
        if not any(all(rest) for rest in others_pass):
            found.append(f"probe {i + 1} is not necessary: no wrong answer fails it alone")
    return found


# --- the exercises of the book --------------------------------------------------------------


@pytest.fixture(scope="module")
def spaces():
    return {}


@pytest.mark.parametrize("slug, number", CASES, ids=[f"{slug}-{i + 1}" for slug, i in CASES])
def test_an_exercise_is_sound(slug, number, spaces):
    solved = SOLVED[slug]
    if slug not in spaces:
        spaces[slug] = prepared(solved)
    notebook = (exercises.EXERCISES / f"{slug}.ipynb").read_text(encoding="utf-8")
    sources = "\n".join("".join(cell["source"]) for cell in json.loads(notebook)["cells"])
    start = time.process_time()
    assert faults(solved, solved.exercises[number], spaces[slug], sources) == []
    # Each answer runs twice here, and twice the time is left for slower machines.
    assert time.process_time() - start < 4 * SECONDS, f"answers must run in {SECONDS} s"


@pytest.mark.parametrize("slug", SOLVED)
def test_a_student_notebook_runs_and_says_that_nothing_is_written(slug, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (exercises.EXERCISES / f"{slug}.ipynb").read_text(encoding="utf-8")
    (tmp_path / f"{slug}.ipynb").write_text(text, encoding="utf-8")
    reports, real = [], checks.check
    monkeypatch.setattr(checks, "check", lambda *args: reports.append(real(*args)))
    space = {}
    for cell in json.loads(text)["cells"]:
        if cell["cell_type"] == "code":
            execute("".join(cell["source"]), space)
    assert [report.id for report in reports] == [e.id for e in SOLVED[slug].exercises]
    assert {report.outcome for report in reports} == {"not written"}
    progress = checks.progress()
    assert progress.count("not tried") == len(reports)
    assert len(progress.chapters) == 1
    assert not (tmp_path / checks.FILE).exists(), "what is not written is not tried"


def test_the_notebooks_are_those_of_the_solved_files():
    files = exercises.wanted()
    there = {path: path.read_text(encoding="utf-8") for path in exercises.EXERCISES.glob("*.ipynb")}
    assert there == files, "run `make exercises` and commit the result"


def test_the_notebooks_show_plain_markdown_and_fold_the_checks():
    for path in exercises.EXERCISES.glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                assert not re.search(r"\{[\w:-]+\}`|\]\{|^:::|^`{3,}\{", source, re.MULTILINE), (
                    source
                )
                for target in re.findall(r"\]\((\.\./[^)]+)\)", source):
                    assert (path.parent / target).exists(), target
            else:
                hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
                assert hidden == bool(re.search(r"^check\(", source, re.MULTILINE)), source


def test_the_report_in_how_to_use_is_what_the_check_says():
    solved = SOLVED["what-is-a-learning-rate"]
    report, _ = report_of(solved.exercises[0], [solved.exercises[0].wrong[0]], prepared(solved))
    page = (exercises.BOOK / "reference" / "how-to-use.md").read_text(encoding="utf-8")
    assert repr(report) in page


def test_every_chapter_has_its_checked_exercises():
    missing = exercises.missing()
    assert not missing, "\n".join(missing)


# --- the tests themselves -------------------------------------------------------------------

GOOD = '''---
kernelspec: {name: python3, display_name: Python 3}
---

# Exercises: A chapter

Try {term}`this <that>`, $x_1$ and [that]{.planned}.

```{code-cell} ipython3
:tags: [setup]
from lrteach.checks import check, probe
```

## Twice

*(1 minute)* Return twice x.

```{code-cell} ipython3
def twice(x):
    """Two times x."""
    # BEGIN SOLUTION
    return x + x
    # END SOLUTION
```

```{code-cell} ipython3
:tags: [check]
check("good-1", twice,
      probe(1, expect=2, mistakes=[(1, "That is x.")]),
      probe(3, expect=6, mistakes=[(9, "That is a square.")], hint="Not for all."))
```

```{code-cell} ipython3
:tags: [wrong]
# hint: That is x
def twice(x):
    return x if x == 1 else 2 * x
```

```{code-cell} ipython3
:tags: [wrong]
# hint: Not for all
def twice(x):
    return 2
```

```{code-cell} ipython3
:tags: [wrong]
# hint: That is a square
def twice(x):
    return 2 if x == 1 else x * x
```
'''


def read(tmp_path, text):
    path = tmp_path / "good.md"
    path.write_text(text, encoding="utf-8")
    return exercises.read_solved(path)


def faults_of(tmp_path, text):
    solved = read(tmp_path, text)
    notebook = json.loads(exercises.notebook_of(solved, "part/good"))
    sources = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    return faults(solved, solved.exercises[0], prepared(solved), sources)


def test_a_good_exercise_has_no_fault(tmp_path):
    assert faults_of(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ("    return x + x\n", "    return x + x + 1\n", "the solution does not pass"),
        ("    # BEGIN SOLUTION\n", "    if x:\n        return\n    # BEGIN SOLUTION\n", "the student version is"),
        ("Return twice x.", "Return twice x: `return x + x`.", "a line of the solution: return x + x"),
        ("Return twice x.", "Return twice x.\n\n    return  x+x", "a line of the solution: return x + x"),
        ("else x * x", "else x + x", "the wrong answer 'That is a square' passes"),
        ("# hint: That is a square", "# hint: Never said", "the hint 'Never said' is not shown"),
        ("# hint: That is a square", "# hint: That is x", "two wrong answers share a hint"),
        ("That is a square.", "That is a square. That is x.", "is shown for the wrong answer"),
        ('hint="Not for all."))', 'hint="Not for all."),\n      probe(0, expect=0))', "probe 3 is not necessary"),
        ("return x if x == 1 else 2 * x", "return x", "probe 1 is not necessary"),
    ],
)  # fmt: skip
def test_each_fault_of_an_exercise_is_found(tmp_path, old, new, fault):
    assert GOOD.count(old) >= 1
    found = faults_of(tmp_path, GOOD.replace(old, new))
    assert any(fault in sentence for sentence in found), found


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("# Exercises: A chapter", "# A chapter", "must begin with `# Exercises: title`"),
        (":tags: [setup]\n", "", "setup cells, tagged so"),
        ("    # END SOLUTION\n", "", "come in pairs"),
        (
            "    # BEGIN SOLUTION\n    return x + x\n    # END SOLUTION\n",
            "    return x\n",
            "needs an answer",
        ),
        ("good-1", "good-2", "here check('good-1', …)"),
        ("# hint: That is x\n", "", "begins with `# hint: …`"),
        ("## Twice", "### Twice", "one heading"),
        (":tags: [wrong]\n", "", "tagged `wrong`"),
    ],
)
def test_a_solved_file_that_is_not_in_its_form_is_refused(tmp_path, old, new, message):
    with pytest.raises(exercises.FormError, match=re.escape(message)):
        read(tmp_path, GOOD.replace(old, new))


def test_what_is_missing_is_listed(tmp_path, monkeypatch):
    (tmp_path / "decay.md").write_text(
        GOOD.replace("good-1", "decay-1")
        .replace("*(1 minute)* ", "")
        .replace("[wrong]", "[wrong]", 1)
    )
    monkeypatch.setattr(exercises, "SOLVED", tmp_path)
    monkeypatch.setattr(exercises, "LEAST_WRONG_ANSWERS", 4)
    found = "\n".join(exercises.missing())
    assert "foundations/gradients: exercises/solved/gradients.md is not written" in found
    assert "schedules/decay: 1 checked exercises, not 4" in found
    assert "decay-1: 3 wrong answers, not 4" in found
    assert "decay-1: the text must begin with how long it takes" in found


def test_a_notebook_is_the_same_bytes_every_time_and_has_plain_markdown(tmp_path):
    solved = read(tmp_path, GOOD)
    text = exercises.notebook_of(solved, "part/good")
    assert text == exercises.notebook_of(read(tmp_path, GOOD), "part/good")
    assert "Try this, $x_1$ and that." in text
    assert "wrong" not in text and "hint: That" not in text


def test_a_solution_of_values_leaves_their_names():
    code = "# BEGIN SOLUTION\nhalf = 1 / 2\nlimit = 2 / 7\n# END SOLUTION\nprint(limit)"
    assert exercises.student(code) == (
        "half = ...  # your answer\nlimit = ...  # your answer\nprint(limit)"
    )
    assert exercises.solution(code) == "half = 1 / 2\nlimit = 2 / 7\nprint(limit)"
