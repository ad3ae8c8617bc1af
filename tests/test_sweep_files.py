"""Tests of lrteach.sweep_files and of `sweep(..., resume=)`: nothing finished is lost, nothing
half-written is taken for whole."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from run_cases import CLASSES, CONV, IMAGES, RELU, TANH, everything, run

from lrteach import sweeps
from lrteach.optimizers import adam, rule
from lrteach.schedules import cosine
from lrteach.sweep_files import SweepFile, SweepFileError
from lrteach.sweeps import Sweep

ROOT = Path(__file__).parents[1]
LRS = (0.05, 0.1, 0.2, 0.3)


pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of two runs, so that a small sweep has several."""
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 2))


class Stopping(Executor):
    """Runs chunks at once, and raises KeyboardInterrupt at the chunk after `chunks`."""

    def __init__(self, chunks):
        self.left = chunks
        self.runs = 0

    def submit(self, function, job, stack_class, lrs, seeds):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.runs += len(lrs)
        future = Future()
        future.set_result(function(job, stack_class, lrs, seeds))
        return future


# --- Saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_saved_sweep_is_loaded_bit_for_bit(tmp_path, dtype):
    result = run(model=RELU, lrs=(0.1, 1e30), seeds=[2, 7], schedule=cosine, dtype=dtype)
    result.save(tmp_path / "runs.sweep")
    loaded = Sweep.load(tmp_path / "runs.sweep")
    assert everything(loaded) == everything(result)
    assert np.array_equal(loaded.rates, result.rates)
    assert loaded.seeds.tolist() == [2, 7]
    assert loaded.best == result.best
    assert repr(loaded) == repr(result)
    assert os.listdir(tmp_path) == ["runs.sweep"]


def test_losses_stay_in_the_file_until_they_are_asked_for(tmp_path):
    result = run(resume=tmp_path / "runs.sweep")
    assert "losses" not in vars(result)
    assert everything(result) == everything(run())
    assert "losses" in vars(result)


def test_saving_where_nothing_can_be_written_says_so_and_leaves_nothing(tmp_path):
    result = run()
    with pytest.raises(SweepFileError, match="cannot be written"):
        result.save(tmp_path / "missing" / "runs.sweep")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SweepFileError, match="cannot be written"):
        result.save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SweepFileError, match=r"nothing\.sweep does not exist"):
        Sweep.load(tmp_path / "nothing.sweep")


# --- Resuming -------------------------------------------------------------------------------------


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path, small_chunks):
    path = tmp_path / "runs.sweep"
    with pytest.raises(KeyboardInterrupt):
        run(lrs=LRS, resume=path, executor=Stopping(3))
    with pytest.raises(SweepFileError, match="not finished: 2 of 8 runs are missing"):
        Sweep.load(path)
    rest = Stopping(10)
    result = run(lrs=LRS, resume=path, executor=rest)
    assert rest.runs == 2
    assert everything(result) == everything(run(lrs=LRS))
    nothing = Stopping(0)
    assert everything(run(lrs=LRS, resume=path, executor=nothing)) == everything(result)
    assert everything(Sweep.load(path)) == everything(result)


def test_a_sweep_that_failed_keeps_what_was_finished(tmp_path, small_chunks):
    path = tmp_path / "runs.sweep"

    class Failing(Stopping):
        def submit(self, *work):
            if self.left == 1:
                future = Future()
                future.set_exception(MemoryError("no room"))
                return future
            return super().submit(*work)

    with pytest.raises(MemoryError, match="no room"):
        run(lrs=LRS, resume=path, executor=Failing(3))
    rest = Stopping(10)
    run(lrs=LRS, resume=path, executor=rest)
    assert rest.runs < 8


OTHERS = {
    "lrs": dict(lrs=(0.05, 0.1, 0.2, 0.4)),
    "seeds": dict(seeds=[0, 2]),
    "rule": dict(rule=adam),
    "hyper": dict(rule=adam, betas=(0.8, 0.999)),
    "factors": dict(schedule=cosine),
    "steps": dict(steps=24),
    "batch_size": dict(batch_size=None),
    "model": dict(model=RELU),
    "data_sha256": dict(data=IMAGES, model=CONV),
    "clip": dict(clip=1.0),
    "dtype": dict(dtype=torch.float32),
    "eval_steps": dict(eval_every=5),
    "initialise": dict(initialise=False),
    "loss": dict(loss=torch.nn.functional.multi_margin_loss),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_sweep_is_refused_and_says_what_differs(tmp_path, name):
    path = tmp_path / "runs.sweep"
    base = {"rule": adam} if name == "hyper" else {}
    base |= {"model": CONV, "data": CLASSES} if name == "data_sha256" else {}
    base = {} if name == "data_sha256" else base
    run(lrs=LRS, resume=path, **base)
    before = path.read_bytes()
    named = (
        "model|data_sha256" if name == "data_sha256" else "rule|hyper" if name == "rule" else name
    )
    with pytest.raises(SweepFileError, match=f"belongs to another sweep: its ({named}) is"):
        run(**{"lrs": LRS, "resume": path} | OTHERS[name])
    assert path.read_bytes() == before


def test_other_numbers_under_the_same_names_are_noticed(tmp_path):
    def formula(scale):
        @rule
        def step(theta, g, *, lr):
            return theta - scale * lr * g

        return step

    path = tmp_path / "runs.sweep"
    run(rule=formula(1.0), resume=path)
    with pytest.raises(SweepFileError, match="its probe is"):
        run(rule=formula(1.01), resume=path)


# --- Damage ---------------------------------------------------------------------------------------


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "cut off":
        content = content[: len(content) // 2]
    elif kind == "empty":
        content = b""
    elif kind == "something else":
        content = b"lr,loss\n0.1,2.3\n" * 300
    elif kind == "header":
        content[0:16] = b"\0" * 16
    elif kind == "overwritten":
        content[len(content) // 3 : 2 * len(content) // 3] = os.urandom(len(content) // 3)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["cut off", "empty", "something else", "header", "overwritten"])
@pytest.mark.parametrize("way", ["load", "resume"])
def test_a_damaged_file_is_refused(tmp_path, kind, way):
    path = tmp_path / "runs.sweep"
    run(resume=path, steps=200)
    damage(path, kind)
    with pytest.raises(SweepFileError, match=r"runs\.sweep is damaged or no file of a sweep"):
        Sweep.load(path) if way == "load" else run(resume=path, steps=200)


def test_a_run_whose_numbers_were_changed_is_refused(tmp_path):
    path = tmp_path / "runs.sweep"
    result = run(resume=path)
    stored = result.losses[0, 0].tobytes()
    content = path.read_bytes()
    for loss in (stored[:8], result.losses[1, 1, 12:13].tobytes()):
        place = content.index(loss)
        path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
        with pytest.raises(SweepFileError, match="the checksum of run"):
            Sweep.load(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE runs SET updates = 3 WHERE k = 1")
    with pytest.raises(SweepFileError, match="the checksum of run"):
        run(resume=path)


def test_a_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "runs.sweep"
    run(resume=path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sweep SET version = 99")
    with pytest.raises(SweepFileError, match="has version 99, this lrteach reads version 2"):
        Sweep.load(path)


def test_a_file_that_cannot_be_written_to_keeps_its_runs(tmp_path, monkeypatch, small_chunks):
    path = tmp_path / "runs.sweep"
    with pytest.raises(KeyboardInterrupt):
        run(lrs=LRS, steps=1000, resume=path, executor=Stopping(1))

    def full(file):  # no page more than it has
        file._db.execute("PRAGMA max_page_count = 1")

    original = SweepFile.done
    monkeypatch.setattr(SweepFile, "done", lambda file: (full(file), original(file))[1])
    with pytest.raises(SweepFileError, match=r"cannot be written \(database or disk is full\)"):
        run(lrs=LRS, steps=1000, resume=path)
    monkeypatch.undo()
    rest = Stopping(100)
    result = run(lrs=LRS, steps=1000, resume=path, executor=rest)
    assert rest.runs <= 6
    assert everything(result) == everything(run(lrs=LRS, steps=1000))


# --- Being killed ---------------------------------------------------------------------------------

LONG = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where nohup started us
    sys.path.insert(0, "tests")
    from lrteach import sweeps
    from lrteach.sweep_files import SweepFile
    from run_cases import run
    sweeps._rows_of_a_chunk = lambda *_: (1, 2)
    add = SweepFile.add
    def tell(file, pairs, results):
        add(file, pairs, results)
        print("kept", flush=True)
    SweepFile.add = tell
    run(lrs=[0.001 * k for k in range(1, 41)], steps=150, resume=sys.argv[1], workers=2)
    print("finished", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_after_a_signal_the_file_is_whole_and_no_process_is_left(tmp_path, sent):
    path = tmp_path / "runs.sweep"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LONG), path], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    kept = [process.stdout.readline() for _ in range(3)]
    children = psutil.Process(process.pid).children()
    process.send_signal(sent)
    rest = process.stdout.read()  # ends when every process that could still write has ended
    process.wait(timeout=30)
    assert kept == ["kept\n"] * 3
    assert "finished" not in rest
    assert process.returncode != 0
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    with sqlite3.connect(path) as db:
        ((count,),) = db.execute("SELECT count(*) FROM runs").fetchall()
    assert count >= 6

    redone = Stopping(100)
    settings = dict(lrs=[0.001 * k for k in range(1, 41)], steps=150)
    result = run(resume=path, executor=redone, **settings)
    assert redone.runs == 80 - count
    assert everything(result, slice(0, 3)) == everything(
        run(**settings | {"lrs": [0.001, 0.002, 0.003]})
    )


# --- Many runs ------------------------------------------------------------------------------------


def test_ten_thousand_runs_go_to_the_file_chunk_by_chunk(tmp_path, monkeypatch):
    path, sizes = tmp_path / "runs.sweep", []
    add = SweepFile.add

    def watch(file, pairs, results):
        add(file, pairs, results)
        sizes.append(len(pairs))

    monkeypatch.setattr(SweepFile, "add", watch)
    lrs = np.geomspace(1e-4, 1, 2000)
    result = run(model=TANH, lrs=lrs, seeds=5, steps=3, dtype=torch.float32, resume=path)
    assert sum(sizes) == 10_000
    assert max(sizes) <= 256
    assert not {"losses", "grad_norms"} & set(vars(result))
    assert result.val_loss.shape == (2000, 5)
    some = run(lrs=lrs[[0, 1234]], seeds=5, steps=3, dtype=torch.float32)
    assert everything(some) == everything(result, [0, 1234])
