"""The wheel: what is in it, and that it works in an environment that has never seen the repository."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import lrteach

ROOT = Path(__file__).resolve().parents[1]
SMOKE = """
import lrteach, sys
from lrteach import data, models, optimizers, schedules, train
assert lrteach.__file__.startswith(sys.prefix), lrteach.__file__
digits = data.mnist1d()
run = train(models.mlp((40, 8, 10)), digits, optimizers.adam, 0.01, schedule=schedules.cosine, steps=60)
assert run.status == "finished 60 steps" and run.losses[-1] < run.losses[0], run
for name in ("digits", "digits8", "moby_dick", "spambase"):
    getattr(data, name)()
print("works")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a fresh copy of the sources: nothing of an earlier build can be in it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "sources"
    shutil.copytree(
        ROOT / "lrteach", copy / "lrteach", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE", "DATA_LICENSES.md"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, copy],
        check=True,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, which borrows only the libraries from the present one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_has_every_file_of_the_package(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lrteach").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in inside if ".dist-info/" not in name} == sources
    assert "lrteach/py.typed" in sources
    assert any(name.startswith("lrteach/data/") and name.endswith(".gz") for name in sources)


def test_the_wheel_has_the_licences_of_code_and_data(wheel):
    archive = zipfile.ZipFile(wheel)
    inside = {name.rpartition(".dist-info/")[2] for name in archive.namelist()}
    assert {"licenses/LICENSE", "licenses/DATA_LICENSES.md"} <= inside
    assert "lrteach/data/LICENSE-Apache-2.0.txt" in inside
    metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
    fields = email.message_from_bytes(archive.read(metadata))
    assert fields["Version"] == lrteach.__version__
    named = set(fields["License-Expression"].split(" AND "))
    assert named == {"MIT", "CC-BY-SA-3.0", "CC-BY-4.0", "Apache-2.0", "PDDL-1.0"}


def test_every_data_file_of_the_package_has_its_licence_told():
    told = (ROOT / "DATA_LICENSES.md").read_text("utf-8")
    for path in (ROOT / "lrteach" / "data").iterdir():
        if path.suffix in (".npz", ".gz"):
            assert f"`{path.name}`" in told


def test_every_font_and_script_that_is_not_ours_has_its_licence_beside_it():
    for folder in ("tools/fonts", "tools/interactive"):
        names = [path.name for path in (ROOT / folder).iterdir()]
        assert any(re.match("LICEN[CS]E|.*LICEN[CS]E", name, re.I) for name in names), folder


def run(*command, folder):
    """Run something elsewhere; the repository must not be on Python's path."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True)


def test_the_installed_wheel_trains_and_reads_its_data(environment, tmp_path):
    result = run(environment / "bin" / "python", "-c", SMOKE, folder=tmp_path)
    assert (result.returncode, result.stdout) == (0, "works\n"), result.stderr


def test_the_installed_command_finds_nothing_missing(environment, tmp_path):
    result = run(environment / "bin" / "lrteach", "doctor", folder=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == lrteach.__version__
    assert f"## {lrteach.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
