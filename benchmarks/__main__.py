"""Time the hot paths against their plain counterparts: all subjects, or those named.

    python -m benchmarks [subject ...]

Each module of this folder with a function `rows` is a subject. A row is a dict: "table" and
"name" say where it belongs, "variants" and "ratios" are what `timing.compare` returns. All rows
go to _build/benchmarks.json, each with its "subject"; those of subjects not run now stay there.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parents[1] / "_build" / "benchmarks.json"
NOT_SUBJECTS = {"__init__", "__main__", "timing"}


def main(names):
    subjects = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_SUBJECTS)
    unknown = sorted(set(names) - set(subjects))
    if unknown:
        sys.exit(f"no subject {unknown[0]!r}: there are {', '.join(subjects)}")
    torch.set_num_threads(1)
    for subject in names or subjects:
        rows, table = [], None
        for row in import_module(f"benchmarks.{subject}").rows():
            if row["table"] != table:
                table = row["table"]
                print(f"\n{table}")
            show(row)
            rows.append({"subject": subject, **row})
        save(subject, rows)


def show(row):
    """Print the times of a row, and in brackets how many times as fast as the first each is."""
    times = [
        f"{name} {1e3 * seconds:.2f} ms"
        + (f" ({row['ratios'][name]:.2f}×)" if name in row["ratios"] else "")
        for name, seconds in row["variants"].items()
    ]
    print(f"  {row['name']:45} {', '.join(times)}", flush=True)


def save(subject, rows):
    """Replace the rows of one subject in the file, which is whole at every moment."""
    try:
        others = [row for row in json.loads(OUT.read_text()) if row.get("subject") != subject]
    except (FileNotFoundError, ValueError):
        others = []
    OUT.parent.mkdir(exist_ok=True)
    new = OUT.with_suffix(".json.new")
    new.write_text(json.dumps(others + rows, indent=1))
    os.replace(new, OUT)


if __name__ == "__main__":
    main(sys.argv[1:])
