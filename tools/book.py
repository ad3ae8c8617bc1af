"""Execute the chapters, build the site, record the outputs: what `make book` and `make record` do.

    python tools/book.py build      execute what changed, then build _build/html
    python tools/book.py execute    only execute
    python tools/book.py record     execute what changed, then write tests/recorded
    python tools/book.py execute practice/digits    only this page, or these

A chapter is executed again when its code, a module of lrteach that it can reach, the data, the
lock file or Python changed. Sphinx finds the results in jupyter-cache, so that it executes nothing.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
BUILD = ROOT / "_build"
RECORDED = ROOT / "tests" / "recorded"
CACHE = BUILD / ".jupyter_cache"  # where jupyter-book looks for it
STATE = BUILD / "executed.json"
LEDGER = BUILD / "ledger.json"
STATISTICS = BUILD / "statistics.json"
WHOLE = BUILD / "html.whole"  # is there when the site below `html` is: a build removes it first
OTHERS = BUILD / "others.json"  # how busy the machine was with something else
RESULTS = BUILD / "results.json"  # a hash of each page's outputs
# What a page may leave for the cards of optimizers: {rule: [its tuned rate, on each problem]}.
RATES_MIME = "application/vnd.lrteach.rates+json"
TIMEOUT = 120  # seconds a cell

# Two kernels with one thread each are twice as fast as one after the other with two. So sweeps
# keep to their kernel's core, too: split over two, they need about 40 % more CPU time.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LRTEACH_WORKERS": "1",
    "PYTHONHASHSEED": "0",
}
WORKERS = 2


def chapters():
    """Paths of all pages with code, by name: {'foundations/gradients': Path, ...}."""
    from myst_nb.core.read import is_myst_markdown_notebook

    return {
        path.relative_to(BOOK).with_suffix("").as_posix(): path
        for path in sorted(BOOK.rglob("*.md"))
        if is_myst_markdown_notebook(path.read_text(encoding="utf-8"))
    }


def read_notebook(path):
    """The notebook in a chapter's source, without outputs."""
    from myst_nb.core.read import read_myst_markdown_notebook

    return read_myst_markdown_notebook(path.read_text(encoding="utf-8"), add_source_map=True)


def write_atomically(path, text):
    """Write a file so that it is there whole or not at all; its time stays if its text does."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- what a chapter's results depend on -----------------------------------------------------


def nodes_that_run(tree):
    """All nodes of a tree, but not those under `if TYPE_CHECKING:`."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node = ast.Module(node.orelse, type_ignores=[])
        yield from nodes_that_run(node)


def imported_modules(code):
    """Modules of lrteach that a piece of code names, e.g. {'claims', 'plots'}.

    Attributes of the package (`lrteach.train`, `from lrteach import train`) count as the module
    that defines them. What only a type checker imports changes no result.
    """
    import lrteach

    names = set()
    for node in nodes_that_run(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lrteach.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "lrteach":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrteach."):
            names.add(node.module.split(".")[1])
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "lrteach"
        ):
            names.add(node.attr)
    return {lrteach._HOMES.get(name, name) for name in names}


def module_files(name):
    """The files of a module of lrteach; a package's include its data."""
    package = ROOT / "lrteach" / name
    if package.is_dir():
        return sorted(p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    single = package.with_suffix(".py")
    return [single] if single.exists() else []


def reachable_modules(code):
    """Modules of lrteach that a piece of code imports, directly or through each other."""
    found, waiting = set(), imported_modules(code)
    while waiting:
        name = waiting.pop()
        found.add(name)
        for path in module_files(name):
            if path.suffix == ".py":
                waiting |= imported_modules(path.read_text(encoding="utf-8")) - found
    return found


def fingerprint(path):
    """A hash of everything that can change a chapter's outputs."""
    code = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "code")
    runnable = re.sub(r"^\s*[%!].*$", "", code, flags=re.MULTILINE)  # IPython's own lines
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    # Files that lie beside the chapter are its data, e.g. recorded results that it reads.
    beside = [p for p in sorted(path.parent.iterdir()) if p.is_file() and p.suffix != ".md"]
    files = [ROOT / "requirements.lock", ROOT / "lrteach" / "__init__.py", *beside]
    for name in sorted(reachable_modules(runnable)):
        files += module_files(name)
    digest.update(code.encode())
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


# --- execution ------------------------------------------------------------------------------


def read_state():
    """{name: the fingerprint, the seconds and the result's hash}, without what is damaged."""
    form = {"fingerprint": str, "seconds": (int, float), "result": str}
    found = read_dict(STATE)
    return {
        name: entry
        for name, entry in found.items()
        if isinstance(entry, dict) and all(isinstance(entry.get(k), v) for k, v in form.items())
    }


def read_dict(path):
    """What a JSON file of `_build` holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def open_cache():
    """The cache of executed pages; a damaged one is thrown away, and all is executed again."""
    from jupyter_cache import get_cache
    from sqlalchemy.exc import SQLAlchemyError

    CACHE.parent.mkdir(parents=True, exist_ok=True)
    try:
        if CACHE.exists():
            with closing(sqlite3.connect(CACHE / "global.db")) as db:
                problem = db.execute("PRAGMA integrity_check").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        cache = get_cache(CACHE)
        for record in cache.list_cache_records():
            record.to_dict()
        return cache
    # RuntimeError: the cache's own, where a table is missing
    except (OSError, RuntimeError, sqlite3.DatabaseError, SQLAlchemyError, ValueError) as error:
        print(f"{CACHE.relative_to(ROOT)} was damaged ({error}): it is made again", flush=True)
        CACHE.unlink() if CACHE.is_file() else shutil.rmtree(CACHE)
        return get_cache(CACHE)


def result_of(record):
    """The hash of the executed page that belongs to a record of the cache, or None."""
    try:
        content = (CACHE / "executed" / record.hashkey / "base.ipynb").read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()


def cached(cache, notebook):
    """The cache's record of this notebook's code, or None."""
    try:
        record = cache.match_cache_notebook(notebook)
    except KeyError:
        return None
    try:
        cache.get_cache_bundle(record.pk)
    except Exception:  # the file is missing, cut off or no notebook: whatever it is, do it again
        shutil.rmtree(CACHE / "executed" / record.hashkey, ignore_errors=True)
        return None
    return record


def processor_time():
    """Seconds of processors that ended child processes took, and that the whole machine was busy."""
    import psutil

    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine = psutil.cpu_times()
    return own.ru_utime + own.ru_stime, sum(machine) - machine.idle - machine.iowait


def others_since(before, seconds):
    """How many processors were busy with something else, since `before` and for these seconds."""
    (own, busy), (own_before, busy_before) = processor_time(), before
    return round(max(0, (busy - busy_before) - (own - own_before)) / seconds, 2)


def run(path):
    """Execute one chapter. Returns (notebook, seconds, error message or None)."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = read_notebook(path)
    start = time.perf_counter()
    error = None
    try:
        NotebookClient(
            notebook,
            timeout=TIMEOUT,
            record_timing=False,  # it would go into the cells' metadata, which the cache compares
            resources={"metadata": {"path": str(path.parent)}},
            extra_arguments=["--log-level=ERROR"],  # ipykernel warns about every local kernel
        ).execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
        error = str(failure)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                error = error or f"a cell wrote to stderr:\n{cell.source}\n---\n{output['text']}"
    return notebook, time.perf_counter() - start, error


def execute(only=()):
    """Bring the results of all pages, or of `only` these, up to date.

    Returns {name: executed notebook}, or exits.
    """
    from jupyter_cache.base import CacheBundleIn

    os.environ.update(ENVIRONMENT)
    cache, state, pages = open_cache(), read_state(), chapters()
    if unknown := set(only) - set(pages):
        sys.exit(
            f"No page with code is called {', '.join(sorted(unknown))}: there are {', '.join(pages)}"
        )
    there = set(pages)
    pages = {name: pages[name] for name in only or pages}
    prints = {name: fingerprint(path) for name, path in pages.items()}
    stale = []
    for name, path in pages.items():
        record = cached(cache, read_notebook(path))
        if record is None or not is_current(state.get(name), prints[name], record):
            if record is not None:
                cache.remove_cache(record.pk)  # so that no stale result can be used
            stale.append(name)
    stale.sort(key=lambda name: -state.get(name, {}).get("seconds", 0))  # the longest first

    failures, start, before = {}, time.perf_counter(), processor_time()
    if stale:
        print(f"Executing {len(stale)} of {len(pages)} pages with code", flush=True)
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = {pool.submit(run, pages[name]): name for name in stale}
        for job in as_completed(jobs):
            name = jobs[job]
            notebook, seconds, error = job.result()
            print(f"  {name}: {'FAILED' if error else f'{seconds:.1f} s'}", flush=True)
            if error:
                failures[name] = error
                continue
            record = cache.cache_notebook_bundle(
                CacheBundleIn(notebook, str(pages[name]), data={"execution_seconds": seconds}),
                check_validity=False,
                overwrite=True,
            )
            state[name] = {
                "fingerprint": prints[name],
                "seconds": round(seconds, 2),
                "result": result_of(record),
            }
            state = {key: state[key] for key in state if key in there}
            write_atomically(STATE, json.dumps(state, indent=1, sort_keys=True))
    if stale:
        others = others_since(before, time.perf_counter() - start)
        write_atomically(OTHERS, json.dumps(others))
    for name, error in sorted(failures.items()):
        print(f"\n{'=' * 80}\n{pages[name].relative_to(ROOT)} failed:\n{error}", file=sys.stderr)
    if failures:
        sys.exit(f"\n{len(failures)} chapter(s) failed: {', '.join(sorted(failures))}")
    return {
        name: cache.merge_match_into_notebook(read_notebook(path))[1]
        for name, path in pages.items()
    }


def is_current(entry, print, record):
    """Whether a page's entry in the state is of this fingerprint and of this very result.

    Without the second, a build that was killed between the two could leave a result of newer code
    to the older state.
    """
    return entry is not None and [entry["fingerprint"], entry["result"]] == [
        print,
        result_of(record),
    ]


def executed_here(name):
    """A page as this machine executed it, or None where the code, or what it uses, is newer."""
    path = chapters()[name]
    notebook, cache = read_notebook(path), open_cache()
    record = cached(cache, notebook)
    if record is None or not is_current(read_state().get(name), fingerprint(path), record):
        return None
    return cache.merge_match_into_notebook(notebook)[1]


# --- what is made of the results ------------------------------------------------------------


def reading_order():
    """Names of pages as _toc.yml lists them."""
    toc = ROOT / "_toc.yml"
    return re.findall(r"file: *(\S+)", toc.read_text(encoding="utf-8") if toc.exists() else "")


def in_reading_order(names):
    """These names of pages as _toc.yml lists them; those it does not list come last."""
    places = {name: i for i, name in enumerate(reading_order())}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def title_of(notebook):
    for cell in notebook.cells:
        heading = re.search(r"^# (.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and heading:
            return heading[1].strip()
    return "untitled"


def outputs_of(notebook, mime):
    """All outputs of this type in an executed notebook, in their order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [o["data"][mime] for o in outputs if mime in o.get("data", {})]


def write_ledger(notebooks):
    """Gather all claims for the page `claims`, and tuned rates. Exits if an anchor is not unique."""
    from lrteach.claims import MIME

    rows, rates = [], {}
    for name in in_reading_order(notebooks):
        notebook, seen = notebooks[name], set()
        for table in outputs_of(notebook, RATES_MIME):
            rates |= table
        for claim in outputs_of(notebook, MIME):
            if claim["id"] in seen:
                sys.exit(f"{name}: two claims share the anchor {claim['id']!r}: rename one")
            seen.add(claim["id"])
            rows.append({"chapter": name, "title": title_of(notebook), **claim})
    write_atomically(
        LEDGER, json.dumps({"claims": rows, "rates": rates}, indent=1, ensure_ascii=False)
    )
    return rows


def lines_of(cell):
    """How many lines of a code cell are neither empty nor only a remark."""
    lines = [line.strip() for line in cell.source.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def figures_in(notebook):
    live = [html for html in outputs_of(notebook, "text/html") if 'class="interactive"' in html]
    return len(outputs_of(notebook, "image/png")) + len(live)


def write_statistics(notebooks):
    """Count what the pages hold, for the page `statistics`; the times are those of this machine."""
    from lrteach.claims import MIME

    state, rows = read_state(), []
    for name in in_reading_order(notebooks):
        cells = [cell for cell in notebooks[name].cells if cell.cell_type == "code"]
        rows.append(
            {
                "page": name,
                "title": title_of(notebooks[name]),
                "seconds": state.get(name, {}).get("seconds"),
                "cells": len(cells),
                "lines": sum(map(lines_of, cells)),
                "figures": figures_in(notebooks[name]),
                "claims": len(outputs_of(notebooks[name], MIME)),
            }
        )
    facts = {"python": sys.version.split()[0], "cores": os.cpu_count(), "workers": WORKERS}
    facts["others"] = json.loads(OTHERS.read_text("utf-8")) if OTHERS.is_file() else None
    write_atomically(
        STATISTICS,
        json.dumps({"pages": rows, "machine": facts}, indent=1, ensure_ascii=False),
    )  # fmt: skip


def recorded_form(notebook):
    """The notebook as nbval replays it: code cells and text outputs, the same bytes every time."""
    import nbformat

    cells, count = [], 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        count += 1
        recorded = nbformat.v4.new_code_cell(cell.source, execution_count=count)
        recorded.id = f"cell-{count}"
        if cell.metadata.get("tags"):
            recorded.metadata["tags"] = list(cell.metadata["tags"])
        for output in cell.outputs:
            if output.output_type == "stream":
                last = recorded.outputs[-1] if recorded.outputs else {}
                if last.get("name") == output.name:  # how often a kernel flushes is chance
                    last.text += output.text
                    continue
                text = {"name": output.name, "text": output.text}
                recorded.outputs.append(nbformat.v4.new_output("stream", **text))
            elif "text/plain" in output.get("data", {}):
                recorded.outputs.append(
                    nbformat.v4.new_output(
                        output.output_type, data={"text/plain": output["data"]["text/plain"]}
                    )
                )
                if output.output_type == "execute_result":
                    recorded.outputs[-1].execution_count = count
        cells.append(recorded)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    form = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    form.nbformat_minor = 5
    return form


def update_notebooks(folder, files):
    """Make the notebooks below `folder` those of `files`, {path: text}, and say what changed."""
    for left in folder.rglob(".*.tmp"):  # by a run that was killed
        left.unlink()
    for path, text in files.items():
        if not path.exists() or path.read_bytes() != text.encode():
            write_atomically(path, text)
            print(f"wrote {path.relative_to(ROOT)} ({len(text) / 1000:.1f} kB)")
    for path in sorted(folder.rglob("*.ipynb")):
        if path not in files:
            path.unlink()
            print(f"removed {path.relative_to(ROOT)}")


def record(notebooks):
    """Write tests/recorded so that it mirrors book; files of chapters that are gone go too."""
    import nbformat

    files = {
        RECORDED / f"{name}.ipynb": nbformat.writes(recorded_form(notebook), indent=1) + "\n"
        for name, notebook in notebooks.items()
    }
    update_notebooks(RECORDED, files)


def build_site(notebooks):
    """Run jupyter-book with warnings as errors. Returns its exit status."""
    WHOLE.unlink(missing_ok=True)
    import sphinx_incremental

    write_atomically(RESULTS, json.dumps(sphinx_incremental.results_digests(notebooks), indent=1))
    now = sphinx_incremental.surroundings()
    goes_on = sphinx_incremental.begin(BUILD, now)
    if not goes_on and (BUILD / "html").exists():
        sys.exit("_build/html cannot be removed: run `make clean`")
    command = [
        str(Path(sys.executable).with_name("jupyter-book")), "build", "book", "-W", "-n", "--keep-going",
        *["--all"] * (not goes_on),
        "--config", "_config.yml", "--toc", str(ROOT / "_toc.yml"), "--path-output", ".", "-q",
    ]  # fmt: skip
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status == 0:
        sphinx_incremental.keep(BUILD, now)
        write_atomically(WHOLE, "")
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("build", "execute", "record"))
    parser.add_argument("pages", nargs="*", metavar="part/page", help="with execute: only these")
    arguments = parser.parse_args()
    command = arguments.command
    if arguments.pages and command != "execute":
        parser.error(f"{command} takes no pages: it is about the whole book")
    start = time.perf_counter()
    notebooks = execute(arguments.pages)
    if arguments.pages:
        return
    rows = write_ledger(notebooks)
    if command == "record":
        record(notebooks)
    if command == "build":
        write_statistics(notebooks)
        if build_site(notebooks) != 0:
            sys.exit(
                "The site was not built: see the messages above. If they speak of files in _build, "
                "run `make clean`."
            )
        state = read_state()
        print("\nTime each chapter took when it was last executed:")
        for name in sorted(state):
            print(f"  {state[name]['seconds']:6.1f} s  {name}")
        total = sum(entry["seconds"] for entry in state.values())
        print(f"  {total:6.1f} s  all chapters, of one core ({len(rows)} claims hold)")
        print(f"  {time.perf_counter() - start:6.1f} s  this build, in total")
        print(f"\nOpen {(BUILD / 'html' / 'index.html').relative_to(ROOT)}")


def told(command):
    """Do it; what the file system refuses is told in one sentence."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        command()
    except OSError as error:
        sys.exit(
            f"{error.filename or 'a file'}: {error.strerror or error}. The book must be able to write "
            f"into {BUILD} and {RECORDED}; where something else is in the way there, run `make clean`"
        )
    except (RuntimeError, SQLAlchemyError) as error:
        if not any(isinstance(e, SQLAlchemyError) for e in (error, error.__cause__)):
            raise
        sys.exit(f"{CACHE} cannot be used ({error}): is the disk full? If not, run `make clean`")


if __name__ == "__main__":
    told(main)
