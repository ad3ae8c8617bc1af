"""Logs of training runs, as other tools write them: what was measured, and after how many updates.

    log = read_log("metrics.csv")
    log.losses, log.val_losses, log.rates            # each a Series: steps and values

Columns are recognised by their usual names. CSV, JSON lines, the `trainer_state.json` of
transformers, Lightning's `metrics.csv` and TensorBoard's event files are read piece by piece; of a
long log an even sample is kept, so memory is bounded whatever its length.
"""

import csv
import io
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, zip_longest
from numbers import Real
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

__all__ = ["Log", "LogError", "Series", "read_log"]

# Points that are kept of a series. Twice as many, and every other one is dropped.
MOST = 100_000
CHUNK = 10_000  # rows that are read at a time
DENSE = 0.9  # of the rows: a loss in so many is in nearly all of them
# A line of a log that is longer is no line of a log.
LONGEST_LINE = 1_000_000
CELLS = 500_000  # of a table that are held as text at a time
# Read at once, JSON takes up to 25 times its size.
LARGEST_JSON = 200_000_000
CUT = "The file ends in the middle of a record, so it was cut off, or is still being written."

# What is measured: the names under which it is logged, best first, in words of small letters.
NAMES = {
    "step": [
        "step", "global step", "update", "updates", "iteration", "iterations", "iter", "batch", "batches", "epoch",
    ],
    "loss": [
        "loss", "train loss", "training loss", "loss train", "train loss step", "loss step", "train epoch loss",
        "batch loss", "train loss epoch", "loss epoch", "nll", "objective", "cost",
    ],
    "val_loss": [
        "val loss", "valid loss", "validation loss", "eval loss", "dev loss", "loss val", "loss valid",
        "loss validation", "loss eval", "val loss epoch", "val epoch loss", "test loss", "loss test",
    ],
    "lr": ["lr", "learning rate", "epoch learning rate", "train epoch learning rate", "train lr", "train learning rate", "rate", "optimizer lr", "eta", "lr step"],
    "grad_norm": [
        "grad norm", "gradient norm", "gradnorm", "train grad norm", "total grad norm", "global grad norm",
        "grad norm step", "gnorm", "grad 2 norm total",
    ],
    "accuracy": ["accuracy", "acc", "train accuracy", "train acc", "training accuracy", "accuracy train"],
    "val_accuracy": [
        "val accuracy", "val acc", "valid accuracy", "validation accuracy", "eval accuracy", "eval acc",
        "test accuracy", "test acc",
    ],
    "update_ratio": ["update ratio", "update to weight", "update weight ratio", "update norm ratio"],
}  # fmt: skip

LOSSES = ("loss", "val_loss")

Columns: TypeAlias = dict[str, Sequence[Any]]  # values, text or numbers, of some rows
# Steps and values that are still to be added to the sample.
Buffer: TypeAlias = "tuple[list[float], list[float], _Kept]"


class LogError(ValueError):
    """The log cannot be read, or there is nothing in it that can be used."""


@dataclass
class Series:
    """What was measured of one thing.

    Attributes
    ----------
    steps, values : float64 arrays (N,)
        Where and what; only finite values, in the order of the log.
    count : int
        How many values the log has; N are kept.
    broken_at : float or None
        The step of the first value that is not finite.
    lost_at : float or None
        The step from which on it is missing, if it was in nearly every row before: pandas, and
        some that write JSON, leave such a gap where a value is NaN.
    """

    steps: np.ndarray
    values: np.ndarray
    count: int
    broken_at: float | None = None
    lost_at: float | None = None

    def __len__(self) -> int:
        return len(self.steps)


@dataclass
class Log:
    """Everything a log says about training, by name; a Series of length 0 for what it does not.

    `columns` says which name of the log each was found under, `ignored` lists the others, `notes`
    are sentences on what could not be read.
    """

    source: str
    series: dict[str, Series]
    columns: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def losses(self) -> Series:
        """Training loss."""
        return self._of("loss")

    @property
    def val_losses(self) -> Series:
        """Validation loss."""
        return self._of("val_loss")

    @property
    def rates(self) -> Series:
        """Learning rate."""
        return self._of("lr")

    @property
    def grad_norms(self) -> Series:
        """Length of the gradient."""
        return self._of("grad_norm")

    @property
    def accuracies(self) -> Series:
        """Training accuracy."""
        return self._of("accuracy")

    @property
    def val_accuracies(self) -> Series:
        """Validation accuracy."""
        return self._of("val_accuracy")

    @property
    def update_ratios(self) -> Series:
        """Length of an update over that of the weights."""
        return self._of("update_ratio")

    def _of(self, name: str) -> Series:
        return self.series.get(name, Series(np.zeros(0), np.zeros(0), 0))

    def __repr__(self) -> str:
        found = ", ".join(f"{len(s)} of {name}" for name, s in self.series.items())
        return f"<Log {self.source}: {found}>"


def read_log(source: Any, columns: dict[str, str] | None = None, progress: bool = False) -> Log:
    """Read the log of a run.

    Parameters
    ----------
    source : path, pandas.DataFrame, lrteach Run, or a list of dicts
        A path ending in .csv, .tsv, .jsonl, .ndjson or .json, or a TensorBoard event file or the
        folder of one. Values may be missing: not everything is measured at every step.
    columns : dict of str to str, or None
        For what is not recognised by its name: "step", "loss", "val_loss", "lr", "grad_norm",
        "accuracy", "val_accuracy" or "update_ratio", and the column it is in.
    progress : bool
        Show a progress bar in a terminal, for a file that takes longer than a second.

    Returns
    -------
    Log

    Raises
    ------
    LogError
        The message says what is wrong, and where: no such file, no loss in it, a value that is no
        number, and so on.
    """
    columns = dict(columns or {})
    unknown = sorted(set(columns) - set(NAMES))
    if unknown:
        raise LogError(f"columns={unknown[0]!r} is not allowed: it must be one of {list(NAMES)}")
    if hasattr(source, "grad_norms") and hasattr(source, "eval_steps"):
        return _of_run(source)
    if isinstance(source, (list, tuple)):
        records = ((f"record {i}", record) for i, record in enumerate(source))
        return _gather(records, columns, "the list")
    if hasattr(source, "columns") and hasattr(source, "to_dict"):
        return _of_table(source, columns)
    if not isinstance(source, (str, Path)):
        raise LogError(f"source must be a path, a table or a run, not {type(source).__name__}")
    path = Path(source)
    try:
        return _of_path(path, columns, progress)
    except LogError as error:
        raise LogError(f"{path}: {error}") from None
    except OSError as error:
        raise LogError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: byte {error.start} is no text in UTF-8") from None
    except UnicodeEncodeError:
        raise LogError(f"{path}: the name must be text in UTF-8") from None


def _of_path(path: Path, columns: dict[str, str], progress: bool) -> Log:
    if not path.exists():
        raise LogError("there is no such file")
    if path.is_dir():
        return _of_tensorboard(path, columns, progress)
    if not path.is_file():  # a pipe, say, which would be waited for
        raise LogError("it is not a file")
    if ".tfevents." in path.name:
        return _of_tensorboard(path, columns, progress)
    if path.stat().st_size == 0:
        raise LogError("the file is empty")
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        return _of_csv(path, columns, progress)
    if kind in (".jsonl", ".ndjson"):
        return _noted(_json_lines, path, columns, progress)
    if kind == ".json":
        return _noted(_json_records, path, columns, progress)
    raise LogError(f"logs end in .csv, .tsv, .jsonl or .json, or are TensorBoard's, not {kind!r}")


def _noted(
    read: Callable[[Path, bool, list[str]], Iterator[tuple[str, Any]]],
    path: Path,
    columns: dict[str, str],
    progress: bool,
) -> Log:
    """A Log of what `read` finds in the file, with the notes that it makes."""
    notes: list[str] = []
    log = _gather(read(path, progress, notes), columns, path.name)
    log.notes = tuple(notes)
    return log


def _of_run(run: Any) -> Log:
    steps = np.arange(run.steps, dtype=float)
    series = {
        "loss": _whole(np.arange(len(run.losses), dtype=float), run.losses),
        "lr": _whole(steps, run.rates),
        "grad_norm": _whole(steps, run.grad_norms),
        "val_loss": _whole(run.eval_steps, run.val_losses),
        "val_accuracy": _whole(run.eval_steps, run.val_accuracies),
    }
    return Log(repr(run), {name: one for name, one in series.items() if one is not None})


def _of_table(table: Any, columns: dict[str, str]) -> Log:
    """A DataFrame. NaN there is a value that was not measured, or a loss that was NaN."""
    names = [
        "/".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in table.columns
    ]
    chunk = {}
    for i, name in enumerate(names):
        column = table.iloc[:, i]
        chunk[name] = column.astype(object).where(column.notna(), None).tolist()
    return _gather_columns([chunk] if len(table) else [], names, columns, "the table")


def _whole(steps: np.ndarray, values: np.ndarray) -> Series | None:
    kept = _Kept()
    kept.add(np.asarray(steps, float), np.asarray(values, float))
    return kept.series()


# --- Files ---------------------------------------------------------------------------------------


BAR = {"unit_scale": True, "leave": False, "disable": None, "delay": 1}  # only in a terminal


class _Watched(io.FileIO):
    """A file that moves a progress bar as it is read."""

    bar: Any = None  # tqdm's

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self.bar.update(count)
        return count


@contextmanager
def _opened(path: Path, progress: bool) -> Iterator[IO[bytes]]:
    """The file, for reading bytes; with a progress bar if this is a terminal."""
    if not progress:
        with open(path, "rb") as file:
            yield file
        return
    from tqdm import tqdm

    with (
        tqdm(total=path.stat().st_size, unit="B", desc="reading", **BAR) as bar,
        _Watched(path) as raw,
    ):
        raw.bar = bar
        yield io.BufferedReader(raw, 1 << 20)


def _of_csv(path: Path, columns: dict[str, str], progress: bool) -> Log:
    with open(path, encoding="utf-8-sig", newline="") as file:
        header = file.readline(LONGEST_LINE)
    separator = max(",;\t", key=header.count)  # spreadsheets write ; where , is in numbers
    with _opened(path, progress) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        rows = csv.reader(file, delimiter=separator, skipinitialspace=True)
        try:
            names = [name.strip() for name in next(rows, [])]
            notes: list[str] = []
            log = _gather_columns(
                _chunks(rows, names, _ends_in_a_line(path), notes), names, columns, path.name
            )
            log.notes = tuple(notes)
            return log
        except csv.Error as error:  # a field of more than 131072 characters, say
            raise LogError(f"line {rows.line_num} is no line of a table: {error}") from None


def _ends_in_a_line(path: Path) -> bool:
    """Whether the last byte ends a line."""
    with open(path, "rb") as file:
        file.seek(-1, io.SEEK_END)
        return file.read(1) in b"\r\n"


def _chunks(
    rows: Iterable[list[str]], names: list[str], ended: bool, notes: list[str]
) -> Iterator[Columns]:
    """Columns of a few thousand rows at a time, as lists of text; short rows are filled up.

    A last row that is short and, as `ended` is False, no whole line is left out, with a note.
    """
    most = max(1, min(CHUNK, CELLS // max(1, len(names))))
    filled = (row for row in rows if row)
    ahead = next(filled, None)
    while ahead is not None:
        chunk = [ahead, *islice(filled, most - 1)]
        ahead = next(filled, None)
        if ahead is None and not ended and len(chunk[-1]) < len(names):
            chunk.pop()
            notes.append(CUT)
        if not chunk:
            return
        columns = list(zip_longest(*chunk, fillvalue=""))
        if len(columns) > len(names):
            wide = next(i for i, row in enumerate(chunk) if len(row) > len(names))
            raise LogError(
                f"a row has {len(chunk[wide])} fields, but the header has {len(names)}: "
                f"{','.join(chunk[wide])[:60]!r}"
            )
        empty = ("",) * len(chunk)
        yield {n: columns[i] if i < len(columns) else empty for i, n in enumerate(names)}


def _json_lines(path: Path, progress: bool, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Records of a file of lines. A last line that was cut off is left out, with a note."""
    with _opened(path, progress) as file:
        for number in range(1, 1 << 62):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            if len(line) > LONGEST_LINE:
                raise LogError(f"line {number} has more than {LONGEST_LINE} bytes")
            if line.strip():
                try:
                    record = _json(line, f"line {number}")
                except LogError:
                    if number == 1 or line.endswith(b"\n"):
                        raise
                    notes.append(CUT)
                    return
                yield f"line {number}", record


def _json_records(path: Path, progress: bool, notes: list[str]) -> Iterator[tuple[str, Any]]:
    if path.stat().st_size > LARGEST_JSON:
        raise LogError(
            f"a .json file of more than {LARGEST_JSON / 1e6:.0f} MB must be written as JSON lines (.jsonl)"
        )
    with _opened(path, progress) as file:
        whole = b"".join(iter(lambda: file.read(1 << 24), b""))
    try:
        content = _json(whole, "the file")
    except LogError:
        if whole.lstrip()[:1] == b"{" and b"\n{" in whole:  # JSON lines under another name
            yield from _json_lines(path, progress, notes)
            return
        raise
    if isinstance(content, dict) and "log_history" in content:  # transformers' trainer_state.json
        content = content["log_history"]
    if isinstance(content, dict) and any(isinstance(value, list) for value in content.values()):
        content = _rows_of(content)
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise LogError(f"expected a list of records, not {type(content).__name__}")
    if progress:
        from tqdm import tqdm

        content = tqdm(content, unit=" records", **BAR)
    yield from ((f"record {i}", record) for i, record in enumerate(content))


def _rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of a dict of lists of one length, such as the history of a Keras model."""
    lists = {name: value for name, value in columns.items() if isinstance(value, list)}
    lengths = {name: len(value) for name, value in lists.items()}
    if len(set(lengths.values())) > 1:
        raise LogError(f"the lists must have one length, not {_short(lengths)}")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _json(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise LogError(f"{where} is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LogError(f"{where} is no JSON: {error}") from None
    except ValueError as error:  # an int of too many digits
        raise LogError(f"{where} cannot be read: {error}") from None


def _of_tensorboard(path: Path, columns: dict[str, str], progress: bool) -> Log:
    files = list(_event_files(path)) if path.is_dir() else [("", path)]
    if not files:
        raise LogError("there is no TensorBoard event file in this folder")
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.util import tensor_util
    except ImportError:
        raise LogError(
            "TensorBoard's files need its package: pip install 'lrteach[tensorboard]'"
        ) from None

    def records(event: Any, part: str) -> Iterator[tuple[str, Any]]:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                number = value.simple_value
            elif value.HasField("tensor") and not value.tensor.tensor_shape.dim:
                try:
                    number = tensor_util.make_ndarray(value.tensor).item()
                except (TypeError, ValueError, OverflowError):  # no single number
                    continue
            else:
                continue
            if isinstance(number, (int, float)):
                yield f"step {event.step}", {"step": event.step, part + value.tag: number}

    def raw_records(file: Path) -> Iterator[bytes]:
        with suppress(MemoryError, OverflowError):  # the length that a record claims to have
            yield from RawEventFileLoader(str(file)).Load()

    total, unread = sum(file.stat().st_size for _, file in files), 0

    def events() -> Iterator[tuple[str, Any]]:
        from tqdm import tqdm

        nonlocal unread
        options = BAR if progress else {"disable": True}
        with tqdm(total=total, unit="B", desc="reading", **options) as bar:
            for part, file in files:
                read = 0
                for number, raw in enumerate(raw_records(file)):
                    try:
                        event = Event.FromString(raw)
                    except DecodeError:
                        raise LogError(f"record {number} of {file.name} is no event") from None
                    yield from records(event, part)
                    read += len(raw) + 16  # its length and two checksums
                    bar.update(len(raw) + 16)
                unread += max(0, file.stat().st_size - read)

    log = _gather(events(), columns, path.name)
    if unread:
        log.notes = (
            f"Only {total - unread} of the {total} bytes could be read: the file ends in the middle "
            "of a record, is still being written, or is damaged there.",
        )
    return log


def _event_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The event files of one run: (what its tags begin with, path).

    They lie in one folder, or, as those of Keras, in one for training and one for validation.
    """
    found: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob("*.tfevents.*")):
        if not file.is_file():
            continue
        found.setdefault(file.parent, []).append(file)
    parts = {
        "train": "train/",
        "validation": "val/",
        "val": "val/",
        "valid": "val/",
        "eval": "val/",
    }
    one_run = {place.parent for place in found if place.name in parts} | {
        place for place in found if place.name not in parts
    }
    if len(one_run) > 1:
        names = [str(place.relative_to(folder)) for place in sorted(found)]
        raise LogError(f"there are several runs in this folder, name one of them: {_some(names)}")
    for place, files in found.items():
        part = parts.get(place.name, "") if len(found) > 1 else ""
        yield from ((part, file) for file in files)


# --- Gathering -----------------------------------------------------------------------------------


class _Kept:
    """An even sample of a series that may be of any length."""

    def __init__(self) -> None:
        self.steps: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.every, self.count, self.held = 1, 0, 0
        self.broken_at: float | None = None

    def add(self, steps: np.ndarray, values: np.ndarray) -> None:
        """Take more of the series: arrays (n,)."""
        finite = np.isfinite(values)
        if self.broken_at is None and not finite.all():
            self.broken_at = float(steps[~finite][0])
        steps, values = steps[finite], values[finite]
        places = np.arange(self.count, self.count + len(steps))
        self.count += len(steps)
        chosen = places % self.every == 0
        self.steps.append(steps[chosen])
        self.values.append(values[chosen])
        self.held += int(chosen.sum())
        while self.held > 2 * MOST:
            self.steps = [np.concatenate(self.steps)[::2]]
            self.values = [np.concatenate(self.values)[::2]]
            self.every, self.held = 2 * self.every, len(self.steps[0])

    def series(self) -> Series | None:
        """What was kept, or None if there never was a value."""
        if not self.count and self.broken_at is None:
            return None
        return Series(
            np.concatenate(self.steps), np.concatenate(self.values), self.count, self.broken_at
        )


class _Gap:
    """Whether a column that was there in nearly every row is missing in the last rows."""

    def __init__(self) -> None:
        self.rows, self.given, self.before = 0, 0, 0
        self.since: float | None = None

    def add(self, steps: np.ndarray | list[float], given: np.ndarray | list[bool]) -> None:
        """Take more rows: their steps, and whether the column has a value there; arrays (n,)."""
        here = np.flatnonzero(given)
        first = 0
        if len(here):
            self.given += len(here)
            self.before, self.since = self.rows + int(here[-1]) + 1, None
            first = here[-1] + 1
        if self.since is None and first < len(steps):
            self.since = float(steps[first])
        self.rows += len(steps)

    @property
    def lost_at(self) -> float | None:
        """The first of the last rows, or None where the column is there or was rare before."""
        return self.since if self.given >= max(2, DENSE * self.before) else None


@lru_cache(1000)
def _words(name: object) -> str:
    """A column's name in small letters: `Train/lossPerStep` is "train loss per step"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name))
    return " ".join(re.findall(r"[a-z]+|[0-9]+", spaced.lower()))


def _recognise(names: Iterable[Any], columns: dict[str, str]) -> dict[str, str]:
    """Which column holds what: {"loss": "train/loss", ...}."""
    names = list(dict.fromkeys(map(str, names)))
    missing = [name for name in columns.values() if name not in names]
    if missing:
        raise LogError(f"there is no column {_short(missing[0])}, only {_some(names)}")
    found = dict(columns)
    words = {name: _words(name) for name in names if name not in columns.values()}
    for what, usual in NAMES.items():
        if what not in found:
            ranks = {n: usual.index(w) for n, w in words.items() if w in usual}
            if not ranks and what == "lr":  # Lightning's monitor: lr-AdamW, lr-SGD/pg1
                ranks = {n: i for i, (n, w) in enumerate(words.items()) if w.startswith("lr ")}
            if ranks:
                found[what] = min(ranks, key=ranks.__getitem__)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(map(_short, names[:12])) + (
        f" and {len(names) - 12} more" if len(names) > 12 else ""
    )


def _short(value: object, most: int = 60) -> str:
    """A value as it is shown in a message: what a log holds may be of any length."""
    text = reprlib.repr(value) if not isinstance(value, str) else repr(value[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def _gather_columns(
    chunks: Iterable[Columns], names: list[str], columns: dict[str, str], source: str
) -> Log:
    """A Log of a table that comes in pieces: {name: values, text or numbers, of some rows}."""
    found = _recognise(names, columns)
    _require(found, names)
    for name in found.values():
        if names.count(name) > 1:
            raise LogError(f"there are several columns {_short(name)}")
    kept = {what: _Kept() for what in found if what != "step"}
    gaps = {what: _Gap() for what in LOSSES if what in found}
    beside: dict[str, set[str]] = {
        what: set() for what in gaps
    }  # columns that have values in its rows
    after: dict[str, set[str]] = {
        what: set() for what in gaps
    }  # and in those that follow its last one
    rows = 0
    for chunk in chunks:
        here = {what: _numbers(chunk[name], name, rows) for what, name in found.items()}
        length = len(next(iter(here.values()))[0])
        steps, given = here.pop("step", (np.arange(rows, rows + length, dtype=float), True))
        usable = given & np.isfinite(steps)
        for what, (values, has) in here.items():
            use = has & usable
            kept[what].add(steps[use], values[use])
        for what, gap in gaps.items():
            has = here[what][1]
            gap.add(steps, has)
            if has.any():
                first, last = np.flatnonzero(has)[[0, -1]]
                after[what] = set()
                beside[what] |= _filled(chunk, first, last + 1, beside[what])
            else:
                last = -1
            if last + 1 < length:
                after[what] |= _filled(chunk, last + 1, length, after[what])
        rows += length
    if not rows:
        raise LogError("there are no rows")
    gaps = {what: gap for what, gap in gaps.items() if after[what] <= beside[what]}
    return _log(kept, found, names, source, gaps)


def _filled(chunk: Columns, first: int, last: int, known: set[str]) -> set[str]:
    """Names of the columns, except those known, that have a value in some of these rows."""
    return {
        name
        for name, column in chunk.items()
        if name not in known
        and any(
            v is not None and not (isinstance(v, str) and v == "")
            for v in islice(column, first, last)
        )
    }


def _numbers(column: Sequence[Any], name: str, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column and where there is one, both (n,). What is no number is refused."""
    try:
        values = np.array(column, dtype=float)  # None becomes NaN
        if values.ndim == 1:
            given = np.fromiter((value is not None for value in column), bool, len(values))
            return values, given
    except (ValueError, TypeError, OverflowError):
        pass
    values = np.full(len(column), np.nan)
    given = np.zeros(len(column), bool)
    for i, value in enumerate(column):
        if isinstance(value, str) and not value.strip():
            continue
        if value is not None:
            values[i] = _number(value, f"row {first_row + i + 1}", name)
            given[i] = True
    return values, given


def _gather(records: Iterable[tuple[Any, Any]], columns: dict[str, str], source: str) -> Log:
    """A Log of records (where, dict). Names may appear late: a record need not have all."""
    columns_of: dict[str, str] = {}
    kept: dict[str, Buffer] = {}
    gaps: dict[str, _Gap] = {}
    names: dict[str, None] = {}
    index = -1
    for index, (where, record) in enumerate(records):
        if not isinstance(record, dict):
            raise LogError(f"{where} is no record but {type(record).__name__}")
        new = [name for name in record if name not in names]
        if new:
            if len(names) + len(new) > 10_000:
                raise LogError("there are more than 10000 names of columns")
            names.update(dict.fromkeys(new))
            known = {w: n for w, n in columns.items() if n in names}
            # Those that were best so far stand first: of equals the first is taken.
            columns_of = _recognise([*columns_of.values(), *known.values(), *new], known)
        step = record.get(columns_of.get("step"), index)
        step = math.nan if step is None else _number(step, where, columns_of.get("step"))
        if not math.isfinite(step):  # as in a table
            continue
        for what, name in columns_of.items():
            if what != "step" and record.get(name) is not None:
                value = _number(record[name], where, name)
                buffer = kept.setdefault(name, ([], [], _Kept()))
                buffer[0].append(step)
                buffer[1].append(value)
                if len(buffer[0]) >= 10_000:
                    _flush(buffer)
            if what in LOSSES and name in record:  # null is a gap, no name is none
                gap = gaps.setdefault(name, _Gap())
                gap.add([step], [record[name] is not None])
    if index < 0:
        raise LogError("there are no records")
    missing = [name for name in columns.values() if name not in names]
    if missing:
        raise LogError(f"there is no column {missing[0]!r}, only {_some(list(names))}")
    _require(columns_of, list(names))
    for buffer in kept.values():
        _flush(buffer)
    by_what = {what: kept[name][2] for what, name in columns_of.items() if name in kept}
    by_loss = {what: gaps[name] for what, name in columns_of.items() if name in gaps}
    return _log(by_what, columns_of, list(names), source, by_loss)


def _flush(buffer: Buffer) -> None:
    steps, values, kept = buffer
    if steps:
        kept.add(np.array(steps, float), np.array(values, float))
        steps.clear()
        values.clear()


def _number(value: Any, where: object, name: str | None) -> float:
    """A value as a float; text such as "nan" too, as some tools write it."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise LogError(f"{_short(name)} is {_short(value)} in {where}, which is no number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _require(found: dict[str, str], names: list[str]) -> None:
    if "loss" not in found and "val_loss" not in found:
        raise LogError(
            f"no loss was recognised among {_some(names)}: name it with columns={{'loss': ...}}"
        )


def _log(
    kept: dict[str, _Kept],
    found: dict[str, str],
    names: list[str],
    source: str,
    gaps: dict[str, _Gap],
) -> Log:
    every = {what: kept[what].series() for what in NAMES if what in kept}
    series = {what: one for what, one in every.items() if one is not None}
    for what in set(gaps) & set(series):
        at, others = gaps[what].lost_at, [series[n] for n in LOSSES if n in series and n != what]
        # A loss that is measured later is finite, so nothing has diverged.
        if at is not None and not any(len(one) and one.steps.max() >= at for one in others):
            series[what].lost_at = at
    if not {"loss", "val_loss"} & set(series):
        raise LogError(
            f"the column {_short(found.get('loss', found.get('val_loss')))} has no values"
        )
    used = set(found.values())
    return Log(source, series, found, tuple(name for name in names if name not in used))
