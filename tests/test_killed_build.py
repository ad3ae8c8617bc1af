"""`make book` and `make record` themselves, with Sphinx and a kernel, killed: the next is as if
nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fuzzing import TIMES

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills process groups")

CONFIG = """
title: Tiny
only_build_toc_files: true
execute: {execute_notebooks: cache, raise_on_error: true, stderr_output: error}
sphinx:
  local_extensions: {sphinx_mathml: tools, sphinx_polish: tools}
  config:
    extensions: [myst_nb, jupyter_book, sphinx_comments, sphinx_external_toc, sphinx_design, sphinx_book_theme, sphinx_mathml, sphinx_polish]
    html_math_renderer: mathml
    html_last_updated_fmt: null
    suppress_warnings: [mystnb.unknown_mime_type]
"""
PAGE = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3}
---
# A page

A formula, $x^2$.

```{code-cell} ipython3
from base64 import b64decode
from IPython.display import Image
from PIL import Image as Picture
import io
file = io.BytesIO()
Picture.linear_gradient("L").save(file, "PNG")
print(6 * 7)
Image(file.getvalue())
```
"""
# In each Python of the build: kills the whole build when a file is to be written whose path ends so.
DEADLY = """
import os, signal, sys
ending = os.environ.get("KILL_AT")
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        if str(arguments[0]).endswith(ending):
            os.killpg(int(os.environ["GROUP"]) or os.getpgrp(), signal.SIGKILL)
if ending:
    sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of one page that has been built, the bytes of all that was made, and a clean copy."""
    folder = tmp_path_factory.mktemp("project")
    clean = folder / "clean"
    shutil.copytree(ROOT / "tools", clean / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {
        "_config.yml": CONFIG, "_toc.yml": "format: jb-book\nroot: index\nchapters: [{file: page}]\n",
        "book/index.md": "# Start\n\nWords and [a page](page.md).\n", "book/page.md": PAGE,
        "lrteach/__init__.py": "", "requirements.lock": "", "deadly/sitecustomize.py": DEADLY,
    }.items():  # fmt: skip
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        (clean / name).write_text(textwrap.dedent(text))
    work = folder / "work"
    shutil.copytree(clean, work)
    for command in ("record", "build"):
        assert book(work, command) == 0
    wanted = made(work)
    assert "tests/recorded/page.ipynb" in wanted
    assert "_build/html/index.html" in wanted
    return work, wanted


def book(folder, command, kill_at="", after=None):
    """The exit status of `python tools/book.py COMMAND`, in a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "tools/book.py", command], cwd=folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": f"{folder}/deadly:{ROOT}", "KILL_AT": kill_at, "GROUP": "0",
                          "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "BOOK_URL": ""},
    )  # fmt: skip
    if after is not None:
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    errors = process.communicate(timeout=300)[1]
    if not kill_at and after is None:
        assert process.returncode == 0, errors
    return process.returncode


def made(folder):
    """The site and the recordings: {path: bytes}."""
    files = [*(folder / "_build/html").rglob("*"), *(folder / "tests/recorded").rglob("*")]
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in files
        if p.is_file() and p.name not in (".buildinfo", "objects.inv")
    }


# Where a build is killed: the first three by every `make test`.
PLACES = ["page.doctree", "page.html", ".woff2", ".png", "environment.pickle", "searchindex.js"]


def test_a_killed_build_is_whole_the_next_time(project):
    """The kills come one after another, each on what the last has left; then one normal build."""
    work, wanted = project
    shutil.rmtree(work / "_build")
    shutil.rmtree(work / "tests")
    assert book(work, "build", "base.ipynb") == -signal.SIGKILL
    for at in PLACES[: 3 if TIMES == 1 else None]:
        assert book(work, "build", at) == -signal.SIGKILL
        assert not (work / "_build/html.whole").exists()
    (work / "tests").mkdir()
    assert book(work, "record", ".tmp") == -signal.SIGKILL
    for command in ("record", "build"):
        assert book(work, command) == 0
    assert (work / "_build/html.whole").exists()
    assert made(work) == wanted


@pytest.mark.skipif(TIMES == 1, reason="make fuzz does this")
def test_builds_that_are_killed_at_random_leave_nothing_half(project):
    work, wanted = project
    chance = random.Random()
    shutil.rmtree(work / "_build")
    for _ in range(TIMES):
        book(work, chance.choice(["build", "record"]), after=chance.uniform(0, 12))
    for command in ("record", "build"):
        assert book(work, command) == 0
    assert made(work) == wanted
