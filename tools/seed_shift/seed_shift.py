"""Give every seed of a process another value: what `make claims-seeds` does before a page runs.

`install(k)` replaces the functions through which seeds enter: `np.random.default_rng`, `np.random.seed`,
`random.seed`, `torch.manual_seed` and `torch.Generator().manual_seed`. (`keras.utils.set_random_seed` calls
these.) With the shift k an int becomes another int, and a list gets k as one entry more. Fixed splits
of data come from `np.random.RandomState`, which stays as it is.
"""

import os
import random
from functools import wraps
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

STEP = 1_000_003  # greater than any seed of the book, so no shifted seed is one of the book's
SHIFT = "LRTEACH_SEED_SHIFT"  # tells a worker process which shift to install: see sitecustomize.py
SEEN = "LRTEACH_SEED_SEEN"  # names a file that exists once any process has used a seed

_seen = False


def shifted(seed, k):
    """The seed to use in place of this one."""
    _note()
    if isinstance(seed, np.random.Generator):
        return seed  # was seeded where it was made
    if isinstance(seed, Integral):
        return int(seed) + k * STEP
    if isinstance(seed, list | tuple | np.ndarray):
        return [*(int(part) for part in np.ravel(seed)), k]
    raise TypeError(f"seed={seed!r} cannot be shifted: give an int or a list of ints")


def _note():
    global _seen
    if not _seen and SEEN in os.environ:
        Path(os.environ[SEEN]).touch()
        _seen = True


def install(k):
    """Shift all seeds that this process will use from now on."""

    def with_shift(function):
        @wraps(function)
        def seeding(seed=None):
            return function(shifted(seed, k))

        return seeding

    np.random.default_rng = with_shift(np.random.default_rng)
    np.random.seed = with_shift(np.random.seed)
    random.seed = with_shift(random.seed)
    torch.manual_seed = torch.random.manual_seed = with_shift(torch.manual_seed)
    original = torch.Generator

    class AnyGenerator(type(original)):
        """So that torch's own generators, too, are instances of the new class."""

        def __instancecheck__(cls, instance):
            return isinstance(instance, original)

    class Generator(original, metaclass=AnyGenerator):
        def manual_seed(self, seed):
            return super().manual_seed(shifted(seed, k))

    torch.Generator = Generator
