"""Tests of lrteach.kernels: which formulas it takes apart, and that the parts make the whole."""

import math

import numpy as np
import pytest
import torch

from lrteach import optimizers
from lrteach.kernels import kernel_of
from lrteach.optimizers import (
    Rule,
    adabelief,
    adam,
    adamax,
    adamw,
    amsgrad,
    dog,
    ema,
    extragradient,
    heavy_ball,
    lion,
    muon,
    nadam,
    optimistic,
    polyak,
    radam,
    rprop,
    rule,
    schedule_free_sgd,
    sgd,
    tail_average,
)

RULES = [each for each in vars(optimizers).values() if isinstance(each, Rule)]
# RAdam branches on t; all others say in their signature that they are not elementwise.
WITH = [each for each in RULES if each.elementwise and each is not radam]
WITH += [ema(adam), tail_average(heavy_ball, after=2)]
WITHOUT = [each for each in RULES if each not in WITH] + [ema(dog)]


def arrays(n, slots, seed=0):
    theta, g, *rest = torch.from_numpy(np.random.default_rng(seed).random((2 + slots, n)))
    return theta, g - 0.5, *rest


def both(each, hyper, t=3, lr=0.1):
    """What the formula gives, and what its parts give."""
    kernel, reason = kernel_of(each, hyper)
    assert kernel is not None, reason
    theta, g, *slots = arrays(7, len(each.slots))
    whole = torch.stack(each.update(theta, g, slots, t, lr, hyper))
    kernel.arrays(theta, g, *slots, torch.tensor(kernel.numbers(lr, t, hyper), dtype=theta.dtype))
    return whole, torch.stack([theta, *slots])


@pytest.mark.parametrize("t", [1, 3])
@pytest.mark.parametrize("each", WITH, ids=lambda r: r.__name__)
def test_every_elementwise_rule_has_a_kernel_whose_parts_make_the_formula(each, t):
    whole, parts = both(each, each.defaults, t)
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)


@pytest.mark.parametrize("each", WITHOUT, ids=lambda r: r.__name__)
def test_any_other_rule_has_none_and_a_reason(each):
    kernel, reason = kernel_of(each, each.defaults)
    assert kernel is None
    assert reason.startswith(each.__name__) and "\n" not in reason


def test_there_are_rules_to_test():
    assert {adam, adamw, sgd, lion, rprop, amsgrad, adamax, adabelief, optimistic} <= set(WITH)
    assert {nadam, radam, polyak, muon, extragradient, schedule_free_sgd} <= set(WITHOUT)


def test_numbers_are_computed_by_python_anew_for_every_update():
    kernel, _ = kernel_of(adam, adam.defaults)
    for t in (1, 1000):
        numbers = kernel.numbers(0.25, t, adam.defaults | {"betas": (0.5, 0.75)})
        assert {0.25, 0.5, 0.75, 1e-8, 1 / (1 - 0.5**t), 1 / (1 - 0.75**t)} == set(numbers) | {0.25}
        assert all(type(number) is float for number in numbers)


def test_a_kernel_is_made_once_for_all_values_of_its_numbers():
    first, _ = kernel_of(adamw, adamw.defaults)
    assert kernel_of(adamw, adamw.defaults | {"betas": (0.1, 0.2), "eps": 1.0})[0] is first


def test_anything_but_a_float_belongs_to_the_kernel():
    @rule
    def either(theta, g, *, lr, up=False, power=2):
        return theta + lr * g**power if up else theta - lr * g**power

    for hyper in ({"up": True, "power": 2}, {"up": False, "power": 3}):
        whole, parts = both(either, hyper)
        torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)
    assert kernel_of(either, {"up": True, "power": 2})[0] is not kernel_of(
        either, {"up": False, "power": 2}
    )[0]  # fmt: skip


def test_numbers_may_have_roots_and_arrays_signs_and_choices():
    @rule
    def mixed(theta, g, m, *, t, lr, beta=0.9):
        m = torch.maximum(beta * m, abs(g)) / optimizers.sqrt(1 - beta**t)
        return torch.where(g > 0, theta - lr * g.sign() * m.square(), theta / math.sqrt(2)), m

    whole, parts = both(mixed, mixed.defaults)
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)


def test_arrays_that_are_handed_on_are_read_before_they_are_written():
    @rule
    def remembering(theta, g, before, slope, *, lr):
        return theta - lr * (2 * g - slope) + 0.1 * (theta - before), theta, g

    @rule
    def swapping(theta, g, a, b, *, lr):
        return theta - lr * (g + a), b, a

    for each in (remembering, swapping):
        whole, parts = both(each, {})
        torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)


def test_division_by_zero_is_infinite_as_for_arrays():
    @rule
    def divided(theta, g, *, lr, eps=0.0):
        return theta - lr * g / eps

    whole, parts = both(divided, divided.defaults)
    assert torch.equal(whole, parts) and parts.isinf().all()


def formulas_for_whole_tensors():
    def norm(theta, g, *, lr):
        return theta - lr * g / g.norm()

    def torch_norm(theta, g, *, lr):
        return theta - lr * g / torch.linalg.vector_norm(g)

    def numpy_norm(theta, g, *, lr):
        return theta - lr * g / float(np.linalg.norm(g))

    def numpy_sign(theta, g, *, lr):
        return theta - lr * np.sign(g)

    def largest(theta, g, *, lr):
        return theta - lr * g / g.abs().max()

    def product(theta, g, *, lr):
        return theta - lr * (g @ g) * g

    def size(theta, g, *, lr):
        return theta - lr * g * g.shape[0]

    def first(theta, g, *, lr):
        return theta - lr * g[0]

    def in_place(theta, g, *, lr):
        return theta.sub_(lr * g)

    def branch(theta, g, *, t, lr):
        return theta - lr * g if t > 3 else theta

    def random(theta, g, *, lr):
        return theta - lr * g * torch.rand_like(g)

    def own_way(theta, g, *, lr):
        return theta - lr * (g / g.norm() if isinstance(g, torch.Tensor) else g)

    def constant(theta, g, *, lr):
        return theta - lr * torch.ones(3)

    def number(theta, g, count, *, t, lr):
        return theta - lr * g, t

    def dictionary(theta, g, *, lr, options={}):  # noqa: B006
        return theta - lr * g

    return list(vars().values())


@pytest.mark.parametrize("formula", formulas_for_whole_tensors(), ids=lambda f: f.__name__)
def test_a_formula_that_is_not_elementwise_has_no_kernel_and_a_reason(formula):
    each = rule(formula)
    kernel, reason = kernel_of(each, each.defaults)
    assert kernel is None
    assert reason and "\n" not in reason
