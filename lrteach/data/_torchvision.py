"""MNIST in torchvision's form: the embedded digits, and the full set with its download."""

import hashlib
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torchvision.datasets import MNIST
from torchvision.datasets.utils import download_url

from lrteach import data
from lrteach.data import DataError


class Digits(MNIST):  # type: ignore[misc]  # torchvision comes without types
    """The 10 000 embedded digits as a torchvision dataset, for transforms and `DataLoader`.

        loader = DataLoader(Digits(train=True, transform=ToTensor()), batch_size=64)

    8 000 images with `train=True` (no validation part is taken off), 2 000 with `train=False`.
    Reads its files in memory and writes nothing to disk.
    """

    def __init__(
        self,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(data.FOLDER, train, transform, target_transform, download=False)

    @property
    def raw_folder(self) -> str:
        return str(data.FOLDER / "digits")

    def download(self) -> None:
        """Does nothing: there is nothing to download."""

    def _check_legacy_exist(self) -> bool:
        return False

    def _check_exists(self) -> bool:
        return True  # _read checks, and its message says which file is wrong and what to do

    def _load_data(self) -> tuple[torch.Tensor, torch.Tensor]:
        part = "train" if self.train else "t10k"
        images, labels = data._read_mnist(part, self._read)
        return torch.from_numpy(images), torch.from_numpy(labels)

    def _read(self, name: str) -> bytes:
        return data._read(f"digits/{name}")


class FullDigits(Digits):
    """The whole of MNIST, downloaded once into the cache. Lies as torchvision's own MNIST lies."""

    @property
    def raw_folder(self) -> str:
        return str(_cache() / "MNIST" / "raw")

    def _read(self, name: str) -> bytes:
        path = Path(self.raw_folder) / name
        md5 = dict(self.resources)[name]
        # The check is on the content, so a file that somebody truncated is downloaded again.
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            _download(name, md5, path, self.mirrors)
            content = path.read_bytes()
        return content


def full_digits() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the whole training and of the whole test file, as NumPy arrays."""
    parts = FullDigits(train=True), FullDigits(train=False)
    return [(part.data.numpy(), part.targets.numpy()) for part in parts]


def _download(name: str, md5: str, path: Path, mirrors: Sequence[str]) -> None:
    """Put the file at `path`, whole or not at all."""
    mirrors = [os.environ["LRTEACH_MIRROR"]] if os.environ.get("LRTEACH_MIRROR") else mirrors
    timeout = _timeout()
    problems = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename below cannot be interrupted half-way.
        with (
            TemporaryDirectory(prefix=".download-", dir=path.parent) as folder,
            _socket_timeout(timeout),
        ):
            for mirror in mirrors:
                try:
                    download_url(f"{mirror.rstrip('/')}/{name}", folder, name, md5)
                except (OSError, RuntimeError, ValueError, HTTPException) as error:
                    problems.append(f"{mirror}: {error or type(error).__name__}")
                else:
                    os.replace(Path(folder) / name, path)
                    return
    except OSError as error:
        problems.append(f"{path.parent}: {error}")
    raise DataError(
        f"{name} of the full MNIST could not be downloaded. Tried, with a timeout of "
        f"{timeout:g} s (LRTEACH_TIMEOUT):\n  " + "\n  ".join(problems) + "\n"
        "LRTEACH_DATA=auto falls back to the embedded digits; without LRTEACH_DATA they are used "
        "at once."
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision's downloads wait for ever, and the default for new sockets is the only handle."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _timeout() -> float:
    text = os.environ.get("LRTEACH_TIMEOUT") or "20"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"LRTEACH_TIMEOUT={text!r} is not allowed: it must be seconds > 0")
    return seconds


def _cache() -> Path:
    text = os.environ.get("LRTEACH_CACHE") or "~/.cache/lrteach"
    folder = Path(text).expanduser().resolve()
    if folder.is_relative_to(data.FOLDER.resolve()):
        raise ValueError(
            f"LRTEACH_CACHE={text!r} is not allowed: it must be outside of {data.FOLDER}, "
            "where the embedded files are"
        )
    return folder
