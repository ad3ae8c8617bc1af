"""Time the hot paths against their plain counterparts, interleaved in one process.

Each row runs A, B, A, B, ... and reports the median of each and the median of the ratios B / A,
which a busy machine disturbs less than either time. The table goes to _build/benchmarks.json too.
"""

import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lrteach import TorchOptimizer, data, models, problems, train
from lrteach import optimizers as rules
from lrteach.training import batches

OUT = Path(__file__).resolve().parents[1] / "_build" / "benchmarks.json"


def compare(ours, other, rounds=9):
    """Median seconds of both, and the median of other / ours over interleaved rounds."""
    pairs = []
    for _ in range(rounds + 1):
        pair = []
        for function in (ours, other):
            start = time.perf_counter()
            function()
            pair.append(time.perf_counter() - start)
        pairs.append(pair)
    pairs = pairs[1:]  # the first round warms up
    ours_time, other_time = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours_time, other_time, statistics.median(b / a for a, b in pairs)


def optimizer_step(rule, torch_class, n=1_000_000, **hyper):
    """One step on a vector of n parameters: the rule in a TorchOptimizer against torch's own."""
    steppers = []
    for make in (
        lambda p: TorchOptimizer(p, rule, lr=1e-3),
        lambda p: torch_class(p, lr=1e-3, **hyper),
    ):
        parameter = torch.nn.Parameter(torch.zeros(n))
        parameter.grad = torch.ones(n)
        steppers.append(make([parameter]).step)
    return steppers


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

    return ours, plain


def many_rates(K=1000, steps=200):
    """K runs at once on a NumPy quadratic against one run (the ratio wanted is far below K)."""
    bowl = problems.quadratic(1, 10)
    lrs = np.geomspace(1e-3, 0.19, K)
    return (
        lambda: problems.descend(bowl, rules.adam, np.ones((K, 2)), lrs, steps),
        lambda: problems.descend(bowl, rules.adam, np.ones(2), 0.1, steps),
    )


ROWS = {
    "one step, 1 M parameters: sgd, TorchOptimizer vs torch.optim": lambda: optimizer_step(rules.sgd, torch.optim.SGD),
    "one step, 1 M parameters: adam, TorchOptimizer vs torch.optim": lambda: optimizer_step(rules.adam, torch.optim.Adam),
    "200 steps of the MNIST-1D network: train vs a plain torch loop": training_run,
    "200 steps of adam on a quadratic: 1000 rates at once vs one rate": many_rates,
}  # fmt: skip


def main():
    torch.set_num_threads(1)
    table = []
    for name, make in tqdm(ROWS.items(), leave=False):
        ours, other, ratio = compare(*make())
        table.append({"name": name, "ours_s": ours, "other_s": other, "other_over_ours": ratio})
    print(f"{'':66} {'ours':>10} {'other':>10} {'other/ours':>11}")
    for row in table:
        print(
            f"{row['name']:66} {1e3 * row['ours_s']:7.2f} ms {1e3 * row['other_s']:7.2f} ms "
            f"{row['other_over_ours']:10.2f}×"
        )
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
