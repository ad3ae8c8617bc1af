"""What tests that compare with optax and Keras share."""

from contextlib import contextmanager


@contextmanager
def double_precision(name):
    """Inside, "optax" or "keras" computes in float64; other libraries do as they did."""
    if name == "optax":
        import jax

        with jax.enable_x64(True):
            yield
    elif name == "keras":
        import keras

        before = keras.config.floatx()
        keras.config.set_floatx("float64")
        try:
            yield
        finally:
            keras.config.set_floatx(before)
    else:
        yield
