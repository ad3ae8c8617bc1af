"""Record keras_digits.json: the network of the chapter `digits` in Keras 3, and in PyTorch.

    python book/practice/keras_digits.py

needs Keras (`pip install keras`), takes about five minutes on one core, and replaces the file beside
it when everything is done. The chapter reads the file, so that the book needs no Keras.
"""

import hashlib
import json
import os
import platform
from dataclasses import replace
from itertools import islice
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from keras import layers

from lrteach import data, models
from lrteach import train as train_torch
from lrteach.optimizers import adam, sgd
from lrteach.training import batches

SCRIPT = Path(__file__)
RESULTS = SCRIPT.with_suffix(".json")
COMMAND = "python book/practice/keras_digits.py"

SEEDS = (0, 1, 2)
BATCH = 64
PASS = 112  # full batches in 7 200 images
CONFIG = {
    "seeds": SEEDS,
    "batch_size": BATCH,
    "constant": {"steps": PASS, "adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
                 "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0)},
    "one_cycle": {"rule": "adam", "rate": 1e-2, "up": 22, "down": 202},
    "default": {"rule": "adam", "rate": 1e-3, "steps": 5 * PASS, "pixels": "0 to 1"},
    "same_start": {"rule": "adam", "rate": 1e-3, "steps": 20, "seed": 0},
}  # fmt: skip


def network():
    """The network of `lrteach.models.cnn`: 93 322 parameters."""
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),  # logits: no softmax here ...
    ])  # fmt: skip


def train(x, y, rate, epochs, seed):
    """Two epochs of 56 batches are one pass over the 7 168 images."""
    keras.utils.set_random_seed(seed)
    model = network()
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),  # ... but here
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=64, epochs=epochs, steps_per_epoch=56, verbose=0)
    return model


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Up to the peak on a straight line, down to zero on another; stands in the rate's place."""

    def __init__(self, peak=1e-2, up=22, down=202):
        self.peak, self.up, self.down = peak, up, down

    def __call__(self, t):
        """The rate of update t, counted from 0."""
        t = keras.ops.cast(t, "float32")
        rise, fall = (t + 1) / (self.up + 1), (self.up + self.down - t) / self.down
        return self.peak * keras.ops.minimum(rise, fall)


def standardised(digits):
    """The digits with mean 0 and standard deviation 1 over the training images."""
    mean, std = digits.x_train.mean(), digits.x_train.std()
    parts = ("x_train", "x_val", "x_test")
    return replace(digits, **{part: (getattr(digits, part) - mean) / std for part in parts})


def channels_last(x):
    """Images as Keras wants them: (B, 28, 28, 1)."""
    return np.moveaxis(x, 1, -1)


def keras_row(digits, rate, epochs, seed):
    """One run of Keras, with a start and batches of its own."""
    x = channels_last(digits.x_train)[: PASS * BATCH]
    model = train(x, digits.y_train[: PASS * BATCH], rate, epochs, seed)
    parts = {"val": (digits.x_val, digits.y_val), "test": (digits.x_test, digits.y_test)}
    row = {"seed": seed}
    for part, (x, y) in parts.items():
        _, accuracy = model.evaluate(channels_last(x), y, batch_size=250, verbose=0)
        row[f"{part}_accuracy"] = round(accuracy, 5)
    return row


def torch_row(digits, rule, rate, seed):
    """The same with PyTorch."""
    run = train_torch(models.cnn(), digits, rule, rate, steps=PASS, batch_size=BATCH, seed=seed)
    return {
        "seed": seed,
        "val_accuracy": round(run.val_accuracy, 5),
        "test_accuracy": round(run.test_accuracy, 5),
    }


def start_like_torch(model, seed):
    """Give a Keras model the first parameters of the PyTorch run with this seed."""
    weights = []
    for parameter in models.initialise(models.cnn(), seed).parameters():
        w = parameter.detach().numpy()
        if w.shape == (64, 576):  # behind Flatten: PyTorch has the channel first, Keras last
            w = w.reshape(64, 64, 3, 3).transpose(2, 3, 1, 0).reshape(576, 64)
        elif w.ndim == 4:
            w = w.transpose(2, 3, 1, 0)
        weights.append(w.T if w.ndim == 2 and w.shape[0] != 576 else w)
    model.set_weights(weights)


def first_losses(digits, rate, steps, seed):
    """Losses of Keras from PyTorch's start, on PyTorch's batches."""
    model = network()
    start_like_torch(model, seed)
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = islice(batches(len(digits.x_train), BATCH, seed), steps)
    x, y = channels_last(digits.x_train), digits.y_train
    model.reset_metrics()
    losses = []
    for batch in order:
        losses.append(float(model.train_on_batch(x[batch], y[batch])))
        model.reset_metrics()
    return losses


def script_sha256():
    """By this hash a test sees whether the results belong to this script."""
    return hashlib.sha256(SCRIPT.read_text(encoding="utf-8").encode()).hexdigest()


def main():
    """Run everything, then replace the file."""
    plain = data.digits()
    digits = standardised(plain)
    constant, results = CONFIG["constant"], {"keras": {}, "torch": {}}
    for rate in constant["adam"]:
        rows = [keras_row(digits, rate, 2, seed) for seed in SEEDS]
        results["keras"].setdefault("adam", []).append({"rate": rate, "runs": rows})
        print(f"keras adam {rate:g}: {[row['val_accuracy'] for row in rows]}", flush=True)
    for rule in (adam, sgd):
        for rate in constant[rule.__name__]:
            rows = [torch_row(digits, rule, rate, seed) for seed in SEEDS]
            results["torch"].setdefault(rule.__name__, []).append({"rate": rate, "runs": rows})
            print(
                f"torch {rule.__name__} {rate:g}: {[row['val_accuracy'] for row in rows]}",
                flush=True,
            )
    results["keras"]["one_cycle"] = [keras_row(digits, OneCycle(), 4, seed) for seed in SEEDS]
    results["keras"]["default"] = [keras_row(plain, 1e-3, 10, seed) for seed in SEEDS]
    same = CONFIG["same_start"]
    losses = first_losses(digits, same["rate"], same["steps"], same["seed"])
    results["keras"]["same_start"] = [round(loss, 6) for loss in losses]

    versions = {"python": platform.python_version(), "keras": keras.__version__,
                "torch": torch.__version__.split("+")[0], "numpy": np.__version__}  # fmt: skip
    record = {"command": COMMAND, "script_sha256": script_sha256(), "data": digits.source,
              "config": CONFIG, "versions": versions, "results": results}  # fmt: skip
    temporary = RESULTS.with_name(f".{RESULTS.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(RESULTS)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
