"""Tests of `sweep(..., executor=)`: other people's workers give the same runs, and may die."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from run_cases import CONV, IMAGES, RELU, everything, run

from lrteach import sweeps
from lrteach.optimizers import adam
from lrteach.schedules import cosine
from lrteach.sweep_files import SweepFile

SETTINGS = dict(
    model=RELU, rule=adam, lrs=np.geomspace(1e-3, 0.1, 6), seeds=4, steps=150, schedule=cosine,
    dtype=torch.float32,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_chunks_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sweeps, "_rows_of_a_chunk", lambda *_: (1, 2))


def after_the_first_chunk(monkeypatch, action):
    """Call `action` once, as soon as a chunk is in the file."""
    add, called = SweepFile.add, []

    def add_and_act(file, pairs, results):
        add(file, pairs, results)
        if not called:
            called.append(True)
            action()

    monkeypatch.setattr(SweepFile, "add", add_and_act)


@pytest.mark.parametrize("own_model", [False, True], ids=["dense", "convolution"])
def test_threads_of_the_caller_give_the_same_bits(own_model):
    settings = dict(model=CONV, data=IMAGES) if own_model else SETTINGS
    with ThreadPoolExecutor(3) as pool:
        assert everything(run(executor=pool, **settings)) == everything(run(**settings))


def test_more_chunks_than_may_be_in_flight_are_all_done(monkeypatch):
    monkeypatch.setattr(sweeps, "IN_FLIGHT", 2)
    with ThreadPoolExecutor(3) as pool:
        result = run(executor=pool, **SETTINGS)
    assert everything(result) == everything(run(**SETTINGS))


def test_a_killed_process_is_an_error_that_says_what_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "runs.sweep"
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        pool.submit(os.getpid).result()  # now there are processes
        after_the_first_chunk(
            monkeypatch, lambda: [os.kill(pid, signal.SIGKILL) for pid in list(pool._processes)]
        )
        with pytest.raises(
            RuntimeError, match=r"worker process .* died.* of 24 runs are in .*runs"
        ):
            run(executor=pool, resume=path, **SETTINGS)
    monkeypatch.undo()
    assert everything(run(resume=path, **SETTINGS)) == everything(run(**SETTINGS))


def test_a_killed_fork_is_an_error_that_says_to_use_a_file(monkeypatch):
    def kill_one():
        import multiprocessing

        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    after_the_first_chunk(monkeypatch, kill_one)
    with pytest.raises(RuntimeError, match="finished runs are lost: next time give `resume=`"):
        run(workers=2, **SETTINGS | {"steps": 400})


def test_dask_gives_the_same_bits_also_when_a_worker_is_killed(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1",
            local_directory=tmp_path, silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        pids = list(client.run(os.getpid).values())
        after_the_first_chunk(monkeypatch, lambda: os.kill(pids[0], signal.SIGKILL))
        result = run(executor=client.get_executor(), resume=tmp_path / "runs.sweep", **SETTINGS)
        assert pids[0] not in client.run(os.getpid).values()
    assert everything(result) == everything(run(**SETTINGS))
