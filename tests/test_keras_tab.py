"""Tests of the tabs in the chapter `digits`, and of the record that its Keras tab reads."""

import hashlib
import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lrteach import data, models, train
from lrteach.optimizers import adam
from lrteach.schedules import linear, warmup

PRACTICE = Path(__file__).resolve().parents[1] / "book" / "practice"
SCRIPT = PRACTICE / "keras_digits.py"
RECORD = PRACTICE / "keras_digits.json"
CHAPTER = PRACTICE / "digits.md"
RECORD_AGAIN = (
    "run `python book/practice/keras_digits.py` (five minutes, needs keras) and commit it"
)


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text(encoding="utf-8"))


@pytest.fixture
def script(monkeypatch):
    """The recording script as a module, which needs Keras."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    spec = importlib.util.spec_from_file_location("keras_digits", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def standardised(digits):
    mean, std = digits.x_train.mean(), digits.x_train.std()
    parts = ("x_train", "x_val", "x_test")
    return replace(digits, **{part: (getattr(digits, part) - mean) / std for part in parts})


def tab(name):
    """The code in a tab of the chapter."""
    text = CHAPTER.read_text(encoding="utf-8")
    return re.search(rf"{{tab-item}} {name}\n~~~python\n(.*?)~~~", text, re.DOTALL)[1]


def test_the_record_was_made_by_the_present_script(record):
    script = SCRIPT.read_text(encoding="utf-8")
    assert record["script_sha256"] == hashlib.sha256(script.encode()).hexdigest(), RECORD_AGAIN
    assert record["command"] in RECORD_AGAIN
    assert f"    {record['command']}\n" in script


def test_the_record_has_a_result_for_every_rate_and_seed(record):
    config, results = record["config"], record["results"]
    for framework, rule in (("keras", "adam"), ("torch", "adam"), ("torch", "sgd")):
        rows = results[framework][rule]
        assert [row["rate"] for row in rows] == config["constant"][rule], RECORD_AGAIN
        assert all([run["seed"] for run in row["runs"]] == config["seeds"] for row in rows)
    for name in ("one_cycle", "default"):
        assert [run["seed"] for run in results["keras"][name]] == config["seeds"], RECORD_AGAIN
    assert len(results["keras"]["same_start"]) == config["same_start"]["steps"]


def test_the_record_is_about_the_embedded_digits(record, monkeypatch):
    monkeypatch.delenv("LRTEACH_DATA", raising=False)
    assert record["data"] == data.digits().source


def test_pytorch_still_computes_what_the_record_says(record, monkeypatch):
    monkeypatch.delenv("LRTEACH_DATA", raising=False)
    config = record["config"]
    row = next(row for row in record["results"]["torch"]["adam"] if row["rate"] == 1e-3)
    run = train(
        models.cnn(), standardised(data.digits()), adam, row["rate"],
        steps=config["constant"]["steps"], batch_size=config["batch_size"], seed=0,
    )  # fmt: skip
    assert run.test_accuracy == pytest.approx(row["runs"][0]["test_accuracy"], abs=0.02)


def test_the_keras_network_is_that_of_pytorch(script):
    model = script.network()
    assert model.count_params() == models.count_parameters(models.cnn()) == 93_322

    script.start_like_torch(model, seed=3)
    twin = models.initialise(models.cnn(), 3)
    x = np.random.default_rng(0).normal(size=(8, 1, 28, 28)).astype(np.float32)
    expected = twin(torch.from_numpy(x)).detach().numpy()
    got = model(script.channels_last(x)).detach().cpu().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_keras_schedule_is_that_of_the_chapter(script, record):
    one_cycle = record["config"]["one_cycle"]
    ours = warmup(one_cycle["up"]).then(linear(steps=one_cycle["down"]))
    steps = np.arange(one_cycle["up"] + one_cycle["down"])
    plan = script.OneCycle()
    theirs = np.array([float(plan(int(t))) for t in steps])
    np.testing.assert_allclose(theirs, one_cycle["rate"] * ours(steps), rtol=1e-5)


def test_the_keras_script_trains_and_leaves_the_record_alone(script, monkeypatch):
    monkeypatch.delenv("LRTEACH_DATA", raising=False)
    before = RECORD.read_bytes()
    losses = script.first_losses(standardised(data.digits()), rate=1e-3, steps=3, seed=0)
    recorded = json.loads(before)["results"]["keras"]["same_start"][:3]
    assert losses == pytest.approx(recorded, rel=1e-3)
    assert RECORD.read_bytes() == before


def test_the_pytorch_tab_runs_and_learns():
    digits = data.digits(size=1280)
    parts = [
        TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
        for x, y in ((digits.x_train, digits.y_train), (digits.x_val, digits.y_val))
    ]
    names = {"torch": torch, "F": F}
    exec(tab("PyTorch"), names)
    torch.manual_seed(0)
    model = models.initialise(models.cnn((8, 8, 8), 16), 0)
    history = names["fit"](model, *parts, lr=0.01, warm=6, steps=60)
    assert len(history) == 3
    assert history[-1] > 0.6


def test_the_lrteach_tab_is_what_the_chapter_runs():
    text = CHAPTER.read_text(encoding="utf-8")
    names = {"warmup": warmup, "linear": linear, "models": models, "adam": adam, "digits": None}
    names["train"] = lambda model, digits, rule, **options: (rule, options)
    exec(tab("lrteach"), names)
    rule, options = names["run"]
    assert rule is adam
    schedule = options.pop("schedule")
    assert schedule.steps == options["steps"]
    assert f"one_cycle = {re.search('schedule = (.*)', tab('lrteach'))[1]}\n" in text
    for option, value in options.items():
        assert text.count(f"{option}={value}") >= 2
