"""Mutation testing: is each small change of a module's source noticed by a test of it?

    make mutants SUBJECT=optimizers                # all mutants, in a random order
    make mutants SUBJECT=optimizers SAMPLE=250     # so many of them; MINUTES=20 stops after a time
    make mutants SUBJECT=optimizers AGAIN=1        # only those that survived the last time

Results go to benchmarks/mutants.json. A survivor keeps the `judgement` that someone wrote there
(why it means the same, or why no test asks for it); the command fails while one has none.

All libraries are imported once. For each mutant the process forks; the child compiles the changed
text in memory, under the module's name, and runs pytest in itself. So nothing is ever written into
the source. What was found is kept in _build/mutants, where a run that was stopped goes on while
neither the module nor its tests change. It runs only tests that reach the changed statement, those first that killed mutants of
the same function before, then the quickest. What tests do in processes that they start anew is not
seen, and only the unit tests named in SUBJECTS are asked: a score is a lower bound.
"""

import argparse
import contextlib
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "mutants.json"

SUBJECTS = {
    "optimizers": ["test_optimizers.py", "test_with_optax.py", "test_with_packages.py"],
    "schedules": ["test_schedules.py", "test_feedback.py"],
    "checks": ["test_checks.py"],
    "diagnosis": ["test_diagnosis.py"],
}
MEMORY = 4 << 30  # bytes that a mutant may take beyond what the libraries have
SEED = 0


def main():
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.split("\n")[0])
    parser.add_argument("subject", choices=list(SUBJECTS))
    parser.add_argument("--sample", type=int, help="try so many, drawn at random; else all")
    parser.add_argument("--minutes", type=float, help="start no further mutant after so long")
    parser.add_argument("--again", action="store_true", help="try the last survivors only")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    options = parser.parse_args()
    try:
        from mutations import mutants_of
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing: run `.venv/bin/pip install -e '.[mutation]'` first")
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    module = Module(options.subject)
    everything = mutants_of(module.source)
    before = read_results().get(options.subject)
    chosen = choose(everything, options, before, module)
    print(f"{module.name}: {len(everything)} mutants, {len(chosen)} to try", flush=True)
    tests = measure(module)
    outcomes = try_all(module, tests, chosen, options)
    chosen = [mutant for mutant, outcome in zip(chosen, outcomes, strict=True) if outcome]
    outcomes = [outcome for outcome in outcomes if outcome]
    result = summary(module, len(everything), chosen, outcomes, before, options.again)
    results = read_results() | {options.subject: result}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    report(options.subject, result)
    unjudged = [each for each in result["survivors"] if not each["judgement"]]
    sys.exit(f"{len(unjudged)} survivors have no judgement in {RESULTS.name}" if unjudged else 0)


def read_results():
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}


def choose(everything, options, before, module):
    """The mutants to try, in a seeded random order: the first of them are a sample of all."""
    if options.again:
        if before is None:
            sys.exit(f"{options.subject} has not been tried yet: leave AGAIN away")
        last = Counter(key_of(each) for each in before["survivors"])
        chosen = []
        for mutant in everything:
            key = key_of(described(mutant, module.source))
            if last[key]:
                last[key] -= 1
                chosen.append(mutant)
        return chosen
    return random.Random(SEED).sample(
        everything, min(options.sample or len(everything), len(everything))
    )


# --- The module, and its mutants in its place ----------------------------------------------------


class Module:
    def __init__(self, subject):
        self.name = f"lrteach.{subject}"
        self.path = ROOT / "lrteach" / f"{subject}.py"
        self.source = self.path.read_text("utf-8")
        self.files = [f"tests/{name}" for name in SUBJECTS[subject]]
        texts = [self.source, *(Path(file).read_text("utf-8") for file in self.files)]
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
        self.notes = ROOT / "_build" / "mutants" / f"{subject}-{digest}"
        self.notes.mkdir(parents=True, exist_ok=True)


class InPlaceOf(importlib.abc.MetaPathFinder):
    """Finds the module `name` with another text than its file's. Nothing is cached on disk."""

    def __init__(self, module, text):
        self.module, self.text = module, text

    def find_spec(self, name, path=None, target=None):
        if name != self.module.name:
            return None
        loader = _Loader(name, str(self.module.path))
        loader.text = self.text
        return importlib.util.spec_from_file_location(name, self.module.path, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, name):
        return compile(self.text, self.path, "exec", dont_inherit=True)


# --- pytest in a child process -------------------------------------------------------------------


@dataclass
class Tests:
    """What the run of the tests on the unchanged module has shown."""

    seconds: dict = field(default_factory=dict)  # of each test, in the order of the files
    lines: dict = field(default_factory=dict)  # test -> the lines of the module that it runs
    failed: list = field(default_factory=list)
    imported: list = field(default_factory=list)  # libraries that the tests import


class Watch:
    """A pytest plugin: runs the chosen tests in their order, notes times and failures."""

    def __init__(self, chosen=None, coverage=None):
        self.chosen, self.coverage = chosen, coverage
        self.seconds, self.failed = Counter(), []

    def pytest_collection_modifyitems(self, items):
        if self.chosen is not None:
            rank = {name: i for i, name in enumerate(self.chosen)}
            items[:] = sorted(
                (item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid]
            )

    def pytest_runtest_logstart(self, nodeid):
        self.started = time.process_time()
        if self.coverage is not None:
            self.coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self, nodeid):
        self.seconds[nodeid] = time.process_time() - self.started
        if self.coverage is not None:
            self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def run_pytest(files, watch, stop):
    import hypothesis
    import pytest

    # No examples of a mutant's failure are kept, and none is made smaller.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(
        "mutants", database=None, derandomize=True, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")
    options = ["-q", "--tb=no", "-W", "ignore", "-o", "addopts=", "--assert=plain"]
    for plugin in ("cacheprovider", "unraisableexception", "threadexception"):
        options += ["-p", f"no:{plugin}"]
    return pytest.main([*options, *["-x"] * stop, *files], plugins=[watch])


def in_child(work, limit=None):
    """Fork; the child does `work` and answers with JSON. Returns (pid, pipe).

    `limit` is in seconds of its own processor time, so that a busy machine kills no mutant.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2) if limit else (0, 1):
            os.dup2(nowhere, stream)
        if limit:
            confine(limit)
        answer = json.dumps(work()).encode()
        view = memoryview(answer)
        while view:
            view = view[os.write(writer, view) :]
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:  # whatever a mutant raised: never back into the parent's code
        os._exit(1)


def confine(seconds):
    """What a mutant may take before it counts as noticed: time, memory, and waiting for nothing."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(int(20 * seconds))


def read_all(reader):
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


# --- Which tests reach which line ----------------------------------------------------------------


def measure(module):
    """Run the tests once on the module as it is; import here what they import from outside."""

    def work():
        from coverage import Coverage

        coverage = Coverage(data_file=None, include=[str(module.path)], config_file=False)
        coverage.start()
        watch = Watch(coverage=coverage)
        code = run_pytest(module.files, watch, stop=False)
        coverage.stop()
        lines = {}
        data = coverage.get_data()
        for line, tests in data.contexts_by_lineno(str(module.path)).items():
            for test in filter(None, tests):
                lines.setdefault(test, []).append(line)
        return {
            "code": int(code),
            "seconds": watch.seconds,
            "lines": lines,
            "failed": watch.failed,
            "imported": outside_modules(),
        }

    noted = module.notes / "tests.json"
    if noted.exists():
        answer = noted.read_bytes()
    else:
        pid, reader = in_child(work)
        answer = read_all(reader)
        os.waitpid(pid, 0)
        if not answer:
            sys.exit("the tests ended the process that ran them")
        noted.write_bytes(answer)
    found = json.loads(answer)
    if found.pop("code") != 0:
        noted.unlink()
        sys.exit(f"tests fail on the module as it is: {found['failed'][:5]}")
    for name in found["imported"]:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the children share what is there now; none of them shall go through it again
    tests = Tests(**found)
    print(f"{len(tests.seconds)} tests, {sum(tests.seconds.values()):.0f} s", flush=True)
    return tests


def outside_modules():
    """Names of the loaded modules that are not the project's, in the order of their loading."""
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = file and Path(file).is_relative_to(ROOT) and ".venv" not in Path(file).parts
        if not ours and name.partition(".")[0] not in ("lrteach", "__main__", "conftest"):
            names.append(name)
    return names


def chosen_tests(mutant, tests, kills):
    """The tests that reach the changed statement, the likeliest to notice first."""
    wanted = range(1, 10**9)  # what stands outside of all functions and classes: everything
    if not mutant.runs_on_import:
        wanted = mutant.lines
    elif mutant.scope:  # a default, a decorator's argument, a field of a class
        wanted = mutant.scope
    in_scope = any(line in wanted for lines in tests.lines.values() for line in lines)
    # A class of which no test runs a line, such as a named tuple, may still matter to all.
    everywhere = mutant.runs_on_import and not (mutant.scope and in_scope)
    reached = [
        test
        for test in tests.seconds
        if everywhere or any(line in wanted for line in tests.lines.get(test, ()))
    ]
    return sorted(reached, key=lambda test: (-kills[mutant.where, test], tests.seconds[test]))


# --- All mutants ---------------------------------------------------------------------------------


def try_all(module, tests, mutants, options):
    """[outcome of each mutant]: killed, timeout, survived, unreached, error; None if time was up."""
    noted = module.notes / "outcomes.json"
    known = json.loads(noted.read_text("utf-8")) if noted.exists() and not options.again else {}
    outcomes = [known.get(mutant.name) for mutant in mutants]
    waiting = [i for i, outcome in enumerate(outcomes) if outcome is None]
    running, kills, started = {}, Counter(), time.time()
    while waiting or running:
        late = options.minutes and time.time() - started > 60 * options.minutes
        while waiting and len(running) < options.jobs and not late:
            i = waiting.pop(0)
            chosen = chosen_tests(mutants[i], tests, kills)
            if not chosen:
                outcomes[i] = "unreached"
                continue
            seconds = 10 + 4 * sum(tests.seconds[test] for test in chosen)
            pid, reader = in_child(trial(module, mutants[i], chosen), limit=seconds)
            running[pid] = i, reader
        if not running:
            break
        pid, status = os.wait()
        i, reader = running.pop(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # processes that its tests had started
        outcomes[i], test = judge(status, read_all(reader))
        if test:
            kills[mutants[i].where, test] += 1
        if outcomes[i] != "killed":
            was, now = mutants[i].change(module.source)
            print(f"{outcomes[i]:9} {mutants[i].lines.start}: {was}  ->  {now}", flush=True)
        done = sum(outcome is not None for outcome in outcomes)
        if done % 25 == 0:
            print(
                f"          {done} of {len(mutants)} in {time.time() - started:.0f} s", flush=True
            )
            note(noted, known, mutants, outcomes)
    note(noted, known, mutants, outcomes)
    return outcomes


def note(path, known, mutants, outcomes):
    found = {m.name: o for m, o in zip(mutants, outcomes, strict=True) if o is not None}
    path.write_text(json.dumps(known | found), "utf-8")


def trial(module, mutant, chosen):
    """The child's work: file after file, since most mutants are noticed by the first."""
    of_file = {}
    for test in chosen:
        of_file.setdefault(test.partition("::")[0], []).append(test)

    def work():
        sys.meta_path.insert(0, InPlaceOf(module, mutant.apply(module.source)))
        for file, tests in of_file.items():
            watch = Watch(tests)
            code = int(run_pytest([file], watch, stop=True))
            if code:
                break
        return {"code": code, "failed": watch.failed}

    return work


def judge(status, answer):
    """(outcome, the test that failed) from how the child ended and what it said."""
    if os.WIFSIGNALED(status):
        limits = (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
        return ("timeout" if os.WTERMSIG(status) in limits else "killed"), None
    if not answer:  # the process ended inside a test
        return "killed", None
    found = json.loads(answer)
    # 0: all passed; 1: a test failed; 2: the tests could not even be collected
    if found["code"] in (1, 2):
        return "killed", found["failed"][0] if found["failed"] else None
    return ("survived" if found["code"] == 0 else "error"), None


# --- What is written -----------------------------------------------------------------------------


def described(mutant, source):
    was, now = mutant.change(source)
    return {"line": mutant.lines.start, "where": mutant.where, "was": was, "now": now}


def key_of(survivor):
    return survivor["where"], survivor["was"], survivor["now"]


def summary(module, total, chosen, outcomes, before, again):
    judged = {key_of(each): each["judgement"] for each in (before or {}).get("survivors", [])}
    survivors = []
    for mutant, outcome in zip(chosen, outcomes, strict=True):
        if outcome not in ("killed", "timeout"):
            entry = described(mutant, module.source)
            entry |= {"operator": mutant.operator, "outcome": outcome}
            survivors.append(entry | {"judgement": judged.get(key_of(entry), "")})
    survivors.sort(key=lambda each: each["line"])
    tried = before["tried"] if again else len(chosen)
    killed = tried - len(survivors)
    return {
        "source": hashlib.sha256(module.source.encode()).hexdigest()[:12],
        "mutants": total,
        "tried": tried,
        # Tests that were added for a sample's survivors say nothing about the other mutants.
        "killed_at_first": before["killed_at_first"] if again else killed,
        "killed": killed,
        "timeouts": outcomes.count("timeout") + (before["timeouts"] if again else 0),
        "survivors": survivors,
    }


def report(subject, result):
    share = 100 * result["killed"] / result["tried"]
    print(f"{subject}: {result['killed']} of {result['tried']} mutants killed, {share:.1f} %")
    if result["tried"] < result["mutants"]:
        low, high = (100 * x for x in interval(result["killed_at_first"], result["tried"]))
        print(f"of all {result['mutants']}, {low:.1f} to {high:.1f} % (95 % confidence)")


def interval(killed, tried, z=1.96):
    """Wilson's interval of a share."""
    share, extra = killed / tried, z * z / tried
    middle = (share + extra / 2) / (1 + extra)
    half = z * ((share * (1 - share) + extra / 4) / tried) ** 0.5 / (1 + extra)
    return middle - half, middle + half


if __name__ == "__main__":
    main()
