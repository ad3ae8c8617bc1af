"""Small real data sets, embedded in the package, and the full MNIST behind a switch.

    data = digits()                  # 28x28 handwritten digits, as NumPy arrays
    data.x_train.shape               # (7200, 1, 28, 28)
    data.source                      # one line: which data these are

Nothing is downloaded unless you ask for it. Every embedded file is checked against its SHA-256
each time it is read. Environment variables, all optional:

- `LRTEACH_DATA`: `embedded` (the default); `full`: `digits()` is the whole of MNIST, downloaded
  once; `auto`: like `full`, but falls back to the embedded digits, with a warning.
- `LRTEACH_CACHE`: folder for the download, `~/.cache/lrteach` by default.
- `LRTEACH_TIMEOUT`: seconds without an answer after which a mirror is given up, 20 by default.
- `LRTEACH_MIRROR`: the address to download from, in place of torchvision's mirrors.

Where each file comes from, and under which licence: `DATA_LICENSES.md`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from lrteach.data._torchvision import Digits

__all__ = ["Data", "DataError", "Digits", "digits", "digits8", "mnist1d", "moby_dick", "spambase"]

FOLDER = Path(__file__).parent

# file: (bytes, SHA-256)
FILES = {
    "digits/t10k-images-idx3-ubyte.gz": (
        319337,
        "522dcb437b5d7a4e45bdcd85473dda32779a3aae0c183f5d488039e995328724",
    ),
    "digits/t10k-labels-idx1-ubyte.gz": (
        1029,
        "f1e5f6f8cf9c188abc5da9a316ee035362caee0a2fc14f85e5b9ab953cb366d0",
    ),
    "digits/train-images-idx3-ubyte.gz": (
        1294478,
        "0090b06e9a92c923d6cf9ae92be8199bdd4139fe6a88521fa891b7e265190de9",
    ),
    "digits/train-labels-idx1-ubyte.gz": (
        4093,
        "fdf350df6e9d5ebce22200d5f78b149c951da4b7664ace76b27217fbfc436cdd",
    ),
    "digits8.npz": (
        45374,
        "d79f969a1d947ffaf9dce9d30d01aa4ab91116a2b0aade5d5a24c99ac6b0f1d1",
    ),
    "mnist1d.npz": (
        748266,
        "788bad96470a9973f34c34d7dd86ba6226153e1805b4f573de903d23ec70079f",
    ),
    "moby_dick.txt.gz": (
        470949,
        "7c5a069c3bdea670b997c56961405e90c129313f7154d65e0d1d223272e6b87e",
    ),
    "spambase.npz": (
        146324,
        "84aee261a313ea2a776390c0bd86a41dfa5f5d304d6f3c081ac14d8e2c252095",
    ),
}


class DataError(RuntimeError):
    """A data file is missing or damaged, or a download failed. The message says what to do."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in three parts. Choose rates on the validation part; test once.

    Attributes
    ----------
    name : str
    source : str
        One line that says which data these are. Every chapter prints it.
    x_train, x_val, x_test : float32 array of shape (N, ...)
    y_train, y_val, y_test : int64 array of shape (N,)
        Class numbers from 0.
    """

    name: str
    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        """The number of classes."""
        return 1 + int(max(y.max() for y in (self.y_train, self.y_val, self.y_test)))

    def __repr__(self) -> str:
        return (
            f"Data({self.name!r}: {len(self.x_train)} train, {len(self.x_val)} validation, "
            f"{len(self.x_test)} test; x {self.x_train.shape[1:]} {self.x_train.dtype}, "
            f"{self.classes} classes)"
        )


def digits(size: int | None = None) -> Data:
    """Handwritten digits, 28x28: 10 000 of MNIST, or all of it with LRTEACH_DATA=full.

    x has shape (N, 1, 28, 28) and lies in [0, 1]. Embedded: 7 200 / 800 / 2 000 images, all from
    MNIST's training set. Full: MNIST's own split, 54 000 / 6 000 / 10 000. In both, the validation
    part is the last tenth of the training file, whose order is random.

    Parameters
    ----------
    size : int, optional
        Keep only the first `size` training images, for a quick experiment.

    Raises
    ------
    ValueError
        `size` is not between 1 and the number of training images; a bad environment variable.
    DataError
        A file is damaged or missing; with LRTEACH_DATA=full, MNIST cannot be downloaded.
    """
    mode = os.environ.get("LRTEACH_DATA") or "embedded"
    if mode not in ("embedded", "full", "auto"):
        raise ValueError(
            f"LRTEACH_DATA={mode!r} is not allowed: it must be 'embedded', 'full' or 'auto'"
        )
    kind = "embedded MNIST digits"
    if mode == "embedded":
        train, test = _embedded_digits()
    else:
        from lrteach.data._torchvision import full_digits  # slow, so only here

        try:
            train, test = full_digits()
            kind = "digits, the full MNIST"
        except DataError as error:
            if mode == "full":
                raise
            warnings.warn(
                f"LRTEACH_DATA=auto uses the embedded digits, because of this: {error}",
                UserWarning,
                stacklevel=2,
            )
            train, test = _embedded_digits()

    (x, y), (x_test, y_test) = (_images(*pair) for pair in (train, test))
    n_train = len(y) - len(y) // 10
    allowed = isinstance(size, Integral) and not isinstance(size, bool) and 1 <= size <= n_train
    if size is not None and not allowed:
        raise ValueError(f"size={size!r} is not allowed: size must be an int from 1 to {n_train}")
    part = "" if size is None else f"the first {_count(size)} of "
    return Data(
        "digits",
        f"digits: {_count(len(y) + len(y_test))} {kind} ({part}{_count(n_train)} train, "
        f"{_count(len(y) - n_train)} validation, {_count(len(y_test))} test)",
        x[:n_train][:size], y[:n_train][:size], x[n_train:], y[n_train:], x_test, y_test,
    )  # fmt: skip


def digits8() -> Data:
    """Handwritten digits, 8x8: 1 347 / 150 / 300 images that train in a second.

    x has shape (N, 64), row by row, and lies in [0, 1]. The split is random, with every class in
    proportion, so the same writers are in all three parts.
    """
    arrays = _read_npz("digits8.npz")
    x = arrays["X"].reshape(-1, 64).astype(np.float32) / 16
    y = arrays["y"].astype(np.int64)
    train, val, test = _split(y, np.arange(len(y)), n_val=150, n_test=300)
    return Data(
        "digits8",
        "digits8: 1 797 digits of 8x8 pixels from UCI (1 347 train, 150 validation, 300 test)",
        x[train], y[train], x[val], y[val], x[test], y[test],
    )  # fmt: skip


def mnist1d() -> Data:
    """MNIST-1D: 3 600 / 400 / 1 000 signals of 40 samples, in 10 classes.

    Each signal is one of ten hand-drawn shapes, moved, scaled, sheared and made noisy, so the set
    is small and yet tells models apart. x has shape (N, 40); mean 0 and standard deviation 1 over
    the whole set, as its authors made it. Validation: the last 400 of their 4 000 training signals,
    which are in random order.

    Source: Greydanus & Kobak 2020, arXiv:2011.14439.
    """
    arrays = _read_npz("mnist1d.npz")
    x, y = arrays["x"], arrays["y"].astype(np.int64)
    return Data(
        "mnist1d",
        "mnist1d: 5 000 MNIST-1D signals (3 600 train, 400 validation, 1 000 test)",
        x[:-400], y[:-400], x[-400:], y[-400:],
        arrays["x_test"], arrays["y_test"].astype(np.int64),
    )  # fmt: skip


def spambase() -> Data:
    """Spambase: word and character frequencies of 4 601 e-mails from 1999; 1 = spam.

    x has shape (N, 57), and 77 % of it is zero. Each feature is divided by its standard deviation
    over the training part and *not* centred, so zeros stay zeros: sparse features are what
    AdaGrad was made for. 394 e-mails are copies of others (as far as the features tell); copies
    always share a part, and the classes are in proportion.
    """
    arrays = _read_npz("spambase.npz")
    x, y = arrays["X"], arrays["y"].astype(np.int64)
    _, copy_of = np.unique(x, axis=0, return_inverse=True)
    train, val, test = _split(y, copy_of.ravel(), n_val=420, n_test=840)
    x = (x / x[train].std(axis=0, dtype=np.float64)).astype(np.float32)
    return Data(
        "spambase",
        f"spambase: 4 601 e-mails from UCI ({_count(len(train))} train, {_count(len(val))} "
        f"validation, {_count(len(test))} test)",
        x[train], y[train], x[val], y[val], x[test], y[test],
    )  # fmt: skip


def moby_dick() -> str:
    """Melville's *Moby-Dick* (1851) as one `str`: chapters 1 to 135, 1 189 651 characters."""
    return gzip.decompress(_read("moby_dick.txt.gz")).decode("utf-8")


def _read(name: str) -> bytes:
    """The bytes of an embedded file, after a check of its SHA-256."""
    path = FOLDER / name
    size, sha256 = FILES[name]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    else:
        found = hashlib.sha256(content).hexdigest()
        if found == sha256:
            return content
        problem = f"is damaged: {len(content)} bytes instead of {size}"
        if len(content) == size:
            problem = f"is damaged: its SHA-256 is {found} instead of {sha256}"
    raise DataError(
        f"{path} {problem}. Restore it with `git checkout -- {path}` in a clone, or else install "
        "lrteach again from where you had it."
    )


def _read_npz(name: str) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(_read(name)), allow_pickle=False) as arrays:
        return dict(arrays)


def _embedded_digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the training and of the test file."""
    return [_read_mnist(part, lambda name: _read(f"digits/{name}")) for part in ("train", "t10k")]


def _read_mnist(part: str, read: Callable[[str], bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (N, 28, 28), and labels, int64 (N,), from MNIST's files; `read` gets a name."""
    images, labels = (
        _parse_idx(gzip.decompress(read(f"{part}-{kind}-ubyte.gz")))
        for kind in ("images-idx3", "labels-idx1")
    )
    return images, labels.astype(np.int64)


def _parse_idx(content: bytes) -> np.ndarray:
    """The array in an IDX file of unsigned bytes: b"\\0\\0\\x08", rank, sizes (uint32), values."""
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def _images(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 1, H, W) in [0, 1], and y (N,)."""
    return pixels[:, None].astype(np.float32) / 255, labels


def _split(y: np.ndarray, group: np.ndarray, n_val: int, n_test: int) -> list[np.ndarray]:
    """Row numbers of the training, validation and test part, in random order.

    Rows of one `group` land in one part; `n_val` and `n_test` count groups. The classes are in
    proportion, because the parts take groups at even distances from a list sorted by class.
    """
    # RandomState and not default_rng: only its stream is promised to stay for ever (NEP 19).
    rng = np.random.RandomState(0)
    _, first = np.unique(group, return_index=True)
    groups = rng.permutation(len(first))
    groups = groups[np.argsort(y[first[groups]], kind="stable")]
    part = np.zeros(len(first), int)
    part[_evenly(groups, n_test)] = 2
    part[_evenly(groups[part[groups] == 0], n_val)] = 1
    rows = rng.permutation(len(y))
    return [rows[part[group[rows]] == number] for number in (0, 1, 2)]


def _evenly(items: np.ndarray, n: int) -> np.ndarray:
    return items[np.arange(n) * len(items) // n]


def _count(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def __getattr__(name: str) -> type[Digits]:
    # Digits is a torchvision class: import torchvision only when somebody wants it.
    if name == "Digits":
        from lrteach.data._torchvision import Digits

        return Digits
    raise AttributeError(f"module 'lrteach.data' has no attribute {name!r}")
