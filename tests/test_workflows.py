"""What GitHub runs: the workflow files are valid, and call what there is."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import notebooks

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Major versions that are known to exist and to work together.
ACTIONS = {"actions/checkout@v4", "actions/setup-python@v5", "actions/upload-pages-artifact@v3",
           "actions/configure-pages@v5", "actions/deploy-pages@v4"}  # fmt: skip


def steps(path):
    for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
        yield from job["steps"]


def scripts(path):
    return [step["run"] for step in steps(path) if "run" in step]


def valid(schema, *files):
    pytest.importorskip("check_jsonschema", reason="run `make setup`: check-jsonschema is missing")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode == 0, result.stdout + result.stderr


def test_there_are_workflows_for_tests_site_notebooks_and_the_audit():
    assert [path.stem for path in WORKFLOWS] == ["audit", "notebooks", "site", "tests"]


def test_workflows_follow_githubs_schema(tmp_path):
    assert valid("vendor.github-workflows", *WORKFLOWS) == (True, "ok -- validation done\n")
    broken = tmp_path / "broken.yml"
    broken.write_text("on: push\njobs: {one: {steps: [{run: make}]}}\n")  # on no machine
    assert not valid("vendor.github-workflows", broken)[0]


def test_the_citation_file_follows_its_schema():
    good, message = valid("vendor.citation-file-format", ROOT / "CITATION.cff")
    assert good, message


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_versions_that_exist(path):
    assert {step["uses"] for step in steps(path) if "uses" in step} <= ACTIONS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_scripts_are_bash_and_call_targets_and_files_that_exist(path):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for script in scripts(path):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        assert set(re.findall(r"^make ([a-z-]+)", script, re.M)) <= set(targets)
        for program in re.findall(r"^\.\S+", script, re.M):
            assert (ROOT / program).stat().st_mode & 0o100


def test_tests_run_on_every_python_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [line.rpartition(" ")[2] for line in project["classifiers"] if "3." in line]
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    assert tests["jobs"]["tests"]["strategy"]["matrix"]["python"] == named


def test_no_workflow_names_the_repository():
    """A copy under another name works as it is."""
    for path in WORKFLOWS:
        text = path.read_text("utf-8")
        assert re.findall(r"github\.(?:com|io)/(?!\$\{\{ github\.repository \}\})\S*", text) == []


def test_the_notebooks_branch_gets_the_notebooks_and_nothing_else(tmp_path):
    """The workflow's own script, with a folder in place of GitHub."""
    made, remote = tmp_path / "_build/notebooks/part", tmp_path / "remote.git"
    made.mkdir(parents=True)
    (made / "one.ipynb").write_text("{}")
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    script = scripts(ROOT / ".github/workflows/notebooks.yml")[-1]
    environment = {
        "REMOTE": str(remote),
        "GITHUB_SHA": "abc",
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, check=True)
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", notebooks.BRANCH],
        cwd=remote, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert listed.stdout.split() == ["part/one.ipynb"]
