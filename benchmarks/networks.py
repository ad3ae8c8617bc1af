"""The networks that sweeps are timed on, for torch and, where it is installed, for JAX."""

import math
from types import SimpleNamespace

import numpy as np
from torch import nn
from torch.nn import functional as F

from lrteach import data, models

CONTEXT, WIDTH, HEADS = 32, 64, 4


class Transformer(nn.Module):
    """Two layers of causal attention over characters; logits for the next one."""

    def __init__(self, vocabulary, layers=2):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, tokens):
        x = self.embed(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, -1])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        B, L, _ = x.shape
        q, k, v = (
            part.view(B, L, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(WIDTH, 2)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(B, L, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def characters(examples=4000):
    """Windows of Moby-Dick as tokens (N, 32), and the character that follows each."""
    text = data.moby_dick()[: 40 * examples]
    letters = sorted(set(text))
    codes = np.array([letters.index(c) for c in text])
    starts = np.random.default_rng(0).integers(0, len(codes) - CONTEXT - 1, examples)
    x = np.stack([codes[s : s + CONTEXT] for s in starts])
    return len(letters), x, codes[starts + CONTEXT]


def with_small_rest(x, y, rest=16):
    """Training data with a validation and a test part of a few rows.

    A sweep evaluates on them, which the loops that it is compared with do not.
    """
    parts = {"train": slice(2 * rest, None), "val": slice(rest), "test": slice(rest, 2 * rest)}
    arrays = {f"x_{name}": x[rows] for name, rows in parts.items()}
    return SimpleNamespace(**arrays, **{f"y_{name}": y[rows] for name, rows in parts.items()})


def mlp():
    signals = data.mnist1d()
    return models.mlp(), with_small_rest(signals.x_train, signals.y_train)


def cnn():
    digits = data.digits()
    return models.cnn(), with_small_rest(digits.x_train, digits.y_train)


def transformer():
    vocabulary, x, y = characters()
    return Transformer(vocabulary), with_small_rest(x, y)


# --- The same networks in JAX: a function (parameters, x) -> logits -------------------------------
# Parameters are a dict of arrays under torch's names, so that one start serves both.


def jax_mlp(p, x):
    import jax

    x = jax.nn.relu(x @ p["0.weight"].T + p["0.bias"])
    x = jax.nn.relu(x @ p["2.weight"].T + p["2.bias"])
    return x @ p["4.weight"].T + p["4.bias"]


def jax_cnn(p, x):
    import jax
    import jax.numpy as jnp

    def conv(x, layer):
        y = jax.lax.conv_general_dilated(
            x, p[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        return y + p[f"{layer}.bias"][:, None, None]

    def pool(x):
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    x = jax.nn.relu(pool(conv(x, 0)))
    x = jax.nn.relu(pool(conv(x, 3)))
    x = jax.nn.relu(conv(x, 6)).reshape(len(x), -1)
    x = jax.nn.relu(x @ p["9.weight"].T + p["9.bias"])
    return x @ p["11.weight"].T + p["11.bias"]


def jax_transformer(p, tokens):
    import jax
    import jax.numpy as jnp

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(x, name):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["embed.weight"][tokens] + p["place.weight"]
    B, L, _ = x.shape
    causal = jnp.tril(jnp.ones((L, L), bool))
    for i in range(2):
        block = f"blocks.{i}"
        parts = jnp.split(linear(norm(x, f"{block}.norm1"), f"{block}.qkv"), 3, axis=-1)
        q, k, v = (part.reshape(B, L, HEADS, -1).transpose(0, 2, 1, 3) for part in parts)
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(WIDTH / HEADS)
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
        attended = (weights @ v).transpose(0, 2, 1, 3).reshape(B, L, WIDTH)
        x = x + linear(attended, f"{block}.out")
        x = x + linear(
            jax.nn.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.up")), f"{block}.down"
        )
    return linear(norm(x, "norm")[:, -1], "head")


# name: (torch, JAX, updates a run, batch, what JAX is timed on: so many runs of so many updates)
NETWORKS = {
    "MLP 40-100-100-10 on MNIST-1D": (mlp, jax_mlp, 200, 100, (128, 200)),
    # JAX's convolutions are so slow on a CPU that only a part of its work is timed.
    "CNN, 93 322 parameters, on digits": (cnn, jax_cnn, 20, 64, (2, 5)),
    "transformer, 2 layers, on characters": (transformer, jax_transformer, 20, 32, (8, 20)),
}
