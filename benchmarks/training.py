"""One training run: `train` against the plain torch.optim loop on the same batches."""

from functools import partial

from benchmarks.sweeps import plain_loop
from benchmarks.timing import compare
from lrteach import data, models, optimizers, train


def rows(steps=200):
    """One row: the MNIST-1D network with Adam."""
    job = (models.mlp(), data.mnist1d())
    settings = {"steps": steps, "batch_size": 100}
    functions = {
        "torch loop": partial(plain_loop, *job, "adam", [1e-3], **settings),
        "train": partial(train, *job, optimizers.adam, 1e-3, progress=False, **settings),
    }
    name = f"MLP 40-100-100-10 on MNIST-1D, adam, {steps} updates"
    yield {"table": "One training run", "name": name} | compare(functions)
