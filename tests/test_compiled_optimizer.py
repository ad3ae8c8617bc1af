"""Tests of TorchOptimizer(compile=True): the uncompiled optimizer in everything but speed.

Torch compiles each rule once for each dtype, and all tests share the result.
"""

import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from test_torch_optimizer import TORCHS, distance, fit, groups_of, loss_of, net, same, vector
from torch import nn
from torch.optim import lr_scheduler

from lrteach import TorchOptimizer, kernels, torch_optimizer
from lrteach.optimizers import adam, adamw, heavy_ball, nesterov, rule, sgd

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
HEADERS = Path(sysconfig.get_paths()["include"], "Python.h").is_file()
needs_compiler = pytest.mark.skipif(
    not (COMPILER and HEADERS), reason="needs a C++ compiler and Python's headers"
)


@pytest.fixture(autouse=True)
def no_warning():
    """A fall-back warns, so none of these tests passes by falling back unseen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile=True")
        yield


def pair(make, each, lr=0.01, **hyper):
    """Two equal models, with the compiled and the uncompiled optimizer."""
    models = make(), make()
    return *models, *(
        TorchOptimizer(model.parameters(), each, lr=lr, compile=compiled, **hyper)
        for model, compiled in zip(models, (True, False), strict=True)
    )


class Bag(nn.Module):
    """Parameters of given shapes; `gradients(t)` gives each a gradient."""

    def __init__(self, *shapes, dtype=torch.float32):
        super().__init__()
        rng = np.random.default_rng(1)
        values = [
            torch.from_numpy(np.asarray(rng.normal(size=shape))).to(dtype) for shape in shapes
        ]
        self.parts = nn.ParameterList(values)

    def gradients(self, t, skip=()):
        rng = np.random.default_rng([2, t])
        for i, p in enumerate(self.parts):
            g = torch.from_numpy(np.asarray(rng.normal(size=p.shape))).to(p.dtype)
            p.grad = None if i in skip else g


def walk(bag, optimizer, steps, first=0, skip=lambda t: ()):
    for t in range(first, first + steps):
        bag.gradients(t, skip(t))
        optimizer.step()


# --- The same results ----------------------------------------------------------------------------

SHAPES = (7,), (300, 200), (1,), (), (3, 5, 2), (0,), (33_001,)


@needs_compiler
@pytest.mark.parametrize("name", TORCHS)
def test_equals_the_uncompiled_rule_in_double_precision(name):
    each, _, _, hyper = TORCHS[name]
    a, b, compiled, plain = pair(lambda: Bag(*SHAPES, dtype=torch.float64), each, **hyper)
    walk(a, compiled, 50)
    walk(b, plain, 50)
    assert distance_of(a, b) <= 1e-13
    assert not same(a, Bag(*SHAPES, dtype=torch.float64))


def distance_of(a, b):
    return max(
        ((x - y).abs() / y.abs().clamp(min=1)).max().item()
        for x, y in zip(a.parameters(), b.parameters(), strict=True)
        if x.numel()
    )


@needs_compiler
@pytest.mark.parametrize("name", ["sgd", "heavy_ball", "adam"])
def test_equals_the_uncompiled_rule_to_rounding_in_single_precision(name):
    each, _, _, hyper = TORCHS[name]
    a, b, compiled, plain = pair(lambda: Bag(*SHAPES), each, **hyper)
    walk(a, compiled, 100)
    walk(b, plain, 100)
    assert distance_of(a, b) <= 2e-6  # measured: 3e-7


@needs_compiler
def test_trains_a_network_with_groups_like_the_uncompiled_rule():
    a, b = net(), net()
    own = {"betas": (0.5, 0.9), "weight_decay": 0.3, "eps": 1e-3}
    compiled = TorchOptimizer(groups_of(a, **own), adamw, lr=0.01, compile=True)
    fit(a, compiled, 30)
    fit(b, TorchOptimizer(groups_of(b, **own), adamw, lr=0.01), 30)
    assert distance(a, b) <= 1e-12
    assert torch.equal(a.dense.weight, net().dense.weight)  # its rate is zero


@needs_compiler
def test_rates_and_cycled_momenta_change_at_every_step_without_compiling_again(monkeypatch):
    a, b, compiled, plain = pair(net, adam)
    fit(a, compiled, 1)
    fit(b, plain, 1)
    monkeypatch.setattr(kernels, "_compile_loop", None)
    rates = set()
    schedules = [lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=31) for o in (compiled, plain)]
    for t in range(1, 25):
        fit(a, compiled, 1, schedules[0], first=t)
        fit(b, plain, 1, schedules[1], first=t)
        rates.add(compiled.param_groups[0]["lr"])
    assert len(rates) == 24
    assert distance(a, b) <= 1e-12


@needs_compiler
def test_parameters_without_a_gradient_stay_and_each_counts_its_own_updates():
    a, b, compiled, plain = pair(lambda: Bag(*SHAPES), adam)

    def skip(t):
        return {0, 1} if t < 3 else {t % 3, 4}

    walk(a, compiled, 1, skip=skip)
    start = Bag(*SHAPES)
    assert [torch.equal(p, q) for p, q in zip(a.parts, start.parts, strict=True)] == [
        True, True, False, False, False, True, False,
    ]  # fmt: skip
    assert not {a.parts[0], a.parts[1]} & set(compiled.state)
    walk(a, compiled, 12, first=1, skip=skip)
    walk(b, plain, 13, skip=skip)
    assert distance_of(a, b) <= 1e-6
    assert torch.equal(a.parts[4], Bag(*SHAPES).parts[4]) is False
    assert [compiled.state[p]["t"] for p in a.parts] == [plain.state[p]["t"] for p in b.parts]


@needs_compiler
@pytest.mark.parametrize("set_to_none", [True, False])
def test_clipping_and_both_kinds_of_zero_grad(set_to_none):
    a, b, compiled, plain = pair(net, heavy_ball, lr=0.1)
    fit(a, compiled, 20, clip=0.1, set_to_none=set_to_none)
    fit(b, plain, 20, clip=0.1)
    assert distance(a, b) <= 1e-12
    compiled.zero_grad(set_to_none=set_to_none)
    assert all((p.grad is None) if set_to_none else not p.grad.any() for p in a.parameters())


@needs_compiler
def test_grad_scaler_and_closure():
    a, b, compiled, plain = pair(net, adam)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for t in range(5):
        compiled.zero_grad()
        scaler.scale(loss_of(a, t)).backward()
        scaler.step(compiled)
        scaler.update()
    before = copy.deepcopy(a)
    compiled.zero_grad()
    scaler.scale(loss_of(a, 5) * np.inf).backward()
    scaler.step(compiled)
    assert same(a, before)

    def closure():
        compiled.zero_grad()
        loss = loss_of(a, 5)
        loss.backward()
        return loss

    fit(b, plain, 5)
    assert compiled.step(closure).item() == pytest.approx(loss_of(b, 5).item())
    fit(b, plain, 1, first=5)
    assert distance(a, b) <= 1e-12


@needs_compiler
def test_slots_may_take_over_theta_the_gradient_and_each_other():
    @rule
    def shifting(theta, g, before, slope, older, *, lr):
        return theta - lr * (2 * g - slope + older) + 0.1 * (theta - before), theta, g, slope

    a, b, compiled, plain = pair(lambda: Bag((9,), (40_000,)), shifting)
    walk(a, compiled, 5)
    walk(b, plain, 5)
    assert distance_of(a, b) <= 1e-6
    for p, q in zip(a.parts, b.parts, strict=True):
        assert torch.equal(compiled.state[p]["older"], plain.state[q]["older"])
        assert compiled.state[p]["older"].any()


@needs_compiler
def test_gradients_stay_and_a_second_backward_through_old_values_is_noticed():
    w = nn.Parameter(torch.ones(50_000))
    optimizer = TorchOptimizer([w], sgd, lr=0.1, compile=True)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    assert torch.equal(w.grad, torch.full_like(w, 2.0))
    assert w.requires_grad and w.is_leaf and w.grad_fn is None
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_compiler
def test_gradients_that_are_expanded_or_belong_to_a_graph_are_read_right():
    for shape in ((200,), (200, 200)):
        p, q = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
        p.grad = torch.ones(1).expand(shape)
        (q.grad,) = torch.autograd.grad((q * q + q).sum(), q, create_graph=True)
        assert q.grad.requires_grad
        TorchOptimizer([p, q], sgd, lr=0.5, compile=True).step()
        assert torch.equal(p, torch.full(shape, -0.5)) and torch.equal(q, p)


# --- Whatever kind of parameter ------------------------------------------------------------------


@needs_compiler
def test_dtypes_may_be_mixed_and_half_precision_is_bit_for_bit_the_uncompiled_rule():
    dtypes = torch.float32, torch.bfloat16, torch.float64, torch.float16

    def mixed():
        bag = Bag(*[(50,)] * 4)
        for p, dtype in zip(bag.parts, dtypes, strict=True):
            p.data = p.data.to(dtype)
        return bag

    a, b, compiled, plain = pair(mixed, adam)
    walk(a, compiled, 10)
    walk(b, plain, 10)
    for p, q, dtype in zip(a.parts, b.parts, dtypes, strict=True):
        assert p.dtype == dtype
        limit = {torch.float32: 1e-6, torch.float64: 1e-13}.get(dtype, 0.0)
        assert (p - q).abs().max() <= limit * q.abs().max()


@needs_compiler
def test_memory_formats_are_kept():
    def make():
        bag = Bag((8, 4, 3, 3), (400, 300), (1000, 3))
        conv, turned, part = bag.parts
        conv.data = conv.data.to(memory_format=torch.channels_last)
        turned.data = turned.data.t()
        part.data = part.data[:, 1]
        return bag

    a, b, compiled, plain = pair(make, adam)
    strides = [p.stride() for p in a.parts]
    walk(a, compiled, 10)
    walk(b, plain, 10)
    assert [p.stride() for p in a.parts] == strides and strides[2] == (3,)
    assert distance_of(a, b) <= 1e-6


@needs_compiler
def test_parameters_that_are_views_into_one_vector_stay_so():
    # As lrteach.training.flatten makes them, at odd places.
    flat = torch.zeros(40_001 + 13 + 5)
    parts = [nn.Parameter(x) for x in flat.split([5, 40_001, 13])]
    optimizer = TorchOptimizer(parts, sgd, lr=0.5, compile=True)
    for p in parts:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert torch.equal(flat, torch.full_like(flat, -0.5))


@needs_compiler
def test_a_parameter_replaced_after_the_first_step_is_trained_and_its_old_values_are_not():
    for shape in ((10,), (200, 300)):
        a, b, compiled, plain = pair(lambda s=shape: Bag(s, (4,)), adam)
        walk(a, compiled, 3)
        walk(b, plain, 3)
        old = a.parts[0].data
        kept = old.clone()
        for bag in (a, b):
            bag.parts[0].data = torch.ones(shape)
        walk(a, compiled, 3, first=3)
        walk(b, plain, 3, first=3)
        assert torch.equal(old, kept)
        assert distance_of(a, b) <= 1e-6
        for bag in (a, b):  # the state stays float32, as in the uncompiled optimizer
            bag.to(torch.float64)
        walk(a, compiled, 3, first=6)
        walk(b, plain, 3, first=6)
        assert distance_of(a, b) <= 1e-6


@needs_compiler
def test_a_state_dict_loaded_into_the_model_is_where_training_goes_on():
    a, b, compiled, plain = pair(net, adam)
    fit(a, compiled, 3)
    fit(b, plain, 3)
    for model in (a, b):
        model.load_state_dict(net().state_dict())
    fit(a, compiled, 3, first=3)
    fit(b, plain, 3, first=3)
    assert distance(a, b) <= 1e-12


@needs_compiler
def test_the_loop_is_made_for_the_number_of_threads_in_use():
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            p = nn.Parameter(torch.zeros(300_001))
            p.grad = torch.ones_like(p)
            TorchOptimizer([p], sgd, lr=0.5, compile=True).step()
            assert torch.equal(p, torch.full_like(p, -0.5))
    finally:
        torch.set_num_threads(threads)


# --- Saved, copied, continued --------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("first", [True, False], ids=["compiled first", "compiled second"])
def test_a_saved_run_continues_in_either_form(first):
    whole, _, compiled, _ = pair(net, adam)
    fit(whole, compiled, 24)

    model = net()
    optimizer = TorchOptimizer(model.parameters(), adam, lr=0.01, compile=first)
    fit(model, optimizer, 12)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = net()
    resumed.load_state_dict(saved["model"])
    other = TorchOptimizer(resumed.parameters(), adam, lr=9.9, compile=not first)
    other.load_state_dict(saved["optimizer"])
    fit(resumed, other, 12, first=12)
    assert other.compile is not first
    assert distance(whole, resumed) <= 1e-12


@needs_compiler
@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"]
)
def test_copies_and_pickles_are_compiled_too_and_continue_like_the_original(twin_of):
    model, _, optimizer, _ = pair(net, adam)
    fit(model, optimizer, 5)
    twin, twins_optimizer = twin_of((model, optimizer))
    assert twins_optimizer.compile
    fit(twin, twins_optimizer, 5, first=5)
    assert distance(twin, model) > 1e-4  # the original has not moved
    fit(model, optimizer, 5, first=5)
    assert same(model, twin)


# --- Where it cannot be compiled -----------------------------------------------------------------


def assert_one_warning_then_bit_for_bit_the_uncompiled_rule(each, reason):
    a, b, compiled, plain = pair(lambda: Bag((6,), (50, 40), (1,)), each)
    a.parts[2].data, b.parts[2].data = torch.ones(2, 2).double(), torch.ones(2, 2).double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        walk(a, compiled, 5)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith("compile=True has no effect, the uncompiled rule is used: ")
    assert reason in message and "\n" not in message
    walk(b, plain, 5)
    assert not compiled.compile
    assert same(a, b) and not same(a, Bag((6,), (50, 40), (2, 2)))


def test_a_rule_with_a_norm_falls_back_with_one_warning():
    @rule
    def normalised(theta, g, *, lr):
        return theta - lr * g / g.norm()

    assert_one_warning_then_bit_for_bit_the_uncompiled_rule(normalised, "it uses norm")


def test_a_failing_compiler_falls_back_with_one_warning(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported here\nand much more")

    monkeypatch.setattr(torch, "compile", refuse)
    mine = rule(adam.formula)  # not yet compiled
    assert_one_warning_then_bit_for_bit_the_uncompiled_rule(mine, "torch.compile is not supported")


def test_a_compiler_that_makes_mistakes_is_noticed(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, backend, **_: backend(function, ()))

    def wrong(module, examples):
        return lambda theta, g, *rest: module(theta, -g, *rest)

    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: wrong)
    mine = rule(nesterov.formula)
    assert_one_warning_then_bit_for_bit_the_uncompiled_rule(mine, "gives other results")


WITHOUT_COMPILER = """
import warnings, torch
from lrteach import TorchOptimizer
from lrteach.optimizers import adam
results = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for compile in (True, False):
        p = torch.nn.Parameter(torch.ones(5))
        optimizer = TorchOptimizer([p], adam, lr=0.1, compile=compile)
        for _ in range(3):
            p.grad = torch.ones(5)
            optimizer.step()
        results.append(p.detach())
assert torch.equal(*results) and results[0][0] < 0.8
assert len(caught) == 1, [str(w.message) for w in caught]
print(caught[0].message)
"""


def test_without_a_compiler_it_falls_back_with_one_warning(tmp_path):
    environment = os.environ | {
        "PATH": str(tmp_path),
        "CXX": str(tmp_path / "g++"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("compile=True has no effect, the uncompiled rule is used: ")


@pytest.mark.parametrize("bad", ["yes", 1, None])
def test_compile_must_be_true_or_false(bad):
    with pytest.raises(TypeError, match=f"compile must be True or False, not {bad!r}"):
        TorchOptimizer([vector(1.0)], sgd, lr=0.1, compile=bad)


def test_torch_compiles_nothing_unless_asked(monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    bag = Bag(*SHAPES)
    walk(bag, TorchOptimizer(bag.parameters(), adam, lr=0.1), 2)
    assert not same(bag, Bag(*SHAPES))


# --- Blocks of the uncompiled rule ---------------------------------------------------------------


@pytest.mark.parametrize("name", TORCHS)
def test_in_blocks_the_uncompiled_rule_is_bit_for_bit_what_it_is_on_the_whole(name, monkeypatch):
    each, _, _, hyper = TORCHS[name]
    shapes = (50,), (20, 9), (), (7,), (0,)
    results = []
    for block in (7, 64, 10**9):
        monkeypatch.setattr(torch_optimizer, "_BLOCK", block)
        bag = Bag(*shapes)
        walk(bag, TorchOptimizer(bag.parameters(), each, lr=0.01, **hyper), 5)
        results.append(bag)
    assert same(results[0], results[2]) and same(results[1], results[2])
    assert not same(results[2], Bag(*shapes))


def test_a_rule_that_is_not_elementwise_sees_whole_tensors():
    @rule
    def normalised(theta, g, *, lr):
        return theta - lr * g / g.norm()

    p = nn.Parameter(torch.zeros(100_000, dtype=torch.float64))
    p.grad = torch.ones_like(p)
    TorchOptimizer([p], normalised, lr=1.0).step()
    torch.testing.assert_close(p.detach(), torch.full_like(p, -(100_000**-0.5)))


@pytest.mark.parametrize("n", [5, 100_000])
def test_a_slot_may_hold_what_theta_or_the_gradient_was(n):
    @rule
    def remembering(theta, g, before, slope, *, lr):
        return theta - lr * (2 * g - slope), theta, g

    p = nn.Parameter(torch.zeros(n))
    optimizer = TorchOptimizer([p], remembering, lr=1.0)
    for gradient in (1.0, 3.0):
        optimizer.zero_grad(set_to_none=False)
        p.grad = torch.full((n,), gradient)
        optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    assert optimizer.state[p]["before"].unique().tolist() == [-2.0]
    assert optimizer.state[p]["slope"].unique().tolist() == [3.0]
    assert p.unique().tolist() == [-7.0]
