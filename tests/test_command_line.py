import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lrteach import data, doctor
from lrteach.__main__ import main

ROOT = Path(__file__).parents[1]


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "lrteach", *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, **more,
    )  # fmt: skip


@pytest.fixture
def curve(tmp_path):
    """A log whose loss becomes not finite."""
    path = tmp_path / "metrics.csv"
    rows = [f"{t},{2 - 0.01 * t},0.1" for t in range(100)] + ["100,nan,0.1"]
    path.write_text("\n".join(["step,loss,lr", *rows]))
    return path


def refused(capsys, *arguments):
    """The one sentence that a command says when it cannot be carried out."""
    assert main([str(a) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("lrteach: ")
    assert said.err.count("\n") == 1
    return said.err


# --- diagnose --------------------------------------------------------------------------------------


def test_the_diagnosis_is_printed(curve, capsys):
    assert main(["diagnose", str(curve)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("diverging (confidence 99%)")
    assert "step 100" in said.out
    assert "next: " in said.out
    assert said.err == ""


def test_json_is_json(curve, capsys):
    assert main(["diagnose", str(curve), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["symptom"] == "diverging"
    assert content["verdicts"][0]["evidence"]


def test_columns_are_named(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("n,mine\n" + "".join(f"{t},{1 + 0.5**t}\n" for t in range(50)))
    assert "no loss was recognised" in refused(capsys, "diagnose", path)
    assert main(["diagnose", str(path), "--columns", "loss=mine", "step=n"]) == 0
    capsys.readouterr()
    assert "there is no column 'other'" in refused(
        capsys, "diagnose", path, "--columns", "loss=other"
    )
    assert "columns='what'" in refused(capsys, "diagnose", path, "--columns", "what=mine")


@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "PNG"])
def test_the_plot_is_written_whole(curve, tmp_path, capsys, kind):
    path = tmp_path / f"curve.{kind}"
    path.write_bytes(b"before")
    assert main(["diagnose", str(curve), "--plot", str(path)]) == 0
    assert path.stat().st_size > 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["metrics.csv", path.name])
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_plot_that_fails_leaves_the_old_file(curve, tmp_path, capsys, monkeypatch):
    from matplotlib.figure import Figure

    def full(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    path = tmp_path / "curve.png"
    path.write_bytes(b"before")
    assert "No space left on device" in refused(capsys, "diagnose", curve, "--plot", path)
    assert path.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_plot_that_cannot_be_written_is_refused_before_the_log_is_read(tmp_path, capsys):
    assert "must end in one of" in refused(capsys, "diagnose", "no.csv", "--plot", "curve.doc")
    missing = tmp_path / "nowhere" / "a.png"
    assert "there is no folder" in refused(capsys, "diagnose", "no.csv", "--plot", missing)


HOSTILE = {
    "empty.csv": b"",
    "header.csv": b"step,loss\n",
    "words.csv": b"step,loss\n0,one\n1,two\n",
    "binary.csv": bytes(range(256)) * 20,
    "zeros.csv": b"\x00" * 5000,
    "wide.csv": b"loss\n1,2,3\n",
    "field.csv": b"loss\n" + b"1" * 200_000 + b"\n",
    "deep.json": b"[" * 100_000,
    "open.json": b'{"loss": [1, 2',
    "number.json": b"17",
    "lists.json": b'{"loss": [1, 2], "step": [1]}',
    "digits.jsonl": b'{"loss": ' + b"9" * 5000 + b"}\n",
    "bad.jsonl": b'{"loss": 1}\n{"loss": }\n',
    "line.jsonl": b'{"loss": 1, "x": "' + b"a" * 2_000_000 + b'"}\n',
    "log.exe": b"loss\n1\n",
    "escapes.csv": b"step,\x1b[2Jname\n0,1\n",
    "x.tfevents.1": b"not an event file" * 30,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_log_is_refused_in_one_sentence(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    message = refused(capsys, "diagnose", path)
    assert name in message
    assert "\x1b" not in message


@pytest.mark.parametrize("name", ["missing.csv", "", "a\x00b.csv", "x" * 5000 + ".csv"])
def test_a_path_to_nothing_is_refused(tmp_path, capsys, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, "diagnose", name)


@pytest.mark.parametrize(
    "content",
    [
        "loss\n1\n",
        "loss\n" + "1\n" * 100,
        "loss\nnan\nnan\n",
        "loss\ninf\n",
        "loss\n" + "1e308\n-1e308\n" * 50,
        "loss\n" + "0\n" * 50,
        "step,loss\n" + "3,1\n3,2\n" * 50,
        "step,loss\n" + "".join(f"{-t},{t}\n" for t in range(50)),
        "step,loss\n" + "".join(f"{10.0**t},{t}\n" for t in range(300)),
        "step,loss,lr,grad_norm\n" + "".join(f"{t},{t % 7},0,0\n" for t in range(50)),
        "step,loss,lr,grad_norm\n" + "".join(f"{t},{-t},-1,-1\n" for t in range(50)),
        "step,loss,lr\n" + "".join(f"{t},{t % 7},{'nan' if t % 2 else 1}\n" for t in range(50)),
        "val_loss\n" + "".join(f"{1 / (t + 1)}\n" for t in range(50)),
    ],
)
def test_a_strange_log_gets_an_answer(tmp_path, capsys, content):
    path = tmp_path / "a.csv"
    path.write_text(content)
    picture = tmp_path / "a.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["diagnose", str(path), "--json", "--plot", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out)["symptom"]
    assert picture.exists()


@pytest.mark.parametrize(
    "arguments",
    [[], ["diagnos"], ["diagnose"], ["diagnose", "a.csv", "--classes", "x"], ["diagnose", "a", "-x"],
     ["diagnose", "a.csv", "--columns", "loss"]],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line_that_names_the_help(capsys, arguments):
    assert "--help`)" in refused(capsys, *arguments)


def test_a_log_that_was_cut_off_is_diagnosed_with_a_note(curve, capsys):
    rows = curve.read_text().splitlines(keepends=True)
    curve.write_text("".join(rows[:50]) + "49,1.5")  # and not its rate
    assert main(["diagnose", str(curve), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["points"]["loss"] == 49
    assert "ends in the middle of a record" in found["notes"][0]
    assert main(["diagnose", str(curve)]) == 0
    assert "note: The file ends in the middle of a record" in capsys.readouterr().out


def test_an_answer_that_cannot_be_written_is_no_success(curve):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lrteach", "diagnose", curve],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "lrteach: No space left on device\n")


def test_a_terminal_without_greek_gets_an_answer(curve):
    done = command("diagnose", curve, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith("diverging")


def test_as_a_command():
    assert command("diagnose", "/nowhere.csv").returncode == 2
    wrong = command("diagnos")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    assert command("--version").stdout.startswith("lrteach 0.")
    assert "--columns" in command("diagnose", "--help").stdout


def test_a_diagnosis_starts_fast_and_without_torch_or_matplotlib(curve):
    code = (
        "import sys, time; from lrteach.__main__ import main; "
        f"main(['diagnose', {str(curve)!r}]); "
        "assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules); "
        "print(time.process_time())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    # the processor's time, whatever else the machine does: 0.3 s, and with torch more than 3
    assert float(ran.stdout.splitlines()[-1]) < 2


def test_without_numpy_the_doctor_is_recommended(curve, capsys, monkeypatch):
    for name in ("lrteach.diagnosis", "lrteach.curve_shapes", "lrteach.logs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert "lrteach doctor" in refused(capsys, "diagnose", curve)


def test_classes_are_passed_on(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("loss\n" + "".join(f"{1000 / (t + 1)}\n" for t in range(50)))
    assert main(["diagnose", str(path), "--classes", "10"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("exploding gradients")
    assert "434 times ln 10" in said
    assert "classes=1" in refused(capsys, "diagnose", path, "--classes", "1")


# --- doctor ----------------------------------------------------------------------------------------


def test_a_sound_machine_is_sound(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0].split(None, 1)[1] for line in lines if ": " in line]
    for name in ("Python", "torch", "numpy", "device", "threads", "cache", "working folder"):
        assert name in names
    assert sum(name.startswith("data ") for name in names) == len(data.FILES)
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_are_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path))
    monkeypatch.setitem(data.FILES, "mnist1d.npz", (748266, "0" * 64))
    assert main(["doctor"]) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "mnist1d.npz" in x]
    assert line.startswith("missing")
    assert "git checkout" in line


def test_a_folder_that_cannot_be_written_is_missing(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path / "file"))
    assert main(["doctor"]) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if " cache: " in x]
    assert line.startswith("missing")
    assert "LRTEACH_CACHE" in line


def test_a_working_folder_that_was_deleted_is_missing(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    finding = doctor._can_write("working folder", Path.cwd, "change into another")
    assert not finding.ok
    assert "Change into another" in str(finding)


def test_without_numpy_the_doctor_goes_on(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lrteach.data", None)
    monkeypatch.delattr("lrteach.data", raising=False)
    (finding,) = doctor._data_files()
    assert not finding.ok
    assert "mend the packages" in str(finding)


@pytest.mark.parametrize(
    "version, error, ok",
    [("99.1", None, True), ("0.1", None, False), ("9.9", ImportError("libfoo\nmissing"), False)],
)
def test_packages_must_load_and_be_new_enough(monkeypatch, version, error, ok):
    def load(name):
        if error and name == "numpy":
            raise error

    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=1.26", 'x>=1; extra == "y"'])
    monkeypatch.setattr(doctor, "version", lambda _: version)
    monkeypatch.setattr(doctor, "import_module", load)
    (finding,) = doctor._packages()
    assert finding.ok == ok
    assert "\n" not in str(finding)
    assert ok or "pip install 'numpy>=1.26'" in str(finding)


def test_extras_are_optional(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert main(["doctor"]) == 0
    assert "optional  keras" in capsys.readouterr().out


def test_an_old_python_is_missing(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    finding = doctor._python()
    assert not finding.ok
    assert "3.11" in str(finding)
