"""Damaged sweep files, states of optimizers, data sets, notes and notebooks: the right thing, or one
error that says what is wrong."""

import copy
import json
import pickle
import shutil
import sqlite3

import pytest
import torch
from fuzzing import TIMES, damaged, flip, tries
from hypothesis import given
from hypothesis import strategies as st
from run_cases import everything, run

from lrteach import TorchOptimizer, checks, data, optimizers, schedules
from lrteach.data import DataError
from lrteach.sweep_files import SweepFile, SweepFileError
from lrteach.sweeps import Sweep

pytestmark = pytest.mark.usefixtures("on_the_cpu")
SETTINGS = dict(lrs=(0.05, 0.1), seeds=2, steps=5, dtype=torch.float32)


# --- Sweep files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(the bytes of a finished file, all numbers of the sweep, a folder)."""
    folder = tmp_path_factory.mktemp("sweeps")
    result = run(resume=folder / "whole.sweep", **SETTINGS)
    return (folder / "whole.sweep").read_bytes(), everything(result), folder


def load(path):
    """All numbers of a sweep's file, or None if it was refused as is right."""
    try:
        found = Sweep.load(path)
        return [*everything(found), found.lrs.tolist(), found.seeds.tolist()]
    except SweepFileError as refusal:
        message = str(refusal)
    assert str(path) in message
    assert len(message) < len(str(path)) + 500
    return None


@tries(60)
@given(places=st.lists(st.integers(0, 10**7), min_size=1, max_size=2))
def test_a_flipped_bit_in_a_sweep_s_file_never_changes_a_number(swept, places):
    content, wanted, folder = swept
    for place in places:
        content = flip(content, place)
    (folder / "flipped.sweep").write_bytes(content)
    assert load(folder / "flipped.sweep") in (None, [*wanted, [0.05, 0.1], [0, 1]])


@tries(40)
@given(data=st.data())
def test_a_damaged_sweep_s_file_never_changes_a_number(swept, data):
    content, wanted, folder = swept
    (folder / "damaged.sweep").write_bytes(data.draw(damaged([content])))
    assert load(folder / "damaged.sweep") in (None, [*wanted, [0.05, 0.1], [0, 1]])


def test_a_sweep_s_file_cut_off_anywhere_is_refused(swept):
    content, _, folder = swept
    path = folder / "cut.sweep"
    for length in range(0, len(content), 64 if TIMES > 1 else 1021):
        path.write_bytes(content[:length])
        assert load(path) is None


@tries(40)
@given(
    statement=st.sampled_from(
        ["UPDATE runs SET k = ?", "UPDATE runs SET s = ? WHERE k = 1 AND s = 1", "UPDATE runs SET losses = ?",
         "UPDATE runs SET measured = ?", "UPDATE runs SET checksum = ?", "UPDATE sweep SET config = ?",
         "UPDATE sweep SET version = ?", "UPDATE sweep SET checksum = ?", "DELETE FROM sweep WHERE 1 OR ?",
         "INSERT INTO sweep VALUES (2, ?, 3)", "CREATE TABLE more AS SELECT ?", "DELETE FROM runs WHERE k = ?",
         "UPDATE runs SET updates = ?", "UPDATE runs SET diverged = ?"]
    ),
    value=st.one_of(st.none(), st.integers(-3, 3), st.just(2**62), st.floats(), st.text(max_size=3),
                    st.binary(max_size=9), st.just("{}"), st.just("[" * 5000), st.just("[]")),
)  # fmt: skip
def test_a_database_with_other_contents_never_changes_a_number(swept, statement, value):
    content, wanted, folder = swept
    path = folder / "other.sweep"
    path.write_bytes(content)
    db = sqlite3.connect(path)
    try:
        db.execute(statement, () if "?" not in statement else (value,))
        db.commit()
    except sqlite3.Error:
        return
    finally:
        db.close()
    assert load(path) in (None, [*wanted, [0.05, 0.1], [0, 1]])


def test_a_run_that_is_none_of_the_sweep_s_is_refused(swept):
    """As if two sweeps had written into one file: the checksum fits, the place does not."""
    content, _, folder = swept
    path = folder / "foreign.sweep"
    for k, s in [(2, 0), (-1, 0), (0, 7)]:
        path.write_bytes(content)
        with SweepFile(path) as file:
            (row,) = file._db.execute("SELECT * FROM runs WHERE k = 0 AND s = 0")
            numbers = (k, s, *row[2:4])
            from lrteach.sweep_files import _checksum

            with file._db as db:
                db.execute("DELETE FROM runs WHERE k = 1 AND s = 1")
                db.execute("INSERT INTO runs VALUES (?,?,?,?,?,?,?,?)", (*numbers, *row[4:7], _checksum(numbers, row[4:7])))  # fmt: skip
        assert load(path) is None


# --- States of optimizers --------------------------------------------------------------------------

RULES = (
    optimizers.adam,
    optimizers.heavy_ball,
    optimizers.schedule_free_sgd,
    optimizers.muon,
    optimizers.dog,
)


def stepped(rule, steps):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    optimizer = TorchOptimizer(parameters, rule, lr=0.1)
    train(optimizer, parameters, steps)
    return optimizer, parameters


def train(optimizer, parameters, steps):
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.sin(p.detach())
        optimizer.step()


def paths(tree, before=()):
    """Places in nested dicts and lists."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []  # fmt: skip
    for key, value in inner:
        yield (*before, key)
        yield from paths(value, (*before, key))


def changed(tree, path, value):
    """A copy of nested dicts and lists with another value at one place, or without the place."""
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return tree


REMOVED = object()
ODD = st.one_of(
    st.just(REMOVED), st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=2), st.just([]),
    st.just({}), st.just([1, 2]), st.just({"t": 1}), st.just(torch.zeros(2, 3)), st.just(torch.zeros(0)),
    st.just(torch.zeros(3, 2, dtype=torch.complex64)), st.just(torch.zeros(3, 2, dtype=torch.int64)),
    st.just(torch.zeros(3, 2)), st.just(torch.zeros(())),
)  # fmt: skip


def of_state(optimizer):
    return pickle.dumps([
        [(k, v.tolist() if torch.is_tensor(v) else v) for k, v in sorted(optimizer.state[p].items())]
        for group in optimizer.param_groups for p in group["params"]
    ] + [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])  # fmt: skip


@tries(150)
@given(data=st.data(), rule=st.sampled_from(RULES))
def test_a_damaged_state_of_an_optimizer_is_refused_or_can_be_trained_with(data, rule):
    saved = stepped(rule, 3)[0].state_dict()
    place = data.draw(st.sampled_from(sorted(paths(saved), key=str)))
    damage = changed(saved, place, data.draw(ODD))
    optimizer, parameters = stepped(rule, 1)
    before = of_state(optimizer)
    try:
        optimizer.load_state_dict(damage)
    except ValueError as refusal:
        message = str(refusal)
    else:
        message = ""
        optimizer.train()  # it may have been saved for an evaluation
        train(optimizer, parameters, 2)
    assert (not message) or (rule.__name__ in message and of_state(optimizer) == before)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_an_undamaged_state_goes_on_as_if_nothing_had_happened(rule):
    whole, wanted = stepped(rule, 6)
    first, parameters = stepped(rule, 3)
    optimizer, others = stepped(rule, 1)
    for p, q in zip(others, parameters, strict=True):
        p.data.copy_(q.data)
    optimizer.load_state_dict(copy.deepcopy(first.state_dict()))
    train(optimizer, others, 3)
    assert of_state(optimizer) == of_state(whole)
    assert all(torch.equal(p, q) for p, q in zip(others, wanted, strict=True))


def test_states_of_other_optimizers_are_refused():
    optimizer, parameters = stepped(optimizers.adam, 1)
    theirs = torch.optim.Adam(parameters)
    theirs.step()
    for state in (
        theirs.state_dict(),
        stepped(optimizers.heavy_ball, 1)[0].state_dict(),
        {},
        [],
        None,
        3,
    ):
        with pytest.raises(ValueError, match="not that of adam"):
            optimizer.load_state_dict(state)


@tries(60)
@given(data=st.data(), feedback=st.booleans())
def test_a_damaged_state_of_a_scheduler_is_refused_or_used(data, feedback):
    optimizer, _ = stepped(optimizers.adam, 1)
    plan = schedules.plateau(patience=2) if feedback else schedules.cosine(steps=10)
    scheduler = plan.torch(optimizer)
    saved = scheduler.state_dict()
    place = data.draw(st.sampled_from(sorted(paths(saved), key=str)))
    try:
        scheduler.load_state_dict(changed(saved, place, data.draw(ODD)))
    except ValueError as refusal:
        message = str(refusal)
    else:
        message = "state_dict"
        scheduler.step(*[1.0] * feedback)
    assert "state_dict" in message


# --- Data sets -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """A copy of the embedded data, to damage."""
    folder = tmp_path_factory.mktemp("data")
    for name in data.FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(data.FOLDER / name, folder / name)
    return folder


@tries(20)
@given(name=st.sampled_from(sorted(data.FILES)), place=st.integers(0, 10**8), cut=st.booleans())
def test_a_damaged_data_set_is_refused_with_its_name(own_data, name, place, cut):
    path = own_data / name
    whole = path.read_bytes()
    path.write_bytes(whole[: place % len(whole)] if cut else flip(whole, place))
    before, data.FOLDER = data.FOLDER, own_data
    try:
        with pytest.raises(DataError) as refusal:
            data._read(name)
    finally:
        data.FOLDER = before
        path.write_bytes(whole)
    assert str(path) in str(refusal.value)
    assert "is damaged" in str(refusal.value)


# --- Exercises -------------------------------------------------------------------------------------

NOTES = json.dumps({"gradients-1": "done", "gradients-2": "tried"}).encode()
NOTEBOOK = json.dumps({"cells": [
    {"cell_type": "markdown", "source": ["# Exercises: Gradients\n", "## One\n"]},
    {"cell_type": "code", "source": ['check("gradients-1", f, probe(1, expect=2))']},
]}).encode()  # fmt: skip


def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@tries(80)
@given(notes=st.one_of(damaged([NOTES]), st.binary(max_size=60), st.just(b"[" * 99999), st.just(b'{"a": [1]}'), st.just(b"null")))  # fmt: skip
def test_damaged_notes_of_exercises_are_told_and_kept(tmp_path_factory, notes):
    folder = tmp_path_factory.getbasetemp() / "notes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        inside(folder, monkeypatch)
        (folder / checks.FILE).write_bytes(notes)
        shown = checks.progress()
        message = checks._remember("gradients-3", "passed")
        now = json.loads((folder / checks.FILE).read_text("utf-8"))
        kept = folder / f"{checks.FILE}.damaged"
    assert repr(shown).encode("utf-8") and shown._repr_html_()
    assert now["gradients-3"] == "done"
    assert set(now.values()) <= {"done", "tried"}
    assert bool(message) == kept.exists()
    if message:
        assert "damaged" in message
        assert kept.read_bytes() == notes


@tries(60)
@given(content=st.one_of(damaged([NOTEBOOK]), st.binary(max_size=60), st.just(b'{"cells": ' + b"[" * 99999)))  # fmt: skip
def test_damaged_notebooks_of_exercises_are_told(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "gradients.ipynb").write_bytes(content)
    with pytest.MonkeyPatch.context() as monkeypatch:
        shown = checks.progress() if inside(folder, monkeypatch) else None
    assert repr(shown).encode("utf-8") and shown._repr_html_().encode("utf-8")
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        assert shown.messages == ["gradients.ipynb cannot be read as a notebook"]
