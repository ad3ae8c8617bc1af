"""Renew requirements.lock: exact versions for every platform, without addresses.

Runs `uv pip compile` (install uv first: `pip install uv`). The versions of torch, torchvision and
jupyter-book are the project's choice and change only here and in pyproject.toml.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_LOCKED = {"mutation"}  # extras for tools that neither the book nor its tests need
CHOSEN = ["torch==2.14.1", "torchvision==0.29.1"]


def main():
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        sys.exit("uv is not installed: run `.venv/bin/pip install uv`, then `make lock` again")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for name in project["optional-dependencies"] if name not in NOT_LOCKED]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(CHOSEN))
        constraints.flush()
        subprocess.run(
            [
                uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11",
                *(f"--extra={name}" for name in extras),
                "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links",
                "--constraints", constraints.name, "--output-file", "requirements.lock", "pyproject.toml",
            ],
            cwd=ROOT,
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
