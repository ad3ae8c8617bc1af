"""`sweep`: the same model at K rates and S seeds, as fast as the machine allows.

Every run is the run that `train` would make: the same first parameters, the same batches, the same
updates. How it is computed depends on the model and the machine, and you do not choose:

- Dense networks: all runs of a chunk at once, as batched matrix products, a chunk on every core.
- Other models on a CPU: one run after the other, in a process on every core, because batching
  convolutions or attention gains nothing there.
- On a GPU: all runs of a chunk at once; models that draw random numbers or keep running
  statistics one after the other.
- With `executor=`: wherever that executor runs them, for example on other machines.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from lrteach.batched import (
    DenseStack,
    MappedStack,
    Results,
    Stack,
    can_be_dense,
    can_be_mapped,
    train_together,
)
from lrteach.models import fresh_copy
from lrteach.rules import Hyper, Rule, plain
from lrteach.schedules import Feedback, Schedule
from lrteach.sweep_files import SweepFile
from lrteach.training import (
    AnySchedule,
    Dataset,
    Loss,
    as_schedule,
    check_arguments,
    default_loss,
    device,
    tensors,
    train,
)

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")
Pair: TypeAlias = tuple[int, int]  # of places in `lrs` and in `seeds`
# Hands chunk i, with its rates and its seeds, to where it is trained.
Submit: TypeAlias = "Callable[[int, np.ndarray, np.ndarray], Future[Results | None]]"
Updates: TypeAlias = "ctypes.Array[ctypes.c_longlong]"  # how many are done, of each chunk

__all__ = ["sweep", "Sweep", "tolerance"]

# A chunk is what one core trains at once. More rows amortise more of Python, until theta no longer
# fits into the core's cache; so a chunk has at most so many numbers in theta ...
CHUNK_NUMBERS = 2**19
# ... and at least so many operations in an update, below which a core would only repeat Python.
CHUNK_OPERATIONS = 10**7
CHUNK_ROWS = (32, 256)  # the usual most, and the most where there is little work
IN_FLIGHT = 128  # chunks handed to an executor before one has to come back
ONE_AT_A_TIME = threading.Lock()  # `train` uses torch's one global random state


@dataclass
class Job:
    """Everything that the runs of a sweep share. Can be pickled."""

    model: torch.nn.Module
    data: Dataset
    rule: Rule
    hyper: Hyper
    schedule: Schedule | Feedback
    steps: int
    batch_size: int | None
    initialise: bool
    loss: Loss | None
    eval_every: int | None
    clip: float | None
    dtype: torch.dtype

    @property
    def eval_steps(self) -> list[int]:
        """After how many updates the validation part is measured."""
        every = self.eval_every or self.steps
        return sorted({*range(0, self.steps + 1, every), self.steps})

    @property
    def factors(self) -> np.ndarray | None:
        """The schedule's value for each update; None for a feedback rule, which has no plan."""
        if isinstance(self.schedule, Feedback):
            return None
        return self.schedule(np.arange(self.steps))

    @property
    def loss_function(self) -> Loss:
        """The loss that `train` uses."""
        return self.loss or default_loss(self.data.y_train)


@dataclass
class Sweep:
    """K rates × S seeds, and what became of each run. Losses of a diverged run are infinite.

    Attributes
    ----------
    lrs, seeds : arrays (K,), (S,)
    factors : array (T,), or None
        The schedule: run k used the rate lrs[k] * factors[t] in update t, and every chunk
        checked that it did. None after a feedback rule, under which every run has its own
        rates: `rule.replay(sweep.val_losses[k, s, 1:])` gives the factor before each evaluation.
    eval_steps : int array (E,)
        After how many updates the validation part was measured.
    val_losses, val_accuracies : arrays (K, S, E)
        NaN after a run has diverged; accuracies are NaN for a regression.
    test_loss, test_accuracy : arrays (K, S)
    diverged : bool array (K, S)
    updates : int array (K, S)
        Updates made: T, or when the run diverged.
    config : dict
        Rule, schedule, steps, batch size and the rest, as text and numbers.
    """

    lrs: np.ndarray
    seeds: np.ndarray
    factors: np.ndarray | None
    eval_steps: np.ndarray
    val_losses: np.ndarray
    val_accuracies: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    diverged: np.ndarray
    updates: np.ndarray
    config: dict[str, Any]
    # reads "losses" or "grad_norms", both (K, S, T)
    _curves: Callable[[str], np.ndarray] = field(repr=False)

    @cached_property
    def losses(self) -> np.ndarray:
        """Batch loss before each update, (K, S, T). NaN after a divergence.

        Read from the file at first use where the sweep has one.
        """
        return self._curves("losses")

    @cached_property
    def grad_norms(self) -> np.ndarray:
        """Length of each gradient before clipping, (K, S, T). NaN after a divergence."""
        return self._curves("grad_norms")

    @property
    def rates(self) -> np.ndarray:
        """The rate really used in each update, (K, T).

        Raises
        ------
        ValueError
            A feedback rule set the rate of each run by itself.
        """
        if self.factors is None:
            raise ValueError(
                f"the runs have no common rates under {self.config['factors']}: "
                "replay it over val_losses[k, s, 1:]"
            )
        return np.multiply.outer(self.lrs, self.factors)

    @property
    def val_loss(self) -> np.ndarray:
        """Validation loss after the last update, (K, S); infinite for a diverged run."""
        return np.where(self.diverged, np.inf, self.val_losses[:, :, -1])

    @property
    def val_accuracy(self) -> np.ndarray:
        """Validation accuracy after the last update, (K, S); NaN for a diverged run."""
        return self.val_accuracies[:, :, -1]

    @property
    def best_val_loss(self) -> np.ndarray:
        """The lowest validation loss that was measured after an update, (K, S)."""
        return np.fmin.reduce(self.val_losses[:, :, 1:], axis=2, initial=np.inf)

    @property
    def diverged_at(self) -> np.ndarray:
        """After how many updates a run diverged, (K, S); -1 where it did not."""
        return np.where(self.diverged, self.updates, -1)

    def smooth_loss(self, window: int = 50) -> np.ndarray:
        """Mean training loss of the last `window` updates, (K, S); infinite for a diverged run."""
        return np.where(self.diverged, np.inf, self.losses[:, :, -window:].mean(axis=2))

    @property
    def best_index(self) -> int:
        """Where `best` is in `lrs`."""
        typical = np.median(self.val_loss, axis=1)
        if not np.isfinite(typical).any():
            raise ValueError("every rate of this sweep diverged, so none is the best: try smaller")
        return int(np.argmin(typical))

    @property
    def best(self) -> float:
        """The rate with the lowest validation loss, median over seeds."""
        return float(self.lrs[self.best_index])

    @property
    def cliff(self) -> float:
        """The smallest rate above `best` at which training breaks; infinite if none here does.

        A rate breaks it if the median run keeps less than half of what the best rate gained on
        the validation loss of the untrained model.
        """
        typical = np.median(self.val_loss, axis=1)
        untrained = np.median(self.val_losses[:, :, 0])
        half = (untrained + typical[self.best_index]) / 2
        broken = self.lrs[(self.lrs > self.best) & ~(typical < half)]
        return float(broken.min()) if len(broken) else math.inf

    def tolerance(self, worse: float = 1.1) -> tuple[float, float]:
        """How far off the best rate may be: `tolerance` of the validation losses."""
        return tolerance(self.lrs, self.val_loss, worse)

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each run, as a pandas DataFrame."""
        import pandas

        k, s = np.indices(self.diverged.shape)
        columns = {
            name: getattr(self, name).ravel()
            for name in (
                "val_loss", "val_accuracy", "best_val_loss", "test_loss", "test_accuracy",
                "diverged", "diverged_at",
            )
        }  # fmt: skip
        return pandas.DataFrame(
            {"lr": self.lrs[k.ravel()], "seed": self.seeds[s.ravel()], **columns}
        )

    def save(self, path: str | Path) -> None:
        """Write the sweep into one file, whole or not at all. `Sweep.load` reads it.

        Raises
        ------
        SweepFileError
            The file cannot be written.
        """
        SweepFile.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Read what `save`, or `sweep(..., resume=path)`, has written.

        Raises
        ------
        SweepFileError
            The file is missing, damaged, not a sweep, or not finished.
        """
        with SweepFile(path) as file:
            return _result(file)

    def __repr__(self) -> str:
        K, S = self.diverged.shape
        lost = int(self.diverged.sum())
        return (
            f"<Sweep of {self.config['rule']}: {K} rates from {self.lrs.min():g} to "
            f"{self.lrs.max():g}, {S} seeds, {self.config['steps']} steps; {lost} of {K * S} runs "
            "diverged>"
        )


def tolerance(lrs: ArrayLike, losses: ArrayLike, worse: float = 1.1) -> tuple[float, float]:
    """By what factors the best rate may be too large or too small: (down, up), both >= 1.

    Between lrs[best] / down and lrs[best] * up, and nowhere between them, is the loss (the median
    over seeds) more than `worse` times its least. Between two rates it is taken to be a power of
    the rate; next to a rate that diverged, the last good rate is the end. A factor is infinite
    where the rates end before the loss is so high.

    Parameters
    ----------
    lrs : (K,) rates > 0, in any order
    losses : (K,) or (K, S), one column per seed; infinite or NaN for a run that diverged
    worse : float > 1
        1.1 allows a loss 10 % above the least.
    """
    lrs, losses = np.asarray(lrs, np.float64), np.asarray(losses, np.float64)
    if lrs.ndim != 1 or losses.shape[:1] != lrs.shape or not (lrs > 0).all():
        raise ValueError("a tolerance needs K rates > 0, and losses of shape (K,) or (K, S)")
    if not 1 < worse < math.inf:
        raise ValueError(f"worse={worse!r} is not allowed: worse must be finite and > 1")
    order = np.argsort(lrs)
    typical = losses[order].reshape(len(lrs), -1)
    typical = np.median(np.where(np.isnan(typical), np.inf, typical), axis=1)
    best = int(np.argmin(typical))
    if not 0 < typical[best] < math.inf:
        raise ValueError(f"a share of the least loss, {typical[best]:g}, says nothing")
    # Heights above the least loss and distances from the best rate, both as logarithms.
    heights = np.log(typical / typical[best])
    places = np.log(lrs[order] / lrs[order][best])
    down = _first_crossing(-places[best::-1], heights[best::-1], math.log(worse))
    return math.exp(down), math.exp(_first_crossing(places[best:], heights[best:], math.log(worse)))


def _first_crossing(places: np.ndarray, heights: np.ndarray, level: float) -> float:
    """Where the line through (places, heights), which starts at height 0, first crosses `level`."""
    above = np.flatnonzero(heights > level)
    if len(above) == 0:
        return math.inf
    i = above[0]
    share = (level - heights[i - 1]) / (heights[i] - heights[i - 1])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))


def sweep(
    model: torch.nn.Module,
    data: Dataset,
    rule: Rule,
    lrs: ArrayLike | torch.Tensor,
    *,
    seeds: int | Sequence[int] | np.ndarray = 1,
    schedule: AnySchedule = None,
    steps: int = 1000,
    batch_size: int | None = 100,
    initialise: bool = True,
    loss: Loss | None = None,
    eval_every: int | None = None,
    clip: float | None = None,
    dtype: torch.dtype = torch.float32,
    progress: bool | None = None,
    resume: str | Path | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    **hyper: Any,
) -> Sweep:
    """Train `model` at every rate with every seed. Returns a `Sweep`.

    Run (k, s) is the run of `train(model, data, rule, lrs[k], seed=seeds[s], ...)`: bit for bit
    what a sweep of that run alone gives, and what `train` gives up to rounding (1e-10 in float64
    at stable rates, see the tests; bit for bit where runs are not batched).

    Parameters
    ----------
    model, data, rule, schedule, steps, batch_size, initialise, loss, eval_every, clip, dtype, hyper
        As for `train`.
    lrs : sequence of float
        The K rates.
    seeds : int or sequence of int
        The S seeds; a number S stands for 0, 1, ... S - 1.
    progress : bool or None
        Show a progress bar with the time left; None shows it in a terminal only.
    resume : path or None
        Keep finished runs in this file, and skip those that are in it already. After an
        interruption, even by SIGKILL, the same call goes on where it stopped: at most the chunks
        in flight are lost. Losses then stay in the file until you ask for them, so that memory
        does not grow with the number of runs.
    executor : concurrent.futures.Executor or None
        Where to run the chunks, e.g. `client.get_executor()` of `dask.distributed`. Its workers
        need lrteach, and what is passed must be picklable. Models that are not dense networks run
        one at a time in each process, so give such workers one thread.
    workers : int or None
        How many cores to use without an executor; None is the number in the environment variable
        LRTEACH_WORKERS, or else all that this process may use. No result depends on it.

    Raises
    ------
    TypeError, ValueError
        An argument that cannot be used; the message names it.
    SweepFileError
        `resume` is damaged, or belongs to another sweep.
    RuntimeError
        A worker process died. What was finished is in the file of `resume`.
    """
    lrs, seeds = _rates(lrs), _seeds(seeds)
    for seed in seeds.tolist():
        check_arguments(rule, lrs[0], hyper, steps, batch_size, eval_every, seed, clip)
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {executor!r}")
    if workers is None:
        workers = _default_workers()
    elif not isinstance(workers, Integral) or isinstance(workers, bool) or workers < 1:
        raise ValueError(f"workers={workers!r} is not allowed: workers must be an int >= 1 or None")
    hyper = {name: plain(value) for name, value in hyper.items()}
    job = Job(
        model, _as_tensors(data, dtype), rule, hyper, as_schedule(schedule, steps, eval_every), int(steps),
        batch_size, initialise, loss, eval_every, clip, dtype,
    )  # fmt: skip
    if (factors := job.factors) is not None:
        rule.check(lr=lrs.max() * factors)
    first_loss, draws = _try_out(job, int(seeds[0]))
    with SweepFile(resume, _describe(job, data, lrs, seeds, first_loss)) as file:
        done = file.done()
        # Runs of one seed come together, because they share their batches.
        left = [(k, s) for s in range(len(seeds)) for k in range(len(lrs)) if (k, s) not in done]
        if left:
            _run(job, _stack_class(job, draws), lrs, seeds, left, file, executor, workers, progress)
        return _result(file)


def _default_workers() -> int:
    if text := os.environ.get("LRTEACH_WORKERS"):
        if not (text.isascii() and text.isdecimal() and int(text) >= 1):
            raise ValueError(f"LRTEACH_WORKERS={text!r} is not allowed: it must be an int >= 1")
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rates(lrs: ArrayLike | torch.Tensor) -> np.ndarray:
    array = np.asarray(lrs.cpu() if torch.is_tensor(lrs) else lrs, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.all(np.isfinite(array) & (array >= 0)):
        raise ValueError(
            f"lrs={lrs!r} is not allowed: lrs must be a sequence of one or more finite numbers >= 0"
        )
    return array


def _seeds(seeds: Any) -> np.ndarray:
    counted = isinstance(seeds, Integral) and not isinstance(seeds, bool)
    if counted and seeds >= 1:
        return np.arange(seeds)
    try:
        listed = [] if isinstance(seeds, str) else list(seeds)
    except TypeError:
        listed = []
    whole = all(isinstance(s, Integral) and not isinstance(s, bool) and int(s) >= 0 for s in listed)
    if not listed or not whole or len(set(listed)) < len(listed):
        raise ValueError(
            f"seeds={seeds!r} is not allowed: seeds must be an int >= 1, or different ints >= 0"
        )
    return np.array(listed, np.int64)


def _as_tensors(data: Dataset, dtype: torch.dtype) -> SimpleNamespace:
    """The data as the runs use it, converted once and not in every run."""
    arrays: dict[str, torch.Tensor] = {}
    for part in ("train", "val", "test"):
        x, y = tensors(data, part, torch.device("cpu"), dtype)
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    return SimpleNamespace(**arrays)


def _try_out(job: Job, seed: int) -> tuple[float, bool]:
    """The loss of the first batch, and whether the model draws random numbers in training."""
    model = fresh_copy(job.model, seed if job.initialise else None).to(job.dtype)
    x, y = job.data.x_train[: job.batch_size], job.data.y_train[: job.batch_size]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        first = job.loss_function(model(x), y)
        draws = not torch.equal(torch.get_rng_state(), before)
    return float(first), draws


def _stack_class(job: Job, draws: bool) -> type[Stack] | None:
    """How to train several runs at once, or None where it must, or had better, be one by one."""
    if can_be_dense(job.model, job.data.x_train):
        return DenseStack
    if device().type == "cuda" and not draws and can_be_mapped(job.model):
        return MappedStack
    return None


def _describe(
    job: Job, data: Dataset, lrs: np.ndarray, seeds: np.ndarray, first_loss: float
) -> dict[str, Any]:
    """What makes two sweeps the same, as JSON; the numbers of `probe` only to a few digits."""
    digest = sha256()
    for part in ("train", "val", "test"):
        for name in (f"x_{part}", f"y_{part}"):
            # typeshed knows that an array is a buffer from Python 3.12 on
            digest.update(np.ascontiguousarray(getattr(data, name)))  # type: ignore[arg-type]
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64)  # tensors, as in a run
    g = torch.linspace(1, 2, 5, dtype=torch.float64)
    state = job.rule.init(theta)
    more: dict[str, Any] = {}
    if "loss" in job.rule.asks:
        more["loss"] = 1.0
    if "gradient" in job.rule.asks:
        more["gradient"] = abs
    for _ in range(3):
        theta, state = job.rule(theta, g, state, lr=0.1, **more, **job.hyper)
    loss, factors = job.loss_function, job.factors
    return {
        "model": repr(job.model),
        "data": getattr(data, "name", type(data).__name__),
        "data_sha256": digest.hexdigest(),
        "rule": job.rule.__name__,
        "hyper": job.rule.defaults | job.hyper,
        "lrs": lrs.tolist(),
        "seeds": seeds.tolist(),
        "steps": job.steps,
        "factors": repr(job.schedule) if factors is None else factors.tolist(),
        "batch_size": job.batch_size,
        "initialise": job.initialise,
        "loss": getattr(loss, "__qualname__", type(loss).__name__),
        "eval_steps": job.eval_steps,
        "clip": job.clip,
        "dtype": str(job.dtype).removeprefix("torch."),
        "probe": [first_loss, *theta.tolist()],
    }


# --- Running chunks -------------------------------------------------------------------------------


def _run(
    job: Job,
    stack_class: type[Stack] | None,
    lrs: np.ndarray,
    seeds: np.ndarray,
    left: list[Pair],
    file: SweepFile,
    executor: Executor | None,
    workers: int,
    progress: bool | None,
) -> None:
    """Train the runs `left`, [(k, s)], and put each chunk into the file as soon as it is done."""
    if stack_class is MappedStack or device().type == "cuda":
        workers = 1  # they would share one GPU
    rows = _rows_of_a_chunk(job, stack_class)
    chunks = _chunks(left, *rows, workers if executor is None else 1)
    stop = threading.Event()
    updates = multiprocessing.RawArray("q", len(chunks))  # done, of each chunk; forks share it
    total = len(left) * job.steps
    if progress is None:
        progress = sys.stderr.isatty()
    workers = min(workers, len(chunks))

    threads_before = torch.get_num_threads()
    with (
        tqdm(total=total, disable=not progress, desc=job.rule.__name__, unit="update",
             unit_scale=True, leave=False) as bar,
        _submitter(job, stack_class, executor, workers, stop, updates, bar) as submit,
    ):  # fmt: skip
        waiting = list(enumerate(chunks))[::-1]
        running: dict[Future[Results | None], int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < IN_FLIGHT:
                    i, chunk = waiting.pop()
                    k, s = np.transpose(chunk)
                    future = submit(i, lrs[k], seeds[s])
                    running[future] = i
                    if future.done():
                        break
                wait(running, timeout=0.2 if progress else None, return_when=FIRST_COMPLETED)
                for future in [f for f in running if f.done()]:
                    i, results = running.pop(future), future.result()
                    assert results is not None  # nothing has stopped it
                    file.add(chunks[i], results)
                    updates[i] = len(chunks[i]) * job.steps
                bar.update(max(0, sum(updates) - bar.n))
        except BaseException as error:
            stop.set()
            for future, i in running.items():
                finished = not future.cancel() and future.done() and future.exception() is None
                if finished and (results := future.result()) is not None:
                    file.add(chunks[i], results)
            if isinstance(error, BrokenExecutor):
                raise RuntimeError(
                    "a worker process of the sweep died (killed, or out of memory?). "
                    + file.what_is_kept()
                ) from error
            raise
        finally:
            torch.set_num_threads(threads_before)


def _rows_of_a_chunk(job: Job, stack_class: type[Stack] | None) -> tuple[int, int]:
    """The fewest rows that are worth a core of their own, and the most that go together."""
    if stack_class is None:
        return 1, 1
    numbers = sum(p.numel() for p in job.model.parameters())
    examples = job.batch_size or len(job.data.x_train)
    least = 1 + CHUNK_OPERATIONS // (6 * numbers * examples)  # 2 forward and 4 back for each weight
    usual, utmost = CHUNK_ROWS
    most = max(1, min(CHUNK_NUMBERS // numbers, utmost, max(usual, least)))
    return min(least, most), 64 if device().type == "cuda" else most


def _chunks(pairs: list[Pair], least: int, most: int, workers: int) -> list[list[Pair]]:
    """Lists of pairs of about one length: between `least` and `most`, and some for each worker."""
    number = -(-len(pairs) // most)
    number = -(-number // workers) * workers
    number = max(-(-len(pairs) // most), min(number, len(pairs) // least, len(pairs)), 1)
    return [chunk.tolist() for chunk in np.array_split(np.array(pairs), number)]


def run_chunk(
    job: Job,
    stack_class: type[Stack] | None,
    lrs: np.ndarray,
    seeds: np.ndarray,
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int], object] = lambda n: None,
) -> Results | None:
    """Train one run for each pair of `lrs` and `seeds`. Returns `batched.Results`."""
    torch.set_num_threads(1)  # the chunks share the cores; and one thread adds in one order
    if stack_class is not None:
        return train_together(stack_class, job, lrs, seeds.tolist(), stopped, advance)
    results = Results.empty(len(lrs), job.steps, len(job.eval_steps))
    for row, (lr, seed) in enumerate(zip(lrs.tolist(), seeds.tolist(), strict=True)):
        if stopped():
            return None
        with ONE_AT_A_TIME:
            run = train(
                job.model, job.data, job.rule, lr, seed=seed, schedule=job.schedule, steps=job.steps,
                batch_size=job.batch_size, initialise=job.initialise, loss=job.loss,
                eval_every=job.eval_every, clip=job.clip, dtype=job.dtype, progress=False,
                **job.hyper,
            )  # fmt: skip
        results.losses[row, : len(run.losses)] = run.losses[: job.steps]
        results.grad_norms[row, : run.steps] = run.grad_norms
        results.val_losses[row, : len(run.val_losses)] = run.val_losses
        results.val_accuracies[row, : len(run.val_losses)] = run.val_accuracies
        results.test_losses[row], results.test_accuracies[row] = run.test_loss, run.test_accuracy
        results.updates[row], results.diverged[row] = run.steps, run.diverged
        advance(job.steps)
    return results


@contextmanager
def _submitter(
    job: Job,
    stack_class: type[Stack] | None,
    executor: Executor | None,
    workers: int,
    stop: threading.Event,
    updates: Updates,
    bar: tqdm,
) -> Iterator[Submit]:
    """A function submit(i, lrs, seeds) -> Future that runs chunk i where it is best run."""
    if executor is not None:
        yield lambda i, lrs, seeds: executor.submit(run_chunk, job, stack_class, lrs, seeds)
    elif workers > 1 and _can_fork():
        with _forked(workers, job, stack_class, updates) as pool:
            yield lambda i, lrs, seeds: pool.submit(_in_the_fork, i, lrs, seeds)
    elif workers > 1 and stack_class is not None:
        with ThreadPoolExecutor(workers) as pool:
            yield lambda i, lrs, seeds: pool.submit(
                run_chunk, job, stack_class, lrs, seeds, stop.is_set, partial(_advance, updates, i)
            )
    else:
        here = _Here()
        yield lambda i, lrs, seeds: here.submit(
            run_chunk, job, stack_class, lrs, seeds, advance=bar.update
        )


class _Here(Executor):
    """Does the work at once, in this thread, whose memory glibc handles better than others'."""

    def submit(self, function: Callable[..., T], /, *arguments: Any, **more: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*arguments, **more))
        return future


def _advance(updates: Updates, i: int, n: int) -> None:
    updates[i] += n


def _can_fork() -> bool:
    """Whether worker processes can start as copies of this one, in which torch still works.

    Processes and not threads, because Python lets one thread run at a time, and dense networks of
    the book's size spend much of their time in Python.
    """
    return (
        sys.platform == "linux"
        and device().type == "cpu"
        and not multiprocessing.current_process().daemon
    )


@contextmanager
def _forked(workers: int, *work: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that start as copies of this one and know `work`."""
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_adopt, initargs=work
    )
    try:
        yield pool
    except BaseException:
        for process in (pool._processes or {}).values():
            process.kill()  # `shutdown` would wait for the runs that nobody wants any more
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_work: tuple[Any, ...]  # of a forked process: job, class of its stacks, updates done


def _adopt(*work: Any) -> None:
    global _work
    _work = work
    libc = ctypes.CDLL(None)
    # Should this process's parent be killed, go too, and do not wait for work for ever.
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    # An interruption is the parent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Keep freed memory. A rule's temporaries are megabytes, which glibc would give back to the
    # system and fetch again, page by page, in every update: a quarter of the time.
    if hasattr(libc, "mallopt"):
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(option, 2**30)


def _in_the_fork(i: int, lrs: np.ndarray, seeds: np.ndarray) -> Results | None:
    job, stack_class, updates = _work
    return run_chunk(job, stack_class, lrs, seeds, advance=partial(_advance, updates, i))


def _result(file: SweepFile) -> Sweep:
    """The `Sweep` in a file whose runs are all finished."""
    config, results = file.config, file.results()
    diverged = results.diverged
    curves = file.read_curves if file.path else {
        name: file.read_curves(name) for name in ("losses", "grad_norms")
    }.__getitem__  # fmt: skip
    return Sweep(
        lrs=np.array(config["lrs"]),
        seeds=np.array(config["seeds"]),
        factors=None if isinstance(config["factors"], str) else np.array(config["factors"]),
        eval_steps=np.array(config["eval_steps"]),
        val_losses=results.val_losses,
        val_accuracies=results.val_accuracies,
        test_loss=np.where(diverged, np.inf, results.test_losses),
        test_accuracy=results.test_accuracies,
        diverged=diverged,
        updates=results.updates,
        config=config,
        _curves=curves,
    )
