"""One step of an optimizer: a rule, the same compiled, and torch.optim, its default and fused."""

import torch
import torchvision
from torch import nn

from benchmarks.timing import compare
from lrteach import TorchOptimizer, models
from lrteach import optimizers as rules

RULES = {"sgd": (rules.sgd, torch.optim.SGD), "adam": (rules.adam, torch.optim.Adam)}
SHAPES = {
    "a vector of 1 M": lambda: [(1_000_000,)],
    "a dense network of 1 M": lambda: shapes_of(models.mlp((784, 850, 400, 10))),
    "ResNet-18, 11.7 M": lambda: shapes_of(torchvision.models.resnet18()),
}


def rows():
    for name, (rule, torchs) in RULES.items():
        for size, shapes in SHAPES.items():
            yield {
                "table": "One optimizer step, one thread",
                "name": f"{name}, {size}",
                **compare(
                    {
                        "torch default": step(lambda p, c=torchs: c(p, lr=1e-3), shapes()),
                        "torch fused": step(
                            lambda p, c=torchs: c(p, lr=1e-3, fused=True), shapes()
                        ),
                        "rule": step(lambda p, r=rule: TorchOptimizer(p, r, lr=1e-3), shapes()),
                        "rule compiled": step(compiled(rule), shapes()),
                    },
                    rounds=31,
                ),
            }
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, (rule, torchs) in RULES.items():
            for size, shapes in SHAPES.items():
                yield {
                    "table": "One optimizer step, compiled against fused",
                    "name": f"{name}, {size}, {threads} thread{'s' * (threads > 1)}",
                    **compare(
                        {
                            "torch fused": step(
                                lambda p, c=torchs: c(p, lr=1e-3, fused=True), shapes()
                            ),
                            "rule compiled": step(compiled(rule), shapes()),
                        },
                        rounds=31,
                    ),
                }
    torch.set_num_threads(1)


def compiled(rule):
    return lambda parameters: TorchOptimizer(parameters, rule, lr=1e-3, compile=True)


def step(make, shapes):
    """The `step` of an optimizer made for parameters of these shapes, each with its gradient."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return make(parameters).step


def shapes_of(model):
    return [parameter.shape for parameter in model.parameters()]
