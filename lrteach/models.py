"""Small networks for the experiments, and one way to draw their first parameters.

Every model is an ordinary `torch.nn.Module`. `train(model, ...)` works on a copy whose
parameters `initialise` draws from the seed of the run.
"""

import copy
import math
from collections.abc import Iterable
from itertools import pairwise
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from torch import nn

__all__ = ["mlp", "cnn", "linear_model", "initialise", "count_parameters"]

M = TypeVar("M", bound=nn.Module)

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(sizes: Iterable[int] = (40, 100, 100, 10), activation: str = "relu") -> nn.Sequential:
    """A dense network: inputs, hidden widths, outputs. The default fits `data.mnist1d()`.

    Inputs (B, sizes[0]) give outputs (B, sizes[-1]), which are logits for a classification.
    """
    sizes = tuple(sizes)
    if len(sizes) < 2 or any(not isinstance(n, Integral) or n < 1 for n in sizes):
        raise ValueError(f"sizes={sizes!r} is not allowed: sizes must be two or more ints >= 1")
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"activation={activation!r} is not allowed: it must be one of {sorted(_ACTIVATIONS)}"
        )
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def linear_model(inputs: int, outputs: int = 1, bias: bool = True) -> nn.Sequential:
    """One linear layer: linear regression, or logistic regression on its logits."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=bias))


def cnn(
    channels: tuple[int, int, int] = (32, 64, 64), hidden: int = 64, classes: int = 10
) -> nn.Sequential:
    """Three 3×3 convolutions, two of them pooled, then two dense layers: 28×28 digits to logits.

    With the default widths, 93 322 parameters. Inputs (B, 1, 28, 28), outputs (B, classes).
    """
    first, second, third = channels
    # Pooling and ReLU commute, to the bit; in this order ReLU has a quarter of the work.
    return nn.Sequential(
        nn.Conv2d(1, first, 3), nn.MaxPool2d(2), nn.ReLU(),  # 28 -> 26 -> 13
        nn.Conv2d(first, second, 3), nn.MaxPool2d(2), nn.ReLU(),  # 13 -> 11 -> 5
        nn.Conv2d(second, third, 3), nn.ReLU(),  # 5 -> 3
        nn.Flatten(),
        nn.Linear(third * 3 * 3, hidden), nn.ReLU(),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def initialise(model: M, seed: int) -> M:
    """Draw the parameters of a model anew, in place, from an int seed. Returns the model.

    Linear and convolution layers get torch's default distribution, uniform in ±1/√fan_in, drawn
    by NumPy in float64: the same numbers on every machine, which torch's float32 generator does
    not promise. Other layers use their own `reset_parameters` under the same seed.

    What is then done to the result in place is done to the model too: it is one object. To leave
    the model as it is, give a copy: `initialise(copy.deepcopy(model), seed).double()`.
    """
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    draw = rng.uniform(-bound, bound, tuple(parameter.shape))
                    parameter.copy_(torch.from_numpy(draw))
            elif (reset := getattr(module, "reset_parameters", None)) is not None:
                with torch.random.fork_rng():
                    torch.manual_seed(int(rng.integers(2**31)))
                    reset()
    return model


def fresh_copy(model: M, seed: int | None) -> M:
    """A copy of the model; with new parameters unless `seed` is None."""
    model = copy.deepcopy(model)
    return model if seed is None else initialise(model, seed)


def count_parameters(model: nn.Module) -> int:
    """The number of trainable numbers in a model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
