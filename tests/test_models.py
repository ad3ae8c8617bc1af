"""Tests of lrteach.models: shapes, sizes, and first parameters that only the seed decides."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from lrteach.models import cnn, count_parameters, fresh_copy, initialise, linear_model, mlp

MODELS = {"mlp": (mlp, (40,)), "cnn": (cnn, (1, 28, 28)), "linear": (lambda: linear_model(7), (7,))}


def values(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize(
    "model, shape, outputs, parameters",
    [
        (mlp(), (40,), 10, 40 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10),
        (mlp((2, 3)), (2,), 3, 9),
        (mlp((2, 5, 5, 1), activation="tanh"), (2,), 1, 15 + 30 + 6),
        (mlp((np.int64(2), 3)), (2,), 3, 9),
        (cnn(), (1, 28, 28), 10, 93_322),
        (cnn((4, 8, 8), hidden=16, classes=3), (1, 28, 28), 3, 40 + 296 + 584 + 1168 + 51),
        (linear_model(7), (7,), 1, 8),
        (linear_model(7, 2, bias=False), (7,), 2, 14),
    ],
)
def test_shapes_and_numbers_of_parameters(model, shape, outputs, parameters):
    assert model(torch.zeros(6, *shape)).shape == (6, outputs)
    assert count_parameters(model) == parameters


def test_an_mlp_has_an_activation_between_its_layers_and_none_at_the_end():
    kinds = [type(module) for module in mlp((2, 3, 4, 1), activation="tanh")]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert isinstance(mlp()[1], nn.ReLU)


def test_frozen_parameters_are_not_counted():
    model = linear_model(7)
    model[0].bias.requires_grad_(False)
    assert count_parameters(model) == 7


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (3, -1), (3.0, 2), ("3", 2)])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match="is not allowed: sizes must be two or more ints >= 1"):
        mlp(sizes)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"activation='gelu' is not allowed.*'relu', 'tanh'"):
        mlp((2, 2), activation="gelu")


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_every_first_parameter(name):
    make = MODELS[name][0]
    first, second = initialise(make(), 5), initialise(make(), 5)
    assert torch.equal(values(first), values(second))
    assert not torch.equal(values(first), values(initialise(make(), 6)))


def test_first_parameters_are_uniform_up_to_one_over_root_fan_in():
    for layer, fan_in in ((nn.Linear(50, 4000), 50), (nn.Conv2d(10, 400, 3), 90)):
        initialise(layer, 0)
        bound = 1 / math.sqrt(fan_in)
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
            assert parameter.abs().max() > 0.98 * bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
        assert abs(layer.weight.mean().item()) < 0.01 * bound


def test_first_parameters_have_torchs_distribution():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = nn.Linear(50, 4000)
    ours = initialise(nn.Linear(50, 4000), 0)
    places = torch.linspace(0, 1, 11)
    for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert torch.allclose(a.quantile(places), b.quantile(places), atol=0.01)


def test_float32_parameters_are_the_rounded_float64_ones():
    half, full = initialise(mlp(), 3), initialise(mlp().double(), 3)
    assert torch.equal(values(half), values(full).float())
    assert half[0].weight[0, 0].item() == np.float32(
        np.random.default_rng(3).uniform(-1 / math.sqrt(40), 1 / math.sqrt(40), (100, 40))[0, 0]
    )


def test_other_layers_draw_from_the_same_seed_and_leave_torchs_generator_alone():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.LSTM(4, 2))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = values(initialise(copy.deepcopy(model), 0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(values(initialise(copy.deepcopy(model), 0)), first)
    assert not torch.equal(values(initialise(copy.deepcopy(model), 1)), first)


def test_initialise_works_in_place_and_returns_the_model():
    model = mlp()
    before = values(model).clone()
    assert initialise(model, 0) is model
    assert not torch.equal(values(model), before)


def test_a_fresh_copy_leaves_the_model_as_it_is():
    model = mlp()
    before = values(model).clone()
    new, same = fresh_copy(model, 0), fresh_copy(model, None)
    assert torch.equal(values(model), before)
    assert torch.equal(values(same), before)
    assert not torch.equal(values(new), before)
    assert same[0].weight.data_ptr() != model[0].weight.data_ptr()


def test_what_is_done_to_an_initialised_copy_leaves_the_model_as_it_is():
    model = mlp((3, 2))
    assert initialise(copy.deepcopy(model), 0).double() is not model
    assert model[0].weight.dtype == torch.float32
    initialise(model, 0).double()  # the docstring warns of it
    assert model[0].weight.dtype == torch.float64
