"""The most memory that a sweep of the small network takes, against the number of runs."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = (1, 100, 1000, 10_000)
SWEEP = """
import json, resource, sys
import numpy as np
from lrteach import data, models, optimizers, sweep
runs, resume = int(sys.argv[1]), sys.argv[2] or None
lrs = np.geomspace(1e-4, 1e-2, runs)
signals = data.mnist1d()

def megabytes(who):
    return resource.getrusage(who).ru_maxrss / 1024

sweep(models.mlp(), signals, optimizers.adam, [1e-3], steps=2)  # what everything needs
before = megabytes(resource.RUSAGE_SELF)
result = sweep(models.mlp(), signals, optimizers.adam, lrs, steps=int(sys.argv[3]), resume=resume)
after = megabytes(resource.RUSAGE_SELF)
print(json.dumps([after - before, megabytes(resource.RUSAGE_CHILDREN)]))
"""


def peak(runs, resume, steps):
    """Megabytes that the calling process grows by, and the largest of a worker process."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(runs), resume, str(steps)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def rows(steps=10):
    """A row for each number of runs, with the results in memory and in a file."""
    for runs in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            inside, worker = peak(runs, "", steps)
            in_file, _ = peak(runs, str(Path(folder) / "runs.sweep"), steps)
        yield {
            "table": f"Memory of a sweep of MLP 40-100-100-10, {steps} updates",
            "name": f"{runs} runs",
            "megabytes": {
                "growth, results in memory": inside,
                "growth, results in a file": in_file,
                "a worker": worker,
            },
        }
