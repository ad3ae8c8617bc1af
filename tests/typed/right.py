"""What users write: `mypy` finds no mistake in it, and knows what they get."""

from pathlib import Path
from typing import assert_type

import numpy as np
import torch

import lrteach
from lrteach import models, optimizers, problems, schedules
from lrteach.rules import Rule, number, rule, sqrt


@rule
def damped(theta, g, b, r: number, *, lr, momentum=0.9):  # type: ignore[no-untyped-def]
    """A rule of one's own: its formula needs no types."""
    b = momentum * b + g
    return theta - lr * b / sqrt(r + 1), b, r


assert_type(damped, Rule)
assert_type(optimizers.adam, Rule)
assert_type(optimizers.ema(damped, decay=0.99), Rule)

# Runs, sweeps and range tests.
data = lrteach.data.mnist1d()
model = models.mlp((40, 100, 10))
assert_type(models.initialise(model, 0), torch.nn.Sequential)
run = lrteach.train(
    model, data, optimizers.adam, 0.01, schedule=schedules.cosine, clip=1.0, betas=(0.9, 0.99)
)
assert_type(run, lrteach.Run)
assert_type(run.val_loss, float)
assert_type(run.losses, np.ndarray)
assert_type(run.model, torch.nn.Module)
found = lrteach.sweep(model, data, damped, np.geomspace(1e-3, 1, 9), seeds=3, schedule=None)
assert_type(found, lrteach.Sweep)
assert_type(found.best, float)
assert_type(found.cliff, float)
found.save(Path("sweep.db"))
assert_type(lrteach.Sweep.load("sweep.db"), lrteach.Sweep)
test = lrteach.range_test(model, data, optimizers.sgd, low=1e-5, steps=100)
assert_type(test.suggestions["cliff/4"].lr, float)

# Diagnoses.
for source in (run, "log.csv", {"loss": [1.0, 0.5]}):
    diagnosis = lrteach.diagnose(source, classes=10)
    assert_type(diagnosis, lrteach.Diagnosis)
    assert_type(diagnosis.symptom, str)
    assert_type(diagnosis.verdicts[0].evidence, tuple[str, ...])
assert_type(lrteach.read_log("log.csv").losses.values, np.ndarray)

# In a loop of torch.
optimizer = lrteach.TorchOptimizer(model.parameters(), optimizers.adamw, lr=0.001, weight_decay=0.1)
plan = schedules.warmup(10).then(schedules.cosine(steps=90)) * 0.5
assert_type(plan, schedules.Schedule)
assert_type(plan(3), float)
scheduler = plan.torch(optimizer)
loss = torch.nn.functional.cross_entropy(model(torch.zeros(1, 40)), torch.zeros(1).long())
optimizer.zero_grad()
optimizer.step()
scheduler.step()
follower = schedules.plateau(patience=3).torch(optimizer)
follower.step(loss.item())
assert_type(schedules.plateau().online().update(1.0), float)
assert_type(lrteach.sharpness(model, data.x_val, data.y_val), float)

# Rules by hand, with NumPy and with torch.
theta, state = optimizers.sgd(np.ones(3), np.ones(3), {"t": 0}, lr=0.1)
assert_type(theta, np.ndarray)
weights, state = optimizers.adam(torch.ones(3), torch.ones(3), state, lr=0.1)
assert_type(weights, torch.Tensor)
bowl = problems.quadratic(1, 100)
assert_type(bowl.condition, float)
path = problems.descend(bowl, optimizers.sgd, [1.0, 1.0], 0.01, 100, schedules.linear(steps=100))
path[-1].round(3)
