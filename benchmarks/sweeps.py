"""A sweep of K rates against the plain torch.optim loop and against JAX.

JAX runs jit(vmap(scan)), all rates at once, and jit(map(scan)), one after the other in one
program. The times leave its compilation out; those of `sweep` are of the whole call.
"""

import warnings
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.networks import NETWORKS
from benchmarks.timing import compare
from lrteach import models, optimizers, sweep
from lrteach.training import batches, tensors

RATES = (1, 8, 32, 128)
TORCH = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
AT_MOST = 8  # runs that the plain loop, whose time is proportional to them, is timed on


def plain_loop(model, data, rule, lrs, steps, batch_size):
    """One run after the other, as everybody writes it. Returns the losses."""
    losses = []
    x, y = tensors(data, "train", torch.device("cpu"), torch.float32)
    for lr in lrs:
        network = models.fresh_copy(model, 0)
        optimizer = TORCH[rule](network.parameters(), lr=lr)
        order = batches(len(x), batch_size, 0)
        for _ in range(steps):
            batch = torch.from_numpy(next(order))
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def jax_sweep(model, network, data, rule, steps, batch_size, form):
    """A function of the rates that trains them all with JAX and optax."""
    import jax
    import jax.numpy as jnp
    import optax

    start = models.fresh_copy(model, 0).state_dict()
    start = {name: jnp.asarray(value.numpy()) for name, value in start.items()}
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)
    order = batches(len(data.x_train), batch_size, 0)
    batch_rows = jnp.asarray(np.stack([next(order) for _ in range(steps)]))

    def loss(parameters, rows):
        logits = network(parameters, x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def run(lr):
        optimizer = getattr(optax, rule)(lr)

        def update(carry, rows):
            parameters, state = carry
            value, gradient = jax.value_and_grad(loss)(parameters, rows)
            change, state = optimizer.update(gradient, state, parameters)
            return (optax.apply_updates(parameters, change), state), value

        return jax.lax.scan(update, (start, optimizer.init(start)), batch_rows)[1]

    every = jax.vmap(run) if form == "vmap" else lambda lrs: jax.lax.map(run, lrs)
    compiled = jax.jit(every)
    return lambda lrs: np.asarray(compiled(jnp.asarray(lrs, jnp.float32)))


def check_same_runs(ours, theirs):
    """What is timed must be the same computation: the losses of the first updates agree."""
    np.testing.assert_allclose(ours.losses[: len(theirs), 0, :3], theirs[:, :3], rtol=2e-2)


def rows(rates=RATES):
    """A row for each network, rule and number of rates."""
    warnings.filterwarnings("ignore", "os.fork")  # JAX warns of forks; these never call it
    for name, (make, network, steps, batch_size, jax_part) in NETWORKS.items():
        model, data = make()
        for rule in ("adam", "sgd"):
            for K in rates:
                lrs = np.geomspace(1e-4, 1e-2, K)
                settings = {"steps": steps, "batch_size": batch_size}
                ours = partial(sweep, model, data, getattr(optimizers, rule), lrs, **settings)
                few = lrs[:AT_MOST]
                functions = {
                    "torch loop": partial(plain_loop, model, data, rule, few, **settings),
                    "sweep": ours,
                }
                scales = {"torch loop": K / len(few)}
                runs, jax_steps = min(K, jax_part[0]), jax_part[1]
                for form in ("vmap", "map"):
                    try:
                        jax = jax_sweep(model, network, data, rule, jax_steps, batch_size, form)
                    except ModuleNotFoundError:
                        continue
                    check_same_runs(ours(), jax(lrs[:runs]))
                    functions[f"JAX {form}"] = partial(jax, lrs[:runs])
                    scales[f"JAX {form}"] = K / runs * steps / jax_steps
                timed = compare(functions, rounds=5 if K <= 32 else 2, scales=scales)
                yield {"table": f"Sweep of K rates: {name}", "name": f"{rule}, K = {K}"} | timed
