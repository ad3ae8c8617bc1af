"""The most memory that a sweep of a small network takes, against the number of runs."""

import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = (100, 1000, 10_000)
SWEEP = """
import resource, sys
import numpy as np
from lrteach import data, models, optimizers, sweep
runs, resume = int(sys.argv[1]), sys.argv[2] or None
lrs = np.geomspace(1e-4, 1e-2, runs)
signals = data.mnist1d()

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

job = models.mlp((40, 16, 10)), signals, optimizers.adam
sweep(*job, [1e-3], steps=2, batch_size=10)  # what everything needs
before = megabytes()
result = sweep(*job, lrs, steps=int(sys.argv[3]), batch_size=10, resume=resume)
print(megabytes() - before)
"""


def peak(runs, resume, steps):
    """Megabytes that the calling process grows by. Its workers share its memory."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(runs), resume, str(steps)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def rows(steps=200):
    """A row for each number of runs, with the results in memory and in a file."""
    for runs in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            inside = peak(runs, "", steps)
            in_file = peak(runs, str(Path(folder) / "runs.sweep"), steps)
        yield {
            "table": f"Memory of a sweep: MLP 40-16-10, batches of 10, {steps} updates",
            "name": f"{runs} runs",
            "megabytes": {
                "results in memory": inside,
                "results in a file": in_file,
            },
        }
