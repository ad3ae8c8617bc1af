"""Do the claims hold under other seeds? Execute pages with every seed shifted and list the failures.

    python tools/claims_seeds.py [--seeds 10] [part/page ...]

Each page runs as `make book` runs it, but with the shifts 1, 2, … of `seed_shift`; a claim that fails is
noted and the page goes on, as it does after a cell with an error. A page that uses no seed runs once.
What a page did under a shift is kept in `_build/claims-seeds.json` as soon as it is done, and not done
again until the page, or what it uses, changes. `benchmarks/claims-seeds.json` keeps the counts, for the
page *Ledger of claims*.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from multiprocessing.connection import wait
from pathlib import Path

import book

REPORT = book.BUILD / "claims-seeds.json"
SUMMARY = book.ROOT / "benchmarks" / "claims-seeds.json"
SHIFTER = book.ROOT / "tools" / "seed_shift"
LIMIT = 900  # seconds for a page
# Claims that compare with a file, which holds what the book's own seeds gave.
RECORDED = {
    "From one start, on the same batches, Keras recorded the ten losses that PyTorch computes now"
}
WORKERS = 2


# --- One page under one shift, in a process of its own --------------------------------------------


def claims_noted(claims, into):
    """Let `claim` put down what it finds, and go on where it would raise."""
    original = claims.claim

    def claim(name, **given):
        try:
            shown = original(name, **given)
        except claims.ClaimError as failure:
            measured, expected = re.search(
                r"\n  measured: (.*)\n  expected: (.*)", str(failure), re.DOTALL
            ).groups()
            verdict = "recorded" if name in RECORDED else "fails"
            data = {"name": name, "measured": measured, "expected": expected, "verdict": verdict}
            shown = claims.Claim({"id": "", "source": None, **data})
        into.append({key: shown.data[key] for key in ("name", "measured", "expected", "verdict")})
        return shown

    claims.claim = claim


def execute(path, shift):
    """Run a page's cells with all seeds shifted. Returns {claims, errors, seeded, seconds}."""
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib import pyplot as plt

    import lrteach.claims
    from seed_shift import SEEN, SHIFT, install

    claims, errors = [], []
    claims_noted(lrteach.claims, claims)
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen"
        search = os.pathsep.join(filter(None, [str(SHIFTER), os.environ.get("PYTHONPATH")]))
        os.environ.update({SHIFT: str(shift), SEEN: str(seen), "PYTHONPATH": search})
        os.chdir(path.parent)
        sys.path.insert(0, "")
        install(shift)
        HistoryManager.enabled = False
        shell = InteractiveShell.instance()
        shell.showtraceback = lambda *args, **kwargs: None
        cells = [cell for cell in book.read_notebook(path).cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, start=1):
            result = shell.run_cell(cell.source)
            if not result.success and "raises-exception" not in cell.metadata.get("tags", []):
                error = result.error_before_exec or result.error_in_exec
                errors.append(f"cell {number}: {where(error)}")
            plt.close("all")
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
        return {
            "claims": claims,
            "errors": errors,
            "seeded": seen.exists(),
            "seconds": round(seconds, 1),
        }


def where(error):
    """An error in one line, with the line of the page that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "ipython-input" in f.filename]
    line = f" at `{frames[-1].line}`" if frames and frames[-1].line else ""
    return f"{type(error).__name__}: {error}{line}"


def child(path, shift, sink):
    os.setsid()  # so that its own processes end with it
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    try:
        sink.send({**execute(path, shift), "finished": True})
    except Exception as error:  # of this tool, not of the page
        sink.send(nothing(f"the tool failed: {error!r}"))


def nothing(why):
    """The result of a run that came to no end, and is done again next time."""
    return {"claims": [], "errors": [why], "seeded": True, "seconds": None, "finished": False}


# --- All of them, two at a time -------------------------------------------------------------------


class Job:
    """A page under a shift, running in a copy of this process, which has imported torch already."""

    def __init__(self, name, path, shift, limit):
        self.name, self.shift = name, shift
        self.source, sink = multiprocessing.Pipe(duplex=False)
        fork = multiprocessing.get_context("fork")
        self.process = fork.Process(target=child, args=(path, shift, sink))
        self.process.start()
        sink.close()
        self.deadline = time.monotonic() + limit

    def result(self):
        """What the page did, or None while it runs."""
        if self.source.poll():
            try:
                return self.source.recv()
            except EOFError:
                self.process.join()
                return nothing(f"the process ended with exit code {self.process.exitcode}")
        if time.monotonic() > self.deadline:
            return nothing("the page was not done within its time")
        return None

    def end(self):
        """End the process and all it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join()
        self.source.close()


def run(pages, shifts, report, limit=LIMIT):
    """Bring the report up to date for {name: path} and these shifts."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread beside the one that forks
    prints = {name: book.fingerprint(path) for name, path in pages.items()}
    for name in pages:
        if report.get(name, {}).get("fingerprint") != prints[name]:
            report[name] = {"fingerprint": prints[name], "code": code_of(pages[name]), "runs": {}}
    waiting = [(name, shift) for shift in shifts for name in pages][::-1]
    running = []
    with tqdm(total=len(waiting), unit="run", smoothing=0) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < WORKERS:
                    name, shift = waiting.pop()
                    if to_do(report[name]["runs"], shift):
                        running.append(Job(name, pages[name], shift, limit))
                    else:
                        bar.update()
                bar.set_postfix_str(", ".join(f"{job.name} ({job.shift})" for job in running))
                wait([job.source for job in running], timeout=1)
                for job in list(running):
                    if (result := job.result()) is not None:
                        running.remove(job)
                        job.end()
                        report[job.name]["runs"][str(job.shift)] = result
                        book.write_atomically(REPORT, json.dumps(report, ensure_ascii=False))
                        bar.update()
        finally:
            for job in running:
                job.end()


def to_do(runs, shift):
    """Whether a page, of which these runs are known, has to run under this shift."""
    if any(run["finished"] and not run["seeded"] for run in runs.values()):
        return False
    return not runs.get(str(shift), {}).get("finished")


def code_of(path):
    """A hash of a page's code, by which the site knows whether it is the code that was run."""
    code = "\n".join(
        cell.source for cell in book.read_notebook(path).cells if cell.cell_type == "code"
    )
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


# --- What is said about them ----------------------------------------------------------------------


def failures(entry):
    """{sentence or error: {shift: (measured, expected)}} of what did not hold on a page."""
    found = defaultdict(dict)
    for shift, run in entry["runs"].items():
        for claim in run["claims"]:
            if claim["verdict"] == "fails":
                found[claim["name"]][int(shift)] = (claim["measured"], claim["expected"])
        for error in run["errors"]:
            found[error][int(shift)] = None
    return dict(found)


def summary(entry):
    """The counts of a page that are committed."""
    done = [run for run in entry["runs"].values() if run["finished"]]
    return {
        "code": entry["code"],
        "seeded": any(run["seeded"] for run in done),
        "seeds": len(done),
        "claims": max((len(run["claims"]) for run in done), default=0),
        "failed": {what: sorted(shifts) for what, shifts in failures(entry).items()},
    }


def renewed(old, new, known):
    """Summaries of pages, where the new ones take the place of what they do not fall short of."""
    kept = {name: entry for name, entry in old.items() if name in known}
    for name, entry in new.items():
        same_code = kept.get(name, {}).get("code") == entry["code"]
        if not (same_code and kept[name]["seeds"] > entry["seeds"]):
            kept[name] = entry
    return dict(sorted(kept.items()))


def say(pages, report):
    """Print what failed. Returns how many sentences and errors that are."""
    count = 0
    for name in pages:
        runs, failed = report[name]["runs"], failures(report[name])
        seeds = f"{len(runs)} seeds" if any(r["seeded"] for r in runs.values()) else "no seed"
        print(f"{name}: {seeds}, {'all holds' if not failed else f'{len(failed)} fail'}")
        for what, shifts in failed.items():
            print(f"  {what}")
            for shift, values in sorted(shifts.items()):
                words = f": measured {values[0]}, expected {values[1]}" if values else ""
                print(f"    seed shift {shift}{words}")
        count += len(failed)
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many shifts (10)")
    parser.add_argument("pages", nargs="*", metavar="part/page", help="only these pages")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds {arguments.seeds} is not allowed: it must be at least 1")
    if any(os.environ.get(key) != value for key, value in book.ENVIRONMENT.items()):
        # Python and its libraries read these when they start.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | book.ENVIRONMENT)
    known = book.chapters()
    if unknown := [name for name in arguments.pages if name not in known]:
        parser.error(f"no page with code is called {unknown[0]}: there are {', '.join(known)}")
    pages = {name: known[name] for name in arguments.pages or book.in_reading_order(known)}

    sys.path.insert(0, str(SHIFTER))
    import IPython  # noqa: F401  (what takes long is imported once, and not in every process)
    import matplotlib
    from matplotlib import pyplot  # noqa: F401

    import seed_shift  # noqa: F401  (imports torch)

    matplotlib.use("agg")  # a page's figures are not looked at here

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `run` ends what it started
    report = read(REPORT)
    run(pages, range(1, arguments.seeds + 1), report)
    kept = renewed(read(SUMMARY), {name: summary(report[name]) for name in pages}, known)
    book.write_atomically(SUMMARY, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    if say(pages, report):
        sys.exit("Not all claims hold under all seeds: see above, and CONTRIBUTING on what to do.")


if __name__ == "__main__":
    main()
