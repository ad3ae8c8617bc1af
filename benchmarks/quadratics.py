"""K rates at once on a NumPy quadratic, against one: what another rate costs."""

from functools import partial

import numpy as np

from benchmarks.timing import compare
from lrteach import optimizers, problems

RATES = (1, 10, 100, 1000, 10_000)


def rows(steps=200, rounds=5):
    """A row for each rule: the time of K = 1, 10, ... 10 000 rates."""
    bowl = problems.quadratic(1, 10)
    for rule in (optimizers.sgd, optimizers.adam):
        functions = {}
        for K in RATES:
            start, lrs = np.ones((K, 2)), np.geomspace(1e-3, 0.19, K)
            functions[f"K = {K}"] = partial(problems.descend, bowl, rule, start, lrs, steps)
        timed = compare(functions, rounds)
        # How many times as fast as K single runs.
        timed["ratios"] = {f"K = {K}": K * timed["ratios"][f"K = {K}"] for K in RATES[1:]}
        table = f"K rates at once on a quadratic, NumPy, {steps} updates; against K single runs"
        yield {"table": table, "name": rule.__name__} | timed
