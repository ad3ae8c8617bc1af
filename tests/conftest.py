"""Fixtures that several test files use."""

import os
from pathlib import Path

import pytest


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
