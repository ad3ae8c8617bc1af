"""Nothing half-written is taken for whole: builds and recordings that are killed before any of their
changes of files, full disks, folders that cannot be written, damaged files in _build."""

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import nbformat
import pytest
from fuzzing import TIMES, damaged, flip, tries
from hypothesis import given
from hypothesis import strategies as st

import book
import kept

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills its forks")

PAGE = """---
jupytext: {{text_representation: {{extension: .md, format_name: myst}}}}
kernelspec: {{name: python3, display_name: Python 3}}
---
# Page {0}

```{{code-cell}} ipython3
from lrteach import models
print("{0}")
```
"""
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    return make_tree(tmp_path, monkeypatch)


def make_tree(tmp_path, monkeypatch):
    """A tiny project of two pages. Executing one costs nothing: its output is what models.py holds."""
    for name in ("book/part", "lrteach", "tests/recorded"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "lrteach/__init__.py").write_text("")
    (tmp_path / "lrteach/models.py").write_text("x = 1\n")
    for page in ("one", "two"):
        (tmp_path / f"book/part/{page}.md").write_text(PAGE.format(page))
    places = {
        "ROOT": "", "BOOK": "book", "BUILD": "_build", "CACHE": "_build/.jupyter_cache",
        "STATE": "_build/executed.json", "LEDGER": "_build/ledger.json", "WHOLE": "_build/html.whole",
        "STATISTICS": "_build/statistics.json", "RECORDED": "tests/recorded",
    }  # fmt: skip
    for name, place in places.items():
        monkeypatch.setattr(book, name, tmp_path / place)
    monkeypatch.setattr(book, "run", run)
    monkeypatch.setattr(book, "WORKERS", 1)
    return tmp_path


def run(path):
    """In place of a kernel."""
    notebook = book.read_notebook(path)
    text = (book.ROOT / "lrteach/models.py").read_text() + path.stem + "\n"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 1
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    return notebook, 0.5, None


def build():
    """What `make record` does, and `make book` before it calls jupyter-book."""
    notebooks = book.execute()
    book.write_ledger(notebooks)
    book.write_statistics(notebooks)
    book.record(notebooks)


def results(tree):
    """All that is made of the pages, as bytes; how long the last builds took is chance."""
    files = [book.LEDGER, *book.RECORDED.rglob("*.*")]
    statistics = {"statistics": json.loads(book.STATISTICS.read_text())["pages"]}
    return statistics | {file.relative_to(tree).as_posix(): file.read_bytes() for file in files}


def killed_before_change(number, tree, command):
    """Do it in a fork that is killed before its `number`th change of a file. Returns whether it was."""
    child = os.fork()
    if child == 0:
        seen = 0

        def watch(event, arguments):
            nonlocal seen
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)  # fmt: skip
            if (writes or event in CHANGES) and str(arguments[0]).startswith(str(tree)):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(watch)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            command()
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def reset(tree):
    for folder in (book.BUILD, book.RECORDED):
        shutil.rmtree(folder, ignore_errors=True)
    book.RECORDED.mkdir()


@pytest.mark.parametrize(
    "start, then",
    [("nothing", "the same code"), ("a build of other code", "the same code"),
     ("a build of other code", "the old code again")],
)  # fmt: skip
def test_a_build_that_was_killed_anywhere_leaves_nothing_that_is_taken_for_whole(tree, capfd, start, then):  # fmt: skip
    models = tree / "lrteach/models.py"
    after = "x = 2\n" if then == "the same code" else "x = 1\n"
    models.write_text(after)
    build()
    wanted = results(tree)
    number, kills = 1, 0
    while True:
        reset(tree)
        models.write_text("x = 1\n")
        if start != "nothing":
            build()
        models.write_text("x = 2\n")
        if not killed_before_change(number, tree, build):
            break
        kills += 1
        models.write_text(after)
        build()
        assert results(tree) == wanted
        number += 1 if TIMES > 1 else 7
    assert kills >= 3


def test_a_recording_that_was_killed_is_old_or_new_but_never_half(tree, capfd):
    build()
    old = {path: path.read_bytes() for path in book.RECORDED.rglob("*.ipynb")}
    (tree / "lrteach/models.py").write_text("x = 2\n")
    notebooks = book.execute()
    book.record(notebooks)
    new = {path: path.read_bytes() for path in book.RECORDED.rglob("*.ipynb")}
    number = 1
    while True:
        for path, content in old.items():
            path.write_bytes(content)
        if not killed_before_change(number, tree, lambda: book.record(notebooks)):
            break
        assert set(book.RECORDED.rglob("*.ipynb")) == set(old)
        for path in old:
            assert path.read_bytes() in (old[path], new[path])
        number += 1
    assert number > 4
    assert [p for p in book.RECORDED.rglob("*") if p.is_file()] == sorted(new)  # no leftovers


def limited(most):
    """As on a full disk: a file may have so many bytes, and more are refused."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def fork(function, errors):
    """What a function in a fork ends with: 0, or the message with which it exits."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        message = b"\0traceback"
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            function()
            message = b""
        except SystemExit as end:
            message = str(end.code).encode()
        except errors as error:
            message = str(error).encode()
        except BaseException as error:
            message = b"\0" + repr(error).encode()
        finally:
            os.write(write, message)
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        message = pipe.read().decode()
    os.waitpid(child, 0)
    assert not message.startswith("\0"), message
    return message


@pytest.mark.parametrize("most", [0, 1000, 20_000])
def test_a_full_disk_stops_a_build_with_a_sentence_and_the_next_is_right(tree, capfd, most):
    build()
    wanted = results(tree)
    for start_anew in (True, False):
        if start_anew:
            reset(tree)
        else:
            (tree / "lrteach/models.py").write_text("x = 2\n")
        message = fork(lambda: (limited(most), book.told(build)), ())
        assert most > 1000 or message
        assert not message or "_build" in message or "recorded" in message
        (tree / "lrteach/models.py").write_text("x = 1\n")
        build()
        assert results(tree) == wanted


def without_rights(folder, function):
    """Do it in a fork that may not write into the folder, as root too."""

    def unprivileged():
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        function()

    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    parents = [p for p in folder.parents if p.stat().st_uid == os.getuid() and p != Path("/")]
    above = {path: path.stat().st_mode for path in parents}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
        for path, mode in above.items():
            path.chmod(mode | 0o011)  # so that the other user gets there
        return fork(unprivileged, ())
    finally:
        for path, mode in (modes | above).items():
            path.chmod(mode)


@pytest.mark.parametrize("part", ["", "_build", "_build/.jupyter_cache", "tests/recorded"])
def test_a_folder_that_cannot_be_written_stops_a_build_with_a_sentence(tree, capfd, part):
    build()
    wanted = results(tree)
    (tree / "lrteach/models.py").write_text("x = 2\n")
    message = without_rights(tree / part, lambda: book.told(build))
    assert "_build" in message or "recorded" in message
    (tree / "lrteach/models.py").write_text("x = 1\n")
    build()
    assert results(tree) == wanted


# --- A damaged _build ------------------------------------------------------------------------------


def files_of_build():
    return sorted(p for p in book.BUILD.rglob("*") if p.is_file())


@tries(12)
@given(which=st.integers(0, 10**6), damage=st.one_of(st.integers(0, 10**7), st.sampled_from(["empty", "half", "gone", "folder", "text"])))  # fmt: skip
def test_a_damaged_build_is_made_again(built, which, damage):
    tree, wanted, safe = built
    shutil.rmtree(book.BUILD)
    shutil.copytree(safe, book.BUILD)
    files = files_of_build()
    path = files[which % len(files)]
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "text": b"[1, {}]"}.get(damage, b"")
            if isinstance(damage, str) else flip(content, damage)
        )  # fmt: skip
    try:
        book.told(build)
    except SystemExit as end:
        message = str(end)
    else:
        message = ""
        assert results(tree) == wanted
    assert not message or "_build" in message


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A finished build, what was made in it, and a copy of its _build."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_tree(folder, monkeypatch)
        build()
        safe = tmp_path_factory.mktemp("safe") / "_build"
        shutil.copytree(book.BUILD, safe)
        yield folder, results(folder), safe


@tries(60)
@given(content=st.one_of(damaged([b'{"all": 90.1, "none": 8}', b'{"part/one": {"fingerprint": "a", "seconds": 1, "result": "b"}}']), st.just(b"[" * 99999)))  # fmt: skip
def test_damaged_notes_of_builds_are_forgotten(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "notes.json"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(book, "STATE", path)
        for entry in book.read_state().values():
            assert entry["seconds"] + 1 and entry["fingerprint"] + entry["result"]


def test_what_an_earlier_build_kept_is_used_whole_or_made_again(tmp_path):
    made = []

    def make(path):
        made.append(path)
        path.write_bytes(b"a figure")

    first = kept.kept(tmp_path, "key", ".png", make)
    assert kept.kept(tmp_path, "key", ".png", make) == first
    assert len(made) == 1
    for damage in (b"", b"a fig", b"b figure"):
        first.write_bytes(damage)
        again = kept.kept(tmp_path, "key", ".png", make)
        assert again.read_bytes() == b"a figure"
    assert len(made) == 4
    assert list(tmp_path.iterdir()) == [first]

    def fail(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        kept.kept(tmp_path, "other", ".png", fail)
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff", b"[" * 99999])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / "ledger.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kept.DamagedError, match=r"ledger\.json .*make clean"):
        kept.read_json(path, dict)


@tries(40)
@given(content=damaged([json.dumps([{"subject": "memory", "x": 1}]).encode()]))
def test_damaged_results_of_benchmarks_are_refused_and_kept(tmp_path_factory, content):
    import benchmarks.__main__ as command

    path = tmp_path_factory.getbasetemp() / "results.json"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(command, "OUT", path)
        try:
            command.save("memory", [{"subject": "memory"}])
        except SystemExit as end:
            message = str(end)
            assert path.read_bytes() == content
        else:
            message = json.dumps(json.loads(path.read_text()))
    assert ("results.json is damaged" in message) or '{"subject": "memory"}' in message
