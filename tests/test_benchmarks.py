"""Tests of the benchmarks: what is timed side by side is the same computation."""

import json
import time

import numpy as np
import pytest
import torch

import benchmarks.__main__ as command
from benchmarks import quadratics, sweeps
from benchmarks.networks import NETWORKS, with_small_rest
from benchmarks.timing import compare
from lrteach import models, optimizers, sweep
from sphinx_benchmarks import cells_of, duration


def test_ratios_are_how_many_times_as_fast_as_the_first(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def takes(seconds):
        def function():
            clock[0] += seconds

        return function

    timed = compare({"slow": takes(6), "fast": takes(2), "part": takes(1)}, scales={"part": 3})
    assert timed["variants"] == {"slow": 6, "fast": 2, "part": 3}
    assert timed["ratios"] == {"fast": 3, "part": 2}


@pytest.mark.parametrize("name", NETWORKS)
def test_jax_computes_the_logits_of_torchs_network(name):
    jnp = pytest.importorskip("jax.numpy")
    make, network, *_ = NETWORKS[name]
    model, data = make()
    parameters = {k: jnp.asarray(v.numpy()) for k, v in model.state_dict().items()}
    x = data.x_train[:4]
    with torch.no_grad():
        want = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(network(parameters, jnp.asarray(x)), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_sweep_torch_loop_and_jax_make_the_same_runs(rule):
    pytest.importorskip("jax")
    make, network, _, batch_size, _ = next(iter(NETWORKS.values()))
    model, data = make()
    lrs, steps = np.array([1e-3, 1e-2]), 5
    settings = {"steps": steps, "batch_size": batch_size, "workers": 1}  # JAX warns of forks
    ours = sweep(model, data, getattr(optimizers, rule), lrs, **settings)
    for form in ("vmap", "map"):
        jax = sweeps.jax_sweep(model, network, data, rule, steps, batch_size, form)
        np.testing.assert_allclose(jax(lrs), ours.losses[:, 0], rtol=1e-3)
        sweeps.check_same_runs(ours, jax(lrs))
    losses = sweeps.plain_loop(model, data, rule, lrs, steps, batch_size)
    np.testing.assert_allclose(np.reshape(losses, (2, steps)), ours.losses[:, 0], rtol=1e-3)


def test_runs_that_differ_are_not_timed():
    data = with_small_rest(np.random.default_rng(0).normal(size=(64, 3)), np.arange(64) % 2)
    ours = sweep(models.mlp((3, 2)), data, optimizers.sgd, [0.1], steps=3, batch_size=8)
    with pytest.raises(AssertionError):
        sweeps.check_same_runs(ours, 1.1 * ours.losses[:, 0])


def test_quadratics_compare_k_rates_with_k_single_runs():
    row = next(quadratics.rows(steps=2, rounds=1))
    assert set(row["variants"]) == {f"K = {K}" for K in quadratics.RATES}
    assert row["ratios"]["K = 10000"] > row["ratios"]["K = 10"]


def test_results_of_one_subject_replace_only_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "OUT", tmp_path / "results.json")
    command.save("a", [{"subject": "a", "name": "1"}])
    command.save("b", [{"subject": "b", "name": "2"}])
    command.save("a", [{"subject": "a", "name": "3"}])
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["name"] for row in rows] == ["2", "3"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_an_unknown_subject_is_named():
    with pytest.raises(SystemExit, match=r"no subject 'sleeps': there are memory, .*sweeps"):
        command.main(["sleeps"])


def test_the_site_shows_times_with_ratios_and_megabytes():
    assert [duration(s) for s in (2.5, 0.0123, 3.21e-5)] == ["2.5 s", "12.3 ms", "32.1 µs"]
    row = {"variants": {"torch loop": 3.0, "sweep": 0.5}, "ratios": {"sweep": 6.1}}
    assert cells_of(row) == {"torch loop": "3 s", "sweep": "500 ms (6.1×)"}
    assert cells_of({"megabytes": {"a worker": 431.7}}) == {"a worker": "432 MB"}
