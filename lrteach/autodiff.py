"""Reverse-mode differentiation from scratch: the gradient of a loss by everything it came from.

    w = Tensor(np.zeros((64, 10)))           # a variable; plain arrays and numbers are constants
    loss = cross_entropy(x @ w, labels)      # operators and NumPy's functions, as on arrays
    loss.backward()
    w.grad                                   # d loss / d w, of the shape of w
    w.data = w.data - lr * w.grad            # a step; then w.zero_grad(), for gradients add up

`PULLS` is the calculus, one line an operation; `Tensor` only keeps the books.
Source: Griewank & Walther 2008, Evaluating Derivatives, chapter 3.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, NDArray

__all__ = ["Tensor", "relu", "log_softmax", "cross_entropy", "sum_to", "PULLS"]

Floats: TypeAlias = NDArray[np.float64]

# A node and how the gradient gets there from what was made of it.
Pull: TypeAlias = Callable[[Floats], Floats]
Edge: TypeAlias = "tuple[Tensor, Pull]"


def _matrices(g: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """View a vector as the row (left) or the column (right) that `@` takes it for."""
    if b.ndim == 1:
        g, b = g[..., None], b[:, None]
    if a.ndim == 1:
        g, a = g[..., None, :], a[None, :]
    return g, a, b


def _pull_left(g: Floats, y: Floats, a: Floats, b: Floats) -> Floats:
    g, a, b = _matrices(g, a, b)
    return g @ np.swapaxes(b, -1, -2)


def _pull_right(g: Floats, y: Floats, a: Floats, b: Floats) -> Floats:
    column = b.ndim == 1
    g, a, b = _matrices(g, a, b)
    pulled = np.swapaxes(a, -1, -2) @ g
    return pulled[..., 0] if column else pulled


# y = operation(a, b): given g = d loss / d y, what reaches a, and what reaches b
PULLS: dict[np.ufunc, tuple[Callable[..., Floats], ...]] = {
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.divide: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    np.matmul: (_pull_left, _pull_right),
    # b is a constant; where it is 0 the derivative is 0, also at a = 0
    np.power: (lambda g, y, a, b: g * b * a ** np.where(b == 0, 1, b - 1),),
    # where a = b, all of g goes to b: relu'(0) = 0, as in torch
    np.maximum: (lambda g, y, a, b: g * (a > b), lambda g, y, a, b: g * (a <= b)),
    np.negative: (lambda g, y, a: -g,),
    np.exp: (lambda g, y, a: g * y,),
    np.log: (lambda g, y, a: g / a,),
    np.sqrt: (lambda g, y, a: g / (2 * y),),
    np.tanh: (lambda g, y, a: g * (1 - y * y),),
}


def _given(pull: Callable[..., Floats], value: Floats, arrays: list[Floats]) -> Pull:
    return lambda g: pull(g, value, *arrays)


def sum_to(g: Floats, shape: tuple[int, ...]) -> Floats:
    """Sum g over the axes along which broadcasting copied an array of this shape."""
    if g.shape == shape:
        return g
    new = g.ndim - len(shape)
    copied = [new + i for i, n in enumerate(shape) if n == 1]
    return g.sum(axis=(*range(new), *copied)).reshape(shape)


class Tensor(NDArrayOperatorsMixin):
    """An array that remembers what it was computed from.

    Attributes
    ----------
    data : float64 array
        The value. Not copied if it is a float64 array; change it only between `backward` and
        the next use.
    grad : float64 array of the same shape
        The sum of the derivatives of every `backward` since the last `zero_grad`.
    edges : list of (Tensor, function)
        Each input, with the function that turns d loss / d self into that input's share.
    """

    def __init__(self, data: ArrayLike, edges: Sequence[Edge] = ()) -> None:
        self.data = np.asarray(data, np.float64)
        self.edges = edges
        self.zero_grad()

    # A node is itself, whatever its value.
    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__

    def __array_ufunc__(
        self, operation: np.ufunc, method: str, *inputs: Any, **options: Any
    ) -> "Tensor":
        """Do an operation of NumPy, and remember it. All operators arrive here too."""
        if "out" in options:
            raise TypeError("a Tensor cannot be changed in place: write a = a + b, or use a.data")
        if operation not in PULLS or method != "__call__" or options:
            name = operation.__name__ + ("" if method == "__call__" else f".{method}")
            known = ", ".join(op.__name__ for op in PULLS)
            raise TypeError(f"no derivative for numpy.{name}: there is {known}")
        if operation is np.power and isinstance(inputs[1], Tensor):
            raise TypeError("the exponent of a power must be a constant, not a Tensor")
        arrays = [x.data if isinstance(x, Tensor) else np.asarray(x, np.float64) for x in inputs]
        try:
            value = operation(*arrays)
        except ValueError:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise ValueError(f"{operation.__name__} cannot combine shapes {shapes}") from None
        pairs = zip(inputs, PULLS[operation], strict=False)
        return Tensor(value, [
            (x, _given(pull, value, arrays))
            for x, pull in pairs if isinstance(x, Tensor)
        ])  # fmt: skip

    def sum(self, axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """Sum over all axes, or over some."""
        shape, kept = self.shape, self.data.sum(axis=axis, keepdims=True)
        value = kept if keepdims else self.data.sum(axis=axis)
        return Tensor(value, [(self, lambda g: np.broadcast_to(g.reshape(kept.shape), shape))])

    def mean(self, axis: int | None = None, keepdims: bool = False) -> "Tensor":
        """Mean over all axes, or over some."""
        total = self.sum(axis, keepdims)
        return total / (self.data.size / total.data.size)

    def reshape(self, *shape: int) -> "Tensor":
        """The same numbers in another shape."""
        return Tensor(self.data.reshape(*shape), [(self, lambda g: g.reshape(self.shape))])

    def __getitem__(self, index: Any) -> "Tensor":
        def pull(g: Floats) -> Floats:
            pulled = np.zeros(self.shape)
            np.add.at(pulled, index, g)  # an entry taken twice gets two shares
            return pulled

        return Tensor(self.data[index], [(self, pull)])

    @property
    def T(self) -> "Tensor":
        """All axes in reverse order."""
        return Tensor(self.data.T, [(self, lambda g: g.T)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return self.data.shape

    def item(self) -> float:
        """The value of a tensor of one number, as a float."""
        return self.data.item()

    def zero_grad(self) -> None:
        """Forget the gradients so far."""
        self.grad = np.zeros(self.shape)

    def backward(self) -> None:
        """Add d self / d node to the `grad` of every node from which self was computed."""
        if self.data.size != 1:
            raise ValueError(
                f"backward needs a loss of one number, and this has the shape {self.shape}: "
                "take its mean() or sum() first"
            )
        pending = {self: np.ones(self.shape)}
        for node in reversed(_inputs_first(self)):
            g = pending.pop(node)  # complete: whatever uses this node came earlier
            node.grad = node.grad + g
            for x, pull in node.edges:
                pending[x] = pending.get(x, 0.0) + sum_to(pull(g), x.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r})"


def _inputs_first(root: Tensor) -> list[Tensor]:
    """All nodes behind root, each after its inputs. A loop, so graphs may be as deep as you like."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((x, False) for x, _ in node.edges)
    return order


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    return np.maximum(x, 0.0)  # type: ignore[call-overload]  # calls Tensor.__array_ufunc__


def log_softmax(logits: Tensor) -> Tensor:
    """Logarithm of the softmax along the last axis. Nothing overflows: the largest logit is 0."""
    shifted = logits - logits.data.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: Tensor, labels: ArrayLike) -> Tensor:
    """Mean over N examples of −log softmax(logits)[label]. Logits (N, C), int labels (N,)."""
    labels = np.asarray(labels)
    if not isinstance(logits, Tensor) or len(logits.shape) != 2:
        raise ValueError(f"logits must be a Tensor of shape (N, C), not {logits!r}")
    n, classes = logits.shape
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise ValueError(
            f"labels must be {n} ints, one for each row of logits, not an array of shape "
            f"{labels.shape} and type {labels.dtype}"
        )
    if n == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie between 0 and {classes - 1}, for {classes} classes")
    return -log_softmax(logits)[np.arange(n), labels].mean()
