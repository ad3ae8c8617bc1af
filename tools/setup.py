"""Make the virtual environment: `python tools/setup.py .venv [lock|cpu]`. Standard library only.

`lock` installs what requirements.lock says. `cpu` takes the same versions, but torch's build
without CUDA from PyTorch's own index, and leaves the CUDA packages out.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton==)")


def main(folder=".venv", torch="lock"):
    if sys.version_info < (3, 11):  # noqa: UP036 - the reader may start this with an older one
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    if torch not in ("lock", "cpu"):
        sys.exit(f"TORCH={torch!r} is not allowed: TORCH must be lock or cpu")
    folder = ROOT / folder
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    pip = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    lock = ROOT / "requirements.lock"
    print(
        f"Installing the locked dependencies into {folder.name} (a few minutes, once)", flush=True
    )
    if torch == "cpu":
        lines = [line for line in lock.read_text().splitlines() if not CUDA_ONLY.match(line)]
        torches = [
            line.split()[0] for line in lines if line.startswith(("torch==", "torchvision=="))
        ]
        subprocess.run([*pip, "--no-deps", "--index-url", CPU_INDEX, *torches], check=True)
        lock = folder / "requirements-cpu.txt"
        lock.write_text(
            "\n".join(line for line in lines if not line.startswith(("torch==", "torchvision==")))
        )
    subprocess.run([*pip, "-r", lock], check=True)
    # setuptools is in the lock, so the build needs nothing else from outside.
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT], check=True)
    (folder / ".installed").write_text(torch + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
