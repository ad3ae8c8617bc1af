"""What the tests of training and of sweeps share: small data sets and models."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from lrteach import sweep
from lrteach.models import mlp
from lrteach.optimizers import rule, sgd

PARTS = {"train": 48, "val": 20, "test": 12}


def make_data(target, shape=(4,)):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(int(np.prod(shape)), 3))
    arrays = {}
    for part, n in PARTS.items():
        x = rng.normal(size=(n, *shape))
        arrays[f"x_{part}"] = x
        arrays[f"y_{part}"] = target(x.reshape(n, -1) @ weights)
    return SimpleNamespace(**arrays)


CLASSES = make_data(lambda scores: scores.argmax(1))
REGRESSION = make_data(lambda scores: scores[:, 0] + 1.0)
IMAGES = make_data(lambda scores: scores.argmax(1), shape=(1, 6, 6))

TANH = mlp((4, 8, 3), "tanh")
RELU = mlp((4, 8, 8, 3))
CONV = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


@rule
def keeping(theta, g, last, before, *, lr):
    """A rule that keeps the gradient and theta for the next update, as it got them."""
    return theta - lr * (2 * g - last) + 0.5 * (theta - before), g, theta


@rule
def copying(theta, g, last, before, *, lr):
    """The same rule, which keeps copies."""
    return theta - lr * (2 * g - last) + 0.5 * (theta - before), 1 * g, 1 * theta


class WithDropout(nn.Module):
    """A model that draws random numbers in training, and is no Sequential."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x)


def run(model=TANH, data=CLASSES, rule=sgd, lrs=(0.1, 0.3), **more):
    settings = {"seeds": 2, "steps": 25, "batch_size": 10, "dtype": torch.float64} | more
    return sweep(model, data, rule, lrs, **settings)


def everything(result, k=slice(None), s=slice(None)):
    """All that a sweep measured of some runs, as bytes: equal only when bit for bit the same."""
    arrays = [result.losses, result.grad_norms, result.val_losses, result.val_accuracies]
    arrays += [result.test_loss, result.test_accuracy, result.updates, result.diverged]
    return [np.ascontiguousarray(a[k, s]).tobytes() for a in arrays]
