"""What the book needs of a machine: looked at one by one, each with how to mend it."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Finding", "examine"]

# What an extra brings (a module to look for), and what it is good for.
EXTRAS = {
    "jupyter_book": ("book", "building the site"),
    "pytest": ("test", "the tests"),
    "keras": ("keras", "the Keras tab of the chapter on digits"),
    "transformers": ("transformers", "a second opinion on schedules"),
    "distributed": ("dask", "a sweep on several machines"),
    "jax": ("bench", "the benchmarks"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` says what to do where it is not `ok`."""

    name: str
    ok: bool
    says: str
    mend: str = ""
    optional: bool = False

    def __str__(self) -> str:
        word = "ok" if self.ok else "optional" if self.optional else "missing"
        return f"{word:8}  {self.name}: {self.says}" + ("" if self.ok else f". {self.mend}")


def examine() -> Iterator[Finding]:
    """Look at everything, one `Finding` after the other. Changes nothing."""
    yield _python()
    yield _can_write("cache", _cache, "set LRTEACH_CACHE to a folder that you may write to")
    yield _can_write("working folder", Path.cwd, "change into a folder that you may write to")
    yield from _packages()
    yield from _torch()
    yield from _data_files()
    yield from _extras()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    needs = "Python 3.11 or newer is needed: make a new environment with it"
    return Finding("Python", sys.version_info >= (3, 11), found, needs)


def _packages() -> Iterator[Finding]:
    """Every package that lrteach depends on: is it there, new enough, and can it be loaded?"""
    try:
        wanted = [line for line in requires("lrteach") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        yield Finding("lrteach", False, "not installed", "Run `make setup` in the clone")
        wanted = ["matplotlib", "numpy", "pandas", "torch", "torchvision", "tqdm"]
    for line in wanted:
        named = re.match(r"([\w.-]+)(?:>=([\d.]+))?", line)
        assert named is not None  # a requirement begins with a name
        name, least = named.groups()
        mend = f"Run `pip install '{line}'`, or `make setup` in the clone"
        try:
            import_module(name)
            found = version(name)
        except PackageNotFoundError:
            found = "of unknown version"
        except Exception as error:  # a broken build raises anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield Finding(name, False, f"cannot be loaded ({reason})", mend)
            continue
        enough = least is None or not found[0].isdigit() or _numbers(found) >= _numbers(least)
        yield Finding(name, enough, found + ("" if enough else f", older than {least}"), mend)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+(?:\.\d+)*", text)[0].split("."))


def _torch() -> Iterator[Finding]:
    """Where it computes. A CPU is all the book needs."""
    try:
        import torch
    except Exception:  # said by _packages
        return
    try:
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        torch.ones(2).sum().item()
        yield Finding("device", True, where)
    except Exception as error:
        mend = "Hide the GPU with CUDA_VISIBLE_DEVICES= or install a torch that fits its driver"
        yield Finding("device", False, f"torch cannot compute ({error})", mend)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = torch.get_num_threads()
    yield Finding(
        "threads", threads <= cores, f"{threads} on {cores} cores",
        f"More threads than cores are slow: set OMP_NUM_THREADS={cores}",
    )  # fmt: skip


def _data_files() -> Iterator[Finding]:
    try:
        from lrteach import data
    except Exception:  # without numpy
        yield Finding("data", False, "cannot be looked at", "First mend the packages above")
        return
    for name in data.FILES:
        try:
            data._read(name)
        except data.DataError as error:
            says, mend = str(error).split(". ", 1)
            yield Finding(f"data {name}", False, says, mend)
        else:
            yield Finding(f"data {name}", True, "as published")


def _cache() -> Path:
    return Path(os.environ.get("LRTEACH_CACHE") or Path.home() / ".cache" / "lrteach")


def _can_write(name: str, where: Callable[[], Path], mend: str) -> Finding:
    """Try it, in the first folder of the path that exists: nothing stays behind."""
    mend = mend[0].upper() + mend[1:]
    try:
        folder = here = where()
        here = here.absolute()
    except (OSError, RuntimeError) as error:  # the working folder was deleted; nobody has a home
        return Finding(name, False, str(error) or "there is none", mend)
    try:
        while not here.exists() and here != here.parent:
            here = here.parent
        with tempfile.TemporaryFile(dir=here):
            pass
    except OSError as error:
        return Finding(name, False, f"{folder}: {error.strerror}", mend)
    return Finding(name, True, str(folder))


def _extras() -> Iterator[Finding]:
    for module, (extra, purpose) in EXTRAS.items():
        mend = f"For {purpose}: pip install 'lrteach[{extra}]'"
        yield Finding(module, find_spec(module) is not None, purpose, mend, optional=True)
    mend = "To read its event files: pip install tensorboard"
    yield Finding(
        "tensorboard", find_spec("tensorboard") is not None, "reading its event files", mend, True
    )
