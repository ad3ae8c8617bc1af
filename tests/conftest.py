"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest

# Each of these tests opens a page in a browser and takes seconds.
ONE_BY_ONE = "tests/site/test_pages.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """How `pytest -n` shares the tests out: a file to a worker, the largest first.

    The tests of ONE_BY_ONE come last and are shared singly, so that no worker is left with all
    of them while the other one has nothing to do.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return nodeid if file == ONE_BY_ONE else file

    return Sharing(config, log)


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Exact comparisons are made on the CPU, on every machine."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def away_from_the_repository(tmp_path_factory):
    """The checks of exercises note their results in the current folder."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("exercises"))
    yield
    os.chdir(before)
