"""Tests of lrteach.data: the parts of each set, its checksums, and the switch to the full MNIST."""

import functools
import gzip
import hashlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from lrteach import data
from lrteach.data import Data, DataError, Digits, digits, digits8, mnist1d, moby_dick, spambase

LOADERS = [digits, digits8, mnist1d, spambase]
SHAPES = {
    digits: ((1, 28, 28), (7200, 800, 2000), 10),
    digits8: ((64,), (1347, 150, 300), 10),
    mnist1d: ((40,), (3600, 400, 1000), 10),
    spambase: ((57,), (3239, 473, 889), 2),
}
PARTS = ("train", "val", "test")

each_set = pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """No setting of the machine reaches a test, and a test that downloads has its own cache."""
    for name in ("LRTEACH_DATA", "LRTEACH_TIMEOUT", "LRTEACH_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Whoever forgets to name a server must not reach the real one.
    monkeypatch.setattr(MNIST, "mirrors", [])


@functools.cache
def once(load):
    """One read for all the tests that only look."""
    return load()


def parts(data_set):
    return [(getattr(data_set, f"x_{part}"), getattr(data_set, f"y_{part}")) for part in PARTS]


# --- The sets ------------------------------------------------------------------------------------


@each_set
def test_shapes_types_and_counts(load):
    shape, counts, classes = SHAPES[load]
    data_set = once(load)
    assert isinstance(data_set, Data)
    assert data_set.name == load.__name__
    assert data_set.classes == classes
    assert tuple(len(x) for x, _ in parts(data_set)) == counts
    for x, y in parts(data_set):
        assert x.shape[1:] == shape
        assert y.shape == (len(x),)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert np.isfinite(x).all()
        assert set(np.unique(y)) == set(range(classes))


@each_set
def test_source_is_one_line_with_the_counts(load):
    source = once(load).source
    assert "\n" not in source
    assert source.startswith(load.__name__ + ": ")
    for count in SHAPES[load][1]:
        assert str(count) in source.replace(" ", "")


@each_set
def test_repr_gives_the_sizes_and_not_the_arrays(load):
    text = repr(once(load))
    assert len(text) < 120
    assert "array" not in text
    for word in (load.__name__, *map(str, SHAPES[load][1]), "float32", "classes"):
        assert word in text


def test_data_is_frozen():
    data_set = digits8()
    with pytest.raises(AttributeError):
        data_set.x_train = data_set.x_test


@pytest.mark.parametrize("load", [digits, digits8])
def test_pixels_fill_the_range_from_0_to_1(load):
    for x, _ in parts(once(load)):
        assert x.min() == 0
        assert x.max() == 1


@pytest.mark.parametrize(
    ("load", "tolerance"), [(digits, 0.12), (digits8, 0.05), (mnist1d, 0.25), (spambase, 0.05)]
)
def test_every_part_has_the_classes_in_proportion(load, tolerance):
    data_set = once(load)
    whole = np.concatenate([y for _, y in parts(data_set)])
    share = np.bincount(whole) / len(whole)
    for _, y in parts(data_set):
        expected = share * len(y)
        # Within the tolerance, or within one example where a class has few.
        assert (abs(np.bincount(y) - expected) <= np.maximum(tolerance * expected, 1)).all()


@each_set
def test_the_training_part_is_shuffled(load):
    """So that its first examples are a fair sample, and epochs in file order do not mislead."""
    data_set = once(load)
    first = np.bincount(data_set.y_train[:300], minlength=data_set.classes) / 300
    whole = np.bincount(data_set.y_train) / len(data_set.y_train)
    assert abs(first - whole).max() < 0.07


@each_set
def test_no_example_is_in_two_parts(load):
    train, val, test = ({row.tobytes() for row in x} for x, _ in parts(once(load)))
    assert len(train) > 1000
    assert len(val) > 100
    assert not train & val
    assert not train & test
    assert not val & test


@each_set
def test_two_reads_are_equal_and_independent(load):
    first, second = load(), load()
    for (x, y), (x2, y2) in zip(parts(first), parts(second), strict=True):
        assert np.array_equal(x, x2)
        assert np.array_equal(y, y2)
    first.x_train[0] += 1
    assert not np.array_equal(first.x_train[0], load().x_train[0])


@pytest.mark.parametrize(
    ("load", "accuracy"), [(digits, 0.75), (digits8, 0.85), (mnist1d, 0.25), (spambase, 0.85)]
)
def test_labels_belong_to_their_examples(load, accuracy):
    """The nearest class mean finds the label far more often than chance: .1, .1, .1 and .6."""
    (x, y), _, (x_test, y_test) = parts(once(load))
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    means = np.stack([x[y == k].mean(axis=0) for k in range(y.max() + 1)])
    nearest = ((means**2).sum(axis=1) - 2 * x_test @ means.T).argmin(axis=1)
    assert (nearest == y_test).mean() > accuracy


def test_digits8_holds_the_first_digit_of_scikit_learn():
    zero = np.float32([0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]) / 16
    found = [y[(x[:, :16] == zero).all(axis=1)] for x, y in parts(once(digits8))]
    assert np.concatenate(found).tolist() == [0]


def test_digits8_split_is_the_same_on_every_machine():
    """The book's numbers depend on it. A change here changes recorded outputs."""
    assert once(digits8).y_train[:12].tolist() == [2, 9, 5, 3, 3, 5, 4, 5, 1, 9, 7, 5]


def test_digits8_uses_every_image_once():
    rows = np.concatenate([x for x, _ in parts(once(digits8))])
    raw = data._read_npz("digits8.npz")["X"].reshape(-1, 64) / np.float32(16)
    assert sorted(row.tobytes() for row in rows) == sorted(row.tobytes() for row in raw)


def test_mnist1d_has_mean_0_and_deviation_1():
    whole = np.concatenate([x for x, _ in parts(once(mnist1d))])
    assert abs(whole.mean()) < 1e-4
    assert abs(whole.std() - 1) < 1e-4


def test_spambase_is_scaled_by_the_training_part_alone():
    (x, _), (x_val, _), (x_test, _) = parts(once(spambase))
    assert np.allclose(x.std(axis=0, dtype=np.float64), 1, atol=1e-5)
    whole = np.concatenate([x, x_val, x_test])
    assert abs(whole.std(axis=0) - 1).max() > 1e-2


def test_spambase_keeps_its_zeros():
    whole = np.concatenate([x for x, _ in parts(once(spambase))])
    raw = data._read_npz("spambase.npz")["X"]
    assert whole.shape == raw.shape
    assert (whole == 0).sum() == (raw == 0).sum() > 0.77 * raw.size
    assert (whole >= 0).all()


def test_moby_dick_is_the_whole_text():
    text = moby_dick()
    assert type(text) is str
    assert len(text) == 1_189_651
    assert text.startswith("CHAPTER 1. Loomings.\n\nCall me Ishmael. Some years ago—never mind")
    assert text.endswith("rolled on as it rolled five thousand years ago.")
    assert text.count("\nCHAPTER ") == 134
    assert len(set(text)) == 81


# --- Digits: sizes and torchvision's form --------------------------------------------------------


def test_size_keeps_the_first_training_images():
    whole, few = digits(), digits(size=100)
    assert len(few.x_train) == len(few.y_train) == 100
    assert np.array_equal(few.x_train, whole.x_train[:100])
    assert np.array_equal(few.y_train, whole.y_train[:100])
    assert np.array_equal(few.x_val, whole.x_val)
    assert np.array_equal(few.y_test, whole.y_test)
    assert "the first 100 of 7 200 train" in few.source
    assert len(digits(size=7200).x_train) == 7200


@pytest.mark.parametrize("size", [0, -1, 7201, 100.0, True, "100"])
def test_size_refuses_nonsense(size):
    with pytest.raises(ValueError, match=f"size={size!r} is not allowed.* from 1 to 7200"):
        digits(size=size)


def test_digits_are_the_images_of_torchvisions_form():
    data_set, train, test = digits(), Digits(train=True), Digits(train=False)
    assert isinstance(train, MNIST)
    assert len(train) == 8000
    assert len(test) == 2000
    for i, (x, y) in [(5, train[5]), (7199, train[7199])]:
        assert torch.equal(ToTensor()(x), torch.from_numpy(data_set.x_train[i]))
        assert y == data_set.y_train[i]
    assert np.array_equal(data_set.y_val, train.targets[7200:].numpy())
    assert np.array_equal(data_set.y_test, test.targets.numpy())


def test_digits_work_with_transforms_and_a_data_loader():
    train = Digits(train=True, transform=ToTensor(), target_transform=lambda y: y + 10)
    x, y = next(iter(DataLoader(train, batch_size=32)))
    assert x.shape == (32, 1, 28, 28)
    assert x.dtype == torch.float32
    assert x.max() == 1
    assert torch.equal(y, train.targets[:32] + 10)


def test_digits_can_be_pickled_for_the_workers_of_a_data_loader():
    test = Digits(train=False)
    copy = pickle.loads(pickle.dumps(test))
    assert torch.equal(copy.data, test.data)
    assert torch.equal(copy.targets, test.targets)


_events = None  # a list while a test listens


def _listen(event, arguments):
    if _events is None:
        return
    if event == "open":
        _, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+"):
            _events.append((event, arguments))
    elif event in ("os.mkdir", "os.rename", "os.remove", "socket.connect", "socket.getaddrinfo"):
        _events.append((event, arguments))


sys.addaudithook(_listen)  # Python has no way to take it off again; it is idle most of the time


@pytest.fixture
def events(monkeypatch):
    """What is written to disk or sent over the network, as Python's audit events."""
    monkeypatch.setattr(sys.modules[__name__], "_events", [])
    return _events


def test_embedded_data_write_nothing_and_send_nothing(events, tmp_path):
    for load in [*LOADERS, moby_dick]:
        load()
    Digits(train=True).download()
    list(DataLoader(Digits(train=False, transform=ToTensor()), batch_size=500))
    assert events == []
    assert not list(tmp_path.iterdir())
    (tmp_path / "x").write_text("the listener hears a write")
    assert [event for event, _ in events] == ["open"]


def test_importing_the_module_imports_neither_torch_nor_torchvision():
    code = (
        "import sys, lrteach.data as d;"
        "d.digits(), d.mnist1d(), d.digits8(), d.spambase(), d.moby_dick();"
        "assert not {'torch', 'torchvision'} & set(sys.modules), 'imported'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_unknown_attributes_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'cifar10'"):
        getattr(data, "cifar10")  # noqa: B009


# --- Checksums -----------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A copy of the embedded files that a test may damage; lrteach.data reads it."""
    copy = tmp_path / "embedded"
    shutil.copytree(data.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(data, "FOLDER", copy)
    return copy


def loader_of(file):
    """The function that reads this file."""
    if file.startswith("digits/"):
        return lambda: Digits(train="train" in file)
    return {f"{f.__name__}.npz": f for f in LOADERS}.get(file, moby_dick)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def make_a_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    (flip_a_bit, "is damaged: its SHA-256"),
    (truncate, "is damaged: .* bytes instead of"),
    (lambda path: path.write_bytes(b""), "is damaged: 0 bytes instead of"),
    (os.remove, "is missing"),
    (make_a_folder, "cannot be read"),
]


def test_every_embedded_file_has_a_checksum():
    found = {
        path.relative_to(data.FOLDER).as_posix()
        for path in data.FOLDER.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".txt")
    }
    assert found == set(data.FILES)


@pytest.mark.parametrize("file", data.FILES)
@pytest.mark.parametrize(
    ("damage", "words"), DAMAGES, ids=["flipped", "truncated", "empty", "missing", "a folder"]
)
def test_a_damaged_file_is_refused_with_its_path_and_its_cure(file, damage, words, folder):
    load, path = loader_of(file), folder / file
    load()  # whole before, so it is each read that is checked, not the first
    damage(path)
    with pytest.raises(DataError, match=words) as caught:
        load()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert f"git checkout -- {path}" in message
    assert "install lrteach again" in message
    # The reader sees this error and no other: none of gzip's, zipfile's or NumPy's.
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_torchvisions_form_refuses_a_damaged_file_too(folder):
    flip_a_bit(folder / "digits" / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        Digits(train=False)
    assert len(Digits(train=True)) == 8000  # the other files are whole


# --- The full MNIST ------------------------------------------------------------------------------


def idx(array):
    """The array as a gzipped IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture(scope="module")
def small_mnist():
    """Four valid files of MNIST's names, with 200 and 50 images: name -> bytes."""
    rng = np.random.RandomState(0)
    files = {}
    for part, n in (("train", 200), ("t10k", 50)):
        images = rng.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{part}-labels-idx1-ubyte.gz"] = idx((np.arange(n) % 10).astype(np.uint8))
    return files


class Server:
    """A web server on this machine: `files` are what it has, `asked` is what it was asked for."""

    def __init__(self):
        self.files, self.asked = {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.removeprefix("/mnist/")
                server.asked.append(name)
                if name not in server.files:
                    return self.send_error(404)
                content, length = server.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/mnist/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def serve(self, files):
        self.files = {name: (content, len(content)) for name, content in files.items()}

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch, small_mnist):
    """A mirror that has the small MNIST; LRTEACH_DATA=full and torchvision ask it."""
    server = Server()
    server.serve(small_mnist)
    md5s = [(name, hashlib.md5(content).hexdigest()) for name, content in small_mnist.items()]
    monkeypatch.setattr(MNIST, "resources", md5s)
    monkeypatch.setattr(MNIST, "mirrors", [server.url])
    monkeypatch.setenv("LRTEACH_DATA", "full")
    monkeypatch.setenv("LRTEACH_TIMEOUT", "5")
    yield server
    server.stop()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "MNIST" / "raw"


@pytest.fixture
def silent():
    """A mirror that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Who waits this long has no timeout: let its test fail and not hang.
        hang_up = threading.Timer(10, listener.close)
        hang_up.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        hang_up.cancel()


@pytest.fixture
def refusing():
    """A mirror where nobody listens. The port stays bound, so that nobody can start to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def assert_is_the_small_mnist(data_set):
    assert [len(x) for x, _ in parts(data_set)] == [180, 20, 50]
    assert data_set.x_train.shape[1:] == (1, 28, 28)
    expected = np.random.RandomState(0).randint(0, 256, (200, 28, 28)) / np.float32(255)
    assert np.allclose(np.concatenate([data_set.x_train, data_set.x_val])[:, 0], expected)
    assert np.array_equal(data_set.y_val, np.arange(180, 200) % 10)
    assert np.array_equal(data_set.y_test, np.arange(50) % 10)
    assert "250 digits, the full MNIST (180 train, 20 validation, 50 test)" in data_set.source
    assert "embedded" not in data_set.source


@pytest.mark.parametrize("mode", ["full", "auto"])
def test_full_downloads_mnist_and_says_so(mode, server, cache, small_mnist, monkeypatch):
    monkeypatch.setenv("LRTEACH_DATA", mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_small_mnist(digits())
    assert sorted(path.name for path in cache.iterdir()) == sorted(small_mnist)


def test_full_keeps_mnists_own_files(server, small_mnist, cache):
    digits()
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == small_mnist


def test_full_takes_a_size(server):
    assert len(digits(size=7).x_train) == 7
    with pytest.raises(ValueError, match="from 1 to 180"):
        digits(size=181)


def test_the_second_call_needs_no_server(server):
    digits()
    asked = len(server.asked)
    assert_is_the_small_mnist(digits())
    assert len(server.asked) == asked  # nothing was asked, although the server was there
    server.stop()
    assert_is_the_small_mnist(digits())


def test_torchvision_itself_can_use_the_cache(server, cache):
    digits()
    server.stop()
    own = MNIST(cache.parents[1], train=True, download=True)
    assert len(own) == 200


def test_full_leaves_the_embedded_folder_alone(server):
    def state():
        return {path: path.stat().st_mtime_ns for path in data.FOLDER.rglob("*")}

    before = state()
    digits()
    assert state() == before


@pytest.mark.parametrize("inside", [".", "digits/full"])
def test_the_cache_must_be_outside_of_the_embedded_folder(inside, folder, server, monkeypatch):
    monkeypatch.setenv("LRTEACH_CACHE", str(folder / inside))
    with pytest.raises(ValueError, match=r"LRTEACH_CACHE=.*must be outside"):
        digits()
    assert server.asked == []


def test_the_default_cache_is_in_the_home_folder(server, monkeypatch, tmp_path):
    monkeypatch.delenv("LRTEACH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # on Windows
    digits()
    assert len(list((tmp_path / ".cache" / "lrteach" / "MNIST" / "raw").iterdir())) == 4


def test_lrteach_mirror_replaces_torchvisions_mirrors(server, refusing, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [refusing])
    monkeypatch.setenv("LRTEACH_MIRROR", server.url.rstrip("/"))  # with or without a slash
    assert_is_the_small_mnist(digits())


def corrupt(content):
    return content[:-1] + bytes([content[-1] ^ 1]), len(content)


def break_off(content):
    return content[: len(content) // 2], len(content)


def serve_half(content):
    return content[: len(content) // 2], len(content) // 2


@pytest.mark.parametrize("damage", [corrupt, break_off, serve_half])
@pytest.mark.parametrize("position", [0, 3])
def test_a_damaged_download_is_refused_and_never_kept(damage, position, server, cache, small_mnist):
    name = list(small_mnist)[position]
    server.files[name] = damage(small_mnist[name])
    for _ in range(2):  # the second call must not take the remains of the first for whole
        with pytest.raises(DataError, match=f"{name} of the full MNIST could not be downloaded"):
            digits()
        # The files before it are whole and kept; nothing else is left behind.
        kept = {path.name: path.read_bytes() for path in cache.iterdir()}
        assert kept == {each: small_mnist[each] for each in list(small_mnist)[:position]}
    server.serve(small_mnist)
    assert_is_the_small_mnist(digits())


def test_a_cached_file_that_was_damaged_later_is_downloaded_again(server, cache, small_mnist):
    digits()
    for damage in (flip_a_bit, truncate, os.remove):
        damage(cache / "train-images-idx3-ubyte.gz")
        server.asked.clear()
        assert_is_the_small_mnist(digits())
        assert set(server.asked) == {"train-images-idx3-ubyte.gz"}
    flip_a_bit(cache / "train-images-idx3-ubyte.gz")
    server.stop()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        digits()


def test_a_dead_mirror_is_followed_by_the_next(server, silent, refusing, monkeypatch):
    monkeypatch.setenv("LRTEACH_TIMEOUT", "0.05")
    monkeypatch.setattr(MNIST, "mirrors", [silent, refusing, server.url])
    assert_is_the_small_mnist(digits())


def test_full_names_what_it_tried_and_what_to_do(server, silent, refusing, cache, monkeypatch):
    server.serve({})
    monkeypatch.setenv("LRTEACH_TIMEOUT", "0.5")
    monkeypatch.setattr(MNIST, "mirrors", [silent, refusing, server.url])
    with pytest.raises(DataError) as caught:
        digits()
    message = str(caught.value)
    for line, reason in [(silent, "timed out"), (refusing, "refused"), (server.url, "404")]:
        assert any(line in each and reason in each for each in message.splitlines())
    for words in ("timeout of 0.5 s (LRTEACH_TIMEOUT)", "LRTEACH_DATA=auto falls back", "without"):
        assert words in message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("mirror", ["silent", "refusing"])
def test_auto_falls_back_with_a_warning(mirror, server, monkeypatch, request):
    monkeypatch.setenv("LRTEACH_DATA", "auto")
    monkeypatch.setenv("LRTEACH_TIMEOUT", "0.2")
    monkeypatch.setattr(MNIST, "mirrors", [request.getfixturevalue(mirror)])
    with pytest.warns(UserWarning, match="LRTEACH_DATA=auto uses the embedded digits") as caught:
        data_set = digits()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    monkeypatch.delenv("LRTEACH_DATA")
    embedded = digits()
    assert data_set.source == embedded.source
    assert "embedded" in data_set.source
    assert np.array_equal(data_set.x_train, embedded.x_train)


def test_auto_does_not_hide_a_damaged_embedded_file(server, refusing, folder, monkeypatch):
    monkeypatch.setenv("LRTEACH_DATA", "auto")
    monkeypatch.setattr(MNIST, "mirrors", [refusing])
    flip_a_bit(folder / "digits" / "train-images-idx3-ubyte.gz")
    with pytest.warns(UserWarning, match="could not"), pytest.raises(DataError, match="is damaged"):
        digits()


def test_a_cache_that_cannot_be_made_is_an_error_with_its_path(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LRTEACH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"(?s)file.MNIST.raw: .*LRTEACH_DATA=auto"):
        digits()


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_the_timeout_ends_with_the_download(outcome, server):
    if outcome == "failure":
        server.serve({})
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    try:
        if outcome == "failure":
            with pytest.raises(DataError):
                digits()
        else:
            digits()
        assert socket.getdefaulttimeout() == 77
    finally:
        socket.setdefaulttimeout(before)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_bad_timeout_is_refused(text, server, monkeypatch):
    monkeypatch.setenv("LRTEACH_TIMEOUT", text)
    with pytest.raises(ValueError, match=f"LRTEACH_TIMEOUT='{text}' is not allowed"):
        digits()


@pytest.mark.parametrize("text", ["Full", "yes", "1", "mnist"])
def test_a_bad_lrteach_data_is_refused(text, monkeypatch):
    monkeypatch.setenv("LRTEACH_DATA", text)
    with pytest.raises(ValueError, match=f"LRTEACH_DATA='{text}'.*'embedded', 'full' or 'auto'"):
        digits()


@pytest.mark.parametrize("text", ["embedded", ""])
def test_embedded_is_the_default(text, monkeypatch):
    expected = digits().source
    monkeypatch.setenv("LRTEACH_DATA", text)
    assert digits().source == expected


def test_the_full_set_is_mnists_by_md5():
    """torchvision's table, which every file of the cache must match, is the published one."""
    from lrteach.data._torchvision import FullDigits

    assert dict(FullDigits.resources) == {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
