"""Mistakes that users make. Each line says which error `mypy` must find there."""

import numpy as np
import torch

import lrteach
from lrteach import models, optimizers, problems, schedules

data, model = lrteach.data.mnist1d(), models.mlp((40, 10))
adam = optimizers.adam

lrteach.train(model, data, "adam", 0.1)  # arg-type
lrteach.train(model, data, adam, "0.1")  # arg-type
lrteach.train(model, data, adam, [0.1, 0.2])  # arg-type
lrteach.train(model, data, adam, 0.1, steps=1e4)  # arg-type
lrteach.train(model, np.ones(3), adam, 0.1)  # arg-type
lrteach.train(model, data, adam)  # call-arg
print(lrteach.train(model, data, adam, 0.1).valloss)  # attr-defined
lrteach.trian(model, data, adam, 0.1)  # attr-defined
print(lrteach.optimisers.adam)  # attr-defined
lrteach.sweep(model, data, adam, 0.1, seeds="3")  # arg-type
lrteach.sweep(model, data, adam, [0.1], schedule="cosine")  # arg-type
lrteach.sweep(model, data, adam, [0.1]).best.upper()  # attr-defined
lrteach.range_test(model, data, adam, low="1e-5")  # arg-type
lrteach.diagnose("log.csv", classes="ten")  # arg-type
lrteach.diagnose("log.csv").symptom + 1  # operator
lrteach.TorchOptimizer(model.parameters(), adam)  # call-arg
lrteach.TorchOptimizer(model, adam, lr=0.1)  # arg-type
schedules.cosine()  # call-arg
schedules.cosine(steps="100")  # arg-type
schedules.cosine(steps=100).then(0.1)  # arg-type
schedules.cosine(100)("3")  # arg-type
schedules.cosine(100).steps = 3  # misc
adam(np.ones(3), torch.ones(3), {}, lr=0.1)  # type-var
adam(np.ones(3), np.ones(3), {})  # call-arg
problems.descend(adam, adam, [1.0], 0.1, 10)  # arg-type
problems.descend(problems.quadratic(1), adam, [1.0], [0.1], 10)  # arg-type
