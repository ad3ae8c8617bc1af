"""Tests of what the docstrings of lrteach.optimizers call the same in other libraries.

Each call in a field list, such as `Adam(params, lr, betas, eps)`, is run as it stands there on a
stream of gradients and compared at every update, with the defaults and with other values. Each
difference that a field mentions has a test, here or in the file that is named. JAX and Keras are
loaded by the first test that needs them, because sweeps fork.
"""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import other_libraries
import pytest
import torch
from test_optimizers import gradient_stream, steady_stream

from lrteach import optimizers
from lrteach.optimizers import (
    Rule,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    dadapt_adam,
    dadapt_sgd,
    dog,
    ema,
    heavy_ball,
    lamb,
    muon,
    nadam,
    polyak,
    prodigy,
    radam,
    rmsprop,
    rprop,
    schedule_free_adamw,
    sgd,
    tail_average,
)

STEPS, SHAPE, LR = 60, (4, 5), 2**-5  # a rate that float32 has too, in which Keras may keep it
LIBRARIES = ("torch", "optax", "keras")
EACH = [x for x in map(vars(optimizers).get, optimizers.__all__) if isinstance(x, Rule)]
EACH += [ema, tail_average]

# Values of every hyperparameter that differ from its default.
OTHERS = {
    "momentum": 0.7, "betas": (0.8, 0.97), "eps": 1e-3, "weight_decay": 0.3, "alpha": 0.8, "rho": 0.8,
    "etas": (0.4, 1.3), "step_sizes": (1e-3, 2.0), "trust": 0.01, "r0": 1e-3, "d0": 1e-3, "d_coef": 0.5,
    "f_min": 0.5, "cap": 0.02, "beta2_decay": -0.5, "eps1": 1e-18, "eps2": 1e-2, "d": 2.0, "ns_steps": 4,
    "momentum_decay": 0.01,
}  # fmt: skip


def fields_of(each):
    """The field list at the end of a docstring: {name: text}."""
    text = inspect.getdoc(each)
    items = re.findall(r"^:(\w+): (.*(?:\n {4}.*)*)", text, re.MULTILINE)
    return {name: " ".join(value.split()) for name, value in items}


def calls_of(each, library):
    """The calls of that library which a field names: {function: code}."""
    codes = re.findall(r"`([\w.]+\([^`]*\))`", fields_of(each)[library])
    return {ast.unparse(ast.parse(code, mode="eval").body.func): code for code in codes}


CALLS = {
    (each, library, function): code
    for each in EACH
    for library in LIBRARIES
    for function, code in calls_of(each, library).items()
}
TINY = 1e-30  # an eps that is nowhere felt

# (rule, library): what hyperparameters must be for the paths to be the same, where they differ.
BUT = {
    (adagrad, "optax"): {"eps": TINY},
    (adagrad, "keras"): {"eps": TINY},
    (rmsprop, "keras"): {"eps": TINY},
    (adam, "keras"): {"eps": TINY},
    (adamw, "keras"): {"eps": TINY},
    (amsgrad, "keras"): {"eps": TINY},
    (adamax, "keras"): {"eps": TINY},
    (adafactor, "keras"): {"eps1": TINY, "weight_decay": 0.0},
    (nadam, "keras"): {"momentum_decay": 1.0},
    (radam, "optax"): {"eps": TINY},
    (lamb, "keras"): {"weight_decay": 0.0},
    (muon, "optax"): {"momentum": 0.0},
}

# Keras keeps some numbers of these, such as their -0.8, in float32.
IN_SINGLE_PRECISION = {(adafactor, "keras"), (muon, "keras")}

# Calls that are not run here, and why; or where they are.
ELSEWHERE = {
    (rprop, "optax", "rprop"): "test_a_step_of_optax_rprop_comes_one_update_later",
    (amsgrad, "optax", "amsgrad"):
        "test_with_optax.py::test_amsgrad_of_optax_keeps_the_largest_corrected_variance",
    (nadam, "optax", "nadam"): "test_with_optax.py::test_nadam_of_optax_has_a_constant_momentum",
    (dadapt_adam, "optax", "contrib.dadapt_adamw"):
        "test_with_optax.py::test_optax_corrects_the_bias_of_methods_that_find_d",
    (prodigy, "optax", "contrib.prodigy"):
        "test_with_optax.py::test_optax_corrects_the_bias_of_methods_that_find_d",
    (adafactor, "optax", "adafactor"): "test_adafactor_of_optax_has_other_defaults",
    (schedule_free_adamw, "keras", "ScheduleFreeAdamW"): "test_schedule_free_of_keras_is_the_rule_on_jax_and_not_on_torch",
    (muon, "keras", "Muon"): "test_muon_of_keras_has_another_factor",
    (ema, "torch", "swa_utils.AveragedModel"): "test_with_packages.py::test_ema_is_that_of_torch",
    (ema, "optax", "ema"):
        "test_with_optax.py::test_ema_of_optax_starts_at_zero_and_corrects_the_bias",
    (tail_average, "torch", "swa_utils.AveragedModel"):
        "test_with_packages.py::test_tail_average_is_the_average_of_torch_from_there_on",
}  # fmt: skip

# (rule, library): the test of what a field says beside the call.
DIFFERENCES = {
    (heavy_ball, "keras"): "test_the_rate_of_keras_stands_inside_the_sum",
    (adagrad, "optax"): "test_eps_in_the_root",
    (adagrad, "keras"): "test_eps_in_the_root",
    (rmsprop, "keras"): "test_eps_in_the_root",
    **{
        (each, "keras"): "test_eps_of_keras_meets_the_uncorrected_root"
        for each in (adam, adamw, amsgrad)
    },
    (polyak, "optax"): "test_with_optax.py::test_polyak_of_optax_divides_by_its_scaling",
    (rprop, "optax"): "test_a_step_of_optax_rprop_comes_one_update_later",
    (amsgrad, "optax"):
        "test_with_optax.py::test_amsgrad_of_optax_keeps_the_largest_corrected_variance",
    (adamax, "keras"): "test_eps_of_keras_adamax_stands_beside_the_maximum",
    (nadam, "optax"): "test_with_optax.py::test_nadam_of_optax_has_a_constant_momentum",
    (nadam, "keras"): "test_the_momentum_of_keras_nadam_warms_up_250_times_as_fast",
    (radam, "optax"): "test_with_optax.py::test_radam_of_optax_adds_eps_to_the_corrected_root",
    (lamb, "keras"): "test_weight_decay_of_keras_acts_beside_the_step",
    (schedule_free_adamw, "keras"): "test_schedule_free_of_keras_is_the_rule_on_jax_and_not_on_torch",
    (adafactor, "keras"): "test_eps_of_keras_adafactor_is_added_to_the_square",
    (adafactor, "optax"): "test_adafactor_of_optax_has_other_defaults",
    (muon, "torch"): "test_muon_of_torch_takes_matrices_only",
    (muon, "optax"): "test_with_optax.py::test_muon_of_optax_corrects_the_bias_of_its_momentum",
    (muon, "keras"): "test_muon_of_keras_has_another_factor",
    (dadapt_adam, "optax"):
        "test_with_optax.py::test_optax_corrects_the_bias_of_methods_that_find_d",
    (prodigy, "optax"):
        "test_with_optax.py::test_optax_corrects_the_bias_of_methods_that_find_d",
    (ema, "optax"): "test_with_optax.py::test_ema_of_optax_starts_at_zero_and_corrects_the_bias",
    (tail_average, "torch"):
        "test_with_packages.py::test_tail_average_is_the_average_of_torch_from_there_on",
}  # fmt: skip


# --- Running them ---------------------------------------------------------------------------------


def library(name, code=""):
    """The names that a library's calls may use."""
    if name == "torch":
        packages = ("schedulefree", "dadaptation", "prodigyopt")
        mine = {p: pytest.importorskip(p) for p in packages if p in code}
        return {**vars(torch.optim), **vars(torch.optim.swa_utils), **mine}
    if name == "optax":
        pytest.importorskip("jax")
        optax = pytest.importorskip("optax")
        return {**vars(optax), "contrib": pytest.importorskip("optax.contrib")}
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return vars(pytest.importorskip("keras").optimizers)


@contextmanager
def double_precision(name):
    """Inside, optax, Keras and what torch keeps beside the parameters are in float64."""
    if name != "torch":
        with other_libraries.double_precision(name):
            yield
        return
    before, rounds = torch.get_default_dtype(), torch.Tensor.bfloat16
    torch.set_default_dtype(torch.float64)
    torch.Tensor.bfloat16 = torch.Tensor.clone  # Muon rounds a matrix to it
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.Tensor.bfloat16 = rounds


def losses_of(steps):
    return np.random.default_rng(3).uniform(1, 9, steps)


def torch_path(make, theta, gradients):
    p = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = make([p])
    if hasattr(optimizer, "train"):
        optimizer.train()
    for g in gradients:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        yield p.detach().numpy().copy()


def optax_path(optimizer, theta, gradients):
    import jax
    import optax

    def update(carry, given):
        params, state = carry
        g, loss = given
        updates, state = more.update(g, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    more, start = optax.with_extra_args_support(optimizer), jax.numpy.asarray(theta)
    given = jax.numpy.asarray(gradients), jax.numpy.asarray(losses_of(len(gradients)))
    return np.asarray(jax.lax.scan(update, (start, more.init(start)), given)[1])


def keras_path(optimizer, theta, gradients, rates=None):
    import keras

    variable = keras.Variable(theta.copy(), dtype="float64")
    optimizer.build([variable])
    for t, g in enumerate(gradients):
        if rates is not None:
            optimizer.learning_rate = rates[t]
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64")])
        yield keras.ops.convert_to_numpy(variable.value).copy()


def path_of(name, code, theta, gradients, **names):
    """The points of updates 1, 2, ... that a library makes of a call."""
    names = {**library(name, code), **names}
    with double_precision(name):
        if name == "torch":
            make = lambda params: eval(code, {**names, "params": params})  # noqa: E731
            return np.array(list(torch_path(make, theta, gradients)))
        run = optax_path if name == "optax" else keras_path
        return np.array(list(run(eval(code, names), theta, gradients)))


def our_path(rule, theta, gradients, lr=LR, rates=None, **hyper):
    state, path = rule.init(theta), []
    losses = losses_of(len(gradients))
    for t, g in enumerate(gradients):
        more = {"loss": losses[t]} if "loss" in rule.asks else {}
        rate = lr if rates is None else rates[t]
        theta, state = rule(theta, g, state, lr=rate, **more, **hyper)
        path.append(theta)
    return np.array(path)


FIND_A_DISTANCE = (dog, dadapt_sgd, dadapt_adam, prodigy)


def problem(rule=sgd):
    theta = np.random.default_rng(1).normal(size=SHAPE)
    if rule in FIND_A_DISTANCE:  # a start near 0, and gradients by which the walk gets longer
        return theta / 1000, steady_stream(2, STEPS, SHAPE)
    gradients = gradient_stream(2, STEPS, SHAPE)
    gradients[gradients == 0] = 1.0  # 0 / eps is another story
    return 10 * theta, gradients


def assert_same_path(got, want, tolerance=1e-9):
    largest = np.maximum.accumulate(np.abs(want))
    assert np.isfinite(want).all() and np.ptp(want[:, 0, 0]) > 0
    error = (np.abs(got - want) / np.maximum(largest, 1e-3)).max()
    assert error < tolerance, error


def hypers(rule, library):
    """The defaults, and all other values."""
    but = BUT.get((rule, library), {})
    for hyper in ({}, {name: OTHERS[name] for name in rule.defaults if name in OTHERS}):
        if rule is polyak:
            hyper = {"cap": 100.0} | hyper  # without one, optax wants inf
        if rule in FIND_A_DISTANCE and "weight_decay" in hyper:
            hyper |= {"weight_decay": 0.01}  # the rate they find is large
        yield hyper | but


RUN = [key for key in CALLS if key not in ELSEWHERE]


@pytest.mark.parametrize("key", RUN, ids=lambda key: "-".join([key[0].__name__, *key[1:]]))
def test_a_call_of_a_field_list_walks_as_the_rule(key):
    rule, name, _ = key
    lr = 1.0 if rule in (*FIND_A_DISTANCE, polyak) else LR
    for hyper in hypers(rule, name):
        theta, gradients = problem(rule)
        flip = (muon, "optax") == (rule, name)  # a row of its matrices is an input
        given = (theta.T, gradients.swapaxes(1, 2)) if flip else (theta, gradients)
        theirs = path_of(name, CALLS[key], *given, lr=lr, **{**rule.defaults, **hyper})
        theirs = theirs.swapaxes(1, 2) if flip else theirs
        ours = our_path(rule, theta, gradients, lr, **hyper)
        assert_same_path(ours, theirs, 1e-6 if key[:2] in IN_SINGLE_PRECISION else 1e-9)


# --- The field lists ------------------------------------------------------------------------------


def test_every_call_is_run_or_has_a_reason():
    assert set(ELSEWHERE) <= set(CALLS)
    assert len(RUN) >= 50
    assert set(BUT) <= {key[:2] for key in RUN}


def beside_the_calls(text):
    text = re.sub(r"`[^`]*`|the authors' package|not there", "", text)
    return re.sub(r"[,\s]+", " ", text).strip()


def test_every_difference_that_a_field_mentions_has_a_test():
    mentioned = {
        (each, name)
        for each in EACH
        for name in LIBRARIES
        if beside_the_calls(fields_of(each)[name])
    }
    assert mentioned == set(DIFFERENCES)
    assert set(BUT) <= mentioned


def test_the_tests_that_are_named_exist():
    for pointer in {*DIFFERENCES.values(), *ELSEWHERE.values()}:
        file, _, test = pointer.rpartition("::")
        text = (Path(__file__).parent / (file or Path(__file__).name)).read_text("utf-8")
        assert f"\ndef {test}(" in text, pointer


# --- What they take as the rate by default --------------------------------------------------------


def default_rate(name, function, code):
    """The rate that a function of a library takes if it is given none; None if it has no default."""
    space = library(name, code)
    module, _, last = function.rpartition(".")
    made = getattr(space[module], last) if module in space else space.get(last)
    if made is None:  # of a package that is not installed
        return None
    parameters = inspect.signature(made).parameters
    for rate in ("lr", "learning_rate"):
        if rate in parameters and isinstance(parameters[rate].default, (int, float)):
            return parameters[rate].default
    return None


@pytest.mark.parametrize("each", EACH, ids=lambda each: each.__name__)
def test_the_rates_of_a_card_are_those_of_the_libraries(each):
    found = {}
    for name, label in zip(LIBRARIES, ("torch", "optax", "Keras"), strict=True):
        if calls := calls_of(each, name):
            function, code = next(iter(calls.items()))
            rate = default_rate(name, function, code)
            package = name == "torch" and "." in function
            if rate is not None:
                found["the authors' package" if package else label] = f"{rate:g}"
    text, said = fields_of(each).get("rate", ""), {}
    for rate, labels in re.findall(r"([\d.]+) in ((?:[^\d,]|, (?!\d|by ))+)", text):
        said |= {label: rate for label in re.split(r", | and ", labels)}
    assert said == found
    assert not text or text.endswith(", by default")


# --- What the fields say is different -------------------------------------------------------------


def one(name, each, gradients, lr=1.0, function=None, **hyper):
    """The path of one number from 2, as the call of a field makes it."""
    calls = calls_of(each, name)
    code = calls[function] if function else next(iter(calls.values()))
    gradients = np.array(gradients).reshape(-1, 1, 1)
    path = path_of(name, code, np.full((1, 1), 2.0), gradients, lr=lr, **{**each.defaults, **hyper})
    return path[:, 0, 0]


def test_the_rate_of_keras_stands_inside_the_sum():
    theta, gradients = problem()
    rates = np.where(np.arange(STEPS) < 20, LR, LR / 10)
    library("keras")
    with double_precision("keras"):
        (code,) = calls_of(heavy_ball, "keras").values()
        optimizer = eval(code, {**library("keras"), "lr": LR, "momentum": 0.9})
        theirs = np.array(list(keras_path(optimizer, theta, gradients, rates)))
    ours = our_path(heavy_ball, theta, gradients, rates=rates)
    assert_same_path(ours[:20], theirs[:20])
    b, inside = 0.0, [theta]
    for rate, g in zip(rates, gradients, strict=True):
        b = 0.9 * b + rate * g
        inside.append(inside[-1] - b)
    assert_same_path(np.array(inside[1:]), theirs)
    assert np.abs(ours[21] - theirs[21]).max() > 1e-3


@pytest.mark.parametrize("each, name", [(adagrad, "optax"), (adagrad, "keras"), (rmsprop, "keras")])
def test_eps_in_the_root(each, name):
    square = 9.0 if each is adagrad else 0.01 * 9.0
    (theirs,) = one(name, each, [3.0], eps=0.5)
    assert theirs == pytest.approx(2 - 3 / np.sqrt(square + 0.5), rel=1e-12)
    (ours,) = our_path(each, np.array([2.0]), np.array([[3.0]]), 1.0, eps=0.5)
    assert ours == pytest.approx(2 - 3 / (np.sqrt(square) + 0.5), rel=1e-12)


@pytest.mark.parametrize("each", [adam, adamw, amsgrad], ids=lambda each: each.__name__)
def test_eps_of_keras_meets_the_uncorrected_root(each):
    hyper = {"weight_decay": 0.0} if each is adamw else {}
    (theirs,) = one("keras", each, [3.0], eps=0.5, **hyper)
    root = np.sqrt(1 - 0.999)
    assert theirs == pytest.approx(2 - 3 * root / (3 * root + 0.5), rel=1e-12)
    (ours,) = our_path(each, np.array([2.0]), np.array([[3.0]]), 1.0, eps=0.5, **hyper)
    assert ours == pytest.approx(2 - 3 / (3 + 0.5), rel=1e-12)


def test_eps_of_keras_adamax_stands_beside_the_maximum():
    g, betas = [3.0, 0.1], (0.0, 0.9)
    theirs = np.diff(one("keras", adamax, g, eps=0.5, betas=betas))
    ours = np.diff(
        our_path(adamax, np.array([2.0]), np.array(g)[:, None], 1.0, eps=0.5, betas=betas)[:, 0]
    )
    assert theirs[0] == pytest.approx(-0.1 / (0.9 * 3 + 0.5), rel=1e-12)
    assert ours[0] == pytest.approx(-0.1 / (0.9 * 3.5), rel=1e-12)


def test_the_momentum_of_keras_nadam_warms_up_250_times_as_fast():
    theta, gradients = problem()
    (code,) = calls_of(nadam, "keras").values()
    theirs = path_of("keras", code, theta, gradients, lr=LR, **nadam.defaults)
    assert nadam.defaults["momentum_decay"] == 1 / 250
    assert np.abs(theirs - our_path(nadam, theta, gradients)).max() > 1e-3


def test_weight_decay_of_keras_acts_beside_the_step():
    (code,) = calls_of(lamb, "keras").values()
    theta, gradients = np.full((2, 2), 2.0), np.ones((1, 2, 2))
    hyper = {**lamb.defaults, "weight_decay": 0.5, "eps": TINY}
    (theirs,) = path_of("keras", code, theta, gradients, lr=0.1, **hyper)
    shrunk = theta - 0.1 * 0.5 * theta
    np.testing.assert_allclose(theirs, shrunk - 0.1 * shrunk, rtol=1e-9)  # as long as the weights
    (ours,) = our_path(lamb, theta, gradients, 0.1, weight_decay=0.5, eps=TINY)
    assert np.abs(ours - theirs).min() > 0.05


def test_eps_of_keras_adafactor_is_added_to_the_square():
    (theirs,) = one("keras", adafactor, [3.0], lr=0.125, eps1=16.0, d=100.0)
    assert theirs == pytest.approx(2 - 0.125 * 2 * 3 / np.sqrt(9 + 16), rel=1e-12)
    (ours,) = our_path(adafactor, np.array([2.0]), np.array([[3.0]]), 0.125, eps1=16.0, d=100.0)
    assert ours == pytest.approx(2 - 0.125 * 2 * 3 / 16, rel=1e-12)


ON_JAX = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import keras, numpy as np
keras.config.set_floatx("float64")
given = json.load(sys.stdin)
variable = keras.Variable(np.array(given["theta"]), dtype="float64")
optimizer = eval(given["code"], {**vars(keras.optimizers), **given["names"]})
optimizer.build([variable])
path = []
for g in given["gradients"]:
    optimizer.apply([keras.ops.convert_to_tensor(np.array(g))])
    path.append(keras.ops.convert_to_numpy(variable.value).tolist())
json.dump(path, sys.stdout)
"""


def test_schedule_free_of_keras_is_the_rule_on_jax_and_not_on_torch():
    library("keras")
    (code,) = calls_of(schedule_free_adamw, "keras").values()
    theta, gradients = problem()
    names = {"lr": LR, "betas": (0.8, 0.97), "eps": 1e-3}
    given = {"theta": theta.tolist(), "gradients": gradients.tolist(), "code": code, "names": names}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_JAX], input=json.dumps(given), text=True,
        capture_output=True, check=True, env={**os.environ, "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    ours = our_path(schedule_free_adamw, theta, gradients, LR, betas=(0.8, 0.97), eps=1e-3)
    assert_same_path(ours, np.array(json.loads(done.stdout)))
    on_torch = path_of("keras", code, theta, gradients, **names)
    assert np.allclose(ours[0], on_torch[0]) and np.abs(ours[1] - on_torch[1]).max() > 1e-3


def test_a_step_of_optax_rprop_comes_one_update_later():
    theta = np.zeros((2, 2))
    gradients = np.ones((8, 2, 2))
    (code,) = calls_of(rprop, "optax").values()
    hyper = {**rprop.defaults, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.05)}
    theirs = path_of("optax", code, theta, gradients, lr=LR, **hyper)
    ours = our_path(rprop, theta, gradients, LR, etas=(0.4, 1.3), step_sizes=(1e-3, 0.05))
    assert not theirs[0].any()
    np.testing.assert_allclose(theirs[1:], ours[:-1], rtol=1e-12)


def test_adafactor_of_optax_has_other_defaults():
    parameters = inspect.signature(library("optax")["adafactor"]).parameters
    assert parameters["min_dim_size_to_factor"].default == 128
    assert parameters["decay_rate"].default == -adafactor.defaults["beta2_decay"]
    theta, gradients = problem()
    (code,) = calls_of(adafactor, "optax").values()
    theirs = path_of("optax", code, theta, gradients, lr=LR)
    assert np.abs(theirs - our_path(adafactor, theta, gradients)).max() > 1e-2


def test_muon_of_torch_takes_matrices_only():
    (code,) = calls_of(muon, "torch").values()
    with pytest.raises(ValueError, match="2D"):
        path_of("torch", code, np.ones(3), np.ones((1, 3)), lr=LR, **muon.defaults)


@pytest.mark.parametrize("shape", [(3, 4), (4, 2)])
def test_muon_of_keras_has_another_factor(shape):
    theta = np.random.default_rng(1).normal(size=shape)
    gradients = 1e6 * gradient_stream(2, STEPS, shape)  # Keras adds 1e-7 to their norm
    (code,) = calls_of(muon, "keras").values()
    hyper = {"weight_decay": 0.0, "momentum": 0.7, "ns_steps": 4}
    theirs = path_of("keras", code, theta, gradients, lr=LR, **{**muon.defaults, **hyper})
    factor = 0.2 * np.sqrt(max(shape)) / np.sqrt(max(1, shape[0] / shape[1]))
    assert_same_path(our_path(muon, theta, gradients, factor * LR, **hyper), theirs, 1e-6)
    vectors = theta[0], gradients[:, 0]
    by_muon = path_of("keras", code, *vectors, lr=LR, **{**muon.defaults, **hyper})
    by_adam = path_of("keras", "AdamW(lr, 0.004)", *vectors, lr=LR)
    np.testing.assert_allclose(by_muon, by_adam, rtol=1e-6)


def test_ema_of_keras_is_ours():
    settings = re.search(r"`(use_ema[^`]*)`", fields_of(ema)["keras"])[1]
    theta, gradients = problem()
    names = {**library("keras"), "lr": LR, "decay": 0.9}
    rule, theirs, ours = ema(sgd, decay=0.9), [], []
    with double_precision("keras"):
        import keras

        optimizer = eval(f"SGD(lr, {settings})", names)
        for _ in keras_path(optimizer, theta, gradients):
            (average,) = optimizer._model_variables_moving_average
            theirs.append(keras.ops.convert_to_numpy(average.value).copy())
    point, state = theta, rule.init(theta)
    for g in gradients:
        point, state = rule(point, g, state, lr=LR)
        ours.append(rule.evaluated(point, state))
    assert_same_path(np.array(ours), np.array(theirs))
