"""Measure what the book costs, from a fresh clone: what `make budgets` does.

    python tools/budgets.py                  everything: 20 minutes on two cores
    python tools/budgets.py --results-here   with this checkout's results: the chapters are not executed

The clone is of the last commit, in a temporary folder, with this checkout's environment, so that the
set-up does not count. Written to benchmarks/budgets.json, which the page of statistics shows: of
each step its time, the time of processors that it took, and what else the machine was doing. The
file is committed, so the page shows the same times wherever it is built.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from book import ROOT, others_since, processor_time, write_atomically

OUT = ROOT / "benchmarks" / "budgets.json"
EDITED = Path("book/foundations/gradients.md")
NOT_REMADE = ("requirements.lock", "pyproject.toml", "tools/setup.py")  # what set-up depends on


def clone(folder):
    """A clone of the last commit in `folder`, with this checkout's environment."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    for name in NOT_REMADE:
        os.utime(folder / name, (0, 0))  # older than the environment: make does not set it up


def measure(command, folder, environment):
    """Run a command; its times in seconds, and how many processors were busy with something else.

    Exits if it fails: the time of a failure is no measurement.
    """
    before, start = processor_time(), time.perf_counter()
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed in {folder}: nothing was written")
    return {
        "seconds": round(seconds, 1),
        "processors": round(processor_time()[0] - before[0], 1),
        "others": others_since(before, seconds),
    }


def edit(file):
    """Add a sentence before the first one of a page."""
    text = re.sub(r"(?m)^(?=[A-Z])", "This sentence is new. ", file.read_text("utf-8"), count=1)
    file.write_text(text, "utf-8")


def steps(folder, results):
    """(name, what was measured) of each step, in their order."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # fmt: skip
    book = [folder / ".venv/bin/python", "tools/book.py"]
    if results is None:
        yield "chapters", measure([*book, "execute"], folder, environment)
    else:
        for name in (".jupyter_cache", "executed.json"):
            copy = shutil.copytree if (results / name).is_dir() else shutil.copyfile
            (folder / "_build").mkdir(exist_ok=True)
            copy(results / name, folder / "_build" / name)
    yield "site", measure([*book, "build"], folder, environment)
    before = (folder / EDITED).read_bytes()
    edit(folder / EDITED)
    yield "edit", measure([*book, "build"], folder, environment)
    (folder / EDITED).write_bytes(before)
    subprocess.run([*book, "build"], cwd=folder, env=environment, check=True)
    yield "test", measure(["make", "test"], folder, environment)


def main():
    from benchmarks.__main__ import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results-here", action="store_true")
    results = ROOT / "_build" if parser.parse_args().results_here else None
    record = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "book"
        clone(folder)
        measured = {"measured": machine(), "load": round(os.getloadavg()[0], 2)}
        for name, times in steps(folder, results):
            record[name] = {**measured, **times}
            print(
                f"\n{name}: {times['seconds']} s, {times['others']} other processors busy\n",
                flush=True,
            )
        if results is None:
            state = json.loads((folder / "_build" / "executed.json").read_text("utf-8"))
            record["pages"] = {page: entry["seconds"] for page, entry in sorted(state.items())}
    write_atomically(OUT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
