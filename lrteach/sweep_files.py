"""One SQLite file for the runs of a sweep: a run is in it whole or not at all.

SQLite's transactions survive a SIGKILL. Each run carries a checksum, and the file says which sweep
it belongs to, so that a damaged file, or one from another sweep, is refused.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lrteach.batched import Results

if TYPE_CHECKING:
    from lrteach.sweeps import Sweep

__all__ = ["SweepFile", "SweepFileError"]

Config: TypeAlias = dict[str, Any]  # what JSON can hold

VERSION = 2
TABLES = """
CREATE TABLE sweep (version INTEGER, config TEXT, checksum INTEGER);
CREATE TABLE runs (
    k INTEGER, s INTEGER, updates INTEGER, diverged INTEGER,
    losses BLOB, grad_norms BLOB,  -- T numbers of the sweep's dtype
    measured BLOB,                 -- float64: E losses, E accuracies, test loss and accuracy
    checksum INTEGER, PRIMARY KEY (k, s)
);
"""


class SweepFileError(RuntimeError):
    """A file of runs cannot be used. The message says why, and what to do."""


class SweepFile:
    """The runs of one sweep in a file, or in memory where `path` is None.

    Parameters
    ----------
    path : path or None
    config : dict, optional
        What makes two sweeps the same. A file that does not exist is made; one that does must have
        the same. Without `config` the file is only read, and all of its runs must be there.

    Raises
    ------
    SweepFileError
        The file is missing, damaged, incomplete, of another sweep, or cannot be written.
    """

    def __init__(self, path: str | Path | None, config: Config | None = None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is None:
            self._db = sqlite3.connect(":memory:")
            _make_tables(self._db, config)
        else:
            if config is not None and not _is_there(self.path):
                with _written_whole(self.path) as db:
                    _make_tables(db, config)
            self._db = _connect(self.path)
        self.config = self._read_config()
        if config is not None:
            self._require_same(config)
        else:
            missing = self._expected() - len(self.done())
            if missing:
                raise SweepFileError(
                    f"{self.path} is not finished: {missing} of {self._expected()} runs are missing. "
                    "Go on with `sweep(..., resume=...)` and the arguments that it was started with."
                )

    def __enter__(self) -> SweepFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _read_config(self) -> Config:
        with self._refuse_damage():
            ((version, text, *rest),) = self._db.execute("SELECT * FROM sweep").fetchall()
            problems = self._db.execute("PRAGMA integrity_check").fetchall()
        if problems != [("ok",)]:
            raise self._damaged(problems[0][0])
        if version != VERSION:
            raise SweepFileError(
                f"{self.path} has version {_short(version)}, this lrteach reads version {VERSION}: "
                "use another file"
            )
        with self._refuse_damage():
            if rest != [_checksum((version,), [text.encode()])]:
                raise ValueError("the checksum of what it says about the sweep is wrong")
            return json.loads(text)

    def _damaged(self, why: object) -> SweepFileError:
        return SweepFileError(
            f"{self.path} is damaged or no file of a sweep ({why}). Delete it, or use another name."
        )

    @contextmanager
    def _refuse_damage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error

    def _require_same(self, config: Config) -> None:
        wanted = json.loads(json.dumps(config))  # tuples as lists, as in the file
        for name in wanted:
            found: Any = self.config.get(name)
            if name == "probe":  # digits differ between machines
                same = _alike(found, wanted[name])
            else:
                same = found == wanted[name]
            if not same:
                raise SweepFileError(
                    f"{self.path} belongs to another sweep: its {name} is {_short(found)}, not "
                    f"{_short(wanted[name])}. Use another file, or the arguments that it was "
                    "started with."
                )

    def _expected(self) -> int:
        return len(self.config["lrs"]) * len(self.config["seeds"])

    def done(self) -> set[tuple[int, int]]:
        """The runs in the file: a set of pairs (k, s), places in `lrs` and `seeds`."""
        with self._refuse_damage():
            return set(self._db.execute("SELECT k, s FROM runs"))

    def what_is_kept(self) -> str:
        """Half a sentence for an error message: what of the sweep is not lost."""
        if self.path is None:
            return "Its finished runs are lost: next time give `resume=` a file."
        return f"{len(self.done())} of {self._expected()} runs are in {self.path}: call it again."

    def add(self, pairs: Iterable[Sequence[int]], results: Results) -> None:
        """Put the runs of a chunk, `Results` in the order of `pairs`, into the file."""
        dtype = self._curve_type()
        rows = []
        for row, (k, s) in enumerate(pairs):
            blobs = [
                results.losses[row].astype(dtype).tobytes(),
                results.grad_norms[row].astype(dtype).tobytes(),
                np.concatenate([
                    results.val_losses[row], results.val_accuracies[row],
                    [results.test_losses[row], results.test_accuracies[row]],
                ]).tobytes(),
            ]  # fmt: skip
            whole = (k, s, int(results.updates[row]), int(results.diverged[row]))
            rows.append((*whole, *blobs, _checksum(whole, blobs)))
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?)", rows)
        except sqlite3.OperationalError as error:
            raise SweepFileError(
                f"{self.path} cannot be written ({error}). {self.what_is_kept()}"
            ) from error

    def _curve_type(self) -> type[np.floating]:
        return np.float64 if self.config["dtype"] == "float64" else np.float32

    def results(self) -> Results:
        """All runs as `Results` of shape (K, S, ...), without losses and gradient norms."""
        K, S, E = (len(self.config[name]) for name in ("lrs", "seeds", "eval_steps"))
        all_runs = Results.empty(0, 0, 0)
        all_runs.val_losses, all_runs.val_accuracies = np.empty((2, K, S, E))
        all_runs.test_losses, all_runs.test_accuracies = np.empty((2, K, S))
        all_runs.updates, all_runs.diverged = np.empty((K, S), int), np.empty((K, S), bool)
        with self._refuse_damage():
            for k, s, updates, diverged, *blobs in _whole_runs(self._db):
                measured = np.frombuffer(blobs[2])
                all_runs.updates[k, s], all_runs.diverged[k, s] = updates, diverged
                all_runs.val_losses[k, s] = measured[:E]
                all_runs.val_accuracies[k, s] = measured[E : 2 * E]
                all_runs.test_losses[k, s], all_runs.test_accuracies[k, s] = measured[2 * E :]
        return all_runs

    def read_curves(self, name: str) -> np.ndarray:
        """`losses` or `grad_norms` of all runs: float64 (K, S, T)."""
        config = self.config
        curves = np.empty((len(config["lrs"]), len(config["seeds"]), config["steps"]))
        db = self._db if self.path is None else _connect(self.path)  # it may be long closed
        try:
            with self._refuse_damage():
                for k, s, _, _, losses, grad_norms, _ in _whole_runs(db):
                    blob = {"losses": losses, "grad_norms": grad_norms}[name]
                    curves[k, s] = np.frombuffer(blob, self._curve_type())
        finally:
            if self.path is not None:
                db.close()
        return curves

    @classmethod
    def save(cls, path: str | Path, sweep: Sweep) -> None:
        """Write a whole `Sweep` into a new file at `path`."""
        K, S = sweep.diverged.shape
        with _written_whole(Path(path)) as db:
            _make_tables(db, sweep.config)
            file = cls.__new__(cls)
            file.path, file._db, file.config = Path(path), db, sweep.config
            for s in range(S):
                everything = Results(
                    sweep.losses[:, s], sweep.grad_norms[:, s], sweep.val_losses[:, s],
                    sweep.val_accuracies[:, s], sweep.test_loss[:, s], sweep.test_accuracy[:, s],
                    sweep.updates[:, s], sweep.diverged[:, s],
                )  # fmt: skip
                file.add([(k, s) for k in range(K)], everything)


def _alike(found: Any, wanted: Any) -> bool:
    try:
        return np.allclose(found, wanted, rtol=1e-3, equal_nan=True)
    except (TypeError, ValueError):  # no numbers, or not as many
        return False


def _whole_runs(db: sqlite3.Connection) -> Iterator[list[Any]]:
    """The rows of the runs, each compared with its checksum."""
    for *row, checksum in db.execute("SELECT * FROM runs"):
        whole = all(isinstance(number, int) for number in row[:4])
        if not whole or checksum != _checksum(row[:4], row[4:]):
            raise ValueError(f"the checksum of run ({_short(row[0])}, {_short(row[1])}) is wrong")
        if min(row[:2]) < 0:  # which NumPy would count from the end
            raise ValueError(f"it has a run ({row[0]}, {row[1]})")
        yield row


def _checksum(numbers: Iterable[int], blobs: Iterable[bytes]) -> int:
    value = zlib.crc32(repr(tuple(map(int, numbers))).encode())
    for blob in blobs:
        value = zlib.crc32(blob, value)
    return value


def _make_tables(db: sqlite3.Connection, config: Config | None) -> None:
    with db:
        db.executescript(TABLES)
        text = json.dumps(config)
        checksum = _checksum((VERSION,), [text.encode()])
        db.execute("INSERT INTO sweep VALUES (?, ?, ?)", (VERSION, text, checksum))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # its folder may not be searched, say
        raise SweepFileError(f"{path} cannot be opened ({error.strerror})") from error


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file that exists. SQLite itself would make a missing one."""
    if not _is_there(path) or not path.is_file():  # a pipe, say
        raise SweepFileError(f"{path} does not exist, or is no file")
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    except sqlite3.Error as error:
        raise SweepFileError(f"{path} cannot be opened ({error})") from error


@contextmanager
def _written_whole(path: Path) -> Iterator[sqlite3.Connection]:
    """A new database that appears at `path` when it is complete, and not at all otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with closing(sqlite3.connect(temporary)) as db:
            yield db
        temporary.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise SweepFileError(f"{path} cannot be written ({error})") from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def _short(value: object, most: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"
