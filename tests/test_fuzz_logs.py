"""Whatever is in a log: it is read right, or refused in one sentence that names the file."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import TIMES, damaged, flip, tries
from hypothesis import given
from hypothesis import strategies as st

from lrteach import logs
from lrteach.__main__ import main
from lrteach.diagnosis import diagnose
from lrteach.logs import LogError, read_log

ROOT = Path(__file__).parents[1]
ROWS = 24
RECORDS = [
    {"step": 10 * t, "loss": round(2.5 / (t + 1) + 0.01, 4), "lr": 0.125}
    | ({"val_loss": round(2.75 / (t + 1), 4)} if t % 5 == 0 else {})
    for t in range(ROWS)
]


def table(separator, names=("step", "loss", "lr", "val_loss")):
    rows = [separator.join(str(row.get(name, "")) for name in names) for row in RECORDS]
    return ("\n".join([separator.join(names), *rows]) + "\n").encode()


def lightning():
    rows = [f",0.001,{10 * t},,,\n0,,{10 * t},{row['loss']},,\n" for t, row in enumerate(RECORDS)]
    head = "epoch,lr-AdamW,step,train_loss_step,train_loss_epoch,val_loss\n"
    return (head + "".join(rows) + "0,,230,,,2.2\n0,,230,,2.2,\n").encode()


def history(rows):
    return {"epoch": 1.0, "global_step": 240, "log_history": rows}


KERAS = {name: [row[name] for row in RECORDS] for name in ("loss", "lr")}
GOOD = {
    "comma.csv": table(","),
    "semicolon.csv": table(";"),
    "tab.tsv": table("\t"),
    "bom.csv": b"\xef\xbb\xbf" + table(",").replace(b"\n", b"\r\n"),
    "quoted.csv": table(",").replace(b"loss,", b'"loss",'),
    "metrics.csv": lightning(),
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)).encode() + b"\n",
    "list.json": json.dumps(RECORDS).encode(),
    "trainer_state.json": json.dumps(history(RECORDS), indent=1).encode(),
    "keras.json": json.dumps(KERAS).encode(),
    "utf16.json": json.dumps(RECORDS).encode("utf-16"),
}
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".tfevents.1")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A TensorBoard event file of the records."""
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    content = framed(Event(file_version="brain.Event:2").SerializeToString())
    for row in RECORDS:
        for name in ("loss", "lr", "val_loss"):
            if name in row:
                value = Summary.Value(tag=name, simple_value=row[name])
                event = Event(step=row["step"], summary=Summary(value=[value]))
                content += framed(event.SerializeToString())
    return content


def framed(record, length=None):
    """A record as event files hold it: its length, a checksum, itself, a checksum."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    size = struct.pack("<Q", len(record) if length is None else length)
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (size, record)]
    return size + sums[0] + record + sums[1]


def sound(log):
    """A log that can be used: finite numbers of one length, and an answer from `diagnose`."""
    for series in log.series.values():
        assert len(series.steps) == len(series.values) <= series.count
        assert np.isfinite(series.values).all()
        assert np.isfinite(series.steps).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = diagnose(log)
        assert found.summary()
        json.dumps(found.to_dict(), allow_nan=False)
    return log


def read_or_refuse(path):
    """The log, or None if it was refused as is right: in one short sentence, with the file's name."""
    try:
        log = read_log(path)
    except LogError as refusal:
        message, cause = str(refusal), refusal.__cause__
    else:
        return sound(log)
    assert cause is None
    assert str(path) in message
    assert len(message) < len(str(path)) + 1000
    return None


def stated(path, capsys):
    """What the command says of a log: an answer on stdout, or one line on stderr."""
    code = main(["diagnose", str(path)])
    said = capsys.readouterr()
    if code == 0:
        assert said.out and said.err == ""
    else:
        assert code == 2
        assert said.out == ""
        assert said.err.startswith("lrteach: ") and said.err.count("\n") == 1
        assert "Traceback" not in said.err
    return code


@pytest.mark.parametrize("name", GOOD)
def test_the_undamaged_logs_are_read_whole(tmp_path, name):
    (tmp_path / name).write_bytes(GOOD[name])
    log = sound(read_log(tmp_path / name))
    assert log.losses.values.tolist() == [row["loss"] for row in RECORDS]
    assert log.notes == ()


@tries(150)
@given(content=damaged(list(GOOD.values())), ending=st.sampled_from(ENDINGS[:-1]))
def test_a_damaged_log_is_a_log_or_refused(tmp_path_factory, content, ending):
    path = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    path.write_bytes(content)
    read_or_refuse(path)


@tries(100)
@given(content=st.one_of(st.binary(max_size=400), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))), ending=st.sampled_from(ENDINGS))  # fmt: skip
def test_any_bytes_are_a_log_or_refused(tmp_path_factory, content, ending):
    path = tmp_path_factory.getbasetemp() / f"bytes{ending}"
    path.write_bytes(content)
    read_or_refuse(path)


@tries(40)
@given(name=st.sampled_from(sorted(GOOD)), places=st.lists(st.integers(0, 10**5), min_size=1, max_size=3))  # fmt: skip
def test_a_flipped_bit_is_told_or_changes_only_where_it_is(tmp_path_factory, name, places):
    content = GOOD[name]
    for place in places:
        content = flip(content, place)
    path = tmp_path_factory.getbasetemp() / f"flipped-{name}"
    path.write_bytes(content)
    read_or_refuse(path)


@pytest.mark.parametrize("name", GOOD)
def test_a_log_cut_off_anywhere_is_a_beginning_of_it_or_refused(tmp_path, name):
    whole, path = GOOD[name], tmp_path / name
    path.write_bytes(whole)
    losses = read_log(path).losses.values
    for length in range(0, len(whole), 1 if TIMES > 1 else 7):
        path.write_bytes(whole[:length])
        log = read_or_refuse(path)
        if log is None:
            continue
        kept = log.losses.values
        assert len(kept) <= len(losses)
        # A number at the very end may have lost digits: only a table's last field looks whole then.
        np.testing.assert_array_equal(kept[:-1], losses[: len(kept) - 1])
        if log.notes and len(kept):
            assert kept[-1] == losses[len(kept) - 1]
            assert "ends in the middle" in log.notes[0]


NUMBERS = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.just(10**400), st.text(max_size=3),
    st.just([1.0]), st.just({"a": 1}), st.complex_numbers(), st.just(b"1"), st.just(pd.NaT),
    st.just(pd.Timestamp(0)), st.just(Decimal("1.5")), st.just(Fraction(1, 3)), st.just(np.float32(2)),
    st.just(np.arange(3)), st.just(()),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["step", "loss", "val_loss", "lr", "lr-a", "lr-b", "Loss", "x", ""]),
    st.integers(0, 2), st.none(), st.tuples(st.just("loss"), st.integers(0, 1)),
)  # fmt: skip


@tries(120)
@given(
    names=st.lists(NAMES, max_size=4),
    rows=st.lists(st.lists(NUMBERS, min_size=4, max_size=4), max_size=5),
    columns=st.one_of(st.none(), st.just({"loss": "x"}), st.just({"step": "loss"})),
)
def test_any_table_is_a_log_or_refused(names, rows, columns):
    frame = pd.DataFrame([row[: len(names)] for row in rows], columns=pd.Index(names, tupleize_cols=False))  # fmt: skip
    records = [dict(zip(names, row, strict=False)) for row in rows]
    for source in (frame, records):
        try:
            log = read_log(source, columns)
        except LogError as refusal:
            message = str(refusal)
        else:
            message = repr(sound(log))
        assert 10 < len(message) < 1000


def test_a_table_with_two_levels_of_names_is_a_log_or_refused():
    frame = pd.DataFrame({("train", "loss"): [2.0, 1.0], ("val", "loss"): [3.0, 2.0]})
    try:
        log = read_log(frame)
    except LogError:
        return
    assert log.losses.values.tolist() == [2.0, 1.0]


# --- Event files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1 if TIMES > 1 else 37])
def test_an_event_file_cut_off_anywhere_says_so(tmp_path, events, step):
    path = tmp_path / "x.tfevents.1"
    ends, at = {0}, 0
    while at < len(events):
        at += struct.unpack_from("<Q", events, at)[0] + 16
        ends.add(at)
    losses = [np.float32(row["loss"]) for row in RECORDS]
    for length in sorted({*range(1, len(events) + 1, step), *ends} - {0}):
        path.write_bytes(events[:length])
        log = read_or_refuse(path)
        if log is not None:
            assert log.losses.values.tolist() == losses[: len(log.losses)]
            assert bool(log.notes) == (length not in ends)
            if log.notes:
                assert "ends in the middle of a record" in log.notes[0]


@tries(40)
@given(data=st.data())
def test_a_damaged_event_file_says_so(tmp_path_factory, events, data):
    path = tmp_path_factory.getbasetemp() / "y.tfevents.1"
    content = data.draw(damaged([events]))
    path.write_bytes(content)
    log = read_or_refuse(path)
    if log is not None and content != events:
        values = log.losses.values.tolist()
        known = {float(np.float32(row["loss"])) for row in RECORDS}
        assert set(values) <= known  # checksums keep every other number out


def test_records_that_are_whole_but_no_events_are_refused(tmp_path, events):
    path = tmp_path / "x.tfevents.1"
    for record in (b"\xff" * 20, b"\x08", b"\x2a\x7f"):
        path.write_bytes(events + framed(record))
        with pytest.raises(LogError, match="is no event"):
            read_log(path)


@pytest.mark.parametrize("length", [2**40, 2**62, 2**64 - 1])
def test_a_record_that_claims_to_be_huge_takes_no_memory(tmp_path, events, length):
    path = tmp_path / "x.tfevents.1"
    path.write_bytes(events + framed(b"a", length))
    log = read_log(path)
    assert len(log.losses) == ROWS
    assert log.notes[0].startswith(f"Only {len(events)} of the {len(events) + 17} bytes")


@pytest.mark.parametrize("kind", ["no shape", "two numbers", "no type", "text", "half"])
def test_tensors_that_are_no_number_are_left_out_or_refused(tmp_path, events, kind):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    tensor = {
        "no shape": TensorProto(dtype="DT_FLOAT"),
        "two numbers": TensorProto(dtype="DT_FLOAT", tensor_content=bytes(8)),
        "no type": TensorProto(float_val=[1.0]),
        "text": TensorProto(dtype="DT_STRING", string_val=[b"words"]),
        "half": TensorProto(dtype="DT_HALF", half_val=[70000]),
    }[kind]
    event = Event(step=1, summary=Summary(value=[Summary.Value(tag="x", tensor=tensor)]))
    path = tmp_path / "x.tfevents.1"
    path.write_bytes(events + framed(event.SerializeToString()))
    read_or_refuse(path)


# --- Paths -----------------------------------------------------------------------------------------


def strange_path(folder, kind):
    """A path to something that is no file with a log in it."""
    path = folder / "strange.csv"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a loop of links":
        path.symlink_to(path)
    elif kind == "a link to nothing":
        path.symlink_to(folder / "nothing")
    elif kind in ("a pipe", "an event file that is a pipe"):
        path = path if kind == "a pipe" else folder / "x.tfevents.1"
        os.mkfifo(path)
    elif kind == "a folder of pipes":
        path.mkdir()
        os.mkfifo(path / "x.tfevents.1")
    elif kind == "a folder of folders":
        (path / "x.tfevents.1").mkdir(parents=True)
    elif kind == "a folder in a loop":
        path.mkdir()
        (path / "again").symlink_to(path)
    elif kind == "a device":
        path = Path("/dev/zero")
    elif kind == "below a file":
        path.write_bytes(GOOD["comma.csv"])
        path = path / "more.csv"
    elif kind == "a name in another encoding":
        path = folder / os.fsdecode(b"\xff\xfe.tfevents.1")
        path.write_bytes(b"no events")
    return path


@pytest.mark.parametrize(
    "kind",
    ["a folder", "a loop of links", "a link to nothing", "a pipe", "an event file that is a pipe",
     "a folder of pipes", "a folder of folders", "a folder in a loop", "a device", "below a file",
     "a name in another encoding"],
)  # fmt: skip
def test_what_is_no_file_is_refused_at_once(tmp_path, capsys, kind):
    try:
        path = strange_path(tmp_path, kind)
    except OSError as error:
        pytest.skip(f"this file system cannot make {kind}: {error}")
    assert read_or_refuse(path) is None
    assert stated(path, capsys) == 2


def test_a_file_that_may_not_be_read_is_refused_in_one_line(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_bytes(GOOD["comma.csv"])
    path.chmod(0)
    as_nobody = {"user": 65534} if os.getuid() == 0 else {}  # root may read everything
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lrteach", "diagnose", path],
            capture_output=True, text=True, cwd=ROOT, **as_nobody,
        )  # fmt: skip
    except PermissionError as error:
        pytest.skip(f"this user cannot become another: {error}")
    if "No module named" in done.stderr:
        pytest.skip("another user cannot read this Python")
    assert (done.returncode, done.stdout) == (2, "")
    assert "secret.csv: Permission denied" in done.stderr
    assert done.stderr.count("\n") == 1


# --- The command -----------------------------------------------------------------------------------


@tries(40)
@given(content=damaged(list(GOOD.values())), name=st.sampled_from(sorted(GOOD)))
def test_the_command_answers_or_says_one_line(tmp_path_factory, content, name):
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    path = tmp_path_factory.getbasetemp() / f"command-{name}"
    path.write_bytes(content)
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["diagnose", str(path)])
    assert (code == 0) == bool(out.getvalue())
    assert err.getvalue().count("\n") == (code != 0)


@tries(60)
@given(words=st.lists(st.one_of(st.sampled_from(["diagnose", "doctor", "--json", "--plot", "--columns", "loss=x", "=", "--classes", "-1", "9" * 5000, "--", "-x"]), st.text(st.characters(exclude_characters="\0"), max_size=4)), max_size=4))  # fmt: skip
def test_a_wrong_command_line_is_refused_in_one_line(words):
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    if words[:1] == ["doctor"] or {"-h", "--help"} & set(words):
        return
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*words])
    assert code == 2
    assert out.getvalue() == ""
    assert err.getvalue().startswith("lrteach: ") and err.getvalue().count("\n") == 1


# --- Much of everything ----------------------------------------------------------------------------


def cost(function):
    """The most memory that a call took, in bytes."""
    tracemalloc.start()
    try:
        function()
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


MANY = 20_000
LARGE = {
    "columns.csv": ",".join(f"c{i}" for i in range(MANY)) + "\n" + "1," * (MANY - 1) + "1\n",
    "loss-columns.csv": ",".join(["loss"] * MANY) + "\n" + "1," * (MANY - 1) + "1\n",
    "wide.csv": "loss" + ",a" * 500 + "\n" + ("12" + ",34" * 500 + "\n") * 150,
    "line.csv": "loss\n" + "1" * 1_000_000 + "\n",
    "quote.csv": 'loss\n"' + "1\n" * 500_000,
    "line.jsonl": '{"loss": 1, "x": "' + "a" * 900_000 + '"}\n',
    "names.jsonl": "".join(f'{{"loss": 1, "n{i}": 1}}\n' for i in range(3000)),
    "rates.jsonl": "".join(f'{{"loss": 1, "lr {i}": 1}}\n' for i in range(3000)),
    "lists.json": "[" + "[]," * 60_000 + "[]]",
    "objects.json": "[" + "{}," * 40_000 + '{"loss": 1}]',
    "deep.jsonl": '{"loss": ' + "[" * 300_000,
    "deep-value.jsonl": '{"loss": ' + "[" * 900 + "]" * 900 + "}",
    "long-name.jsonl": '{"' + "n" * 900_000 + '": 1}',
    "long-text.jsonl": '{"loss": "' + "n" * 900_000 + '"}',
    "lists-of-many-lengths.json": json.dumps({f"l{i}": [1] * (i % 3 + 1) for i in range(20_000)}),
}


@pytest.mark.parametrize("name", LARGE)
def test_much_of_anything_takes_memory_in_proportion(tmp_path, name):
    path = tmp_path / name
    path.write_text(LARGE[name])
    # Objects of Python take up to 30 bytes for each of a file's; a table's pieces have a bound.
    assert cost(lambda: read_or_refuse(path)) < 20e6 + 45 * path.stat().st_size


def test_a_wide_table_is_read_in_pieces_of_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "CELLS", 4000)
    path = tmp_path / "a.csv"
    path.write_text("step,loss" + ",x" * 998 + "\n" + "".join(f"{t},{t}" + ",0" * 998 + "\n" for t in range(40)))  # fmt: skip
    pieces, gather = [], logs._gather_columns

    def watched(chunks, *rest):
        return gather((pieces.append(len(c["loss"])) or c for c in chunks), *rest)

    monkeypatch.setattr(logs, "_gather_columns", watched)
    assert read_log(path).losses.values.tolist() == list(range(40))
    assert pieces == [4] * 10
