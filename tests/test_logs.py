import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrteach import logs
from lrteach.logs import LogError, read_log


def write(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return path


CSV = "step,loss,lr,val_loss\n0,2.5,0.1,\n1,2.25,0.1,2.4\n2,2.0,0.05,\n"


# --- Formats -------------------------------------------------------------------------------------


def expected(log):
    np.testing.assert_array_equal(log.losses.steps, [0, 1, 2])
    np.testing.assert_array_equal(log.losses.values, [2.5, 2.25, 2.0])
    np.testing.assert_array_equal(log.rates.values, [0.1, 0.1, 0.05])
    np.testing.assert_array_equal(log.val_losses.steps, [1])
    np.testing.assert_array_equal(log.val_losses.values, [2.4])


RECORDS = [
    {"step": 0, "loss": 2.5, "lr": 0.1},
    {"step": 1, "loss": 2.25, "lr": 0.1, "val_loss": 2.4},
    {"step": 2, "loss": 2.0, "lr": 0.05},
]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.csv", "\ufeff" + CSV),
        ("a.csv", CSV.replace("\n", "\r\n")),
        ("a.csv", CSV.replace(",", ", ")),
        ("a.jsonl", "\n".join(map(json.dumps, RECORDS))),
        ("a.ndjson", "\n\n".join(map(json.dumps, RECORDS)) + "\n"),
        ("a.json", json.dumps(RECORDS)),
        ("a.json", json.dumps({"epoch": 1.0, "log_history": RECORDS})),
        ("a.json", "\n".join(map(json.dumps, RECORDS))),
    ],
)
def test_every_format_gives_the_same_log(tmp_path, name, content):
    expected(read_log(write(tmp_path, name, content)))


def test_a_table_and_a_list_are_logs_too():
    expected(read_log(RECORDS))
    expected(read_log(pd.DataFrame(RECORDS)))


def test_what_a_table_does_not_have_is_not_broken():
    table = pd.DataFrame({"loss": [1.0, np.nan, 2.0], "val_loss": [np.nan, 1.0, np.nan]})
    log = read_log(table)
    assert log.losses.broken_at is log.val_losses.broken_at is None
    np.testing.assert_array_equal(log.losses.steps, [0, 2])
    assert read_log([{"loss": 1.0}, {"loss": np.nan}]).losses.broken_at == 1


def test_a_history_of_keras_is_read(tmp_path):
    history = {"loss": [2.5, 2.25, 2.0], "val_loss": [2.6, 2.4, 2.3], "learning_rate": [0.1] * 3}
    log = read_log(write(tmp_path, "history.json", json.dumps(history)))
    np.testing.assert_array_equal(log.val_losses.steps, [0, 1, 2])
    np.testing.assert_array_equal(log.rates.values, [0.1] * 3)


def test_lightning_s_sparse_rows_are_read(tmp_path):
    text = (
        "epoch,lr-AdamW,step,train_loss_step,train_loss_epoch,val_loss\n"
        ",0.001,0,,,\n0,,0,2.3,,\n,0.002,1,,,\n0,,1,2.1,,\n0,,1,,,2.2\n0,,1,,2.2,\n"
    )
    log = read_log(write(tmp_path, "metrics.csv", text))
    np.testing.assert_array_equal(log.losses.values, [2.3, 2.1])
    np.testing.assert_array_equal(log.rates.values, [0.001, 0.002])
    np.testing.assert_array_equal(log.rates.steps, [0, 1])
    np.testing.assert_array_equal(log.val_losses.values, [2.2])
    assert log.ignored == ("epoch", "train_loss_epoch")


def test_transformers_state_keeps_evaluations_apart(tmp_path):
    history = [
        {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 5e-5, "loss": 1.25, "step": 500},
        {"epoch": 1.0, "eval_loss": 1.1, "eval_runtime": 3.0, "step": 1000},
        {"epoch": 1.0, "train_runtime": 9.0, "train_loss": 1.2, "step": 1000},
    ]
    log = read_log(write(tmp_path, "trainer_state.json", json.dumps({"log_history": history})))
    np.testing.assert_array_equal(log.val_losses.steps, [1000])
    np.testing.assert_array_equal(log.losses.steps, [500])
    np.testing.assert_array_equal(log.grad_norms.values, [1.5])


def test_tensorboard_s_files_are_read(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "runs" / "one")) as writer:
        for record in RECORDS:
            for name in ("loss", "lr", "val_loss"):
                if name in record:
                    writer.add_scalar(
                        f"train/{name}".replace("train/val", "val"), record[name], record["step"]
                    )
        writer.add_histogram("weights", np.arange(5.0), 0)
    log = read_log(tmp_path / "runs")
    np.testing.assert_allclose(log.losses.values, [2.5, 2.25, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(log.losses.steps, [0, 1, 2])
    np.testing.assert_allclose(log.rates.values, [0.1, 0.1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(log.val_losses.values, [2.4], rtol=1e-6)


def test_a_run_of_this_package_is_a_log():
    import lrteach
    from lrteach.data import mnist1d
    from lrteach.models import mlp
    from lrteach.optimizers import sgd

    run = lrteach.train(mlp(), mnist1d(), sgd, 0.1, steps=20, eval_every=10)
    log = read_log(run)
    np.testing.assert_array_equal(log.losses.values, run.losses)
    np.testing.assert_array_equal(log.val_losses.steps, [0, 10, 20])
    np.testing.assert_array_equal(log.rates.values, run.rates)


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, what",
    [
        ("loss", "loss"), ("Loss/train", "loss"), ("train/loss", "loss"), ("trainLoss", "loss"),
        ("Training Loss", "loss"), ("train_loss_step", "loss"), ("Loss/val", "val_loss"),
        ("eval/loss", "val_loss"), ("validation_loss", "val_loss"), ("valid-loss", "val_loss"),
        ("learning_rate", "lr"), ("train/lr", "lr"), ("lr-Adam/pg1", "lr"), ("LR", "lr"),
        ("grad_norm", "grad_norm"), ("GradNorm", "grad_norm"), ("train/grad_norm", "grad_norm"),
        ("val_acc", "val_accuracy"), ("eval_accuracy", "val_accuracy"), ("acc", "accuracy"),
    ],
)  # fmt: skip
def test_usual_names_are_recognised(name, what):
    table = pd.DataFrame({name: [3.0, 2.0], "objective" if what != "loss" else "other": [1.0, 1.0]})
    log = read_log(table)
    assert log.columns[what] == name


def test_the_better_of_two_names_is_taken_and_the_other_is_told():
    log = read_log(pd.DataFrame({"cost": [9.0], "loss": [1.0], "dice": [0.0]}))
    assert log.losses.values == [1.0]
    assert log.ignored == ("cost", "dice")


def test_other_names_can_be_told():
    table = pd.DataFrame({"mystery": [3.0, 2.0], "tick": [10, 20]})
    log = read_log(table, columns={"loss": "mystery", "step": "tick"})
    np.testing.assert_array_equal(log.losses.steps, [10, 20])


def test_without_steps_rows_are_counted():
    log = read_log(pd.DataFrame({"loss": [3.0, 2.0, 1.0]}))
    np.testing.assert_array_equal(log.losses.steps, [0, 1, 2])


# --- Values that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["nan", "NaN", "inf", "-Infinity"])
def test_a_loss_that_is_not_finite_is_kept_as_the_place_where_it_broke(tmp_path, bad):
    text = f"step,loss\n0,1.0\n5,{bad}\n6,2.0\n"
    log = read_log(write(tmp_path, "a.csv", text))
    assert log.losses.broken_at == 5
    np.testing.assert_array_equal(log.losses.values, [1.0, 2.0])
    record = json.dumps({"step": 5, "loss": float(bad)})
    log = read_log(write(tmp_path, "a.jsonl", '{"step": 0, "loss": 1.0}\n' + record))
    assert log.losses.broken_at == 5


def test_a_missing_value_is_no_broken_one(tmp_path):
    log = read_log(write(tmp_path, "a.csv", "step,loss\n0,1.0\n1,\n2,0.5\n"))
    assert log.losses.broken_at is None
    assert log.losses.count == 2
    log = read_log([{"loss": 1.0}, {"loss": None}, {"loss": 0.5}])
    assert log.losses.broken_at is None
    np.testing.assert_array_equal(log.losses.steps, [0, 2])


# --- Long logs -----------------------------------------------------------------------------------


def test_of_a_long_log_an_even_sample_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST", 100)
    path = write(tmp_path, "a.csv", "loss\n" + "\n".join(map(str, range(10_000))) + "\n")
    series = read_log(path).losses
    assert 100 <= len(series) <= 200
    assert series.count == 10_000
    np.testing.assert_array_equal(series.steps, series.values)
    assert set(np.diff(series.steps)) == {np.diff(series.steps)[0]}


def test_pieces_give_what_the_whole_gives(monkeypatch):
    values = np.random.default_rng(0).normal(size=5000)
    monkeypatch.setattr(logs, "MOST", 300)
    records = [{"loss": v} for v in values]
    in_pieces = read_log(records).losses
    whole = read_log(pd.DataFrame({"loss": values})).losses
    np.testing.assert_array_equal(in_pieces.steps, whole.steps)
    np.testing.assert_array_equal(in_pieces.values, whole.values)


# --- What is refused, and how --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", "", "empty"),
        ("a.csv", "step,loss\n", "no rows"),
        ("a.csv", "step,loss\n0,\n", "no values"),
        ("a.csv", "a,b\n1,2\n", "no loss was recognised among 'a', 'b'"),
        ("a.csv", "step,loss\n0,high\n", "'loss' is 'high' in row 1, which is no number"),
        ("a.csv", "step,loss\nx,1\n", "'step' is 'x' in row 1"),
        ("a.csv", "step,loss\n0,1\n1,2,3,4\n", "4 fields, but the header has 2"),
        ("a.csv", b"\xff\xfe\x00l\x00o", "UTF-8"),
        ("a.csv", b"step,loss\n0,\xff\n", "UTF-8"),
        ("a.csv", b"x" * 2_000_000, "no line of a table"),
        ("a.jsonl", "{", "line 1 is no JSON"),
        ("a.jsonl", '{"loss": 1}\n[1]', "line 2 is no record but list"),
        ("a.jsonl", '{"loss": "big"}', "'loss' is 'big' in line 1, which is no number"),
        ("a.jsonl", '{"loss": true}', "'loss' is True in line 1"),
        ("a.jsonl", '{"loss": [1]}', "'loss' is"),
        ("a.jsonl", '{"loss": 1' + "0" * 5000 + "}", "line 1"),
        ("a.jsonl", "[" * 100_000, "line 1"),
        ("a.jsonl", b"\x80abc", "line 1 is no JSON"),
        ("a.jsonl", "\n\n", "no records"),
        ("a.json", "3", "list of records, not int"),
        ("a.json", "[]", "no records"),
        ("a.json", '{"loss": [1, 2], "lr": [1]}', "one length"),
        ("a.parquet", "PAR1", "not '.parquet'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, words):
    path = write(tmp_path, name, content)
    with pytest.raises(LogError, match=words) as error:
        read_log(path)
    assert str(path) in str(error.value)
    assert error.value.__cause__ is None


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(LogError, match="no such file"):
        read_log(tmp_path / "nothing.csv")
    with pytest.raises(LogError, match="no TensorBoard"):
        read_log(tmp_path)
    with pytest.raises(LogError, match="no column 'x'"):
        read_log(RECORDS, columns={"loss": "x"})
    with pytest.raises(LogError, match="columns='lss' is not allowed"):
        read_log(RECORDS, columns={"lss": "loss"})
    with pytest.raises(LogError, match="source must be"):
        read_log(3)


def test_a_damaged_event_file_is_refused(tmp_path):
    pytest.importorskip("tensorboard")
    path = write(tmp_path, "events.out.tfevents.1.host", b"\x00garbage" * 50)
    with pytest.raises(LogError):
        read_log(path)


JUNK = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(
        st.dictionaries(
            st.sampled_from(["step", "loss", "val_loss", "lr", "x"]),
            st.one_of(st.floats(), st.integers(), st.text(max_size=5), st.none(), st.booleans()),
        ),
        max_size=5,
    ).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()),
    st.lists(
        st.lists(st.sampled_from(["1", "nan", "", "x", '"', "1e999", "0x1"]), max_size=4),
        max_size=5,
    ).map(lambda rows: b"step,loss,lr\n" + "\n".join(map(",".join, rows)).encode()),
)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(content=JUNK, ending=st.sampled_from(["csv", "tsv", "jsonl", "json"]))
def test_whatever_is_in_a_file_it_is_a_log_or_a_clear_error(tmp_path, content, ending):
    path = write(tmp_path, f"junk.{ending}", content)
    try:
        log = read_log(path)
    except LogError:
        return
    for series in log.series.values():
        assert np.isfinite(series.values).all()
        assert np.isfinite(series.steps).all()
        assert len(series.steps) == len(series.values)
    assert not math.isnan(len(log.losses))


# --- Losses that end before their table -------------------------------------------------------------


def ended(**columns):
    """A table whose loss was NaN from row 60 on, as pandas writes it."""
    rows = pd.DataFrame({"step": np.arange(100), "loss": 1.0, "lr": 0.1} | columns)
    rows.loc[60:, "loss"] = np.nan
    return rows


def in_all_ways(table, tmp_path):
    """The logs of a table, as such, as CSV, and as JSON lines with null."""
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    return [read_log(table), read_log(tmp_path / "a.csv"), read_log(tmp_path / "a.jsonl")]


@pytest.mark.parametrize("chunk", [7, 60, 10_000])
def test_a_loss_that_ends_before_its_table_was_lost(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(logs, "CHUNK", chunk)
    for log in in_all_ways(ended(), tmp_path):
        assert log.losses.lost_at == 60
        assert log.losses.broken_at is None
        assert log.rates.lost_at is None


def test_a_rare_loss_may_end_early(tmp_path):
    rare = ended()
    rare.loc[rare.index % 2 == 1, "loss"] = np.nan
    for log in in_all_ways(rare, tmp_path):
        assert log.losses.lost_at is None


def test_a_loss_that_is_measured_later_says_that_nothing_was_lost(tmp_path):
    table = ended(val_loss=np.nan)
    table.loc[::20, "val_loss"] = 0.5
    for log in in_all_ways(table, tmp_path):
        assert log.losses.lost_at is None


def test_a_last_row_of_another_kind_is_no_loss_that_was_lost(tmp_path):
    """Lightning's test, after the training."""
    rows = pd.DataFrame({"step": np.arange(61), "loss": 1.0, "test_acc": np.nan})
    rows.loc[60, ["loss", "test_acc"]] = [np.nan, 0.9]
    rows.to_csv(tmp_path / "a.csv", index=False)
    assert read_log(rows).losses.lost_at is None
    assert read_log(tmp_path / "a.csv").losses.lost_at is None


def test_semicolons_and_tabs_separate_too(tmp_path):
    for separator in ";\t":
        (tmp_path / "a.csv").write_text(f"step{separator}loss\n0{separator}1.5\n")
        assert read_log(tmp_path / "a.csv").losses.values.tolist() == [1.5]


# --- Folders of TensorBoard -------------------------------------------------------------------------


def board(folder, tag, values):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step, value in enumerate(values):
            writer.add_scalar(tag, value, step)
    return next(folder.glob("*.tfevents.*"))


def test_several_runs_in_a_folder_are_not_mixed(tmp_path):
    for name in ("a", "b"):
        board(tmp_path / name, "loss", [2.0, 1.0])
    with pytest.raises(LogError, match=r"several runs in this folder.*'a', 'b'"):
        read_log(tmp_path)
    assert len(read_log(tmp_path / "a").losses) == 2


def test_training_and_validation_in_two_folders_are_one_run(tmp_path):
    """Keras writes both under one name."""
    board(tmp_path / "train", "epoch_loss", [3.0, 2.0])
    board(tmp_path / "validation", "epoch_loss", [4.0, 3.0, 2.5])
    log = read_log(tmp_path)
    assert log.losses.values.tolist() == [3.0, 2.0]
    assert log.val_losses.values.tolist() == [4.0, 3.0, 2.5]


def test_damage_in_the_middle_of_an_event_file_is_told(tmp_path):
    path = board(tmp_path, "loss", np.linspace(2, 1, 200))
    assert read_log(path).notes == ()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    (note,) = read_log(path).notes
    assert "bytes could be read" in note
