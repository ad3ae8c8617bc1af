"""A training run against the plain loop, and many rates at once against one."""

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.timing import compare
from lrteach import data, models, problems, train
from lrteach import optimizers as rules
from lrteach.training import batches


def rows():
    table = "One training run"
    yield {
        "table": table,
        "name": "200 steps of the MNIST-1D network",
        **compare(training_run()),
    }
    yield {
        "table": table,
        "name": "200 steps of adam on a quadratic, NumPy",
        **compare(many_rates()),
    }


def training_run(steps=200):
    """`train` against the plain torch.optim loop on the same batches, MLP 40-100-100-10."""
    signals = data.mnist1d()

    def ours():
        train(models.mlp(), signals, rules.adam, 1e-3, steps=steps, progress=False)

    def plain():
        model = models.initialise(models.mlp(), 0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        x, y = torch.from_numpy(signals.x_train), torch.from_numpy(signals.y_train)
        order = batches(len(x), 100, 0)
        for _ in range(steps):
            batch = torch.from_numpy(next(order))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            loss.item()

    return {"a plain torch loop": plain, "train": ours}


def many_rates(K=1000, steps=200):
    """K runs at once on a NumPy quadratic against one run (far less than K times as long)."""
    bowl = problems.quadratic(1, 10)
    lrs = np.geomspace(1e-3, 0.19, K)
    return {
        "one rate": lambda: problems.descend(bowl, rules.adam, np.ones(2), 0.1, steps),
        f"{K} rates": lambda: problems.descend(bowl, rules.adam, np.ones((K, 2)), lrs, steps),
    }
