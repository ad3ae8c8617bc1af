"""Time the hot paths against their plain counterparts: all subjects, or those named.

    python -m benchmarks [subject ...]

Each module of this folder with a function `rows` is a subject. A row is a dict: "table" and
"name" say where it belongs, "variants" and "ratios" are what `timing.compare` returns, or it has
"megabytes". All rows go to benchmarks/results.json, which the site shows, each with its "subject"
and where it was "measured"; those of subjects not run now stay there.
"""

import json
import os
import platform
import re
import sys
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

OUT = Path(__file__).resolve().parent / "results.json"
NOT_SUBJECTS = {"__init__", "__main__", "networks", "timing"}


def main(names):
    subjects = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_SUBJECTS)
    unknown = sorted(set(names) - set(subjects))
    if unknown:
        sys.exit(f"no subject {unknown[0]!r}: there are {', '.join(subjects)}")
    torch.set_num_threads(1)
    measured = machine()
    for subject in names or subjects:
        rows, table = [], None
        for row in import_module(f"benchmarks.{subject}").rows():
            if row["table"] != table:
                table = row["table"]
                print(f"\n{table}")
            show(row)
            rows.append({"subject": subject, "measured": measured, **row})
            save(subject, rows)


def machine():
    """When and on what the times are measured, in words."""
    cpus = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpus.read_text()) if cpus.exists() else None
    parts = [found[1] if found else platform.processor(), f"{os.cpu_count()} cores"]
    parts.append(f"Python {platform.python_version()}")
    for library in ("numpy", "torch", "jax"):
        try:
            parts.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            parts.append(f"without {library}")
    return f"on {date.today()}: {', '.join(parts)}"


def show(row):
    """Print the times of a row, and in brackets how many times as fast as the first each is."""
    times = [f"{name} {value:.0f} MB" for name, value in row.get("megabytes", {}).items()] or [
        f"{name} {1e3 * seconds:.2f} ms"
        + (f" ({row['ratios'][name]:.2f}×)" if name in row["ratios"] else "")
        for name, seconds in row["variants"].items()
    ]
    print(f"  {row['name']:45} {', '.join(times)}", flush=True)


def save(subject, rows):
    """Replace the rows of one subject in the file, which is whole at every moment."""
    try:
        others = [row for row in json.loads(OUT.read_text()) if row["subject"] != subject]
    except FileNotFoundError:
        others = []
    except (ValueError, TypeError, KeyError) as error:
        sys.exit(f"{OUT} is damaged ({error}): run `git checkout -- {OUT}`, or remove it")
    new = OUT.with_suffix(".json.new")
    try:
        new.write_text(json.dumps(others + rows, indent=1, ensure_ascii=False) + "\n")
        os.replace(new, OUT)
    finally:
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
