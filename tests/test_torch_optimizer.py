"""Tests of lrteach.TorchOptimizer: it is a torch.optim.Optimizer in everything one does with one."""

import copy
import io
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from lrteach import TorchOptimizer
from lrteach.optimizers import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    heavy_ball,
    nesterov,
    radam,
    rmsprop,
    rprop,
    rule,
    sgd,
)

# rule, torch's class, torch's keywords, our keywords
TORCHS = {
    "sgd": (sgd, torch.optim.SGD, {}, {}),
    "heavy_ball": (heavy_ball, torch.optim.SGD, {"momentum": 0.9}, {}),
    "nesterov": (nesterov, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}, {"momentum": 0.8}),
    "adagrad": (adagrad, torch.optim.Adagrad, {}, {}),
    "rmsprop": (rmsprop, torch.optim.RMSprop, {}, {}),
    "adadelta": (adadelta, torch.optim.Adadelta, {}, {}),
    "adam": (adam, torch.optim.Adam, {"betas": (0.8, 0.95)}, {"betas": (0.8, 0.95)}),
    "adamw": (adamw, torch.optim.AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
}
# Those of which torch.compile makes nothing new, or nothing at all, are compiled in no test.
MORE = {
    "rprop": (rprop, torch.optim.Rprop, {}, {}),
    "amsgrad": (amsgrad, torch.optim.Adam, {"amsgrad": True}, {}),
    "adamax": (adamax, torch.optim.Adamax, {}, {}),
    "radam": (radam, torch.optim.RAdam, {}, {}),
    "adafactor": (adafactor, torch.optim.Adafactor, {"eps": (1e-16, 1e-3)}, {}),
}
TORCHS_AND_MORE = TORCHS | MORE
each_rule = pytest.mark.parametrize("name", TORCHS_AND_MORE)


class Net(nn.Module):
    """Small, with a convolution, a normalisation with running state, and dense layers."""

    def __init__(self):
        super().__init__()
        # A bias before a normalisation has a gradient of rounding errors, which Adam amplifies.
        self.conv = nn.Conv2d(1, 3, 3, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.dense = nn.Linear(3 * 4 * 4, 5)

    def forward(self, x):
        return self.dense(torch.tanh(self.norm(self.conv(x))).flatten(1))


def net(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().to(dtype)


def batch(t, dtype=torch.float64):
    rng = np.random.default_rng([7, t])
    x = torch.from_numpy(rng.normal(size=(8, 1, 6, 6))).to(dtype)
    return x, torch.from_numpy(rng.integers(0, 5, 8))


def loss_of(model, t):
    x, y = batch(t, next(model.parameters()).dtype)
    return F.cross_entropy(model(x), y)


def fit(model, optimizer, steps, scheduler=None, first=0, clip=None, set_to_none=True):
    for t in range(first, first + steps):
        optimizer.zero_grad(set_to_none=set_to_none)
        loss_of(model, t).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def distance(model, other):
    return max(
        ((a - b).abs() / b.abs().clamp(min=1)).max().item()
        for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def same(model, other):
    return all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def vector(*values, dtype=torch.float64):
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def one_step(optimizer, parameter, gradient):
    parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
    optimizer.step()


# --- Against torch.optim -------------------------------------------------------------------------


@each_rule
def test_equals_torch_optim_on_a_network_over_50_steps(name):
    ours, theirs, torch_hyper, hyper = TORCHS_AND_MORE[name]
    a, b = net(), net()
    fit(a, TorchOptimizer(a.parameters(), ours, lr=0.01, **hyper), 50)
    fit(b, theirs(b.parameters(), lr=0.01, **torch_hyper), 50)
    assert distance(a, b) <= 1e-12
    assert distance(a, net()) > 1e-4


def groups_of(model, **first):
    return [
        {"params": model.conv.parameters(), "lr": 0.1, **first},
        {"params": model.norm.parameters()},
        {"params": model.dense.parameters(), "lr": 0.0},
    ]


def test_parameter_groups_have_their_own_hyperparameters():
    a, b = net(), net()
    own = {"betas": (0.5, 0.9), "weight_decay": 0.3, "eps": 1e-3}
    ours = TorchOptimizer(groups_of(a, **own), adamw, lr=0.01, weight_decay=0.0)
    fit(a, ours, 30)
    fit(b, torch.optim.AdamW(groups_of(b, **own), lr=0.01, weight_decay=0.0), 30)
    assert distance(a, b) <= 1e-12
    assert torch.equal(a.dense.weight, net().dense.weight)  # its rate is zero
    assert [g["weight_decay"] for g in ours.param_groups] == [0.3, 0.0, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.StepLR(o, 7, 0.5),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2),
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=31),
        lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=4),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, 1, 5), lr_scheduler.ExponentialLR(o, 0.9)], [5]
        ),
    ],
    ids=["StepLR", "CosineAnnealingWarmRestarts", "OneCycleLR", "CyclicLR", "SequentialLR"],
)
@pytest.mark.parametrize("name", ["heavy_ball", "adam"])
def test_torchs_own_schedulers_drive_it(name, make):
    ours, theirs, torch_hyper, hyper = TORCHS_AND_MORE[name]
    a, b = net(), net()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*epoch parameter", UserWarning)  # SequentialLR's own
        mine = TorchOptimizer(a.parameters(), ours, lr=0.01, **hyper)
        torchs = theirs(b.parameters(), lr=0.01, **torch_hyper)
        fit(a, mine, 30, make(mine))
        fit(b, torchs, 30, make(torchs))
    assert distance(a, b) <= 1e-12
    assert mine.param_groups[0]["lr"] == torchs.param_groups[0]["lr"]


def test_one_cycle_cycles_betas_and_momentum():
    for each, key, default in ((adam, "betas", (0.9, 0.999)), (heavy_ball, "momentum", 0.9)):
        model = net()
        optimizer = TorchOptimizer(model.parameters(), each, lr=0.01)
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
        fit(model, optimizer, 3, scheduler)
        assert optimizer.param_groups[0][key] != default
    with pytest.raises(ValueError, match="momentum"):  # torch's check of `defaults`
        lr_scheduler.OneCycleLR(TorchOptimizer([vector(1.0)], sgd, lr=0.1), 0.1, total_steps=10)


def test_reduce_lr_on_plateau_drives_it():
    optimizer = TorchOptimizer([vector(1.0)], sgd, lr=0.8)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for loss in (1.0, 1.0, 1.0):
        scheduler.step(loss)
    assert optimizer.param_groups[0]["lr"] == 0.2


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradient_clipping_and_both_kinds_of_zero_grad(set_to_none):
    a, b = net(), net()
    ours = TorchOptimizer(a.parameters(), heavy_ball, lr=0.1)
    fit(a, ours, 20, clip=0.1, set_to_none=set_to_none)
    fit(b, torch.optim.SGD(b.parameters(), lr=0.1, momentum=0.9), 20, clip=0.1)
    assert distance(a, b) <= 1e-12
    ours.zero_grad(set_to_none=set_to_none)
    for p in a.parameters():
        assert (p.grad is None) if set_to_none else not p.grad.any()


def test_grad_scaler_scales_skips_overflow_and_gives_the_same_run():
    a, b = net(), net()
    ours = TorchOptimizer(a.parameters(), adam, lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for t in range(10):
        ours.zero_grad()
        scaler.scale(loss_of(a, t)).backward()
        scaler.step(ours)
        scaler.update()
    fit(b, TorchOptimizer(b.parameters(), adam, lr=0.01), 10)
    assert distance(a, b) <= 1e-12

    before = copy.deepcopy(a)
    ours.zero_grad()
    scaler.scale(loss_of(a, 10) * np.inf).backward()
    scaler.step(ours)
    assert same(a, before)


def test_a_rule_of_ones_own_works_as_well():
    @rule
    def signed(theta, g, *, lr, power=1.0):
        return theta - lr * g.sign() * g.abs() ** power

    p = vector(1.0, 2.0)
    one_step(TorchOptimizer([p], signed, lr=0.5, power=2.0), p, [3.0, -1.0])
    assert p.tolist() == [-3.5, 2.5]


# --- What an optimizer must do -------------------------------------------------------------------


def test_it_is_a_torch_optimizer_whose_defaults_are_the_rules():
    optimizer = TorchOptimizer([vector(1.0)], adamw, lr=0.1, eps=1e-6)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults == {
        "lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01,
    }  # fmt: skip
    assert repr(optimizer).startswith("adamw as a TorchOptimizer")


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned():
    p = vector(3.0)
    optimizer = TorchOptimizer([p], sgd, lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 9.0
    assert p.item() == pytest.approx(3.0 - 0.1 * 6.0)
    assert optimizer.step() is None


def test_step_hooks_run():
    p, calls = vector(1.0), []
    optimizer = TorchOptimizer([p], sgd, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    one_step(optimizer, p, [1.0])
    assert calls == ["before", "after"]


def test_parameters_without_a_gradient_and_frozen_ones_stay_and_get_no_state():
    used, unused, frozen = vector(1.0), vector(2.0), vector(3.0)
    frozen.requires_grad_(False)
    optimizer = TorchOptimizer([used, unused, frozen], adamw, lr=0.1)
    one_step(optimizer, used, [1.0])
    assert (unused.item(), frozen.item()) == (2.0, 3.0)
    assert used.item() != 1.0
    assert list(optimizer.state) == [used]


def test_updates_are_counted_for_each_parameter():
    # A parameter whose gradient starts later has its own bias correction, as in torch.
    results = []
    for make in (lambda ps: TorchOptimizer(ps, adam, lr=0.1), lambda ps: torch.optim.Adam(ps, 0.1)):
        early, late = vector(1.0), vector(1.0)
        optimizer = make([early, late])
        one_step(optimizer, early, [2.0])
        late.grad = torch.tensor([-3.0], dtype=torch.float64)
        optimizer.step()
        results.append((early.item(), late.item()))
    assert results[0] == pytest.approx(results[1], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lr", [1.0, np.float64(1.0), torch.tensor(1.0)], ids=["py", "np", "pt"])
@each_rule
def test_parameters_and_state_keep_their_dtype(name, dtype, lr):
    ours, _, _, hyper = TORCHS_AND_MORE[name]
    p = vector(1.0, 2.0, dtype=dtype)
    optimizer = TorchOptimizer([p], ours, lr=lr, **hyper)
    for _ in range(3):
        one_step(optimizer, p, [0.5, -0.25])
    assert p.dtype == dtype
    assert p[0] != 1.0
    assert all(optimizer.state[p][slot].dtype == dtype for slot in ours.slots)


def test_parameters_are_changed_in_place_and_need_gradients_still():
    p = vector(1.0)
    address = p.data_ptr()
    optimizer = TorchOptimizer([p], heavy_ball, lr=0.1)
    one_step(optimizer, p, [1.0])
    assert p.data_ptr() == address
    assert p.requires_grad and p.is_leaf and p.grad_fn is None
    assert not optimizer.state[p]["b"].requires_grad
    assert p.grad.tolist() == [1.0]


@each_rule
def test_a_saved_run_continues_bit_for_bit(name):
    ours, _, _, hyper = TORCHS_AND_MORE[name]
    whole = net()
    optimizer = TorchOptimizer(groups_of(whole), ours, lr=0.02, **hyper)
    fit(whole, optimizer, 12)
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    fit(whole, optimizer, 12, first=12)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = net()
    resumed.load_state_dict(saved["model"])
    other = TorchOptimizer(groups_of(resumed), ours, lr=9.9)
    other.load_state_dict(saved["optimizer"])
    fit(resumed, other, 12, first=12)
    assert same(whole, resumed)
    assert not same(whole, net())


def test_a_state_dict_of_numpy_hyperparameters_loads_with_weights_only():
    p = vector(1.0)
    optimizer = TorchOptimizer(
        [{"params": [p], "lr": np.float64(0.1)}], adam, lr=np.float64(0.2), eps=np.float32(0.5)
    )
    one_step(optimizer, p, [1.0])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["lr"] == 0.1


@pytest.mark.parametrize(
    "twin_of",
    [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))],
    ids=["copy", "pickle"],
)
def test_copies_and_pickles_continue_like_the_original(twin_of):
    model = net()
    optimizer = TorchOptimizer(model.parameters(), adam, lr=0.02)
    fit(model, optimizer, 5)
    twin, twins_optimizer = twin_of((model, optimizer))
    assert twins_optimizer.rule is adam
    fit(twin, twins_optimizer, 5, first=5)
    assert distance(twin, model) > 1e-4  # the original has not moved
    fit(model, optimizer, 5, first=5)
    assert same(model, twin)


def test_add_param_group_uses_the_defaults_and_takes_its_own():
    a, b, c = vector(1.0), vector(1.0), vector(1.0)
    optimizer = TorchOptimizer([a], heavy_ball, lr=0.1)
    optimizer.add_param_group({"params": [b], "lr": 0.5})
    optimizer.add_param_group({"params": c, "momentum": 0.0})
    for _ in range(2):
        for p in (a, b, c):
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert [p.item() for p in (a, b, c)] == pytest.approx([1 - 0.29, 1 - 1.45, 1 - 0.2])


# --- Bad input -----------------------------------------------------------------------------------

BAD = [
    ({"lr": -0.1}, ValueError, "lr=-0.1 is not allowed: lr must be finite and >= 0"),
    ({"lr": float("nan")}, ValueError, "lr=nan is not allowed: lr must be finite and >= 0"),
    ({"lr": "0.1"}, ValueError, "lr='0.1' is not allowed: lr must be finite and >= 0"),
    ({"lr": torch.tensor([0.1, 0.2])}, ValueError, "lr must be one number for each group"),
    ({"lr": np.array([0.1, 0.2])}, ValueError, "lr must be one number for each group"),
    ({"betas": (0.9, 1.0)}, ValueError,
     "betas=(0.9, 1.0) is not allowed: betas must be a pair of numbers in [0, 1)"),
    ({"eps": -1.0}, ValueError, "eps=-1.0 is not allowed: eps must be finite and >= 0"),
    ({"weight_decay": 0.1}, TypeError,
     "adam has no hyperparameter 'weight_decay': it has lr, betas, eps"),
    ({"momentum": 0.9}, TypeError, "adam has no hyperparameter 'momentum'"),
    ({"foreach": True}, TypeError, "adam has no hyperparameter 'foreach'"),
]  # fmt: skip


@pytest.mark.parametrize("bad, error, message", BAD, ids=lambda v: repr(v)[:40])
def test_a_bad_argument_is_refused_by_the_constructor_and_in_a_group(bad, error, message):
    p = vector(1.0)
    with pytest.raises(error, match=re.escape(message)):
        TorchOptimizer([p], adam, **({"lr": 0.1} | bad))
    with pytest.raises(error, match=re.escape(message)):
        TorchOptimizer([{"params": [p], **bad}], adam, lr=0.1)
    optimizer = TorchOptimizer([p], adam, lr=0.1)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.add_param_group({"params": [vector(2.0)], **bad})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (([],), ValueError, "empty parameter list"),
        ((vector(1.0),), TypeError, "params argument given to the optimizer"),
        (([1.0],), TypeError, "optimizer can only optimize Tensors"),
        (([[vector(1.0)]],), TypeError, "optimizer can only optimize Tensors"),
    ],
)
def test_bad_parameters_are_refused_as_by_torch(arguments, error, message):
    with pytest.raises(error, match=message):
        TorchOptimizer(*arguments, sgd, lr=0.1)


@pytest.mark.parametrize(
    "bad", [sgd.formula, "sgd", torch.optim.SGD, None], ids=["function", "name", "class", "None"]
)
def test_what_is_no_rule_is_refused(bad):
    with pytest.raises(
        TypeError, match=r"rule must be a rule such as lrteach\.optimizers\.adam, not"
    ):
        TorchOptimizer([vector(1.0)], bad, lr=0.1)


def test_the_rate_has_no_default():
    with pytest.raises(TypeError, match="lr"):
        TorchOptimizer([vector(1.0)], sgd)


def test_a_parameter_may_be_in_one_group_only_and_a_group_must_be_a_dict():
    p = vector(1.0)
    optimizer = TorchOptimizer([p], sgd, lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [p]})
    with pytest.raises(TypeError, match="param_group must be a dict, not list"):
        optimizer.add_param_group([vector(2.0)])


def test_adding_a_group_leaves_the_callers_dict_as_it_is():
    group = {"params": [vector(2.0)], "lr": np.float64(0.5)}
    TorchOptimizer([vector(1.0)], sgd, lr=0.1).add_param_group(group)
    assert set(group) == {"params", "lr"}


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), None])
def test_a_rate_changed_by_hand_to_a_bad_one_is_refused_before_anything_moves(bad):
    first, second = vector(1.0), vector(1.0)
    optimizer = TorchOptimizer([{"params": [first]}, {"params": [second]}], adam, lr=0.1)
    optimizer.param_groups[1]["lr"] = bad
    first.grad = second.grad = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"lr={bad} is not allowed: lr must be finite and >= 0"):
        optimizer.step()
    assert first.item() == second.item() == 1.0


def test_a_sparse_gradient_is_a_clear_error_before_anything_moves():
    dense, embedding = vector(1.0), nn.Embedding(5, 2, sparse=True)
    optimizer = TorchOptimizer([dense, embedding.weight], adam, lr=0.1)
    (embedding(torch.tensor([1])).sum() + dense.sum()).backward()
    with pytest.raises(
        ValueError, match=r"adam cannot use a sparse gradient .*shape \(5, 2\).*sparse=False"
    ):
        optimizer.step()
    assert dense.item() == 1.0
