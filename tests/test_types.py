"""What a user's type checker sees of lrteach."""

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[1]
USES = ROOT / "tests" / "typed"


@pytest.fixture(scope="module")
def found():
    """{file: {(line, kind of error)}} of what mypy says about users' code, in strict mode."""
    config = ROOT / "pyproject.toml"
    files = [str(USES / name) for name in ("right.py", "wrong.py")]
    cache = ROOT / ".mypy_cache"  # that of `make lint`: without it, torch alone takes 10 s
    text, trouble, _ = api.run([f"--config-file={config}", f"--cache-dir={cache}", *files])
    assert not trouble
    errors = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", text, re.MULTILINE)
    assert len(errors) == text.count(": error: "), text
    by_file = {"right.py": set(), "wrong.py": set()}
    for file, line, kind in errors:
        by_file[file].add((int(line), kind))
    return by_file


def test_right_use_is_accepted_and_its_types_are_known(found):
    assert not found["right.py"]


def test_every_mistake_is_found(found):
    lines = enumerate((USES / "wrong.py").read_text("utf-8").splitlines(), 1)
    expected = {(i, line.split("  # ")[1]) for i, line in lines if "  # " in line}
    assert len(expected) > 20
    assert found["wrong.py"] == expected
