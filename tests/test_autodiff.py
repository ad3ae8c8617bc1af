"""lrteach.autodiff against torch, against finite differences, and where it could go wrong."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrteach.autodiff import PULLS, Tensor, cross_entropy, log_softmax, relu, sum_to

# The same tests on every run: a random failure would blame the wrong change.
fixed = settings(derandomize=True, deadline=None, max_examples=100)


def gradients(loss, *arrays):
    """The gradients that our backward and torch's give for one function of the arrays."""
    ours = [Tensor(a) for a in arrays]
    loss(Ours, *ours).backward()
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    loss(Torch, *theirs).backward()
    return [t.grad for t in ours], [t.grad.numpy() for t in theirs]


def assert_same_as_torch(loss, *arrays, rtol=1e-12):
    for ours, theirs in zip(*gradients(loss, *arrays), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * max(1, np.abs(theirs).max()))


class Ours:
    exp, log, tanh, sqrt, maximum, relu = np.exp, np.log, np.tanh, np.sqrt, np.maximum, relu


class Torch:
    exp, log, tanh, sqrt, relu = torch.exp, torch.log, torch.tanh, torch.sqrt, torch.relu
    maximum = torch.maximum


# Two inputs of every expression, and one. Divisors and bases stay away from zero.
BINARY = {
    "add": lambda ns, a, b: a + b,
    "sub": lambda ns, a, b: a - b,
    "mul": lambda ns, a, b: a * b,
    "div": lambda ns, a, b: a / (1.5 + ns.tanh(b)),
    "right constant": lambda ns, a, b: 2.0 / (1.5 + ns.tanh(a)) - b,
    "maximum": lambda ns, a, b: ns.maximum(a, b + 1e-3),
}
UNARY = {
    "neg": lambda ns, a: -a,
    "exp": lambda ns, a: ns.exp(ns.tanh(a)),
    "log": lambda ns, a: ns.log(1.5 + ns.tanh(a)),
    "sqrt": lambda ns, a: ns.sqrt(1.5 + ns.tanh(a)),
    "tanh": lambda ns, a: ns.tanh(a),
    "relu": lambda ns, a: ns.relu(a),
    "square": lambda ns, a: ns.tanh(a) ** 2,
    "power": lambda ns, a: (1.5 + ns.tanh(a)) ** -1.5,
    "sum": lambda ns, a: a.sum(-1, keepdims=True) if a.shape else a.sum(),
    "mean": lambda ns, a: a.mean(0) if a.shape else a.mean(),
    "transpose": lambda ns, a: a.T if len(a.shape) == 2 else a,
    "reshape": lambda ns, a: a.reshape(-1).reshape(a.shape),
    "first": lambda ns, a: a[0] if a.shape else a,
}


@st.composite
def shapes_that_broadcast(draw, count=3):
    full = draw(st.lists(st.integers(1, 3), min_size=0, max_size=3))
    shapes = []
    for _ in range(count):
        own = full[draw(st.integers(0, len(full))) :]
        shapes.append(tuple(n if draw(st.booleans()) else 1 for n in own))
    return shapes


@st.composite
def programs(draw):
    """A list of operations; each takes earlier values by their number."""
    steps = []
    for count in range(3, 3 + draw(st.integers(1, 8))):
        name = draw(st.sampled_from([*BINARY, *UNARY]))
        arity = 2 if name in BINARY else 1
        steps.append((name, [draw(st.integers(0, count - 1)) for _ in range(arity)]))
    return steps


def execute(program, ns, *values):
    values = list(values)
    for name, places in program:
        chosen = [values[place] for place in places]
        try:
            np.broadcast_shapes(*(tuple(v.shape) for v in chosen))
        except ValueError:  # a mean or an index has changed the shape
            chosen = [v.sum() for v in chosen]
        values.append((BINARY | UNARY)[name](ns, *chosen))
    return sum(v.mean() for v in values)


@fixed
@given(shapes_that_broadcast(), programs(), st.integers(0, 2**31))
def test_random_expressions_have_torchs_gradients(shapes, program, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    assert_same_as_torch(lambda ns, *values: execute(program, ns, *values), *arrays)


@fixed
@given(shapes_that_broadcast(2), st.sampled_from(list(BINARY)), st.integers(0, 2**31))
def test_broadcasting_has_torchs_gradients(shapes, name, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    assert_same_as_torch(lambda ns, a, b: (BINARY[name](ns, a, b) ** 2).sum(), *arrays)


@pytest.mark.parametrize(
    "left, right",
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)),
    ],
)  # fmt: skip
def test_matrix_products_of_all_shapes(left, right):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=left), rng.normal(size=right)
    assert_same_as_torch(lambda ns, a, b: ns.tanh(a @ b).sum(), a, b)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sum_and_mean_over_axes(axis, keepdims):
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    t = torch.tensor(x, requires_grad=True)
    (t.sum(axis, keepdims) ** 2).sum().backward() if axis is not None else (t.sum() ** 2).backward()
    ours = Tensor(x)
    (ours.sum(axis, keepdims) ** 2).sum().backward()
    np.testing.assert_allclose(ours.grad, t.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        ours.mean(axis, keepdims).data, x.mean(axis=axis, keepdims=keepdims), rtol=1e-14
    )
    ours.zero_grad()
    (ours.mean(axis, keepdims) * 3.0).sum().backward()
    count = x.size / ours.mean(axis).data.size
    np.testing.assert_allclose(ours.grad, np.full(x.shape, 3 / count), rtol=1e-14)


@pytest.mark.parametrize("index", [0, (1, 2), slice(1, 3), np.array([0, 0, 2]), ([0, 1], [2, 2])])
def test_indexing(index):
    x = np.random.default_rng(2).normal(size=(3, 4))
    assert_same_as_torch(lambda ns, a: (a[index] ** 3).sum(), x)


def network(ns, x, w1, b1, w2, b2):
    return (ns.tanh(x @ w1 + b1) @ w2 + b2) ** 2


def test_a_network_has_torchs_gradients():
    rng = np.random.default_rng(3)
    shapes = [(20, 6), (6, 8), (8,), (8, 3), (3,)]
    arrays = [rng.normal(size=shape) for shape in shapes]
    assert_same_as_torch(lambda ns, *values: network(ns, *values).mean(), *arrays)


@fixed
@given(st.integers(1, 5), st.integers(1, 6), st.floats(0.01, 1000), st.integers(0, 2**31))
def test_cross_entropy_is_torchs(n, classes, scale, seed):
    rng = np.random.default_rng(seed)
    logits, labels = scale * rng.normal(size=(n, classes)), rng.integers(classes, size=n)
    ours, theirs = Tensor(logits), torch.tensor(logits, requires_grad=True)
    loss = cross_entropy(ours, labels)
    reference = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
    loss.backward()
    reference.backward()
    np.testing.assert_allclose(loss.item(), reference.item(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12, atol=1e-15 * scale)


def test_log_softmax_survives_huge_logits():
    with np.errstate(all="raise", under="ignore"):
        logits = Tensor([[1e4, 0.0, -1e4], [-1e300, 0.0, 1e300]])
        value = log_softmax(logits)
        value[:, 0].sum().backward()
    np.testing.assert_array_equal(value.data[0], [0.0, -1e4, -2e4])
    np.testing.assert_array_equal(logits.grad, [[0, 0, 0], [1, 0, -1]])


def test_central_differences_agree():
    rng = np.random.default_rng(4)
    shapes = [(5, 4), (4, 3), (3,), (3, 2), (2,)]
    arrays = [rng.normal(size=shape) for shape in shapes]

    def loss(*values):
        return network(Ours, *values).mean()

    tensors = [Tensor(a) for a in arrays]
    loss(*tensors).backward()
    h = 1e-5
    for place, array in enumerate(arrays):
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                nudged = [a.copy() for a in arrays]
                nudged[place][index] += sign * h
                values.append(loss(*nudged))
            difference = (values[0] - values[1]) / (2 * h)
            np.testing.assert_allclose(tensors[place].grad[index], difference, rtol=1e-6, atol=1e-8)


def test_gradients_accumulate_until_zero_grad():
    x = Tensor([1.0, 2.0])
    (x * x).sum().backward()
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [5.0, 7.0])
    x.zero_grad()
    np.testing.assert_array_equal(x.grad, [0.0, 0.0])


def test_a_second_backward_through_the_same_graph_adds_the_same_again():
    # Engines that keep the pending derivatives in `grad` give 3x here: 1, then 2 instead of 1.
    x = Tensor(3.0)
    y = x * x
    z = y * y
    z.backward()
    once = x.grad.copy(), y.grad.copy()
    z.backward()
    np.testing.assert_array_equal(x.grad, 2 * once[0])
    np.testing.assert_array_equal(y.grad, 2 * once[1])


def test_every_node_gets_its_gradient():
    x = Tensor(2.0)
    y = x * x
    loss = 3 * y
    loss.backward()
    assert (loss.grad, y.grad, x.grad) == (1.0, 3.0, 12.0)


def test_a_node_used_twice_gets_both_shares():
    x = Tensor(1.5)
    left, right = np.exp(x), np.tanh(x)
    (left * right + left - x).backward()
    e, t = np.exp(1.5), np.tanh(1.5)
    np.testing.assert_allclose(x.grad, e * t + e * (1 - t * t) + e - 1, rtol=1e-14)


def test_a_ladder_of_diamonds_is_walked_once():
    # 60 diamonds have 2**60 paths: only one visit a node ends.
    x = y = Tensor(1.0)
    for _ in range(60):
        y = 0.5 * (y + y)
    y.backward()
    assert x.grad == 1.0


@pytest.mark.parametrize("depth", [10_000])
def test_a_deep_chain_needs_no_recursion(depth):
    x = y = Tensor(1.0)
    for _ in range(depth):
        y = y + 1e-4 * y
    y.backward()
    np.testing.assert_allclose(x.grad, (1 + 1e-4) ** depth, rtol=1e-10)
    del y  # neither does freeing it
    gc.collect()


def test_only_tensors_get_gradients():
    x = np.arange(6.0).reshape(2, 3)
    w = Tensor(np.ones(3))
    product = x @ w
    assert isinstance(product, Tensor)
    assert [node for node, _ in product.edges] == [w]
    assert [node for node, _ in (2 - w).edges] == [w]


def test_a_step_between_forward_and_backward_does_not_spoil_the_gradient():
    w = Tensor(2.0)
    loss = w**3
    w.data = w.data - 1.0
    loss.backward()
    assert w.grad == 12.0


def test_the_edges_of_derivatives_that_are_chosen():
    zero = Tensor(0.0)
    relu(zero).backward()
    assert zero.grad == 0.0
    with np.errstate(all="raise"):
        (zero**0).backward()
        assert zero.grad == 0.0
        (zero**1).backward()
    assert zero.grad == 1.0


def test_equality_is_identity():
    x, y = Tensor(1.0), Tensor(1.0)
    assert x != y
    assert [x, y].index(y) == 1
    assert len({x, y, x}) == 2


def test_sum_to_undoes_broadcasting():
    g = np.ones((4, 2, 3))
    for shape in [(4, 2, 3), (2, 3), (1, 3), (2, 1), (3,), (1,), (), (4, 1, 1), (1, 1, 1)]:
        result = sum_to(g, shape)
        assert result.shape == shape
        assert result.sum() == g.sum()


def test_integers_become_float64():
    assert Tensor([1, 2]).data.dtype == np.float64
    assert (Tensor(2) ** 2).item() == 4.0
    assert repr(Tensor([1, 2])) == "Tensor(array([1., 2.]))"


@pytest.mark.parametrize(
    "mistake, error, words",
    [
        (lambda x: (x * x).backward(), ValueError, r"one number.*\(2, 3\).*mean\(\) or sum\(\)"),
        (lambda x: x + np.ones(4), ValueError, r"add cannot combine shapes \(2, 3\) and \(4,\)"),
        (lambda x: x @ x, ValueError, r"matmul cannot combine shapes \(2, 3\) and \(2, 3\)"),
        (lambda x: np.sin(x), TypeError, "no derivative for numpy.sin: there is add"),
        (lambda x: x > 0, TypeError, "no derivative for numpy.greater"),
        (lambda x: np.add.reduce(x), TypeError, "no derivative for numpy.add.reduce"),
        (lambda x: 2.0**x, TypeError, "exponent"),
        (lambda x: x**x, TypeError, "exponent"),
        (lambda x: x.__iadd__(1.0), TypeError, "in place"),
        (lambda x: cross_entropy(x.data, [0, 1]), ValueError, "logits must be a Tensor"),
        (lambda x: cross_entropy(x[0], [0, 1]), ValueError, r"shape \(N, C\)"),
        (lambda x: cross_entropy(x, [0]), ValueError, r"2 ints.*\(1,\)"),
        (lambda x: cross_entropy(x, [0.0, 1.0]), ValueError, "2 ints.*float64"),
        (lambda x: cross_entropy(x, [0, 3]), ValueError, "between 0 and 2"),
        (lambda x: cross_entropy(x, [0, -1]), ValueError, "between 0 and 2"),
    ],
)
def test_mistakes_are_named(mistake, error, words):
    with pytest.raises(error, match=words):
        mistake(Tensor(np.ones((2, 3))))


def test_every_operation_is_covered():
    """A new line in PULLS needs a line in this file: its derivative against torch's."""
    used = {"add", "subtract", "multiply", "divide", "matmul", "power", "maximum", "negative",
            "exp", "log", "sqrt", "tanh"}  # fmt: skip
    assert {operation.__name__ for operation in PULLS} == used
