"""What the tests of schedules and of feedback share: small optimizers, and how bad values are refused."""

import re

import pytest
import torch

from lrteach import TorchOptimizer, optimizers

GROUP_RATES = (0.1, 0.003, 2.0)


def make_optimizer(kind, rates=GROUP_RATES):
    parameters = [torch.nn.Parameter(torch.full((2,), 1.0 + i)) for i in range(len(rates))]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)]
    if kind == "TorchOptimizer":
        return TorchOptimizer(groups, optimizers.adam, lr=1.0), parameters
    return getattr(torch.optim, kind)(groups, lr=1.0), parameters


def train_step(optimizer, parameters):
    optimizer.zero_grad()
    sum((p**2).sum() / 9 for p in parameters).backward()
    optimizer.step()


def assert_refused(make, arguments, words):
    """The last of the arguments is refused with its name, its value and what is allowed."""
    name, value = list(arguments.items())[-1]
    message = f"{name}={value!r} is not allowed: {name} must be {words}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make(**arguments)
